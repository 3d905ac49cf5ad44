// How many lines of a log, or records, one question may ask for. Services and nullctl have it from here, so
// that nullctl asks for nothing that is refused.
#pragma once

#include <cstdint>

namespace nullbox::varlink {

constexpr int64_t kMostLines = 4096;

} // namespace nullbox::varlink
