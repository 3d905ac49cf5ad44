"""Ways out through HTTP: requests of which the proxy and the server read different things. Each goes to a host in clear
and, inside TLS that ends in the proxy, to the host that a secret goes to.
"""
import os
import time

import places
from guest import MARK, hello, vector

HOSTS = {"clear": places.API, "keyed": places.KEYED}


def send(guest, where: str, data: bytes, then: bytes = b"") -> bytes:
    host = HOSTS[where]
    if where == "clear":
        return guest.exchange(host, 80, data, then=then, limit_s=2)
    return guest.https(host, data, then=then, limit_s=3)


def refused(name: str, what: str, text: str | bytes, recorded: bool = True, then: str = "", only: str = "") -> None:
    """@ in the text is the host, %40 an @. A 200 to what asks for somebody else convicts by itself."""
    for where, host in HOSTS.items():
        if only and where != only:
            continue
        data = (text.encode("latin-1") if isinstance(text, str) else text).replace(b"@", host.encode()).replace(b"%40", b"@")
        more = then.encode("latin-1").replace(b"@", host.encode())

        @vector(f"http-{name}-{where}", f"HTTP, {'in clear' if where == 'clear' else 'where a secret goes'}: {what}",
                {"kind": "request", "name": host} if recorded else None)
        def attempt(guest, where=where, data=data, more=more):
            send(guest, where, data, more)


# No mark: it may be asked for, of the right host. Whether it was of another one, the server knows.
GET = "GET /asked HTTP/1.1\r\n"
refused("host-neighbour", "another host's name in Host, at the same address", GET + f"Host: {places.NEIGHBOUR}\r\n\r\n")
refused("host-evil", "an attacker's name in Host", GET + "Host: evil.test\r\n\r\n")
refused("host-metadata", "the metadata address in Host", GET + "Host: 169.254.169.254\r\n\r\n")
refused("host-none", "no Host", GET + "\r\n")
refused("host-none-old", "no Host, as HTTP/1.0 allows", f"GET /{MARK} HTTP/1.0\r\n\r\n")
refused("host-empty", "an empty Host", GET + "Host: \r\n\r\n")
refused("host-twice", "two Hosts", GET + "Host: @\r\nHost: neighbour.lab.test\r\n\r\n")
refused("host-list", "two names in Host", GET + "Host: @, neighbour.lab.test\r\n\r\n")
refused("host-port", "another port in Host", GET + "Host: @:8080\r\n\r\n")
refused("host-user", "a user in Host", GET + "Host: x%40neighbour.lab.test\r\n\r\n")
refused("host-nul", "NUL in Host", GET + "Host: @\0.evil.test\r\n\r\n")
refused("host-folded", "Host in a folded line", GET + "Host: @\r\n .evil.test\r\n\r\n")
refused("host-blank", "a blank before Host's colon", GET + "Host : neighbour.lab.test\r\nHost: @\r\n\r\n")
refused("host-tab", "a tab in Host's name", GET + "Host\t: neighbour.lab.test\r\n\r\n")
refused("host-unicode", "a look-alike in Host", (GET + "Host: аpi.lab.test\r\n\r\n").encode())
refused("host-suffix", "more behind the name in Host", GET + "Host: @.evil.test\r\n\r\n")
refused("host-hidden", "Host behind a bare line feed", GET + "X: y\nHost: neighbour.lab.test\r\nHost: @\r\n\r\n")
refused("absolute-other", "an absolute URI of another host", f"GET http://neighbour.lab.test/{MARK} HTTP/1.1\r\nHost: @\r\n\r\n")
refused("absolute-https", "an absolute URI of another kind", f"GET ftp://@/{MARK} HTTP/1.1\r\nHost: @\r\n\r\n")
refused("absolute-user", "an absolute URI with a user who looks like the host",
        f"GET http://api.lab.test:80%40neighbour.lab.test/{MARK} HTTP/1.1\r\nHost: @\r\n\r\n")
refused("target-double", "a target of two slashes and another host", f"GET neighbour.lab.test/{MARK} HTTP/1.1\r\nHost: @\r\n\r\n")
refused("connect", "CONNECT to another host", "CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n")
refused("connect-self", "CONNECT to the host itself, then more",
        f"CONNECT @:443 HTTP/1.1\r\nHost: @\r\n\r\nGET /{MARK} HTTP/1.1\r\nHost: x\r\n\r\n")
refused("trace", "TRACE, which shows a secret", "TRACE / HTTP/1.1\r\nHost: @\r\n\r\n")
refused("authority", ":authority as a header line", GET + "Host: @\r\n:authority: neighbour.lab.test\r\n\r\n")
refused("http2", "HTTP/2 by prior knowledge", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0" +
        b"\0\0\x1f\1\5\0\0\0\1\x82\x86\x84\x41\x09forbidden")
refused("version", "a version nobody speaks", f"GET /{MARK} HTTP/3.0\r\nHost: @\r\n\r\n")
refused("kept", "another Host in the second request of a connection", "GET /first HTTP/1.1\r\nHost: @\r\n\r\n",
        then=f"GET /{MARK} HTTP/1.1\r\nHost: neighbour.lab.test\r\n\r\n")
