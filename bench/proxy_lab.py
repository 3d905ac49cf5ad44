"""The proxy benches' network, alone in its namespace: an origin, egress's proxy and HAProxy in front of it, and a load
that goes through one and then the other. bench/proxy.py runs it; it prints what each turn gave, as one JSON object.

All of it is on loopback. Both proxies have one thread, on one and the same core; origin, load and warden are on the
others. What can be equal is equal: OpenSSL 3.0, P-256 keys, no session tickets, the same checks of server names, the
origin's certificate verified. HAProxy writes no log, egress writes its records, as it always does.
"""
import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests/lab")]
import network  # noqa: E402
import servers  # noqa: E402
import share  # noqa: E402
from observed import image  # noqa: E402
from timed import qemu  # noqa: E402
from wardens import Warden  # noqa: E402

PLAIN, KEYED = "plain.example.org", "keyed.example.org"
ORIGIN, ORIGIN_PORT = "11.22.33.44", 8443
AGENTS_NETWORK, GUEST, GATEWAY = "198.18.0.0/15", "198.18.0.2", "198.18.0.1"
PEER, PEER_PLAIN, PEER_KEYED = "198.18.0.3", 8001, 8002  # no address that egress gives out
SECRET = "sk-bench-5f1d9c2e7a"
PROXIES = ("egress", "haproxy")
REQUESTS_AT_A_TIME, CONNECTIONS_AT_A_TIME, MANY = 32, 16, 1000
MANY_ENTRIES = 100_000
TURN_MS = 1500
PERCENT_OF_A_CORE = {"requests": 25, "connections": 8}  # so little that the load is never the slower end
START_LIMIT_S = 10

HAPROXY = f"""\
global
    nbthread 1
    maxconn 2000
    ssl-default-bind-options no-tls-tickets
    tune.ssl.cachesize 0
defaults
    timeout connect 5s
    timeout client 600s
    timeout server 600s
frontend plain
    mode tcp
    bind {PEER}:{PEER_PLAIN}
    tcp-request inspect-delay 30s
    tcp-request content reject if {{ req.ssl_hello_type 1 }} !{{ req.ssl_sni -i {PLAIN} }}
    tcp-request content accept if {{ req.ssl_hello_type 1 }}
    default_backend plain
backend plain
    mode tcp
    server origin {ORIGIN}:{ORIGIN_PORT}
frontend keyed
    mode http
    bind {PEER}:{PEER_KEYED} ssl crt @folder@/peer.pem alpn http/1.1
    http-request deny unless {{ req.hdr(host) -i {KEYED} }}
    http-request set-header Authorization "Bearer {SECRET}"
    default_backend keyed
backend keyed
    mode http
    server origin {ORIGIN}:{ORIGIN_PORT} ssl verify required ca-file @folder@/root.pem sni str({KEYED}) no-ssl-reuse
"""


def cores() -> tuple[str, str, str]:
    """For the proxies, the load, the origin."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise qemu.MachineError("a proxy and its load need two cores")
    return str(usable[0]), str(usable[1]), str(usable[2] if len(usable) > 2 else usable[1])


def ends_with_us() -> None:
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def start(core: str, *words, **more) -> subprocess.Popen:
    """taskset becomes the program, so the process is the program's own."""
    return subprocess.Popen(["taskset", "-c", core, *map(str, words)], preexec_fn=ends_with_us, **more)


@contextlib.contextmanager
def cores_awake():
    """Something of the lowest priority runs on each core all the time. To wake a core that sleeps takes several times as
    long as either proxy needs for a request, most of all where it is a virtual one."""
    spinners = [start(core, "chrt", "--idle", "0", "sh", "-c", "while :; do :; done") for core in sorted(set(cores()))]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


def prepare_network() -> None:
    for address in (GATEWAY, GUEST, ORIGIN):
        network.own(address)
    # Every address of the agents' network is here, and who asks is the guest: that is how egress tells agents apart.
    network.ip("route", "add", "local", AGENTS_NETWORK, "dev", "lo", "src", GUEST)
    # A port is free again when its connection is over, or some seconds of new connections use them up.
    for name, value in (("ip_local_port_range", "1024 65000"), ("tcp_tw_reuse", "1")):
        (Path("/proc/sys/net/ipv4") / name).write_text(value)


