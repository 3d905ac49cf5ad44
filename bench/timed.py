"""A machine whose console and firmware are heard with the time at which they spoke, on the host's clock: the same clock
for us and for every peer, whatever the guest thinks of time.

Kernel entry is taken from the firmware: SeaBIOS says on its debug port that it boots, and jumps. What follows (reading
kernel and initramfs, unpacking the kernel) counts as the kernel's.
"""
import os
import re
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
import qemu  # noqa: E402

HANDED_OVER = r"Booting from ROM"


class Heard:
    """Bytes with the time they came."""

    def __init__(self):
        self._chunks: list[tuple[float, bytes]] = []
        self._changed = threading.Condition()

    def add(self, chunk: bytes) -> None:
        with self._changed:
            self._chunks.append((time.monotonic(), chunk))
            self._changed.notify_all()

    def text(self) -> str:
        with self._changed:
            return b"".join(chunk for _, chunk in self._chunks).decode(errors="replace").replace("\r", "")

    def when(self, pattern: str) -> float | None:
        """When the text first held the pattern."""
        text, expression = b"", re.compile(pattern.encode())
        with self._changed:
            for when, chunk in self._chunks:
                text += chunk
                if expression.search(text):
                    return when
        return None

    def wait(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait(seconds)


class TimedMachine:
    """serial: the console that is heard is a serial port, for kernels that have virtio's as a module."""

    def __init__(self, options: qemu.Options, name: str, serial: bool = False):
        self._options, self._name, self._serial = options, name, serial
        self._pipes: list[tuple[threading.Thread, int]] = []
        self.console, self._firmware = Heard(), Heard()

    def __enter__(self) -> "TimedMachine":
        self.machine = qemu.Machine(self._options, self._name, None if self._serial else self.console.add)
        extra = self._options.extra
        extra += ["-chardev", f"file,id=firmware,path={self._pipe('firmware', self._firmware)}",
                  "-device", "isa-debugcon,iobase=0x402,chardev=firmware"]
        if self._serial:
            extra += ["-serial", f"file:{self._pipe('serial', self.console)}"]
        self.machine.start()
        for thread, _ in self._pipes:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.machine.stop()
        for thread, descriptor in self._pipes:
            thread.join(5)
            os.close(descriptor)

    def _pipe(self, name: str, heard: Heard) -> Path:
        path = self.machine.folder / name
        os.mkfifo(path)
        # QEMU's open() of the pipe returns only if somebody reads.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(descriptor, True)
        self._pipes.append((threading.Thread(target=self._read, args=(descriptor, heard), daemon=True), descriptor))
        return path

    def _read(self, descriptor: int, heard: Heard) -> None:
        while True:
            if chunk := os.read(descriptor, 65536):
                heard.add(chunk)
            elif self.machine.running:  # QEMU has not opened its end yet
                time.sleep(0.001)
            else:
                return

    def wait(self, pattern: str, limit_s: float) -> float:
        """When the console first held the pattern. Else what it ends with is in the error."""
        deadline = time.monotonic() + limit_s
        while True:
            running = self.machine.running
            if (when := self.console.when(pattern)) is not None:
                return when
            if not running or time.monotonic() > deadline:
                break
            self.console.wait(0.2)
        why = f"QEMU ended {self.machine.errors().strip()}".strip() if not running else f"not within {limit_s:.0f} s"
        end = " / ".join(self.console.text().strip().splitlines()[-4:])
        raise qemu.MachineError(f"{self._name}: no {pattern!r} on the console ({why}); its last lines: {end}")

    @property
    def started(self) -> float:
        return self.machine.started

    @property
    def kernel_entry(self) -> float:
        when = self._firmware.when(HANDED_OVER)
        if when is None:
            raise qemu.MachineError(f"{self._name}: the firmware did not say when it started the kernel")
        return when
