"""The battery's box as a booted machine: the image that ships, two agents in microVMs of their own, and an operator."""
import importlib.machinery
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/lib"))
import battery  # noqa: E402
import box  # noqa: E402
import network  # noqa: E402
import nullctl  # noqa: E402
import places  # noqa: E402
import variants  # noqa: E402
from outside import SECRET, TIME, Outside  # noqa: E402

AGENT = Path(__file__).resolve().parent / "agent"
PASSPHRASE = "correct horse battery staple"
DISK_MB = 1024
SLOW = float(os.environ.get("NULLBOX_SLOW", "1"))  # all limits times this, on a computer that does other things too
PEER_ADDRESS = {battery.ATTACKER: "198.18.4.2", battery.PEER: "198.18.0.2"}  # the first two places that egress gives
MANIFEST = """\
[agent]
name = "{name}"
version = "1.0.0"
image = "containment"
command = ["/usr/bin/python3", "/app/main.py", "{name}", "{peer}"]
working_directory = "/app"
user = 0
start = "manual"
restart = "always"

[agent.environment]
LIMIT_S = "{limit}"
PROGRAM_LIMIT_S = "{program_limit}"

[capabilities]
max_cpu_percent = {cpu}
max_memory_mb = {memory}

[capabilities.network]
allow = [{allow}]
allow_private = [{private}]
{more}
"""
RULE_LINES = "".join(f"""
[[capabilities.network.rule]]
host = "{rule["host"]}"
methods = {json.dumps(rule["methods"])}
paths = {json.dumps(rule["paths"])}
""" for rule in places.RULES)
SECRET_LINES = f"""
[capabilities.credentials.LAB_KEY]
inject = {{ host = "{places.KEYED}", header = "Authorization", format = "Bearer {{secret}}" }}

[capabilities.memory]
read = ["attackers"]
write = ["attackers"]
"""
PEER_LINES = """
[capabilities.memory]
read = ["peers"]
write = ["peers"]
"""


