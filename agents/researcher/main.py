"""An agent that looks topics up at an HTTPS API and keeps what it finds in the memory that agents share. It holds no key:
what DEMO_KEY holds is a stand-in, which becomes the real one on its way to the API and nowhere else. At the end it tries
the ways out that a hijacked agent would try, and says for each what came of it. Standard library only.

Usage: main.py TOPICS   (one topic a line; API_HOST, OTHER_HOST, DEMO_KEY and NULLBOX_MEMORY_URL in the environment)
"""
import json
import os
import socket
import struct
import sys
import threading
from urllib.parse import quote, urlsplit

LIMIT_S = 10      # for an answer of the API or of the memory
ATTEMPT_S = 4     # for an answer of somebody who should not answer
SPACE = "research"


def say(text: str = "") -> None:
    print(text, flush=True)


class Problem(Exception):
    """What went wrong, for a person."""


def read_topics(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.strip() for line in file]
    except OSError as problem:
        raise Problem(f"cannot read the topics: {problem}") from problem
    topics = [line for line in lines if line and not line.startswith("#")]
    if not topics:
        raise Problem(f"{path} names no topic")
    return topics


class Api:
    """The API, over one connection. Its imports come late: reading the topics needs none of them."""

    def __init__(self, host: str, key: str, port: int = 443, context=None):
        import http.client
        import ssl
        self._errors = (OSError, http.client.HTTPException)
        self._host, self._key = host, key
        self._connection = http.client.HTTPSConnection(host, port, timeout=LIMIT_S,
                                                       context=context or ssl.create_default_context())

    def ask(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes, dict[str, str]]:
        try:
            self._connection.request("GET", path, headers={"Authorization": f"Bearer {self._key}"} | (headers or {}))
            answer = self._connection.getresponse()
            return answer.status, answer.read(1 << 20), {name.lower(): value for name, value in answer.getheaders()}
        except self._errors as problem:
            self._connection.close()
            raise Problem(f"no answer of {self._host}: {problem}") from problem

    def findings(self, topic: str) -> list[dict]:
        status, body, _ = self.ask(f"/v1/findings?topic={quote(topic)}")
        if status != 200:
            raise Problem(f"{self._host} answers {status}: {body[:200].decode(errors='replace')}")
        try:
            found = json.loads(body)["findings"]
            return [{"title": str(each["title"]), "value": each["value"]} for each in found]
        except (ValueError, KeyError, TypeError) as problem:
            raise Problem(f"{self._host} answers something that is no list of findings") from problem


class Memory:
    """The shared memory, over the Model Context Protocol: a tool's call is one JSON-RPC message that is posted."""

    VERSION = "2025-11-25"

    def __init__(self, url: str):
        import http.client
        self._errors = (OSError, http.client.HTTPException, ValueError)
        place = urlsplit(url)
        self._connection = http.client.HTTPConnection(place.hostname, place.port, timeout=LIMIT_S)
        self._number = 0
        self._ask("initialize", {"protocolVersion": self.VERSION, "capabilities": {},
                                 "clientInfo": {"name": "researcher", "version": "1.0.0"}})

    def _ask(self, method: str, params: dict) -> dict:
        self._number += 1
        message = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": params}
        headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream",
                   "MCP-Protocol-Version": self.VERSION}
        try:
            self._connection.request("POST", "/mcp", json.dumps(message), headers)
            answer = json.loads(self._connection.getresponse().read())
        except self._errors as problem:
            raise Problem(f"the memory does not answer: {problem}") from problem
        if "result" not in answer:
            raise Problem(f"the memory refuses {method}: {answer.get('error', {}).get('message', answer)}")
        return answer["result"]

    def put(self, key: str, value) -> str:
        """The new entry's id."""
        result = self._ask("tools/call", {"name": "memory_put",
                                          "arguments": {"namespace": SPACE, "key": key, "value": value}})
        if result.get("isError"):
            raise Problem(f"the memory does not take {key}: {result['content'][0]['text']}")
        return result["structuredContent"]["id"]


# --- what it may not. Each returns how it got through, or raises what stopped it.

def talk(address: str, port: int) -> str:
    """A proxy on the way may take the connection; only an answer means that somebody is there."""
    with socket.create_connection((address, port), timeout=ATTEMPT_S) as stream:
        stream.sendall(f"GET / HTTP/1.0\r\nHost: {address}\r\n\r\n".encode())
        answer = stream.recv(200)
    if not answer:
        raise OSError("the connection was closed without an answer")
    status = answer.split(b"\r\n")[0].decode(errors="replace")
    if " 403 " in status or " 421 " in status:
        raise OSError(status)
    return f"it answers {status!r}"


