"""The analyst's report against numbers computed here in another way (fields by position, no regular expression), and
against what make_log.py says that it has planted.
"""
import collections
import ipaddress
import re
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import main as analyst  # noqa: E402
import make_log  # noqa: E402

LOG = HERE / "data/access.log"


@pytest.fixture(scope="module")
def report() -> str:
    done = subprocess.run([sys.executable, HERE / "main.py", LOG], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def fields() -> list[list[str]]:
    """client, path, status, size, seconds of each whole line."""
    rows = [line.split(" ") for line in LOG.read_text().splitlines() if line.count('"') == 6]
    return [[row[0], row[6], row[8], row[9], row[-1]] for row in rows]


def findings(report: str) -> list[str]:
    return re.findall(r"^  \d+\. (.*)$", report, re.M)


def test_the_log_is_what_the_generator_makes():
    assert make_log.make() == LOG.read_text()


def test_every_address_is_for_documentation():
    ranges = [ipaddress.ip_network(text) for text in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")]
    for address in set(re.findall(r"^\d+\.\d+\.\d+\.\d+", LOG.read_text(), re.M)):
        assert any(ipaddress.ip_address(address) in network for network in ranges), address


def test_totals(report, fields):
    sent = sum(int(size) for _, _, _, size, _ in fields)
    clients = len({client for client, *_ in fields})
    assert f"requests  {len(fields)} from {clients} clients, {sent / 1e6:.1f} MB sent" in report
    assert f"{len(make_log.BROKEN_LINES)} unreadable lines" in report
    for kind in "2345":
        count = sum(1 for _, _, status, _, _ in fields if status.startswith(kind))
        assert f"{kind}xx {count} ({100 * count / len(fields):.1f} %)" in report


def test_top_paths_and_latency(report, fields):
    counts = collections.Counter(path for _, path, _, _, _ in fields)
    listed = re.findall(r"^  (/\S*) +(\d+) ", report, re.M)
    expected = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))[:8]
    assert [(path, int(count)) for path, count in listed] == expected
    times = sorted(float(seconds) for *_, seconds in fields)
    for percent in (50, 90, 95, 99):
        # Nearest rank: at least that share of the values is not larger, and of the values before it less.
        value = next(time for number, time in enumerate(times, 1) if number * 100 >= percent * len(times))
        assert f"p{percent} {value:.3f} s" in report


def test_everything_planted_is_found_and_nothing_else(report):
    found = findings(report)
    assert len(found) == 4
    slow, burst, guess, scan = found
    assert slow.startswith(f"slow path {make_log.SLOW_PATH}: median 2.")
    assert burst.startswith(f"error burst {make_log.OUTAGE_START:%H:%M} to {make_log.OUTAGE_END:%H:%M}: ")
    assert guess.startswith(f"suspicious {make_log.GUESSER}: password guessing: {make_log.GUESSES} failed log-ins")
    assert guess.endswith("and then got in: treat the account as taken over")
    assert scan.startswith(f"suspicious {make_log.SCANNER}: scan: asked for {len(make_log.SCANNED)} paths")


def test_outage_errors_are_counted(report, fields):
    errors = [path for _, path, status, _, _ in fields if status.startswith("5")]
    assert f"{len(errors)} server errors, {errors.count('/api/stock')} of them on /api/stock" in report


def request(client="192.0.2.1", second=0, path="/", status=200, seconds=0.01) -> analyst.Request:
    return analyst.Request(client, make_log.DAY + timedelta(seconds=second), "GET", path, status, 10, seconds)


def test_ordinary_people_are_not_suspected():
    forgot = [request(second=number * 60, path="/login", status=401) for number in range(19)]
    slowly = [request("192.0.2.2", number * 3600, "/login", 401) for number in range(40)]
    lost = [request("192.0.2.3", number, f"/gone/{number}", 404) for number in range(24)]
    assert analyst.suspicions(forgot + slowly + lost) == []


def test_guessing_without_success_says_so():
    guesses = [request(second=number, path="/login", status=401) for number in range(20)]
    (_, reason), = analyst.suspicions(guesses)
    assert reason.endswith("20 in ten minutes, without success")
    before = request(second=-5, path="/login", status=302)
    assert analyst.suspicions([before, *guesses])[0][1].endswith("without success")


@pytest.mark.parametrize("text", ["12/Mar/2026:06:00:01 +0000", "01/Dec/1999:23:59:59 -0730", "29/Feb/2024:00:00:00 +0545"])
def test_moments_are_what_the_library_makes_of_them(text):
    assert analyst.moment(text) == datetime.strptime(text, "%d/%b/%Y:%H:%M:%S %z")


def test_a_date_that_is_none_makes_the_line_unreadable():
    line = '192.0.2.1 - - [99/Mar/2026:06:00:01 +0000] "GET / HTTP/1.1" 200 1 "-" "x" 0.1'
    assert analyst.parse([line, line.replace("99/Mar", "01/Foo"), line.replace("99", "01")])[1] == 2


def test_a_window_is_closed_on_both_sides():
    times = [datetime(2026, 1, 1) + timedelta(minutes=minute) for minute in (0, 10, 21)]
    assert analyst.most_in_window(times, timedelta(minutes=10)) == 2


def test_bursts_of_adjacent_minutes_are_one():
    errors = [request(second=second, status=502) for minute in (0, 1, 5) for second in range(minute * 60, minute * 60 + 4)]
    few = [request(second=600 + number, status=502 if number < 4 else 200) for number in range(40)]
    assert [(begin.minute, end.minute, len(hits)) for begin, end, hits in analyst.error_bursts(errors + few)] == [
        (0, 1, 8), (5, 5, 4)]


@pytest.mark.parametrize("content, message", [(None, "cannot read the log"), ("nonsense\n", "holds no request")])
def test_bad_input_is_one_line_and_an_exit_code(tmp_path, content, message):
    log = tmp_path / "log"
    if content is not None:
        log.write_text(content)
    done = subprocess.run([sys.executable, HERE / "main.py", log], capture_output=True, text=True)
    assert done.returncode == 1 and message in done.stderr and done.stderr.count("\n") == 1
