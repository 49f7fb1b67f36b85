"""Prompts written from weighted pieces in each sign language, for round trips."""

from __future__ import annotations

import re
from collections.abc import Sequence

from safelight.encoders.prompt import Piece, Sections


def a1111(sections: Sections) -> str:
    """Every piece in brackets of its own, every bracket in it escaped."""
    return " BREAK ".join("".join(_bracketed(piece, r"([()\[\]\\])") for piece in pieces) for pieces in sections)


def comfyui(sections: Sections) -> str:
    """Every piece in brackets of its own; round brackets in it escaped."""
    (pieces,) = sections
    return "".join(_bracketed(piece, r"([()])") for piece in pieces)


def compel(pieces: Sequence[Piece]) -> str:
    """Every piece in brackets of its own; what means something in it escaped."""
    return " ".join(f"({re.sub(r'([()+-])', _escaped, each.text)}){each.weight!r}" for each in pieces)


def _bracketed(piece: Piece, signs: str) -> str:
    text = re.sub(signs, _escaped, piece.text)
    return text if piece.weight == 1.0 else f"({text}:{piece.weight!r})"


def _escaped(found: re.Match[str]) -> str:
    return "\\" + found[1]