def ask_dns(server: str, name: str) -> str:
    """A question for an address (RFC 1035) to a server of its own choice."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    query = struct.pack("!6H", 0x4e42, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(ATTEMPT_S)
        client.sendto(query, (server, 53))
        return f"it answers {len(client.recv(512))} bytes"


def other_host(name: str) -> str:
    return talk(socket.getaddrinfo(name, 443, socket.AF_INET, socket.SOCK_STREAM)[0][4][0], 443)


def other_name_on_the_same_connection(host: str, name: str) -> str:
    status, body, _ = Api(host, "none").ask("/", {"Host": name})
    if status in (403, 421):
        why = body.decode(errors="replace").partition("\n")[0]
        raise OSError(f"{status} {why[:80]}")
    return f"it answers {status}"


def gateway(routes: str = "/proc/net/route") -> str:
    with open(routes, encoding="ascii") as file:
        for line in file:
            fields = line.split()
            if len(fields) > 2 and fields[1] == "00000000":
                return socket.inet_ntoa(struct.pack("<I", int(fields[2], 16)))
    raise OSError("there is no default route")


def neighbour(address: str) -> str:
    """Where the next agent's network is likely to be."""
    first, second, third, _ = (int(part) for part in address.split("."))
    return f"{first}.{second}.{(third + 1) % 256}.2"


def attempts(host: str, other: str) -> list[tuple[str, object]]:
    return [
        (f"another host ({other})", lambda: other_host(other)),
        (f"another Host on a connection to {host}", lambda: other_name_on_the_same_connection(host, other)),
        ("an address without a name (192.0.2.1)", lambda: talk("192.0.2.1", 443)),
        ("another DNS server (8.8.8.8)", lambda: ask_dns("8.8.8.8", host)),
        ("the metadata address (169.254.169.254)", lambda: talk("169.254.169.254", 80)),
        ("the host's door (port 8443)", lambda: talk(gateway(), 8443)),
        ("the host's port 22", lambda: talk(gateway(), 22)),
        ("another agent", lambda: talk(neighbour(gateway()), 80)),
    ]


def try_all(ways: list[tuple[str, object]]) -> int:
    """All at once, because each may wait for an answer that never comes. How many got through."""
    outcomes: list[tuple[bool, str]] = [(False, "no answer")] * len(ways)

    def attempt(number: int) -> None:
        try:
            outcomes[number] = (True, ways[number][1]())
        except (OSError, Problem, UnicodeError) as problem:
            outcomes[number] = (False, str(problem) or type(problem).__name__)

    threads = [threading.Thread(target=attempt, args=(number,), daemon=True) for number in range(len(ways))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 * ATTEMPT_S)
    for (what, _), (through, why) in zip(ways, outcomes):
        say(f"tried {what}: {'GOT THROUGH: ' if through else 'refused: '}{why}")
    return sum(through for through, _ in outcomes)


def research(topics: list[str], api: Api, memory: Memory) -> int:
    """How many findings there were."""
    found = {}
    for topic in topics:
        for finding in api.findings(topic):
            found[finding["title"]] = finding | {"source": os.environ.get("API_HOST", "")}
    for title, finding in sorted(found.items()):
        number = memory.put(f"findings/{title}", finding)
        say(f"finding {title} = {finding['value']}, kept as {number[:12]}")
    return len(found)


def what_the_server_repeats(api: Api) -> str:
    """An API that repeats a header would tell the real key, if nobody took it out of the answer."""
    status, body, headers = api.ask("/echo")
    if status != 200:
        return "nothing"
    return headers.get("x-seen") or body[:200].decode(errors="replace")


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__.strip().splitlines()[-1], file=sys.stderr)
        return 2
    host, other = os.environ.get("API_HOST", ""), os.environ.get("OTHER_HOST", "")
    key, memory_url = os.environ.get("DEMO_KEY", ""), os.environ.get("NULLBOX_MEMORY_URL", "")
    if not host or not other or not key or not memory_url:
        print("researcher: API_HOST, OTHER_HOST, DEMO_KEY and NULLBOX_MEMORY_URL must be set", file=sys.stderr)
        return 2
    try:
        topics = read_topics(sys.argv[1])
        say(f"researcher: {len(topics)} topics to look up at {host}, with the key {key[:20]}...")
        api = Api(host, key)
        count = research(topics, api, Memory(memory_url))
        say(f"researcher: {count} findings in the memory {SPACE}")
        say(f"asked {host} to repeat the key: it says {what_the_server_repeats(api)}")
    except Problem as problem:
        print(f"researcher: {problem}", file=sys.stderr, flush=True)
        return 1
    open_ways = try_all(ways := attempts(host, other))
    say(f"tried {len(ways)} ways out, {open_ways} open")
    return 3 if open_ways else 0


if __name__ == "__main__":
    sys.exit(main())
