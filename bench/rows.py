"""One number: what was measured, beside what. A row that could not be measured says why, and makes the run fail."""
import json
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class Row:
    name: str
    unit: str
    value: float | None = None
    peer_name: str = ""
    peer: float | None = None
    most: float | None = None        # the promise: value at most this ...
    most_ratio: float | None = None  # ... or value / peer at most this ...
    least_ratio: float | None = None  # ... or at least this
    runs: list[float] = field(default_factory=list)
    peer_runs: list[float] = field(default_factory=list)
    note: str = ""                   # how it was measured, if the name does not say
    failure: str = ""                # why there is no value
    by_hand: bool = False            # no program measures it; the note says how a person does

    @property
    def ratio(self) -> float | None:
        return self.value / self.peer if self.value is not None and self.peer else None

    @property
    def kept(self) -> bool | None:
        """The promise: True or False; None if there is none, or nothing was measured."""
        promised_ratio = self.most_ratio is not None or self.least_ratio is not None
        if self.value is None or (self.most is None and not promised_ratio) or (promised_ratio and self.ratio is None):
            return None
        return ((self.most is None or self.value <= self.most)
                and (self.most_ratio is None or self.ratio <= self.most_ratio)
                and (self.least_ratio is None or self.ratio >= self.least_ratio))

    def line(self) -> str:
        if self.failure:
            return f"{self.name} FAILED: {self.failure}"
        if self.value is None:
            return f"{self.name} not measured: {self.note}"
        text = f"{self.name} {number(self.value)} {self.unit}"
        if self.peer is not None:
            text += f" ({self.peer_name} {number(self.peer)}, {self.ratio:.2f})"
        if self.kept is not None:
            promise = [f"{number(self.most)} {self.unit}"] if self.most is not None else []
            promise += [f"ratio {self.most_ratio}"] if self.most_ratio is not None else []
            promise += [f"ratio at least {self.least_ratio}"] if self.least_ratio is not None else []
            text += f"; promise {' and '.join(promise)}: {'kept' if self.kept else 'NOT KEPT'}"
        return text


def number(value: float) -> str:
    return f"{value:.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.3g}"


def measured(row: Row, runs: list[float], peer_runs: list[float] | None = None) -> Row:
    """The medians of the runs."""
    row.runs, row.peer_runs = runs, peer_runs or []
    row.value = statistics.median(runs)
    row.peer = statistics.median(peer_runs) if peer_runs else None
    return row


def failed(rows: list[Row], reason: object) -> list[Row]:
    for row in rows:
        row.failure = " ".join(str(reason).split()) or type(reason).__name__
    return rows


def write(path: Path, rows: list[Row], conditions: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"conditions": conditions,
                "rows": [{**asdict(row), "ratio": row.ratio, "kept": row.kept} for row in rows]}
    path.write_text(json.dumps(document, indent=1) + "\n")
