// Datagrams as they come from a netlink socket, and the packets that the firewall's log brings, whose bytes
// are a guest's.
#include "base/check.h"
#include "egress/net/packet_log.h"

using namespace nullbox::egress;

static void read_deep(std::span<const std::byte> bytes, int depth) {
    auto attributes = Attributes::parse(bytes);
    if (!attributes) return;
    CHECK(attributes->all().size() <= kMaxAttributes);
    for (const auto& attribute : attributes->all()) {
        CHECK(attribute.value.size() <= bytes.size());
        CHECK(attributes->text(attribute.type).find('\0') == std::string::npos);
        if (depth > 0) read_deep(attribute.value, depth - 1);
    }
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    auto bytes = std::as_bytes(std::span(data, size));
    (void)describe_packet(bytes).text();
    auto views = split_datagram(bytes);
    if (!views) return 0;
    for (const auto& view : *views) {
        (void)parse_ack(view);
        if (auto packet = parse_packet_log(view)) CHECK(packet->slot < kMaxSlots && !packet->text().empty());
        read_deep(view.after(4), 3);
    }
    return 0;
}
