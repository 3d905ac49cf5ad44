// io.nullbox.gate on the wire: gate about itself. Operators reach it as they reach every service: through the
// door, which asks its own socket.
#pragma once

#include <memory>
#include <vector>

#include "gate/door.h"
#include "varlink/server.h"

namespace nullbox::gate {

struct InterfaceOptions {
    std::string socket_path;
    std::vector<uid_t> allowed; // may call anything
    std::string fingerprint;
};

varlink::InterfaceTable interface_table(const Door& door, const Operators& operators,
                                        const InterfaceOptions& options);
Result<std::unique_ptr<varlink::Server>>
serve_interface(Loop& loop, const Door& door, const Operators& operators, const InterfaceOptions& options);

} // namespace nullbox::gate
