// An agent's own files as a SquashFS image, /app in its guest. The same files give the same bytes: times,
// owners and modes are not those of whoever packs. Left out: AGENT.toml, CMakeLists.txt, README.md, test_*,
// make_*,
// __pycache__ and everything that begins with a dot.
#pragma once

#include <string>

#include "base/fd.h"

namespace nullbox::nullctl {

struct Packed {
    Fd image; // unlinked already; empty if there was nothing to pack
    size_t files = 0;
};

Result<Packed> pack_folder(const std::string& folder);
bool left_out(std::string_view name);

} // namespace nullbox::nullctl
