"""Words that a small model was never taught: named before it draws, since it would silently draw something else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from safelight.weights.notes import notes

PROMPTS = (
    "a person with green hair and a red hat",
    "a smiling figurine with round glasses and a blue shirt",
    "a toy with long black hair, wearing a crown, in front of a pink background",
)
"""Three that the default model knows every word of."""


def unknown(folder: Path, texts: Iterable[str], taught: Sequence[str] = ()) -> list[str]:
    """Words in these prompts that the model in ``folder`` does not know, each once; none for models of all English.

    Args:
        taught: words, or some in a row, that adapters taught it.
    """
    if notes(folder).get("vocabulary") != "figurines":
        return []
    from safelight.figurines.captions import unknown_words  # only the model of figurines needs its grammar

    beside = re.compile("|".join(map(re.escape, taught)) or "(?!)", re.IGNORECASE)
    return list(dict.fromkeys(word for text in texts for word in unknown_words(beside.sub(" ", text))))
