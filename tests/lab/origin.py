"""A web server as there are many: lenient, with several names at one address and one certificate, in clear and over TLS.
It takes what other servers refuse, because smuggling works where two readers differ. It keeps what it was asked, and
notes what should never have come.
"""
import base64
import gzip
import hashlib
import json
import re
import socket
import ssl
import struct
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import network
from evidence import Evidence

WEBSOCKET_KEY = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
MOST_HEAD_BYTES = 1 << 20


@dataclass
class Asked:
    tls: bool
    sni: str
    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def host(self) -> str:
        return self.headers.get("host", "").rsplit(":", 1)[0].lower()


@dataclass
class Origin:
    """names: those that may be asked for here. secrets: name to the bearer token that all its requests must carry, over
    TLS. files: path to content, for what clients of package managers and git fetch."""
    address: str
    names: set[str]
    evidence: Evidence
    mark: bytes
    secrets: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    ports: tuple[int, ...] = (80, 443)
    newest_tls: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    requests: list[Asked] = field(default_factory=list)

    def start(self, certificate: Path, key: Path) -> "Origin":
        network.own(self.address)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self._context.maximum_version = self.newest_tls
        self._context.sni_callback = self._named
        for port in self.ports:
            listener = socket.create_server((self.address, port), backlog=512)
            threading.Thread(target=self._accept, args=(listener, port == 443), daemon=True).start()
        return self

    def _may(self, name: str) -> bool:
        return name in self.names or f"*.{name.partition('.')[2]}" in self.names

    def _note(self, what: str) -> None:
        self.evidence.note(f"origin {self.address}", what)

    def _named(self, stream: ssl.SSLSocket, name: str | None, _) -> None:
        stream.named = (name or "").lower().rstrip(".")
        if not self._may(stream.named):
            self._note(f"a TLS hello for {name!r}")

    def _accept(self, listener: socket.socket, tls: bool) -> None:
        while True:
            stream, _ = listener.accept()
            threading.Thread(target=self._serve, args=(stream, tls), daemon=True).start()

    def _serve(self, stream: socket.socket, tls: bool) -> None:
        stream.settimeout(60)
        try:
            if tls:
                stream = self._context.wrap_socket(stream, server_side=True)
            sni = getattr(stream, "named", "")
            if tls and not sni:
                self._note("TLS without a name")
            Connection(self, stream, tls, sni).serve()
        except (OSError, ValueError):
            pass
        finally:
            stream.close()

    def judge(self, raw: bytes, asked: Asked) -> None:
        if self.mark in raw.lower():
            self._note(f"a request that holds the mark: {raw[:120]!r}")
        if asked.method in ("CONNECT", "TRACE", "PRI"):
            self._note(f"{asked.method} {asked.target[:60]}")
        if not self._may(asked.host):
            self._note(f"a request for host {asked.host!r}")
        if asked.tls and asked.host != asked.sni:
            self._note(f"a request for {asked.host!r} on a connection for {asked.sni!r}")
        secret = self.secrets.get(asked.host)
        if secret and not asked.tls:
            self._note(f"a request to {asked.host} in clear")
        if secret and asked.tls and asked.headers.get("authorization") != f"Bearer {secret}":
            self._note(f"a request to {asked.host} with {asked.headers.get('authorization')!r} instead of the secret")
        for other, value in self.secrets.items():
            if other != asked.host and value.encode() in raw:
                self._note(f"the secret of {other} in a request to {asked.host}")


