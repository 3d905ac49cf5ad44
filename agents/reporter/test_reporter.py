"""The reporter against a memory of this test: real HTTP, a watch that streams lines, ends, and goes on where it ended."""
import http.server
import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

HERE = Path(__file__).parent


def load():
    spec = importlib.util.spec_from_file_location("reporter_main", HERE / "main.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reporter = load()


def entry(key: str, value, position: int, kind: str = "value", author: str = "agent:researcher") -> dict:
    return {"id": f"{position:064x}", "namespace": "research", "key": key, "kind": kind, "value": value,
            "author": author, "position": position}


class Memory:
    """Each connection gets the next of `streams`, and then its end; the last one stays open."""

    def __init__(self, streams: list[list[dict]], status: int = 200):
        self.asked: list[dict] = []
        self.over = threading.Event()
        memory = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                place = urlsplit(self.path)
                memory.asked.append({name: values[0] for name, values in parse_qs(place.query).items()})
                assert place.path == "/v1/watch"
                number = len(memory.asked) - 1
                self.send_response(status)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for line in streams[min(number, len(streams) - 1)]:
                    data = json.dumps(line).encode() + b"\n"
                    self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                    self.wfile.flush()
                if status == 200 and number >= len(streams) - 1:
                    memory.over.wait(20)
                self.wfile.write(b"0\r\n\r\n")

            def log_message(self, *words):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.over.set()
        self.server.shutdown()


def run(folder: Path, url: str):
    return subprocess.Popen([sys.executable, HERE / "main.py", folder], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, env=os.environ | {"NULLBOX_MEMORY_URL": url})


def wait_for(condition, limit_s: float = 15):
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen")


def test_news_become_a_report_and_an_ended_watch_goes_on_where_it_was(tmp_path):
    first = [{"watching": {"position": 0}}, {"entry": entry("findings/water", {"title": "water", "value": 42}, 3)},
             {"heartbeat": {"position": 3}}]
    second = [{"entry": entry("findings/wind", {"title": "wind", "value": 7}, 5)}]
    with Memory([first, second]) as memory:
        process = run(tmp_path, memory.url)
        try:
            path = tmp_path / "research.md"
            wait_for(lambda: path.exists() and "wind" in path.read_text())
        finally:
            process.terminate()
            out, err = process.communicate()
    assert memory.asked == [{"namespace": "research", "prefix": "findings/", "after": "0"},
                            {"namespace": "research", "prefix": "findings/", "after": "3"}]
    text = path.read_text()
    assert "| water | 42 |  | agent:researcher | 000000000000 |" in text
    assert "2 findings" in text
    assert f"report with 2 findings written to {path}" in out and "the watch ended; trying again" in out and not err
    assert os.listdir(tmp_path) == ["research.md"], "no temporary file is left"


def test_a_refused_watch_ends_the_agent_with_the_reason(tmp_path):
    with Memory([[{"error": {"code": "not_found", "message": "there is no namespace research"}}]], status=404) as memory:
        process = run(tmp_path, memory.url)
        out, err = process.communicate(timeout=15)
    assert process.returncode == 1 and "the memory refuses" in err and "no namespace research" in err


def test_an_error_in_the_middle_of_a_watch_is_one(tmp_path):
    with pytest.raises(reporter.Problem, match="the watch: no more"):
        reporter.Reporter(str(tmp_path)).hear({"error": {"code": "x", "message": "no more"}})


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(reporter.Problem, match="cannot write"):
        reporter.Reporter(str(tmp_path / "none")).hear({"entry": entry("findings/a", 1, 1)})


def test_the_same_entry_twice_is_one_report_and_a_tombstone_takes_it_out(tmp_path, capsys):
    agent = reporter.Reporter(str(tmp_path))
    for one in (entry("findings/a", {"title": "a", "value": 1}, 1), entry("findings/a", {"title": "a", "value": 1}, 1),
                entry("findings/a", {"title": "a", "value": 2}, 2), entry("findings/l", {}, 3, "link"),
                entry("findings/a", None, 4, "tombstone")):
        agent.hear({"entry": one})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" written")[0] for line in lines] == ["report with 1 finding", "report with 1 finding",
                                                            "report with 0 findings"]
    assert agent.position == 4
    assert "| a |" not in (tmp_path / "research.md").read_text()


@pytest.mark.parametrize("value, cell", [("a|b\nc", "a\\|b c"), ("\x1b[2J", " [2J"), ({"x": 1}, '{"x": 1}'), (7, "7"),
                                         ("x" * 500, "x" * 200), ("a\\|b", "a\\\\\\|b")])
def test_what_others_wrote_stays_in_its_cell(value, cell):
    assert reporter.one_line(value) == cell


def test_values_of_any_kind_are_reported():
    text = reporter.report({"findings/x": entry("findings/x", [1, 2], 1), "findings/y": entry("findings/y", "why", 2)})
    assert "| x | [1, 2] |" in text and "| y | why |" in text


def test_without_memory_it_says_what_to_do():
    done = subprocess.run([sys.executable, HERE / "main.py"], capture_output=True, text=True, env={})
    assert done.returncode == 2 and "[capabilities.memory]" in done.stderr
