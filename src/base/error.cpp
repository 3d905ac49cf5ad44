#include "base/error.h"

#include <cerrno>
#include <cstring>

namespace nullbox {

Error errno_error(int code, std::string_view what) {
    std::string message(what);
    message += ": ";
    message += strerrordesc_np(code) ? strerrordesc_np(code) : "unknown error";
    return Error{.code = code, .message = std::move(message)};
}

Error errno_error(std::string_view what) { return errno_error(errno, what); }

Error with_context(Error inner, std::string_view outer) {
    std::string message(outer);
    message += ": ";
    message += inner.message;
    return Error{.code = inner.code, .message = std::move(message)};
}

} // namespace nullbox
