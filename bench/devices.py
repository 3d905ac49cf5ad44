"""What a guest gets out of its devices, in one boot of the box: in our VM, jailed as cage jails it, then in QEMU's microvm,
in turns. The same guest kernel and init, which measures (guest_devices.cpp), the same file, tap and programs behind them on
the host's side (host_lab.cpp). QEMU is unjailed, and has no vhost: the box's kernel has none.
"""
import re
import tempfile
from pathlib import Path

import peer_disk
from observed import Observed, image
from rows import Row, measured
from timed import qemu

PEER = "QEMU microvm"
LAUNCHER = "src/cage/vmm/vmm_launcher"
HOST_LAB = "bench/bench_host_lab"
VIRTIOFSD = Path("/usr/lib/qemu/virtiofsd")
FILE_MB = 16
MEMORY_MB = 128
SOCKET = "/tmp/lab/fs.sock"
# Ours has one more than the peer: QEMU's vsock is vhost's alone.
OURS = ["blk_read", "fs_read", "net_to_host", "net_round_trip", "vsock_round_trip"]
THEIRS = OURS[:-1]


def rows() -> list[Row]:
    return [Row("blk_read", "MB/s", peer_name=PEER, least_ratio=1, note="virtio-blk, sequential, through the guest's page cache"),
            Row("fs_read", "MB/s", peer_name=f"{PEER} and virtiofsd", least_ratio=1, note="virtio-fs, the same"),
            Row("net_to_host", "MB/s", peer_name=PEER, least_ratio=1, note="virtio-net, one TCP stream to the host"),
            Row("net_round_trip", "us", peer_name=PEER, note="virtio-net, 64 bytes over TCP to the host and back"),
            Row("vsock_round_trip", "us", peer_name="our virtio-net's", most_ratio=1,
                note="64 bytes over vsock to the host and back")]


def our_command() -> list[str]:
    return ["/bench/bench_host_lab", str(FILE_MB), "/bench/vmm_launcher", "--kernel", "/guest/vmlinux",
            "--initramfs", "/guest/initramfs.cpio", "--memory", str(MEMORY_MB), "--jail-uid", "200000",
            "--disk", "/tmp/lab/share/file", "--tap", "bench0", "--read-only-share", "share=/tmp/lab/share",
            "--append", "bench=" + ",".join(OURS)]


def their_command() -> list[str]:
    append = "console=hvc0 quiet reboot=t panic=-1 tsc=reliable cryptomgr.notests no_timer_check noreplace-smp"
    return ["/bench/bench_host_lab", str(FILE_MB), SOCKET, str(VIRTIOFSD), f"--socket-path={SOCKET}",
            "-o", "source=/tmp/lab/share", "-o", "sandbox=chroot", "--",
            str(peer_disk.QEMU), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            # virtiofsd reaches the guest's memory, so that must be a file.
            "-object", f"memory-backend-memfd,id=ram,size={MEMORY_MB}M,share=on",
            "-M", "microvm,rtc=off,pit=off,pic=off,isa-serial=off,acpi=off,memory-backend=ram",
            "-global", "virtio-mmio.force-legacy=off",  # libvhost-user wants the version of today
            "-accel", "kvm", "-cpu", "host", "-smp", "1", "-m", str(MEMORY_MB),
            "-kernel", "/guest/vmlinux", "-initrd", "/guest/initramfs.cpio",
            "-append", f"{append} bench={','.join(THEIRS)}",
            "-chardev", "stdio,id=console,signal=off", "-device", "virtio-serial-device",
            "-device", "virtconsole,chardev=console",
            "-drive", "if=none,id=file,format=raw,readonly=on,file=/tmp/lab/share/file",
            "-device", "virtio-blk-device,drive=file",
            "-netdev", "tap,id=net,ifname=bench0,script=no,downscript=no,vhost=off",
            "-device", "virtio-net-device,netdev=net",
            "-chardev", f"socket,id=fs,path={SOCKET}", "-device", "vhost-user-fs-device,chardev=fs,tag=share"]


def values_of(line: str) -> dict[str, float]:
    """Megabytes a second, or microseconds for one."""
    values = {}
    for part in line.partition("bench: ")[2].strip(" ?").split("; "):
        if not (found := re.fullmatch(r"(\w+) (\d+) (\d+)", part)):
            raise qemu.MachineError(f"the guest says: {part}")
        name, amount, ns = found[1], int(found[2]), int(found[3])
        values[name] = ns / amount / 1e3 if name.endswith("round_trip") else amount / ns * 1e3
    return values


def run(box: Observed, who: str, command: list[str]) -> dict[str, float]:
    try:
        return values_of(box.ask("run", argv=command, until="bench: ")["line"])
    except qemu.MachineError as problem:
        raise qemu.MachineError(f"{who}: {problem}") from None


def measure(rows: list[Row], accel: qemu.Acceleration, runs: int) -> None:
    programs = [image.RELEASE / LAUNCHER, image.RELEASE / HOST_LAB, VIRTIOFSD]
    ours, theirs = [], []
    with tempfile.TemporaryDirectory(prefix="nullbox-bench-") as name:
        folder = Path(name)
        with Observed(folder, accel, peer_disk.build(None, folder, programs)) as box:
            box.wait_ready()
            box.stop_agents()
            for _ in range(runs):
                ours.append(run(box, "ours", our_command()))
                theirs.append(run(box, PEER, their_command()))
    for row in rows:
        peers = [values["net_round_trip"] for values in ours] if row.name == "vsock_round_trip" else \
            [values[row.name] for values in theirs]
        measured(row, [values[row.name] for values in ours], peers)
