"""Services are killed at random moments while two agents work. What was acknowledged stays, what is forbidden never
arrives, also between death and come-back, and all comes back by itself but the vault, which waits for its passphrase.
"""
import random
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass

import tap
from box import Refused
from lab_box import AGENTS, BACK_LIMIT_S, GO_ON_LIMIT_S, SERVICES, LabBox
from tap import equal, expect

OUT_OF_REACH = {"other.lab.test", "44.55.66.77", "169.254.169.254", "8.8.8.8"}  # where the agents try to get
WITHOUT_WAITING = 0.6    # how often the next kill comes before the agents are back from the last one
LONGEST_PAUSE_S = 0.6    # before a kill
MOST_BROKEN_ROUNDS = 3   # then the rest would only take time
# PID 1's memory grows with its ring of log lines until that is full; a leak for each kill would be far more.
MOST_DESCRIPTORS, MOST_KB = 2, 1024


@dataclass
class Kept:
    """What was acknowledged: each agent's puts, and the names of secrets."""
    puts: dict[str, dict[int, str]]
    secrets: set[str]


class Kills:
    def __init__(self, lab_box: LabBox, rounds: int, seed: int):
        self.box, self.rounds, self.random = lab_box, rounds, random.Random(seed)
        self.killed: Counter[str] = Counter()
        self.restarts_before = {name: lab_box.service(name)["restarts"] for name in SERVICES}
        self.secrets: set[str] = set()  # whose Set was acknowledged
        self.sets = 0
        self.surprises: list[str] = []  # agents that ended by themselves, with the reason that was shown
        self.times: dict[str, list[float]] = {name: [] for name in SERVICES}  # from death to come-back

    # --- one kill

    def kill(self, name: str) -> None:
        """Until the service is back."""
        before = self.box.service(name)
        time.sleep(self.random.uniform(0, LONGEST_PAUSE_S))
        start = time.monotonic()
        self.killed[name] += 1
        after = self.box.kill(before)
        self.times[name].append(time.monotonic() - start)
        equal(after["restarts"], before["restarts"] + 1, f"restarts of {name}")
        expect("KILL" in after["last_exit"], f"the last exit of {name} is {after['last_exit']}")
        self.box.nothing_escaped()

    def kill_while_secrets_come(self) -> None:
        acknowledged, over = threading.Event(), threading.Event()

        def put_in() -> None:
            """Until one is not acknowledged, which is when the vault is gone."""
            while not over.is_set():
                name = f"SECRET_{self.sets}"
                self.sets += 1
                if self.box.nullctl("vault", "set", name, given="x" * 20).status != 0:
                    return
                self.secrets.add(name)
                acknowledged.set()
        setter = threading.Thread(target=put_in)
        setter.start()
        try:
            expect(acknowledged.wait(BACK_LIMIT_S), "the vault takes no secret")
            self.kill("warden")
        finally:
            over.set()
            setter.join()

    # --- a round: each service once

    def batches(self) -> list[list[str]]:
        """In random order; those of one batch die before the agents are back from the kill before."""
        order, batches = self.random.sample(SERVICES, len(SERVICES)), []
        for name in order:
            if batches and self.random.random() < WITHOUT_WAITING:
                batches[-1].append(name)
            else:
                batches.append([name])
        return batches

    def round(self) -> str:
        said = []
        for batch in self.batches():
            start = time.monotonic()
            before, done = self.box.agents(), {name: self.box.done(name) for name in AGENTS}
            for name in batch:
                self.kill_while_secrets_come() if name == "warden" else self.kill(name)
            try:
                self.recovers(batch, before)
            except (tap.Failure, Refused) as problem:
                raise tap.Failure(f"after {' and '.join(batch)}: {problem}") from None
            said.append(f"{'+'.join(batch)} {time.monotonic() - start:.0f} s")
        said += self.surprises
        self.surprises = []
        return ", ".join(said)

    def recovers(self, batch: list[str], before: dict[str, dict]) -> None:
        if "gate" in batch:
            equal(self.box.nullctl("status").status, 0, "nullctl status")
        if "warden" in batch:
            self.vault_waits(batch)
            self.box.unlock()
        started = {name: self.box.done(name) for name in AGENTS}
        for name in AGENTS:
            self.box.goes_on(name, started[name])
        self.says_why(batch, before)
        self.box.nothing_escaped()
        self.box.no_vm_too_many()

    def vault_waits(self, batch: list[str]) -> None:
        equal(self.box.vault_state(), "locked", "the vault after warden's death")
        expect("vault: locked" in self.box.nullctl("status").ok().out, "status does not say that the vault is locked")

        def said() -> bool:
            """By the agent that has a key, or of it while it cannot start."""
            agent = self.box.agent("keyed")
            if agent["state"] == "waiting":
                return "nullctl vault unlock" in self.box.listed("keyed")
            return agent["state"] == "running" and "nullctl vault unlock" in self.box.last_words("keyed")
        self.box.wait(said, GO_ON_LIMIT_S, "it is said that the vault waits for its passphrase")
        if {"cage", "egress"} & set(batch):
            self.box.goes_on("plain")  # which needs no vault

    def says_why(self, batch: list[str], before: dict[str, dict]) -> None:
        """An agent that was started anew says why; one that need not be was left alone."""
        for name, agent in self.box.agents().items():
            equal(agent["state"], "running", f"{name}: {agent['describe']}")
            if "cage" in batch:
                expect(agent["vm_pid"] != before[name]["vm_pid"], f"{name} has the VM of the dead cage")
                expect("KILL" in self.box.service("cage")["last_error"], "cage's last error does not say why")
                why = agent["started_anew_because"] or ""
                expect("cage ended unexpectedly" in why or "egress" in batch and "egress ended" in why,
                       f"{name} was started anew because {agent['started_anew_because']}")
            elif "egress" in batch:
                expect(agent["vm_pid"] != before[name]["vm_pid"], f"{name} was not started anew")
                expect("egress ended" in (agent["started_anew_because"] or ""),
                       f"{name} was started anew because {agent['started_anew_because']}")
            elif agent["vm_pid"] != before[name]["vm_pid"]:
                # Not by our hand: allowed only if whoever looks is told why.
                told = self.box.why_it_ended(name)
                expect(agent["restarts"] > before[name]["restarts"] and told,
                       f"{name} has another VM ({before[name]['vm_pid']} -> {agent['vm_pid']}) and nobody says why: "
                       f"{agent['describe']}; {self.box.last_words(name, 20)}")
                self.surprises.append(f"{name}: {told}")

    # --- what must have come of it

    def kept(self) -> Kept:
        return Kept({name: self.box.acknowledged(name) for name in AGENTS}, self.secrets | {"DEMO_KEY"})

    def nulld_costs(self) -> tuple[int, int]:
        """Open descriptors and resident kB of PID 1, from /proc."""
        resident = re.search(r"^VmRSS:\s+(\d+) kB", self.box.root.read("/proc/1/status"), re.M)
        return len(self.box.root.names("/proc/1/fd")), int(resident[1])

    def only_the_killed_restarted(self) -> str:
        for name in SERVICES:
            service = self.box.service(name)
            equal(service["restarts"] - self.restarts_before[name], self.killed[name], f"restarts of {name}")
            expect(not service["crash_loop"], f"{name} is said to crash loop")
        return ", ".join(f"{name} back after {sorted(times)[len(times) // 2]:.1f} s, at most {max(times):.1f} s"
                         for name, times in self.times.items())

    def memory_has_all(self) -> str:
        puts = self.kept().puts
        for name, acknowledged in puts.items():
            lost = self.box.memory_lacks(name, acknowledged)
            expect(not lost, f"acknowledged and not in memory: {lost}")
            newest = self.box.nullctl("memory", "get", "faults", name, "--json").ok().json()["entry"]["value"]["number"]
            expect(newest >= max(acknowledged), f"the newest of {name} is {newest}, not {max(acknowledged)}")
        return ", ".join(f"{len(acknowledged)} of {name}" for name, acknowledged in puts.items())

    def vault_has_all(self) -> str:
        self.box.nullctl("vault", "lock").ok()
        self.box.unlock()
        equal(self.box.vault_lacks(self.kept().secrets), set(), "secrets that were acknowledged and are gone")
        expect(len(self.secrets) >= self.killed["warden"], f"only {len(self.secrets)} secrets were put in")
        return f"{len(self.secrets)} acknowledged, of {self.sets} put in"

    def attempts_were_made(self) -> str:
        """Else that nothing arrived would say nothing."""
        records = self.box.nullctl("egress", "denials", "--json", "-n", "2048").ok().json()["records"]
        for name in AGENTS:
            mine = [record for record in records if record["agent"] == name]
            seen = {record["name"] or record["address"] for record in mine}
            expect(OUT_OF_REACH <= seen, f"denials of {name} name only {seen}")
        return f"{sum(record['count'] for record in records)} in the records"

    def play(self, suite: tap.Suite) -> None:
        costs = None
        broken = 0
        for number in range(1, self.rounds + 1):
            broken += not suite.check(f"kill -9, round {number} of {self.rounds}", self.round)
            if broken == MOST_BROKEN_ROUNDS:
                break
            if number == max(1, self.rounds // 5):
                costs = self.nulld_costs()  # buffers have their size

        def costs_nothing() -> str:
            expect(costs, "too few rounds were played")
            after = self.nulld_costs()
            expect(after[0] <= costs[0] + MOST_DESCRIPTORS, f"descriptors {costs[0]} -> {after[0]}")
            expect(after[1] <= costs[1] + MOST_KB, f"memory {costs[1]} -> {after[1]} kB")
            return f"{costs[0]} -> {after[0]} descriptors, {costs[1]} -> {after[1]} kB"

        suite.check("each service was restarted as often as it was killed", self.only_the_killed_restarted)
        suite.check("every acknowledged put is in memory", self.memory_has_all)
        suite.check("every acknowledged secret is in the vault", self.vault_has_all)
        suite.check("the forbidden was tried all along", self.attempts_were_made)
        suite.check("and never arrived", self.box.nothing_escaped)
        suite.check("no VM is doubled", self.box.no_vm_too_many)
        suite.check("no process of a VM is left over", self.box.no_process_left_over)
        suite.check("it cost PID 1 no descriptor and no memory", costs_nothing)
