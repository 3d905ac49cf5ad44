"""What a VM's process holds beside its guest's memory. On this computer's own /dev/kvm and with a guest that halts at its
first instruction, so no kernel of a guest's is needed, nor a KVM that runs one. The peer is QEMU's microvm with the same
devices, set up and not started yet (-S).
"""
import re
import struct
import subprocess
import tempfile
import time
from pathlib import Path

from observed import image
from peer_disk import QEMU
from rows import Row, measured
from timed import qemu

LAUNCHER = image.RELEASE / "src/cage/vmm/vmm_launcher"
MEMORY_MB = 64
LIMIT_S = 20


def rows() -> list[Row]:
    return [Row("vm_overhead", "MiB", most=3, peer_name="QEMU microvm, not started",
                note="resident memory of the VM's process, without the guest's")]


def halting_kernel() -> bytes:
    """An ELF64 with one loadable page at 16 MiB: cli; hlt; and again, should anything wake it."""
    entry, code = 16 << 20, b"\xfa\xf4\xeb\xfc"
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 4096, entry, entry, len(code), 4096, 4096)
    return (header + segment).ljust(4096, b"\0") + code


def beside_guest_kib(pid: int) -> int:
    """Resident KiB of all mappings but the one that is as large as the guest's memory."""
    total, guests = 0, 0
    for mapping in re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", Path(f"/proc/{pid}/smaps").read_text())[1:]:
        size, resident = (int(re.search(rf"^{key}:\s+(\d+) kB", mapping, re.M)[1]) for key in ("Size", "Rss"))
        if size == MEMORY_MB << 10:
            guests += 1
        else:
            total += resident
    if guests != 1:
        raise qemu.MachineError(f"{guests} mappings of process {pid} are as large as the guest's memory")
    return total


def child_of(pid: int) -> int:
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if children:
            return int(children[0])
        time.sleep(0.05)
    raise qemu.MachineError("the launcher has started no VM process")


def settled(words: list, of, ready) -> float:
    """of(pid of the started program): whose memory. ready(first line of its output): whether it is up."""
    process = subprocess.Popen([str(word) for word in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
    try:
        if not ready(line := process.stdout.readline()):
            raise qemu.MachineError(f"{Path(words[0]).name}: {line.strip() or 'it ended'}")
        time.sleep(1)
        return beside_guest_kib(of(process.pid)) / 1024
    finally:
        process.kill()
        process.wait()


def ours(folder: Path) -> float:
    words = [LAUNCHER, "--kernel", folder / "halt.elf", "--initramfs", folder / "initramfs", "--memory", MEMORY_MB,
             "--disk", folder / "disk", "--scratch-disk", folder / "scratch", "--share", f"share={folder}"]
    return settled(words, child_of, lambda line: " started" in line)


def theirs(folder: Path) -> float:
    words = [QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-S", "-M",
             "microvm,rtc=off,pit=off,pic=off,isa-serial=off,acpi=off,memory-backend=ram", "-accel", "kvm",
             # By a file descriptor, so that it is a mapping of its own.
             "-object", f"memory-backend-memfd,id=ram,size={MEMORY_MB}M", "-m", MEMORY_MB,
             "-kernel", image.OUT / "guest-vmlinux", "-monitor", "stdio"]
    for number, name in enumerate(("disk", "scratch")):
        words += ["-drive", f"if=none,id=d{number},format=raw,file={folder / name}",
                  "-device", f"virtio-blk-device,drive=d{number}"]
    words += ["-device", "virtio-serial-device", "-device", "virtio-rng-device", "-device", "virtio-balloon-device"]
    return settled(words, lambda pid: pid, lambda line: line.startswith("QEMU"))


def measure(rows: list[Row], accel: qemu.Acceleration, runs: int) -> None:
    subprocess.run(["ninja", "-C", image.RELEASE, "vmm_launcher"], check=True, capture_output=True)
    with tempfile.TemporaryDirectory(prefix="nullbox-bench-") as name:
        folder = Path(name)
        (folder / "halt.elf").write_bytes(halting_kernel())
        (folder / "initramfs").write_bytes(bytes(4096))
        for disk in ("disk", "scratch"):
            with open(folder / disk, "wb") as file:
                file.truncate(1 << 20)
        measured(rows[0], [ours(folder) for _ in range(runs)], [theirs(folder) for _ in range(runs)])