def load(path: Path):
    loader = importlib.machinery.SourceFileLoader(path.name.replace("-", "_"), str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def quoted(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def manifests() -> dict[str, str]:
    control = f"{places.CONTROL}:{places.CONTROL_PORT}"
    limits = {"limit": min(6 * SLOW, 20), "program_limit": 200 * SLOW}
    return {battery.ATTACKER: MANIFEST.format(**limits, name=battery.ATTACKER, peer=PEER_ADDRESS[battery.ATTACKER], cpu=200, memory=768,
                                              allow=quoted(places.ALLOW), private=quoted(places.ALLOW_PRIVATE), more=RULE_LINES + SECRET_LINES),
            battery.PEER: MANIFEST.format(**limits, name=battery.PEER, peer=PEER_ADDRESS[battery.PEER], cpu=100, memory=192,
                                          allow=quoted([places.API, control]), private="", more=PEER_LINES)}


class MachineSite:
    def __init__(self, folder: Path, name: str = "containment"):
        self.folder, self.outside = folder, Outside(folder)
        network.make_tap()
        self.outside.watch()
        self.control = battery.Control()
        self.nullctl = nullctl.Nullctl(folder / "nullctl")
        machine = folder / "machine.toml"
        machine.write_text(f'hostname = "{name}"\ntime_servers = ["{TIME}"]\ncertificate_authorities = """\n'
                           f'{self.outside.authority.root.read_text()}"""\n' + self.nullctl.operator_lines())
        image = variants.Variant("containment", remove=["agent/hello.toml", "agent/images/hello.img"]).build()
        self.disk = self._make_disk()
        self.box = box.Box(image, name, data_disk=self.disk, memory_mb=2560, watchdog=SLOW == 1,
                           extra=[*network.tap_arguments(), "-fw_cfg", f"name=opt/nullbox/machine,file={machine}"])
        console = ROOT / "out/log/containment-console.log"
        console.parent.mkdir(parents=True, exist_ok=True)
        self._console = open(console, "wb", buffering=0)
        self.box.machine._on_console = self._console.write
        self.battery = battery.Battery(self.outside, self.control, 0.1, 150 * SLOW, ask_peer_every=20)
        self.records: list[dict] = []

    def _make_disk(self) -> Path:
        out = variants.image.OUT
        runtime = out / "images/containment.img"
        variants.image.run(ROOT / "tests/containment/runtime", runtime)
        app = self.folder / "app"
        shutil.copytree(AGENT, app, ignore=shutil.ignore_patterns("__pycache__"))
        for extra in (self.outside.authority.root, self.folder / "ssh_key"):
            shutil.copy(extra, app)
        packed = self.folder / "app.img"
        variants.image.run(ROOT / "image/pack-agent", app, packed)
        stage = self.folder / "disk"
        variants.image.put(stage, ".nullbox-data", b"", 0o444)
        variants.image.put(stage, "images/containment.img", runtime, 0o444)
        for name, manifest in manifests().items():
            variants.image.put(stage, f"agents/{name}.toml", manifest.encode(), 0o444)
            variants.image.put(stage, f"agents/{name}.app.img", packed, 0o444)
        data_disk = load(ROOT / "image/data-disk")
        data_disk.SIZE_MB = DISK_MB
        target = out / "test/containment.data.img"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        data_disk.make_ext4(stage, target, 1_700_000_000)
        shutil.rmtree(stage)
        return target

    def start(self) -> None:
        """The agents run, in the order in which egress gives its places."""
        self.box.__enter__()
        self.box.wait_probe(60 * SLOW)
        status = self.box.wait_until(self._gate_status, 60 * SLOW, "gate is ready")
        fingerprint = re.search(r"fingerprint (sha256:[0-9a-f]+)", status)[1]
        self.nullctl("box", "add", "containment", network.BOX, "--fingerprint", fingerprint).ok()
        self.box.wait_until(lambda: self.nullctl("status").status == 0, 60 * SLOW, "nullctl reaches the box", every_s=1)
        self.nullctl("vault", "init", given=PASSPHRASE + "\n", limit_s=180 * SLOW).ok()
        self.nullctl("vault", "set", "LAB_KEY", given=SECRET, limit_s=60 * SLOW).ok()
        self.nullctl("vault", "grant", "LAB_KEY", battery.ATTACKER, "--host", places.KEYED, "--header", "Authorization", "--format", "Bearer {secret}", limit_s=60 * SLOW).ok()
        for name in (battery.ATTACKER, battery.PEER):
            self.nullctl("agent", "start", name, limit_s=120 * SLOW).ok()
            try:
                self.control.wait(name, 120 * SLOW)
            except battery.Lost as lost:
                raise box.Refused(f"{lost}; it said: {self.nullctl('agent', 'logs', name, '-n', '30').out[-1500:]}") from None
            if self.control.addresses[name] != PEER_ADDRESS[battery.PEER if name == battery.ATTACKER else battery.ATTACKER]:
                raise box.Refused(f"{name} is at {self.control.addresses[name]}, not where the other one looks for it")
        self.nullctl("memory", "put", "peers", "secret", given='"forbidden to others"')

    def _gate_status(self) -> str:
        services = self.box.root.call("io.nullbox.nulld.Status")["services"]
        return next((each["status"] or "" for each in services if each["name"] == "gate" and each["state"] == "running"), "")

    def collect_records(self) -> None:
        known = {record["sequence"] for record in self.records}
        found = self.nullctl("egress", "denials", "--json", "-n", "2048", "--agent", battery.ATTACKER, limit_s=120 * SLOW).ok()
        self.records += [record for record in found.json()["records"] if record["sequence"] not in known]

    def end(self) -> None:
        self.box.__exit__()
        self.disk.unlink(missing_ok=True)
