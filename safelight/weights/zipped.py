"""Find the members of a zip file that torch wrote, without unpacking one and without trusting a number in it.

Torch stores members uncompressed, so that each can be read, or mapped, where it lies; a compressed one is not torch's
and is refused, and with it every bomb. Source: APPNOTE.TXT 6.3.10, sections 4.3.6 to 4.3.16 and 4.5.3 (zip64).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from safelight.weights.header import MAX_HEADER, MAX_TENSORS

MAGIC = b"PK\x03\x04"
END, END64, PLACE64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
MEMBER = b"PK\x01\x02"
LONGEST_COMMENT = 2**16
FULL = 0xFFFFFFFF
"""What a 32-bit field says whose number stands in the zip64 field."""


@dataclass(frozen=True)
class Member:
    """A stored member: ``begin`` and ``end`` are bytes from the start of the file."""

    begin: int
    end: int


def members(file: BinaryIO, size: int) -> dict[str, Member]:
    """The members of a zip file by name.

    Raises:
        ValueError: it is damaged, compressed, encrypted, too long a list, names a place outside, or members overlap.
        struct.error: it is cut off.
    """
    begin, length, count = _directory(file, size)
    if count > 2 * MAX_TENSORS or length > MAX_HEADER:
        raise ValueError(f"its list has {count} members in {length} bytes; at most {2 * MAX_TENSORS} are read")
    file.seek(begin)
    text = file.read(length)
    found: dict[str, Member] = {}
    at = 0
    for _ in range(count):
        name, place, room, at = _row(text, at)
        if name in found:
            raise ValueError(f"the member {name[:80]!r} occurs twice")
        file.seek(place)
        head = file.read(30)
        if head[:4] != MAGIC:
            raise ValueError(f"the member {name[:80]!r} does not lie where the list says")
        data = place + 30 + sum(struct.unpack_from("<HH", head, 26))
        if data + room > begin:
            raise ValueError(f"the member {name[:80]!r} reaches into the list or beyond the file")
        found[name] = Member(data, data + room)
    reached = 0
    for name, member in sorted(found.items(), key=lambda item: (item[1].begin, item[1].end)):
        if member.begin < reached:
            raise ValueError(f"the member {name[:80]!r} overlaps the one before it")
        reached = member.end
    return found


def _directory(file: BinaryIO, size: int) -> tuple[int, int, int]:
    """Begin, length and number of rows of the list at the end of the file."""
    tail = min(size, LONGEST_COMMENT + 22)
    file.seek(size - tail)
    text = file.read(tail)
    at = text.rfind(END)
    if at < 0 or at + 22 > len(text):
        raise ValueError("it has no end of a zip file; it is cut off")
    rows, length, begin = struct.unpack_from("<HII", text, at + 10)
    if at >= 20 and text[at - 20 : at - 16] == PLACE64:
        (place,) = struct.unpack_from("<Q", text, at - 12)
        if place > size:
            raise ValueError("the end of its list lies outside of the file")
        file.seek(place)
        end = file.read(56)
        if end[:4] != END64:
            raise ValueError("its list has no end")
        rows, length, begin = struct.unpack_from("<QQQ", end, 32)
    if begin + length > size:
        raise ValueError("its list lies outside of the file")
    return begin, length, rows


def _row(text: bytes, at: int) -> tuple[str, int, int, int]:
    """Name, place and length of a member, and where the next row begins."""
    if text[at : at + 4] != MEMBER:
        raise ValueError("a row of its list is damaged")
    flags, method = struct.unpack_from("<HH", text, at + 8)
    packed, room = struct.unpack_from("<II", text, at + 20)
    named, extra, comment = struct.unpack_from("<HHH", text, at + 28)
    (place,) = struct.unpack_from("<I", text, at + 42)
    name = text[at + 46 : at + 46 + named].decode("utf-8")
    more = text[at + 46 + named : at + 46 + named + extra]
    wide = _wide(more, [room, packed, place])
    if method or flags & 1 or wide[0] != wide[1]:
        raise ValueError(f"the member {name[:80]!r} is compressed or encrypted, which torch never writes")
    if not name or name.startswith("/") or "\\" in name or "\0" in name or ".." in name.split("/"):
        raise ValueError(f"the member {name[:80]!r} has a name that leads elsewhere")
    return name, wide[2], wide[0], at + 46 + named + extra + comment


def _wide(extra: bytes, numbers: list[int]) -> list[int]:
    """The numbers, those that are full taken from the zip64 field."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            inside = at + 4
            for index, number in enumerate(numbers):
                if number == FULL:
                    (numbers[index],) = struct.unpack_from("<Q", extra, inside)
                    inside += 8
        at += 4 + length
    return numbers
