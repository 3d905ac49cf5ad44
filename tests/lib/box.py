"""A running NullBox with the tests' probe in it: ask a service over its own socket, look at /proc, run a program."""
import itertools
import json
import queue
import re
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "tools"))
import qemu  # noqa: E402

READY_LIMIT_S = 60
FIRST_VM_UID = 200_000  # cage gives each VM process a uid from here on
ANSWER_LIMIT_S = 30


class Refused(Exception):
    """The machine answered with an error: the probe's, or a Varlink error as "name: message"."""


class Probe:
    """One probe service in the machine, at the other end of a virtio-serial port."""

    def __init__(self, connection):
        self._socket = connection
        self._ids = itertools.count(1)
        self._answers: dict[str, queue.Queue] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        received = b""
        try:
            while chunk := self._socket.recv(1 << 16):
                *lines, received = (received + chunk).split(b"\n")
                for line in lines:
                    name = line.split(b" ")[0].rstrip(b".!").decode()
                    if name in self._answers:
                        self._answers[name].put(line[len(name):].decode())
        except OSError:
            pass
        for answers in list(self._answers.values()):
            answers.put("! the machine is gone")

    def stream(self, verb: str, *rest: str, limit_s: float = ANSWER_LIMIT_S):
        """Yields each answer, decoded."""
        name, answers = str(next(self._ids)), queue.Queue()
        self._answers[name] = answers
        deadline = time.monotonic() + limit_s
        try:
            with self._lock:
                self._socket.sendall(" ".join([name, verb, *rest]).encode() + b"\n")
            while True:
                try:
                    line = answers.get(timeout=max(0.01, deadline - time.monotonic()))
                except queue.Empty:
                    raise Refused(f"no answer to {verb} {' '.join(rest)[:80]} within {limit_s} s") from None
                if line.startswith("."):
                    return
                if line.startswith("!"):
                    raise Refused(line[2:])
                yield json.loads(line[1:])
        finally:
            del self._answers[name]

    def ask(self, verb: str, *rest: str, limit_s: float = ANSWER_LIMIT_S) -> list:
        return list(self.stream(verb, *rest, limit_s=limit_s))

    def read(self, path: str) -> str:
        return self.ask("read", path)[0]

    def stat(self, path: str) -> dict:
        return self.ask("stat", path)[0]

    def names(self, path: str) -> list[str]:
        return sorted(self.ask("list", path))

    def exists(self, path: str) -> bool:
        try:
            self.stat(path)
            return True
        except Refused:
            return False

    def refused(self, verb: str, *rest: str) -> str:
        """Why it was refused; empty if it was not."""
        try:
            self.ask(verb, *rest)
            return ""
        except Refused as refusal:
            return str(refusal)

    def vm_processes(self) -> set[int]:
        """Every process of the whole machine that has a VM's uid, in whichever group (the root probe only)."""
        found = set()
        for pid in self.names("/proc"):
            if not pid.isdigit():
                continue
            try:
                status = self.read(f"/proc/{pid}/status")
            except Refused:
                continue  # it ended between the two looks
            if int(re.search(r"^Uid:\s+(\d+)", status, re.M)[1]) >= FIRST_VM_UID:
                found.add(int(pid))
        return found

    def execute(self, *words: str, limit_s: float = ANSWER_LIMIT_S) -> dict:
        return self.ask("exec", *words, limit_s=limit_s)[0]

    @staticmethod
    def _message(method: str, parameters: dict, more: bool) -> str:
        return json.dumps({"method": method, "parameters": parameters} | ({"more": True} if more else {}))

    @staticmethod
    def _socket_of(method: str) -> str:
        service = method.split(".")[2]
        return f"/run/{service}/{service}.sock"

    def calls(self, method: str, parameters: dict | None = None, socket: str = "", limit_s: float = ANSWER_LIMIT_S):
        """A streaming Varlink call: yields the parameters of each answer."""
        message = self._message(method, parameters or {}, True)
        for answer in self.stream("varlink", socket or self._socket_of(method), message, limit_s=limit_s):
            if "error" in answer:
                raise Refused(f"{answer['error']}: {answer.get('parameters', {})}")
            yield answer.get("parameters", {})

    def call_as(self, uid: int, method: str) -> dict:
        """One Varlink call without parameters, made by another user (the root probe only)."""
        answer = self.ask("varlink-as", str(uid), self._socket_of(method), self._message(method, {}, False))[0]
        if "error" in answer:
            raise Refused(f"{answer['error']}: {answer.get('parameters', {})}")
        return answer.get("parameters", {})

    def call(self, method: str, parameters: dict | None = None, socket: str = "",
             limit_s: float = ANSWER_LIMIT_S) -> dict:
        """One Varlink call; the socket follows from the method's interface."""
        message = self._message(method, parameters or {}, False)
        answer = self.ask("varlink", socket or self._socket_of(method), message, limit_s=limit_s)[0]
        if "error" in answer:
            raise Refused(f"{answer['error']}: {answer.get('parameters', {})}")
        return answer.get("parameters", {})


class Box:
    """The machine of a test image. `user` is the probe with uid 110, `root` the one with uid 0."""

    def __init__(self, image: Path, name: str, **options):
        self.machine = qemu.Machine(qemu.Options(initramfs=image, ports=["probe", "probe-root"],
                                                 append="panic=-1", **options), name)

    def __enter__(self) -> "Box":
        self.machine.start()
        try:
            self.user = Probe(self.machine.port("probe"))
            self.root = Probe(self.machine.port("probe-root"))
        except BaseException:
            self.machine.stop()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.machine.stop()

    def wait_probe(self, limit_s: float = READY_LIMIT_S) -> None:
        """Until both probes answer: the machine is up as far as they."""
        deadline = time.monotonic() + limit_s
        for probe in (self.user, self.root):
            while True:
                if not self.machine.running:
                    raise qemu.MachineError(f"QEMU ended: {self.machine.errors().strip() or self.last_lines()}")
                try:
                    probe.ask("stat", "/", limit_s=1)
                    break
                except Refused:
                    if time.monotonic() > deadline:
                        raise qemu.MachineError(f"the probe does not answer; the console: {self.last_lines()}") from None

    def last_lines(self, count: int = 8) -> str:
        return " | ".join(line.strip() for line in self.machine.text().splitlines()[-count:] if line.strip())

    def wait_until(self, condition, limit_s: float, what: str, every_s: float = 0.2):
        """The first true answer of condition(); a refusal counts as not yet."""
        deadline = time.monotonic() + limit_s
        last = ""
        while True:
            try:
                if answer := condition():
                    return answer
            except Refused as refusal:
                last = f" (last: {refusal})"
            if time.monotonic() > deadline:
                raise Refused(f"not within {limit_s} s: {what}{last}")
            time.sleep(every_s)
