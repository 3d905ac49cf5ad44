"""The root file system: what is in it, and how it and the initramfs around it are packed. image/build makes the
production image with it, tests/boot makes variants for tests with it.
"""
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "image"))
import cpio  # noqa: E402

RELEASE = ROOT / "build/release"
OUT = ROOT / "out"
# Programs of the host, from where the build puts them.
PROGRAMS = {name: f"src/{name}/{name}" for name in ("nulld", "egress", "warden", "ctxgraph", "cage", "gate")}
# The operator's own tool, for the machine they sit at.
NULLCTL = "src/nullctl/nullctl"
# The world's certificate authorities as Debian ships them. Not the bundle in /etc, which may hold this machine's own.
CERTIFICATES = Path("/usr/share/ca-certificates/mozilla")
AGENT_INIT = "src/agent_init/agent-init"
# /init of the boot file.
STAGE1 = "src/nulld/stage1"
CONFIGURATION = ["nulld.toml", "machine.toml"]
# Agents in the boot file itself; the others come on the data disk.
AGENTS = ["hello"]
# Empty folders that nulld mounts on.
MOUNT_POINTS = ["dev", "proc", "run", "sys", "tmp", "var"]


class ImageError(Exception):
    pass


def build_time() -> int:
    """One time for every file: the last commit's, so that the same commit gives the same bytes."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    answer = subprocess.run(["git", "-C", str(ROOT), "log", "-1", "--format=%ct"], capture_output=True, text=True)
    return int(answer.stdout) if answer.returncode == 0 else 1_700_000_000


def run(*command) -> None:
    # build_time() is where SOURCE_DATE_EPOCH counts; mksquashfs takes it or its own options, and not both.
    environment = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise ImageError(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-2000:]}")


def put(stage: Path, path: str, source: Path | bytes, mode: int) -> None:
    target = stage / path
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(source, bytes):
        target.write_bytes(source)
    else:
        if not source.exists():
            raise ImageError(f"{source.relative_to(ROOT) if source.is_relative_to(ROOT) else source} is missing: "
                             f"it belongs at /{path} in the image")
        shutil.copyfile(source, target)
    target.chmod(mode)


def certificate_bundle(folder: Path = CERTIFICATES) -> bytes:
    """What egress checks servers against."""
    parts = [path.read_bytes() for path in sorted(folder.glob("*.crt"))]
    if len(parts) < 50:
        raise ImageError(f"{folder} holds {len(parts)} certificates: install the package ca-certificates")
    return b"".join(parts)


def guest_initramfs(time: int) -> bytes:
    """Uncompressed: unpacking under a guest's kernel costs more than reading it."""
    agent_init = (RELEASE / AGENT_INIT).read_bytes()
    return cpio.archive([cpio.folder("dev"), cpio.character_device("dev/console", 5, 1),
                         cpio.file("init", agent_init, 0o755)], time)


def stage_root(stage: Path, time: int) -> None:
    """The whole production root in a folder. Owners and times come when it is packed."""
    for name in MOUNT_POINTS:
        (stage / name).mkdir(parents=True)
    for name, built in PROGRAMS.items():
        put(stage, f"system/bin/{name}", RELEASE / built, 0o555)
    for name in CONFIGURATION:
        put(stage, f"system/config/{name}", ROOT / "image/config" / name, 0o444)
    put(stage, "system/config/ca-certificates.crt", certificate_bundle(), 0o444)
    put(stage, "system/guest/vmlinux", OUT / "guest-vmlinux", 0o444)
    put(stage, "system/guest/initramfs.cpio", guest_initramfs(time), 0o444)
    for name in AGENTS:
        put(stage, f"agent/{name}.toml", ROOT / "agents" / name / "AGENT.toml", 0o444)
        put(stage, f"agent/images/{name}.img", OUT / "agents" / f"{name}.img", 0o444)


def pack_squashfs(stage: Path, target: Path, time: int, compression: list[str] | None = None) -> None:
    """Folders get one mode here, because a stage made under another umask must give the same bytes."""
    for folder, _, _ in os.walk(stage):
        os.chmod(folder, 0o755)
    target.unlink(missing_ok=True)
    # Blocks of 128 KiB: the kernel keeps several unpacked for each processor (6 MB more of a small machine at 1 MiB), and
    # unpacks a block whole for any page of it. No xattrs, no NFS export table.
    run("mksquashfs", stage, target, "-noappend", "-quiet", "-no-progress", "-b", "128K", "-all-root", "-no-xattrs", "-no-exports", "-mkfs-time", time, "-all-time", time,
        *(compression or ["-comp", "zstd", "-Xcompression-level", "19"]))


def pack_initramfs(init: bytes, squashfs: Path, target: Path, time: int, level: int = 19) -> None:
    """The squashfs inside is compressed already; zstd finds that out and stores it, and packs /init."""
    archive = cpio.archive([cpio.folder("dev"), cpio.character_device("dev/console", 5, 1),
                            cpio.file("init", init, 0o755), cpio.file("root.squashfs", squashfs.read_bytes(), 0o444)],
                           time)
    plain = target.with_name(target.name + ".plain")
    plain.write_bytes(archive)
    run("zstd", f"-{level}", "-q", "-f", "--no-check", "-T1", plain, "-o", target)
    plain.unlink()
