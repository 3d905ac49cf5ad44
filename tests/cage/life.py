"""An agent's life: health checks, pause and resume, why it ended, what it may use."""
import re
import time
from pathlib import Path

import variants
from box import Box, Refused
from tap import Suite, equal, expect

image = variants.image
CAGE = "io.nullbox.cage"
START_LIMIT_S = 90
WORKER = image.RELEASE / "tests/cage/worker/cage_worker"

# name: arguments of the worker, keys of [agent], keys of [capabilities], the rest
AGENTS = {
    "ill": ('"ill", "6"', 'restart = "on-failure"', "max_memory_mb = 64",
            '[health_check]\nkind = "http"\nport = 8080\npath = "/health"\ninterval_seconds = 1\nfailures = 3\n'
            "grace_seconds = 60\n"),
    "ticker": ('"tick"', "", "max_memory_mb = 64", '[health_check]\nkind = "tcp"\nport = 9\ninterval_seconds = 1\nfailures = 3\n'
               "grace_seconds = 3600\n"),
    "eater": ('"eat"', 'restart = "on-failure"', "max_memory_mb = 64", ""),
    "burner": ('"burn"', "", "max_memory_mb = 64\nmax_cpu_percent = 25", ""),
    "wide": ('"burn"', "", "max_memory_mb = 72\nmax_cpu_percent = 110", ""),
}


def manifest(name: str) -> bytes:
    arguments, agent, capabilities, rest = AGENTS[name]
    return (f'[agent]\nname = "{name}"\nversion = "1"\nimage = "worker"\ncommand = ["/worker", {arguments}]\nstart = "manual"\n'
            f"{agent}\n[capabilities]\n{capabilities}\n{rest}").encode()


def agents(folder: Path) -> dict:
    """Files of the test image: the worker's own, and a manifest for each agent."""
    image.run("ninja", "-C", image.RELEASE, "cage_worker")
    stage, packed = folder / "worker", folder / "worker.img"
    image.put(stage, "worker", WORKER, 0o555)
    for place in ("dev", "proc", "run", "sys", "tmp"):
        (stage / place).mkdir()
    image.run("mksquashfs", stage, packed, "-noappend", "-quiet", "-no-progress", "-all-root", *variants.FAST)
    return {"agent/images/worker.img": packed.read_bytes()} | {f"agent/{name}.toml": manifest(name) for name in AGENTS}


