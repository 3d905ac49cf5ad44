"""The lab's time server (SNTP, RFC 4330): says this machine's time, or nothing."""
import socket
import struct
import threading
import time
from dataclasses import dataclass, field

import network

SINCE_1900_S = 2_208_988_800
SERVER_MODE, VERSION = 4, 4


def stamp() -> bytes:
    now = time.time() + SINCE_1900_S
    return struct.pack("!II", int(now), int(now % 1 * 2**32))


@dataclass
class TimeServer:
    address: str
    silent: bool = False
    asked: list[float] = field(default_factory=list)  # when

    def start(self) -> "TimeServer":
        network.own(self.address)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((self.address, 123))
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def _serve(self) -> None:
        while True:
            question, peer = self._socket.recvfrom(512)
            self.asked.append(time.monotonic())
            if self.silent or len(question) < 48:
                continue
            received = stamp()
            head = struct.pack("!BBBb", VERSION << 3 | SERVER_MODE, 1, 6, -20)
            # Root delay, root dispersion, who we are, when we were set; the client's own stamp comes back to it.
            answer = head + bytes(8) + b"LABT" + received + question[40:48] + received + stamp()
            try:
                self._socket.sendto(answer, peer)
            except OSError:
                pass  # the cable is out
