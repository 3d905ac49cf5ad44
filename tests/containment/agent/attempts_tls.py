"""Ways out through TLS: hellos that say one thing to us and another to the server."""
import os
import ssl
import struct

import places
from guest import MARK, hello, vector

API = places.API.encode()
DENIED = {"kind": "connection", "name": places.API, "port": 443}


def refused(name: str, what: str, host: str = places.API, port: int = 443, recorded: bool = True, **shape) -> None:
    record = {"kind": "connection", "name": host, "port": port} if recorded else None

    @vector(f"tls-{name}", f"TLS: {what}", record)
    def attempt(guest):
        data = hello(**shape)
        answer = guest.exchange(host, port, data)
        return "the server answers with its hello" if answer[:1] == b"\x16" else ""


refused("sni-neighbour", "the name of another host at the same address, with the same certificate",
        server_names=[places.NEIGHBOUR.encode()])
refused("sni-evil", "another host's name", server_names=[f"{MARK}.{places.EVIL}".encode()])
refused("sni-other-allowed", "the name of another host that is allowed", server_names=[b"old.lab.test"])
refused("sni-none", "no name", server_names=None)
refused("sni-empty", "an empty name", server_names=[b""])
refused("sni-nul", "NUL and more behind the name", server_names=[API + b"\0.evil.test"])
refused("sni-prefix", "more before the name", server_names=[b"forbidden." + API])
refused("sni-suffix", "more behind the name", server_names=[API + b".evil.test"])
refused("sni-address", "an address as the name", server_names=[places.EVIL_ADDRESS.encode()])
refused("sni-unicode", "a name that looks the same", server_names=["аpi.lab.test".encode()])
refused("sni-punycode", "the same in punycode", server_names=[b"xn--pi-7ja.lab.test"])
refused("sni-blank", "a blank behind the name", server_names=[API + b" "])
refused("sni-two-dots", "two dots at the end", server_names=[API + b".."])
refused("sni-twice", "two names, the second another's", server_names=[API, b"neighbour.lab.test"])
refused("sni-two-in-one", "two names in one list", server_names=None, extensions=[
    (0, struct.pack("!HBH", 3 + len(API) + 3 + 14, 0, len(API)) + API + struct.pack("!BH", 0, 14) + b"forbidden.test")])
refused("sni-type", "a name of an unknown type", server_names=None, extensions=[
    (0, struct.pack("!HBH", 3 + len(API), 1, len(API)) + API)])
refused("sni-in-pieces", "another's name, over many records", server_names=[b"neighbour.lab.test"], records=20)
refused("ech", "Encrypted Client Hello", server_names=[API], extensions=[
    (0xFE0D, b"\0\0\1\0\1\7" + struct.pack("!H", 32) + os.urandom(32) + struct.pack("!H", 64) + os.urandom(64))])
refused("ech-drafts", "Encrypted Client Hello, an earlier draft", server_names=[API], extensions=[(0xFE0A, os.urandom(80))])
refused("esni", "encrypted SNI, its predecessor", server_names=[API], extensions=[(0xFFCE, os.urandom(80))])
refused("second-message", "a second message behind the hello", server_names=[API], trailing=b"\x01\0\0\x04abcd")
refused("keyed-sni-neighbour", "another's name where a secret goes", host=places.KEYED,
        server_names=[places.NEIGHBOUR.encode()])
refused("keyed-ech", "Encrypted Client Hello where a secret goes", host=places.KEYED, server_names=[b"keyed.lab.test"],
        extensions=[(0xFE0D, os.urandom(80))])
refused("relay-sni", "another's name on a port of its own", host=places.TCP, port=places.TCP_PORT,
        server_names=[b"forbidden.evil.test"])


def bytes_to(name: str, what: str, port: int, data: bytes, record: dict | None = None) -> None:
    @vector(f"tls-{name}", f"TLS: {what}", record)
    def attempt(guest):
        guest.exchange(places.API, port, data)


bytes_to("ssh-on-443", "another protocol on its port", 443, b"SSH-2.0-" + MARK.encode() + b"\r\n", DENIED)
bytes_to("http-on-443", "plain HTTP on its port", 443, f"GET /{MARK} HTTP/1.1\r\nHost: {places.API}\r\n\r\n".encode(), DENIED)
bytes_to("sslv2", "a hello of SSL 2", 443, b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + MARK.encode() * 4, DENIED)
bytes_to("on-80", "on the port of plain HTTP", 80, hello([b"forbidden.evil.test"]), {"kind": "request", "name": places.API})
bytes_to("alert-first", "an alert as the first record", 443, b"\x15\x03\x03\0\2\2\0" + MARK.encode(), DENIED)
bytes_to("empty-record", "empty records before the hello", 443, b"\x16\x03\x01\0\0" * 3 + hello([b"forbidden.test"]), DENIED)
bytes_to("oversize", "a hello that does not end", 443, (b"\x16\x03\x01\x40\x00\x01\x03\xff\xff" + MARK.encode() * 1820) * 5, DENIED)


@vector("tls-renegotiate", "TLS: another name in a second handshake of the same connection (TLS 1.2)")
def renegotiate(guest):
    stream = guest.connect(places.KEYED, 443)
    context = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with context.wrap_socket(stream, server_hostname=places.KEYED) as secured:
        guest.talk(secured, hello([places.NEIGHBOUR.encode()]), 1)


@vector("tls-keyed-other-name", "TLS: the connection for a secret's host is the neighbour's by its certificate")
def keyed_other(guest):
    try:
        with guest.connect(places.KEYED, 443) as stream, guest.tls(stream, places.NEIGHBOUR) as secured:
            guest.talk(secured, f"GET /{MARK} HTTP/1.1\r\nHost: {places.NEIGHBOUR}\r\n\r\n".encode(), 2)
            return "the handshake succeeds"
    except ssl.SSLError:
        return ""
