"""A LAN with IPv6 only, in the lab's namespace: a router that announces itself, a DNS server, a host."""
import ipaddress
import socket
import struct
import threading

import network

ALL_NODES, ALL_ROUTERS = "ff02::1", "ff02::2"
PREFIX = "2a0b:1:2:3::"
ROUTER = "fe80::1"  # and DNS server, by its link-local address as many small routers announce it
NEIGHBOUR = "2a0b:1:2:3::53"  # another machine on the LAN
SOLICIT, ADVERT = 133, 134
AAAA = 28


def own6(address: str) -> None:
    network.ip("-6", "address", "add", f"{address}/128", "dev", "lo")


class Router:
    """Answers solicitations as RFC 4861 says, with a prefix and the DNS server (RFC 8106)."""

    def __init__(self):
        self.solicitations = 0
        network.ip("-6", "address", "add", f"{ROUTER}/64", "dev", network.TAP, "nodad")
        network.ip("-6", "address", "add", f"{NEIGHBOUR}/64", "dev", network.TAP, "nodad")
        self._index = socket.if_nametoindex(network.TAP)
        self._socket = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        self._socket.bind((ROUTER, 0, 0, self._index))
        self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, self._index)
        # Bound to our address it hears nothing for groups.
        self._ear = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        group = socket.inet_pton(socket.AF_INET6, ALL_ROUTERS) + struct.pack("@I", self._index)
        self._ear.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)

    def start(self) -> "Router":
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def _serve(self) -> None:
        while True:
            message, _ = self._ear.recvfrom(2048)
            if message[:1] == bytes([SOLICIT]):
                self.solicitations += 1
                self.announce()

    def announce(self, lifetime_s: int = 1800) -> None:
        six = ipaddress.IPv6Address
        prefix = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 3600, 3600, 0) + six(PREFIX).packed
        servers = struct.pack("!BBHI", 25, 3, 0, 600) + six(ROUTER).packed
        message = struct.pack("!BBHBBHII", ADVERT, 0, 0, 64, 0, lifetime_s, 0, 0) + prefix + servers
        self._socket.sendto(message, (ALL_NODES, 0, 0, self._index))


class Dns:
    """Answers AAAA questions for the names it knows; no name has an IPv4 address."""

    def __init__(self, names: dict[str, str]):
        self.names, self.asked = names, []
        self._socket = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self._socket.bind((ROUTER, 53, 0, socket.if_nametoindex(network.TAP)))

    def start(self) -> "Dns":
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def _serve(self) -> None:
        while True:
            query, sender = self._socket.recvfrom(2048)
            labels, at = [], 12
            while query[at]:
                labels.append(query[at + 1:at + 1 + query[at]].decode().lower())
                at += 1 + query[at]
            name, kind = ".".join(labels), int.from_bytes(query[at + 1:at + 3], "big")
            self.asked.append(name)
            found = kind == AAAA and name in self.names
            answer = b""
            if found:
                answer = struct.pack("!HHHIH", 0xC00C, AAAA, 1, 60, 16) + ipaddress.IPv6Address(self.names[name]).packed
            head = query[:2] + struct.pack("!HHHHH", 0x8180 if name in self.names else 0x8183, 1, int(found), 0, 0)
            self._socket.sendto(head + query[12:at + 5] + answer, sender)


class Host:
    """Says on TCP who has come."""

    def __init__(self, address: str, port: int):
        own6(address)
        self.visitors: list[str] = []
        self._listener = socket.create_server((address, port), family=socket.AF_INET6)

    def start(self) -> "Host":
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def _serve(self) -> None:
        while True:
            connection, (visitor, *_) = self._listener.accept()
            self.visitors.append(visitor)
            with connection:
                connection.sendall(b"welcome\n")