class Lab:
    def __init__(self, folder: Path, warden: Warden):
        self._proxy_core, self._load_core, origin_core = cores()
        authority = servers.Authority(folder).make()
        certificate, key = authority.certificate(f"{PLAIN},DNS:{KEYED}")  # one for both names
        peers_certificate, peers_key = authority.certificate(KEYED)
        (folder / "peer.pem").write_bytes(peers_certificate.read_bytes() + peers_key.read_bytes())
        (folder / "haproxy.cfg").write_text(HAPROXY.replace("@folder@", str(folder)))
        self._origin = start(origin_core, image.RELEASE / "bench/bench_tls_origin", ORIGIN, ORIGIN_PORT, certificate,
                             key, KEYED, SECRET)
        self.peer = start(self._proxy_core, "haproxy", "-db", "-q", "-f", folder / "haproxy.cfg")
        self._places = {("direct", PLAIN): (ORIGIN, ORIGIN_PORT, authority.root),
                        ("haproxy", PLAIN): (PEER, PEER_PLAIN, authority.root),
                        ("haproxy", KEYED): (PEER, PEER_KEYED, authority.root)}
        self._egress_words = [image.RELEASE / "bench/bench_egress_proxy", folder, ORIGIN, ORIGIN_PORT, authority.root,
                              warden.socket, PLAIN, KEYED]
        self._roots = {PLAIN: authority.root, KEYED: folder / "box.pem"}
        self.egress = None
        self.start_egress()

    def start_egress(self, entries: int = 0) -> None:
        """In place of the one that runs, with so many more entries in its policy."""
        if self.egress:
            self.egress.kill()
            self.egress.wait()
        self.egress = start(self._proxy_core, *self._egress_words, entries, stdout=subprocess.PIPE)
        line = self.egress.stdout.readline()
        if not line:
            raise qemu.MachineError("egress's proxy does not start")
        addresses = json.loads(line)
        for name, which in ((PLAIN, "plain"), (KEYED, "keyed")):
            self._places["egress", name] = (addresses[which], 443, self._roots[name])

    def process(self, proxy: str) -> subprocess.Popen:
        return {"egress": self.egress, "haproxy": self.peer, "direct": self._origin}[proxy]

    def turn(self, proxy: str, what: str, name: str, at_a_time: int = 0) -> dict:
        address, port, roots = self._places[proxy, name]
        at_a_time = at_a_time or (REQUESTS_AT_A_TIME if what == "requests" else CONNECTIONS_AT_A_TIME)
        load = start(self._load_core, image.RELEASE / "bench/bench_tls_load", what, address, port, name, roots,
                     at_a_time, TURN_MS, self.process(proxy).pid, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                     text=True)
        out, errors = load.communicate()
        if load.returncode != 0:
            raise qemu.MachineError(f"{what} to {name} through {proxy}: {errors.strip()[-400:]}")
        found = json.loads(out)
        if not found["answered"]:
            raise qemu.MachineError(f"{what} to {name} through {proxy}: no answer at all")
        return {"per_second": found["answered"] / found["ns"] * 1e9,
                "cpu_us": found["proxy_ns"] / found["answered"] / 1000,
                "p50_us": found["p50_ns"] / 1000,
                "busy": found["proxy_ns"] / found["ns"]}

    def resident_mb(self, proxy: str, which: str = "VmRSS") -> float:
        status = Path(f"/proc/{self.process(proxy).pid}/status").read_text()
        return int(status.split(f"{which}:")[1].split()[0]) / 1024


def each_in_turn(lab: Lab, what: str, found: dict) -> None:
    for mode, name in (("splice", PLAIN), ("terminate", KEYED)):
        for proxy in PROXIES:
            found.setdefault(f"{mode}_{what}", {}).setdefault(proxy, []).append(lab.turn(proxy, what, name))


def play(lab: Lab, runs: int) -> dict:
    found: dict = {"whole": {}, "part": {}, "resident_mb": {}}
    for _ in range(runs):
        for what, percent in PERCENT_OF_A_CORE.items():
            each_in_turn(lab, what, found["whole"])
            with share.of_a_core(percent, [lab.process(proxy).pid for proxy in PROXIES]):
                each_in_turn(lab, what, found["part"])
        with cores_awake():
            for way in ("direct", "egress", "haproxy"):
                found.setdefault("alone", {}).setdefault(way, []).append(lab.turn(way, "requests", PLAIN, 1))
    for proxy in PROXIES:
        found["resident_mb"][proxy] = lab.resident_mb(proxy)
        lab.turn(proxy, "requests", KEYED, MANY)
        found.setdefault("most_mb", {})[proxy] = lab.resident_mb(proxy, "VmHWM")
    # An entry is looked for when a connection begins.
    for _ in range(runs + 1):
        for entries in (MANY_ENTRIES, 0):
            lab.start_egress(entries)
            found.setdefault("entries", {}).setdefault(entries, []).append(lab.turn("egress", "connections", PLAIN))
    return found


def main() -> None:
    network.ip("link", "set", "lo", "up")
    prepare_network()
    with tempfile.TemporaryDirectory(prefix="nullbox-bench-") as name:
        folder = Path(name)
        with Warden(folder, ["taskset", "-c", cores()[1]]) as warden:
            warden.grant("DEMO_KEY", SECRET, "bench", KEYED)
            print(json.dumps(play(Lab(folder, warden), int(sys.argv[1]))))


if __name__ == "__main__":
    try:
        main()
    except (qemu.MachineError, OSError) as problem:
        sys.exit(str(problem))
