"""The other end of QEMU's network card, frame by frame: a LAN of which every frame carries a VLAN's tag, with a router and
a DHCP server in it. What the box sends without the tag, or with another one, is kept for the judge.
"""
import ipaddress
import socket
import struct
import threading

BOX_MAC, ROUTER_MAC = "52:54:00:4e:42:01", "52:54:00:4e:42:fe"
BOX4, ROUTER4, BOX6_PREFIX, ROUTER6 = "192.0.2.50", "192.0.2.1", "2001:db8:5::", "fe80::1"
VLAN, ARP, IPV4, IPV6 = 0x8100, 0x0806, 0x0800, 0x86DD
UDP, ICMPV6 = 17, 58
SOLICIT, ADVERT, NEIGHBOUR, NEIGHBOUR_ANSWER = 133, 134, 135, 136


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def four(text: str) -> bytes:
    return socket.inet_aton(text)


def six(text: str) -> bytes:
    return ipaddress.IPv6Address(text).packed


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Wire:
    def __init__(self, vlan: int):
        self.vlan = vlan
        self.strays: list[str] = []  # frames of the box without our tag
        self.tagged = 0
        self.dhcp: list[int] = []    # message types
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            self._theirs = free.getsockname()

    def arguments(self) -> list[str]:
        ours, theirs = self._socket.getsockname()[1], self._theirs[1]
        return ["-netdev", f"socket,id=net,udp=127.0.0.1:{ours},localaddr=127.0.0.1:{theirs}",
                "-device", f"virtio-net-pci,netdev=net,mac={BOX_MAC}"]

    def start(self) -> "Wire":
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def _serve(self) -> None:
        while True:
            frame = self._socket.recv(65536)
            kind, tag = struct.unpack("!HH", frame[12:16])
            if kind != VLAN or tag & 0xFFF != self.vlan:
                self.strays.append(frame[:40].hex())
                continue
            self.tagged += 1
            inner = int.from_bytes(frame[16:18], "big")
            answer = {ARP: self._arp, IPV4: self._ipv4, IPV6: self._ipv6}.get(inner)
            if answer:
                answer(frame[18:])

    def send(self, kind: int, payload: bytes, to: bytes, tagged: bool = True) -> None:
        head = to + mac(ROUTER_MAC)
        if tagged:
            head += struct.pack("!HH", VLAN, self.vlan)
        self._socket.sendto((head + struct.pack("!H", kind) + payload).ljust(60, b"\0"), self._theirs)

    # --- IPv4

    def _arp(self, packet: bytes) -> None:
        operation, sender_mac, sender, target = packet[7], packet[8:14], packet[14:18], packet[24:28]
        if operation == 1 and target == four(ROUTER4):
            self.send(ARP, packet[:7] + b"\2" + mac(ROUTER_MAC) + target + sender_mac + sender, sender_mac)

    def ask_arp(self, address: str, tagged: bool, source: str = ROUTER4) -> None:
        packet = struct.pack("!HHBBH", 1, IPV4, 6, 4, 1) + mac(ROUTER_MAC) + four(source) + b"\0" * 6 + four(address)
        self.send(ARP, packet, b"\xff" * 6, tagged)

    def _ipv4(self, packet: bytes) -> None:
        if packet[9] != UDP or packet[22:24] != struct.pack("!H", 67):
            return
        message, kind, at = packet[28:], 0, 240
        while message[at] != 255:
            if message[at] == 53:
                kind = message[at + 2]
            at += 2 + message[at + 1] if message[at] else 1
        self.dhcp.append(kind)
        if kind in (1, 3):
            self._offer(message, 2 if kind == 1 else 5)

    def _offer(self, message: bytes, kind: int) -> None:
        options = ((53, bytes([kind])), (54, four(ROUTER4)), (51, struct.pack("!I", 3600)), (1, four("255.255.255.0")),
                   (3, four(ROUTER4)))
        packed = b"".join(bytes([number, len(value)]) + value for number, value in options) + b"\xff"
        answer = (struct.pack("!BBBB", 2, 1, 6, 0) + message[4:8] + b"\0" * 8 + four(BOX4) + b"\0" * 8 + message[28:44] +
                  b"\0" * 192 + b"\x63\x82\x53\x63" + packed)
        udp = struct.pack("!HHHH", 67, 68, 8 + len(answer), 0) + answer
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, UDP, 0) + four(ROUTER4) + four("255.255.255.255")
        head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
        self.send(IPV4, head + udp, b"\xff" * 6)

    # --- IPv6

    def _icmpv6(self, message: bytes, source: bytes, target: bytes, to: bytes, tagged: bool = True) -> None:
        pseudo = source + target + struct.pack("!II", len(message), ICMPV6)
        message = message[:2] + struct.pack("!H", checksum(pseudo + message)) + message[4:]
        head = struct.pack("!IHBB", 0x60000000, len(message), ICMPV6, 255)
        self.send(IPV6, head + source + target + message, to, tagged)

    def announce(self, prefix: str, tagged: bool = True) -> None:
        option = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 3600, 3600, 0) + six(prefix)
        message = struct.pack("!BBHBBHII", ADVERT, 0, 0, 64, 0, 1800, 0, 0) + option
        self._icmpv6(message, six(ROUTER6), six("ff02::1"), mac("33:33:00:00:00:01"), tagged)

    def _ipv6(self, packet: bytes) -> None:
        if packet[6] != ICMPV6:
            return
        source, message = packet[8:24], packet[40:]
        if message[0] == SOLICIT:
            self.announce(BOX6_PREFIX)
        elif message[0] == NEIGHBOUR and message[8:24] == six(ROUTER6) and any(source):
            answer = struct.pack("!BBHI", NEIGHBOUR_ANSWER, 0, 0, 0xE0000000) + six(ROUTER6) + b"\2\1" + mac(ROUTER_MAC)
            self._icmpv6(answer, six(ROUTER6), source, mac(BOX_MAC))
