"""Configures a CMake preset once and builds it, with progress; and lists the tests and fuzz targets in it."""
import json
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class BuildError(Exception):
    pass


def configure(preset: str) -> Path:
    """Makes the build folder, or brings it up to date with the CMake files."""
    folder = ROOT / "build" / preset
    known = (folder / "build.ninja").exists()
    command = ["ninja", "-C", folder, "build.ninja"] if known else ["cmake", "--preset", preset]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise BuildError(f"cmake --preset {preset} failed: {(done.stdout + done.stderr).strip()[-2000:]}")
    return folder


def build(preset: str, about_s: int, targets: list[str] | None = None) -> Path:
    folder = configure(preset)
    step = [ROOT / "tools/progress", f"build {preset}", "--about", str(about_s), "--",
            "ninja", "-C", folder, *(targets or [])]
    if subprocess.run(step).returncode != 0:
        raise BuildError(f"the {preset} build failed (see above)")
    return folder


def unit_tests(folder: Path, label: str = "") -> dict[str, Path | None]:
    """The test programs that ctest knows, with a label those alone: target and file, None before it is built."""
    answer = subprocess.run(["ctest", "--test-dir", folder, "--show-only=json-v1"], capture_output=True, text=True)
    if answer.returncode != 0:
        raise BuildError(f"ctest: {answer.stderr.strip()}")
    tests = [test for test in json.loads(answer.stdout)["tests"] if not label or label in labels(test)]
    return {test["name"]: Path(test["command"][0]) if "command" in test else None for test in tests}


def labels(test: dict) -> list[str]:
    return next((each["value"] for each in test.get("properties", []) if each["name"] == "LABELS"), [])


def fuzz_targets(folder: Path) -> list[Path]:
    """Every target that the build knows as nullbox_fuzz(), wherever its folder is."""
    answer = subprocess.run(["ninja", "-C", folder, "-t", "targets", "all"], capture_output=True, text=True)
    return sorted(folder / name for name in re.findall(r"^(\S*/fuzz_[^/\s]+): CXX_EXECUTABLE", answer.stdout, re.M))
