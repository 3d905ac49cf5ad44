"""Test images: the production root, staged by the same code, with files added, replaced or taken away. Made in a second
or two, kept in out/test under a key of all inputs.
"""
import functools
import hashlib
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "image"))
import root as image  # noqa: E402

PROGRAMS = image.RELEASE / "tests/boot/probe"
TEST_PROGRAMS = ["probe", "torture"]
FAST = ["-comp", "zstd", "-Xcompression-level", "1"]

# The probe as an ordinary service, and as root without Landlock, which would keep it from looking into other processes.
PROBE_SERVICES = """
[service.probe]
exec = ["/system/bin/probe", "/dev/vport0p1"]
user = 110
syscalls = "all"
read_paths = ["/"]
write_paths = ["/"]
execute_paths = ["/system/bin"]
devices = ["/dev/vport0p1"]
pids_max = 1000

[service.probe-root]
exec = ["/system/bin/probe", "/dev/vport0p2"]
user = 0
capabilities = [{all_capabilities}]
syscalls = "all"
files = "all"
devices = ["/dev/vport0p2"]
pids_max = 2000
"""
ALL_CAPABILITIES = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_KILL", "CAP_SYS_PTRACE",
                    "CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_SYS_BOOT", "CAP_SYS_RAWIO", "CAP_MKNOD", "CAP_SYSLOG"]


@dataclass
class Variant:
    name: str
    services: str = ""                 # added to nulld.toml after the probes
    probes: bool = True
    edit: object = None                # text of nulld.toml -> text
    add: dict = field(default_factory=dict)     # path -> bytes or Path, or (either, mode)
    remove: list = field(default_factory=list)  # paths
    damage: object = None              # bytes of root.squashfs -> bytes
    init: bytes | None = None          # instead of stage 1 as /init; b"" leaves it out
    compression: list = field(default_factory=lambda: FAST)

    def configuration(self) -> bytes:
        text = (ROOT / "image/config/nulld.toml").read_text()
        if self.probes:
            text += PROBE_SERVICES.format(all_capabilities=", ".join(f'"{name}"' for name in ALL_CAPABILITIES))
        text += self.services
        return (self.edit(text) if self.edit else text).encode()

    @staticmethod
    @functools.cache
    def _build_programs() -> None:
        """make image builds what ships; these two are the tests' own."""
        image.run("ninja", "-C", image.RELEASE, *TEST_PROGRAMS)

    def _stage(self, stage: Path) -> None:
        image.stage_root(stage, image.build_time())
        image.put(stage, "system/config/nulld.toml", self.configuration(), 0o444)
        if self.probes:
            self._build_programs()
            for name in TEST_PROGRAMS:
                image.put(stage, f"system/bin/{name}", PROGRAMS / name, 0o555)
        for path, content in self.add.items():
            source, mode = content if isinstance(content, tuple) else (content, 0o444)
            (stage / path).unlink(missing_ok=True)
            image.put(stage, path, source, mode)
        for path in self.remove:
            (stage / path).unlink()

    def build(self) -> Path:
        """The path of the initramfs."""
        folder = image.OUT / "test"
        folder.mkdir(parents=True, exist_ok=True)
        target, stamp = folder / f"{self.name}.cpio.zst", folder / f"{self.name}.key"
        with tempfile.TemporaryDirectory(dir=folder) as place:
            stage = Path(place) / "root"
            self._stage(stage)
            init = (image.RELEASE / image.STAGE1).read_bytes() if self.init is None else self.init
            key = self._key(stage, init)
            if target.exists() and stamp.exists() and stamp.read_text() == key:
                return target
            squashfs, packed = Path(place) / "squashfs", Path(place) / "initramfs"
            image.pack_squashfs(stage, squashfs, image.build_time(), self.compression)
            if self.damage:
                squashfs.write_bytes(self.damage(squashfs.read_bytes()))
            image.pack_initramfs(init, squashfs, packed, image.build_time(), level=1)
            os.replace(packed, target)
            stamp.write_text(key)
        return target

    def _key(self, stage: Path, init: bytes) -> str:
        digest = hashlib.sha256()
        for path in sorted(stage.rglob("*")):
            if path.is_file():
                digest.update(str(path.relative_to(stage)).encode() + oct(path.stat().st_mode).encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
        damaged = self.damage(b"x" * 8_000_000) if self.damage else b""
        digest.update(hashlib.sha256(damaged).digest() + repr((init, self.compression)).encode())
        return digest.hexdigest()


def data_disk_copy(name: str) -> Path:
    """A writable copy of the data disk."""
    target = image.OUT / "test" / f"{name}.data.img"
    target.parent.mkdir(parents=True, exist_ok=True)
    image.run("cp", "--sparse=always", "--reflink=auto", image.OUT / "data.img", target)
    return target


def forget(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
