"""An agent that reads a web server's access log and reports what a person on call wants to know: how much traffic, how
fast, when it broke, and who is up to no good, with the reason for each suspicion. Standard library only.

Usage: main.py ACCESS_LOG   (combined log format with the request's seconds as last field)
"""
import collections
import re
import sys
import time
from datetime import datetime, timedelta, timezone

LINE = re.compile(r'(?P<client>\S+) \S+ \S+ \[(?P<time>[^\]]+)\] "(?P<method>[A-Z]+) (?P<path>\S+) HTTP/[\d.]+" '
                  r'(?P<status>\d{3}) (?P<size>\d+|-) "[^"]*" "(?P<agent>[^"]*)" (?P<seconds>\d+\.\d+)')

# What counts as suspicious. Each threshold is far above what a person with a browser does.
SCAN_PATHS = 25                          # different paths that do not exist, from one client
GUESS_FAILURES = 20                      # failed log-ins from one client ...
GUESS_WINDOW = timedelta(minutes=10)     # ... in this time
BURST_ERRORS, BURST_SHARE = 4, 0.25      # server errors in a minute, and their share of it
SLOW_FACTOR, SLOW_REQUESTS = 5, 20       # a path's median against that of all, and requests enough to judge
SENSITIVE = re.compile(r"/\.(env|git)|wp-login|phpmyadmin|\.sql|server-status")


