"""The way from a command to an agent, as a person walks it."""
import os
import signal
import subprocess
import time

from observed import image
from rows import Row, measured
from timed import qemu

LIMIT_S = 180
AGENTS_LINE = b"hello from inside a microVM"


def rows() -> list[Row]:
    return [Row("second_run", "s", most=20, note="make run, with all built, to the agent's first line"),
            Row("fresh_clone", "min", most=25, by_hand=True,
                note="by hand: time make run on a fresh Debian 12 with 2 cores, to the agent's first line")]


def second_run_s() -> float:
    begin = time.monotonic()
    process = subprocess.Popen(["make", "run"], cwd=image.ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, start_new_session=True)
    os.set_blocking(process.stdout.fileno(), False)
    said, seen = b"", None
    try:
        while seen is None and process.poll() is None and time.monotonic() - begin < LIMIT_S:
            said += process.stdout.read() or b""
            if AGENTS_LINE in said:
                seen = time.monotonic() - begin
            time.sleep(0.01)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C on a terminal does
        os.set_blocking(process.stdout.fileno(), True)
        said += process.communicate(timeout=LIMIT_S)[0]
    if seen is None:
        end = " / ".join(said.decode(errors="replace").strip().splitlines()[-4:])
        raise qemu.MachineError(f"make run did not come to the agent's line within {LIMIT_S} s; it ends with: {end}")
    return seen


def measure(rows: list[Row], accel: qemu.Acceleration, runs: int) -> None:
    for row in rows:
        if not row.by_hand:
            subprocess.run(["make", "image", "data-disk"], cwd=image.ROOT, stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, check=True)
            measured(row, [second_run_s() for _ in range(runs)])
