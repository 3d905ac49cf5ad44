"""Hostile guests in microVMs: agents whose kernel is ours (kernel.py, guest/) and misbehaves by number, on one booted box, next
to an ordinary agent that must not notice. Asked is cage, over its socket, and /proc.
"""
import re
import time
from dataclasses import dataclass, field
from pathlib import Path

import box
import kernel
import variants
from box import Refused
from tap import Suite, equal, expect

NULLD, CAGE = "io.nullbox.nulld", "io.nullbox.cage"
NEIGHBOUR = "neighbour"
BOOT_LIMIT_S, CASE_LIMIT_S, NEIGHBOUR_LIMIT_S, STOP_LIMIT_S = 120, 120, 120, 60
LINGER_S = 10
# Where cage's own memory may be at the end of it all, and how much more than at the start.
CAGE_GROWTH_KB = 8 << 10

RESET_CPU = "the guest has reset the CPU"
NOT_EMULATED = "the guest did what KVM cannot emulate"


@dataclass
class Case:
    """What must come of it: an end of the guest's own with exit code 0, a reason, or that it must be stopped."""
    name: str
    reasons: list[str] = field(default_factory=list)  # one of them; empty: it ends by itself, well
    words: str = ""                                    # in its output
    lingers: bool = False                              # it does not end: Stop ends it
    may_linger: bool = False                           # what the processor makes of it: a reason, or an endless loop
    net: bool = False


# In the order of guest/processor_cases.cpp and guest/device_cases.cpp.
CASES = [
    Case("nothing wrong"),
    Case("triple fault", [RESET_CPU]),
    Case("halt with interrupts off", lingers=True),
    Case("spin with interrupts off", lingers=True),
    Case("reset port", ["the guest has reset the machine"]),
    Case("port noise"),
    Case("port strings"),
    Case("odd registers"),
    Case("holes"),
    Case("runs in the hole", [RESET_CPU, NOT_EMULATED], may_linger=True),
    Case("runs in registers", [RESET_CPU, NOT_EMULATED], may_linger=True),
    Case("runs beyond memory", [RESET_CPU, NOT_EMULATED], may_linger=True),
    Case("tables in the hole", [RESET_CPU, NOT_EMULATED], may_linger=True),
    Case("tables in registers", [RESET_CPU, NOT_EMULATED], may_linger=True),
    Case("stack in the hole", [RESET_CPU, NOT_EMULATED], may_linger=True),
    Case("stack in registers", [RESET_CPU, NOT_EMULATED], may_linger=True),
    Case("gates in the hole", [RESET_CPU, NOT_EMULATED], may_linger=True),
    Case("what cannot be emulated", [RESET_CPU, NOT_EMULATED], may_linger=True),
    Case("over its boot structures"),
    Case("over itself", [RESET_CPU, NOT_EMULATED]),
    Case("all memory"),
    Case("model registers"),
    Case("hypercalls"),
    Case("machines of its own"),
    Case("interrupt storm", [RESET_CPU, NOT_EMULATED], may_linger=True),
    Case("control registers"),
    Case("head beyond the queue", ["rng device: descriptor index beyond the queue"]),
    Case("loop of descriptors", ["block device: descriptor chain without end"]),
    Case("buffer over the end", ["console device: buffer outside of memory"]),
    Case("address wraps", ["fs device: buffer outside of memory"]),
    Case("buffer over registers", ["rng device: buffer outside of memory"]),
    Case("indirect", ["fs device: indirect descriptor, which was not offered"]),
    Case("index jumps", ["vsock device: available index jumped"]),
    Case("wrong order", ["block device: readable buffer after a writable one"]),
    Case("rings in the hole", ["rng device: ring outside of memory"]),
    Case("wrong queue size", ["console device: wrong queue size"]),
    Case("misaligned rings", ["fs device: misaligned ring"]),
    Case("no queues"),
    Case("features not offered"),
    Case("kick storm"),
    Case("reset storm"),
    Case("vsock reset", lingers=True),
    Case("block ranges"),
    Case("block without status", ["block device: request without header or status"]),
    Case("console flood"),
    Case("rng over its rings", ["rng device: "]),
    Case("vsock other CIDs"),
    Case("vsock nonsense"),
    Case("vsock long packet", ["vsock device: packet shorter than its header says"]),
    Case("vsock connects"),
    Case("vsock streams"),
    Case("vsock endless frame", ["nonsense on the guest's link"]),
    Case("link nonsense", ["nonsense on the guest's link"]),
    Case("link long frame", ["nonsense on the guest's link"]),
    Case("link hello again", ["nonsense on the guest's link"]),
    # It heeds no credit: its stream is reset, and cage ends a guest that has no link.
    Case("link flood", ["its VM process was killed"], may_linger=True),
    Case("share names"),
    Case("share opcodes"),
    Case("share devices"),
    Case("share no room", ["fs device: request with no room for an answer"]),
    Case("share writes", words="made in the first share: 0"),
    Case("frames", net=True),
    Case("short frame", ["net device: frame shorter than its header"], net=True),
    Case("frame storm", net=True),
    Case("last words", [RESET_CPU + "; its last words: ?[31mgoodbye"]),
]


