"""An agent that watches the memory that agents share and keeps a report of what others found, as Markdown, in a folder of
the host: written anew whenever something new has come. It has no network; the memory comes to it. Standard library only.

Usage: main.py [FOLDER]   (default /data/reports; NULLBOX_MEMORY_URL in the environment)
"""
import http.client
import json
import os
import sys
import time
from urllib.parse import urlencode, urlsplit

SPACE, PREFIX = "research", "findings/"
SILENCE_S = 120   # the memory gives a sign of life more often
AGAIN_S = 2


def say(text: str) -> None:
    print(text, flush=True)


class Problem(Exception):
    """What went wrong, for a person."""


def one_line(value) -> str:
    """Text of another agent as one cell of a table: nothing in it may end the cell, or the line."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() else " " for c in text)[:200].replace("\\", "\\\\").replace("|", "\\|")


def report(findings: dict[str, dict]) -> str:
    lines = ["# What was found", "", f"{len(findings)} findings in the memory `{SPACE}`.", "",
             "| finding | value | source | by | entry |", "|---|---|---|---|---|"]
    for key, entry in sorted(findings.items()):
        value = entry["value"] if isinstance(entry.get("value"), dict) else {"value": entry.get("value")}
        cells = [value.get("title", key.removeprefix(PREFIX)), value.get("value", ""), value.get("source", ""),
                 entry.get("author", ""), str(entry.get("id", ""))[:12]]
        lines.append("| " + " | ".join(one_line(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def write_report(folder: str, findings: dict[str, dict]) -> str:
    """Whole or not at all: whoever reads it meanwhile sees the old one."""
    path, partial = os.path.join(folder, "research.md"), os.path.join(folder, ".research.md.new")
    try:
        with open(partial, "w", encoding="utf-8") as file:
            file.write(report(findings))
        os.replace(partial, path)
    except OSError as problem:
        raise Problem(f"cannot write {path}: {problem}") from problem
    return path


def take(findings: dict[str, dict], entry: dict) -> bool:
    """Whether the report is another now."""
    key = entry["key"]
    if entry.get("kind") == "tombstone":
        return findings.pop(key, None) is not None
    if entry.get("kind") != "value":
        return False
    before = findings.get(key)
    findings[key] = entry
    return before is None or before.get("id") != entry.get("id")


class Watch:
    """The memory's news: a line of JSON for each entry, and one now and then when there is none."""

    def __init__(self, url: str, after: int):
        place = urlsplit(url)
        query = urlencode({"namespace": SPACE, "prefix": PREFIX, "after": after})
        self._connection = http.client.HTTPConnection(place.hostname, place.port, timeout=SILENCE_S)
        self._connection.request("GET", f"/v1/watch?{query}")
        self._answer = self._connection.getresponse()
        if self._answer.status != 200:
            raise Problem(f"the memory refuses: {self._answer.read(500).decode(errors='replace')}")

    def lines(self):
        while line := self._answer.readline(1 << 20):
            yield json.loads(line)

    def close(self) -> None:
        self._connection.close()


class Reporter:
    def __init__(self, folder: str):
        self.folder = folder
        self.findings: dict[str, dict] = {}
        self.position = 0  # in the namespace: what comes after it is news

    def hear(self, line: dict) -> None:
        if "error" in line:
            raise Problem(f"the memory ends the watch: {line['error'].get('message', line['error'])}")
        if "entry" not in line:
            return
        entry = line["entry"]
        self.position = max(self.position, int(entry.get("position", 0)))
        if take(self.findings, entry):
            path = write_report(self.folder, self.findings)
            count = len(self.findings)
            say(f"report with {count} {'finding' if count == 1 else 'findings'} written to {path}")

    def follow(self, url: str) -> None:
        watch = Watch(url, self.position)
        try:
            for line in watch.lines():
                self.hear(line)
        finally:
            watch.close()


def main() -> int:
    if len(sys.argv) > 2:
        print(__doc__.strip().splitlines()[-1], file=sys.stderr)
        return 2
    folder = sys.argv[1] if len(sys.argv) == 2 else "/data/reports"
    url = os.environ.get("NULLBOX_MEMORY_URL", "")
    if not url:
        print("reporter: NULLBOX_MEMORY_URL must be set: does the manifest have [capabilities.memory]?", file=sys.stderr)
        return 2
    reporter = Reporter(folder)
    say(f"reporter: watching the memory {SPACE}")
    complaint = ""
    while True:
        try:
            reporter.follow(url)
            why = "the watch ended"
        except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException) as problem:
            why = str(problem) or type(problem).__name__
        except Problem as problem:
            print(f"reporter: {problem}", file=sys.stderr, flush=True)
            return 1
        if why != complaint:
            say(f"reporter: {why}; trying again")
        complaint = why
        time.sleep(AGAIN_S)


if __name__ == "__main__":
    sys.exit(main())
