"""The operator's tool as a person runs it: a key and known boxes of its own, its words, what it prints and how it ends."""
import json
import os
import subprocess
from pathlib import Path

from tap import expect

PROGRAM = Path(__file__).resolve().parent.parent.parent / "out/nullctl"


class Answer:
    def __init__(self, done: subprocess.CompletedProcess):
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr

    def json(self):
        return json.loads(self.out)

    def ok(self) -> "Answer":
        expect(self.status == 0, f"status {self.status}: {(self.err or self.out).strip()[-400:]}")
        return self

    def fails(self, status: int, *words: str) -> "Answer":
        expect(self.status == status, f"status {self.status} instead of {status}: {(self.err or self.out).strip()[-400:]}")
        for word in words:
            expect(word in self.err, f"it does not say {word!r}: {self.err.strip()[-400:]}")
        return self


class Nullctl:
    def __init__(self, folder: Path):
        self.folder = folder
        self.seen = ""  # everything it ever printed

    def __call__(self, *words: str, given: str = "", limit_s: float = 60) -> Answer:
        environment = os.environ | {"NULLCTL_CONFIG": str(self.folder), "NO_COLOR": "1"}
        answer = Answer(subprocess.run([PROGRAM, *words], input=given, capture_output=True, text=True, timeout=limit_s,
                                       env=environment))
        self.seen += answer.out + answer.err
        return answer

    def operator_lines(self, *words: str) -> str:
        """What lets this operator into a box: for the machine configuration."""
        return self("keygen", *words).ok().out
