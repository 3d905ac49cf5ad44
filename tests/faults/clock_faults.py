"""A box after a power cut: its clock says 1970, and what was acknowledged before is there."""
import time

import tap
import variants
from kills import Kept
from lab_box import AGENTS, LabBox, NULLD
from tap import equal, expect

BASE = ["-rtc", "base=1970-01-01T00:00:00"]
BOOT_LIMIT_S = 600       # by which the clock may be ahead of the floor
RIGHT_WITHIN_S = 5
SAID_LIMIT_S = 30
SET_LIMIT_S = 120        # the time servers are asked again after growing pauses


class ClockFaults:
    def __init__(self, lab_box: LabBox, kept: Kept):
        self.box, self.kept = lab_box, kept

    def clock_s(self) -> float:
        """The box's: of a line that it logs now."""
        self.box.root.call(f"{NULLD}.RestartService", {"name": "probe"}, limit_s=60)
        lines = self.box.root.call(f"{NULLD}.Logs", {"service": "nulld", "lines": 1})["lines"]
        return lines[-1]["time_ms"] / 1000

    def floor_holds(self) -> str:
        floor = variants.image.build_time()
        ahead = self.clock_s() - floor
        expect(0 <= ahead < BOOT_LIMIT_S, f"the clock is {ahead:.0f} s after the image was built")
        said = self.box.root.call(f"{NULLD}.Logs", {"service": "nulld", "lines": 1000})["lines"]
        found = [line["text"] for line in said if "the clock said 1970-01-01" in line["text"]]
        expect(found, "nulld does not say that the clock was wrong")
        return found[0]

    def time_is_said_to_be_wrong(self) -> str:
        def problem() -> str:
            status = self.box.nullctl("egress", "status", "--json").ok().json()["time"]
            equal(status["synchronised"], False, "synchronised")
            return status["problem"]
        return self.box.wait(problem, SAID_LIMIT_S, "egress names a problem with the time", every_s=0.5)

    def vault_opens(self) -> None:
        equal(self.box.vault_state(), "locked", "the vault after a boot")
        self.box.unlock()
        equal(self.box.vault_lacks(self.kept.secrets), set(), "secrets that were acknowledged and are gone")

    def memory_is_there(self) -> None:
        for name, acknowledged in self.kept.puts.items():
            lost = self.box.memory_lacks(name, acknowledged)
            expect(not lost, f"acknowledged and not in memory: {lost}")

    def clock_is_set(self) -> str:
        start = time.monotonic()
        self.box.site.time.silent = False

        def right() -> bool:
            return self.box.nullctl("egress", "status", "--json").ok().json()["time"]["synchronised"]
        self.box.wait(right, SET_LIMIT_S, "the clock is set", every_s=0.5)
        off = self.clock_s() - time.time()
        expect(abs(off) < RIGHT_WITHIN_S, f"the clock is off by {off:.0f} s")
        return f"{time.monotonic() - start:.0f} s after the server began to answer"

    def play(self, suite: tap.Suite) -> None:
        suite.check("with its clock at 1970 it boots, and knows its operator", self.box.is_up)
        suite.check("its clock is not before the image was built", self.floor_holds)
        suite.check("with no answer of a time server it says so", self.time_is_said_to_be_wrong)
        suite.check("its vault opens, with all that was put in", self.vault_opens)
        suite.check("its memory has all that was acknowledged before the power cut", self.memory_is_there)
        suite.check("the first answer sets the clock", self.clock_is_set)
        for name in AGENTS:
            suite.check(f"agent {name} reaches the API over TLS then", lambda: self.box.goes_on(name))
        suite.check("nothing forbidden arrived", self.box.nothing_escaped)
