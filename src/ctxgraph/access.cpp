#include "ctxgraph/access.h"

#include <cerrno>

#include "base/text.h"

namespace nullbox::ctxgraph {

static Error unknown(std::string_view space) {
    return {.code = ENOENT,
            .message = cat("no namespace \"", printable(space, 64),
                           "\" for you: an agent sees those its manifest "
                           "names under [capabilities.memory]")};
}

Result<> check_read(const Access& access, std::string_view space) {
    if (access.may_read(space)) return {};
    if (!access.knows(space)) return unknown(space);
    return Error{.code = EACCES,
                 .message = cat("you may write to the namespace \"", space,
                                "\", but not read it: the manifest's "
                                "[capabilities.memory] read does not name it")};
}

Result<> check_write(const Access& access, std::string_view space) {
    if (access.may_write(space)) return {};
    if (!access.knows(space)) return unknown(space);
    return Error{.code = EACCES,
                 .message = cat("you may read the namespace \"", space,
                                "\", but not write to it: the manifest's "
                                "[capabilities.memory] write does not name it")};
}

} // namespace nullbox::ctxgraph
