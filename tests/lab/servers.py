"""Who is out there: the lab's own DNS, an API behind TLS, and listeners of hosts that nobody may reach. Each keeps what
it saw, which is what containment tests are judged by.
"""
import http.server
import json
import socket
import ssl
import struct
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path

import network


# --- DNS (RFC 1035), as much of it as answers A questions

def question(query: bytes) -> tuple[str, int, int]:
    """Name as it was written, type, where the question ends."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode("latin-1"))
        at += 1 + query[at]
    return ".".join(labels), struct.unpack_from("!H", query, at + 1)[0], at + 5


@dataclass
class Dns:
    names: dict[str, str]  # lower case -> address
    address: str = network.DNS
    asked: list[str] = field(default_factory=list)  # lower case
    silent: bool = False  # takes questions and answers none

    def start(self) -> "Dns":
        network.own(self.address)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((self.address, 53))
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def _serve(self) -> None:
        while True:
            query, peer = self._socket.recvfrom(4096)
            try:
                name, kind, end = question(query)
            except IndexError:
                self.asked.append("(malformed)")
                continue
            self.asked.append(name.lower())
            if not self.silent:
                self._socket.sendto(self._answer(query, name, kind, end), peer)

    def _answer(self, query: bytes, name: str, kind: int, end: int) -> bytes:
        address = self.names.get(name.lower())
        records = b""
        if address and kind == 1:
            records = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + socket.inet_aton(address)
        code = 0 if address else 3
        return (query[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, 1 if records else 0, 0, 0) + query[12:end] +
                records)


# --- TLS

@dataclass
class Authority:
    """A root that the box under test is told to trust, and what it signs."""
    folder: Path

    def make(self) -> "Authority":
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650",
                      "-keyout", self.folder / "root.key", "-out", self.root, "-subj", "/CN=Lab root",
                      "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")
        return self

    @property
    def root(self) -> Path:
        return self.folder / "root.pem"

    def certificate(self, name: str, *also: str) -> tuple[Path, Path]:
        """also: more names in the same certificate."""
        key, request, signed = (self.folder / f"{name}.{end}" for end in ("key", "csr", "pem"))
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={','.join(f'DNS:{each}' for each in (name, *also))}\nbasicConstraints=CA:FALSE\n")
        self._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out",
                      request, "-subj", f"/CN={name}")
        self._openssl("x509", "-req", "-in", request, "-CA", self.root, "-CAkey", self.folder / "root.key", "-days",
                      "365", "-out", signed, "-extfile", extensions, "-set_serial", str(abs(hash(name)) % 2**60))
        return signed, key

    @staticmethod
    def _openssl(*words) -> None:
        done = subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True)
        if done.returncode != 0:
            raise OSError(f"openssl {words[0]}: {done.stderr.strip()[-500:]}")


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes


class QuietServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A client that does not like our certificate, or was killed, is none of our mistakes."""


@dataclass
class Api:
    """An HTTPS API that takes one key, and answers with findings; /echo sends back what it was sent."""
    name: str
    address: str
    key: str
    authority: Authority
    requests: list[Request] = field(default_factory=list)

    def start(self) -> "Api":
        network.own(self.address)
        self.serve(443)
        return self

    def serve(self, port: int) -> int:
        """The port, which the system chooses if it is 0."""
        certificate, key = self.authority.certificate(self.name)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server = QuietServer((self.address, port), self._handler())
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server.server_port

    def _handler(self):
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                api.requests.append(Request(self.command, self.path, headers, body))
                authorized = headers.get("authorization") == f"Bearer {api.key}"
                answer = {"findings": [{"title": "water", "value": 42}, {"title": "wind", "value": 7}]}
                if not authorized:
                    answer = {"error": "the key is not right"}
                elif self.path.startswith("/echo"):
                    answer = {"headers": headers, "body": body.decode(errors="replace")}
                data = json.dumps(answer).encode()
                self.send_response(200 if authorized else 401)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                if self.path.startswith("/echo"):
                    self.send_header("X-Seen", headers.get("authorization", ""))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = _serve

            def log_message(self, *_):
                pass

        return Handler


@dataclass
class Trap:
    """A host that nobody may reach: takes every connection and datagram on some ports, and keeps that there was one."""
    address: str
    ports: tuple[int, ...] = (53, 80, 443, 8080)
    caught: list[str] = field(default_factory=list)

    def start(self) -> "Trap":
        network.own(self.address)
        for port in self.ports:
            listener = socket.create_server((self.address, port))
            datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            datagrams.bind((self.address, port))
            threading.Thread(target=self._accept, args=(listener, port), daemon=True).start()
            threading.Thread(target=self._receive, args=(datagrams, port), daemon=True).start()
        return self

    def _accept(self, listener: socket.socket, port: int) -> None:
        while True:
            connection, peer = listener.accept()
            self.caught.append(f"tcp {port} from {peer[0]}")
            connection.close()

    def _receive(self, datagrams: socket.socket, port: int) -> None:
        while True:
            data, peer = datagrams.recvfrom(65536)
            self.caught.append(f"udp {port} from {peer[0]}: {len(data)} bytes")
