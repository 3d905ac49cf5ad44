"""The battery's box as processes and namespaces: the same egress, without a machine. Used while vectors are written, and
by the mutations.
"""
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import battery
import network
import places
import native_box
from outside import MARK, SECRET, Outside

AGENT = Path(__file__).resolve().parent / "agent"
BINDING = {"secret": "LAB_KEY", "host": places.KEYED, "header": "Authorization", "format": "Bearer {secret}",
           "placeholder": "nullbox-LAB_KEY-0123456789abcdef"}


# In a guest: how many of nine connections are served.
SPEND = f"""
import sys
sys.path.insert(0, {str(AGENT)!r})
import guest, places
me = guest.Guest(sys.argv[1], "198.18.0.2", "")
request = f"GET /asked HTTP/1.1\\r\\nHost: {{places.API}}\\r\\n\\r\\n".encode()
print(sum(b" 200 " in me.exchange(places.API, 80, request, limit_s=2)[:40] for _ in range(9)))
"""


class Observer:
    """What comes past the box's firewall to its own sockets, and should not."""

    def __init__(self, box: native_box.NativeBox):
        self.seen: list[str] = []
        kinds = ((socket.AF_INET, socket.IPPROTO_UDP), (socket.AF_INET, socket.IPPROTO_TCP), (socket.AF_INET, socket.IPPROTO_ICMP),
                 (socket.AF_INET6, socket.IPPROTO_UDP), (socket.AF_INET6, socket.IPPROTO_TCP))
        for family, protocol in kinds:
            raw = native_box.inside(box.namespace.pid, lambda f=family, p=protocol: socket.socket(f, socket.SOCK_RAW, p))
            threading.Thread(target=self._listen, args=(raw, family, protocol), daemon=True).start()

    def _listen(self, raw: socket.socket, family: int, protocol: int) -> None:
        while True:
            packet = raw.recv(65536)
            segment = packet[(packet[0] & 15) * 4:] if family == socket.AF_INET else packet
            port = int.from_bytes(segment[2:4], "big")
            to = socket.inet_ntoa(packet[16:20]) if family == socket.AF_INET else "IPv6"
            asked = protocol in (socket.IPPROTO_UDP, socket.IPPROTO_TCP) and port == 53 and to.startswith("198.18.")
            proxied = protocol == socket.IPPROTO_TCP and (to.startswith(("198.18.", "198.19.")) or to == places.LITERAL)
            # Answers of the outside to the proxy.
            if to == places.BOX and protocol == socket.IPPROTO_TCP and port not in (places.GATE_PORT, places.PROXY_PORT, 22):
                continue
            if MARK in packet.lower() and not asked and not proxied:
                self.seen.append(f"a socket of the box at {to} port {port} gets it")
            if protocol == socket.IPPROTO_TCP and port in (places.GATE_PORT, places.PROXY_PORT, 22, 8443) and \
                    to.endswith((".1", places.BOX)) and to != places.GATEWAY:
                self.seen.append(f"TCP for the box itself, {to} port {port}")

    def take(self) -> list[str]:
        seen, self.seen = self.seen[:5], []
        return seen


class NativeSite:
    def __init__(self, folder: Path, programs: Path, egress: Path | None = None, sysctls: dict[str, str] | None = None,
                 settle_s: float = 0.06):
        folder.chmod(0o755)
        self.folder, self.outside = folder, Outside(folder)
        self.control = battery.Control()
        machine = f'hostname = "containment"\ncertificate_authorities = """\n{self.outside.authority.root.read_text()}"""\n'
        (folder / "box").mkdir()
        self.box = native_box.NativeBox(folder / "box", machine, programs, egress, sysctls)
        self.outside.watch()
        self.box.wait_online()
        self.box.make_vault("correct horse battery staple")
        self.box.grant("LAB_KEY", SECRET, battery.ATTACKER, places.KEYED)
        files = {"/etc/resolv.conf": "nameserver {dns}\n", "/etc/ssl/certs/ca-certificates.crt": "{ca}"}
        self.guests = [
            self.box.attach(battery.ATTACKER, places.ALLOW, places.ALLOW_PRIVATE, [BINDING], files, places.RULES),
            self.box.attach(battery.PEER, [places.API, f"{places.CONTROL}:{places.CONTROL_PORT}"], [], [], files)]
        self._record_at = 0
        self.records: list[dict] = []
        for guest, other in zip(self.guests, reversed(self.guests)):
            with open(folder / f"{guest.name}.log", "wb") as log:
                guest.start(sys.executable, AGENT / "main.py", guest.name, other.address, stdout=log, stderr=log,
                            env=os.environ | {"ROOTS": str(self.outside.authority.root), "LAB_KEY": BINDING["placeholder"],
                                              "LIMIT_S": "2", "SSH_KEY": str(folder / "ssh_key"), "HOME": str(folder)})
        self.observer = Observer(self.box)
        self.battery = battery.Battery(self.outside, self.control, settle_s, 60)
        self.battery.extra_evidence = self.observer.take
        self.battery.set_budget = self.set_budget
        for guest in self.guests:
            self.control.wait(guest.name, 120)
        self.control.ask(battery.PEER, 120, use="http")

    def collect_records(self) -> None:
        for record in self.box.egress("Denials", lines=2048)["records"]:
            if record["sequence"] > self._record_at:
                self._record_at = record["sequence"]
                self.records.append(record)

    def set_budget(self, budget: dict) -> None:
        """As cage does for a manifest that differs in its network only."""
        self.box.egress("Update", agent=battery.ATTACKER, allow=places.ALLOW, allow_private=places.ALLOW_PRIVATE, inject=[BINDING],
                        rules=places.RULES, budget={"bytes": 0, "connections": 0, "requests": 0} | budget)

    def spent(self, budget: dict) -> list[int]:
        """Connections that an agent gets served: at first, after it was started anew, and after a crash of egress. Takes the
        other agents' networks away."""
        def spend() -> int:
            guest = self.box.attach("spender", [places.API], [], [], budget=budget)
            words = guest.namespace.words(sys.executable, "-c", SPEND, guest.gateway)
            return int(subprocess.run(words, capture_output=True, text=True, check=True, timeout=120).stdout)
        found = [spend(), spend()]
        self.box.crash_egress()
        return [*found, spend()]

    def end(self) -> None:
        self.box.end()