# A named tuple, and no statistics module: their imports would cost more than the whole analysis.
Request = collections.namedtuple("Request", "client time method path status size seconds")
MONTHS = {name: number for number, name in enumerate("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}


def moment(text: str) -> datetime:
    """12/Mar/2026:06:00:01 +0000; strptime would be ten times slower."""
    clock, zone = text.split(" ")
    day, month, rest = clock.split("/")
    year, hour, minute, second = (int(part) for part in rest.split(":"))
    offset = timedelta(hours=int(zone[:3]), minutes=int(zone[0] + zone[3:]))
    return datetime(year, MONTHS[month], int(day), hour, minute, second, tzinfo=timezone(offset))


def parse(lines) -> tuple[list[Request], int]:
    """The requests, and how many lines are none."""
    requests, unreadable = [], 0
    for line in lines:
        found = LINE.fullmatch(line.rstrip("\n"))
        if not found:
            unreadable += 1
            continue
        try:
            time_of = moment(found["time"])
        except (ValueError, KeyError):
            unreadable += 1
            continue
        size = 0 if found["size"] == "-" else int(found["size"])
        requests.append(Request(found["client"], time_of, found["method"], found["path"].split("?")[0],
                                int(found["status"]), size, float(found["seconds"])))
    return requests, unreadable


def percentile(ordered: list[float], percent: float) -> float:
    """Of a sorted list, by the nearest-rank method: a value that really occurred."""
    rank = max(1, -(-len(ordered) * percent // 100))
    return ordered[int(rank) - 1]


def by(requests, key) -> dict:
    groups = collections.defaultdict(list)
    for request in requests:
        groups[key(request)].append(request)
    return groups


def error_bursts(requests) -> list[tuple[datetime, datetime, list[Request]]]:
    """Spans of adjacent minutes with many server errors: first minute, last minute, the errors."""
    bursts = []
    minutes = by(requests, lambda request: request.time.replace(second=0))
    for minute in sorted(minutes):
        errors = [request for request in minutes[minute] if request.status >= 500]
        if len(errors) < BURST_ERRORS or len(errors) < BURST_SHARE * len(minutes[minute]):
            continue
        if bursts and minute - bursts[-1][1] <= timedelta(minutes=1):
            bursts[-1] = (bursts[-1][0], minute, bursts[-1][2] + errors)
        else:
            bursts.append((minute, minute, errors))
    return bursts


def most_in_window(times: list[datetime], window: timedelta) -> int:
    """The largest number of the sorted times that fall into any window of that length."""
    most = first = 0
    for last, end in enumerate(times):
        while end - times[first] > window:
            first += 1
        most = max(most, last - first + 1)
    return most


def suspicions(requests) -> list[tuple[str, str]]:
    """(client, reason), the busiest suspects first."""
    found = []
    for client, theirs in by(requests, lambda request: request.client).items():
        absent = {request.path for request in theirs if request.status == 404}
        if len(absent) >= SCAN_PATHS:
            sensitive = sum(1 for path in absent if SENSITIVE.search(path))
            seconds = (theirs[-1].time - theirs[0].time).total_seconds()
            found.append((len(theirs), client, f"scan: asked for {len(absent)} paths that do not exist within "
                                               f"{seconds:.0f} s, {sensitive} of them typical of break-in tools"))
        failures = [request.time for request in theirs if request.path == "/login" and request.status == 401]
        if most_in_window(failures, GUESS_WINDOW) >= GUESS_FAILURES:
            success = any(request.path == "/login" and request.status in (200, 302) and request.time > failures[-1]
                          for request in theirs)
            outcome = "and then got in: treat the account as taken over" if success else "without success"
            found.append((len(theirs), client, f"password guessing: {len(failures)} failed log-ins, up to "
                                               f"{most_in_window(failures, GUESS_WINDOW)} in ten minutes, {outcome}"))
    return [(client, reason) for _, client, reason in sorted(found, reverse=True)]


def slow_paths(requests) -> list[tuple[str, float, float, int]]:
    """(path, median, 95th percentile, requests) of the paths far slower than all together, errors left out."""
    good = [request for request in requests if request.status < 500]
    usual = percentile(sorted(request.seconds for request in good), 50)
    slow = []
    for path, theirs in by(good, lambda request: request.path).items():
        times = sorted(request.seconds for request in theirs)
        if len(times) >= SLOW_REQUESTS and percentile(times, 50) > SLOW_FACTOR * usual:
            slow.append((path, percentile(times, 50), percentile(times, 95), len(times)))
    return sorted(slow, key=lambda entry: -entry[1])


def say(text: str = "") -> None:
    print(text, flush=True)


def report_traffic(requests, unreadable: int) -> None:
    clients = {request.client for request in requests}
    say(f"period    {requests[0].time:%Y-%m-%d %H:%M} to {requests[-1].time:%Y-%m-%d %H:%M}")
    say(f"requests  {len(requests)} from {len(clients)} clients, {sum(r.size for r in requests) / 1e6:.1f} MB sent"
        f"{f', {unreadable} unreadable lines' if unreadable else ''}")
    classes = collections.Counter(request.status // 100 for request in requests)
    say("answers   " + ", ".join(f"{kind}xx {count} ({100 * count / len(requests):.1f} %)"
                                 for kind, count in sorted(classes.items())))
    hours = collections.Counter(request.time.hour for request in requests)
    busiest, count = max(hours.items(), key=lambda entry: (entry[1], -entry[0]))
    say(f"busiest   {busiest:02}:00 to {busiest + 1:02}:00 with {count} requests")


def report_paths(requests) -> None:
    say()
    say("top paths                      requests   median      p95")
    paths = by(requests, lambda request: request.path)
    for path, theirs in sorted(paths.items(), key=lambda entry: (-len(entry[1]), entry[0]))[:8]:
        times = sorted(request.seconds for request in theirs)
        say(f"  {path:<28} {len(times):>8} {percentile(times, 50):>7.3f}s {percentile(times, 95):>7.3f}s")
    times = sorted(request.seconds for request in requests)
    say("latency   " + ", ".join(f"p{percent} {percentile(times, percent):.3f} s" for percent in (50, 90, 95, 99)))


def report_findings(requests) -> int:
    findings = []
    for path, median, p95, count in slow_paths(requests):
        findings.append(f"slow path {path}: median {median:.2f} s, p95 {p95:.2f} s over {count} requests")
    for begin, end, errors in error_bursts(requests):
        path, hits = collections.Counter(request.path for request in errors).most_common(1)[0]
        findings.append(f"error burst {begin:%H:%M} to {end + timedelta(minutes=1):%H:%M}: {len(errors)} server errors, "
                        f"{hits} of them on {path}")
    findings += [f"suspicious {client}: {reason}" for client, reason in suspicions(requests)]
    say()
    say(f"findings  {len(findings)}")
    for number, finding in enumerate(findings, 1):
        say(f"  {number}. {finding}")
    return len(findings)


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__.strip().splitlines()[-1], file=sys.stderr)
        return 2
    say(f"analyst: reading {sys.argv[1]}")
    begin = time.monotonic()
    try:
        with open(sys.argv[1], encoding="utf-8", errors="replace") as log:
            requests, unreadable = parse(log)
    except OSError as problem:
        print(f"analyst: cannot read the log: {problem}", file=sys.stderr)
        return 1
    if not requests:
        print(f"analyst: {sys.argv[1]} holds no request in combined log format", file=sys.stderr)
        return 1
    report_traffic(requests, unreadable)
    report_paths(requests)
    report_findings(requests)
    say()
    say(f"analyst: done in {time.monotonic() - begin:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
