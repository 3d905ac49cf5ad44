"""What an operator waits for, on this computer, with nullctl as it ships and the unmodified boot file in the machine:
all services, an operator's key in the configuration, QEMU's own network to the box's door and to nowhere else.
"""
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from observed import Observed, image
from rows import Row, measured
from timed import qemu

sys.path[:0] = [str(image.ROOT / "tests/lib"), str(image.ROOT / "tools")]
import demo  # noqa: E402
import nullctl  # noqa: E402
import tap  # noqa: E402, F401 (bench/run names its Failure)

AGENT, SAYS = "researcher", "topics to look up"
SECRET = "DEMO_KEY"  # what its manifest asks for; nobody is there who takes it
STATUSES_PER_RUN = 5
LINE_LIMIT_S = 60


def rows() -> list[Row]:
    return [Row("status_ms", "ms", most=50, note="nullctl status, from its start to its end"),
            Row("deploy_to_first_line", "s", most=8,
                note="from the start of nullctl agent deploy agents/researcher to the agent's first line in nullctl "
                     "agent logs -f, the agent's files packed and sent, its runtime on the box")]


def configuration(folder: Path, tool: nullctl.Nullctl, port: int) -> list[str]:
    machine = folder / "machine.toml"
    machine.write_text('hostname = "benchbox"\n' + tool.operator_lines())
    return ["-netdev", f"user,id=net,restrict=on,ipv6=off,hostfwd=tcp:127.0.0.1:{port}-:8443",
            "-device", "virtio-net-pci,netdev=net", "-fw_cfg", f"name=opt/nullbox/machine,file={machine}"]


def trust(box: Observed, tool: nullctl.Nullctl, port: int) -> None:
    said = next(service["status"] or "" for service in box.call("nulld", "Status")["services"]
                if service["name"] == "gate")
    shown = demo.FINGERPRINT.search(said)
    if not shown:
        raise qemu.MachineError(f"gate does not say its fingerprint: {said!r}")
    tool("box", "add", "bench", f"127.0.0.1:{port}", "--fingerprint", shown[1]).ok()
    # The door opens when the box has its address.
    deadline = time.monotonic() + LINE_LIMIT_S
    while tool("status").status != 0 and time.monotonic() < deadline:
        time.sleep(0.2)
    tool("status").ok()


def status_ms(tool: nullctl.Nullctl) -> float:
    begin = time.monotonic()
    answer = tool("status")
    spent = time.monotonic() - begin
    if "benchbox" not in answer.ok().out:
        raise qemu.MachineError(f"nullctl status does not name the box: {answer.out[-200:]!r}")
    return spent * 1000


def first_line(tool: nullctl.Nullctl) -> float:
    """When the agent's first line came."""
    follower = subprocess.Popen([nullctl.PROGRAM, "agent", "logs", "-f", AGENT], stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True,
                                env=os.environ | {"NULLCTL_CONFIG": str(tool.folder), "NO_COLOR": "1"})
    impatient = threading.Timer(LINE_LIMIT_S, follower.kill)
    impatient.start()
    said = []
    try:
        for line in follower.stdout:
            if SAYS in line:
                return time.monotonic()
            said.append(line.strip())
    finally:
        impatient.cancel()
        follower.kill()
        follower.wait()
        follower.stdout.close()
    raise qemu.MachineError(f"{AGENT} does not say {SAYS!r} within {LINE_LIMIT_S} s; it says {' / '.join(said[-3:])}")


def deploy_s(tool: nullctl.Nullctl) -> float:
    begin = time.monotonic()
    tool("agent", "deploy", str(image.ROOT / "agents" / AGENT), "--yes").ok()
    spent = first_line(tool) - begin
    # The next one is a new agent again.
    tool("agent", "stop", AGENT, "--grace-ms", "500")
    tool("agent", "remove", AGENT, "--yes").ok()
    return spent


def measure(rows: list[Row], accel: qemu.Acceleration, runs: int) -> None:
    wanted = {row.name: row for row in rows}
    with tempfile.TemporaryDirectory(prefix="nullbox-bench-") as name:
        folder, port = Path(name), demo.free_port(0)
        tool = nullctl.Nullctl(folder / "nullctl")
        with Observed(folder, accel, image.OUT / "data.img", configuration(folder, tool, port)) as box:
            box.wait_ready()
            box.stop_agents()
            trust(box, tool, port)
            if row := wanted.get("status_ms"):
                measured(row, [status_ms(tool) for _ in range(runs * STATUSES_PER_RUN)])
            if row := wanted.get("deploy_to_first_line"):
                tool("vault", "init", given="correct horse battery staple\n").ok()
                tool("vault", "set", SECRET, given="sk-bench-5f1d9c2e7a").ok()
                measured(row, [deploy_s(tool) for _ in range(runs)])
