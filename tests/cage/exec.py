"""Commands and copies in a running agent, by nullctl from outside the box: the analyst's image, whose agent only waits."""
import hashlib
import os
import pty
import re
import select
import signal
import struct
import subprocess
import time
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ

import demo
import nullctl
from box import Box
from tap import Suite, equal, expect

CAGE = "io.nullbox.cage"
START_LIMIT_S = 120
LIMIT_S = 240  # a VM in an emulated machine
MANIFEST = """[agent]
name = "host-of-exec"
version = "1"
image = "python"
command = ["python3", "-c", "import time\\nwhile True: print('still here', flush=True); time.sleep(1)"]
user = 1000
start = "manual"
[agent.environment]
GREETING = "hello"
[capabilities]
max_memory_mb = 128
"""
PATTERN = bytes(range(256)) * 4

# Module state: made before the machine is, used while it runs.
_door = None


class Door:
    def __init__(self, folder: Path):
        self.operator, self.reader = nullctl.Nullctl(folder / "operator"), nullctl.Nullctl(folder / "reader")
        self.port = demo.free_port(0)
        self.machine = folder / "machine.toml"
        self.machine.write_text('hostname = "execbox"\n' + self.operator.operator_lines("--name", "olga", "--role", "operator") +
                                self.reader.operator_lines("--name", "rita", "--role", "reader"))

    def arguments(self) -> list[str]:
        return ["-netdev", f"user,id=net,restrict=on,ipv6=off,hostfwd=tcp:127.0.0.1:{self.port}-:8443",
                "-device", "virtio-net-pci,netdev=net", "-fw_cfg", f"name=opt/nullbox/machine,file={self.machine}"]


def agents(folder: Path) -> dict:
    global _door
    _door = Door(folder)
    return {"agent/host-of-exec.toml": MANIFEST.encode()}


def arguments(folder: Path) -> list[str]:
    return _door.arguments()


