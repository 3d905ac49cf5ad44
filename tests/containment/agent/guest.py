"""What an attempt has at hand: the guest's own addresses, names looked up at the resolver without the guest's libraries,
connections, TLS hellos of any shape.
"""
import fcntl
import os
import socket
import ssl
import struct
import time

import packets

LIMIT_S = float(os.environ.get("LIMIT_S", "4"))  # for what should be answered
MARK = "forbidden"  # wherever the lab sees this, somebody got out

VECTORS: dict[str, "Vector"] = {}
USES: dict[str, "Vector"] = {}


class Vector:
    """body(guest) says how it got through, if it noticed: a guest's word is believed against us, never for us.
    record: what the denial's record holds, None where nothing is due. vm: only where there is a virtual machine.
    harmless: afterwards another agent must be served as before. budget: what the agent may use of the network meanwhile."""

    def __init__(self, name: str, what: str, body, record: dict | None, vm: bool, harmless: bool, gone: bool,
                 budget: dict | None = None):
        self.name, self.what, self.body, self.record, self.vm = name, what, body, record, vm
        self.harmless, self.gone, self.budget = harmless, gone, budget


def vector(name: str, what: str, record: dict | None = None, vm: bool = False, harmless: bool = False,
           budget: dict | None = None):
    def keep(body):
        assert name not in VECTORS, name
        VECTORS[name] = Vector(name, what, body, record, vm, harmless, False, budget)
        return body
    return keep


def use(name: str, what: str, vm: bool = False):
    """Something that must work. body(guest) raises if it does not. vm: needs the runtime image's programs."""
    def keep(body):
        assert name not in USES, name
        USES[name] = Vector(name, what, body, None, vm, False, False)
        return body
    return keep


def encode_name(name: str | list[bytes]) -> bytes:
    labels = name if isinstance(name, list) else [label.encode("latin-1") for label in name.rstrip(".").split(".")]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def question(name: str | list[bytes], kind: int = 1, *, klass: int = 1, flags: int = 0x0100, extra: bytes = b"",
             additional: int = 0) -> bytes:
    return (os.urandom(2) + struct.pack("!HHHHH", flags, 1, 0, 0, additional) + encode_name(name) +
            struct.pack("!HH", kind, klass) + extra)


