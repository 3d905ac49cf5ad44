"""The network that a box under test is on: a namespace of this process's own, with a tap for QEMU, in which every
address of the outside is the lab's. What the box sends is seen frame by frame, whether anybody answers it or not.

Needs root. The namespace goes when the process ends.
"""
import ctypes
import ipaddress
import socket
import struct
import subprocess
import threading
import time
from dataclasses import dataclass, field

CLONE_NEWNET = 0x40000000
TAP = "box0"
GATEWAY, BOX, PREFIX = "9.8.7.1", "9.8.7.2", 24
DNS = "9.9.9.53"
ETH_P_ALL, PACKET_OUTGOING = 3, 4


def enter() -> None:
    """From here on this thread, and all threads and processes it starts, are in a network of their own."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "make a network namespace (the lab needs root)")
    ip("link", "set", "lo", "up")


def ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")


def make_tap() -> None:
    ip("tuntap", "add", TAP, "mode", "tap")
    ip("address", "add", f"{GATEWAY}/{PREFIX}", "dev", TAP)
    ip("link", "set", TAP, "up")


def own(address: str) -> None:
    """Packets to this address end in the lab."""
    ip("address", "add", f"{address}/32", "dev", "lo")


def plug(connected: bool) -> None:
    """The cable between the box and the lab."""
    ip("link", "set", TAP, "up" if connected else "down")
    if connected:  # addresses go with the link's state, routes do not come back by themselves
        subprocess.run(["ip", "route", "replace", f"{GATEWAY.rsplit('.', 1)[0]}.0/{PREFIX}", "dev", TAP], check=False)


@dataclass(frozen=True)
class Packet:
    """One frame of the box. port: the destination's, 0 where there is none."""
    when: float
    what: str  # "udp", "tcp", "icmp", "arp", "ipv6", or a number
    destination: str
    port: int
    source_port: int = 0


def parse(frame: bytes, when: float) -> Packet:
    kind = struct.unpack_from("!H", frame, 12)[0] if len(frame) >= 14 else 0
    if kind == 0x0806 and len(frame) >= 42:
        return Packet(when, "arp", str(ipaddress.ip_address(frame[38:42])), 0)
    if kind == 0x86DD and len(frame) >= 54:
        return Packet(when, "ipv6", str(ipaddress.ip_address(frame[38:54])), 0)
    if kind != 0x0800 or len(frame) < 34:
        return Packet(when, hex(kind), "", 0)
    length, protocol = (frame[14] & 15) * 4, frame[23]
    destination = str(ipaddress.ip_address(frame[30:34]))
    name = {1: "icmp", 6: "tcp", 17: "udp"}.get(protocol, str(protocol))
    if protocol in (6, 17) and len(frame) >= 14 + length + 4:
        source_port, port = struct.unpack_from("!HH", frame, 14 + length)
        return Packet(when, name, destination, port, source_port)
    return Packet(when, name, destination, 0)


class Watcher:
    """Every frame that the box sends, from now on."""

    def __init__(self):
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._socket.bind((TAP, 0))
        self.packets: list[Packet] = []
        self.on_frame = None  # called with each frame and what it is
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                frame, address = self._socket.recvfrom(65536)
            except OSError as problem:
                if problem.errno == 100:  # the cable is out
                    time.sleep(0.05)
                    continue
                return
            if address[2] != PACKET_OUTGOING:
                self.packets.append(parse(frame, time.monotonic()))
                if self.on_frame:
                    self.on_frame(frame, self.packets[-1])

    def to(self, destination: str) -> list[Packet]:
        return [packet for packet in self.packets if packet.destination == destination]


@dataclass
class DhcpServer:
    """RFC 2131, for the one client that is there."""
    lease_s: int = 3600
    messages: list[str] = field(default_factory=list)

    def start(self) -> "DhcpServer":
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, TAP.encode())
        self._socket.bind(("0.0.0.0", 67))
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def _serve(self) -> None:
        while True:
            try:
                message, _ = self._socket.recvfrom(2048)
                if answer := self._answer(message):
                    self._socket.sendto(answer, ("255.255.255.255", 68))
            except OSError as problem:
                if problem.errno not in (100, 101):  # the cable is out
                    return
                time.sleep(0.05)

    def _answer(self, message: bytes) -> bytes:
        kind, at = 0, 240
        while at + 1 < len(message) and message[at] != 255:
            if message[at] == 0:
                at += 1
                continue
            if message[at] == 53:
                kind = message[at + 2]
            at += 2 + message[at + 1]
        self.messages.append({1: "DISCOVER", 3: "REQUEST", 7: "RELEASE"}.get(kind, str(kind)))
        if kind not in (1, 3):
            return b""
        address = socket.inet_aton
        options = [(53, bytes([2 if kind == 1 else 5])), (54, address(GATEWAY)), (51, struct.pack("!I", self.lease_s)),
                   (1, address("255.255.255.0")), (3, address(GATEWAY)), (6, address(DNS))]
        packed = b"".join(bytes([number, len(value)]) + value for number, value in options)
        return (struct.pack("!BBBB", 2, 1, 6, 0) + message[4:8] + b"\0" * 4 + b"\0" * 4 + address(BOX) +
                address(GATEWAY) + b"\0" * 4 + message[28:44] + b"\0" * 192 + b"\x63\x82\x53\x63" + packed + b"\xff")


def tap_arguments() -> list[str]:
    """QEMU's end of the cable."""
    return ["-netdev", f"tap,id=lab,ifname={TAP},script=no,downscript=no", "-device", "virtio-net-pci,netdev=lab"]

