"""Kernel configuration fragments: read, merge, compare with what Kconfig made of them.

A line is `CONFIG_X=value` or `# CONFIG_X is not set`. Kconfig renames options now and then, so a line may end in
`# only before 6.16` or `# only from 6.16`; it is ignored for other kernels.
"""
import re
from dataclasses import dataclass
from pathlib import Path

OFF = re.compile(r"# (CONFIG_\w+) is not set\b(.*)")
SET = re.compile(r'(CONFIG_\w+)=("[^"]*"|[^\s#]*)(.*)')
WHEN = re.compile(r"\s*# only (before|from) (\d+)\.(\d+)\s*")


@dataclass(frozen=True)
class Ask:
    name: str
    value: str  # "n" for "is not set"
    where: str  # file:line, for the message


class FragmentError(Exception):
    pass


def parse_config(text):
    """A finished .config as name -> value; an option that is off is absent."""
    return {m[1]: m[2] for m in map(SET.match, text.splitlines()) if m}


def parse_fragment(path, kernel):
    """The asks of one fragment, in order. kernel is (major, minor)."""
    asks, seen = [], {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        where = f"{path.parent.name}/{path.name}:{number}"
        if m := OFF.match(line):
            name, value, rest = m[1], "n", m[2]
        elif m := SET.match(line):
            name, value, rest = m[1], m[2], m[3]
        elif not line.strip() or (line.startswith("#") and not re.match(r"#\s*CONFIG_\w+\s*(=|is\b)", line)):
            continue
        else:
            # A misspelt "is not set" would otherwise pass as a comment, and ask for nothing.
            raise FragmentError(f"{where}: cannot read this line: {line}")
        if rest.strip():
            when = WHEN.fullmatch(rest)
            if not when:
                raise FragmentError(f"{where}: text after the value must be '# only before X.Y' or '# only from X.Y'")
            if (kernel < (int(when[2]), int(when[3]))) != (when[1] == "before"):
                continue
        if name in seen:
            raise FragmentError(f"{where}: {name} is already asked for at {seen[name]}")
        seen[name] = where
        asks.append(Ask(name, value, where))
    return asks


def merge(paths, kernel):
    """All fragments' asks; of two for one option, the later fragment's counts."""
    merged = {}
    for path in paths:
        for ask in parse_fragment(path, kernel):
            merged[ask.name] = ask
    return merged


def as_config(asks):
    return "".join(f"# {a.name} is not set\n" if a.value == "n" else f"{a.name}={a.value}\n" for a in asks.values())


def drift(asks, result):
    """The asks that did not come out as asked, each with what did."""
    return [(a, result.get(a.name, "n")) for a in asks.values() if result.get(a.name, "n") != a.value]


def hint(ask, got, source):
    """Why an ask was not met, as far as Kconfig's own text tells."""
    symbol = ask.name.removeprefix("CONFIG_")
    entry = find_entry(symbol, source)
    if entry is None:
        return "this kernel has no such option (renamed or removed? see 'only before X.Y')"
    if ask.value != "n" and got == "n":
        needs = [line.strip() for line in entry if line.strip().startswith("depends on")]
        return "it " + "; ".join(needs) if needs else "a menu or choice around it is off, or another choice won"
    if ask.value == "n":
        if not any(re.match(r'\s+(bool|tristate|prompt)\s*"', line) for line in entry):
            return "it cannot be set by hand: another option selects it"
        if any(re.match(r'\s+(bool|tristate|prompt)\s*".*" if EXPERT', line) for line in entry):
            return "only EXPERT=y may turn it off"
        return "another option selects it"
    return "another option limits its value"


def find_entry(symbol, source):
    """The lines of the symbol's Kconfig entry, or None."""
    start = re.compile(rf"\s*(menu)?config {symbol}\s*$")
    stop = re.compile(r"\s*(menu|choice|endmenu|endchoice|config|menuconfig|if|endif|source|comment)\b(?!.*[=])")
    for path in sorted(Path(source).rglob("Kconfig*")):
        lines = path.read_text(errors="replace").splitlines()
        for i, line in enumerate(lines):
            if start.match(line):
                end = next((j for j in range(i + 1, len(lines)) if stop.match(lines[j])
                            and not lines[j].startswith(("\t", " "))), len(lines))
                return lines[i:end]
    return None


def report(found, source):
    lines = []
    for ask, got in found:
        lines.append(f"  {ask.name}: asked {ask.value} ({ask.where}), got {got}: {hint(ask, got, source)}")
    return "\n".join(lines)
