"""How long a guest's kernel takes from its entry to its PID 1: ours beside a plain one of the same source, in the same
QEMU microvm with the same devices and the same PID 1, in turns, in one boot of the box. Each is timed from the start of QEMU
to the line of its PID 1, which does nothing else; taken off is what a "kernel" takes that says its line at its entry.

In QEMU's microvm because a kernel without KVM_GUEST times its clock by a PIT, which a VM of ours does not have.
"""
import statistics
import struct
import sys
import tempfile
from pathlib import Path

import peer_disk
import plain_kernel
from observed import Observed, image
from rows import Row, measured
from timed import qemu

sys.path.insert(0, str(image.ROOT / "image"))
import cpio  # noqa: E402

SAYS = "bench: this is PID 1"
KERNELS = {"none": "/guest/no-kernel", "ours": "/guest/vmlinux", "plain": "/guest/plain-vmlinux"}
DEBUG_PORT = 0x402
TURNS_PER_RUN = 3


def rows() -> list[Row]:
    return [Row("kernel_to_pid1", "ms", peer_name="allnoconfig and virtio", most_ratio=0.5,
                note="the guest's kernel, from its entry to its PID 1")]


def elf64(entry: int, place: int, content: bytes, more_segments: bytes = b"") -> bytes:
    """One loadable segment that is the whole file, and more program headers before the content."""
    count = 1 + len(more_segments) // 56
    header = 64 + 56 * count
    whole = header + len(content)
    return (struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, entry, 64, 0, 0, 64, 56, count, 0, 0, 0)
            + struct.pack("<IIQQQQQQ", 1, 7, 0, place, place, whole, whole, 4096) + more_segments + content)


def no_kernel() -> bytes:
    """A PVH guest (32 bits, flat) that says the line on the debug port at its entry, and halts."""
    place, line = 0x100000, SAYS.encode() + b"\n"
    note = struct.pack("<III4sI", 4, 4, 18, b"Xen", place + 64 + 2 * 56 + 20)  # XEN_ELFNOTE_PHYS32_ENTRY: behind the note
    code_bytes = 20
    text = place + 64 + 2 * 56 + len(note) + code_bytes
    code = (b"\xbe" + struct.pack("<I", text) + b"\xb9" + struct.pack("<I", len(line))  # mov esi, text; mov ecx, length
            + b"\x66\xba" + struct.pack("<H", DEBUG_PORT)                               # mov dx, port
            + b"\xfc\xf3\x6e" + b"\xf4\xeb\xfd")                                       # cld; rep outsb; hlt, again
    assert len(code) == code_bytes and len(note) == 20
    at = 64 + 2 * 56
    return elf64(place + at + len(note), place, note + code + line,
                 struct.pack("<IIQQQQQQ", 4, 4, at, place + at, place + at, len(note), len(note), 4))


def pid_1() -> bytes:
    """An ELF64 that writes its line to standard output, which is the console, and waits: no library, nothing to load."""
    line = SAYS.encode() + b"\n"
    code = (b"\xb8\x01\x00\x00\x00" + b"\xbf\x01\x00\x00\x00"       # mov eax, 1 (write); mov edi, 1
            + b"\x48\x8d\x35\x10\x00\x00\x00"                       # lea rsi, [rip + 16]: behind the code
            + b"\xba" + struct.pack("<I", len(line)) + b"\x0f\x05"  # mov edx, length; syscall
            + b"\xb8\x22\x00\x00\x00" + b"\x0f\x05" + b"\xeb\xf7")  # mov eax, 34 (pause); syscall; again
    place = 0x400000
    return elf64(place + 64 + 56, place, code + line)


def initramfs() -> bytes:
    return cpio.archive([cpio.folder("dev"), cpio.character_device("dev/console", 5, 1),
                         cpio.file("init", pid_1(), 0o755)], 0)


def command(kernel: str) -> list[str]:
    append = "console=hvc0 quiet reboot=t panic=-1 tsc=reliable cryptomgr.notests no_timer_check noreplace-smp"
    return [str(peer_disk.QEMU), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-M", "microvm,rtc=off,pit=on,pic=on,isa-serial=off,acpi=off", "-accel", "kvm", "-cpu", "host",
            "-smp", "1", "-m", "64", "-kernel", kernel, "-initrd", "/guest/pid-1.cpio", "-append", append,
            "-chardev", "stdio,id=console,signal=off,mux=on", "-device", "virtio-serial-device",
            "-device", "virtconsole,chardev=console", "-device", f"isa-debugcon,iobase={DEBUG_PORT},chardev=console",
            "-drive", "if=none,id=image,format=raw,readonly=on,file=/guest/hello.img",
            "-device", "virtio-blk-device,drive=image"]


def measure(rows: list[Row], accel: qemu.Acceleration, runs: int) -> None:
    files = {"/guest/plain-vmlinux": plain_kernel.prepare(), "/guest/no-kernel": no_kernel(),
             "/guest/pid-1.cpio": initramfs()}
    found: dict[str, list[float]] = {name: [] for name in KERNELS}
    with tempfile.TemporaryDirectory(prefix="nullbox-bench-") as name:
        folder = Path(name)
        with Observed(folder, accel, peer_disk.build(None, folder, files=files)) as box:
            box.wait_ready()
            box.stop_agents()
            for _ in range(1 + runs * TURNS_PER_RUN):
                for kernel, path in KERNELS.items():
                    try:
                        found[kernel].append(box.ask("run", argv=command(path), until=SAYS)["ms"])
                    except qemu.MachineError as problem:
                        raise qemu.MachineError(f"{kernel}: {problem}") from None
    # The first turn reads the kernels from the disk.
    entry = statistics.median(found["none"][1:])
    measured(rows[0], *([total - entry for total in found[kernel][1:]] for kernel in ("ours", "plain")))
