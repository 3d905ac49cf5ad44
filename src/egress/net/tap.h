// One agent's tap device (tun(4), Documentation/networking/tuntap.rst): an Ethernet link whose other end is a
// descriptor, which goes to that agent's VM process. Frames carry struct virtio_net_hdr_v1 (12 bytes) in
// front. The device lives as long as its descriptor is open anywhere or until Links::remove().
#pragma once

#include "base/fd.h"
#include "egress/net/tap_link.h"

namespace nullbox::egress {

struct Tap {
    Fd fd; // nonblocking; no offload: the kernel gives it whole frames with whole checksums
    unsigned link = 0;
};

// The device exists and is down, with no address.
Result<Tap> make_tap(const std::string& tun_path, const TapLink& link);

} // namespace nullbox::egress
