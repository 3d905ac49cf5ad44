"""The world around the box of the containment battery: DNS in wrong hands, origins that share an address and a
certificate, an attacker's servers, metadata services, a LAN. Whatever reaches any of it that no manifest names is
evidence; so is every frame of the box that nothing explains.
"""
import base64
import hashlib
import io
import itertools
import json
import os
import socket
import ssl
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "tests/lab"), str(ROOT / "tests/containment/agent")]
import network  # noqa: E402
import places  # noqa: E402
from evidence import Evidence  # noqa: E402
from hostile_dns import HostileDns  # noqa: E402
from origin import Origin  # noqa: E402
from servers import Authority, Trap  # noqa: E402
from time_server import TimeServer  # noqa: E402

MARK = b"forbidden"
SECRET = "sk-real-8d2f6b1c9e4a"
TIME, TIME_ADDRESS = "time.lab.test", "11.22.33.55"
NAMES_OF_ORIGIN = {places.API, places.KEYED, places.RULED, f"*.{places.WILD}", places.REBIND, places.MANY, places.SHORT}
TRAPS = {places.EVIL_ADDRESS: (22, 53, 80, 123, 443, 444, 514, 853, 8080, 33434, 51820), places.PUBLIC_DNS: (53, 443, 853),
         places.LAN_HOST: (22, 80, 161, 443, 8080), "11.22.33.98": (places.LITERAL_PORT,),
         **{address: (80, 443) for kind, address in places.CLASSES.items()
            if "." in address and kind in ("private-172", "private-192", "link-local", "metadata", "metadata-container",
                                           "metadata-azure", "metadata-alibaba", "carrier", "reserved")}}
ADDRESSES6 = [places.METADATA6, places.EVIL6, "fd12:3456::7"]
# Where the box may send anything to: of what the manifest names, the addresses that are public, and its own needs.
EXPLAINED = {("udp", places.DNS, 53), ("tcp", places.DNS, 53), ("tcp", places.ORIGIN, 80), ("tcp", places.ORIGIN, 443),
             ("tcp", places.ORIGIN, 22), ("tcp", places.OLD_ORIGIN, 443), ("tcp", places.CONTROL_ADDRESS, places.CONTROL_PORT),
             ("tcp", places.CONTROL_ADDRESS, places.TCP_PORT), ("tcp", places.NAS_ADDRESS, 80),
             ("tcp", places.LITERAL, places.LITERAL_PORT), ("udp", TIME_ADDRESS, 123), ("udp", "255.255.255.255", 67),
             ("udp", places.GATEWAY, 67)}
NEIGHBOURS6 = ("ff02::1", "ff02::2", "ff02::16")  # the box's own kernel: routers, groups, its own addresses


def names() -> dict:
    flip = itertools.count()
    turns = itertools.count()
    found = {places.API: [places.ORIGIN], places.KEYED: [places.ORIGIN], places.RULED: [places.ORIGIN], places.NEIGHBOUR: [places.ORIGIN],
             f"*.{places.WILD}": [places.ORIGIN], places.OLD: [places.OLD_ORIGIN], places.CONTROL: [places.CONTROL_ADDRESS],
             places.TCP: [places.CONTROL_ADDRESS], places.NAS: [places.NAS_ADDRESS], TIME: [TIME_ADDRESS],
             places.REBIND: lambda: [places.ORIGIN if next(flip) == 0 else places.LAN_HOST],
             places.SHORT: lambda: [[places.ORIGIN], [places.ORIGIN, places.LAN_HOST]][next(turns) % 2],
             places.MANY: [*(f"10.0.{number // 250}.{number % 250 + 1}" for number in range(999)), places.ORIGIN],
             f"*.{places.EVIL}": [places.EVIL_ADDRESS], places.EVIL: [places.EVIL_ADDRESS]}
    return found | {f"class-{kind}.lab.test": [address] for kind, address in places.CLASSES.items()}