class Exec:
    def __init__(self, machine: Box, door: Door):
        self.box, self.root, self.door = machine, machine.root, door
        self.folder = door.machine.parent

    # --- what the checks are made of

    def words(self, *words: str) -> list[str]:
        return [str(nullctl.PROGRAM), "agent", "exec", *words]

    def environment(self) -> dict:
        return os.environ | {"NULLCTL_CONFIG": str(self.door.operator.folder), "NO_COLOR": "1"}

    def exec(self, *command: str, options: tuple = ()) -> nullctl.Answer:
        return self.door.operator("agent", "exec", *options, "host-of-exec", "--", *command, limit_s=LIMIT_S)

    def python(self, script: str, **options) -> nullctl.Answer:
        return self.exec("python3", "-c", script, **options)

    def cage_lines(self) -> list[str]:
        answer = self.root.call(f"{CAGE}.Logs", {"name": "host-of-exec", "lines": 4096, "stream": "cage"})
        return [line["text"] for line in answer["lines"]]

    def alive(self, word: str) -> bool:
        """Whether a process in the guest has that word among its arguments."""
        script = ("import os\nfor pid in filter(str.isdigit, os.listdir('/proc')):\n"
                  "    try: text = open(f'/proc/{pid}/cmdline').read()\n    except OSError: continue\n"
                  f"    if '{word[:-1]}' + '{word[-1]}' in text and int(pid) != os.getpid(): print('alive')\n")
        return "alive" in self.python(script).ok().out

    # --- the checks

    def agent_runs(self):
        status = self.box.wait_until(self.gate_status, 60, "gate is ready")
        fingerprint = re.search(r"fingerprint (sha256:[0-9a-f]+)", status)[1]
        for tool in (self.door.operator, self.door.reader):
            tool("box", "add", "execbox", f"127.0.0.1:{self.door.port}", "--fingerprint", fingerprint).ok()
        self.door.operator("agent", "start", "host-of-exec", limit_s=START_LIMIT_S).ok()

    def gate_status(self) -> str:
        services = self.root.call("io.nullbox.nulld.Status")["services"]
        return next((each["status"] or "" for each in services
                     if each["name"] == "gate" and each["state"] == "running"), "")

    def output_and_status(self):
        began = time.monotonic()
        answer = self.python("import os, sys; print(os.getuid(), os.environ['GREETING'], os.getcwd()); "
                             "print('to stderr', file=sys.stderr); sys.exit(7)")
        equal((answer.status, answer.out, answer.err), (7, "1000 hello /\n", "to stderr\n"), "a command")
        took = time.monotonic() - began
        equal(self.exec("no-such").status, 127, "a command that is not there")
        equal(self.python("import os; os.kill(os.getpid(), 15)").status, 143, "a command that a signal ended")
        equal(self.python("import os; print(os.getuid(), os.getcwd(), os.environ['A'])",
                          options=("-u", "0", "-w", "/tmp", "-e", "A=b")).out, "0 /tmp b\n", "as another user")
        return f"{took:.1f} s for one"

    def megabytes(self):
        sent = PATTERN * (10 * 1024)
        began = time.monotonic()
        script = "import shutil, sys; shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer)"
        done = subprocess.run(self.words("-i", "host-of-exec", "--", "python3", "-c", script), input=sent, capture_output=True,
                              timeout=LIMIT_S, env=self.environment())
        equal(done.returncode, 0, f"status ({done.stderr[-300:]})")
        equal(hashlib.sha256(done.stdout).hexdigest(), hashlib.sha256(sent).hexdigest(), "what came back")
        return f"{len(sent) / 1e6:.0f} MB there and back in {time.monotonic() - began:.1f} s"

    def slow_reader(self):
        script = "import sys\nfor _ in range(2000): sys.stdout.write('x' * 10_000)"
        flood = subprocess.Popen(self.words("host-of-exec", "--", "python3", "-c", script), stdout=subprocess.PIPE,
                                 env=self.environment())
        flood.stdout.read(1)
        equal(self.python("print('quick')").out, "quick\n", "another command meanwhile")
        before = self.lines_of_agent()
        self.box.wait_until(lambda: self.lines_of_agent() > before, 60, "the agent's own output goes on")
        rest, status = flood.stdout.read(), flood.wait(LIMIT_S)
        equal((len(rest) + 1, status), (20_000_000, 0), "the slow reader's bytes and status")

    def lines_of_agent(self) -> int:
        lines = self.root.call(f"{CAGE}.Logs", {"name": "host-of-exec", "lines": 1, "stream": "stdout"})["lines"]
        return lines[-1]["sequence"] if lines else 0

    def terminal(self):
        child, outer = pty.fork()
        if child == 0:
            words = self.words("-i", "-t", "host-of-exec", "--", "python3", "-i", "-q")
            time.sleep(0.3)  # until the size is set
            os.execve(words[0], words, self.environment() | {"TERM": "dumb"})
        ioctl(outer, TIOCSWINSZ, struct.pack("HHHH", 31, 117, 0, 0))
        shown = b""

        def until(text: bytes):
            nonlocal shown
            end = time.monotonic() + LIMIT_S
            while text not in shown:
                expect(time.monotonic() < end, f"the terminal does not show {text!r}: {shown[-400:]!r}")
                if select.select([outer], [], [], 1)[0]:
                    shown += os.read(outer, 4096)
        until(b">>> ")
        os.write(outer, b"import os, sys; print('size', *os.get_terminal_size(), sys.stdin.isatty())\r")
        until(b"size 117 31 True")
        ioctl(outer, TIOCSWINSZ, struct.pack("HHHH", 40, 90, 0, 0))
        time.sleep(1)
        os.write(outer, b"print('size', *os.get_terminal_size())\r")
        until(b"size 90 40")
        os.write(outer, b"import time; print('sleeps', flush=True); time.sleep(1000)\r")
        until(b"\nsleeps")
        os.write(outer, b"\x03")
        until(b"KeyboardInterrupt")
        os.write(outer, b"sys.exit(5)\r")
        equal(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 5, "status")

    def caller_gone(self):
        mark = f"mark-{os.getpid()}"
        child = subprocess.Popen(self.words("host-of-exec", "--", "python3", "-c", "import time; print('up', flush=True); "
                                            "time.sleep(1000)", mark), stdout=subprocess.PIPE, env=self.environment())
        equal(child.stdout.readline(), b"up\n", "its first line")
        expect(self.alive(mark), "the command is not seen in the guest")
        child.send_signal(signal.SIGKILL)
        child.wait()
        self.box.wait_until(lambda: not self.alive(mark), 60, "the command is gone from the guest")

    def copies(self):
        there, back = self.folder / "tree", self.folder / "back"
        (there / "a/b").mkdir(parents=True)
        (there / "a/b/large").write_bytes(PATTERN * 3000)
        (there / "run.sh").write_text("#!/bin/sh\n")
        (there / "run.sh").chmod(0o750)
        (there / "link").symlink_to("a/b/large")
        self.door.operator("agent", "cp", str(there), "host-of-exec:/tmp/tree", limit_s=LIMIT_S).ok()
        script = "import hashlib, os; print(hashlib.sha256(open('/tmp/tree/link', 'rb').read()).hexdigest(), " \
                 "oct(os.stat('/tmp/tree/run.sh').st_mode), os.stat('/tmp/tree').st_uid)"
        digest = hashlib.sha256(PATTERN * 3000).hexdigest()
        equal(self.python(script).ok().out.split(), [digest, "0o100750", "1000"], "in the guest")
        self.door.operator("agent", "cp", "host-of-exec:/tmp/tree", str(back), limit_s=LIMIT_S).ok()
        equal(hashlib.sha256((back / "a/b/large").read_bytes()).hexdigest(), digest, "what came back")
        equal((back / "run.sh").stat().st_mode & 0o7777, 0o750, "mode")
        equal(os.readlink(back / "link"), "a/b/large", "link")

    def hostile_tree(self):
        self.python("import os; os.makedirs('/tmp/evil'); os.symlink('/etc/passwd', '/tmp/evil/out'); "
                    "os.mkfifo('/tmp/evil/pipe'); open('/tmp/evil/s', 'w').close(); os.chmod('/tmp/evil/s', 0o4755)").ok()
        got = self.folder / "evil"
        self.door.operator("agent", "cp", "host-of-exec:/tmp/evil", str(got), limit_s=LIMIT_S).fails(
            1, "leads out of the copy", "neither a file")
        equal(sorted(os.listdir(got)), ["s"], "what arrived")
        equal((got / "s").stat().st_mode & 0o7777, 0o755, "the setuid bit")

    def roles(self):
        self.door.reader("agent", "exec", "host-of-exec", "--", "true", limit_s=60).fails(125, "needs the role operator")
        self.door.reader("agent", "cp", "host-of-exec:/etc/passwd", str(self.folder / "x"), limit_s=60).fails(
            1, "needs the role operator")

    def record(self):
        lines = self.cage_lines()
        begun = [line for line in lines if re.match(r"exec \d+ by olga: python3 ", line)]
        expect(begun, f"no line for an exec: {lines[-5:]}")
        expect(any(re.match(r"exec \d+ by olga: exited 7 after ", line) for line in lines), f"no end: {lines[-8:]}")
        expect(any(re.match(r"copy \d+ by olga: into /tmp/tree", line) for line in lines), "no line for the copy")
        expect(not any("rita" in line for line in lines), "a refused reader reached cage")


def play(suite: Suite, machine: Box) -> None:
    play_exec = Exec(machine, _door)
    if not suite.check("an agent runs, and its operators are known", play_exec.agent_runs):
        return
    suite.check("a command's output, apart, and its status are nullctl's", play_exec.output_and_status)
    suite.check("10 MB go through a command and come back", play_exec.megabytes)
    suite.check("who reads slowly holds up the own command only", play_exec.slow_reader)
    suite.check("a command has a terminal, its size, and Ctrl-C", play_exec.terminal)
    suite.check("a command ends with its caller", play_exec.caller_gone)
    suite.check("a tree goes in and comes out as it was", play_exec.copies)
    suite.check("a hostile tree stays in its place", play_exec.hostile_tree)
    suite.check("a reader may neither", play_exec.roles)
    suite.check("each is written down in the agent's log", play_exec.record)
