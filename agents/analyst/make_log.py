#!/usr/bin/python3
"""Writes data/access.log: one day of a small web shop, made up, the same bytes each time. All addresses are from the
ranges that RFC 5737 keeps for documentation. What is planted is named below; test_main.py expects to find it reported.
"""
import math
import random
from datetime import datetime, timedelta, timezone
from pathlib import Path

DAY = datetime(2026, 3, 12, tzinfo=timezone.utc)
VISITS = 5200

SCANNER = "203.0.113.66"
SCAN_START = DAY + timedelta(hours=3, minutes=14)
SCANNED = [f"/{name}{end}" for name in ("wp-login", "admin", "phpmyadmin", ".env", ".git/config", "backup", "config", "db",
                                        "shell", "setup", "test", "old", "api/v1/users", "server-status")
           for end in ("", ".php", ".bak", "~", "/", ".zip", ".sql", ".old")]
GUESSER = "198.51.100.23"
GUESSES = 180
GUESS_START = DAY + timedelta(hours=22, minutes=41)
OUTAGE_START, OUTAGE_END = DAY + timedelta(hours=11, minutes=40), DAY + timedelta(hours=11, minutes=46)
SLOW_PATH = "/api/report"
BROKEN_LINES = ["192.0.2.9 - - [12/Mar/2026:08:00:00 +0000] \"GET /unfinis", "", "\\x16\\x03\\x01 not HTTP at all"]

PATHS = {"/": 30, "/products": 22, "/products/17": 9, "/products/42": 8, "/cart": 10, "/search": 12, "/login": 3,
         "/static/app.js": 16, "/static/style.css": 16, "/api/stock": 12, SLOW_PATH: 2, "/robots.txt": 1, "/missing": 1}
AGENTS = ["Mozilla/5.0 (X11; Linux x86_64) Firefox/128.0", "Mozilla/5.0 (Macintosh) Safari/605.1", "curl/8.5.0",
          "Mozilla/5.0 (Windows NT 10.0) Chrome/131.0"]


def line(when: datetime, client: str, request: str, status: int, size: int, agent: str, seconds: float) -> tuple:
    stamp = when.strftime("%d/%b/%Y:%H:%M:%S +0000")
    return when, f'{client} - - [{stamp}] "{request} HTTP/1.1" {status} {size} "-" "{agent}" {seconds:.3f}'


def visits(dice: random.Random):
    clients = [f"192.0.2.{number}" for number in range(10, 70)] + [f"198.51.100.{number}" for number in range(100, 140)]
    for _ in range(VISITS):
        # Most people come in the evening, few at night.
        hour = next(hour for hour in iter(lambda: dice.uniform(0, 24), None)
                    if dice.random() < 0.15 + 0.85 * (0.5 - 0.5 * math.cos((hour - 5) / 24 * 2 * math.pi)))
        when = DAY + timedelta(seconds=int(hour * 3600))
        path = dice.choices(list(PATHS), PATHS.values())[0]
        seconds = dice.lognormvariate(-3.2, 0.6)
        status, size = 200, dice.randint(400, 24_000)
        if path == SLOW_PATH:
            seconds = dice.lognormvariate(0.9, 0.3)
        if path == "/missing":
            status, size = 404, 320
        if path == "/login":
            status, size = dice.choice([(302, 0), (302, 0), (401, 180)])
        if path.startswith("/api") and OUTAGE_START <= when < OUTAGE_END:
            status, size, seconds = 502, 150, 30.0
        method = "POST" if path == "/login" else "GET"
        yield line(when, dice.choice(clients), f"{method} {path}", status, size, dice.choice(AGENTS), seconds)


def outage(dice: random.Random):
    """During the outage, the shop's pages ask the stock again and again."""
    when = OUTAGE_START
    while when < OUTAGE_END:
        yield line(when, f"192.0.2.{dice.randint(10, 69)}", "GET /api/stock", 502, 150, AGENTS[0], 30.0)
        when += timedelta(seconds=dice.randint(2, 9))


def scan(dice: random.Random):
    for number, path in enumerate(SCANNED):
        when = SCAN_START + timedelta(seconds=number * 90 // len(SCANNED))
        yield line(when, SCANNER, f"GET {path}", 404, 320, "python-requests/2.31", dice.uniform(0.002, 0.008))


def guesses(dice: random.Random):
    for number in range(GUESSES):
        when = GUESS_START + timedelta(seconds=number * 2)
        yield line(when, GUESSER, "POST /login", 401, 180, "Go-http-client/1.1", dice.uniform(0.05, 0.09))
    yield line(GUESS_START + timedelta(seconds=GUESSES * 2), GUESSER, "POST /login", 302, 0, "Go-http-client/1.1", 0.071)


def make() -> str:
    dice = random.Random(20260312)
    entries = sorted([*visits(dice), *outage(dice), *scan(dice), *guesses(dice)], key=lambda entry: entry[0])
    lines = [text for _, text in entries]
    for number, broken in enumerate(BROKEN_LINES):
        lines.insert((number + 1) * 1000, broken)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    target = Path(__file__).parent / "data/access.log"
    target.parent.mkdir(exist_ok=True)
    target.write_text(make())
