"""What a prompt says of its own weights: pieces of text, each with one, in the sign language of three programs.

A section is what stands between two BREAKs; a piece is a run of text of one weight, 1 where nothing is said.
Sources: the documented behaviour of A1111's web UI ("Attention/emphasis") and of ComfyUI ("Up and down weighting");
what compel reads stands in `safelight.encoders.compel`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import NamedTuple

from safelight.errors import PromptError

UP = 1.1
"""What one pair of brackets without a number is worth."""
HEAVIEST = 100.0
DEEPEST = 64
BREAK = re.compile(r"\s*\bBREAK\b\s*")
COMPOSED = re.compile(r"\bAND\b")
NUMBERED = re.compile(r":\s*([+-]?[.\d]+|[+-]?(?:nan|inf|infinity))\s*\)", re.IGNORECASE)
ESCAPED = {"a1111": "()[]\\", "comfyui": "()"}
HINTS = (
    (re.compile(r"(?<!\\)\([^()]+:\s*[+-]?[.\d]+\s*\)"), "a1111"),
    (re.compile(r"(?<!\\)\[[^\[\]]*:\s*\.?\d[.\d]*\s*\]|(?<!\\)\[[^\[\]|]+\|[^\[\]]*\]"), "a1111"),
    (BREAK, "a1111"),
    (re.compile(r"(?<!\\)\(\([^()]+\)\)|(?<!\\)\[\[[^\[\]]+\]\]"), "a1111"),
    (re.compile(r"(?<!\\)\)(?:\d*\.?\d+|\++|-+)(?=[\s,.]|$)|\w\+{1,9}(?=[\s,.]|$)|\w--+(?=[\s,.]|$)"), "compel"),
)


class Piece(NamedTuple):
    """Some text and how much it counts: 1 as it is, 0 as if the prompt were empty there, more exaggerates."""

    text: str
    weight: float = 1.0


Sections = tuple[tuple[Piece, ...], ...]


def legible(text: str) -> None:
    """Raises: PromptError where a prompt is no text, such as undecoded bytes."""
    if "\0" in text or any("\ud800" <= sign <= "\udfff" for sign in text):
        raise PromptError(f"the prompt {text[:40]!r} holds bytes that are no text; write it in UTF-8")


def literal(text: str) -> Sections:
    """No sign means anything: one piece."""
    return ((Piece(text),),)


def a1111(text: str) -> Sections:
    """A1111's signs: ``(a)`` x 1.1, ``[a]`` / 1.1, ``(a:1.2)`` x 1.2, nested ones multiplied, ``BREAK``, ``\\(``.

    A bracket that is never closed reaches to the end; one that was never opened is text, and so is a number outside of
    round brackets. A backslash in front of anything but a bracket or another is dropped.

    Raises:
        PromptError: a weight that is no number or above 100, too many brackets, or ``AND``, which stands between
            prompts only (``encoders/shares.py``).
    """
    if COMPOSED.search(text):
        raise PromptError("AND composes what is to be drawn, and nothing else; write it in lower case here")
    pieces: list[Piece | None] = []  # None is a BREAK
    opened: dict[str, list[int]] = {"(": [], "[": []}
    run: list[str] = []

    def flush() -> None:
        for place, part in enumerate(BREAK.split("".join(run))):
            pieces.extend([None] if place else [])
            pieces.append(Piece(part))
        run.clear()

    def scale(bracket: str, factor: float) -> None:
        flush()
        first = opened[bracket].pop()
        pieces[first:] = [each and Piece(each.text, each.weight * factor) for each in pieces[first:]]

    place = 0
    while place < len(text):
        sign, end = text[place], place + 1
        numbered = NUMBERED.match(text, place) if sign == ":" and opened["("] else None
        if sign == "\\":
            flush()  # BREAK is looked for in what stands between signs
            pieces.append(Piece(text[end] if text[end : end + 1] and text[end] in ESCAPED["a1111"] else ""))
            end += len(pieces[-1].text if pieces[-1] else "")
        elif sign in opened:
            flush()
            opened[sign].append(len(pieces))
            if len(opened[sign]) > DEEPEST:
                raise PromptError(f"brackets are nested deeper than {DEEPEST}; a weight such as (word:1.2) says it too")
        elif numbered:
            scale("(", number(numbered[1]))
            end = numbered.end()
        elif sign == ")" and opened["("]:
            scale("(", UP)
        elif sign == "]" and opened["["]:
            scale("[", 1 / UP)
        else:
            run.append(sign)
        place = end
    flush()
    for bracket, factor in (("(", UP), ("[", 1 / UP)):
        while opened[bracket]:
            scale(bracket, factor)
    return _sections(pieces)


def comfyui(text: str) -> Sections:
    """ComfyUI's signs: ``(a)`` x 1.1 of what is around it, ``(a:1.2)`` 1.2 whatever is around it, ``\\(`` and ``\\)``.

    All else is text: square brackets, BREAK, and round brackets that do not pair up.

    Raises:
        PromptError: a weight that is not finite or above 100, or too many brackets.
    """
    signs: list[str] = []
    place = 0
    while place < len(text):
        escaped = text[place] == "\\" and text[place + 1 : place + 2] in ("(", ")")
        signs.append(text[place : place + 2] if escaped else text[place])
        place += len(signs[-1])
    pieces = [Piece("".join(each[-1] for each in part), weight) for part, weight in _nested(signs, 1.0, 0)]
    return (_merged(pieces),)


def _nested(signs: list[str], weight: float, depth: int) -> list[tuple[list[str], float]]:
    """Runs of signs and their weights; an escaped bracket is one sign of two letters."""
    if depth > DEEPEST:
        raise PromptError(f"brackets are nested deeper than {DEEPEST}; a weight such as (word:1.2) says it too")
    found: list[tuple[list[str], float]] = []
    for part in _groups(signs):
        if part[0] != "(" or part[-1] != ")" or len(part) < 2:
            found.append((part, weight))
            continue
        inside, heavier = part[1:-1], weight * UP
        colon = max((place for place, sign in enumerate(inside) if sign == ":"), default=0)
        said = "".join(inside[colon + 1 :]) if colon else ""
        try:
            heavier = float(said)
        except ValueError:
            pass  # a colon that says no weight is text
        else:
            inside = inside[:colon]
            number(said)
        found += _nested(inside, heavier, depth + 1)
    return found


def _groups(signs: list[str]) -> Iterable[list[str]]:
    """Cut before a round bracket that opens at depth 0 and after the one that closes it."""
    depth, run = 0, list[str]()
    for sign in signs:
        if sign == "(" and depth == 0 and run:
            yield run
            run = []
        run.append(sign)
        depth += {"(": 1, ")": -1}.get(sign, 0)
        if sign == ")" and depth == 0:
            yield run
            run = []
    if run:
        yield run


def number(text: str) -> float:
    """A weight as it is written.

    Raises:
        PromptError: it is no number, not finite, or above 100 on either side of 0.
    """
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    return checked(weight, text)


def checked(weight: float, text: str = "") -> float:
    """A weight that can be used; PromptError for others."""
    if not abs(weight) <= HEAVIEST:
        raise PromptError(
            f"{text or f'{weight:g}'} cannot be the weight of a word; use a number such as 1.2, at most {HEAVIEST:g}"
        )
    return weight


def hint(text: str) -> str:
    """The emphasis whose signs a prompt seems to be written in; empty for plain text.

    A single pair of brackets is not enough: people write them in plain text.
    """
    return next((name for sign, name in HINTS if sign.search(text)), "")


def _sections(pieces: Iterable[Piece | None]) -> Sections:
    sections: list[list[Piece]] = [[]]
    for piece in pieces:
        if piece is None:
            sections.append([])
        else:
            sections[-1].append(piece)
    return tuple(_merged(section) for section in sections)


def _merged(pieces: Iterable[Piece]) -> tuple[Piece, ...]:
    """Neighbours of one weight as one piece, so that a word is read whole; nothing empty."""
    merged: list[Piece] = []
    for piece in pieces:
        checked(piece.weight)
        if merged and merged[-1].weight == piece.weight:
            merged[-1] = Piece(merged[-1].text + piece.text, piece.weight)
        elif piece.text:
            merged.append(piece)
    return tuple(merged)
