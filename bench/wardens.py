"""A warden of our own on this machine, with a real vault in a folder: the service as the image has it, without its box.
"""
import base64
import json
import os
import socket
import subprocess
import time
from pathlib import Path

from observed import image
from timed import qemu

START_LIMIT_S = 10
CALL_LIMIT_S = 60  # making a vault takes a second or two: that is what its key derivation is for


class Warden:
    """command: put before the program's own, such as taskset."""

    def __init__(self, folder: Path, command: list[str] | None = None):
        self.socket = folder / "warden.sock"
        self._process = subprocess.Popen([*(command or []), image.RELEASE / image.PROGRAMS["warden"], "--socket",
                                          self.socket, "--vault", folder / "vault", "--allow-uid", str(os.getuid())],
                                         stderr=subprocess.DEVNULL)

    def __enter__(self) -> "Warden":
        deadline = time.monotonic() + START_LIMIT_S
        while not self.socket.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise qemu.MachineError("warden does not start")
            time.sleep(0.02)
        self.call("Init", passphrase="correct horse battery staple")
        return self

    def __exit__(self, *_) -> None:
        self._process.terminate()
        self._process.wait()

    def call(self, method: str, **parameters) -> dict:
        request = {"method": f"io.nullbox.warden.{method}", "parameters": parameters}
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(CALL_LIMIT_S)
            connection.connect(str(self.socket))
            connection.sendall(json.dumps(request).encode() + b"\0")
            answer = b""
            while not answer.endswith(b"\0"):
                if not (chunk := connection.recv(65536)):
                    raise qemu.MachineError(f"warden hung up during {method}")
                answer += chunk
        answer = json.loads(answer[:-1])
        if "error" in answer:
            raise qemu.MachineError(f"warden: {method}: {answer}")
        return answer["parameters"]

    def grant(self, name: str, value: str, agent: str, host: str) -> None:
        """A secret, and that this agent's requests to this host carry it as their bearer token."""
        self.call("Set", name=name, value_base64=base64.b64encode(value.encode()).decode())
        self.call("Grant", secret=name, agent=agent, host=host, header="Authorization", format="Bearer {secret}")
