"""Make a tokenizer for a small language: every given word one token, everything else still spelled in bytes.

The vocabulary is laid out as CLIP's: 256 bytes, 256 bytes that end a word, what the merges make, start and end. Source:
Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units", algorithm 1.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from tokenizers.pre_tokenizers import ByteLevel

from safelight.encoders.tokenizer import END, LENGTH, START, laid_out
from safelight.weights.save import write

Pair = tuple[str, str]


def vocabulary(words: Iterable[str]) -> tuple[dict[str, int], list[Pair]]:
    """Learn byte pairs until every word is one piece: (piece -> number, merges in order).

    Each word counts once; ties are broken by spelling, so that equal words give equal numbers.

    Args:
        words: in lower case, without spaces; anything that the tokenizer leaves in one piece before byte pairs.
    """
    spellings = {word: _bytes(word) for word in sorted(set(words)) if word}
    merges: list[Pair] = []
    while True:
        counts = Counter(pair for spelling in spellings.values() for pair in pairwise(spelling))
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        spellings = {word: _joined(spelling, best) for word, spelling in spellings.items()}
    return laid_out(merges), merges


def save_tokenizer(words: Iterable[str], folder: str | os.PathLike[str]) -> None:
    """Write a released tokenizer folder (``vocab.json``, ``merges.txt`` and two tables) for the words.

    Raises:
        FileError: the folder cannot be written to.
    """
    vocab, merges = vocabulary(words)
    folder = Path(folder)
    roles = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    config = {**roles, "model_max_length": LENGTH, "do_lower_case": True, "tokenizer_class": "CLIPTokenizer"}
    texts = {
        "vocab.json": json.dumps(vocab, ensure_ascii=False),
        "merges.txt": "".join(f"{line}\n" for line in ["#version: 0.2", *(" ".join(pair) for pair in merges)]),
        "special_tokens_map.json": json.dumps(roles, indent=2),
        "tokenizer_config.json": json.dumps(config, indent=2),
    }
    for name, text in texts.items():
        write(folder / name, [text.encode()])


def _bytes(word: str) -> list[str]:
    """A word as the letters that stand for its bytes, the last one marked as ending it."""
    letters = list(
        "".join(piece for piece, _ in ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(word))
    )
    return [*letters[:-1], letters[-1] + "</w>"]


def _joined(spelling: list[str], pair: Pair) -> list[str]:
    """The spelling with every occurrence of the pair made one, left to right."""
    out: list[str] = []
    for piece in spelling:
        if out and (out[-1], piece) == pair:
            out[-1] += piece
        else:
            out.append(piece)
    return out
