"""The researcher against servers of this test: an API behind TLS that counts what it is sent, a memory that speaks the
Model Context Protocol, and ways out that are open or closed.
"""
import http.server
import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NAME = "api.example.org"


def load():
    """By its path: every agent's program is called main."""
    import importlib.util
    spec = importlib.util.spec_from_file_location("researcher_main", HERE / "main.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


researcher = load()


def serve(handle, context=None) -> tuple[http.server.ThreadingHTTPServer, int]:
    """handle(method, path, headers, body) -> (status, headers, body)"""
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, headers, data = handle(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(data))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = answer

        def log_message(self, *words):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, server.server_address[1]


class Memory:
    """memory_put, and what was put."""

    def __init__(self):
        self.kept, self.methods = {}, []
        self.server, self.port = serve(self.handle)
        self.url = f"http://127.0.0.1:{self.port}"

    def handle(self, method, path, headers, body):
        message = json.loads(body)
        self.methods.append(message["method"])
        assert (method, path) == ("POST", "/mcp") and headers["mcp-protocol-version"] == "2025-11-25"
        result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}}
        if message["method"] == "tools/call":
            given = message["params"]["arguments"]
            if given["namespace"] != "research" or "|" in given["key"]:
                result = {"content": [{"type": "text", "text": "not_found: no such namespace"}], "isError": True}
            else:
                self.kept[given["key"]] = given["value"]
                entry = {"created": True, "id": "ab" * 32, "position": 1}
                result = {"content": [{"type": "text", "text": json.dumps(entry)}], "structuredContent": entry,
                          "isError": False}
        return 200, {"Content-Type": "application/json"}, json.dumps(
            {"jsonrpc": "2.0", "id": message["id"], "result": result}).encode()


@pytest.fixture
def memory():
    made = Memory()
    yield made
    made.server.shutdown()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-keyout", key, "-out", cert, "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME},IP:127.0.0.1"],
                   check=True, capture_output=True)
    return cert, key


@pytest.fixture
def api(certificate):
    """(what it was asked, an Api of the researcher's to it)"""
    asked = []

    def handle(method, path, headers, body):
        asked.append((path, headers.get("authorization")))
        if path == "/echo":
            return 200, {"X-Seen": headers["authorization"]}, b"{}"
        if "broken" in path:
            return 200, {}, b'{"findings": 7}'
        if "forbidden" in path:
            return 403, {}, b"no"
        title = path.partition("topic=")[2]
        return 200, {}, json.dumps({"findings": [{"title": title, "value": len(title)}, {"title": "tide", "value": 2}]}).encode()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server, port = serve(handle, context)
    yield asked, researcher.Api("127.0.0.1", "stand-in", port, ssl.create_default_context(cafile=certificate[0]))
    server.shutdown()


def test_findings_go_to_the_memory_each_once(api, memory, capsys):
    asked, client = api
    assert researcher.research(["water", "hot wind"], client, researcher.Memory(memory.url)) == 3
    assert asked == [("/v1/findings?topic=water", "Bearer stand-in"), ("/v1/findings?topic=hot%20wind", "Bearer stand-in")]
    assert sorted(memory.kept) == ["findings/hot%20wind", "findings/tide", "findings/water"]
    assert memory.kept["findings/tide"]["value"] == 2
    assert memory.methods == ["initialize"] + ["tools/call"] * 3
    assert "finding tide = 2, kept as abababababab" in capsys.readouterr().out


def test_what_a_server_repeats_is_said(api):
    assert researcher.what_the_server_repeats(api[1]) == "Bearer stand-in"


@pytest.mark.parametrize("topic, message", [("broken", "no list of findings"), ("forbidden", "answers 403: no")])
def test_a_wrong_answer_is_a_problem(api, topic, message):
    with pytest.raises(researcher.Problem, match=message):
        api[1].findings(topic)


def test_a_server_that_nobody_vouches_for_is_refused(api, certificate):
    port = api[1]._connection.port
    with pytest.raises(researcher.Problem, match="certificate verify failed"):
        researcher.Api("127.0.0.1", "stand-in", port).findings("water")
    assert not api[0]


