"""What operators get wrong, or somebody in their place: a passphrase, a manifest, an upload. Each is refused with its
reason, nothing of it stays, and the right thing works afterwards.
"""
import base64
import hashlib
import json
import re
import socket
import struct
import time

import network
import tap
import variants
from lab_box import LabBox
from surroundings import GATE_PORT, PASSPHRASE
from tap import equal, expect
from wrong_agents import WRONG_AGENT_KEYS, agent_with

FAILED, LOCKED = 1, 5  # nullctl's status
SLOW_ENOUGH_MS = 3000  # a wait that a right passphrase can be tried within
MOST_GUESSES = 10
AGENT_FOLDER = "/var/agents"


# --- a passphrase

class Guesses:
    def __init__(self, lab_box: LabBox):
        self.box = lab_box

    def guess(self, passphrase: str):
        return self.box.nullctl("vault", "unlock", given=passphrase + "\n", limit_s=120)

    def wait_ms(self) -> int:
        return self.box.nullctl("vault", "status", "--json").ok().json()["vault"]["wait_ms"]

    def wrong_is_refused(self) -> str:
        self.box.nullctl("vault", "lock").ok()
        answer = self.guess("not the passphrase")
        equal(answer.status, FAILED, "nullctl's status")
        expect("WrongPassphrase" in answer.err and "passphrase is wrong" in answer.err.lower(), answer.err)
        equal(self.box.vault_state(), "locked", "the vault")
        return answer.err.strip().splitlines()[-1]

    def guessing_is_slow(self) -> str:
        """Each wrong one makes the wait longer, and until it is over not even the right one is tried."""
        waits = []
        while not waits or waits[-1] < SLOW_ENOUGH_MS:
            expect(len(waits) < MOST_GUESSES, f"the waits stay short: {waits} ms")
            time.sleep((waits[-1] if waits else 0) / 1000 + 0.1)
            answer = self.guess(f"guess {len(waits)}")
            expect("WrongPassphrase" in answer.err, answer.err)
            waits.append(self.wait_ms())
        answer = self.guess(PASSPHRASE)
        equal(answer.status, FAILED, "nullctl's status")
        expect("TooSoon" in answer.err, answer.err)
        equal(self.box.vault_state(), "locked", "the vault")
        return f"waits of {', '.join(f'{wait / 1000:.1f}' for wait in waits)} s"

    def right_one_opens(self) -> None:
        time.sleep(self.wait_ms() / 1000 + 0.1)
        self.box.unlock()
        equal(self.box.vault_state(), "unlocked", "the vault")
        equal(self.wait_ms(), 0, "the wait after a right passphrase")

    def locked_has_its_own_status(self) -> None:
        self.box.nullctl("vault", "lock").ok()
        answer = self.box.nullctl("vault", "set", "LATE", given="x")
        equal(answer.status, LOCKED, "nullctl's status")
        expect("nullctl vault unlock" in answer.err, answer.err)
        self.box.unlock()


# --- uploads, by a client that keeps no rules

