"""An agent that never stops working, for tests that break the box under it. Each round it asks the API, puts the next
number into the shared memory, and tries what it may not; it waits for no answer to the last, so that there is no moment
without an attempt. Numbers that were acknowledged stand in a file of a shared folder, where it goes on after a restart.

It is started hundreds of times, in emulated machines inside emulated ones: instead of socket, ssl, http.client, json
which take three quarters of its start, it uses what is below them.
"""
import _socket
import _ssl
import os
from time import sleep

LIMIT_S = 5
PAUSE_S = 0.25
SPACE = "faults"
NAME = os.environ["WORKER"]
API_HOST, OTHER_HOST, OTHER_ADDRESS = (os.environ[name] for name in ("API_HOST", "OTHER_HOST", "OTHER_ADDRESS"))
MEMORY = ("127.0.0.1", 9100)
ACKNOWLEDGED = "/data/faults/" + NAME
WAYS = [(OTHER_ADDRESS, 443), (OTHER_ADDRESS, 80), ("169.254.169.254", 80)]
DNS_SERVER = "8.8.8.8"
ERRORS = (OSError, ValueError, IndexError)


def say(text: str) -> None:
    print(text, flush=True)


class Socket(_socket.socket):
    __slots__ = ("__weakref__",)  # by which TLS holds it


def connected(address: tuple[str, int]) -> Socket:
    stream = Socket(_socket.AF_INET, _socket.SOCK_STREAM)
    try:
        stream.settimeout(LIMIT_S)
        stream.connect(address)
    except OSError:
        stream.close()
        raise
    return stream


class Report:
    """Says how something goes when that is another than the last time, not each time."""

    def __init__(self, what: str):
        self._what, self._last = what, ""

    def __call__(self, how: str) -> None:
        if how != self._last:
            say(f"{self._what}: {how}")
        self._last = how


# --- what it may not

def question(name: str) -> bytes:
    """Of its address (RFC 1035)."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return b"\x4e\x42\x01\x00\x00\x01" + bytes(6) + labels + b"\0\0\x01\0\x01"


def resolver() -> str:
    with open("/etc/resolv.conf", encoding="ascii") as file:
        return next((line.split()[1] for line in file if line.startswith("nameserver")), "127.0.0.1")


class Escape:
    """Connections and datagrams to where it may not reach."""

    def __init__(self):
        self._open: list[Socket] = []

    def attempt(self) -> None:
        for stream in self._open:  # of the round before: a proxy on the way may have taken it
            try:
                stream.send(b"GET / HTTP/1.0\r\n\r\n")
            except OSError:
                pass
            stream.close()
        self._open = []
        for place in WAYS:
            stream = Socket()
            stream.setblocking(False)
            try:
                stream.connect_ex(place)
            except OSError:
                pass
            self._open.append(stream)
        datagrams = Socket(_socket.AF_INET, _socket.SOCK_DGRAM)
        for server in (DNS_SERVER, resolver()):
            try:
                datagrams.sendto(question(OTHER_HOST), (server, 53))
            except OSError:
                pass
        datagrams.close()


# --- what it may

class Tls:
    def __init__(self, context, stream: Socket):
        self._stream = stream
        self._tls = context._wrap_socket(stream, False, API_HOST)
        self._tls.do_handshake()

    def sendall(self, data: bytes) -> None:
        while data:
            data = data[self._tls.write(data):]

    def recv(self, most: int) -> bytes:
        return self._tls.read(most)

    def close(self) -> None:
        self._stream.close()


class Connection:
    """HTTP/1.1, as much of it as is needed here. Made anew after an error."""

    def __init__(self, host: str, connect):
        self._host, self._connect, self._stream = host, connect, None

    def ask(self, verb: str, path: str, headers: str = "", body: str = "") -> tuple[int, str]:
        try:
            if self._stream is None:
                self._stream = self._connect()
            self._stream.sendall(f"{verb} {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\n"
                                 f"Content-Length: {len(body)}\r\n{headers}\r\n{body}".encode())
            return self._answer()
        except ERRORS:
            if self._stream is not None:
                self._stream.close()
            self._stream = None
            raise

    def _answer(self) -> tuple[int, str]:
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._piece()
        head, body = received.split(b"\r\n\r\n", 1)
        if b"transfer-encoding: chunked" in head.lower():
            while not body.endswith(b"\r\n0\r\n\r\n"):
                body += self._piece()
            return int(head.split()[1]), body.decode(errors="replace")
        length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        while len(body) < int(length[0].split()[1] if length else 0):
            body += self._piece()
        return int(head.split()[1]), body.decode(errors="replace")

    def _piece(self) -> bytes:
        piece = self._stream.recv(65536)
        if not piece:
            raise OSError("the connection was closed")
        return piece


def api() -> Connection:
    context = _ssl._SSLContext(_ssl.PROTOCOL_TLS_CLIENT)  # which checks certificates and names
    # The API's own, and the box's, where egress stands before the API.
    for root in ("root.pem", "/etc/ssl/nullbox-authority.pem"):
        context.load_verify_locations(root, None, None)

    def connect() -> Tls:
        address = _socket.getaddrinfo(API_HOST, 443, _socket.AF_INET, _socket.SOCK_STREAM)[0][4]
        return Tls(context, connected(address))
    return Connection(API_HOST, connect)


def asked(connection: Connection, number: int) -> str:
    key = os.environ.get("DEMO_KEY")
    try:
        status, body = connection.ask("GET", f"/{NAME}/{number}", f"Authorization: Bearer {key}\r\n" if key else "")
    except ERRORS as problem:
        return f"{type(problem).__name__}: {problem}"
    return "answers" if status in (200, 401) else f"{status} {body.strip()}"


def put(connection: Connection, number: int) -> str:
    """The entry's id. Raises if it was not acknowledged."""
    status, body = connection.ask("PUT", f"/v1/memory/{SPACE}/{NAME}", body=f'{{"number": {number}}}')
    if status not in (200, 201):
        raise ValueError(f"{status} {body}")
    return body.split('"id":"')[1].split('"')[0]


def last_number() -> int:
    """A line that was cut off by the end of the VM says nothing that was acknowledged."""
    if not os.path.exists(ACKNOWLEDGED):
        return 0
    with open(ACKNOWLEDGED, encoding="ascii") as file:
        whole = [line.split() for line in file.read().split("\n")[:-1]]
    return max((int(line[0]) for line in whole if len(line) == 2), default=0)


def main() -> None:
    number = last_number() + 1
    say(f"begins at {number}")
    escape, the_api = Escape(), api()
    memory = Connection("127.0.0.1:9100", lambda: connected(MEMORY))
    api_goes, memory_goes = Report("api"), Report("memory")
    with open(ACKNOWLEDGED, "a", encoding="ascii") as acknowledged:
        acknowledged.write("\n")  # ends a line that was cut off
        while True:
            escape.attempt()
            api_goes(asked(the_api, number))
            try:
                acknowledged.write(f"{number} {put(memory, number)}\n")
                acknowledged.flush()
                number += 1
                memory_goes("takes what is put")
            except ERRORS as problem:
                memory_goes(f"{type(problem).__name__}: {problem}")
            sleep(PAUSE_S)


if __name__ == "__main__":
    main()
