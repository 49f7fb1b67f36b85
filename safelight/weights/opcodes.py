"""A stack machine for the few instructions of a pickle that a table of tensors needs; it imports and calls nothing.

It makes tables, lists, numbers and texts. What a name of a library means, what calling it gives and what a reference
to numbers is, the user of the machine says. Source: the instructions as documented in Python's ``pickletools``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Protocol

MAX_STEPS = 500_000
"""Instructions; a tensor takes about 40, so that is 12,000 tensors."""
LONGEST_KEY = 1024


class Meaning(Protocol):
    """What the instructions that reach outside stand for."""

    def name(self, module: str, name: str) -> Any:
        """A name of a library."""

    def call(self, function: Any, arguments: Any) -> Any:
        """What calling such a name gives."""

    def storage(self, reference: Any) -> Any:
        """What a reference to numbers gives."""


class _Mark:
    """Opens a list of arguments."""


MARK = _Mark()


class Machine:
    """A stack, a memory, and one step for each instruction.

    Raises, from `run`: ValueError with a reason, or IndexError, KeyError, TypeError, struct.error for damage.
    """

    def __init__(self, program: bytes, meaning: Meaning) -> None:
        self.program, self.meaning, self.at = program, meaning, 0
        self.stack: list[Any] = []
        self.memory: dict[int, Any] = {}

    def run(self) -> Any:
        """What is on top of the stack at the end."""
        for _ in range(MAX_STEPS):
            code = self.program[self.at]
            self.at += 1
            if code == STOP:
                return self.stack[-1]
            step = STEPS.get(code)
            if step is None:
                raise ValueError(f"it holds the instruction {code:#04x}, which no table of tensors needs")
            step(self)
        raise ValueError(f"it has more than {MAX_STEPS} instructions")

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def number(self, kind: str) -> Any:
        """A little-endian number of the program."""
        (value,) = struct.unpack_from("<" + kind, self.program, self.at)
        self.at += struct.calcsize("<" + kind)
        return value

    def take(self, length: int) -> bytes:
        """The next bytes of the program."""
        begin, self.at = self.at, self.at + length
        if self.at > len(self.program):
            raise struct.error
        return self.program[begin : self.at]

    def skip(self, length: int) -> None:
        """Pass over bytes."""
        self.take(length)

    def drop(self) -> None:
        """Forget what is on top."""
        self.top(1)

    def line(self) -> str:
        """Text up to the end of the line."""
        end = self.program.find(b"\n", self.at, self.at + LONGEST_KEY)
        if end < 0:
            raise struct.error
        begin, self.at = self.at, end + 1
        return self.program[begin:end].decode("utf-8")

    def top(self, count: int) -> list[Any]:
        """The last values of the stack, which go."""
        if len(self.stack) < count:
            raise IndexError
        place = len(self.stack) - count
        values = self.stack[place:]
        del self.stack[place:]
        return values

    def marked(self) -> list[Any]:
        """What lies above the last mark, which goes too."""
        place = len(self.stack) - 1
        while place >= 0 and self.stack[place] is not MARK:
            place -= 1
        if place < 0:
            raise IndexError
        values = self.stack[place + 1 :]
        del self.stack[place:]
        return values

    def fill(self, items: list[Any]) -> None:
        """Put keys and values into the table on top; keys that are no names are left out, as nothing asks for them."""
        table = self.stack[-1]
        if not isinstance(table, dict):
            return
        for key, value in zip(items[::2], items[1::2], strict=True):
            if isinstance(key, str) and len(key) <= LONGEST_KEY:
                if key in table:
                    raise ValueError(f"the name {key[:80]!r} occurs twice")
                table[key] = value

    def extend(self, items: list[Any]) -> None:
        """Put values at the end of the list on top."""
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def find(self, module: Any, name: Any) -> None:
        """A name of a library."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError
        self.push(self.meaning.name(module, name))

    def call(self) -> None:
        """What calling a name gives; an object is made the same way."""
        function, arguments = self.top(2)
        self.push(self.meaning.call(function, arguments))

    def put(self, place: int) -> None:
        """Remember what is on top."""
        self.memory[place] = self.stack[-1]


def _value(value: Any) -> Callable[[Machine], None]:
    return lambda m: m.push(value)


def _number(kind: str) -> Callable[[Machine], None]:
    return lambda m: m.push(m.number(kind))


def _text(kind: str) -> Callable[[Machine], None]:
    return lambda m: m.push(m.take(m.number(kind)).decode("utf-8", "surrogatepass"))


def _bytes(kind: str) -> Callable[[Machine], None]:
    return lambda m: m.push(m.take(m.number(kind)))


def _tuple(count: int) -> Callable[[Machine], None]:
    return lambda m: m.push(tuple(m.top(count)))


STOP = ord(".")
STEPS: dict[int, Callable[[Machine], None]] = {
    0x80: lambda m: m.skip(1),  # the version of the format
    0x95: lambda m: m.skip(8),  # the length of what follows
    ord("("): _value(MARK),
    ord("N"): _value(None),
    0x88: _value(True),
    0x89: _value(False),
    ord(")"): _value(()),
    ord("}"): lambda m: m.push({}),
    ord("]"): lambda m: m.push([]),
    ord("K"): _number("B"),
    ord("M"): _number("H"),
    ord("J"): _number("i"),
    ord("G"): lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
    0x8A: lambda m: m.push(int.from_bytes(m.take(m.number("B")), "little", signed=True)),
    ord("X"): _text("I"),
    0x8C: _text("B"),
    ord("U"): _bytes("B"),
    ord("T"): _bytes("I"),
    ord("C"): _bytes("B"),
    ord("B"): _bytes("I"),
    0x85: _tuple(1),
    0x86: _tuple(2),
    0x87: _tuple(3),
    ord("t"): lambda m: m.push(tuple(m.marked())),
    ord("l"): lambda m: m.push(m.marked()),
    ord("d"): lambda m: _table(m, m.marked()),
    ord("s"): lambda m: m.fill(m.top(2)),
    ord("u"): lambda m: m.fill(m.marked()),
    ord("a"): lambda m: m.extend(m.top(1)),
    ord("e"): lambda m: m.extend(m.marked()),
    ord("c"): lambda m: m.find(m.line(), m.line()),
    0x93: lambda m: m.find(*m.top(2)),
    ord("R"): Machine.call,
    0x81: Machine.call,
    ord("b"): lambda m: m.drop(),  # an object's state: here objects have none
    ord("Q"): lambda m: m.push(m.meaning.storage(m.stack.pop())),
    ord("q"): lambda m: m.put(m.number("B")),
    ord("r"): lambda m: m.put(m.number("I")),
    0x94: lambda m: m.put(len(m.memory)),
    ord("h"): lambda m: m.push(m.memory[m.number("B")]),
    ord("j"): lambda m: m.push(m.memory[m.number("I")]),
}


def _table(m: Machine, items: list[Any]) -> None:
    m.push({})
    m.fill(items)