def digest_of(body: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


class Sender:
    """A connection to gate with the operator's key, on which an upload was begun."""

    def __init__(self, lab_box: LabBox, kind: str, name: str, length: int, digest: str):
        raw = socket.create_connection((network.BOX, GATE_PORT), timeout=30)
        self._stream = lab_box.operator.tls().wrap_socket(raw)
        self._stream.sendall(f"PUT /v1/upload/{kind}/{name} HTTP/1.1\r\nHost: box\r\nContent-Length: {length}\r\n"
                             f"Repr-Digest: {digest}\r\n\r\n".encode())

    def send(self, body: bytes) -> None:
        self._stream.sendall(body)

    def answer(self) -> tuple[int, str]:
        received = b""
        while b"\r\n\r\n" not in received:
            piece = self._stream.recv(65536)
            expect(piece, f"gate closed the connection after {received!r}")
            received += piece
        head, body = received.split(b"\r\n\r\n", 1)
        length = int(re.search(rb"(?i)^content-length: (\d+)", head, re.M)[1])
        while len(body) < length:
            body += self._stream.recv(65536)
        return int(head.split()[1]), json.loads(body).get("parameters", {}).get("message", "")

    def cut(self) -> None:
        """As if the cable was cut: a reset, not an orderly end."""
        self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._stream.close()

    def __enter__(self) -> "Sender":
        return self

    def __exit__(self, *_) -> None:
        self._stream.close()


class Uploads:
    def __init__(self, lab_box: LabBox):
        self.box, self.root = lab_box, lab_box.root
        self.body = (variants.image.OUT / "agents/analyst.app.img").read_bytes()
        self.before = self.names()

    def names(self) -> list[str]:
        return self.root.names(AGENT_FOLDER)

    def begin_half(self) -> Sender:
        """The half that was sent has come as far as the disk."""
        sender = Sender(self.box, "app", "cut-off", len(self.body), digest_of(self.body))
        sender.send(self.body[:len(self.body) // 2])
        self.box.wait(lambda: any(name.startswith(".upload-") for name in self.names()), 20, "the upload begins")
        return sender

    def nothing_is_kept(self) -> None:
        self.box.wait(lambda: self.names() == self.before, 20, f"{AGENT_FOLDER} as it was; it is {self.names()}")

    def cut_in_the_middle(self) -> None:
        self.begin_half().cut()
        self.nothing_is_kept()

    def service_dies(self, name: str) -> None:
        before = self.box.service(name)
        with self.begin_half():
            self.box.kill(before)
        self.nothing_is_kept()

    def lie(self, kind: str, name: str, body: bytes, digest: str) -> str:
        with Sender(self.box, kind, name, len(body), digest) as sender:
            sender.send(body)
            status, why = sender.answer()
        equal(status, 409, f"status ({why})")
        expect("SHA-256" in why, why)
        self.nothing_is_kept()
        return why

    def no_image(self) -> str:
        body = b"no image at all " * 1000
        with Sender(self.box, "app", "cut-off", len(body), digest_of(body)) as sender:
            sender.send(body)
            status, why = sender.answer()
        equal(status, 409, f"status ({why})")
        self.nothing_is_kept()
        return why

    def right_one_is_kept(self) -> None:
        with Sender(self.box, "app", "cut-off", len(self.body), digest_of(self.body)) as sender:
            sender.send(self.body)
            equal(sender.answer()[0], 200, "status")
        equal(self.names(), sorted([*self.before, "cut-off.app.img"]), AGENT_FOLDER)
        equal(self.root.stat(f"{AGENT_FOLDER}/cut-off.app.img")["size"], len(self.body), "its size")
        self.root.ask("remove", f"{AGENT_FOLDER}/cut-off.app.img")


# --- manifests

class Manifests:
    def __init__(self, lab_box: LabBox):
        self.box = lab_box
        self.before = self.traces()

    def traces(self) -> tuple:
        agents = self.box.nullctl("agent", "list", "--json").ok().json()["agents"]
        return self.box.root.names(AGENT_FOLDER), sorted(agent["name"] for agent in agents), \
            self.box.root.names("/var/shared"), self.box.root.names("/var/images")

    def deploy_is_refused(self, number: int) -> str:
        table, key, value, says = WRONG_AGENT_KEYS[number]
        folder = self.box.site.folder / "wrong" / f"wrong{number}"
        folder.mkdir(parents=True)
        (folder / "AGENT.toml").write_bytes(agent_with(folder.name, table, key, value))
        answer = self.box.nullctl("agent", "deploy", str(folder), "--yes")
        equal(answer.status, FAILED, f"nullctl's status ({answer.err})")
        self.is_named(answer.err, "AGENT.toml", table, key, says)
        return answer.err.strip().splitlines()[0].replace(str(folder) + "/", "")

    def box_refuses_it(self, number: int) -> None:
        """A client that does not look at it first."""
        table, key, value, says = WRONG_AGENT_KEYS[number]
        name = f"wrong{number}"
        body = agent_with(name, table, key, value)
        with Sender(self.box, "manifest", name, len(body), digest_of(body)) as sender:
            sender.send(body)
            status, why = sender.answer()
        equal(status, 409, f"status ({why})")
        self.is_named(why, f"{name}.toml", table, key, says)

    @staticmethod
    def is_named(text: str, file: str, table: str, key: str, says: str) -> None:
        found = re.search(rf"{re.escape(file)}:\d+(:\d+)?: {re.escape(table.strip('[]'))}\.{key}(\[\d+\])?: (.*)", text)
        expect(found, f"no file, line and key: {text}")
        expect(says in found[0], f"it does not say {says}: {found[0]}")

    def refused(self, number: int) -> str:
        said = self.deploy_is_refused(number)
        self.box_refuses_it(number)
        return said

    def no_trace(self) -> None:
        self.box.nullctl("agent", "list").ok()
        equal(self.traces(), self.before, "agents and files")


def play(suite: tap.Suite, lab_box: LabBox) -> None:
    guesses = Guesses(lab_box)
    suite.check("a wrong passphrase is refused", guesses.wrong_is_refused)
    suite.check("guessing becomes slow", guesses.guessing_is_slow)
    suite.check("the right passphrase opens the vault then", guesses.right_one_opens)
    suite.check("what a locked vault refuses has a status of its own", guesses.locked_has_its_own_status)

    manifests = Manifests(lab_box)
    for number, (table, key, value, _) in enumerate(WRONG_AGENT_KEYS):
        suite.check(f"deploy of AGENT.toml: {table} {key} {f'= {value}' if value else 'missing'}",
                    lambda: manifests.refused(number))
    suite.check("nothing of them is on the box", manifests.no_trace)

    uploads = Uploads(lab_box)
    suite.check("an upload that is cut in the middle leaves nothing", uploads.cut_in_the_middle)
    suite.check("one whose digest is another's leaves nothing",
                lambda: uploads.lie("app", "cut-off", uploads.body, digest_of(b"another")))
    right = agent_with("liar", "[agent]", "version", '"1"')
    suite.check("a manifest whose digest is another's neither",
                lambda: uploads.lie("manifest", "liar", right, digest_of(b"another")))
    suite.check("bytes that are no image are refused", uploads.no_image)
    for name in ("gate", "cage"):
        suite.check(f"an upload in whose middle {name} dies leaves nothing", lambda: uploads.service_dies(name))
    suite.check("a new upload works", uploads.right_one_is_kept)
