"""What surrounds the machine that make run boots: the operator's key in its configuration, its door on this computer, and an
API that the example agents can ask, so that the whole of docs/quickstart.md works without the Internet.

The network is QEMU's own ("user"), which needs no privilege. It lies at addresses that are nobody's private ones, because
the API's must not be: egress dials no private address for an agent. What the demo adds to the box is in the machine
configuration (a host name, a certificate authority) and nowhere else.
"""
import re
import socket
import subprocess
import sys
from pathlib import Path

import qemu

sys.path.insert(0, str(qemu.ROOT / "tests/lab"))
import servers  # noqa: E402

BOX = "local"               # what nullctl calls it
NULLCTL = qemu.OUT / "nullctl"
API, API_ADDRESS = "api.lab.test", "11.22.33.44"
KEY = "demo-key-of-the-lab"  # the one that the API takes; docs/quickstart.md puts it into the vault
FINGERPRINT = re.compile(r"fingerprint (sha256:[0-9a-f]{64})")


def nullctl(*words: str) -> str:
    done = subprocess.run([NULLCTL, *words], capture_output=True, text=True, timeout=20)
    if done.returncode != 0:
        raise qemu.MachineError(f"nullctl {words[0]}: {done.stderr.strip()}")
    return done.stdout


def free_port(wanted: int) -> int:
    """The wanted one, or another if somebody has it."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return probe.getsockname()[1]
            except OSError:
                continue
    raise qemu.MachineError("no port is free on 127.0.0.1")


class Demo:
    def __init__(self, folder: Path):
        """folder: kept between runs, for the lab's certificates and the box's configuration."""
        self._folder = folder / "demo"
        self._folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port(8443)
        self._added = False
        authority = servers.Authority(self._folder)
        if not authority.root.exists():
            authority.make()
        self._api = servers.Api(API, "127.0.0.1", KEY, authority)
        self._api_port = self._api.serve(0)
        self._configuration = self._folder / "machine.toml"
        self._configuration.write_text(
            f'certificate_authorities = """\n{authority.root.read_text()}"""\n[hosts]\n"{API}" = "{API_ADDRESS}"\n' +
            nullctl("keygen"))

    def arguments(self) -> list[str]:
        """QEMU's: the network and the machine configuration."""
        relay = f"{sys.executable} {qemu.ROOT}/tools/relay {self._api_port}"
        network = ["user", "id=net", "net=11.22.33.0/24", "host=11.22.33.1", "dns=11.22.33.3", "dhcpstart=11.22.33.15",
                   "ipv6=off", f"hostfwd=tcp:127.0.0.1:{self.port}-:8443",
                   f"guestfwd=tcp:{API_ADDRESS}:443-cmd:{relay}"]
        return ["-netdev", ",".join(network), "-device", "virtio-net-pci,netdev=net",
                "-fw_cfg", f"name=opt/nullbox/machine,file={self._configuration}"]

    def trust(self, console: str) -> str:
        """Once the console shows the box's fingerprint: makes it known to nullctl, and returns what to tell the person."""
        shown = FINGERPRINT.search(console)
        if self._added or not shown:
            return ""
        self._added = True
        nullctl("box", "add", BOX, f"127.0.0.1:{self.port}", "--fingerprint", shown[1])
        return (f"nullctl knows this box as \"{BOX}\". In another terminal: out/nullctl status "
                "(docs/quickstart.md goes on from there)")
