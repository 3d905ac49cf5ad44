// io.nullbox.warden on the wire: requests checked and carried to the vault, answers written.
#pragma once

#include <sys/types.h>
#include <vector>

#include "varlink/server.h"
#include "warden/warden.h"

namespace nullbox::warden {

// also_allowed: uids that may call anything; for tests.
varlink::InterfaceTable interface_table(Warden& warden, const std::vector<uid_t>& also_allowed);
Result<std::unique_ptr<varlink::Server>> serve_interface(Loop& loop, Warden& warden,
                                                         const std::string& socket_path,
                                                         const std::vector<uid_t>& also_allowed);

} // namespace nullbox::warden
