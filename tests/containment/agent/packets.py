"""Packets as bytes, built by hand so that any of their fields can be wrong, and a socket that puts them on the wire."""
import ipaddress
import socket
import struct

ETH_ALL, ETH_IP, ETH_ARP, ETH_IP6, ETH_VLAN = 0x0003, 0x0800, 0x0806, 0x86DD, 0x8100
BROADCAST = "ff:ff:ff:ff:ff:ff"
ICMP, IGMP, IPIP, TCP, UDP, SIX_IN_FOUR, GRE, ESP, ICMP6, OSPF, SCTP = 1, 2, 4, 6, 17, 41, 47, 50, 58, 89, 132
SYN = 0x02


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def address(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(source: str, destination: str, kind: int, payload: bytes, vlans: tuple[int, ...] = ()) -> bytes:
    tags = b"".join(struct.pack("!HH", ETH_VLAN, vlan) for vlan in vlans)
    return mac(destination) + mac(source) + tags + struct.pack("!H", kind) + payload


def ip4(source: str, destination: str, protocol: int, payload: bytes, *, options: bytes = b"", identification: int = 7,
        fragment: int = 0, more: bool = False, ttl: int = 64) -> bytes:
    """fragment: the offset in bytes."""
    options += b"\0" * (-len(options) % 4)
    words = 5 + len(options) // 4
    head = struct.pack("!BBHHHBBH4s4s", 0x40 | words, 0, words * 4 + len(payload), identification,
                       fragment // 8 | (0x2000 if more else 0), ttl, protocol, 0, address(source), address(destination))
    head += options
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def ip6(source: str, destination: str, following: int, payload: bytes, hops: int = 255) -> bytes:
    return struct.pack("!IHBB", 0x60000000, len(payload), following, hops) + address(source) + address(destination) + payload


def _with_checksum(source: str, destination: str, protocol: int, segment: bytes, at: int) -> bytes:
    ends = address(source) + address(destination)
    length = len(segment)
    pseudo = ends + (struct.pack("!BBH", 0, protocol, length) if len(ends) == 8 else struct.pack("!IHBB", length, 0, 0, protocol))
    return segment[:at] + struct.pack("!H", checksum(pseudo + segment) or 0xFFFF) + segment[at + 2:]


def udp(source: str, destination: str, source_port: int, port: int, data: bytes) -> bytes:
    segment = struct.pack("!HHHH", source_port, port, 8 + len(data), 0) + data
    return _with_checksum(source, destination, UDP, segment, 6)


def tcp(source: str, destination: str, source_port: int, port: int, *, flags: int = SYN, sequence: int = 1000,
        acknowledged: int = 0, data: bytes = b"") -> bytes:
    segment = struct.pack("!HHIIBBHHH", source_port, port, sequence, acknowledged, 5 << 4, flags, 65535, 0, 0) + data
    return _with_checksum(source, destination, TCP, segment, 16)


def icmp(kind: int, code: int, rest: bytes) -> bytes:
    head = struct.pack("!BBH", kind, code, 0) + rest
    return head[:2] + struct.pack("!H", checksum(head)) + head[4:]


def icmp6(source: str, destination: str, kind: int, code: int, rest: bytes) -> bytes:
    return _with_checksum(source, destination, ICMP6, struct.pack("!BBH", kind, code, 0) + rest, 2)


def arp(operation: int, sender_mac: str, sender: str, target_mac: str, target: str) -> bytes:
    return (struct.pack("!HHBBH", 1, ETH_IP, 6, 4, operation) + mac(sender_mac) + address(sender) + mac(target_mac) +
            address(target))


class Wire:
    """The network card, below everything."""

    def __init__(self, interface: str = "eth0"):
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_ALL))
        self._socket.bind((interface, 0))
        self.mac = ":".join(f"{byte:02x}" for byte in self._socket.getsockname()[4])

    def send(self, frame: bytes) -> None:
        try:
            self._socket.send(frame)
        except OSError as problem:
            if problem.errno not in (12, 105):  # a queue is full: so is it for everybody
                raise

    def receive(self, limit_s: float) -> bytes | None:
        self._socket.settimeout(limit_s)
        try:
            return self._socket.recv(65536)
        except (TimeoutError, BlockingIOError):
            return None

    def drain(self) -> None:
        self._socket.setblocking(False)
        try:
            while self._socket.recv(65536):
                pass
        except OSError:
            pass
        self._socket.setblocking(True)