class Life:
    def __init__(self, machine: Box):
        self.box, self.root = machine, machine.root

    def status(self, name: str) -> dict:
        return self.root.call(f"{CAGE}.Status", {"name": name})["agent"]

    def call(self, method: str, name: str) -> dict:
        return self.root.call(f"{CAGE}.{method}", {"name": name}, limit_s=START_LIMIT_S)

    def lines(self, name: str, stream: str = "stdout") -> list[dict]:
        answer = self.root.call(f"{CAGE}.Logs", {"name": name, "lines": 4096})
        return [line for line in answer["lines"] if line["stream"] == stream]

    def until(self, name: str, what: str, holds, limit_s: float = START_LIMIT_S) -> dict:
        def look():
            status = self.status(name)
            return status if holds(status) else None
        try:
            return self.box.wait_until(look, limit_s, f"{name} {what}")
        except Refused as refused:
            said = [line["text"] for line in self.lines(name, "cage")[-8:]]
            raise Refused(f"{refused}; it is {self.status(name)['describe']!r}, its log: {said}") from None

    def group(self, pid: int, file: str) -> str:
        place = self.root.read(f"/proc/{pid}/cgroup").strip().split("::")[1]
        return self.root.read(f"/sys/fs/cgroup{place}/{file}").strip()

    # --- health

    def healthy_at_first(self):
        equal(self.status("ill")["health"], "unknown", "before it runs")
        equal(self.status("eater")["health"], "none", "without a check")
        self.call("Start", "ill")
        self.until("ill", "is healthy", lambda status: status["health"] == "healthy")

    def ill_is_started_again(self):
        status = self.until("ill", "is started again", lambda status: status["restarts"] >= 1 and status["state"] == "running")
        equal(status["reason"], "health", "reason")
        equal(status["last_end"], "health: GET http://127.0.0.1:8080/health answered 503, 3 times in a row", "last_end")
        said = [line["text"] for line in self.lines("ill", "cage")]
        for text in ("health: healthy", "health: failing (2 of 3): answered 503"):
            expect(text in said, f"its log does not say {text!r}: {said}")
        expect(any(re.fullmatch("failed: health: .*, restarts in 1 s", text) for text in said), f"no delay is said: {said}")
        self.until("ill", "is healthy again", lambda status: status["health"] == "healthy")
        equal(self.call("Stop", "ill")["describe"], "stopped")
        return f"{status['restarts']} restart"

    # --- pause

    def ticks(self) -> list[tuple[int, int, int]]:
        """(the box's time of day at its arrival, the guest's, the guest's monotonic), each in ms"""
        return [(line["time_ms"], int(words[2]), int(words[3]))
                for line in self.lines("ticker") if (words := line["text"].split())[0] == "tick" and len(words) == 4]

    def stands_still(self):
        self.call("Start", "ticker")
        self.box.wait_until(lambda: len(self.ticks()) > 3, START_LIMIT_S, "a tick")
        self.until("ticker", "is looked at", lambda status: status["health"] == "unknown: connection refused")
        equal(self.call("Pause", "ticker")["describe"], "paused")
        time.sleep(0.5)  # what was on its way
        before, used = len(self.ticks()), self.status("ticker")["cpu_time_ms"]
        time.sleep(3)
        status = self.status("ticker")
        equal((status["state"], len(self.ticks()) - before), ("paused", 0), "state and lines")
        spent = status["cpu_time_ms"] - used
        expect(spent <= 50, f"its VM used {spent} ms of processor time")
        listed = {agent["name"]: agent["state"] for agent in self.root.call(f"{CAGE}.List")["agents"]}
        equal(listed["ticker"], "paused", "in the list")
        equal(status["health"], "unknown: connection refused", "health")
        return f"{spent} ms of processor time in 3 s"

    def goes_on(self):
        before = len(self.ticks())
        equal(self.call("Resume", "ticker")["describe"], "running")
        self.box.wait_until(lambda: len(self.ticks()) > before + 3, 20, "more ticks")
        last, first = self.ticks()[before - 1], self.ticks()[before + 1]
        gap = first[2] - last[2]
        expect(gap >= 3400, f"the guest's monotonic clock counts {gap} ms over a pause of more than 3.5 s")
        # agent-init leaves a clock that is within a second; one that had stood still would be 3.5 s off.
        arrived, wall, _ = self.ticks()[-1]
        expect(abs(arrived - wall) < 2500, f"the guest's time of day is {wall - arrived} ms off")
        return f"its time of day is {arrived - wall} ms off, its own clock went on by {gap} ms"

    def again_and_again(self):
        for _ in range(10):
            self.call("Pause", "ticker")
            self.call("Resume", "ticker")
        before = len(self.ticks())
        self.box.wait_until(lambda: len(self.ticks()) > before, 20, "more ticks")

    def stops_while_paused(self):
        self.call("Pause", "ticker")
        pid = self.status("ticker")["vm_pid"]
        equal(self.call("Stop", "ticker")["describe"], "stopped")
        expect(not self.root.exists(f"/proc/{pid}"), "its VM process is still there")
        equal(self.lines("ticker")[-1]["text"], "bye", "its last word")
        equal(self.status("ticker")["reason"], "stopped", "reason")

    def only_what_runs(self):
        for method, error in (("Pause", "CannotPause"), ("Resume", "CannotResume")):
            try:
                self.call(method, "ticker")
                expect(False, f"{method} of a stopped agent works")
            except Refused as refused:
                expect(error in str(refused) and "stopped" in str(refused), str(refused))

    # --- why it ended, and what it may use

    def cpu_is_limited(self):
        self.call("Start", "burner")
        status = self.until("burner", "runs", lambda status: status["uptime_ms"])
        lines = self.box.wait_until(lambda: self.lines("burner"), 60, "its first line")
        equal(lines[0]["text"], "nproc 1")
        pid = status["vm_pid"]
        equal(self.group(pid, "cpu.max"), "25000 100000", "cpu.max")
        before, start = self.status("burner"), time.monotonic()
        time.sleep(4)
        after, seconds = self.status("burner"), time.monotonic() - start
        percent = (after["cpu_time_ms"] - before["cpu_time_ms"]) / seconds / 10
        expect(2 < percent < 32, f"it used {percent:.0f} % of a processor, may use 25")
        expect(after["uptime_ms"] - before["uptime_ms"] >= 3900, "its uptime does not go on")
        return f"{percent:.0f} % of 25 %"

    def killed_vm_is_said(self):
        self.root.ask("kill", str(self.status("burner")["vm_pid"]), "9")
        status = self.until("burner", "fails", lambda status: status["state"] == "failed", 20)
        equal((status["reason"], status["describe"]), ("vm_ended", "failed: its VM process died by signal 9"))

    def limits_of_the_group(self):
        self.call("Start", "wide")
        pid = self.status("wide")["vm_pid"]
        line = self.box.wait_until(lambda: self.lines("wide"), 60, "its first line")[0]["text"]
        equal(line, "nproc 2", "what a guest with 110 % sees")
        equal(self.group(pid, "cpu.max"), "110000 100000", "cpu.max")
        limit = int(self.group(pid, "memory.max"))
        expect(72 << 20 < limit <= (72 + 24) << 20, f"memory.max is {limit >> 20} MB for a guest with 72")
        pids, threads = int(self.group(pid, "pids.max")), len(self.root.names(f"/proc/{pid}/task"))
        expect(threads < pids <= 70, f"pids.max is {pids}, it has {threads} threads")
        equal(self.status("wide")["vcpus"], 2, "vcpus")
        self.call("Pause", "wide")  # two vCPUs that never rest
        used = self.status("wide")["cpu_time_ms"]
        time.sleep(2)
        spent = self.status("wide")["cpu_time_ms"] - used
        expect(spent <= 50, f"paused, its VM used {spent} ms of processor time")
        self.call("Stop", "wide")

    # --- out of memory

    def goes_on_beside(self, pid: int, ticks: int) -> None:
        """The ticker, which was there before, has not noticed."""
        status = self.status("ticker")
        equal((status["state"], status["vm_pid"]), ("running", pid), f"the neighbour ({status['describe']})")
        self.box.wait_until(lambda: len(self.ticks()) > ticks, 20, "more ticks of the neighbour's")

    def guest_out_of_memory(self):
        self.call("Start", "ticker")
        self.box.wait_until(lambda: self.ticks(), START_LIMIT_S, "a tick")
        pid = self.status("ticker")["vm_pid"]
        self.call("Start", "eater")
        status = self.until("eater", "is started again", lambda status: status["restarts"] >= 1 and status["uptime_ms"])
        why = "exited by signal 9 (out of memory in the guest: max_memory_mb = 64)"
        equal((status["reason"], status["last_end"]), ("guest_out_of_memory", why), "reason and last_end")
        self.until("eater", "eats again", lambda status: status["restarts"] >= 2)
        self.goes_on_beside(pid, len(self.ticks()))
        self.call("Stop", "eater")
        said = [line["text"] for line in self.lines("eater", "cage")]
        for delay in (1, 2):
            expect(f"{why}, restarts in {delay} s" in said, f"its log does not say so, with {delay} s: {said}")
        runs = [line["text"] for line in self.lines("eater")].count("nproc 1")
        expect(runs >= 2, f"its command ran {runs} times")
        equal(self.status("eater")["vm_pid"], None, "stopped, its VM process")
        return f"{runs} runs"

    def host_out_of_memory(self):
        """No guest can bring its VM process over the limit, as far as we know; so the limit comes down to the process."""
        before = self.status("ticker")["vm_pid"]
        self.call("Start", "burner")
        self.box.wait_until(lambda: self.status("burner")["uptime_ms"], START_LIMIT_S, "it runs")
        place = self.root.read(f"/proc/{self.status('burner')['vm_pid']}/cgroup").strip().split("::")[1]
        self.root.ask("write", f"/sys/fs/cgroup{place}/memory.max", str(8 << 20))
        status = self.until("burner", "fails", lambda status: status["state"] == "failed", 20)
        why = "failed: its VM process passed the memory limit of its control group and was killed"
        equal((status["reason"], status["describe"]), ("host_out_of_memory", why))
        expect(why in [line["text"] for line in self.lines("burner", "cage")], "its log does not say so")
        self.goes_on_beside(before, len(self.ticks()))
        self.call("Stop", "ticker")


def play(suite: Suite, machine: Box) -> None:
    life = Life(machine)
    suite.check("an agent that answers its checks is healthy", life.healthy_at_first)
    suite.check("one that does not is started again, and says why", life.ill_is_started_again)
    suite.check("a paused agent stands still", life.stands_still)
    suite.check("resumed, it goes on, and its clocks are right", life.goes_on)
    suite.check("ten pauses in a row lose nothing", life.again_and_again)
    suite.check("it can be stopped while it is paused", life.stops_while_paused)
    suite.check("only what runs can be paused", life.only_what_runs)
    suite.check("processor time is limited", life.cpu_is_limited)
    suite.check("a VM process that is killed is said to be", life.killed_vm_is_said)
    suite.check("vCPUs and limits are the manifest's; two busy vCPUs pause", life.limits_of_the_group)
    suite.check("out of memory in the guest is said, and it is started again", life.guest_out_of_memory)
    suite.check("a VM process over its control group's limit is said to be", life.host_out_of_memory)
