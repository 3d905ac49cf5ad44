// What a router, or anybody on the link, announces. Whatever is accepted must survive being written and read
// again, and however it is repeated and mixed, what the card is given stays small and makes sense.
#include "base/check.h"
#include "egress/net/router_discovery.h"

using namespace nullbox::egress;

static void look_at(const RouterDiscovery& discovery, nullbox::Clock::time_point now) {
    const auto& setup = discovery.setup();
    CHECK(setup.addresses.size() <= kMaxPrefixes && setup.dns_servers.size() <= kMaxServers6);
    for (const auto& one : setup.addresses) {
        CHECK(one.address.length == 64 && one.address.address.global_unicast());
        CHECK(one.valid_until > now && one.preferred_until <= one.valid_until);
    }
    if (setup.router) CHECK(setup.router->link_local() && setup.router_until > now);
    CHECK(discovery.next() > now);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    auto bytes = std::as_bytes(std::span(data, size));
    Ip6 router{{0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}};
    RouterDiscovery discovery({{2, 0, 0, 0, 0, 9}}, [] { return 0u; });
    nullbox::Clock::time_point now(std::chrono::seconds(1000));
    (void)discovery.start(now);
    // Several advertisements: each with two bytes before it for its length, and one for whose it is.
    while (bytes.size() > 3) {
        auto length = std::to_integer<size_t>(bytes[0]) << 8 | std::to_integer<size_t>(bytes[1]);
        router.bytes[15] = std::to_integer<uint8_t>(bytes[2]);
        auto part = bytes.subspan(3, std::min(length, bytes.size() - 3));
        bytes = bytes.subspan(3 + part.size());
        auto advert = parse_router_advert({.source = router, .hop_limit = 255, .bytes = part});
        if (!advert) continue;
        auto written = encode(*advert);
        auto again = parse_router_advert({.source = router, .hop_limit = 255, .bytes = written});
        CHECK(again && *again == *advert);
        (void)discovery.receive(now, router, *advert);
        (void)discovery.tick(now);
        look_at(discovery, now);
        if (discovery.next() != nullbox::Clock::time_point::max() && router.bytes[15] % 2) {
            now = discovery.next();
            (void)discovery.tick(now);
            look_at(discovery, now);
        }
    }
    return 0;
}
