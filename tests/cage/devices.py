"""What a VM's devices do for its agent: memory that goes back to the host, a scratch disk, its rate limit, as many devices
as a VM can have."""
import re
from pathlib import Path

import variants
from box import Box, Refused
from tap import Suite, equal, expect

image = variants.image
CAGE = "io.nullbox.cage"
START_LIMIT_S = 90
WORKER = image.RELEASE / "tests/cage/devices_worker/devices_worker"
LAUNCHER = image.RELEASE / "src/cage/vmm/vmm_launcher"

# name: arguments of the worker, keys of [agent], keys of [capabilities]
AGENTS = {
    "giver": ('"free", "64"', "", "max_memory_mb = 128"),
    # More than all of its memory, twice.
    "writer": ('"scratch", "70"', "user = 0", "max_memory_mb = 64\nscratch_mb = 160"),
    "slow": ('"read", "12"', "user = 0", "max_memory_mb = 64\nscratch_mb = 32\ndisk_mbps = 2"),
    "greedy": ('"scratch", "1"', "", "max_memory_mb = 64\nscratch_mb = 1048576"),
}


def manifest(name: str) -> bytes:
    arguments, agent, capabilities = AGENTS[name]
    return (f'[agent]\nname = "{name}"\nversion = "1"\nimage = "devices"\ncommand = ["/worker", {arguments}]\n'
            f'start = "manual"\n{agent}\n[capabilities]\n{capabilities}\n').encode()


def agents(folder: Path) -> dict:
    """Files of the test image: the worker's own, a manifest for each agent, and the monitor's launcher."""
    image.run("ninja", "-C", image.RELEASE, "devices_worker", "vmm_launcher")
    stage, packed = folder / "devices", folder / "devices.img"
    image.put(stage, "worker", WORKER, 0o555)
    for place in ("dev", "proc", "run", "sys", "tmp"):
        (stage / place).mkdir()
    image.run("mksquashfs", stage, packed, "-noappend", "-quiet", "-no-progress", "-all-root", *variants.FAST)
    return ({"agent/images/devices.img": packed.read_bytes(), "system/bin/vmm_launcher": (LAUNCHER, 0o555)} |
            {f"agent/{name}.toml": manifest(name) for name in AGENTS})


class Devices:
    def __init__(self, machine: Box):
        self.box, self.root = machine, machine.root

    def call(self, method: str, name: str) -> dict:
        return self.root.call(f"{CAGE}.{method}", {"name": name}, limit_s=START_LIMIT_S)

    def lines(self, name: str) -> list[str]:
        answer = self.root.call(f"{CAGE}.Logs", {"name": name, "lines": 4096})
        return [line["text"] for line in answer["lines"] if line["stream"] in ("stdout", "stderr")]

    def says(self, name: str, pattern: str, limit_s: float = START_LIMIT_S) -> re.Match:
        def look():
            return next((match for line in self.lines(name) if (match := re.search(pattern, line))), None)
        try:
            return self.box.wait_until(look, limit_s, f"{name} says {pattern}")
        except Refused as late:
            raise Refused(f"{late}; it said {self.lines(name)[-5:]}") from None

    def memory_mb(self, name: str) -> float:
        return int(self.root.read(f"/sys/fs/cgroup/cage/{name}/memory.current")) / (1 << 20)

    def free_memory_goes_back(self) -> str:
        self.call("Start", "giver")
        self.says("giver", "^touched$")
        full = self.memory_mb("giver")
        expect(full > 64, f"64 MB are touched, and the VM holds {full:.1f} MB")
        self.says("giver", "^freed$")
        # The guest's kernel reports what is free every two seconds.
        self.box.wait_until(lambda: self.memory_mb("giver") < full - 50, 30,
                            "50 of the 64 freed MB are the host's again", every_s=0.5)
        left = self.memory_mb("giver")
        self.call("Stop", "giver")
        return f"{full:.0f} MB, then {left:.0f} MB"

    def scratch_holds_more_than_memory(self) -> None:
        for _ in range(2):
            self.call("Start", "writer")
            self.says("writer", "^/tmp holds 70 MB$", 180)
            said = self.lines("writer")
            expect("fresh" in said and "stale" not in said, f"it said {said}")
            self.call("Stop", "writer")
        equal(self.root.names("/var/scratch"), [], "names in /var/scratch")

    def disk_limit_holds(self) -> str:
        self.call("Start", "slow")
        match = self.says("slow", r"^read (\d+) ms, longest silence (\d+) ms$", 120)
        took, silence = int(match[1]), int(match[2])
        # 12 MB at 2 MB/s, 2 of them at once, and one into debt.
        expect(took >= 4300, f"12 MB at 2 MB/s came in {took} ms")
        expect(silence < took / 2, f"nothing else went on for {silence} of {took} ms")
        return f"12 MB in {took} ms at 2 MB/s, longest silence {silence} ms"

    def too_much_is_refused(self) -> None:
        try:
            self.call("Start", "greedy")
        except Refused as refusal:
            expect("scratch" in str(refusal) and ("lower scratch_mb" in str(refusal) or "data partition" in str(refusal)),
                   f"it says {refusal}")
            return
        raise Refused("a terabyte of scratch was given")

    def twenty_devices(self) -> str:
        """Seven disks, eight shares, a network card, vsock, console, rng and balloon: the guest comes up, its vsock works,
        and its image is read over the line that the first disk shares with the last share."""
        words = ["/system/bin/vmm_launcher", "--kernel", "/system/guest/vmlinux", "--initramfs",
                 "/system/guest/initramfs.cpio", "--hello", "--tap", "many"]
        words += ["--disk", "/agent/images/devices.img"] * 7
        for number in range(8):
            words += ["--share", f"share{number}=/run"]
        answer = self.root.execute(*words, limit_s=START_LIMIT_S)
        output = str(answer)
        expect("guest connected to port 1024" in output and "stream:" in output, f"the launcher said {output[-600:]}")
        expect("neither SquashFS" not in output and "panic" not in output, output[-600:])
        return "20 devices"


def play(suite: Suite, machine: Box) -> None:
    devices = Devices(machine)
    suite.check("memory that a guest has freed goes back to the host", devices.free_memory_goes_back)
    suite.check("a scratch disk holds more than the guest's memory, and is fresh at each start",
                devices.scratch_holds_more_than_memory)
    suite.check("a disk's rate limit holds, and other devices go on", devices.disk_limit_holds)
    suite.check("a scratch disk that does not fit is refused with the remedy", devices.too_much_is_refused)
    suite.check("a VM with twenty devices comes up", devices.twenty_devices)
