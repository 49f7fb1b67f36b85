"""Count what the checker found: per attribute, over all, and how many figures were wholly right.

A share says little without its floor: ``mark_side`` is right half of the time by luck. ``above_chance`` therefore maps
chance to 0 and perfection to 1: (share - chance) / (1 - chance), as Cohen's kappa does (Cohen, 1960, eq. 1). Values are
not stated equally often (bare heads more often than crowns), so a picture that never changes can be right more often
than chance; ``balanced``, the mean over values, is chance for every picture that has nothing to do with the words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from safelight.figurines.attributes import ATTRIBUTES

__all__ = ["Scores", "chance"]


def chance(attribute: str) -> float:
    """How often a blind guess of this attribute is right: one over its number of values."""
    return 1.0 / len(ATTRIBUTES[attribute])


@dataclass(frozen=True)
class Scores:
    """What many checks found.

    Attributes:
        right: (attribute, value) -> figures for which it was stated and right.
        total: (attribute, value) -> figures for which it was stated.
        figures: figures checked.
        wholly: figures of which every stated attribute was right.
    """

    right: Mapping[tuple[str, str], int]
    total: Mapping[tuple[str, str], int]
    figures: int
    wholly: int

    @classmethod
    def of(cls, checked: Iterable[tuple[Mapping[str, str], Mapping[str, bool]]]) -> Scores:
        """Add up (what was stated, what ``checker.check`` answered), one pair per figure."""
        right: Counter[tuple[str, str]] = Counter()
        total: Counter[tuple[str, str]] = Counter()
        figures = wholly = 0
        for stated, answers in checked:
            figures += 1
            wholly += all(answers[name] for name in stated)
            total.update(stated.items())
            right.update((name, value) for name, value in stated.items() if answers[name])
        return cls(dict(right), dict(total), figures, wholly)

    @property
    def attributes(self) -> list[str]:
        """The attributes that were stated at all, in order."""
        return [name for name in ATTRIBUTES if self.stated(name)]

    def stated(self, attribute: str) -> int:
        """Figures for which the attribute was stated."""
        return sum(self.total.get((attribute, value), 0) for value in ATTRIBUTES[attribute])

    def share(self, attribute: str) -> float:
        """Share right, 0 to 1, of the figures for which the attribute was stated."""
        return sum(self.right.get((attribute, v), 0) for v in ATTRIBUTES[attribute]) / max(1, self.stated(attribute))

    def balanced(self, attribute: str) -> float:
        """Mean over the stated values of the share right, 0 to 1: every value counts the same."""
        pairs = [(attribute, v) for v in ATTRIBUTES[attribute] if self.total.get((attribute, v), 0)]
        return sum(self.right.get(pair, 0) / self.total[pair] for pair in pairs) / max(1, len(pairs))

    def above_chance(self, attribute: str) -> float:
        """Share right with chance subtracted: 0 = as good as guessing, 1 = always right, negative = worse."""
        return (self.share(attribute) - chance(attribute)) / (1.0 - chance(attribute))

    @property
    def overall(self) -> float:
        """Share right, 0 to 1, of all stated attributes of all figures."""
        return sum(self.right.values()) / max(1, sum(self.total.values()))

    @property
    def wholly_right(self) -> float:
        """Share, 0 to 1, of figures without a single wrong attribute."""
        return self.wholly / max(1, self.figures)

    def record(self) -> dict[str, object]:
        """Everything as plain numbers for JSON, shares rounded to four digits."""
        attributes = {
            name: {
                "stated": self.stated(name),
                "share": round(self.share(name), 4),
                "balanced": round(self.balanced(name), 4),
                "above_chance": round(self.above_chance(name), 4),
            }
            for name in self.attributes
        }
        return {
            "figures": self.figures,
            "overall": round(self.overall, 4),
            "wholly_right": round(self.wholly_right, 4),
            "attributes": attributes,
        }

    def table(self) -> str:
        """The same for people: one line per attribute, the last two lines for all."""
        lines = [f"{'attribute':<14}{'right':>8}{'chance':>8}{'above':>8}{'stated':>8}"]
        for name in self.attributes:
            shares = f"{self.share(name):>8.1%}{chance(name):>8.1%}{self.above_chance(name):>8.1%}"
            lines.append(f"{name:<14}{shares}{self.stated(name):>8}")
        lines.append(f"{'all':<14}{self.overall:>8.1%}{'':>16}{sum(self.total.values()):>8}")
        lines.append(f"{'wholly right':<14}{self.wholly_right:>8.1%}{'':>16}{self.figures:>8}")
        return "\n".join(lines)