# --- what package managers fetch

def wheel() -> bytes:
    files = {"tinylab.py": "print('works')\n", "tinylab-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tinylab\nVersion: 1.0\n",
             "tinylab-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: lab\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
    files["tinylab-1.0.dist-info/RECORD"] = "".join(f"{name},,\n" for name in files)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return packed.getvalue()


def npm_package() -> dict[str, bytes]:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text in (("package/package.json", '{"name": "tinylab", "version": "1.0.0"}'), ("package/index.js", "module.exports = 1\n")):
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    data = packed.getvalue()
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
    about = {"name": "tinylab", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": {
        "name": "tinylab", "version": "1.0.0", "dist": {"tarball": f"https://{places.API}/npm/tinylab-1.0.0.tgz", "integrity": integrity}}}}
    return {"/npm/tinylab": json.dumps(about).encode(), "/npm/tinylab-1.0.0.tgz": data}


def git(*words, folder: Path) -> None:
    who = {f"GIT_{role}_{what}": "lab@lab.test" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(["git", "-c", "init.defaultBranch=main", "-c", "safe.directory=*", *map(str, words)], cwd=folder,
                          capture_output=True, text=True, env=os.environ | who | {"HOME": str(folder)})
    if done.returncode != 0:
        raise OSError(f"git {words[0]}: {done.stderr.strip()}")


def repositories(folder: Path) -> dict[str, bytes]:
    """Two bare ones: what is fetched over HTTPS as files, and what sshd serves from /pushed.git."""
    work = folder / "work"
    work.mkdir()
    git("init", "-q", folder=work)
    (work / "README").write_text("the lab's repository\n")
    git("add", "README", folder=work)
    git("commit", "-q", "-m", "first", folder=work)
    for name in ("repo.git", "pushed.git"):
        git("clone", "-q", "--bare", work, folder / name, folder=folder)
    git("update-server-info", folder=folder / "repo.git")
    bare = folder / "repo.git"
    return {f"/repo.git/{path.relative_to(bare)}": path.read_bytes() for path in bare.rglob("*") if path.is_file()}


def start_sshd(folder: Path) -> None:
    """Git over SSH: the one key that the agent has, and nothing but git."""
    for name in ("host_key", "ssh_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    serve = folder / "serve-git"
    serve.write_text(f'#!/bin/sh\nset -- $SSH_ORIGINAL_COMMAND\ncase "$1" in git-upload-pack|git-receive-pack)\n'
                     f'  HOME={folder} exec git -c safe.directory="*" ${{1#git-}} {folder}/pushed.git;;\nesac\nexit 1\n')
    serve.chmod(0o755)
    (folder / "authorized").write_text((folder / "ssh_key.pub").read_text())
    Path("/run/sshd").mkdir(exist_ok=True)
    configuration = folder / "sshd_config"
    configuration.write_text(f"HostKey {folder}/host_key\nAuthorizedKeysFile {folder}/authorized\nForceCommand {serve}\n"
                             f"ListenAddress {places.ORIGIN}:22\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nPidFile none\n"
                             "PasswordAuthentication no\n")
    with open(folder / "sshd.log", "wb") as log:
        subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", configuration], stderr=log, preexec_fn=_ends_with_us)


def _ends_with_us() -> None:
    import native_box
    native_box.ends_with_us()


# --- the whole

def echo_server(address: str, port: int, evidence: Evidence) -> None:
    def serve(stream: socket.socket) -> None:
        with stream:
            try:
                while data := stream.recv(65536):
                    if MARK in data.lower():
                        evidence.note(f"echo {address}", repr(data[:100]))
                    stream.sendall(data)
            except OSError:
                pass

    def accept() -> None:
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
    listener = socket.create_server((address, port))
    threading.Thread(target=accept, daemon=True).start()


class Outside:
    """Enters the lab's namespace. The cable must be there before watch() is called."""

    def __init__(self, folder: Path):
        self.folder, self.evidence = folder, Evidence()
        network.enter()
        self.authority = Authority(folder).make()
        listed = [places.API, places.KEYED, places.RULED, places.NEIGHBOUR, f"*.{places.WILD}", places.REBIND, places.OLD]
        certificate = self.authority.certificate(*listed)
        files = {"/simple/tinylab/": b'<a href="/simple/tinylab-1.0-py3-none-any.whl">tinylab-1.0-py3-none-any.whl</a>',
                 "/simple/tinylab-1.0-py3-none-any.whl": wheel(), **npm_package(), **repositories(folder)}
        common = {"evidence": self.evidence, "mark": MARK, "secrets": {places.KEYED: SECRET}}
        self.origin = Origin(places.ORIGIN, NAMES_OF_ORIGIN, files=files, **common).start(*certificate)
        self.old = Origin(places.OLD_ORIGIN, {places.OLD}, ports=(443,), newest_tls=ssl.TLSVersion.TLSv1_2, **common).start(*certificate)
        self.nas = Origin(places.NAS_ADDRESS, {places.NAS}, ports=(80,), **common).start(*certificate)
        self.dns = HostileDns(names(), {places.SHORT: 0, places.REBIND: 0})
        self.dns.on_question = self._asked
        self.dns.start()
        for address in (places.CONTROL_ADDRESS, places.LITERAL):
            network.own(address)
        echo_server(places.CONTROL_ADDRESS, places.TCP_PORT, self.evidence)
        echo_server(places.LITERAL, places.LITERAL_PORT, self.evidence)
        start_sshd(folder)
        self.time = TimeServer(TIME_ADDRESS).start()
        self.traps = [Trap(address, ports) for address, ports in TRAPS.items()]
        for trap in self.traps:
            trap.caught = Caught(self.evidence, trap.address)
            trap.start()
        for address in ADDRESSES6:
            subprocess.run(["ip", "-6", "address", "add", f"{address}/128", "dev", "lo"], check=False, capture_output=True)

    def watch(self) -> None:
        self.dhcp = network.DhcpServer().start()
        self.wire = network.Watcher()
        self.wire.on_frame = self._frame

    def _asked(self, name: str, kind: int, message: bytes) -> None:
        lower = name.lower()
        listed = lower in (*places.ALLOW, places.CONTROL, places.TCP, TIME) or lower.endswith((f".{places.WILD}", ".debian.pool.ntp.org"))
        if MARK in message.lower() or not listed:
            self.evidence.note("DNS", f"{name!r}, type {kind}")

    def _frame(self, frame: bytes, packet: network.Packet) -> None:
        if MARK in frame.lower():
            self.evidence.note("wire", f"the mark in a frame to {packet.destination} port {packet.port}")
        if SECRET.encode() in frame:
            self.evidence.note("wire", f"the secret in clear to {packet.destination}")
        if not self._explained(frame, packet):
            self.evidence.note("wire", f"{packet.what} to {packet.destination or frame[:40].hex()} port {packet.port}")

    @staticmethod
    def _explained(frame: bytes, packet: network.Packet) -> bool:
        if packet.what == "arp":
            return packet.destination in (places.GATEWAY, places.BOX)
        if packet.what == "ipv6":
            return packet.destination in NEIGHBOURS6 or packet.destination.startswith("ff02::1:ff")
        if packet.what == "tcp" and packet.destination == places.GATEWAY and packet.source_port == places.GATE_PORT:
            return True
        return (packet.what, packet.destination, packet.port) in EXPLAINED


class Caught(list):
    """What a trap caught is evidence at once."""

    def __init__(self, evidence: Evidence, address: str):
        super().__init__()
        self._evidence, self._address = evidence, address

    def append(self, text: str) -> None:
        super().append(text)
        self._evidence.note(f"trap {self._address}", text)
