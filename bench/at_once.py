"""Many agents started at the same time, beside the same agents started one after another, in one boot of the box. Each says
its line and ends, so that none takes processor time from those that still start.
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


def rows() -> list[Row]:
    return [Row("agents_at_once", "s", most_ratio=0.6, peer_name=f"{AGENTS} in a row",
                note=f"{AGENTS} agents, from the first request to the last one's first line")]


def manifests() -> dict[str, bytes]:
    text = (image.ROOT / "agents/hello/AGENT.toml").read_text()
    for old, new in (('start = "boot"', 'start = "manual"'), ('HELLO_SECONDS = "10"', 'HELLO_SECONDS = "0"')):
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
            box.ask("agent", name="hello-1")  # reads the programs from their image; not counted
            for _ in range(runs):
                together.append(box.ask("agents", names=list(agents))["ms"] / 1000)
                in_a_row.append(sum(box.ask("agent", name=name)["ms"] for name in agents) / 1000)
    measured(rows[0], together, in_a_row)
