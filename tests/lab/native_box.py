"""A box without a machine: egress and warden as ordinary processes in namespaces of their own, on the lab's cable, and
for each agent a namespace in place of its VM, behind the tap that egress made for it. What the kernel and egress do for
an agent is the same as on a booted box; what cage, the VM and the image do is not there.

Needs root. All of it goes when this process ends.
"""
import array
import base64
import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import network

CLONE_NEWNET = 0x40000000
TUNSETIFF, TUNSETOFFLOAD, TUNSETVNETHDRSZ, TUNSETVNETLE = 0x400454CA, 0x400454D0, 0x400454D8, 0x400454DC
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
VNET_HEADER_BYTES = 12
EGRESS_UID = 101
START_LIMIT_S = 60
CAPABILITIES = ["net_admin", "net_bind_service", "net_raw"]  # not sys_time: the machine's clock is not the lab's
# As src/nulld/sysctls.cpp; a namespace begins with the kernel's own values.
SYSCTLS = {"net/ipv4/ip_forward": "0", "net/ipv4/conf/all/rp_filter": "1", "net/ipv4/conf/default/rp_filter": "1",
           "net/ipv4/conf/all/accept_redirects": "0", "net/ipv4/conf/default/accept_redirects": "0",
           "net/ipv4/conf/all/send_redirects": "0", "net/ipv4/conf/default/send_redirects": "0",
           "net/ipv4/conf/all/accept_source_route": "0", "net/ipv4/conf/default/accept_source_route": "0",
           "net/ipv6/conf/default/accept_ra": "0", "net/ipv6/conf/eth0/accept_ra": "0"}
PUMP = """
import os, sys, threading
def pump(source, target):
    while True:
        try:
            frame = os.read(source, 70000)
        except OSError:
            return  # its egress is gone
        try:
            os.write(target, frame)
        except OSError:
            pass
for pair in ((3, 4), (4, 3)):
    threading.Thread(target=pump, args=pair).start()
"""


def ends_with_us() -> None:
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def run(*words) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"{' '.join(map(str, words))}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def enter_namespace(pid: int) -> None:
    """This thread, from here on."""
    with open(f"/proc/{pid}/ns/net", "rb") as file:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(file.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "enter a network namespace")


def inside(pid: int, body):
    """body() in the network of that process, on a thread that ends with it; its result."""
    found: list = []

    def enter():
        try:
            enter_namespace(pid)
            found.extend([body(), None])
        except Exception as problem:  # handed to whoever asked
            found.extend([None, problem])
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if found[1]:
        raise found[1]
    return found[0]


class Namespace:
    """A process that does nothing but hold a network and a mount namespace."""

    def __init__(self):
        self._holder = subprocess.Popen(["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c",
                                         "echo ready; exec sleep infinity"], stdout=subprocess.PIPE,
                                        preexec_fn=ends_with_us)
        self._holder.stdout.readline()
        self.pid = self._holder.pid
        self.run("ip", "link", "set", "lo", "up")

    def words(self, *words) -> list[str]:
        return ["nsenter", "--target", str(self.pid), "--net", "--mount", *map(str, words)]

    def run(self, *words) -> str:
        return run(*self.words(*words))

    def end(self) -> None:
        self._holder.kill()
        self._holder.wait()


def varlink(path: Path, method: str, parameters: dict, limit_s: float = 60) -> tuple[dict, list[int]]:
    """The answer's parameters, and the descriptors that came with it."""
    fds: list[int] = []
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(limit_s)
        connection.connect(str(path))
        connection.sendall(json.dumps({"method": method, "parameters": parameters}).encode() + b"\0")
        answer = b""
        while not answer.endswith(b"\0"):
            chunk, more, _, _ = socket.recv_fds(connection, 1 << 16, 4)
            fds += more
            if not chunk:
                raise OSError(f"{method}: the service hung up")
            answer += chunk
    decoded = json.loads(answer[:-1])
    if "error" in decoded:
        raise OSError(f"{method}: {decoded['error']}: {decoded.get('parameters')}")
    return decoded.get("parameters", {}), fds


