// The guest's network: loopback, and the one card that egress's tap is behind (netdevice(7), rtnetlink is not
// needed for so little). Everything comes from the host; nothing is asked of the network.
#pragma once

#include "base/error.h"
#include "guest_link/frames.h"

namespace nullbox::agent_init {

Result<> bring_up_loopback();
// Address, MTU and default route of eth0.
Result<> bring_up_card(const guest_link::Network& network);
// /etc/resolv.conf, in place of the image's: another resolver could not be reached.
Result<> write_resolver_configuration(std::string_view dns);

} // namespace nullbox::agent_init
