"""The way out of an agent, as fast as it goes: egress's proxy beside HAProxy at the same work, in turns (proxy_lab.py
has the network). Requests on connections that stay, and connections that carry one request each; passed on (splice),
and taken apart for a credential to be put in (terminate).

A rate is the smaller of what the proxy can and what the load can on the cores that are left to it, and the load has
more to do. So the promised rates are those of a proxy with a part of a core (PERCENT_OF_A_CORE): then it is the slower
end. With a whole core the load is, and a proxy that needs less makes it slower: it sleeps more often, and to wake it is
the load's work. The processor time of the proxy for each is of those turns, and tells the two apart.
"""
import json
import os
import subprocess
import sys
from pathlib import Path

from proxy_lab import PERCENT_OF_A_CORE
from rows import Row, measured
from timed import qemu

LAB = Path(__file__).resolve().parent / "proxy_lab.py"
MODES = {"splice": ("TLS passes through, its server name checked", "HAProxy passthrough"),
         "terminate": ("TLS ends in the proxy, a credential is put in", "HAProxy re-encrypt")}
LEAST = {"splice": 1, "terminate": 0.8}
WHATS = {"requests": "requests on 32 kept connections",
         "connections": "new connections with a request each, 16 at a time, whole TLS handshakes"}


def rows() -> list[Row]:
    found = []
    for mode, (does, peer) in MODES.items():
        for what, counted in WHATS.items():
            found += [Row(f"proxy_{mode}_{what}", "1/s", peer_name=peer, least_ratio=LEAST[mode],
                          note=f"{counted}; {does}; the proxy has {PERCENT_OF_A_CORE[what]} % of a core"),
                      Row(f"proxy_{mode}_{what}_whole", "1/s", peer_name=peer, note="the same with a whole core"),
                      Row(f"proxy_{mode}_{what}_cpu", "us", peer_name=peer, most_ratio=1 / LEAST[mode],
                          note="processor time of the proxy for each, with a whole core")]
    return found + [Row("proxy_splice_added", "us", most=60, peer_name="HAProxy passthrough",
                        note="the middle time of one request at a time, less that of the same without a proxy"),
                    Row("proxy_memory", "MB", peer_name="HAProxy", note="resident after all of these"),
                    Row("proxy_policy_100000_cpu", "us", most_ratio=1.05, peer_name="egress with 2 entries",
                        note="processor time for a new connection, spliced, with 100,000 entries in the policy"),
                    Row("proxy_memory_1000", "MB", most=24, peer_name="HAProxy",
                        note="the most that was resident, with 1,000 terminated connections at work")]


def play(runs: int) -> dict:
    own_network = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    done = subprocess.run([*own_network, sys.executable, LAB, str(runs)], capture_output=True, text=True)
    if done.returncode != 0:
        raise qemu.MachineError(f"the proxies' lab: {done.stderr.strip()[-600:]}")
    return json.loads(done.stdout)


def measure(rows: list[Row], accel: qemu.Acceleration, runs: int) -> None:
    found = play(runs)
    for row in rows:
        if row.name.startswith("proxy_memory"):
            most = found["most_mb" if row.name == "proxy_memory_1000" else "resident_mb"]
            values = {proxy: [most[proxy]] for proxy in ("egress", "haproxy")}
        elif row.name == "proxy_splice_added":
            alone = {way: [turn["p50_us"] for turn in turns] for way, turns in found["alone"].items()}
            values = {proxy: [through - direct for through, direct in zip(alone[proxy], alone["direct"])]
                      for proxy in ("egress", "haproxy")}
        elif row.name.startswith("proxy_policy"):
            many, few = ([turn["cpu_us"] for turn in found["entries"][entries]] for entries in ("100000", "0"))
            values = {"egress": many, "haproxy": few}
        else:
            mode, what, *which = row.name.removeprefix("proxy_").split("_")
            turns_of = found["whole" if which else "part"][f"{mode}_{what}"]
            figure = "cpu_us" if which == ["cpu"] else "per_second"
            values = {proxy: [turn[figure] for turn in turns] for proxy, turns in turns_of.items()}
        measured(row, values["egress"], values["haproxy"])
