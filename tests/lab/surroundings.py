"""A box's whole surroundings: the lab's network with its servers and traps, and an operator with nullctl. What the box
sends and nothing explains, is found here.
"""
import os
import re
import ssl
import subprocess
from pathlib import Path

import network
import servers
from nullctl import PROGRAM, Answer
from time_server import TimeServer

API, API_ADDRESS = "api.lab.test", "11.22.33.44"
OTHER, OTHER_ADDRESS = "other.lab.test", "44.55.66.77"
TIME, TIME_ADDRESS = "time.lab.test", "11.22.33.55"
METADATA = "169.254.169.254"
PUBLIC_DNS = "8.8.8.8"
SECRET = "sk-real-5f1d9c2e7a"
PASSPHRASE = "correct horse battery staple"
GATE_PORT = 8443

# Where a box with agents that may reach API has anything to send to.
ALLOWED = {("udp", network.DNS, 53), ("tcp", network.DNS, 53), ("tcp", API_ADDRESS, 443), ("udp", TIME_ADDRESS, 123),
           ("udp", "255.255.255.255", 67), ("udp", network.GATEWAY, 67)}


class Operator:
    """Somebody with nullctl and a key of their own."""

    def __init__(self, folder: Path):
        self.folder = folder

    def nullctl(self, *words: str, given: str = "", limit_s: float = 60) -> Answer:
        environment = os.environ | {"NULLCTL_CONFIG": str(self.folder), "NO_COLOR": "1"}
        return Answer(subprocess.run([PROGRAM, *words], input=given, capture_output=True, text=True, timeout=limit_s,
                                     env=environment))

    def machine_configuration_lines(self) -> str:
        return self.nullctl("keygen").ok().out

    def trust(self, fingerprint: str) -> None:
        self.nullctl("box", "add", "lab", network.BOX, "--fingerprint", fingerprint).ok()

    def tls(self) -> ssl.SSLContext:
        """For a client of our own to gate; who gate is, nullctl looks at."""
        certificate = self.folder / "certificate.pem"
        if not certificate.exists():
            subprocess.run(["openssl", "req", "-x509", "-new", "-key", self.folder / "key.pem", "-subj", "/CN=operator",
                            "-days", "36500", "-out", certificate], check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(certificate, self.folder / "key.pem")
        return context


class Site:
    """Enters a network namespace: all that this process starts from now on is in the lab."""

    def __init__(self, folder: Path):
        self.folder = folder
        network.enter()
        network.make_tap()
        self.wire = network.Watcher()
        self.dhcp = network.DhcpServer().start()
        self.authority = servers.Authority(folder).make()
        self.api = servers.Api(API, API_ADDRESS, SECRET, self.authority).start()
        self.dns = servers.Dns({API: API_ADDRESS, OTHER: OTHER_ADDRESS, TIME: TIME_ADDRESS}).start()
        self.time = TimeServer(TIME_ADDRESS).start()
        self.traps = {address: servers.Trap(address).start() for address in (OTHER_ADDRESS, METADATA, PUBLIC_DNS)}
        self.operator = Operator(folder / "nullctl")

    def machine_arguments(self) -> list[str]:
        """QEMU's: the cable, and a machine configuration that trusts the lab's root and the operator."""
        configuration = self.folder / "machine.toml"
        configuration.write_text(f'hostname = "labbox"\ntime_servers = ["{TIME}"]\n'
                                 f'certificate_authorities = """\n{self.authority.root.read_text()}"""\n' +
                                 self.operator.machine_configuration_lines())
        return [*network.tap_arguments(), "-fw_cfg", f"name=opt/nullbox/machine,file={configuration}"]

    def trouble(self) -> str:
        """What of the box arrived, or was on the wire, that should not; empty if nothing."""
        caught = [f"{text} at {address}" for address, trap in self.traps.items() for text in trap.caught]
        strange = {(packet.what, packet.destination, packet.port) for packet in list(self.wire.packets)
                   if packet.what not in ("arp", "ipv6")
                   and not (packet.destination == network.GATEWAY and packet.source_port == GATE_PORT)} - ALLOWED
        names = {name for name in self.dns.asked if name not in (API, TIME)}
        keys = {request.headers.get("authorization") for request in list(self.api.requests)
                if request.path.startswith("/keyed")} - {f"Bearer {SECRET}"}
        found = [*caught, *(f"on the wire: {packet}" for packet in sorted(strange)),
                 *(f"looked up: {name}" for name in sorted(names)), *(f"a request with the key {key}" for key in keys)]
        return "; ".join(found)


def fingerprint_in(status: str) -> str:
    """From gate's own line."""
    found = re.search(r"fingerprint (sha256:[0-9a-f]+)", status)
    return found[1] if found else ""
