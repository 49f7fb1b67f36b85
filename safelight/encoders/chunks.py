"""Where a long prompt is cut: rows of as many tokens as an encoder reads, every token with its weight.

A row of 77 has room for 75 between start and end. Sources: the documented behaviour of A1111's web UI ("Infinite prompt
length": chunks of 75, a comma close before the border moves it; ``BREAK``) and of ComfyUI (parts of one weight that are
short are kept whole); compel cuts off what does not fit, as the encoder alone does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from safelight.encoders.prompt import Piece, Sections
from safelight.encoders.tokenizer import ClipTokenizer

COMMA = 20
"""How many tokens A1111 looks back for a comma where a chunk is full."""
SHORT = 8
"""Parts of fewer tokens are kept whole by ComfyUI."""


class Token(NamedTuple):
    """One token of a prompt.

    Attributes:
        id: its number. text: the letters that it was read from.
        weight: how much it counts. piece: place of the piece that it belongs to; begin: where in it the letters begin.
    """

    id: int
    text: str
    weight: float = 1.0
    piece: int = 0
    begin: int = 0


@dataclass(frozen=True)
class Chunk:
    """What an encoder reads at once.

    Attributes:
        tokens: of the prompt; start, end and padding are not among them.
        ids: the whole row. weights: one for each number of the row, 1 for start, end and padding.
        border: why it ends: ``end`` of the prompt, ``full``, ``comma``, ``BREAK``, ``part`` or learned ``word`` (that
            was kept whole).
    """

    tokens: tuple[Token, ...]
    ids: tuple[int, ...]
    weights: tuple[float, ...]
    border: str

    @property
    def weighted(self) -> bool:
        """Whether any token has a weight other than 1."""
        return any(weight != 1.0 for weight in self.weights)


@dataclass(frozen=True)
class Laid:
    """A prompt laid out: at least one chunk, and the end of the text that was cut off."""

    chunks: tuple[Chunk, ...]
    cut: str = ""


def tokens_of(tokenizer: ClipTokenizer, pieces: Iterable[Piece]) -> list[Token]:
    """Every token of these pieces; each piece is read for itself."""
    return [
        Token(number, piece.text[begin:end], piece.weight, place, begin)
        for place, piece in enumerate(pieces)
        for number, begin, end in tokenizer.pieces(piece.text)
    ]


def chunk(tokenizer: ClipTokenizer, tokens: Iterable[Token], border: str) -> Chunk:
    """At most a room full of tokens as a row."""
    tokens = tuple(tokens)
    ids = tokenizer.row([token.id for token in tokens])
    after = len(ids) - len(tokens) - 1
    return Chunk(tokens, ids, (1.0, *(token.weight for token in tokens), *[1.0] * after), border)


def one(tokenizer: ClipTokenizer, sections: Sections) -> Laid:
    """One chunk; what does not fit is cut off."""
    (pieces,) = sections
    tokens = tokens_of(tokenizer, pieces)
    kept, rest = tokens[: tokenizer.room], tokens[tokenizer.room :]
    if not rest:
        return Laid((chunk(tokenizer, kept, "end"),))
    first = rest[0]
    cut = pieces[first.piece].text[first.begin :] + "".join(each.text for each in pieces[first.piece + 1 :])
    return Laid((chunk(tokenizer, kept, "full"),), cut)


def by_comma(tokenizer: ClipTokenizer, sections: Sections) -> Laid:
    """A1111's chunks: full ones, but what follows a comma among the last 20 tokens of a full one goes to the next."""
    comma = tokenizer.comma
    chunks: list[Chunk] = []
    for place, pieces in enumerate(sections):
        run: list[Token] = []
        for token in tokens_of(tokenizer, pieces):
            if len(run) == tokenizer.room:
                # A comma that would itself begin the next chunk is no reason to look for another.
                last = next((at for at in reversed(range(len(run))) if run[at].id == comma), -1)
                near = token.id != comma and last >= 0 and len(run) - last <= COMMA
                border = last + 1 if near else len(run)
                chunks.append(chunk(tokenizer, run[:border], "comma" if border < len(run) else "full"))
                run = run[border:]
            if len(run) + tokenizer.together(token.id) > tokenizer.room:  # a learned word is never cut in two
                chunks.append(chunk(tokenizer, run, "word"))
                run = []
            run.append(token)
        ended = place < len(sections) - 1
        if run or ended or not chunks:
            chunks.append(chunk(tokenizer, run, "BREAK" if ended else "end"))
    return Laid(tuple(chunks))


def by_part(tokenizer: ClipTokenizer, sections: Sections) -> Laid:
    """ComfyUI's chunks: full ones, but a part of one weight with fewer than 8 tokens is never cut in two."""
    (pieces,) = sections
    tokens = tokens_of(tokenizer, pieces)
    chunks: list[Chunk] = []
    run: list[Token] = []
    for _, group in groupby(tokens, key=lambda token: token.piece):
        part = list(group)
        if len(run) + len(part) > tokenizer.room and len(part) < SHORT:
            chunks.append(chunk(tokenizer, run, "part" if len(run) < tokenizer.room else "full"))
            run = []
        run += part
        while len(run) > tokenizer.room:
            chunks.append(chunk(tokenizer, run[: tokenizer.room], "full"))
            run = run[tokenizer.room :]
    return Laid((*chunks, chunk(tokenizer, run, "end")))
