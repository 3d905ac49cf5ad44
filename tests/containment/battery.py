"""What each agent is told to do, and what the lab makes of it."""
import base64
import json
import queue
import socket
import sys
import threading
import time
import zlib
from dataclasses import dataclass, field

import places
from outside import MARK, SECRET, Outside

ATTACKER, PEER = "attacker", "peer"
# Both sides read the same list: here for what is to be judged, in the guest for what is to be done.
sys.dont_write_bytecode = True
import attempts_packets  # noqa: E402
import attempts_names  # noqa: E402
import attempts_tls  # noqa: E402
import attempts_http  # noqa: E402
import attempts_rules  # noqa: E402
import attempts_vm  # noqa: E402
import uses  # noqa: E402
import guest as told  # noqa: E402

MODULES = (attempts_packets, attempts_names, attempts_tls, attempts_http, attempts_rules, attempts_vm, uses)
VECTORS, USES = told.VECTORS, told.USES


class Lost(Exception):
    pass


class Control:
    """The lab's end of each agent's connection."""

    def __init__(self):
        self._links: dict[str, queue.Queue] = {}
        self._known: dict[str, tuple[socket.socket, object]] = {}
        self.addresses: dict[str, str] = {}
        self._changed = threading.Condition()
        self._listener = socket.create_server((places.CONTROL_ADDRESS, places.CONTROL_PORT))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            stream, _ = self._listener.accept()
            threading.Thread(target=self._greet, args=(stream,), daemon=True).start()

    def _greet(self, stream: socket.socket) -> None:
        try:
            lines = stream.makefile("rb")
            hello = json.loads(lines.readline())
            with self._changed:
                self._known[hello["agent"]] = (stream, lines)
                self.addresses[hello["agent"]] = hello["address"]
                self._changed.notify_all()
        except (OSError, ValueError, KeyError):
            stream.close()

    def wait(self, agent: str, limit_s: float) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: agent in self._known, limit_s):
                raise Lost(f"{agent} does not come up within {limit_s:.0f} s")

    def ask(self, agent: str, limit_s: float, **order) -> dict:
        self.wait(agent, limit_s)
        stream, lines = self._known[agent]
        try:
            stream.settimeout(limit_s)
            stream.sendall(json.dumps(order).encode() + b"\n")
            answer = lines.readline()
            if not answer:
                raise OSError("it hung up")
            return json.loads(answer)
        except (OSError, ValueError) as problem:
            with self._changed:
                if self._known.get(agent, (None,))[0] is stream:
                    del self._known[agent]
            stream.close()
            raise Lost(f"{agent}: {problem}") from problem


@dataclass
class Outcome:
    """escapes: how it got out; empty if it did not. trouble: the attempt could not be judged."""
    name: str
    escapes: list[str] = field(default_factory=list)
    trouble: str = ""
    took_s: float = 0
    said: str = ""


def unpacked(saw: bytes) -> bytes:
    """What is compressed in it."""
    begin = saw.find(b"\x1f\x8b")
    try:
        return zlib.decompressobj(31).decompress(saw[begin:]) if begin >= 0 else b""
    except zlib.error:
        return b""


class Battery:
    def __init__(self, outside: Outside, control: Control, settle_s: float, limit_s: float, ask_peer_every: int = 1):
        """ask_peer_every: of so many attempts the other agent is asked once what it heard."""
        self.outside, self.control, self.settle_s, self.limit_s = outside, control, settle_s, limit_s
        self._ask_peer_every, self._attempts = ask_peer_every, 0
        self.set_budget = None  # how the attacker gets another budget, None where that cannot be done
        self.extra_evidence = lambda: []  # what else was seen since the last call

    def attempt(self, name: str) -> Outcome:
        vector = VECTORS[name]
        before = self.outside.evidence.count()
        outcome = Outcome(name)
        try:
            if vector.budget:
                self.set_budget(vector.budget)
            answer = self.control.ask(ATTACKER, self.limit_s, **{"try": name})
        except Lost as lost:
            outcome.trouble = str(lost)
            answer = {}
        finally:
            if vector.budget:
                self.set_budget({})
        time.sleep(self.settle_s)
        outcome.took_s, outcome.said = answer.get("s", 0), answer.get("trouble", "")
        saw = base64.b64decode(answer.get("saw", ""))
        if answer.get("through"):
            outcome.escapes.append(f"the agent: {answer['through']}")
        if SECRET.encode() in saw or SECRET.encode() in unpacked(saw):
            outcome.escapes.append("the agent has seen the secret")
        outcome.escapes += [str(seen) for seen in self.outside.evidence.since(before)] + self.extra_evidence()
        if any(module in outcome.said for module in ("NameError", "TypeError", "AttributeError", "struct.error", "KeyError")):
            outcome.trouble = outcome.said
        self._attempts += 1
        try:
            if self._attempts % self._ask_peer_every == 0:
                outcome.escapes += self.heard()
            if vector.harmless:
                served = self.control.ask(PEER, self.limit_s, use="http")
                if served["trouble"]:
                    outcome.escapes.append(f"the other agent is not served: {served['trouble']}")
        except Lost as lost:
            outcome.escapes.append(f"the other agent is lost: {lost}")
        return outcome

    def heard(self) -> list[str]:
        """By the other agent, since it was last asked."""
        return [f"the other agent heard {text}" for text in self.control.ask(PEER, self.limit_s, heard=True)["heard"]]

    def use(self, name: str) -> tuple[str, str]:
        """Why it does not work, and what there is to say of it."""
        before = self.outside.evidence.count()
        answer = self.control.ask(ATTACKER, self.limit_s * 2, use=name)
        seen = self.outside.evidence.since(before)
        if SECRET.encode() in base64.b64decode(answer.get("saw", "")):
            return "the agent has seen the secret", ""
        said = f"{answer['s']:.1f} s" + (f"; {answer['note']}" if answer.get("note") else "")
        return answer["trouble"] or "; ".join(map(str, seen[:3])), said


def matches(record: dict, wanted: dict) -> bool:
    if record.get("verdict") != "denied" or record.get("agent") != ATTACKER:
        return False
    return all(record.get(key) == value for key, value in wanted.items())


def unrecorded(names: list[str], records: list[dict]) -> list[str]:
    """Vectors whose denial is due and not there."""
    return [name for name in names if VECTORS[name].record is not None and
            not any(matches(record, VECTORS[name].record) for record in records)]
