"""The network goes and comes back while two agents work. They are told, the box says so, all goes on."""
import tap
from lab_box import AGENTS, LabBox
from tap import equal, expect

import network

SEEN_LIMIT_S = 30


class NetworkFaults:
    def __init__(self, lab_box: LabBox):
        self.box = lab_box
        self.last_record = max((record["sequence"] for record in self.records()), default=0)

    def cable(self, connected: bool) -> None:
        """At the box's end: its card knows."""
        self.box.box.machine.qmp("human-monitor-command", command_line=f"set_link lab {'on' if connected else 'off'}")

    def agent_is_told(self, name: str) -> str:
        """The API cannot be reached and the agent gets an error, within its own patience."""
        words = self.box.last_words(name)
        told = [text for text in words.split(" | ") if text.startswith("api: ")]
        return told[-1] if told and told[-1] != "api: answers" else ""

    def lasts(self, unplug) -> str:
        """What it says meanwhile."""
        for name in AGENTS:
            self.box.goes_on(name)
        self.before = self.box.agents()
        unplug()
        told = [self.box.wait(lambda: self.agent_is_told(name), SEEN_LIMIT_S, f"{name} is told") for name in AGENTS]
        # The memory is in the box.
        for name in AGENTS:
            kept = self.box.done(name)[1]
            self.box.wait(lambda: self.box.done(name)[1] > kept, SEEN_LIMIT_S, f"{name} goes on with the memory")
        return told[0]

    def says_no_cable(self) -> str:
        line = self.box.wait(lambda: (lambda says: says if "no cable" in says else "")(
            self.box.service("egress")["status"] or ""), SEEN_LIMIT_S, "egress says that there is no cable")
        return line

    def console_says_so(self, start: int) -> str:
        found = self.box.box.machine.wait_console(r"^.*no cable.*$", SEEN_LIMIT_S, start)
        expect(found, f"the console does not say it: {self.box.box.last_lines()}")
        return found[0].strip()

    def comes_back(self, plug) -> None:
        before = {name: self.box.done(name) for name in AGENTS}
        plug()
        for name in AGENTS:
            self.box.goes_on(name, before[name])
        for name, agent in self.box.agents().items():
            equal((agent["state"], agent["vm_pid"]), ("running", self.before[name]["vm_pid"]), name)
        self.box.nullctl("status").ok()
        self.box.nothing_escaped()

    def records(self) -> list[dict]:
        return self.box.nullctl("egress", "records", "--json", "-n", "2048").ok().json()["records"]

    def is_recorded(self) -> str:
        failed = {}
        for record in self.records():
            if record["verdict"] == "failed" and record["reason"] and record["sequence"] > self.last_record:
                failed[record["agent"]] = record["reason"]
        equal(set(failed), set(AGENTS), "agents with a record of a failure")
        return "; ".join(f"{name}: {reason}" for name, reason in failed.items())

    def play(self, suite: tap.Suite) -> None:
        start = len(self.box.box.machine.text())
        suite.check("without a cable agents get errors, and keep their memory",
                    lambda: self.lasts(lambda: self.cable(False)))
        suite.check("status says that there is no cable", self.says_no_cable)
        suite.check("so does the console", lambda: self.console_says_so(start))
        suite.check("with the cable they go on by themselves", lambda: self.comes_back(lambda: self.cable(True)))
        suite.check("when nobody answers out there, agents get errors", lambda: self.lasts(lambda: network.plug(False)))
        suite.check("and go on when somebody does", lambda: self.comes_back(lambda: network.plug(True)))
        suite.check("each failure is a record with its reason", self.is_recorded)