class Guest:
    """An agent's namespace. Its eth0 is the other end of egress's tap, frame by frame."""

    def __init__(self, name: str, answer: dict, tap: int, files: dict[str, str]):
        self.name, self.address, self.gateway, self.ca_pem = name, answer["address"], answer["gateway"], answer["ca_pem"]
        self.namespace = Namespace()
        card = inside(self.namespace.pid, self._open_card)
        os.set_blocking(tap, True)
        # The pump has them as 3 and 4; ours are high, so that neither lands on the other.
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in (tap, card)]
        self._pump = subprocess.Popen([sys.executable, "-c", PUMP], preexec_fn=lambda: self._hand_over(high),
                                      close_fds=False)
        for fd in (tap, card, *high):
            os.close(fd)
        enter = self.namespace.run
        enter("ip", "link", "set", "eth0", "address", answer["mac"], "mtu", answer["mtu"], "up")
        enter("ip", "address", "add", f"{answer['address']}/{answer['prefix']}", "dev", "eth0")
        enter("ip", "route", "add", "default", "via", answer["gateway"])
        for path, text in files.items():
            self._replace(path, text)

    @staticmethod
    def _open_card() -> int:
        fd = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", b"eth0", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
        for request, value in ((TUNSETVNETHDRSZ, VNET_HEADER_BYTES), (TUNSETVNETLE, 1)):
            fcntl.ioctl(fd, request, array.array("i", [value]))
        fcntl.ioctl(fd, TUNSETOFFLOAD, 0)
        return fd

    @staticmethod
    def _hand_over(fds: list[int]) -> None:
        ends_with_us()
        for number, fd in enumerate(fds, start=3):
            os.dup2(fd, number)

    def _replace(self, path: str, text: str) -> None:
        """Another file in the place of the machine's, for this guest."""
        holder = Path(f"/tmp/.nullbox-guest-{self.namespace.pid}-{Path(path).name}")
        holder.write_text(text)
        try:
            self.namespace.run("mount", "--bind", holder, path)
        finally:
            holder.unlink()

    def start(self, *words, **more) -> subprocess.Popen:
        return subprocess.Popen(self.namespace.words(*words), preexec_fn=ends_with_us, **more)

    def end(self) -> None:
        self._pump.kill()
        self._pump.wait()
        self.namespace.end()


