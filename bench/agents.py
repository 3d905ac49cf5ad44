"""How long an agent takes to its first line, from a cold start, in one boot of the box: cage's own microVM, then QEMU's
microvm with the same guest kernel, then QEMU's microvm with Debian's cloud kernel, in turns. All three run the agent
`hello` from the same image on virtio-blk with the same set-up in the guest, on the box's /dev/kvm.

The first turn is not counted: it reads the programs from their disks.
"""
import tempfile
import tomllib
from pathlib import Path

import debian
import peer_disk
from observed import Observed, image
from rows import Row, measured
from timed import qemu

AGENT = "hello"
SAYS = "hello from inside a microVM"
# Debian's kernel does not unpack itself in the memory that is enough for the agent.
DEBIAN_MEMORY_MB = 256
# A start takes seconds and one differs much from the next: the two that are close get more turns, the slow one a third.
TURNS_PER_RUN = 3
SAME, DEBIAN = "QEMU microvm, same kernel", "QEMU microvm, Debian's kernel"


def rows() -> list[Row]:
    return [Row("agent_start", "ms", peer_name=SAME, most_ratio=0.85, note="request to the agent's first line, cold"),
            Row("agent_start_beside_debian", "ms", peer_name=DEBIAN, most_ratio=0.2,
                note="the same starts of ours, beside Debian's cloud kernel"),
            Row("vm_process_memory", "MB", peer_name=SAME,
                note="resident memory of the VM's process at that line, with the guest memory that is touched"),
            Row("agent_start_cpu", "ms", peer_name=SAME,
                note="processor time of the VM's process to that line, with the guest's")]


def qemu_command(kernel: str, initramfs: str, memory_mb: int, machine: str, append: str) -> list[str]:
    """As lean as QEMU goes: no firmware tables or legacy devices that its guest does without."""
    return [str(peer_disk.QEMU), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-M", f"microvm,rtc=off,pit=off,pic=off,isa-serial=off{machine}", "-accel", "kvm", "-cpu", "host",
            "-smp", "1", "-m", str(memory_mb), "-kernel", kernel, "-initrd", initramfs,
            "-append", f"console=hvc0 quiet reboot=t panic=-1 {append}".strip(),
            "-chardev", "stdio,id=console,signal=off", "-device", "virtio-serial-device",
            "-device", "virtconsole,chardev=console",
            "-drive", "if=none,id=image,format=raw,readonly=on,file=/guest/hello.img",
            "-device", "virtio-blk-device,drive=image", "-device", "virtio-rng-device"]


def peers() -> dict[str, list[str]]:
    manifest = tomllib.loads((image.ROOT / "agents" / AGENT / "AGENT.toml").read_text())
    memory_mb = manifest["capabilities"]["max_memory_mb"]
    return {SAME: qemu_command("/guest/vmlinux", "/guest/initramfs.cpio", memory_mb, ",acpi=off",
                               "tsc=reliable cryptomgr.notests no_timer_check noreplace-smp"),
            DEBIAN: qemu_command("/guest/debian-vmlinuz", "/guest/debian-initramfs.cpio", DEBIAN_MEMORY_MB, "", "")}


def ask_peer(box: Observed, name: str, command: list[str]) -> dict:
    try:
        return box.ask("run", argv=command, until=SAYS)
    except qemu.MachineError as problem:
        raise qemu.MachineError(f"{name}: {problem}") from None


def start_in_turns(box: Observed, runs: int) -> tuple[list[dict], dict[str, list[dict]]]:
    ours, theirs, commands = [], {SAME: [], DEBIAN: []}, peers()
    for turn in range(-1, runs * TURNS_PER_RUN):
        ours.append(box.ask("agent", name=AGENT))
        theirs[SAME].append(ask_peer(box, SAME, commands[SAME]))
        if turn % TURNS_PER_RUN == TURNS_PER_RUN - 1:
            theirs[DEBIAN].append(ask_peer(box, DEBIAN, commands[DEBIAN]))
    for answer in ours:
        if SAYS not in answer["line"]:
            raise qemu.MachineError(f"the agent's first line is {answer['line']!r}, not {SAYS!r}")
    return ours[1:], {name: answers[1:] for name, answers in theirs.items()}


def measure(rows: list[Row], accel: qemu.Acceleration, runs: int) -> None:
    peer = debian.prepare()
    with tempfile.TemporaryDirectory(prefix="nullbox-bench-") as name:
        folder = Path(name)
        with Observed(folder, accel, peer_disk.build(peer, folder)) as box:
            box.wait_ready()
            box.stop_agents()
            ours, theirs = start_in_turns(box, runs)

    def starts(answers: list[dict]) -> list[float]:
        return [answer["ms"] for answer in answers]

    def megabytes(answers: list[dict]) -> list[float]:
        return [answer["process_kb"] / 1024 for answer in answers]

    def times(answers: list[dict]) -> list[float]:
        return [answer["cpu_ms"] for answer in answers]

    values = {"agent_start": (starts(ours), starts(theirs[SAME])),
              "agent_start_beside_debian": (starts(ours), starts(theirs[DEBIAN])),
              "vm_process_memory": (megabytes(ours), megabytes(theirs[SAME])),
              "agent_start_cpu": (times(ours), times(theirs[SAME]))}
    for row in rows:
        measured(row, *values[row.name])
