// What a guest measures of its own devices. The same program in our VM and in a peer's, with the same kernel,
// so that what differs is the monitor and its devices.
#pragma once

#include <string>
#include <string_view>

namespace nullbox::bench {

// names: of the measurements, with commas (the table in guest_devices.cpp). One line for all of them, in that
// order: "NAME AMOUNT NANOSECONDS" or "NAME failed: WHY", with "; " between. AMOUNT is bytes, or round trips.
std::string measure_devices(std::string_view names);

} // namespace nullbox::bench