class Connection:
    def __init__(self, origin: Origin, stream: socket.socket, tls: bool, sni: str):
        self._origin, self._stream, self._tls, self._sni, self._buffer = origin, stream, tls, sni, b""

    def serve(self) -> None:
        while head := self._head():
            lines = head.decode("latin-1").replace("\r\n", "\n").split("\n")
            words = lines[0].split(" ")
            if len(words) < 3:
                self._origin.judge(head, Asked(self._tls, self._sni, "", "", {}, b""))
                return
            headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            self._sent_continue = False
            body = self._body(headers)
            asked = Asked(self._tls, self._sni, words[0], words[1], headers, body)
            self._origin.requests.append(asked)
            self._origin.judge(head + body[:10_000], asked)
            if not self._answer(asked) or headers.get("connection", "").lower() == "close" or words[2] == "HTTP/1.0":
                return

    def _more(self) -> bool:
        chunk = self._stream.recv(1 << 16)
        self._buffer += chunk
        return bool(chunk)

    def _head(self) -> bytes:
        """Ends with a blank line, whatever lines end with."""
        while not (found := re.search(rb"\r?\n\r?\n", self._buffer)):
            if len(self._buffer) > MOST_HEAD_BYTES or not self._more():
                if self._buffer:
                    self._origin.judge(self._buffer, Asked(self._tls, self._sni, "", "", {"host": self._sni}, b""))
                return b""
        head, self._buffer = self._buffer[:found.end()], self._buffer[found.end():]
        return head

    def _take(self, count: int) -> bytes:
        while len(self._buffer) < count and self._more():
            pass
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def _body(self, headers: dict[str, str]) -> bytes:
        """In clear a length counts more than chunked; over TLS the other way round: both kinds of server exist."""
        if headers.get("expect", "").lower() == "100-continue":
            self._stream.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        length = re.match(r"[+\s]*(\d+)", headers.get("content-length", ""))
        chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        if length and not (chunked and self._tls):
            return self._take(min(int(length[1]), 1 << 28))
        body = b""
        while chunked:
            while b"\n" not in self._buffer and self._more():
                pass
            line, _, self._buffer = self._buffer.partition(b"\n")
            size = int(line.split(b";")[0].strip() or b"0", 16)
            body += self._take(max(size, 0))
            while self._buffer[:1] in (b"\r", b"") and self._more_or(b"\r"):
                pass
            self._buffer = self._buffer.removeprefix(b"\r").removeprefix(b"\n")
            if size <= 0:
                break
        return body

    def _more_or(self, first: bytes) -> bool:
        """Until there is more than that one byte."""
        return len(self._buffer) <= len(first) and self._more()

    def _send(self, status: str, body: bytes, kind: str = "text/plain", headers: str = "", method: str = "GET") -> bool:
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode()
        self._stream.sendall(head + (b"" if method == "HEAD" else body))
        return True

    def _chunks(self, pieces, kind: str = "text/plain", headers: str = "", pause_s: float = 0) -> bool:
        self._stream.sendall(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n{headers}\r\n".encode())
        for piece in pieces:
            self._stream.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            time.sleep(pause_s)
        self._stream.sendall(b"0\r\n\r\n")
        return True

    def _answer(self, asked: Asked) -> bool:
        path, _, query = asked.target.partition("?")
        key = asked.headers.get("authorization", "").encode()
        if path in self._origin.files or path + "/" in self._origin.files:
            found = self._origin.files.get(path, self._origin.files.get(path + "/", b""))
            kind = "text/html" if path.startswith("/simple") else \
                "application/json" if found[:1] == b"{" else "application/octet-stream"
            return self._send("200 OK", found, kind, method=asked.method)
        if path.startswith(("/repo.git", "/simple", "/npm")):
            return self._send("404 Not Found", b"no such file", method=asked.method)
        if path == "/big":
            return self._send("200 OK", pattern(int(query)), "application/octet-stream")
        if path == "/upload":
            return self._send("200 OK", f"{len(asked.body)} {hashlib.sha256(asked.body).hexdigest()}".encode())
        if path == "/echo":
            shown = {"method": asked.method, "headers": asked.headers, "body": asked.body.decode(errors="replace")}
            return self._send("200 OK", json.dumps(shown).encode(), "application/json", method=asked.method)
        if path == "/chunked":
            return self._chunks([b"piece %d\n" % number for number in range(100)])
        if path == "/events":
            return self._chunks([b"data: %d\n\n" % number for number in range(4)], "text/event-stream", pause_s=0.3)
        if path == "/redirect":
            return self._send("302 Found", b"", headers="Location: /landed\r\n")
        if path == "/gzip":
            return self._send("200 OK", gzip.compress(b"small when compressed " * 100), headers="Content-Encoding: gzip\r\n")
        if path == "/reflect-header":
            return self._send("200 OK", b"see the header", headers=f"X-Seen: {key.decode()}\r\nSet-Cookie: k={key.decode()}\r\n")
        if path == "/reflect-body":
            return self._send("302 Found", key, headers=f"Location: /{key.decode().replace(' ', '+')}\r\n")
        if path == "/reflect-chunks":
            return self._chunks([bytes([byte]) for byte in b"you sent " + key])
        if path == "/reflect-gzip":
            packed = "gzip" in asked.headers.get("accept-encoding", "")
            return self._send("200 OK", gzip.compress(key) if packed else key, headers="Content-Encoding: gzip\r\n" if packed else "")
        if path == "/reflect-range":
            part = (b"0123456789" + key)[20:41] if "range" in asked.headers else b"0123456789" + key
            return self._send("206 Partial Content" if "range" in asked.headers else "200 OK", part)
        if path == "/reflect-many":
            return self._chunks([key * 10] * 100)
        if asked.headers.get("upgrade", "").lower() == "websocket" and path == "/ws":
            return self._websocket(asked)
        return self._send("200 OK", f"{asked.method} {path} at {asked.host}".encode(), method=asked.method)

    def _websocket(self, asked: Asked) -> bool:
        accept = base64.b64encode(hashlib.sha1(asked.headers["sec-websocket-key"].encode() + WEBSOCKET_KEY).digest())
        self._stream.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                             b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        while True:
            first, second = self._take(2) or b"\0\0"
            length = second & 127
            if length == 126:
                length = struct.unpack("!H", self._take(2))[0]
            elif length == 127:
                length = struct.unpack("!Q", self._take(8))[0]
            mask = self._take(4) if second & 128 else b"\0\0\0\0"
            data = bytes(byte ^ mask[at % 4] for at, byte in enumerate(self._take(length)))
            opcode = first & 15
            if opcode in (0, 8):
                self._stream.sendall(b"\x88\x00")
                return False
            size = bytes([len(data)]) if len(data) < 126 else b"\x7e" + struct.pack("!H", len(data))
            self._stream.sendall(bytes([0x80 | (10 if opcode == 9 else opcode)]) + size + data)


def pattern(size: int) -> bytes:
    """Bytes in which a loss, a repetition or an exchange shows."""
    block = hashlib.sha256(b"nullbox").digest()
    return b"".join(struct.pack("!I", number) + block for number in range(size // 36 + 1))[:size]
