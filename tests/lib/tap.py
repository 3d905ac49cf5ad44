"""The tests' output: "ok N - what", "not ok N - what: why", and a line of totals that tests/run adds up."""
import re
import sys
import time
import traceback

TOTALS = re.compile(r"^(\d+) passed, (\d+) failed$", re.MULTILINE)


class Failure(Exception):
    """A checkpoint that did not hold; the text says what was seen instead."""


def expect(condition, why: str) -> None:
    if not condition:
        raise Failure(why)


def equal(seen, wanted, what: str = "") -> None:
    expect(seen == wanted, f"{what + ': ' if what else ''}{seen!r} instead of {wanted!r}")


class Suite:
    def __init__(self, name: str):
        self.name, self.passed, self.failed = name, 0, 0
        self.started = time.monotonic()

    def check(self, what: str, body) -> bool:
        """Runs body(); it holds if nothing is raised. What body returns, if a text, is added to the line."""
        number = self.passed + self.failed + 1
        try:
            note = body()
        except Failure as failure:
            return self._fail(number, what, str(failure))
        except Exception as problem:  # a test that breaks has failed, and the others still run
            place = traceback.extract_tb(problem.__traceback__)[-1]
            return self._fail(number, what, f"{type(problem).__name__}: {problem} ({place.name}, line {place.lineno})")
        self.passed += 1
        print(f"ok {number} - {what}{f' ({note})' if isinstance(note, str) else ''}", flush=True)
        return True

    def _fail(self, number: int, what: str, why: str) -> bool:
        self.failed += 1
        print(f"not ok {number} - {what}: {why}", flush=True)
        return False

    def end(self) -> int:
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        return 1 if self.failed or not self.passed else 0


def stop(why: str) -> None:
    """A suite that cannot run at all."""
    print(f"not ok 1 - {why}\n0 passed, 1 failed", flush=True)
    sys.exit(1)
