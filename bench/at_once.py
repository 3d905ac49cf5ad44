"""Many agents started at the same time, beside the same agents started one after another, in one boot of the box. Each says
its line and stays, asleep: at the end all of them serve. Then what they cost while they sleep.
"""
import sys
import tempfile
from pathlib import Path

from observed import Observed, image
from rows import Row, measured
from timed import qemu

sys.path.insert(0, str(image.ROOT / "tests/lib"))
import variants  # noqa: E402

AGENTS = 20
CORES = qemu.Options.cpus
# One turn's ratio may be a tenth off; a promise this close to its figure needs more of them than others do.
LEAST_TURNS = 9
SETTLE_S, WATCH_S = 5, 20  # the seconds after a start have work of their own


def rows() -> list[Row]:
    return [Row("agents_at_once", "s", most_ratio=0.6, peer_name=f"{AGENTS} in a row",
                note=f"{AGENTS} agents that stay, from the first request to the last one's first line"),
            Row("starts_per_core", "1/s", peer_name="in a row",
                note=f"the same starts, in a second and for each of the machine's {CORES} cores"),
            Row("idle_wakeups", "1/s", most=4,
                note=f"of the VM's threads, an agent that sleeps, {AGENTS} of them, from {SETTLE_S} s after the last start"),
            Row("idle_cpu", "ms/s", note="processor time of the same, the guest's with it")]


def manifests() -> dict[str, bytes]:
    text = (image.ROOT / "agents/hello/AGENT.toml").read_text()
    for old, new in (('start = "boot"', 'start = "manual"'), ('HELLO_SECONDS = "10"', 'HELLO_SECONDS = "0"\nHELLO_STAYS = "1"')):
        if old not in text:
            raise qemu.MachineError(f"agents/hello/AGENT.toml has no {old}")
        text = text.replace(old, new)
    return {f"hello-{number}": text.replace('name = "hello"', f'name = "hello-{number}"').encode()
            for number in range(1, AGENTS + 1)}


def measure(rows: list[Row], accel: qemu.Acceleration, runs: int) -> None:
    agents = manifests()
    boot_file = variants.Variant("at-once", probes=False,
                                 add={f"agent/{name}.toml": text for name, text in agents.items()}).build()
    together, in_a_row = [], []
    with tempfile.TemporaryDirectory(prefix="nullbox-bench-") as folder:
        with Observed(Path(folder), accel, image.OUT / "data.img", image_file=boot_file) as box:
            box.wait_ready()
            box.stop_agents()
            # Not counted: it reads the programs from their image, and the emulated machine gets its memory at the first touch.
            box.ask("agents", names=list(agents), order="at once")
            for _ in range(max(runs, LEAST_TURNS)):
                for order, seconds in (("at once", together), ("in a row", in_a_row)):
                    seconds.append(box.ask("agents", names=list(agents), order=order)["ms"] / 1000)
            idle = box.ask("idle", names=list(agents), settle_s=SETTLE_S, watch_s=WATCH_S)
    values = {"agents_at_once": (together, in_a_row), "idle_wakeups": ([idle["wakeups"]],), "idle_cpu": ([idle["cpu_ms"]],),
              "starts_per_core": tuple([AGENTS / CORES / seconds for seconds in times] for times in (together, in_a_row))}
    for row in rows:
        measured(row, *values[row.name])
