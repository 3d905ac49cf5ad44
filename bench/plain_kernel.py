"""The kernel that our guest's is measured against: from the same source, with the same compiler, allnoconfig and what it
takes to run a program in a virtual machine with virtio. HYPERVISOR_GUEST is there for PVH alone, by which QEMU starts an
uncompressed kernel. Made once and kept in the cache.
"""
import hashlib
import importlib.machinery
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from observed import image
from timed import qemu

CONFIG = """\
CONFIG_64BIT=y
CONFIG_PRINTK=y
CONFIG_TTY=y
CONFIG_BINFMT_ELF=y
CONFIG_BLK_DEV_INITRD=y
CONFIG_BLOCK=y
CONFIG_BLK_DEV=y
CONFIG_VIRTIO_MENU=y
CONFIG_VIRTIO_MMIO=y
CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES=y
CONFIG_VIRTIO_CONSOLE=y
CONFIG_VIRTIO_BLK=y
CONFIG_HYPERVISOR_GUEST=y
CONFIG_PVH=y
"""


def _kernel_build():
    """kernel/build as a module: where the source is, and how make is called."""
    loader = importlib.machinery.SourceFileLoader("kernel_build", str(image.ROOT / "kernel/build"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("kernel_build", loader))
    loader.exec_module(module)
    return module


def _run(command: tuple[list[str], dict], what: str) -> None:
    words, environment = command
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise qemu.MachineError(f"the plain kernel: {what}: {done.stderr.strip()[-1500:]}")


def _make(build, source: Path, identity: str, folder: Path) -> None:
    tree = build.unpack(source, identity)
    asked = folder / "asked.config"
    asked.write_text(CONFIG)
    words, environment = build.make(tree, folder, "-s", "allnoconfig")
    _run((words, environment | {"KCONFIG_ALLCONFIG": str(asked)}), "allnoconfig")
    got = (folder / ".config").read_text().splitlines()
    if missing := set(CONFIG.split()) - set(got):
        raise qemu.MachineError(f"the plain kernel: options that did not come out as asked: {', '.join(sorted(missing))}")
    _run(build.make(tree, folder, f"-j{os.cpu_count() or 1}", "vmlinux"), "build")


def prepare() -> Path:
    """Its vmlinux."""
    build = _kernel_build()
    source, identity = build.source_identity()
    recipe = hashlib.sha256(f"{identity} {build.compiler_version()} {CONFIG}".encode()).hexdigest()[:16]
    folder = qemu.CACHE / "bench" / f"plain-kernel-{recipe}"
    if (folder / "vmlinux").exists():
        return folder / "vmlinux"
    folder.parent.mkdir(parents=True, exist_ok=True)
    print("bench: building the plain kernel (once; about 5 minutes)", file=sys.stderr, flush=True)
    making = Path(tempfile.mkdtemp(dir=folder.parent, prefix="making-"))
    try:
        _make(build, source, identity, making)
        kept = Path(tempfile.mkdtemp(dir=folder.parent, prefix="making-"))
        for name in ("vmlinux", ".config"):
            shutil.copyfile(making / name, kept / name.lstrip("."))
        kept.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return folder / "vmlinux"


if __name__ == "__main__":
    print(prepare())
