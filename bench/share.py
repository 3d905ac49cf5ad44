"""A part of a core for a process: a control group with a quota of processor time, by cgroup v2 (cpu.max) or v1
(cpu.cfs_quota_us), whichever has the controller. Making one needs root.
"""
import contextlib
import os
from pathlib import Path

from timed import qemu

V1, V2 = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
PERIOD_US = 20_000


def limit(group: Path, percent: float) -> None:
    quota = int(PERIOD_US * percent / 100)
    if (group / "cpu.cfs_quota_us").exists():
        (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
        (group / "cpu.cfs_quota_us").write_text(str(quota))
    else:
        (group / "cpu.max").write_text(f"{quota} {PERIOD_US}")


@contextlib.contextmanager
def of_a_core(percent: float, pids: list[int]):
    """These processes, one thread each, have so much of a core, each by itself, until the end of the block."""
    parent = V1 if (V1 / "tasks").exists() else V2
    groups = []
    try:
        if parent == V2:
            (parent / "cgroup.subtree_control").write_text("+cpu")
        for pid in pids:
            group = parent / f"nullbox-bench-{os.getpid()}-{pid}"
            group.mkdir()
            groups.append(group)
            limit(group, percent)
            (group / "cgroup.procs").write_text(str(pid))
    except OSError as problem:
        leave(parent, groups, pids)
        raise qemu.MachineError(f"give a process a part of a core (as root, with the cpu controller): {problem}")
    try:
        yield
    finally:
        leave(parent, groups, pids)


def leave(parent: Path, groups: list[Path], pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            (parent / "cgroup.procs").write_text(str(pid))
    for group in groups:
        with contextlib.suppress(OSError):
            group.rmdir()
