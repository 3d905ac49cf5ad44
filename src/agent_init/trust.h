// The box's own certificate authority in the guest's trust, beside the image's: for names whose traffic
// egress terminates, because a credential is put in there. The image's bundle is added to, never replaced,
// and programs that bring their own are pointed to it by the variables that they read.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace nullbox::agent_init {

// root: where the file system begins; "" for the whole. environment gets the variables that it does not set
// itself.
Result<> trust_authority(const std::string& root, std::string_view pem,
                         std::vector<std::string>& environment);

} // namespace nullbox::agent_init
