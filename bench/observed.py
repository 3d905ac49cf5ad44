"""Our machine with the observer in it: the unmodified boot file, and a second archive after it that holds one program,
which the kernel starts in nulld's place and which then becomes nulld.
"""
import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "image")]
import cpio  # noqa: E402
import qemu  # noqa: E402
import root as image  # noqa: E402
from timed import TimedMachine  # noqa: E402

OBSERVER = "bench/bench_observer"
ANSWER_LIMIT_S = 240


def initramfs(folder: Path, image_file: Path) -> Path:
    boot_file = image_file.read_bytes()
    program = (image.RELEASE / OBSERVER).read_bytes()
    # Archives follow one another at multiples of four bytes.
    more = cpio.archive([cpio.folder("proc"), cpio.folder("peer"), cpio.file("bench-observer", program, 0o755)], 0)
    target = folder / "observed.cpio"
    target.write_bytes(boot_file + b"\0" * (-len(boot_file) % 4) + more)
    return target


class Observed:
    """disk: the first block device, what the guest writes to it is thrown away. extra: more words for QEMU. image_file: an
    initramfs with more in it than what ships."""

    def __init__(self, folder: Path, accel: qemu.Acceleration, disk: Path, extra: list[str] | None = None,
                 image_file: Path = image.OUT / "initramfs.cpio.zst"):
        options = qemu.Options(initramfs=initramfs(folder, image_file), append="rdinit=/bench-observer", accel=accel,
                               data_disk=disk, keep_data=False, ports=["bench"], extra=list(extra or []))
        self.machine = TimedMachine(options, "bench")

    def __enter__(self) -> "Observed":
        self.machine.__enter__()
        try:
            self._port = self.machine.machine.port("bench")
        except BaseException:
            self.machine.__exit__()
            raise
        self._port.settimeout(ANSWER_LIMIT_S)
        self._stream = self._port.makefile("rb")
        return self

    def __exit__(self, *_) -> None:
        self._port.close()
        self.machine.__exit__()

    def ask(self, what: str, **request) -> dict:
        """A refusal, or a machine that does not answer, is a MachineError."""
        try:
            self._port.sendall(json.dumps({"do": what, **request}).encode() + b"\n")
            line = self._stream.readline()
        except OSError as problem:
            raise qemu.MachineError(f"bench observer: {what}: {problem}; {self._console_end()}") from None
        if not line:
            raise qemu.MachineError(f"bench observer: the machine ended during {what}; {self._console_end()}")
        answer = json.loads(line)
        if "error" in answer:
            raise qemu.MachineError(f"{what}: {answer['error']}")
        return answer["answer"]

    def _console_end(self) -> str:
        return "the console ends with: " + " / ".join(self.machine.console.text().strip().splitlines()[-5:])

    def call(self, service: str, method: str, **parameters) -> dict:
        return self.ask("call", socket=f"/run/{service}/{service}.sock", method=f"io.nullbox.{service}.{method}",
                        parameters=parameters)

    def wait_ready(self, limit_s: float = 90) -> dict:
        """nulld's account of the boot, once all services run."""
        deadline, last = time.monotonic() + limit_s, "nulld has not answered"
        while time.monotonic() < deadline:
            try:
                boot = self.call("nulld", "Status")["boot"]
                if boot["ready_ms"] is not None:
                    return boot
                last = f"nulld says {boot}"
            except qemu.MachineError as problem:
                if not self.machine.machine.running:
                    raise
                last = str(problem)
            time.sleep(0.3)
        raise qemu.MachineError(f"not all services are running after {limit_s:.0f} s: {last}; {self._console_end()}")

    def kernel_clock_zero(self) -> float:
        """When, on the host's clock, the guest's uptime was zero: the best of several answers, as each comes late."""
        return min(-self.call("nulld", "Status")["uptime_ms"] / 1000 + time.monotonic() for _ in range(8))

    def stop_agents(self) -> None:
        for agent in self.call("cage", "List")["agents"]:
            if agent["state"] in ("starting", "running"):
                self.call("cage", "Stop", name=agent["name"], grace_ms=1000)
