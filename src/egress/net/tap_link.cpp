#include "egress/net/tap_link.h"

#include "base/check.h"
#include "base/text.h"

namespace nullbox::egress {

constexpr std::string_view kTapPrefix = "nbtap";

static_assert(kMaxSlots * kAddressesPerSlot == uint32_t{1} << (32 - kAgentNetwork.length));

// Locally administered; the same slot has the same addresses after every start.
static Mac mac_of(uint8_t side, unsigned slot) {
    return {{0x02, 0x4e, 0x42, side, static_cast<uint8_t>(slot >> 8), static_cast<uint8_t>(slot)}};
}

TapLink tap_link(unsigned slot) {
    CHECK(slot < kMaxSlots);
    uint32_t base = kAgentNetwork.address.value + slot * kAddressesPerSlot;
    return {.slot = slot,
            .name = cat(kTapPrefix, slot),
            .gateway = Ip4{base + 1},
            .guest = Ip4{base + 2},
            .first_synthetic = Ip4{base + 4},
            .last_synthetic = Ip4{base + kAddressesPerSlot - 1},
            .host_mac = mac_of(0, slot),
            .guest_mac = mac_of(1, slot)};
}

std::optional<unsigned> slot_of(Ip4 address) {
    if (!kAgentNetwork.contains(address)) return std::nullopt;
    return (address.value - kAgentNetwork.address.value) / kAddressesPerSlot;
}

std::optional<unsigned> slot_of_tap(std::string_view link_name) {
    if (!link_name.starts_with(kTapPrefix)) return std::nullopt;
    auto number = parse_number(link_name.substr(kTapPrefix.size()), 0, kMaxSlots - 1);
    if (!number || tap_link(static_cast<unsigned>(*number)).name != link_name) return std::nullopt;
    return static_cast<unsigned>(*number);
}

} // namespace nullbox::egress
