"""What the vault gives out in a second, as egress asks for it: warden itself with a real vault, beside a SELECT of bare
SQLite behind a socket of the same kind, in turns (vault_get.cpp).
"""
import json
import subprocess
import tempfile
from pathlib import Path

from observed import image
from rows import Row, measured
from timed import qemu
from wardens import Warden

PROGRAM = "bench/bench_vault_get"
SECRETS, CALLS = 32, 5000


def rows() -> list[Row]:
    return [Row("vault_get", "1/s", peer_name="SELECT of bare SQLite behind a Unix socket",
                note="calls of Injection, each on a connection of its own, one after the other")]


def measure(rows: list[Row], accel: qemu.Acceleration, runs: int) -> None:
    with tempfile.TemporaryDirectory(prefix="nullbox-bench-") as name:
        with Warden(Path(name)) as warden:
            for number in range(SECRETS):
                warden.grant(f"KEY{number}", f"sk-bench-0123456789abcdef-{number}", "bench",
                             f"host{number}.example.org")
            done = subprocess.run([image.RELEASE / PROGRAM, warden.socket, name, str(SECRETS), str(runs), str(CALLS)],
                                  capture_output=True, text=True)
    if done.returncode != 0:
        raise qemu.MachineError(f"bench_vault_get: {done.stderr.strip()[-400:]}")
    found = json.loads(done.stdout)
    for row in rows:
        measured(row, found["runs"], found["peer_runs"])