def name_of(number: int) -> str:
    return f"case-{number:02}"


def manifest(number: int, case: Case) -> bytes:
    """The memory says which case it is."""
    network = '[capabilities.network]\nallow = ["192.0.2.7:8080"]\n' if case.net else ""
    return f"""[agent]
name = "{name_of(number)}"
version = "1"
image = "hello"
command = ["/hello"]
start = "manual"
[capabilities]
max_cpu_percent = 100
max_memory_mb = {kernel.FIRST_MEGABYTES + kernel.STEP_MEGABYTES * number}
{network}[capabilities.filesystem]
read = ["/data/given"]
write = ["/data/made"]
""".encode()


NEIGHBOUR_MANIFEST = f"""[agent]
name = "{NEIGHBOUR}"
version = "1"
image = "hello"
command = ["/hello"]
start = "manual"
[agent.environment]
HELLO_SECONDS = "3600"
[capabilities]
max_memory_mb = 64
""".encode()


def image() -> Path:
    agents = {f"agent/{name_of(number)}.toml": manifest(number, case) for number, case in enumerate(CASES)}
    return variants.Variant("hostile", add=agents | {
        f"agent/{NEIGHBOUR}.toml": NEIGHBOUR_MANIFEST,
        "system/guest/vmlinux": kernel.hostile_kernel(variants.ROOT / "out/guest-vmlinux"),
    }, remove=["agent/hello.toml"]).build()


