"""A DNS server that is in the wrong hands, as any is for a name that is not ours: names with as many addresses as it
likes, that change from one answer to the next, over UDP and TCP. Every question is kept.
"""
import ipaddress
import socket
import struct
import threading
from collections.abc import Callable

import network
from servers import question

A, AAAA = 1, 28
UDP_MOST_BYTES = 512


class HostileDns:
    """names: lower case to addresses, or to a function that is asked each time; "*.x" for all below x. ttl_s: by name."""

    def __init__(self, names: dict[str, list[str] | Callable[[], list[str]]], ttl_s: dict[str, int] | None = None,
                 address: str = network.DNS):
        self.names, self.ttl_s, self.address = names, ttl_s or {}, address
        self.on_question = None  # called with the name as it was written, its type, and the whole message
        self.asked: list[str] = []

    def start(self) -> "HostileDns":
        network.own(self.address)
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.bind((self.address, 53))
        listener = socket.create_server((self.address, 53))
        threading.Thread(target=self._datagrams, args=(datagrams,), daemon=True).start()
        threading.Thread(target=self._streams, args=(listener,), daemon=True).start()
        return self

    def _datagrams(self, datagrams: socket.socket) -> None:
        while True:
            query, peer = datagrams.recvfrom(4096)
            answer = self._answer(query)
            if len(answer) > UDP_MOST_BYTES:  # truncated: ask again by TCP
                _, _, end = question(query)
                answer = query[:2] + struct.pack("!HHHHH", 0x8380, 1, 0, 0, 0) + query[12:end]
            if answer:
                datagrams.sendto(answer, peer)

    def _streams(self, listener: socket.socket) -> None:
        while True:
            stream, _ = listener.accept()
            threading.Thread(target=self._stream, args=(stream,), daemon=True).start()

    def _stream(self, stream: socket.socket) -> None:
        with stream:
            stream.settimeout(10)
            try:
                size = struct.unpack("!H", stream.recv(2, socket.MSG_WAITALL))[0]
                answer = self._answer(stream.recv(size, socket.MSG_WAITALL))
                stream.sendall(struct.pack("!H", len(answer)) + answer)
            except (OSError, struct.error):
                pass

    def _addresses(self, name: str) -> list[str] | None:
        found = self.names.get(name)
        while found is None and "." in name:
            name = name.partition(".")[2]
            found = self.names.get(f"*.{name}")
        return found() if callable(found) else found

    def _answer(self, query: bytes) -> bytes:
        try:
            name, kind, end = question(query)
        except (IndexError, struct.error):
            name, kind, end = "(malformed)", 0, 12
        self.asked.append(name.lower())
        if self.on_question:
            self.on_question(name, kind, query)
        addresses = self._addresses(name.lower())
        records = [packed for packed in (ipaddress.ip_address(each).packed for each in addresses or [])
                   if len(packed) == {A: 4, AAAA: 16}.get(kind)]
        if not isinstance(self.names.get(name.lower()), list) and kind == AAAA:
            records = []
        body = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, self.ttl_s.get(name.lower(), 60), len(each)) + each
                        for each in records)
        code = 3 if addresses is None else 0
        return query[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(records), 0, 0) + query[12:end] + body
