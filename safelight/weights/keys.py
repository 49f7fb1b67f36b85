"""Names and shapes of one layout to those of another, by rules that are data and run both ways; no torch.

A table (``families/*/keys.toml``) says for every part of a model how its tensors are called in released folders
("ours") and in single files ("theirs"). Whatever no rule names is left over, and what would not get its own name back
is refused, so nothing is read under a wrong name.
"""

from __future__ import annotations

import ast
import fnmatch
import itertools
import operator
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

MOST = 65
"""One above the largest count that is looked for."""
PACKAGE = Path(__file__).resolve().parents[1]
"""Where the folders of ``borrowed`` tables begin."""
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Move:
    """How tensors of one layout become those of the other.

    Attributes:
        ours, theirs: names; several of ours only where ``how`` begins with ``split``.
        how: ``rename``; ``split``, theirs is ours one after the other along the first axis; ``transpose``; ``conv``,
            theirs has two more axes of length 1; ``split_conv``, both; ``column``, one more axis of length 1;
            ``swap``, the halves of the first axis change places.
    """

    ours: tuple[str, ...]
    theirs: str
    how: str = "rename"

    def our_shape(self, shape: Shape) -> Shape | None:
        """The shape of each of ours from that of theirs; None where it cannot be."""
        if self.how == "split_conv":
            shape = shape[:2] if len(shape) == 4 and shape[2:] == (1, 1) else ()
        if self.how in ("split", "split_conv"):
            return (shape[0] // len(self.ours), *shape[1:]) if shape and shape[0] % len(self.ours) == 0 else None
        if self.how == "column":
            return shape[:-1] if shape and shape[-1] == 1 else None
        if self.how == "transpose":
            return shape[::-1]
        if self.how == "conv":
            return shape[:2] if len(shape) == 4 and shape[2:] == (1, 1) else None
        return None if self.how == "swap" and (not shape or shape[0] % 2) else shape

    def their_shape(self, shape: Shape) -> Shape:
        """The shape of theirs from that of each of ours."""
        if self.how in ("split", "split_conv"):
            shape = (shape[0] * len(self.ours), *shape[1:])
        if self.how == "transpose":
            return shape[::-1]
        return (*shape, *(1,) * {"conv": 2, "split_conv": 2, "column": 1}.get(self.how, 0))


@dataclass(frozen=True)
class Plan:
    """What becomes of every name.

    Attributes:
        moves: in the order of the names they were made from.
        unread: names that say nothing and are passed over.
        left: names that no rule knows, or only under another number.
    """

    moves: tuple[Move, ...]
    unread: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Rule:
    """One rule with its letters filled in."""

    ours: tuple[str, ...]
    theirs: str
    how: str
    when: str
    unless: str


class Table:
    """The rules of one part, such as a U-Net or a text encoder."""

    def __init__(self, raw: Mapping[str, Any], groups: Mapping[str, list[list[str]]]) -> None:
        self.marker, self.never = raw["marker"], raw.get("never", "")
        self.ours: tuple[str, ...] = tuple(raw.get("ours", ()))
        self.unread: tuple[str, ...] = tuple(raw.get("unread", ()))
        self._raw, self._groups = raw, groups

    def to_ours(self, names: Iterable[str]) -> Plan:
        """What becomes of the names of a single file, their prefix taken off."""
        theirs = list(names)
        numbers = self._count("theirs", set(theirs))
        by_prefix = {rule.theirs: rule for rule in reversed(self._rules(numbers))}
        moves, unread, left = [], [], []
        for name in theirs:
            if self.passes(name):
                unread.append(name)
                continue
            rule, rest = _longest(by_prefix, name)
            if rule is None:
                left.append(name)
            else:
                moves.append(Move(tuple(part + rest for part in rule.ours), name, rule.how))
        back = {move.theirs for move in self._written([name for move in moves for name in move.ours], numbers)}
        left += [move.theirs for move in moves if move.theirs not in back]
        twice = _repeated(name for move in moves for name in move.ours)
        left += [move.theirs for move in moves if move.theirs in back and twice & set(move.ours)]
        lost = set(left)
        return Plan(tuple(move for move in moves if move.theirs not in lost), tuple(unread), tuple(left))

    def to_theirs(self, names: Iterable[str]) -> Plan:
        """What becomes of the names of a released folder."""
        ours = list(names)
        moves = self._written(ours, self._count("ours", set(ours)))
        done = {name for move in moves for name in move.ours}
        return Plan(tuple(moves), (), tuple(name for name in ours if name not in done))

    def passes(self, name: str) -> bool:
        """Whether a name of a file says nothing."""
        return matches(name, self.unread)

    def _written(self, ours: list[str], numbers: Mapping[str, int]) -> list[Move]:
        begins = _beginnings(ours)
        by_prefix: dict[str, _Rule] = {}
        for rule in reversed(self._rules(numbers)):
            if (not rule.when or rule.when in begins) and (not rule.unless or rule.unless not in begins):
                by_prefix[rule.ours[0]] = rule
        known, moves = set(ours), []
        for name in ours:
            rule_, rest = _longest(by_prefix, name)
            if rule_ is not None:
                parts = tuple(part + rest for part in rule_.ours)
                if known.issuperset(parts):
                    moves.append(Move(parts, rule_.theirs + rest, rule_.how))
        inside = {name for move in moves for name in move.ours[1:]}  # goes with the first, whatever rule knows it alone
        return [move for move in moves if move.ours[0] not in inside]

    def _rules(self, numbers: Mapping[str, int]) -> tuple[_Rule, ...]:
        return _filled(self, tuple(sorted(numbers.items())))

    def expand(self, numbers: Mapping[str, int]) -> Iterator[_Rule]:
        """Every rule for every value of its letters."""
        for raw in self._raw["rules"]:
            ours = [raw["ours"]] if isinstance(raw["ours"], str) else raw["ours"]
            over = {
                letter: range(_number(values, numbers)) if isinstance(values, str) else values
                for letter, values in raw.get("over", {}).items()
            }
            for chosen in itertools.product(*over.values()):
                known = {**numbers, **dict(zip(over, chosen))}
                mine = [_fill(text, known) for text in ours]
                theirs, when, unless = (_fill(raw.get(name, ""), known) for name in ("theirs", "when", "unless"))
                for inside, outside in self._groups.get(raw.get("of", ""), [["", ""]]):
                    names = tuple(_join(text, inside) for text in mine)
                    yield _Rule(names, _join(theirs, outside), raw.get("how", "rename"), when, unless)

    def _count(self, side: str, names: set[str]) -> dict[str, int]:
        """The numbers that the rules of this part are made of, found in the names; 1 where there is no trace of one."""
        found: dict[str, int] = {}
        for letter, ways in self._raw.get("count", {}).items():
            ((kind, template),) = ways[side].items()
            tries = range(1, ways.get("most", MOST - 1) + 1)
            there = [n for n in tries if _fill(template, {letter: n}) in names]
            if kind == "first":
                found[letter] = there[0] if there else 1
            else:
                found[letter] = next((n for n in tries if n not in there), tries.stop) - 1
        return found


@dataclass(frozen=True)
class Keys:
    """All the rules of a family.

    Attributes:
        parts: table by name.
        unread: patterns of names of a whole file that say nothing.
        averaged: how the names of averaged weights begin.
    """

    parts: Mapping[str, Table]
    unread: tuple[str, ...]
    averaged: str

    def passes(self, name: str) -> bool:
        """Whether a name of a file says nothing."""
        return matches(name, self.unread)


@cache
def read_keys(path: Path) -> Keys:
    """The rules of a family's ``keys.toml``, which is part of this program."""
    raw = tomllib.loads(path.read_text(encoding="utf-8"))
    parts = {name: Table(part, raw["group"]) for name, part in raw["part"].items()}
    for name, place in raw.get("borrowed", {}).items():
        parts[name] = read_keys(PACKAGE / place).parts[name]
    return Keys(parts, tuple(raw["file"]["unread"]), raw["file"]["averaged"])


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a name is one of the patterns, whose stars stand for anything."""
    return _matcher(patterns).match(name) is not None


@cache
def _matcher(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(fnmatch.translate, patterns)) or "(?!)")


@cache
def _filled(table: Table, numbers: tuple[tuple[str, int], ...]) -> tuple[_Rule, ...]:
    return tuple(table.expand(dict(numbers)))


def _longest(by_prefix: Mapping[str, _Rule], name: str) -> tuple[_Rule | None, str]:
    """The rule of the longest beginning of a name that ends at a dot, and what comes behind it."""
    end = len(name)
    while end > 0:
        rule = by_prefix.get(name[:end])
        if rule is not None and (end == len(name) or rule.how == "rename"):
            return rule, name[end:]
        end = name.rfind(".", 0, end)
    return None, ""


def _beginnings(names: Iterable[str]) -> set[str]:
    """Every beginning of the names that ends with a dot."""
    found: set[str] = set()
    for name in names:
        end = name.rfind(".")
        while end >= 0 and (begin := name[: end + 1]) not in found:  # of one that is there, all shorter ones are
            found.add(begin)
            end = name.rfind(".", 0, end)
    return found


def _repeated(names: Iterable[str]) -> set[str]:
    return {name for name, count in Counter(names).items() if count > 1}


def _join(left: str, right: str) -> str:
    return f"{left}.{right}" if right else left


def _fill(template: str, known: Mapping[str, Any]) -> str:
    """A template with its braces worked out: ``block.{2*n+1}``."""
    pieces = _pieces(template)
    if len(pieces) == 1:
        return template
    return "".join(str(_worked(piece, known)) if place % 2 else piece for place, piece in enumerate(pieces))


@cache
def _pieces(template: str) -> tuple[str, ...]:
    """A template taken apart: text, what stands in braces, text, and so on."""
    return tuple(re.split(r"\{([^}]*)\}", template))


@cache
def _parsed(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def _worked(text: str, known: Mapping[str, Any]) -> Any:
    return known[text] if text in known else _evaluated(_parsed(text), known)


def _number(text: str, known: Mapping[str, Any]) -> int:
    return int(_worked(text, known))


OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}


def _evaluated(node: ast.expr, known: Mapping[str, Any]) -> Any:
    """A sum or product of letters and numbers."""
    if isinstance(node, ast.BinOp):
        left, right = _evaluated(node.left, known), _evaluated(node.right, known)
        return OPERATIONS[type(node.op)](left, right)
    return known[node.id] if isinstance(node, ast.Name) else ast.literal_eval(node)