def hello(server_names: list[bytes] | None, *, extensions: list[tuple[int, bytes]] = (), session: bytes = b"",
          records: int = 1, trailing: bytes = b"", version: int = 0x0303) -> bytes:
    """A TLS ClientHello: one server_name extension for each of server_names."""
    listed = []
    for name in server_names or []:
        entry = struct.pack("!BH", 0, len(name)) + name
        listed.append((0, struct.pack("!H", len(entry)) + entry))
    listed += [(10, struct.pack("!HHH", 4, 29, 23)), (13, struct.pack("!HHHH", 6, 0x0403, 0x0804, 0x0401)),
               (43, b"\x04\x03\x04\x03\x03"), (51, struct.pack("!HHH", 36, 29, 32) + os.urandom(32)), *extensions]
    packed = b"".join(struct.pack("!HH", kind, len(data)) + data for kind, data in listed)
    body = (struct.pack("!H", version) + os.urandom(32) + bytes([len(session)]) + session +
            struct.pack("!HHHH", 6, 0x1301, 0xC02B, 0xC02F) + b"\x01\x00" + struct.pack("!H", len(packed)) + packed)
    message = b"\x01" + struct.pack("!I", len(body))[1:] + body + trailing
    size = -(-len(message) // records)
    pieces = [message[at:at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + struct.pack("!H", len(piece)) + piece for piece in pieces)


class Guest:
    def __init__(self, gateway: str, peer: str, placeholder: str):
        """peer: another agent's address, as it would be known to somebody who knows how they are given out."""
        self.wire = packets.Wire()
        self.gateway, self.peer, self.placeholder = gateway, peer, placeholder
        self.mac = self.wire.mac
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            asked = fcntl.ioctl(any_socket, 0x8915, struct.pack("256s", b"eth0"))  # SIOCGIFADDR
        self.address = socket.inet_ntoa(asked[20:24])
        self.port = 20000
        self.saw = b""  # what came back, for the lab to look through
        self._gateway_mac = self._api_address = ""

    @property
    def gateway_mac(self) -> str:
        if not self._gateway_mac:
            self.lookup("api.lab.test")
            with open("/proc/net/arp", encoding="ascii") as file:
                self._gateway_mac = next(line.split()[3] for line in file if line.startswith(self.gateway + " "))
        return self._gateway_mac

    @property
    def peer_mac(self) -> str:
        number = (int.from_bytes(packets.address(self.peer), "big") - 0xC6120000) // 1024
        return f"02:4e:42:01:{number >> 8:02x}:{number & 255:02x}"

    def next_port(self) -> int:
        self.port += 1
        return self.port

    # --- below the guest's kernel

    def frame(self, kind: int, payload: bytes, *, source: str = "", destination: str = "", vlans=()) -> None:
        self.wire.send(packets.ethernet(source or self.mac, destination or self.gateway_mac, kind, payload, vlans))

    def ip4(self, destination: str, protocol: int, payload: bytes, source: str = "", **more) -> None:
        self.frame(packets.ETH_IP, packets.ip4(source or self.address, destination, protocol, payload, **more))

    def udp(self, destination: str, port: int, data: bytes, source: str = "", **more) -> None:
        source = source or self.address
        self.ip4(destination, packets.UDP, packets.udp(source, destination, self.next_port(), port, data), source, **more)

    def syn(self, destination: str, port: int, source: str = "", limit_s: float = 0, **more) -> str:
        """How it was answered, if there is a limit to wait and something says that the connection is there."""
        source = source or self.address
        mine = self.next_port()
        self.wire.drain()
        self.ip4(destination, packets.TCP, packets.tcp(source, destination, mine, port), source, **more)
        deadline = time.monotonic() + limit_s
        while (left := deadline - time.monotonic()) > 0:
            frame = self.wire.receive(left)
            if not frame or len(frame) < 48 or frame[12:14] != b"\x08\0" or frame[23] != packets.TCP:
                continue
            if frame[26:30] == packets.address(destination) and frame[36:38] == struct.pack("!H", mine) and \
                    frame[47] & 0x12 == 0x12:
                return f"{destination} port {port} takes the connection"
        return ""

    # --- the resolver

    def ask(self, query: bytes, server: str = "", limit_s: float = LIMIT_S) -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(limit_s)
            asking.sendto(query, (server or self.gateway, 53))
            try:
                return asking.recv(4096)
            except TimeoutError:
                return b""

    def ask_tcp(self, query: bytes, server: str = "", limit_s: float = LIMIT_S) -> bytes:
        with socket.create_connection((server or self.gateway, 53), timeout=limit_s) as asking:
            asking.sendall(struct.pack("!H", len(query)) + query)
            return asking.recv(4096)[2:]

    def lookup(self, name: str | list[bytes], **more) -> str:
        """Its first address, empty if there is none."""
        query = question(name, **more)
        for _ in range(3):
            answer = self.ask(query)
            if not answer:
                continue
            if answer[3] & 15 or not struct.unpack_from("!H", answer, 6)[0]:
                return ""
            return socket.inet_ntoa(answer[-4:]) if answer[-6:-4] == b"\0\x04" else ""
        return ""

    def denied_lookup(self, name: str | list[bytes], **more) -> str:
        found = self.lookup(name, **more)
        return f"it is answered with {found}" if found else ""

    # --- connections

    def api_address(self) -> str:
        """Without a question each time."""
        if not self._api_address:
            self._api_address = self.lookup("api.lab.test")
        return self._api_address

    def connect(self, name: str, port: int, limit_s: float = LIMIT_S) -> socket.socket:
        """By name, unless it is an address."""
        to = name if name.replace(".", "").isdigit() else self.lookup(name)
        if not to:
            raise OSError(f"{name} is not answered")
        return socket.create_connection((to, port), timeout=limit_s)

    def exchange(self, name: str, port: int, data: bytes, limit_s: float = LIMIT_S, most: int = 1 << 16,
                 then: bytes = b"") -> bytes:
        """What comes back for these bytes, until the end or the limit."""
        with self.connect(name, port, limit_s) as stream:
            return self.talk(stream, data, limit_s, most, then)

    def talk(self, stream, data: bytes, limit_s: float, most: int = 1 << 16, then: bytes = b"") -> bytes:
        answer = b""
        try:
            stream.sendall(data)
            if then:
                answer = stream.recv(65536)
                stream.sendall(then)
            deadline = time.monotonic() + limit_s
            while len(answer) < most and (left := deadline - time.monotonic()) > 0:
                stream.settimeout(left)
                if not (more := stream.recv(65536)):
                    break
                answer += more
                if self._whole(answer):
                    break
        except OSError:
            pass
        self.saw += answer
        return answer

    @staticmethod
    def _whole(answer: bytes) -> bool:
        """An HTTP answer with its length, all there."""
        head, found, body = answer.partition(b"\r\n\r\n")
        if not found or not answer.startswith(b"HTTP/"):
            return False
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                return len(body) >= int(line.split(b":")[1])
        return b"chunked" in head.lower() and body.endswith(b"0\r\n\r\n")

    @staticmethod
    def tls(stream: socket.socket, name: str | None, **more) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE"))
        if more.get("unchecked"):
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context.wrap_socket(stream, server_hostname=name)

    def https(self, name: str, data: bytes, limit_s: float = LIMIT_S, sni: str | None = "", then: bytes = b"") -> bytes:
        with self.connect(name, 443, limit_s) as stream, \
                self.tls(stream, name if sni == "" else sni, unchecked=sni != "") as secured:
            return self.talk(secured, data, limit_s, then=then)
