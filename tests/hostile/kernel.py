"""The hostile guest's kernel: the ordinary one, with ours as one segment more and as the entry. Ours looks at the memory
that it has: an agent with 64 MiB gets the ordinary kernel, one with 66 + 2 N MiB is case N.
"""
import hashlib
import re
import struct
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent / "guest"
LINK = HERE.parent.parent.parent / "src/guest_link/frames.h"
SOURCES = ("entry.cpp", "virtio.cpp", "link.cpp", "main.cpp", "processor_cases.cpp", "device_cases.cpp")
FLAGS = ["-std=c++23", "-stdlib=libc++", "-O1", "-ffreestanding", "-fno-exceptions", "-fno-rtti", "-fno-stack-protector", "-fno-pic",
         "-fno-threadsafe-statics", "-mno-red-zone", "-mgeneral-regs-only", "-mcmodel=small", "-static", "-nostdlib",
         "-Wall", "-Wextra", "-Werror", "-fuse-ld=lld-19", "-Wl,--build-id=none", "-Wl,-z,norelro"]
HEADER, SEGMENT = struct.Struct("<16sHHIQQQIHHHHHH"), struct.Struct("<IIQQQQQQ")
PT_LOAD = 1
FIRST_MEGABYTES, STEP_MEGABYTES = 66, 2


class KernelError(Exception):
    pass


def _segments(elf: bytes) -> tuple[list, list[tuple]]:
    header = list(HEADER.unpack_from(elf))
    return header, [SEGMENT.unpack_from(elf, header[5] + i * header[9]) for i in range(header[10])]


def _link_version() -> str:
    return re.search(r"kVersion = (\d+);", LINK.read_text())[1]


def _compile(real_entry: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "guest"
        command = ["clang++-19", *FLAGS, f'-DREAL_ENTRY="{real_entry:#x}"', f"-DLINK_VERSION={_link_version()}", "-T", HERE / "guest.ld",
                   *(HERE / name for name in SOURCES), "-o", target]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise KernelError(f"the hostile guest does not compile: {done.stderr.strip()[-3000:]}")
        return target.read_bytes()


def hostile_kernel(ordinary: Path) -> bytes:
    kernel = ordinary.read_bytes()
    header, segments = _segments(kernel)
    ours = _compile(header[4])
    our_header, our_segments = _segments(ours)
    loads = [segment for segment in our_segments if segment[0] == PT_LOAD]
    if max(segment[4] + segment[6] for segment in segments if segment[0] == PT_LOAD) > min(s[4] for s in loads):
        raise KernelError("the ordinary kernel reaches where the hostile guest lies: move it in guest.ld")
    out = bytearray(kernel)
    for kind, flags, offset, virtual, _, in_file, in_memory, align in loads:
        out += bytes(-len(out) % 4096)
        segments.append((kind, flags, len(out), virtual, virtual, in_file, in_memory, align))
        out += ours[offset:offset + in_file]
    # In the order of their addresses, which is what the loader wants; notes are nobody's business.
    segments = [segment for segment in segments if segment[0] == PT_LOAD]
    header[5], header[10] = len(out), len(segments)
    header[4] = our_header[4]
    for segment in segments:
        out += SEGMENT.pack(*segment)
    HEADER.pack_into(out, 0, *header)
    return bytes(out)


def key(kernel: bytes) -> str:
    return hashlib.sha256(kernel).hexdigest()[:16]
