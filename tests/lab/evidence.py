"""What the lab saw that it should not have seen, by whichever of its servers, in the order in which it was seen."""
import threading
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Seen:
    when: float
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class Evidence:
    def __init__(self):
        self._lock = threading.Lock()
        self._seen: list[Seen] = []

    def note(self, where: str, what: str) -> None:
        with self._lock:
            self._seen.append(Seen(time.monotonic(), where, what[:200]))

    def count(self) -> int:
        return len(self._seen)

    def since(self, count: int) -> list[Seen]:
        with self._lock:
            return self._seen[count:]
