"""Boots of the Debian peer in the same machine as ours: its kernel alone to the panic for want of a root, and the whole
of it to its default target.
"""
import re
from dataclasses import dataclass

from debian import Debian
from timed import TimedMachine, qemu

LIMIT_S = 240


@dataclass
class SystemBoot:
    ready_s: float             # from kernel entry
    ready_from_start_s: float  # from the start of QEMU
    userland_s: float          # systemd's own account: without the kernel and the initrd
    idle_mb: float


def _machine(name: str, debian: Debian, accel: qemu.Acceleration, append: str, **more) -> TimedMachine:
    options = qemu.Options(kernel=debian.kernel, append=f"console=ttyS0 {append}".strip(), accel=accel,
                           watchdog=False, extra=["-no-reboot"], **more)
    return TimedMachine(options, name, serial=True)


def kernel_to_panic_s(debian: Debian, accel: qemu.Acceleration) -> float:
    with _machine("debian-kernel", debian, accel, "", initramfs=None) as machine:
        return machine.wait(r"Kernel panic - not syncing: VFS", LIMIT_S) - machine.kernel_entry


def _seconds(text: str) -> float:
    """systemd's "1min 2.345s" and "345ms"."""
    factors = {"min": 60, "s": 1, "ms": 0.001, "us": 0.000001}
    return sum(float(value) * factors[unit] for value, unit in re.findall(r"([\d.]+)(min|ms|us|s)\b", text))


def system_boot(debian: Debian, accel: qemu.Acceleration) -> SystemBoot:
    with _machine("debian-systemd", debian, accel, "root=/dev/vda rw", initramfs=debian.initrd,
                  data_disk=debian.disk, keep_data=False) as machine:
        machine.wait(r"bench: end", LIMIT_S)
        ready, text = machine.wait(r"bench: ready", LIMIT_S), machine.console.text()
        spent = re.search(r"Startup finished in .*\+ (?P<userland>[^(+]+)\(userspace\)", text)
        memory = dict(re.findall(r"(MemTotal|MemAvailable): +(\d+) kB", text))
        if not spent or len(memory) != 2:
            raise qemu.MachineError(f"debian-systemd: the report is incomplete: {text[-400:]}")
        return SystemBoot(ready - machine.kernel_entry, ready - machine.started, _seconds(spent["userland"]),
                          (int(memory["MemTotal"]) - int(memory["MemAvailable"])) / 1024)
