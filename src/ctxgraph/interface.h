// io.nullbox.ctxgraph on the wire: requests checked and carried to the memory, answers written. Who may call
// what is the table in interface.cpp.
#pragma once

#include <memory>
#include <vector>

#include "ctxgraph/guest_server.h"
#include "varlink/server.h"

namespace nullbox::ctxgraph {

struct InterfaceOptions {
    std::string socket_path = "/run/ctxgraph/ctxgraph.sock";
    std::vector<uid_t> also_allowed; // for tests: may call everything
};

// Memory and guests must outlive the table's server.
varlink::InterfaceTable interface_table(Memory& memory, GuestServer& guests, const InterfaceOptions& options);
Result<std::unique_ptr<varlink::Server>> serve_interface(Loop& loop, Memory& memory, GuestServer& guests,
                                                         const InterfaceOptions& options);

} // namespace nullbox::ctxgraph
