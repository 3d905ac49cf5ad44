"""What must work through all of this: people's programs, unchanged."""
import base64
import gzip
import hashlib
import http.client
import json
import os
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time
from pathlib import Path

import places
from guest import question, use

PROGRAM_LIMIT_S = float(os.environ.get("PROGRAM_LIMIT_S", "60"))
MB = 1 << 20


def need(condition, why: str) -> None:
    if not condition:
        raise AssertionError(why)


def program(*words: str, folder: str | None = None, **environment) -> bytes:
    return subprocess.run(words, check=True, capture_output=True, timeout=PROGRAM_LIMIT_S, cwd=folder,
                          env=os.environ | environment).stdout


def scratch(name: str) -> Path:
    folder = Path(f"/tmp/use-{os.getpid()}-{name}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def tls(newest=None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE"))
    if newest:
        context.maximum_version = newest
    return context


def https(host: str, newest=None, limit_s: float = 30) -> http.client.HTTPSConnection:
    return http.client.HTTPSConnection(host, timeout=limit_s, context=tls(newest))


def get(connection, path: str, method: str = "GET", body=None, headers=None) -> tuple[int, bytes]:
    connection.request(method, path, body=body, headers=headers or {})
    answer = connection.getresponse()
    return answer.status, answer.read()


def pattern(size: int) -> bytes:
    block = hashlib.sha256(b"nullbox").digest()
    return b"".join(struct.pack("!I", number) + block for number in range(size // 36 + 1))[:size]


# --- names

@use("dns", "names by UDP and TCP, in any case, with a dot at the end")
def dns(guest):
    first = guest.lookup(places.API)
    need(first and guest.lookup("API.Lab.TEST.") == first, "the same name has two addresses")
    need(socket.inet_ntoa(guest.ask_tcp(question(places.API))[-4:]) == first, "TCP answers differently")
    need(socket.gethostbyname(places.API) == first, "the libraries' resolver answers differently")


@use("http", "plain HTTP")
def http_plain(guest):
    need(get(http.client.HTTPConnection(places.API, timeout=20), "/hello")[1] == b"GET /hello at api.lab.test", "another answer")


@use("http-1.0", "HTTP/1.0")
def http_old(guest):
    answer = guest.exchange(places.API, 80, b"GET /old HTTP/1.0\r\nHost: api.lab.test\r\n\r\n")
    need(b"GET /old" in answer, f"it answers {answer[:80]!r}")


@use("https-1.3", "HTTPS, TLS 1.3")
def https_13(guest):
    connection = https(places.API)
    need(get(connection, "/x")[0] == 200, "no answer")
    connection = https(places.API)
    connection.connect()
    need(connection.sock.version() == "TLSv1.3", f"it is {connection.sock.version()}")


@use("https-1.2", "HTTPS, TLS 1.2, with a server that has nothing newer")
def https_12(guest):
    connection = https(places.OLD)
    connection.connect()
    need(connection.sock.version() == "TLSv1.2" and get(connection, "/x")[0] == 200, "no answer by TLS 1.2")


@use("terminated-1.3", "HTTPS where a secret goes, TLS 1.3")
def terminated(guest):
    need(get(https(places.KEYED), "/x", headers={"Authorization": f"Bearer {guest.placeholder}"})[0] == 200, "no answer")


@use("terminated-1.2", "HTTPS where a secret goes, TLS 1.2")
def terminated_12(guest):
    need(get(https(places.KEYED, ssl.TLSVersion.TLSv1_2), "/x")[0] == 200, "no answer")


@use("rules", "requests that a rule covers, on a kept connection, in TLS and in clear")
def ruled(_):
    for connection in (https(places.RULED), http.client.HTTPConnection(places.RULED, timeout=30)):
        for path, method in (("/asked?of=../x", "GET"), ("/asked", "HEAD"), ("/open/%61/b%20c", "GET"), ("/open/", "GET")):
            status, _body = get(connection, path, method)
            need(status == 200, f"{method} {path}: {status}")


@use("resumption", "TLS sessions that are taken up again")
def resumption(guest):
    context = tls(ssl.TLSVersion.TLSv1_2)
    with context.wrap_socket(guest.connect(places.OLD, 443), server_hostname=places.OLD) as first:
        session = first.session
    with context.wrap_socket(guest.connect(places.OLD, 443), server_hostname=places.OLD, session=session) as second:
        need(second.session_reused, "it begins anew")


# --- requests

def kept(host: str):
    def body(guest):
        connection = http.client.HTTPConnection(host, timeout=20) if host == places.API else https(host)
        for number in range(20):
            need(get(connection, f"/kept-{number}")[0] == 200, f"request {number} is not answered")
    return body


use("keep-alive", "many requests on one connection")(kept(places.API))
use("keep-alive-terminated", "the same where a secret goes")(kept(places.KEYED))


@use("methods", "HEAD, OPTIONS, PUT, PATCH, DELETE")
def methods(guest):
    connection = https(places.KEYED)
    for method in ("HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"):
        status, body = get(connection, "/echo", method, body=b"x" if method in ("PUT", "PATCH") else None)
        need(status == 200 and (not body if method == "HEAD" else json.loads(body)["method"] == method), f"{method}: {status}")


@use("continue", "Expect: 100-continue")
def expect_continue(guest):
    with guest.connect(places.API, 80) as stream:
        stream.sendall(b"POST /upload HTTP/1.1\r\nHost: api.lab.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        need(stream.recv(1000).startswith(b"HTTP/1.1 100"), "no 100 comes")
        need(b"200 OK" in guest.talk(stream, b"hello", 10), "no answer comes")


@use("absolute", "an absolute URI of the host itself, as clients of proxies send")
def absolute(guest):
    answer = guest.exchange(places.API, 80, b"GET http://api.lab.test/abs HTTP/1.1\r\nHost: api.lab.test\r\n\r\n")
    need(b"GET /abs at" in answer, f"it answers {answer[:80]!r}")


@use("pipelining", "requests that do not wait for answers")
def pipelining(guest):
    one = b"GET /pipe HTTP/1.1\r\nHost: api.lab.test\r\n\r\n"
    with guest.connect(places.API, 80) as stream:
        stream.sendall(one * 3)
        answer = b""
        while answer.count(b"GET /pipe at") < 3:
            need(more := stream.recv(65536), "it ends early")
            answer += more


@use("chunked", "an answer in chunks")
def chunked(guest):
    need(get(https(places.KEYED), "/chunked")[1].count(b"piece") == 100, "pieces are missing")


@use("events", "an answer that comes bit by bit (server-sent events), as it is sent")
def events(guest):
    for connection in (http.client.HTTPConnection(places.API, timeout=20), https(places.KEYED)):
        connection.request("GET", "/events")
        answer, times = connection.getresponse(), []
        while answer.readline():
            times.append(time.monotonic())
        need(times[-1] - times[0] > 0.5, f"all of it comes at once, in {times[-1] - times[0]:.2f} s")


@use("gzip", "a compressed answer")
def compressed(guest):
    need(gzip.decompress(get(https(places.API), "/gzip")[1]).startswith(b"small"), "it is damaged")


def download(host: str, size: int):
    def body(guest):
        need(get(https(host, limit_s=120), f"/big?{size}")[1] == pattern(size), "it is damaged")
        return f"{size / 1e6:.0f} MB"
    return body


use("download", "a large download")(download(places.API, 8 * MB))
use("download-terminated", "a large download where a secret goes")(download(places.KEYED, 4 * MB))


def upload(host: str, size: int, in_chunks: bool):
    def body(guest):
        data = pattern(size)
        sent = (data[at:at + 50_000] for at in range(0, size, 50_000)) if in_chunks else data
        answer = get(https(host, limit_s=120), "/upload", "POST", body=sent)[1]
        need(answer == f"{size} {hashlib.sha256(data).hexdigest()}".encode(), f"the server got {answer!r}")
    return body


use("upload", "a large upload")(upload(places.API, 8 * MB, False))
use("upload-terminated", "a large upload in chunks where a secret goes")(upload(places.KEYED, 4 * MB, True))


@use("parallel", "20 requests at the same time")
def parallel(guest):
    done: list[int] = []
    threads = [threading.Thread(target=lambda: done.append(get(https(places.API), "/parallel")[0])) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    need(done == [200] * 20, f"{done.count(200)} are answered")


def websocket(host: str, secure: bool):
    def body(guest):
        stream = guest.connect(host, 443 if secure else 80)
        if secure:
            stream = tls().wrap_socket(stream, server_hostname=host)
        key = base64.b64encode(os.urandom(16))
        stream.sendall(b"GET /ws HTTP/1.1\r\nHost: " + host.encode() + b"\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
                       b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + b"\r\n\r\n")
        answer = stream.recv(4096)
        need(answer.startswith(b"HTTP/1.1 101"), f"it answers {answer[:60]!r}")
        for number in range(5):
            stream.sendall(b"\x81\x85\0\0\0\0" + b"hi %02d" % number)
            need(stream.recv(100)[-5:] == b"hi %02d" % number, "no echo")
        stream.close()
    return body


use("websocket", "WebSocket in clear")(websocket(places.API, False))
use("websocket-tls", "WebSocket over TLS")(websocket(places.API, True))
use("websocket-terminated", "WebSocket where a secret goes")(websocket(places.KEYED, True))


@use("rate", "requests a second, for the record", vm=True)
def rate(_):
    def per_second(once, time_s: float = 3) -> float:
        begin, count = time.monotonic(), 0
        while (spent := time.monotonic() - begin) < time_s:
            need(once()[0] == 200, "a request is not answered")
            count += 1
        return count / spent

    rates = []
    for how, host in (("spliced", places.API), ("terminated", places.KEYED)):
        connection = https(host)
        get(connection, "/x")
        rates.append(f"{how} {per_second(lambda: get(connection, '/x')):.0f} on a kept connection, "
                     f"{per_second(lambda: get(https(host), '/x')):.1f} on new ones")
    return "; ".join(rates)


# --- other destinations

@use("tcp", "any protocol to a name and its port")
def tcp(guest):
    need(guest.exchange(places.TCP, places.TCP_PORT, b"hello\n", limit_s=1) == b"hello\n", "no echo")


@use("literal", "an address and its port")
def literal(guest):
    need(guest.exchange(places.LITERAL, places.LITERAL_PORT, b"hello\n", limit_s=1) == b"hello\n", "no echo")


@use("private", "a host of the LAN that the manifest opens")
def private(guest):
    need(b"200 OK" in guest.exchange(places.NAS, 80, b"GET / HTTP/1.1\r\nHost: nas.lab.test\r\n\r\n"), "no answer")


@use("wildcard", "a name below an allowed suffix")
def wildcard(guest):
    need(get(https(f"one.{places.WILD}"), "/x")[0] == 200, "no answer")


# --- programs

@use("curl", "curl, which follows a redirect", vm=True)
def curl(guest):
    for url in (f"https://{places.API}/redirect", f"http://{places.API}/redirect", f"https://{places.KEYED}/landed"):
        need(b"/landed" in program("curl", "-sSfL", "--max-time", "30", url), "another answer")


@use("requests", "Python's requests", vm=True)
def requests_(guest):
    text = f"import requests\nprint(requests.get('https://{places.API}/gzip').text[:5], requests.post('https://{places.KEYED}/echo', json=dict(a=1)).json()['body'])"
    out = program("python3", "-c", text)
    need(b"small" in out and b'"a": 1' in out, f"it prints {out!r}")


@use("websockets", "Python's websockets", vm=True)
def websockets_(guest):
    text = (f"import asyncio, websockets\nasync def main():\n async with websockets.connect('wss://{places.API}/ws') as ws:\n"
            "  await ws.send('hello'); print(await ws.recv())\nasyncio.run(main())")
    need(b"hello" in program("python3", "-c", text), "no echo")


@use("pip", "pip installs a package from an index", vm=True)
def pip(guest):
    folder = scratch("pip")
    program("python3", "-m", "pip", "install", "--no-cache-dir", "--disable-pip-version-check", "--no-deps", "--target",
            str(folder), "--index-url", f"https://{places.API}/simple/", "tinylab")
    need("works" in (folder / "tinylab.py").read_text(), "the package is not there")


@use("node", "Node's fetch", vm=True)
def node(guest):
    text = (f"Promise.all(['https://{places.API}/x', 'https://{places.KEYED}/x'].map(u => fetch(u).then(r => r.text())))"
            ".then(t => console.log(t.join(' | ')), e => { console.log(e, e.cause); process.exit(1) })")
    out = program("node", "-e", text)
    need(b"at api.lab.test" in out and b"at keyed.lab.test" in out, f"it prints {out!r}")


@use("npm", "npm installs a package from a registry", vm=True)
def npm(guest):
    folder = scratch("npm")
    (folder / "package.json").write_text('{"name": "x", "version": "1.0.0"}')
    program("npm", "install", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel", "error", "--registry",
            f"https://{places.API}/npm/", "tinylab", folder=str(folder), HOME=str(folder))
    need((folder / "node_modules/tinylab/index.js").exists(), "the package is not there")


@use("git-https", "git clones over HTTPS", vm=True)
def git_https(guest):
    folder = scratch("git")
    program("git", "clone", "-q", f"https://{places.API}/repo.git", str(folder / "repo"))
    need((folder / "repo/README").read_text() == "the lab's repository\n", "the file is not there")


@use("git-ssh", "git clones and pushes over SSH", vm=True)
def git_ssh(guest):
    folder = scratch("ssh")
    key = folder / "key"
    key.write_bytes(Path(os.environ.get("SSH_KEY", Path(__file__).parent / "ssh_key")).read_bytes())
    key.chmod(0o600)
    ssh = f"ssh -i {key} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes -o LogLevel=ERROR"
    who = {"GIT_SSH_COMMAND": ssh, "HOME": str(folder)}
    for role in ("AUTHOR", "COMMITTER"):
        who |= {f"GIT_{role}_NAME": "agent", f"GIT_{role}_EMAIL": "agent@lab.test"}
    program("git", "clone", "-q", f"ssh://root@{places.API}/pushed.git", str(folder / "repo"), **who)
    (folder / "repo/new").write_text("from the agent\n")
    for words in (("add", "new"), ("commit", "-q", "-m", "new"), ("push", "-q", "origin", "HEAD:main")):
        program("git", *words, folder=str(folder / "repo"), **who)