refused("pipelined", "another Host in a request that does not wait for its answer",
        f"GET /first HTTP/1.1\r\nHost: @\r\n\r\nGET /{MARK} HTTP/1.1\r\nHost: neighbour.lab.test\r\n\r\n")

HIDDEN = "GET /hidden HTTP/1.1\r\nHost: neighbour.lab.test\r\n\r\n"  # no mark either: a body may hold anything
POST = "POST /smuggle HTTP/1.1\r\nHost: @\r\n"
BODY = f"0\r\n\r\n{HIDDEN}"


def smuggled(name: str, what: str, lines: str, body: str, **more) -> None:
    refused(f"smuggle-{name}", f"request smuggling: {what}", POST + lines + "\r\n" + body, **more)


smuggled("cl-te", "a length and chunked", f"Content-Length: {len(BODY)}\r\nTransfer-Encoding: chunked\r\n", BODY)
smuggled("te-cl", "chunked and a length", "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
         f"{len(HIDDEN):x}\r\n{HIDDEN}\r\n0\r\n\r\n")
smuggled("cl-cl", "two lengths", f"Content-Length: 0\r\nContent-Length: {len(HIDDEN)}\r\n", HIDDEN)
smuggled("cl-list", "a list of lengths", f"Content-Length: 0, {len(HIDDEN)}\r\n", HIDDEN)
smuggled("cl-sign", "a length with a sign", f"Content-Length: +{len(HIDDEN)}\r\n", HIDDEN)
smuggled("cl-hex", "a length in hexadecimal", f"Content-Length: 0x{len(HIDDEN):x}\r\n", HIDDEN)
smuggled("cl-huge", "a length that wraps around", "Content-Length: 18446744073709551616\r\n", HIDDEN)
smuggled("te-te", "two transfer codings", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", BODY)
smuggled("te-x", "a coding that resembles chunked", f"Transfer-Encoding: xchunked\r\nContent-Length: {len(BODY)}\r\n", BODY)
smuggled("te-list", "chunked before another coding", "Transfer-Encoding: chunked, identity\r\n", BODY)
smuggled("te-blank", "a blank before the colon", f"Transfer-Encoding : chunked\r\nContent-Length: {len(BODY)}\r\n", BODY)
smuggled("te-tab", "a vertical tab in chunked", f"Transfer-Encoding: \x0bchunked\r\nContent-Length: {len(BODY)}\r\n", BODY)
smuggled("te-folded", "chunked in a folded line", f"Transfer-Encoding:\r\n chunked\r\nContent-Length: {len(BODY)}\r\n", BODY)
smuggled("bare-lf", "lines that end in a bare line feed", f"X: y\nTransfer-Encoding: chunked\r\nContent-Length: {len(BODY)}\r\n", BODY)
smuggled("bare-cr", "a bare carriage return", f"X: y\rTransfer-Encoding: chunked\r\nContent-Length: {len(BODY)}\r\n", BODY)
smuggled("chunk-size", "a chunk size that wraps around", "Transfer-Encoding: chunked\r\n", f"10000000000000000\r\n{HIDDEN}0\r\n\r\n")
smuggled("chunk-sign", "a chunk size with a sign", "Transfer-Encoding: chunked\r\n", f"-1\r\n{HIDDEN}\r\n0\r\n\r\n")
smuggled("chunk-lf", "a bare line feed behind a chunk size", "Transfer-Encoding: chunked\r\n",
         f"2\nxx\r\n{len(HIDDEN):x}\r\n{HIDDEN}\r\n0\r\n\r\n")
refused("smuggle-old", "request smuggling: chunked in HTTP/1.0",
        f"POST /smuggle HTTP/1.0\r\nHost: @\r\nTransfer-Encoding: chunked\r\nContent-Length: {len(BODY)}\r\n\r\n" + BODY)
refused("connection-cl", "Connection takes the length away",
        "POST /smuggle HTTP/1.1\r\nHost: @\r\nConnection: content-length\r\n"
        f"Content-Length: {len(HIDDEN)}\r\n\r\n" + HIDDEN, recorded=False)
refused("trailer", "a Host in the trailer of a chunked body",
        POST + "Transfer-Encoding: chunked\r\nTrailer: Host\r\n\r\n0\r\nHost: forbidden.evil.test\r\n\r\n", recorded=False)
refused("split-target", "line ends in the target", f"GET /x\r\nHost: neighbour.lab.test\r\nX: /{MARK} HTTP/1.1\r\nHost: @\r\n\r\n")
refused("split-header", "line ends in a header's value, encoded and bare",
        f"GET /x HTTP/1.1\r\nHost: @\r\nX: a\r\n\r\nGET /{MARK} HTTP/1.1\r\nHost: neighbour.lab.test\r\n\r\n")
refused("nul-header", "NUL in a header", GET + "Host: @\r\nX: a\0b\r\n\r\n")
refused("upgrade-h2c", "an upgrade to HTTP/2, then another host in it",
        "GET /upgrade HTTP/1.1\r\nHost: @\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
        then=HIDDEN)
refused("upgrade-none", "a WebSocket that the server did not agree to, then another host's request",
        "GET /plain HTTP/1.1\r\nHost: @\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", then=HIDDEN)
refused("long-head", "a head without end", GET.encode() + b"Host: @\r\nX: " + b"a" * 200_000)
refused("many-headers", "ten thousand header lines", GET.encode() + b"Host: @\r\n" + b"X: y\r\n" * 10_000 + b"\r\n")
refused("expect", "an expectation that nobody knows", POST + f"Expect: {MARK}\r\nContent-Length: 0\r\n\r\n")


# --- secrets

@vector("secret-elsewhere", "a secret's stand-in, sent to another host that is allowed")
def secret_elsewhere(guest):
    for header in ("Authorization: Bearer ", "X-Key: "):
        request = f"GET /echo HTTP/1.1\r\nHost: {places.API}\r\n{header}{guest.placeholder}\r\n\r\n".encode()
        guest.exchange(places.API, 80, request)
        guest.https(places.API, request)


@vector("secret-clear", "a secret, asked for in clear", {"kind": "connection", "name": places.KEYED, "port": 80})
def secret_clear(guest):
    guest.exchange(places.KEYED, 80, f"GET /echo HTTP/1.1\r\nHost: {places.KEYED}\r\n\r\n".encode())


def reflected(name: str, what: str, path: str, extra: str = "", then: str = "") -> None:
    @vector(f"secret-{name}", f"a secret, shown by its own server: {what}")
    def attempt(guest):
        data = f"GET {path} HTTP/1.1\r\nHost: {places.KEYED}\r\n{extra}\r\n".encode()
        if b"200" not in guest.https(places.KEYED, data)[:40]:
            raise OSError(f"no answer: {guest.saw[:120]!r}")


reflected("body", "in the body", "/echo")
reflected("header", "in a header", "/reflect-header")
reflected("pieces", "in chunks of one byte each", "/reflect-chunks")
reflected("location", "where it redirects to", "/reflect-body")
reflected("gzip", "compressed", "/reflect-gzip", "Accept-Encoding: gzip, deflate, br\r\n")
reflected("range", "in parts", "/reflect-range", "Range: bytes=20-40\r\n")
reflected("many", "a thousand times over", "/reflect-many")


@vector("secret-own-key", "the agent's own key in place of the secret, in every spelling")
def own_key(guest):
    lines = "".join(f"{name}: Bearer {MARK}-own-key\r\n" for name in ("Authorization", "authorization", "AUTHORIZATION"))
    guest.https(places.KEYED, f"GET /echo HTTP/1.1\r\nHost: {places.KEYED}\r\n{lines}\r\n".encode())


@vector("secret-connection", "the header of the secret named in Connection, so that it is dropped")
def secret_connection(guest):
    guest.https(places.KEYED, f"GET /echo HTTP/1.1\r\nHost: {places.KEYED}\r\nConnection: Authorization\r\n\r\n".encode())


# --- too much of it. The other agent must be served as before.

@vector("flood-half-open", "3,000 connections of which none is completed", harmless=True)
def half_open(guest):
    to = guest.lookup(places.API)
    for number in range(3000):
        guest.syn(to, 80 if number % 2 else 443)


@vector("flood-connections", "as many connections as there are to be had, all silent", harmless=True)
def connections(guest):
    held = []
    try:
        for _ in range(400):
            held.append(guest.connect(guest.api_address(), 443, 0.3))
    except OSError:
        pass
    time.sleep(0.5)
    for stream in held:
        stream.close()


def drip(held, text: bytes) -> None:
    """The text on each of the connections, a byte at a time, then their end. One that is closed already stays so."""
    for byte in text:
        for stream in held:
            try:
                stream.send(bytes([byte]))
            except OSError:
                pass
    for stream in held:
        stream.close()


@vector("slow-loris", "requests that come a byte at a time", harmless=True)
def slow_loris(guest):
    held = []
    for _ in range(100):
        try:
            held.append(guest.connect(guest.api_address(), 80, 0.5))
        except OSError:
            break
    drip(held, b"GET /slow HTTP/1.1\r\n")


@vector("slow-hello", "TLS hellos that come a byte at a time", harmless=True)
def slow_hello(guest):
    held = [guest.connect(guest.api_address(), 443, 1) for _ in range(30)]
    drip(held, hello([places.API.encode()])[:40])


@vector("flood-dns", "5,000 questions at once", harmless=True)
def flood_dns(guest):
    import socket
    from guest import question
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.setblocking(False)
        for number in range(5000):
            try:
                asking.sendto(question(f"{MARK}-{number}.evil.test"), (guest.gateway, 53))
            except OSError:
                pass


@vector("flood-raw", "5,000 frames of random bytes", harmless=True)
def flood_raw(guest):
    for _ in range(5000):
        guest.frame(0x0800, os.urandom(60))