class NativeBox:
    """programs: the folder of the build, with src/egress/egress and src/warden/warden in it; egress: another one."""

    def __init__(self, folder: Path, machine: str, programs: Path, egress: Path | None = None,
                 sysctls: dict[str, str] | None = None):
        self.folder, self._egress_program = folder, egress or programs / "src/egress/egress"
        self._warden_program = programs / "src/warden/warden"
        self.root = folder / "root"
        self.guests: dict[str, Guest] = {}
        self.namespace = Namespace()
        network.ip("link", "add", network.TAP, "type", "veth", "peer", "name", "eth0", "netns", str(self.namespace.pid))
        network.ip("address", "add", f"{network.GATEWAY}/{network.PREFIX}", "dev", network.TAP)
        network.ip("link", "set", network.TAP, "up")
        for name, value in (SYSCTLS | (sysctls or {})).items():
            self.namespace.run("sh", "-c", f"echo {value} > /proc/sys/{name}")
        self._make_root(machine)
        self._processes = [self._start_warden(), self._start_egress()]

    def _make_root(self, machine: str) -> None:
        for name in ("run/nulld", "run/egress", "run/warden", "var/egress", "var/warden", "system/config", "bin", "tmp"):
            (self.root / name).mkdir(parents=True)
        (self.root / "run/nulld/machine.toml").write_text(machine)
        (self.root / "system/config/ca-certificates.crt").write_bytes(
            Path("/etc/ssl/certs/ca-certificates.crt").read_bytes())
        shutil.copy(self._egress_program, self.root / "bin/egress")
        shutil.copy(self._warden_program, self.root / "bin/warden")
        (self.root / "dev/net").mkdir(parents=True)
        for name, major, minor in (("net/tun", 10, 200), ("null", 1, 3), ("urandom", 1, 9), ("random", 1, 8)):
            os.mknod(self.root / "dev" / name, 0o666 | stat.S_IFCHR, os.makedev(major, minor))
            (self.root / "dev" / name).chmod(0o666)
        for name in ("usr", "lib", "lib64", "proc", "sys"):
            if Path(f"/{name}").exists():
                (self.root / name).mkdir()
                self.namespace.run("mount", "--rbind", f"/{name}", self.root / name)
        for name in ("run/egress", "var/egress"):
            os.chown(self.root / name, EGRESS_UID, EGRESS_UID)
        for path in (self.folder, self.root):
            path.chmod(0o755)

    def _start(self, log: str, *words) -> subprocess.Popen:
        with open(self.folder / log, "ab") as file:
            return subprocess.Popen(self.namespace.words("chroot", self.root, *words), stdout=file, stderr=file,
                                    preexec_fn=ends_with_us)

    def _wait(self, path: Path, process: subprocess.Popen, log: str) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        while not path.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise OSError(f"it does not start: {(self.folder / log).read_text()[-600:]}")
            time.sleep(0.02)

    def _start_warden(self) -> subprocess.Popen:
        process = self._start("warden.log", "/bin/warden", "--socket", "/run/warden/warden.sock", "--vault",
                              "/var/warden/vault", "--allow-uid", "0", "--allow-uid", EGRESS_UID)
        self._wait(self.root / "run/warden/warden.sock", process, "warden.log")
        (self.root / "run/warden/warden.sock").chmod(0o666)
        return process

    def _start_egress(self) -> subprocess.Popen:
        kept = ",".join(f"+{name}" for name in CAPABILITIES)
        (self.root / "run/egress/egress.sock").unlink(missing_ok=True)
        process = self._start("egress.log", "setpriv", "--reuid", EGRESS_UID, "--regid", EGRESS_UID, "--clear-groups",
                              "--inh-caps", f"-all,{kept}", "--ambient-caps", f"-all,{kept}", "--bounding-set",
                              f"-all,{kept}", "/bin/egress", "--allow-uid", "0")
        self._wait(self.root / "run/egress/egress.sock", process, "egress.log")
        return process

    # --- what cage, an operator and the vault do on a booted box

    def egress(self, method: str, **parameters) -> dict:
        return varlink(self.root / "run/egress/egress.sock", f"io.nullbox.egress.{method}", parameters)[0]

    def warden(self, method: str, **parameters) -> dict:
        return varlink(self.root / "run/warden/warden.sock", f"io.nullbox.warden.{method}", parameters)[0]

    def wait_online(self, limit_s: float = 30) -> None:
        deadline = time.monotonic() + limit_s
        while not self.egress("Status")["gateway"]:
            if time.monotonic() > deadline:
                raise OSError(f"egress gets no address: {(self.folder / 'egress.log').read_text()[-600:]}")
            time.sleep(0.1)

    def make_vault(self, passphrase: str) -> None:
        self.warden("Init", passphrase=passphrase)

    def grant(self, name: str, value: str, agent: str, host: str) -> None:
        self.warden("Set", name=name, value_base64=base64.b64encode(value.encode()).decode())
        self.warden("Grant", secret=name, agent=agent, host=host, header="Authorization", format="Bearer {secret}")

    def attach(self, agent: str, allow: list[str], allow_private: list[str], inject: list[dict],
               files: dict[str, str] | None = None, rules: list[dict] | None = None, budget: dict | None = None) -> Guest:
        """files: path to text, in place of the machine's own for this guest; {ca} becomes the box's authority."""
        path = self.root / "run/egress/egress.sock"
        answer, fds = varlink(path, "io.nullbox.egress.Attach", {"agent": agent, "allow": allow, "inject": inject,
                                                                "allow_private": allow_private, "rules": rules or [], "budget": budget})
        if agent in self.guests:
            self.guests.pop(agent).end()
        filled = {name: text.replace("{ca}", answer["ca_pem"]).replace("{dns}", answer["dns"])
                  for name, text in (files or {}).items()}
        self.guests[agent] = Guest(agent, answer, fds[0], filled)
        return self.guests[agent]

    def crash_egress(self) -> None:
        """Nobody is told, and a new one starts. Whoever was attached is not any more."""
        self._processes[1].kill()
        self._processes[1].wait()
        self._processes[1] = self._start_egress()
        self.wait_online()

    def end(self) -> None:
        for guest in self.guests.values():
            guest.end()
        for process in self._processes:
            process.terminate()
            process.wait()
        self.namespace.end()
