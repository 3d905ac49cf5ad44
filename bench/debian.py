"""The peer that people know: a minimal Debian 12 with systemd and the cloud kernel, as mmdebstrap installs it. Made
once and kept in the cache: needs a Debian mirror the first time only.
"""
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
import qemu  # noqa: E402

# Runs last in the image, before anything else is asked of it. It comes after the default target, so its first line is
# the time that a user waits for; all else happens after the clock has stopped.
REPORT_UNIT = """\
[Unit]
DefaultDependencies=no
After=default.target
[Service]
ExecStart=/bin/sh /usr/local/sbin/bench-report
[Install]
WantedBy=default.target
"""
REPORT = """\
exec >/dev/ttyS0
echo bench: ready
sleep 6
# The login prompt has hung up the line meanwhile.
exec >/dev/ttyS0
systemd-analyze time
grep -E 'MemTotal|MemAvailable' /proc/meminfo
echo bench: end
exec systemctl poweroff -ff
"""
# The modules of an equal guest: its devices on virtio-mmio, its image, the overlay over it.
GUEST_MODULES = "virtio_mmio virtio_console virtio_blk erofs overlay"

# $1 is the new root, $2 where its files go. The bind mount shows the root without what is mounted in it now.
HOOK = """\
set -eu
root=$1 out=$2
version=$(ls "$root/lib/modules")
echo "$version" >"$out/version"
cp "$root/boot/vmlinuz-$version" "$out/vmlinuz"
cp "$root/boot/initrd.img-$version" "$out/initrd.img"
mkdir "$out/modules"
for module in $GUEST_MODULES; do
    chroot "$root" modprobe -S "$version" --show-depends "$module"
done | sed -n 's/^insmod \\([^ ]*\\).*/\\1/p' | awk '!seen[$0]++' | while read -r file; do
    cp "$root$file" "$out/modules/"
    basename "$file" >>"$out/modules/order"
done
cp "$out/bench-report.service" "$root/etc/systemd/system/"
cp "$out/bench-report" "$root/usr/local/sbin/bench-report"
chroot "$root" systemctl enable -q bench-report.service
# Not a first boot: that would make the peer look slower than it is.
chroot "$root" systemd-machine-id-setup >/dev/null
echo '/dev/vda / ext4 defaults 0 1' >"$root/etc/fstab"
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
mkdir "$out/bind"
mount --bind "$root" "$out/bind"
mke2fs -q -t ext4 -L root -d "$out/bind" "$out/root.ext4" 1200M
umount "$out/bind"
"""


@dataclass
class Debian:
    folder: Path

    @property
    def version(self) -> str:
        return (self.folder / "version").read_text().strip()

    @property
    def kernel(self) -> Path:
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.folder / "initrd.img"

    @property
    def disk(self) -> Path:
        return self.folder / "root.ext4"

    def modules(self) -> list[Path]:
        """In the order in which they load."""
        folder = self.folder / "modules"
        return [folder / name for name in (folder / "order").read_text().split()]


def prepare() -> Debian:
    recipe = hashlib.sha256((REPORT_UNIT + REPORT + GUEST_MODULES + HOOK).encode()).hexdigest()[:16]
    folder = qemu.CACHE / "bench" / f"debian-12-{recipe}"
    if folder.exists():
        return Debian(folder)
    if not shutil.which("mmdebstrap"):
        raise qemu.MachineError("mmdebstrap is missing: run tools/setup")
    folder.parent.mkdir(parents=True, exist_ok=True)
    print("bench: making the Debian peer (once; about 2 minutes)", file=sys.stderr, flush=True)
    making = Path(tempfile.mkdtemp(dir=folder.parent, prefix="making-"))
    try:
        making.chmod(0o777)  # in mmdebstrap's unshare mode the hook is another user
        (making / "bench-report.service").write_text(REPORT_UNIT)
        (making / "bench-report").write_text(REPORT)
        (making / "hook").write_text(f"GUEST_MODULES='{GUEST_MODULES}'\n{HOOK}")
        made = subprocess.run(
            ["mmdebstrap", "--variant=minbase", "--include=systemd-sysv,linux-image-cloud-amd64", "--format=null",
             f"--customize-hook=sh {making}/hook \"$1\" {making}", "bookworm", "-"],
            capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
        if made.returncode != 0:
            last = " / ".join(made.stderr.strip().splitlines()[-5:])
            raise qemu.MachineError(f"mmdebstrap could not make the Debian peer: {last}")
        making.chmod(0o755)
        making.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return Debian(folder)


if __name__ == "__main__":
    print(prepare().folder)
