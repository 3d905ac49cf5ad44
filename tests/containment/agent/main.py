"""A hijacked agent, root in its VM. The lab tells it over a connection that its manifest allows what to try next; it tries
it, and says when it has. What came of it is the lab's to see.

Usage: main.py NAME PEER_ADDRESS   (another agent's address; ROOTS: certificates to trust besides the guest's own)
"""
import base64
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import places

HERE = Path(__file__).resolve().parent
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
MOST_SEEN = 200_000


def say(text: str) -> None:
    print(text, flush=True)


def trust_the_lab() -> None:
    """The lab's own root beside those that the guest trusts already, for all that reads a bundle."""
    roots = Path(f"/tmp/roots-{os.getpid()}.pem")
    extra = os.environ.get("ROOTS", str(HERE / "root.pem"))
    roots.write_text(Path(BUNDLE).read_text() + "\n" + Path(extra).read_text())
    for name in ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT", "NODE_EXTRA_CA_CERTS",
                 "npm_config_cafile"):
        os.environ[name] = str(roots)


def gateway() -> str:
    with open("/proc/net/route", encoding="ascii") as file:
        for line in file.readlines()[1:]:
            fields = line.split()
            if fields[1] == "00000000":
                return socket.inet_ntoa(bytes.fromhex(fields[2])[::-1])
    raise OSError("there is no default route")


class Listener:
    """What reaches this agent's card from anybody but its own gateway, or holds the mark."""

    def __init__(self, guest, mark: bytes):
        self._guest, self._mark = guest, mark
        self.heard: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        import packets
        wire = packets.Wire()
        own = packets.mac(self._guest.mac)
        own_block = int.from_bytes(packets.address(self._guest.address), "big") >> 10
        for family, port in ((socket.SOCK_STREAM, 8080), (socket.SOCK_DGRAM, 8080)):
            held = socket.socket(socket.AF_INET, family)
            held.bind(("0.0.0.0", port))
            if family == socket.SOCK_STREAM:
                held.listen()
            setattr(self, f"_held_{family}", held)
        while True:
            frame = wire.receive(60)
            if not frame or frame[6:12] == own:
                continue
            if self._mark in frame.lower() and not (frame[12:14] == b"\x08\0" and frame[23] == 17 and frame[34:36] == b"\0\x35"):
                self.heard.append(f"a frame with the mark: {frame[:60].hex()}")
            # Its gateway and the names it may reach have addresses beside its own.
            if frame[12:14] == b"\x08\0" and int.from_bytes(frame[26:30], "big") >> 10 != own_block:
                self.heard.append(f"a packet from {socket.inet_ntoa(frame[26:30])}, protocol {frame[23]}")
            if frame[12:14] == b"\x08\0" and frame[23] == 6 and len(frame) >= 48 and frame[36:38] == b"\x1f\x90" and frame[47] & 2:
                self.heard.append(f"a connection: {frame[:60].hex()}")


class Agent:
    def __init__(self, name: str, peer: str):
        import attempts_http
        import attempts_names
        import attempts_packets
        import attempts_rules
        import attempts_tls
        import attempts_vm
        import uses
        self._modules = (attempts_http, attempts_names, attempts_packets, attempts_rules, attempts_tls, attempts_vm, uses)
        import guest
        self.name = name
        self._vectors, self._uses = guest.VECTORS, guest.USES
        self.guest = guest.Guest(gateway(), peer, os.environ.get("LAB_KEY", "no-placeholder"))
        self._listener = Listener(self.guest, guest.MARK.encode())

    def _do(self, order: dict) -> dict:
        self.guest.saw = b""
        begin = time.monotonic()
        answer = {"through": "", "trouble": ""}
        try:
            if "heard" in order:
                heard, self._listener.heard = self._listener.heard, []
                return {"heard": heard}
            if "try" in order:
                answer["through"] = self._vectors[order["try"]].body(self.guest) or ""
            else:
                answer["note"] = self._uses[order["use"]].body(self.guest) or ""
        except subprocess.CalledProcessError as problem:
            answer["trouble"] = f"{problem.cmd[0]}: {(problem.stderr or problem.stdout or b'')[-600:]!r}"
        except Exception as problem:  # an attempt that is refused, mostly
            place = traceback.extract_tb(problem.__traceback__)[-1]
            answer["trouble"] = f"{type(problem).__name__}: {problem} ({place.filename.rsplit('/')[-1]}:{place.lineno})"
        answer |= {"s": round(time.monotonic() - begin, 2), "saw": base64.b64encode(self.guest.saw[:MOST_SEEN]).decode()}
        return answer

    def serve(self) -> None:
        address = self.guest.lookup(places.CONTROL)
        with socket.create_connection((address, places.CONTROL_PORT), timeout=20) as control:
            control.settimeout(None)
            control.sendall(json.dumps({"agent": self.name, "address": self.guest.address}).encode() + b"\n")
            say(f"{self.name} is ready")
            for line in control.makefile("rb"):
                control.sendall(json.dumps(self._do(json.loads(line))).encode() + b"\n")


def main() -> None:
    sys.path.insert(0, str(HERE))
    sys.dont_write_bytecode = True
    trust_the_lab()
    os.environ.setdefault("HOME", "/root")
    agent = Agent(*sys.argv[1:3])
    while True:
        try:
            agent.serve()
        except (OSError, ValueError) as problem:
            say(f"no control: {problem}")
        time.sleep(0.5)


if __name__ == "__main__":
    main()
