// What the manifest left out, filled in from what the image says of itself (guest_link/image_config.h):
// command, user and group, environment, working directory. In the guest, because an image is read by its own
// guest and by nobody else. The manifest's words go before the image's, variable by variable.
#pragma once

#include <string_view>

#include "guest_link/frames.h"
#include "guest_link/image_config.h"

namespace nullbox::agent_init {

constexpr uint32_t kDefaultId = 1000; // when neither the manifest nor the image names a user

// passwd, group: the texts of the image's /etc/passwd and /etc/group, which name users and groups.
Result<> fill_in(guest_link::Start& start, const guest_link::ImageConfig& image, std::string_view passwd,
                 std::string_view group);
// The same, from the files of the root that we are in; makes the image's working directory if it is missing.
Result<> fill_in_from_root(guest_link::Start& start);

} // namespace nullbox::agent_init
