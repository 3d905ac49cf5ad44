"""Configures a CMake preset once and builds it, with progress; and lists the tests and fuzz targets in it."""
import json
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class BuildError(Exception):
    pass


def build(preset: str, about_s: int, targets: list[str] | None = None) -> Path:
    folder = ROOT / "build" / preset
    if not (folder / "build.ninja").exists():
        done = subprocess.run(["cmake", "--preset", preset], cwd=ROOT, capture_output=True, text=True)
        if done.returncode != 0:
            raise BuildError(f"cmake --preset {preset} failed: {done.stderr.strip()[-2000:]}")
    step = [ROOT / "tools/progress", f"build {preset}", "--about", str(about_s), "--",
            "ninja", "-C", folder, *(targets or [])]
    if subprocess.run(step).returncode != 0:
        raise BuildError(f"the {preset} build failed (see above)")
    return folder


def unit_tests(folder: Path) -> list[Path]:
    """The test programs that ctest knows."""
    answer = subprocess.run(["ctest", "--test-dir", folder, "--show-only=json-v1"], capture_output=True, text=True)
    if answer.returncode != 0:
        raise BuildError(f"ctest: {answer.stderr.strip()}")
    return [Path(test["command"][0]) for test in json.loads(answer.stdout)["tests"]]


def fuzz_targets(folder: Path) -> list[Path]:
    """Every target that the build knows as nullbox_fuzz(), wherever its folder is."""
    answer = subprocess.run(["ninja", "-C", folder, "-t", "targets", "all"], capture_output=True, text=True)
    return sorted(folder / name for name in re.findall(r"^(\S*/fuzz_[^/\s]+): CXX_EXECUTABLE", answer.stdout, re.M))