def test_the_memorys_refusal_is_a_problem(memory):
    with pytest.raises(researcher.Problem, match="does not take a|b: not_found"):
        researcher.Memory(memory.url).put("a|b", 1)
    memory.server.shutdown()
    memory.server.server_close()
    with pytest.raises(researcher.Problem, match="the memory does not answer"):
        researcher.Memory(memory.url)


def test_only_an_answer_counts_as_a_way_out():
    server, port = serve(lambda *_: (200, {}, b"hello"))
    assert researcher.talk("127.0.0.1", port).startswith("it answers 'HTTP/1.1 200")
    server.shutdown()
    refusing, port = serve(lambda *_: (403, {}, b"no"))
    with pytest.raises(OSError, match="HTTP/1.1 403"):
        researcher.talk("127.0.0.1", port)
    refusing.shutdown()
    with socket.create_server(("127.0.0.1", 0)) as closing:
        threading.Thread(target=lambda: closing.accept()[0].close(), daemon=True).start()
        with pytest.raises(OSError):
            researcher.talk("127.0.0.1", closing.getsockname()[1])


def test_a_question_to_dns_is_one(monkeypatch):
    real = socket.socket
    with real(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]

        class Redirected(real):
            def sendto(self, data, place):
                assert place == ("8.8.8.8", 53)
                return super().sendto(data, ("127.0.0.1", port))

        monkeypatch.setattr(researcher.socket, "socket", Redirected)
        monkeypatch.setattr(researcher, "ATTEMPT_S", 0.2)
        with pytest.raises(OSError):
            researcher.ask_dns("8.8.8.8", "api.example.org")
        query = server.recv(512)
    assert query[12:] == b"\x03api\x07example\x03org\0" + struct.pack("!2H", 1, 1)
    assert struct.unpack("!6H", query[:12])[2:] == (1, 0, 0, 0)


def test_the_gateway_and_the_neighbour(tmp_path):
    routes = tmp_path / "route"
    routes.write_text("Iface\tDestination\tGateway\tFlags\neth0\t0003580A\t00000000\t0001\neth0\t00000000\t0103580A\t0003\n")
    assert researcher.gateway(str(routes)) == "10.88.3.1"
    assert researcher.neighbour("10.88.3.1") == "10.88.4.2"
    routes.write_text("Iface\tDestination\tGateway\n")
    with pytest.raises(OSError, match="no default route"):
        researcher.gateway(str(routes))


def test_each_attempt_is_a_line_and_open_ones_are_counted(monkeypatch, capsys):
    monkeypatch.setattr(researcher, "ATTEMPT_S", 0.1)

    def refused():
        raise ConnectionRefusedError("nobody there")

    ways = [("a", lambda: "it answers"), ("b", refused), ("c", threading.Event().wait)]
    assert researcher.try_all(ways) == 1
    assert capsys.readouterr().out.splitlines() == ["tried a: GOT THROUGH: it answers", "tried b: refused: nobody there",
                                                    "tried c: refused: no answer"]


def test_every_way_out_of_the_manifests_words_is_tried():
    named = " ".join(what for what, _ in researcher.attempts("api.lab.test", "other.lab.test"))
    for word in ("other.lab.test", "without a name", "8.8.8.8", "169.254.169.254", "host's", "another agent"):
        assert word in named


@pytest.mark.parametrize("content, message", [(None, "cannot read the topics"), ("# none\n\n", "names no topic")])
def test_bad_input_is_one_line_and_an_exit_code(tmp_path, content, message):
    topics = tmp_path / "topics"
    if content is not None:
        topics.write_text(content)
    environment = {"API_HOST": NAME, "OTHER_HOST": "x", "DEMO_KEY": "k", "NULLBOX_MEMORY_URL": "http://127.0.0.1:9"}
    done = subprocess.run([sys.executable, HERE / "main.py", topics], capture_output=True, text=True, env=os.environ | environment)
    assert done.returncode == 1 and message in done.stderr and done.stderr.count("\n") == 1


def test_a_missing_variable_is_said():
    done = subprocess.run([sys.executable, HERE / "main.py", HERE / "data/topics.txt"], capture_output=True, text=True, env={})
    assert done.returncode == 2 and "must be set" in done.stderr
