"""Writes to the agents' memory, each durable before it is answered: ctxgraph beside bare SQLite with the same settings,
in turns, on the disk that holds out/ (memory_put.cpp).
"""
import json
import subprocess
import tempfile

from observed import image
from rows import Row, measured
from timed import qemu

PROGRAM = "bench/bench_memory_put"
PUTS = 200
PEER = "INSERT and COMMIT of bare SQLite"


def rows() -> list[Row]:
    return [Row("memory_put", "1/s", peer_name=PEER, note="one agent, one put at a time, over its HTTP stream"),
            Row("memory_put_16_agents", "1/s", peer_name=PEER,
                note="16 agents at a time; the peer is still one writer with a commit for each")]


def measure(rows: list[Row], accel: qemu.Acceleration, runs: int) -> None:
    image.OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-memory-", dir=image.OUT) as folder:
        done = subprocess.run([image.RELEASE / PROGRAM, folder, str(runs), str(PUTS)], capture_output=True, text=True)
    if done.returncode != 0:
        raise qemu.MachineError(f"bench_memory_put: {done.stderr.strip()[-400:]}")
    found = {row["name"]: row for row in map(json.loads, done.stdout.splitlines())}
    for row in rows:
        measured(row, found[row.name]["runs"], found[row.name]["peer_runs"])
