"""Match the changes of a file to the layers of a model: every one, or an error with a table of what does not fit.

No torch: the layers come from a model or from the stored header of a released one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from safelight.adapters.lora.contents import Contents, listed
from safelight.adapters.lora.dialects import Piece
from safelight.adapters.lora.forms import FORMS
from safelight.adapters.lora.targets import Layer, Targets, released
from safelight.errors import WeightsError


@dataclass(frozen=True)
class Row:
    """One change and its layer.

    Attributes:
        layer: what is changed. piece: by what. rank: of the change, 0 for forms that have none.
        dialect: who calls the layer so.
    """

    layer: Layer
    piece: Piece
    rank: int
    dialect: str


@dataclass(frozen=True)
class Plan:
    """What a file does to a model.

    Attributes:
        contents: of the file. title: of the model.
        rows: changes that fit. misses: stems that do not, and why.
        without_alpha: changes whose strength nothing says; it is then 1.
    """

    contents: Contents
    title: str
    rows: tuple[Row, ...]
    misses: tuple[tuple[str, str], ...]

    @property
    def without_alpha(self) -> tuple[Row, ...]:
        """Changes that have a rank, and whose strength nothing says; it is then 1."""
        return tuple(row for row in self.rows if self._unsaid(row))

    @property
    def dialects(self) -> tuple[str, ...]:
        """Whose names the file uses, the most frequent first."""
        return tuple(name for name, _ in Counter(row.dialect for row in self.rows).most_common())

    @property
    def parts(self) -> dict[str, int]:
        """Part of the model -> changed layers."""
        return dict(Counter(row.layer.part for row in self.rows))

    @property
    def ranks(self) -> tuple[int, int]:
        """The smallest and the largest rank; (0, 0) where no change has one."""
        every = [row.rank for row in self.rows if row.rank] or [0]
        return min(every), max(every)

    def _unsaid(self, row: Row) -> bool:
        if not row.rank or "alpha" in row.piece.names:
            return False
        return self.contents.settings.strength(row.layer.part, row.layer.name, row.rank) is None


def match(contents: Contents, targets: Targets) -> Plan:
    """What fits a model and what does not."""
    found: dict[tuple[str, str], list[Row]] = defaultdict(list)
    misses: list[tuple[str, str]] = []
    for piece in contents.pieces:
        row, why = _row(contents, piece, targets)
        if row is None:
            misses.append((piece.stem, why))
        else:
            found[row.layer.part, row.layer.name].append(row)
    rows = []
    for (_, name), same in found.items():
        if len(same) == 1:
            rows.append(same[0])
        else:
            misses += [(row.piece.stem, f"is {name}, which is changed twice") for row in same]
    misses += _unbiased(contents, rows)
    lost = {stem for stem, _ in misses}
    return Plan(contents, targets.title, tuple(row for row in rows if row.piece.stem not in lost), tuple(misses))


def fit(contents: Contents, targets: Targets) -> Plan:
    """Match every change.

    Raises:
        WeightsError: some do not fit; a table of what does and does not, and of what the file seems to be for.
    """
    plan = match(contents, targets)
    if not plan.misses:
        return plan
    whole = len(contents.pieces)
    seems = looks_like(contents)
    guess = f" it looks like {seems}, this model is {plan.title};" if seems and seems != plan.title else ""
    lines = [
        f"{contents.path}: does not fit {plan.title}: {len(plan.rows)} of {whole} changes match,"
        f" {len(plan.misses)} do not;{guess} nothing was changed"
    ]
    lines += listed("unmatched", [f"{stem}: {why}" for stem, why in plan.misses])
    lines += listed("matched", [f"{row.piece.stem} -> {row.layer.full}" for row in plan.rows])
    raise WeightsError("\n".join(lines))


def looks_like(contents: Contents) -> str:
    """The released model that most changes of a file fit; empty where that is fewer than half."""
    best, title = 0, ""
    for targets in released():
        fits = len(match(contents, targets).rows)
        if fits > best:
            best, title = fits, targets.title
    return title if 2 * best >= len(contents.pieces) else ""


def _row(contents: Contents, piece: Piece, targets: Targets) -> tuple[Row | None, str]:
    """The layer of a change, or why there is none."""
    named = targets.named(piece.stem)
    if not named:
        return None, "is no layer of this model"
    rows, why = [], ""
    for layer, beginning in named:
        try:
            rank = FORMS[piece.form].rank(contents.roles(piece), layer.weight)
            if {"diff_b", "b_norm", "up_bias"} & piece.names.keys() and not layer.biased:
                raise ValueError("changes a bias that the layer does not have")
        except ValueError as error:
            why = f"{layer.full}: {error}"
        else:
            rows.append(Row(layer, piece, rank, beginning.dialect))
    if len(rows) > 1:
        return None, f"can be {' or '.join(row.layer.full for row in rows)}; the file does not say of which"
    return (rows[0], "") if rows else (None, why)


def _unbiased(contents: Contents, rows: Iterable[Row]) -> list[tuple[str, str]]:
    """Changes of a layer with a bias that leave it out where others do not."""
    found = []
    for form in FORMS:
        mine = [row for row in rows if row.piece.form == form and row.layer.biased]
        without = [row for row in mine if "diff_b" not in row.piece.names]
        if 0 < len(without) < len(mine):
            found += [(row.piece.stem, f"{row.layer.full}: has no diff_b, others have") for row in without]
    return found
