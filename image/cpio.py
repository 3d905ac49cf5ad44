"""Writes a cpio archive (newc, the kernel's initramfs format: Documentation/driver-api/early-userspace/buffer-format.rst).

Needs no root for device nodes, and the same entries give the same bytes: inode numbers count up, owner is root, the time
is given.
"""
import stat
from dataclasses import dataclass


@dataclass
class Entry:
    path: str              # no leading slash
    mode: int              # with the type bits
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def folder(path: str, mode: int = 0o755) -> Entry:
    return Entry(path, stat.S_IFDIR | mode)


def file(path: str, data: bytes, mode: int) -> Entry:
    return Entry(path, stat.S_IFREG | mode, data)


def character_device(path: str, major: int, minor: int, mode: int = 0o600) -> Entry:
    return Entry(path, stat.S_IFCHR | mode, device=(major, minor))


def _record(entry: Entry, inode: int, time: int) -> bytes:
    name = entry.path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = [inode, entry.mode, 0, 0, links, time, len(entry.data), 0, 0, *entry.device, len(name), 0]
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
    head += b"\0" * (-len(head) % 4)
    return head + entry.data + b"\0" * (-len(entry.data) % 4)


def archive(entries: list[Entry], time: int) -> bytes:
    records = [_record(entry, number, time) for number, entry in enumerate(entries, start=1)]
    records.append(_record(Entry("TRAILER!!!", 0), 0, 0))
    data = b"".join(records)
    return data + b"\0" * (-len(data) % 512)
