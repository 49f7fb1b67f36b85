"""What an adapter's file holds, from its header alone: whole changes, or an error that says what is wrong; no torch."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safelight.adapters.lora.dialects import Parsed, Piece, parse, stranger
from safelight.adapters.lora.forms import FORMS
from safelight.adapters.lora.settings import Settings, read_settings
from safelight.errors import WeightsError
from safelight.weights.container import read_any
from safelight.weights.detect import detect
from safelight.weights.header import Header
from safelight.weights.keys import Shape

ROWS = 8
"""Rows of each kind in a table of what is wrong; the rest is counted."""
TOGETHER = ("alpha", "dora_scale", "magnitude", "rescale", "b_norm", "diff")
"""Roles that all changes of one form have, or none: where some lack one, the file was cut."""


@dataclass(frozen=True)
class Contents:
    """The changes in a file.

    Attributes:
        path: where it lies. header: what it says of itself.
        pieces: every change; together they name every tensor of the file.
        settings: strengths that lie outside of the tensors.
    """

    path: Path
    header: Header
    pieces: tuple[Piece, ...]
    settings: Settings

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """The shape of every tensor."""
        return self.header.shapes()

    @property
    def forms(self) -> Counter[str]:
        """How many changes there are of each form."""
        return Counter(piece.form for piece in self.pieces)

    def roles(self, piece: Piece) -> dict[str, Shape]:
        """The shapes of a change by role."""
        return {role: self.header.entries[name].shape for role, name in piece.names.items()}


def read_contents(path: str | os.PathLike[str], *, pickles: bool = False) -> Contents:
    """Sort the tensors of an adapter's file into changes.

    Args:
        pickles: whether a file of torch.save may be read; it is never run.

    Raises:
        WeightsError: the file is unreadable, or holds a tensor that is no part of a whole change; says what it seems
            to be.
    """
    path = Path(path)
    return sorted_contents(path, read_any(path, pickles=pickles))


def sorted_contents(path: Path, header: Header) -> Contents:
    """Sort what a header says into changes; see `read_contents`."""
    parsed = parse(header.entries)
    uneven = _uneven(parsed.pieces)
    if not parsed.pieces or parsed.left or parsed.halves or uneven:
        raise WeightsError(_refusal(path, header, parsed, uneven))
    return Contents(path, header, parsed.pieces, read_settings(path, header))


def listed(kind: str, rows: list[str]) -> list[str]:
    """Rows of a table of what is wrong."""
    shown = [f"  {kind:<11} {row}" for row in rows[:ROWS]]
    return shown + ([f"  … and {len(rows) - ROWS} more"] if len(rows) > ROWS else [])


def _uneven(pieces: tuple[Piece, ...]) -> list[str]:
    """Changes that lack what the others of their form have."""
    found = []
    for form in FORMS:
        mine = [piece for piece in pieces if piece.form == form]
        for role in TOGETHER:
            without = [piece for piece in mine if role not in piece.names]
            if 0 < len(without) < len(mine):
                found += [f"{piece.stem} has no {role}, {len(mine) - len(without)} others do" for piece in without]
    return found


def _refusal(path: Path, header: Header, parsed: Parsed, uneven: list[str]) -> str:
    what = stranger([*parsed.left, *parsed.halves])
    if not parsed.pieces and not what:
        found = detect(header)
        parts = ", ".join(part.part for part in found.components)
        what = f"{found.title or 'a model'} ({parts})" if parts else found.adapter.kind if found.adapter else ""
    seems = f"; it seems to be {what}" if what else ""
    lines = [
        f"{path}: is not a whole LoRA: {len(parsed.pieces)} changes are whole, {len(parsed.halves)} are not,"
        f" {len(parsed.left)} tensors are unknown, {len(uneven)} lack what others have{seems}; download it again, or"
        " load it as what it is"
    ]
    lines += listed("incomplete", [f"{stem}: {', '.join(roles)}" for stem, roles in parsed.halves.items()])
    lines += listed("unknown", list(parsed.left))
    lines += listed("uneven", uneven)
    return "\n".join(lines)
