"""A disk for nested runs: Debian's QEMU with what it needs, and the guests that it boots. A SquashFS that the observer
mounts; it is thrown away after the run.
"""
import re
import shutil
import subprocess
import sys
from pathlib import Path

from debian import Debian

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "image"))
import cpio  # noqa: E402
import root as image  # noqa: E402

QEMU = Path("/usr/bin/qemu-system-x86_64")
FIRMWARE = ["bios-microvm.bin", "qboot.rom", "linuxboot_dma.bin", "kvmvapic.bin", "pvh.bin"]
FIRMWARE_FOLDERS = ["/usr/share/qemu", "/usr/share/seabios", "/usr/lib/ipxe/qemu"]
GUEST_INIT = "bench/bench_guest_init"


def libraries(program: Path) -> list[Path]:
    """Where the dynamic loader finds what the program needs, itself included."""
    listed = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True).stdout
    return [Path(path) for path in re.findall(r"(/\S+) \(0x", listed)]


def copy(stage: Path, source: Path, target: Path | None = None) -> None:
    place = stage / str(target or source).lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, place)
    place.chmod(0o755)


def guest_initramfs(modules: list[Path]) -> bytes:
    """Uncompressed, as cage's own is."""
    entries = [cpio.folder("dev"), cpio.character_device("dev/console", 5, 1),
               cpio.file("init", (image.RELEASE / GUEST_INIT).read_bytes(), 0o755)]
    if modules:
        order = "\n".join(module.name for module in modules) + "\n"
        entries += [cpio.folder("modules"), cpio.file("modules/order", order.encode(), 0o644)]
        entries += [cpio.file(f"modules/{module.name}", module.read_bytes(), 0o644) for module in modules]
    return cpio.archive(entries, 0)


def build(debian: Debian | None, folder: Path, programs: list[Path] | None = None,
          files: dict[str, Path | bytes] | None = None) -> Path:
    """programs: more of them, beside QEMU, each with its libraries; those of our own build go to /bench. files: more,
    by their place."""
    stage = folder / "peer"
    for name in ("dev", "proc", "tmp", "guest"):
        (stage / name).mkdir(parents=True)
    (stage / "var").mkdir()
    (stage / "var/run").symlink_to("/tmp")  # virtiofsd keeps a lock there
    for program in [QEMU, *(programs or [])]:
        ours = image.RELEASE in program.parents
        copy(stage, program, Path("/bench") / program.name if ours else None)
        for library in [] if ours else libraries(program):
            copy(stage, library)
    for name in FIRMWARE:
        for place in FIRMWARE_FOLDERS:
            if (Path(place) / name).exists():
                copy(stage, Path(place) / name, Path("/usr/share/qemu") / name)
                break
    copy(stage, image.OUT / "guest-vmlinux", Path("/guest/vmlinux"))
    copy(stage, image.OUT / "agents/hello.img", Path("/guest/hello.img"))
    (stage / "guest/initramfs.cpio").write_bytes(guest_initramfs([]))
    if debian:
        copy(stage, debian.kernel, Path("/guest/debian-vmlinuz"))
        (stage / "guest/debian-initramfs.cpio").write_bytes(guest_initramfs(debian.modules()))
    for place, content in (files or {}).items():
        if isinstance(content, Path):
            copy(stage, content, Path(place))
        else:
            (stage / place.lstrip("/")).write_bytes(content)
    disk = folder / "peer.img"
    # Not compressed: what a peer reads at its start should cost it nothing but the reading.
    image.pack_squashfs(stage, disk, 0, ["-comp", "zstd", "-noI", "-noD", "-noF", "-noX"])
    return disk
