// The sockets on which an agent's packets arrive. All are nonblocking, CLOEXEC and owned by the caller.
//
// An agent connects to a synthetic address, any port; the rules give the connection to the proxy's listener.
// On an accepted connection getsockname() is the synthetic address and the port the agent asked for, and
// getpeername() the guest's address. The kernel has checked that both belong to the tap it came from
// (rules.h); check slot_of() of both again, it costs nothing.
#pragma once

#include "base/fd.h"
#include "egress/net/tap_link.h"

namespace nullbox::egress {

// TCP on 127.0.0.1, IP_TRANSPARENT (needs CAP_NET_ADMIN), listening. One for all agents. port:
// NetworkConfig::proxy_port.
Result<Fd> open_proxy_listener(uint16_t port);

// Bound to the tap and its gateway address, port 53: only that agent's packets. Open them after attach(),
// close them before detach().
Result<Fd> open_dns_datagram_socket(const TapLink& link);
Result<Fd> open_dns_listener(const TapLink& link);

} // namespace nullbox::egress
