"""Look-ups by egress of names whose answers are good for a second, at a server on loopback (dns_lookups.cpp)."""
import json
import subprocess

from observed import image
from rows import Row, measured
from timed import qemu

COUNT, NAMES, AT_A_TIME = 1_000_000, 100_000, 64


def rows() -> list[Row]:
    return [Row("dns_lost", "look-ups", most=0,
                note=f"of {COUNT:,} look-ups of {NAMES:,} names in rotation, {AT_A_TIME} at a time"),
            Row("dns_lookups", "1/s", note="the same look-ups"),
            Row("dns_memory", "MB", note="the most that was resident")]


def measure(rows: list[Row], accel: qemu.Acceleration, runs: int) -> None:
    done = subprocess.run([image.RELEASE / "bench/bench_dns_lookups", *map(str, (COUNT, NAMES, AT_A_TIME))],
                          capture_output=True, text=True)
    if done.returncode != 0:
        raise qemu.MachineError(f"bench_dns_lookups: {done.stderr.strip()[-400:]}")
    found = json.loads(done.stdout)
    for row in rows:
        measured(row, [found[row.name]])
