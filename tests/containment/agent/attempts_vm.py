"""Ways out that only a virtual machine has: its vsock, and the memory that agents share."""
import json
import os
import socket
import urllib.error
import urllib.request

from guest import MARK, vector


def vsock(name: str, what: str, context: int, ports) -> None:
    @vector(f"vsock-{name}", f"vsock: {what}", vm=True)
    def attempt(guest):
        for port in ports:
            with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as stream:
                stream.settimeout(1)
                try:
                    stream.connect((context, port))
                    stream.sendall(b'{"method": "org.varlink.service.GetInfo"}\0')
                    answer = stream.recv(100)
                except OSError:
                    continue
                if answer:
                    return f"context {context} port {port} answers {answer[:40]!r}"
        return ""


vsock("services", "ports of the host on which nobody may be", 2, (1, 22, 53, 80, 111, 443, 1023, 1025, 8443, 9099, 9101, 15001))
vsock("peer", "another VM", 3, (1, 22, 1024, 8080, 9100))
vsock("others", "contexts that are nobody, everybody and the hypervisor", 4, (1024, 9100))
vsock("hypervisor", "the hypervisor", 0, (1024, 9100))


def memory(method: str, path: str, body: dict | None = None) -> bytes:
    request = urllib.request.Request(os.environ.get("NULLBOX_MEMORY_URL", "http://127.0.0.1:9100") + path, method=method,
                                     data=json.dumps(body).encode() if body else None,
                                     headers={"Content-Type": "application/json", "Accept": "application/json, text/event-stream"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        return answer.read()


@vector("memory-other", "the memory: another agent's namespace, by every way that names one", vm=True)
def memory_other(guest):
    for path in ("/v1/peers/entry", "/peers/secret", "/v1/entries?namespace=peers&key=secret"):
        try:
            if MARK.encode() in memory("GET", path):
                return f"{path} shows it"
        except (urllib.error.URLError, OSError):
            pass
    for tool, arguments in (("memory_get", {"namespace": "peers", "key": "secret"}),
                            ("memory_search", {"namespace": "peers", "query": MARK}),
                            ("memory_history", {"namespace": "peers", "key": "secret"}),
                            ("memory_put", {"namespace": "peers", "key": "secret", "value": "changed"})):
        try:
            answer = memory("POST", "/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/call",
                                             "params": {"name": tool, "arguments": arguments}})
        except (urllib.error.URLError, OSError):
            continue
        if b'"result"' in answer and b'"isError":true' not in answer.replace(b" ", b""):
            return f"{tool} answers {answer[:120]!r}"
    return ""
