"""How long the box takes to start, and what it then holds: the unmodified boot file, beside Debian's cloud kernel alone
and a minimal Debian with systemd, in turns in the same machine.

Ours is told by nulld's own account of the boot (Status), put on the host's clock; Debian's by its console. Both count
from the moment at which the firmware starts the kernel.
"""
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import boot_peers
import debian
from observed import Observed, image
from rows import Row, measured
from timed import qemu

SETTLE_S = 6  # the peer's report waits as long


@dataclass
class OurBoot:
    stage2_s: float
    ready_s: float
    ready_from_start_s: float
    userland_ms: float
    idle_mb: float


def rows() -> list[Row]:
    kernel, system = "Debian's cloud kernel to its panic", "Debian with systemd"
    return [Row("kernel_to_stage2", "s", peer_name=kernel, most=1.5,
                note="from the firmware's jump into the kernel to nulld stage 2"),
            Row("kernel_to_ready", "s", peer_name=f"{system}, to its default target", most=2.5,
                note="from the firmware's jump into the kernel to all services running"),
            Row("start_to_ready", "s", peer_name=f"{system}, to its default target",
                note="from the start of QEMU, firmware included"),
            Row("userland", "ms", peer_name=f"{system}, its userspace", most=300,
                note="/init to all services running"),
            Row("idle_memory", "MB", peer_name=system, most=64,
                note="MemTotal - MemAvailable, all services running, no agent")]


def our_boot(folder: Path, accel: qemu.Acceleration) -> OurBoot:
    with Observed(folder, accel, image.OUT / "data.img") as box:
        boot = box.wait_ready()
        box.stop_agents()
        zero = box.kernel_clock_zero()
        time.sleep(SETTLE_S)
        memory = box.ask("memory")
        before_clock = zero - box.machine.kernel_entry
        return OurBoot(before_clock + boot["stage2_ms"] / 1000, before_clock + boot["ready_ms"] / 1000,
                       zero - box.machine.started + boot["ready_ms"] / 1000, boot["ready_ms"] - boot["stage1_ms"],
                       (memory["MemTotal"] - memory["MemAvailable"]) / 1024)


def measure(rows: list[Row], accel: qemu.Acceleration, runs: int) -> None:
    peer = debian.prepare()
    ours: list[OurBoot] = []
    panics: list[float] = []
    systems: list[boot_peers.SystemBoot] = []
    with tempfile.TemporaryDirectory(prefix="nullbox-bench-") as folder:
        for _ in range(runs):
            ours.append(our_boot(Path(folder), accel))
            panics.append(boot_peers.kernel_to_panic_s(peer, accel))
            systems.append(boot_peers.system_boot(peer, accel))
    values = {"kernel_to_stage2": ([boot.stage2_s for boot in ours], panics),
              "kernel_to_ready": ([boot.ready_s for boot in ours], [boot.ready_s for boot in systems]),
              "start_to_ready": ([boot.ready_from_start_s for boot in ours],
                                 [boot.ready_from_start_s for boot in systems]),
              "userland": ([boot.userland_ms for boot in ours], [boot.userland_s * 1000 for boot in systems]),
              "idle_memory": ([boot.idle_mb for boot in ours], [boot.idle_mb for boot in systems])}
    for row in rows:
        measured(row, *values[row.name])
