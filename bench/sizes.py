"""What is shipped, by its size, beside what a peer ships for the same."""
import re

import debian
import peer_disk
from observed import image
from rows import Row, measured
from timed import qemu

VMM = image.ROOT / "src/cage/vmm"
MEGABYTE = 1e6


def rows() -> list[Row]:
    return [Row("boot_file", "MB", peer_name="Debian's vmlinuz and initrd, without its root", most=24,
                note="vmlinuz + initramfs: the whole system"),
            Row("cage_binary", "MB", most=3, peer_name="QEMU and the libraries it loads",
                note="one static file: the daemon and the VM monitor"),
            Row("vm_monitor", "lines", note="code lines of src/cage/vmm without tests: no blank lines, no comments")]


def megabytes(*paths) -> float:
    return sum(path.resolve().stat().st_size for path in paths) / MEGABYTE


def code_lines(path) -> int:
    text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
    return sum(1 for line in text.splitlines() if line.strip() and not line.strip().startswith("//"))


def measure(rows: list[Row], accel: qemu.Acceleration, runs: int) -> None:
    peer = debian.prepare()
    sources = [path for path in sorted(VMM.rglob("*")) if path.suffix in (".h", ".cpp")
               and not re.search(r"(_test|_fuzz)\.cpp$|(^|/)(fake|test)_", str(path.relative_to(VMM)))]
    values = {"boot_file": ([megabytes(image.OUT / "vmlinuz", image.OUT / "initramfs.cpio.zst")],
                            [megabytes(peer.kernel, peer.initrd)]),
              "cage_binary": ([megabytes(image.RELEASE / image.PROGRAMS["cage"])],
                              [megabytes(peer_disk.QEMU, *peer_disk.libraries(peer_disk.QEMU))]),
              "vm_monitor": ([float(sum(map(code_lines, sources)))],)}
    for row in rows:
        measured(row, *values[row.name])
