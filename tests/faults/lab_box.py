"""A box in the lab with its operator and two agents that never stop working, and what several faults ask of it."""
import re
import shutil
import time
from pathlib import Path

import box
import surroundings
import variants
from box import Refused
from tap import equal, expect

NULLD, CAGE = "io.nullbox.nulld", "io.nullbox.cage"
HERE = Path(__file__).resolve().parent
AGENTS = ("keyed", "plain")
SERVICES = ("egress", "warden", "ctxgraph", "gate", "cage")
GO_ON_LIMIT_S = 90
BACK_LIMIT_S = 30


class LabBox:
    """Asked through the probe where tests must see, and through nullctl where operators do."""

    def __init__(self, machine: box.Box, lab: surroundings.Site):
        self.box, self.root, self.site, self.operator = machine, machine.root, lab, lab.operator
        self.nullctl = lab.operator.nullctl

    # --- what it is asked

    def status(self) -> dict:
        return self.root.call(f"{NULLD}.Status")

    def service(self, name: str) -> dict:
        return next(service for service in self.status()["services"] if service["name"] == name)

    def agent(self, name: str) -> dict:
        return self.root.call(f"{CAGE}.Status", {"name": name})["agent"]

    def agents(self) -> dict[str, dict]:
        return {name: self.agent(name) for name in AGENTS}

    def listed(self, name: str) -> str:
        """An agent's line in nullctl agent list."""
        answer = self.nullctl("agent", "list")
        lines = [line for line in answer.out.splitlines() if line.split()[:1] == [name]]
        return lines[0] if lines else ""

    def vault_state(self) -> str:
        return self.nullctl("vault", "status", "--json").ok().json()["state"]

    def wait(self, condition, limit_s: float, what: str, every_s: float = 0.1):
        return self.box.wait_until(condition, limit_s, what, every_s)

    def kill(self, before: dict) -> dict:
        """Kills the service's process, and waits for the next."""
        self.root.ask("kill", str(before["pid"]), "9")

        def back() -> dict | None:
            now = self.service(before["name"])
            return now if now["state"] == "running" and now["pid"] != before["pid"] else None
        return self.wait(back, BACK_LIMIT_S, f"{before['name']} runs again")

    # --- getting there

    def is_up(self) -> str:
        self.box.wait_probe()
        line = self.wait(lambda: self.service("gate")["status"], 60, "gate is ready")
        self.operator.trust(surroundings.fingerprint_in(line))
        self.wait(lambda: self.nullctl("status").status == 0, 60, "nullctl reaches the box")
        return f"{time.monotonic() - self.box.machine.started:.1f} s after power on"

    def make_vault(self) -> None:
        self.nullctl("agent", "remove", "analyst", "--yes").ok()
        self.nullctl("vault", "init", given=surroundings.PASSPHRASE + "\n").ok()
        self.nullctl("vault", "set", "DEMO_KEY", given=surroundings.SECRET).ok()

    def unlock(self) -> None:
        self.nullctl("vault", "unlock", given=surroundings.PASSPHRASE + "\n", limit_s=120).ok()

    def deploy(self, name: str) -> None:
        folder = self.site.folder / "agents" / name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(HERE / "agents/worker.py", folder)
        shutil.copy(HERE / f"agents/{name}.toml", folder / "AGENT.toml")
        shutil.copy(self.site.authority.root, folder)
        self.nullctl("agent", "deploy", str(folder), "--yes", limit_s=120).ok()

    # --- what its agents do

    def acknowledged(self, name: str) -> dict[int, str]:
        """Number and entry of each put that the agent knows to be kept, in a file on the box."""
        lines = self.root.read(f"/var/shared/data/faults/{name}").split("\n")[:-1]
        return {int(line.split()[0]): line.split()[1] for line in lines if len(line.split()) == 2}

    def done(self, name: str) -> tuple[int, int]:
        """Requests of the agent that reached the API, and puts that were acknowledged."""
        reached = sum(request.path.startswith(f"/{name}/") for request in list(self.site.api.requests))
        try:
            return reached, len(self.acknowledged(name))
        except Refused as refused:
            expect("No such file" in str(refused), str(refused))
            return reached, 0

    def goes_on(self, name: str, before: tuple[int, int] | None = None, limit_s: float = GO_ON_LIMIT_S) -> None:
        """The agent gets at the API and at the memory, again."""
        start = before or self.done(name)

        def more() -> bool:
            now = self.done(name)
            return now[0] > start[0] and now[1] > start[1]
        try:
            self.wait(more, limit_s, f"{name} works", every_s=0.2)
        except Refused as refused:
            raise Refused(f"{refused}; {self.agent(name)['describe']}; {self.last_words(name)}") from None

    def memory_lacks(self, name: str, acknowledged: dict[int, str]) -> str:
        """Which of these puts an operator does not find; empty if none."""
        kept, cursor = {}, None
        while cursor != "":
            page = self.nullctl("memory", "history", "faults", name, "--limit", "100", "--json",
                                *(["--cursor", cursor] if cursor else [])).ok().json()
            kept |= {entry["id"]: entry["value"]["number"] for entry in page["entries"]}
            cursor = page["next"] or ""
        lost = [f"{number} ({entry})" for number, entry in acknowledged.items() if kept.get(entry) != number]
        return f"{len(lost)} of {name}: {', '.join(lost[:5])}" if lost else ""

    def vault_lacks(self, secrets: set[str]) -> set[str]:
        listed = self.nullctl("vault", "list", "--json").ok().json()["secrets"]
        return secrets - {secret["name"] for secret in listed}

    def last_words(self, name: str, count: int = 6) -> str:
        lines = self.root.call(f"{CAGE}.Logs", {"name": name, "lines": count})["lines"]
        return " | ".join(line["text"] for line in lines)

    def why_it_ended(self, name: str) -> str:
        """What cage wrote into the agent's log when it last ended."""
        lines = self.root.call(f"{CAGE}.Logs", {"name": name, "lines": 100})["lines"]
        ends = [line["text"] for line in lines if line["stream"] == "cage" and
                re.match(r"exited|killed|failed|ended|lost", line["text"])]
        return ends[-1] if ends else ""

    # --- what must hold at any time

    def nothing_escaped(self) -> None:
        expect(not self.site.trouble(), self.site.trouble())

    def groups(self) -> dict[str, set[int]]:
        """The control group of each VM, and the processes in it."""
        place, found = "/sys/fs/cgroup/cage", {}
        for name in self.root.names(place):
            if name != "daemon" and self.root.stat(f"{place}/{name}")["type"] == "folder":
                found[name] = {int(pid) for pid in self.root.read(f"{place}/{name}/cgroup.procs").split()}
        return found

    def no_vm_too_many(self) -> None:
        """Each agent that runs has one VM, which is the one that cage knows; no other group has a process."""
        groups = self.groups()
        agents = {each["name"]: self.agent(each["name"]) for each in self.root.call(f"{CAGE}.List")["agents"]}
        for name, agent in agents.items():
            pids = groups.get(name, set())
            expect((agent["vm_pid"] in pids) if agent["vm_pid"] else not pids,
                   f"{name} is {agent['state']}, its VM process {agent['vm_pid']}, in its group {pids}")
        populated = {name for name, pids in groups.items() if pids}
        expect(populated <= set(agents), f"VMs of nobody: {populated - set(agents)}")
        sizes = {len(groups[name]) for name in populated}
        expect(len(sizes) <= 1, f"VMs of different numbers of processes: {groups}")

    def no_process_left_over(self) -> str:
        """Every process with a VM's uid, of the whole machine, is in a VM's group."""
        owned = set().union(*self.groups().values())
        found = self.root.vm_processes()
        equal(found - owned, set(), "VM processes outside of any VM's group")
        equal(self.status()["nulld"]["zombies"], 0, "zombies")
        return f"{len(found)} processes of VMs"


def boot(name: str, lab: surroundings.Site, disk: Path, extra: list[str] | None = None) -> box.Box:
    """Of the example agents, none is there to take time."""
    image = variants.Variant("faults-services", remove=["agent/hello.toml", "agent/images/hello.img"]).build()
    return box.Box(image, name, data_disk=disk, reboots=False, extra=[*lab.machine_arguments(), *(extra or [])])
