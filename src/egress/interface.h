// io.nullbox.egress on the wire: requests checked and carried to Egress, answers written.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "varlink/server.h"

namespace nullbox::egress {

class Egress;

// also_allowed: uids that may call every method besides those of the table (tests).
varlink::InterfaceTable interface_table(Egress& egress, const std::vector<uid_t>& also_allowed);
Result<std::unique_ptr<varlink::Server>> serve_interface(Loop& loop, Egress& egress,
                                                         const std::string& socket_path,
                                                         const std::vector<uid_t>& also_allowed);

} // namespace nullbox::egress