class Hostile:
    def __init__(self, machine: box.Box):
        self.box, self.root = machine, machine.root

    def agent(self, name: str) -> dict:
        return self.root.call(f"{CAGE}.Status", {"name": name})["agent"]

    def lines(self, name: str, stream: str = "stdout") -> list[str]:
        answer = self.root.call(f"{CAGE}.Logs", {"name": name, "lines": 300})
        return [line["text"] for line in answer["lines"] if line["stream"] == stream]

    def service(self, name: str) -> dict:
        return next(one for one in self.root.call(f"{NULLD}.Status")["services"] if one["name"] == name)

    def resident_kb(self, pid: int) -> int:
        return int(re.search(r"^VmRSS:\s+(\d+) kB", self.root.read(f"/proc/{pid}/status"), re.M)[1])

    def heartbeats(self) -> int:
        beats = [int(line.split()[1].rstrip(":")) for line in self.lines(NEIGHBOUR) if line.startswith("heartbeat")]
        return beats[-1] if beats else 0

    # --- around the cases

    def comes_up(self) -> str:
        self.box.wait_probe(BOOT_LIMIT_S)
        self.box.wait_until(lambda: self.service("cage")["state"] == "running", 60, "cage runs")
        self.cage_pid = self.service("cage")["pid"]
        return f"{time.monotonic() - self.box.machine.started:.1f} s after power on"

    def first_neighbour(self) -> None:
        self.neighbour_starts()
        self.cage_kb = self.resident_kb(self.cage_pid)

    def neighbour_starts(self) -> None:
        """Its log may hold earlier runs."""
        def begun() -> int:
            return sum(line.startswith("heartbeat 2:") for line in self.lines(NEIGHBOUR))
        runs = begun()
        self.root.call(f"{CAGE}.Start", {"name": NEIGHBOUR}, limit_s=CASE_LIMIT_S)
        self.box.wait_until(lambda: begun() > runs, NEIGHBOUR_LIMIT_S, "the neighbour's heart beats")
        self.neighbour_pid = self.agent(NEIGHBOUR)["vm_pid"]

    def others_go_on(self, beats: int) -> None:
        agent = self.agent(NEIGHBOUR)
        if (agent["state"], agent["vm_pid"]) != ("running", self.neighbour_pid):
            said = [f"{line['stream']}: {line['text']}" for line in
                    self.root.call(f"{CAGE}.Logs", {"name": NEIGHBOUR, "lines": 6})["lines"]]
            self.neighbour_starts()  # so that the next cases are judged for themselves
            expect(False, f"the neighbour is lost ({agent['describe']}), its log: {said}")
        self.box.wait_until(lambda: self.heartbeats() > beats, NEIGHBOUR_LIMIT_S, "the neighbour's heart goes on beating")
        equal(self.service("cage")["pid"], self.cage_pid, "cage's process")

    # --- one case

    def start(self, name: str) -> None:
        """The guest may end before cage has said that it runs: then its reason counts, not this answer."""
        try:
            self.root.call(f"{CAGE}.Start", {"name": name}, limit_s=CASE_LIMIT_S)
        except Refused as refused:
            expect("no answer" not in str(refused) and "died" not in str(refused), str(refused))

    def run(self, number: int) -> str:
        case, name = CASES[number], name_of(number)
        beats, began = self.heartbeats(), time.monotonic()
        self.start(name)
        if case.lingers or case.may_linger and not self.ends_within(name, LINGER_S):
            said = self.linger(name)
        else:
            agent = self.box.wait_until(lambda: self.ended(name), CASE_LIMIT_S, f"it ends; {self.agent(name)['describe']}; "
                                        f"{self.lines(name)[-3:]}")
            said = self.judge(case, agent)
        lines = self.lines(name)
        expect(lines and lines[0].startswith(case.name), f"another case ran: {lines[:1]}")
        expect(case.words in "\n".join(lines), f"it said {lines[-4:]}")
        self.others_go_on(beats)
        return f"{said}; {time.monotonic() - began:.1f} s"

    def ends_within(self, name: str, limit_s: float) -> bool:
        try:
            return bool(self.box.wait_until(lambda: self.ended(name), limit_s, "it ends"))
        except Refused:
            return False

    def ended(self, name: str) -> dict | None:
        agent = self.agent(name)
        return agent if agent["state"] in ("exited", "failed", "stopped") and not agent["vm_pid"] else None

    def judge(self, case: Case, agent: dict) -> str:
        describe = agent["describe"]
        if not case.reasons:
            equal((agent["state"], agent["exit_code"]), ("exited", 0), f"{describe}; {self.lines(agent['name'])[-3:]}")
            return describe
        expect(agent["state"] == "failed" and any(reason in describe for reason in case.reasons), f"it {describe}")
        return describe

    def linger(self, name: str) -> str:
        """It does not end and harms nobody, and goes when it must."""
        self.box.wait_until(lambda: self.lines(name), CASE_LIMIT_S, "its first line")
        time.sleep(1)
        agent = self.agent(name)
        equal(agent["state"], "running", agent["describe"])
        began = time.monotonic()
        self.root.call(f"{CAGE}.Stop", {"name": name, "grace_ms": 500}, limit_s=STOP_LIMIT_S)
        expect(not self.root.exists(f"/proc/{agent['vm_pid']}"), "its VM process is still there")
        return f"stopped in {time.monotonic() - began:.1f} s"

    # --- after the cases

    def no_process_died(self) -> str:
        """A VM process that crashes, or that its filter kills, is seen in what cage says of it."""
        for number in range(len(CASES)):
            told = " | ".join(self.lines(name_of(number), "cage") + self.lines(name_of(number), "vm"))
            for word in ("died by signal", "ended with code", "check failed", "Sanitizer"):
                expect(word not in told, f"{CASES[number].name}: {told[-600:]}")
        return f"{len(CASES)} logs"

    def nobody_is_left(self) -> None:
        group = f"/sys/fs/cgroup/cage/{NEIGHBOUR}/cgroup.procs"
        equal(self.root.vm_processes(), {int(pid) for pid in self.root.read(group).split()}, "processes of VMs")
        equal(self.root.call(f"{NULLD}.Status")["nulld"]["zombies"], 0, "zombies")

    def shares_hold_what_was_made(self) -> str:
        """Beside what "share writes" may make there is nothing, and nothing in the folder that is only read."""
        equal(self.root.names("/var/shared"), ["data"], "/var/shared")
        equal(self.root.names("/var/shared/data"), ["given", "made"], "/var/shared/data")
        equal(self.root.names("/var/shared/data/given"), [], "what is read only")
        made = self.root.names("/var/shared/data/made")
        strange = [name for name in made if not re.fullmatch(r"made-\d\d", name)]
        equal(strange, [], "files that no case makes")
        equal(len(made), 100, "files that a case makes")
        for name in made:
            equal(self.root.stat(f"/var/shared/data/made/{name}")["type"], "file", name)

    def cage_is_small(self) -> str:
        now = self.resident_kb(self.cage_pid)
        expect(now < self.cage_kb + CAGE_GROWTH_KB, f"cage grew from {self.cage_kb} to {now} kB")
        return f"{self.cage_kb} -> {now} kB"

    def no_problems(self) -> None:
        equal(self.root.call(f"{NULLD}.Status")["problems"], [])


NETWORK = ["-netdev", "user,id=net,restrict=on,ipv6=off", "-device", "virtio-net-pci,netdev=net"]


def run(suite: Suite) -> None:
    with box.Box(image(), "hostile", reboots=False, extra=NETWORK) as machine:
        hostile = Hostile(machine)
        if not (suite.check("the box boots", hostile.comes_up) and
                suite.check("an ordinary agent runs on it", hostile.first_neighbour)):
            print(machine.machine.text()[-3000:])
            return
        for number, case in enumerate(CASES):
            suite.check(f"microVM: {case.name}", lambda: hostile.run(number))
        suite.check("no VM process died of it", hostile.no_process_died)
        suite.check("no VM process is left over", hostile.nobody_is_left)
        suite.check("the shared folders hold what they should", hostile.shares_hold_what_was_made)
        suite.check("cage has not grown", hostile.cage_is_small)
        suite.check("nulld reports no problem", hostile.no_problems)
