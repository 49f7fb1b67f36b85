"""compel's signs: ``word++`` and ``word--``, ``(some words)1.2`` and ``"some words"+``, nested ones multiplied.

Source: the documented syntax of compel 2 (``SYNTAX.md``). Its operators on whole prompts (``.and()``, ``.blend()``,
``.swap()``) are not signs of weight and are refused.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from safelight.encoders.prompt import DEEPEST, Piece, Sections, checked, number
from safelight.errors import PromptError

PLUS, MINUS = 1.1, 0.9
SIGNS = '()",.+-='
OPERATORS = re.compile(r"[)\"\w]\.(?:and|add|blend|swap|attend)\(|\b(?:use|with)Lora\(")
NUMBER = re.compile(r"[+-]?(?:\d+\.\d*|\.\d+)|-?\d+")
REPEATED = re.compile(r"\++|-+")
SPACE = re.compile(r"\s*")
FREE = re.compile(r"\S+")


class Found(NamedTuple):
    """Pieces that were read, and where they end."""

    pieces: tuple[Piece, ...]
    end: int


def compel(text: str) -> Sections:
    """Read a prompt; what does not pair up is text.

    Unlike compel, a backslash before + or - is dropped like the one before a bracket.

    Raises:
        PromptError: a weight above 100, brackets nested too deep, or an operator on whole prompts.
    """
    if found := OPERATORS.search(text):
        raise PromptError(f"{found[0][-12:]!r} is an operator of compel's on prompts, which is not done here")
    text = re.sub(r",(\S)", r", \1", text)
    pieces: list[Piece] = []
    place = _space(text, 0)
    while place < len(text):
        part = _weighed(text, place, 0)
        if part is None:
            free = FREE.match(text, place)
            assert free is not None
            part = Found((Piece(_plain(free[0])),), free.end())
        pieces += part.pieces
        place = _space(text, part.end)
    return (_joined(pieces),)


def _weighed(text: str, place: int, depth: int) -> Found | None:
    """A quotation, a bracket or a word, with the weight behind it; a word without one is not read here at depth 0."""
    if depth > DEEPEST:
        raise PromptError(f"brackets are nested deeper than {DEEPEST}; a weight such as (words)1.2 says it too")
    target = _quoted(text, place, depth) or _bracket(text, place, depth)
    if target is None:
        word = _word(text, place)
        repeated = REPEATED.match(text, word.end) if word else None
        if word is None or (repeated is None and not depth):
            return None
        return word if repeated is None else _times(word, _power(repeated[0]), repeated.end())
    if repeated := REPEATED.match(text, target.end):
        return _times(target, _power(repeated[0]), repeated.end())
    if numbered := NUMBER.match(text, target.end):
        return _times(target, number(numbered[0]), numbered.end())
    return target


def _bracket(text: str, place: int, depth: int) -> Found | None:
    if text[place : place + 1] != "(":
        return None
    inside = _inside(text, place + 1, depth + 1)
    return Found(inside.pieces, inside.end + 1) if text[inside.end : inside.end + 1] == ")" else None


def _quoted(text: str, place: int, depth: int) -> Found | None:
    if text[place : place + 1] != '"':
        return None
    end = place + 1
    while text[end : end + 1] != '"':
        if end >= len(text):
            return None
        end += 2 if text.startswith('\\"', end) else 1
    between = text[place + 1 : end]
    inside = _inside(between, 0, depth + 1)
    return Found(inside.pieces, end + 1) if inside.end == len(between) else None


def _inside(text: str, place: int, depth: int) -> Found:
    """All that can stand in brackets, up to what cannot."""
    pieces: list[Piece] = []
    while True:
        place = _space(text, place)
        part = _weighed(text, place, depth)
        if part is None and text[place : place + 1] in (",", "."):
            part = Found((Piece(text[place]),), place + 1)
        if part is None:
            return Found(tuple(pieces), place)
        pieces += part.pieces
        place = part.end


def _word(text: str, place: int) -> Found | None:
    """Letters up to a space or a sign; + and - belong to a word where a letter follows."""
    end = place
    while end < len(text) and not text[end].isspace():
        after = text[end + 1 : end + 2]
        if text[end] == "\\" and after and after in SIGNS:
            end += 2
        elif text[end] not in SIGNS or (text[end] in "+-" and after and not after.isspace() and after not in SIGNS):
            end += 1
        else:
            break
    return Found((Piece(_plain(text[place:end])),), end) if end > place else None


def _times(found: Found, factor: float, end: int) -> Found:
    return Found(tuple(Piece(each.text, each.weight * factor) for each in found.pieces), end)


def _power(signs: str) -> float:
    base: float = PLUS if signs[0] == "+" else MINUS
    return checked(base ** len(signs), signs[:12])


def _plain(text: str) -> str:
    return re.sub(r'\\([()"+-])', r"\1", text)


def _space(text: str, place: int) -> int:
    found = SPACE.match(text, place)
    assert found is not None
    return found.end()


def _joined(pieces: list[Piece]) -> tuple[Piece, ...]:
    """Neighbours of one weight as one piece, with a space between them."""
    joined: list[Piece] = []
    for piece in pieces:
        checked(piece.weight)
        if joined and joined[-1].weight == piece.weight:
            joined[-1] = Piece(f"{joined[-1].text} {piece.text}", piece.weight)
        elif piece.text:
            joined.append(piece)
    return tuple(joined)
