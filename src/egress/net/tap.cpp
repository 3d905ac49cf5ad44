#include "egress/net/tap.h"

#include <cerrno>
#include <fcntl.h>
#include <net/if.h>
#include <sys/ioctl.h>

#include <linux/if_tun.h> // after net/if.h, which it would contradict

#include "base/text.h"

namespace nullbox::egress {

constexpr int kHeaderBytes = 12; // struct virtio_net_hdr_v1

Result<Tap> make_tap(const std::string& tun_path, const TapLink& link) {
    Tap tap;
    tap.fd.reset(::open(tun_path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK));
    if (!tap.fd) return errno_error(cat("open ", tun_path));
    ifreq request{};
    link.name.copy(request.ifr_name, IFNAMSIZ - 1);
    request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    // EBUSY: a device of that name exists and somebody holds it.
    if (::ioctl(tap.fd.get(), TUNSETIFF, &request) < 0) return errno_error(cat("make tap ", link.name));
    int header_bytes = kHeaderBytes, little_endian = 1;
    if (::ioctl(tap.fd.get(), TUNSETVNETHDRSZ, &header_bytes) < 0)
        return errno_error(cat("set the header size of tap ", link.name));
    if (::ioctl(tap.fd.get(), TUNSETVNETLE, &little_endian) < 0)
        return errno_error(cat("set the byte order of tap ", link.name));
    if (::ioctl(tap.fd.get(), TUNSETOFFLOAD, 0UL) < 0)
        return errno_error(cat("switch off offloads of tap ", link.name));
    tap.link = ::if_nametoindex(link.name.c_str());
    if (tap.link == 0) return errno_error(cat("find tap ", link.name));
    return tap;
}

} // namespace nullbox::egress
