"""Where long prompts are cut, for a tokenizer of few words with the usual 77 numbers in a row."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safelight.encoders.chunks import Laid, Token
from safelight.encoders.emphasis import lay
from safelight.encoders.tokenizer import ClipTokenizer
from safelight.errors import PromptError
from tests.models import tiny

ROOM = 75


@cache
def tokenizer(part: str = "tokenizer", kind: str = "sd1") -> ClipTokenizer:
    """Every word of the tests is one token."""
    return ClipTokenizer.from_folder(tiny(kind) / part)


def laid(text: str, name: str) -> Laid:
    found = lay(tokenizer(), text, name)
    for chunk in found.chunks:
        ids = tokenizer().row([token.id for token in chunk.tokens])
        assert chunk.ids == ids and len(ids) == len(chunk.weights) == ROOM + 2
        assert [chunk.weights[place] for place in (0, len(chunk.tokens) + 1, ROOM + 1)] == [1.0] * 3
        assert list(chunk.weights[1 : len(chunk.tokens) + 1]) == [token.weight for token in chunk.tokens]
    return found


def borders(text: str, name: str) -> list[tuple[int, str]]:
    """How many tokens each chunk has, and why it ends."""
    return [(len(chunk.tokens), chunk.border) for chunk in laid(text, name).chunks]


def said(tokens: tuple[Token, ...]) -> str:
    return " ".join(token.text for token in tokens)


@pytest.mark.parametrize("name", ["none", "compel"])
def test_what_does_not_fit_is_cut_and_told(name: str) -> None:
    text = "red " * 74 + "hat and a, crown"
    found = laid(text, name)
    assert borders(text, name) == [(75, "full")]
    assert found.chunks[0].tokens[-1].text == "hat" and found.cut == "and a, crown"
    assert laid("red " * 75, name).cut == "" and borders("red " * 75, name) == [(75, "end")]
    assert borders("", name) == [(0, "end")]


def test_plain_prompts_are_laid_out_as_the_tokenizer_does() -> None:
    for text in ("", "a red hat", "red " * 80, "(red:1.2) [hat] BREAK", "ein Hütchen漢字  \n x"):
        tokens, found = tokenizer().encode(text), laid(text, "none")
        assert (found.chunks[0].ids, found.cut) == (tokens.ids, tokens.cut)
        assert not found.chunks[0].weighted


def test_the_part_that_is_cut_may_begin_within_weights() -> None:
    assert laid("red " * 74 + "(a green crown)1.5 and a hat", "compel").cut == "green crownand a hat"


COMMAS = {
    "no comma": ("red " * 80, [(75, "full"), (5, "end")]),
    "just full": ("red " * 75, [(75, "end")]),
    "a comma near": ("red " * 60 + ", " + "hat " * 20, [(61, "comma"), (20, "end")]),
    "the comma is the last": ("red " * 74 + ", " + "hat " * 5, [(75, "full"), (5, "end")]),
    "the comma is 20 back": ("red " * 55 + ", " + "hat " * 20, [(56, "comma"), (20, "end")]),
    "the comma is 21 back": ("red " * 54 + ", " + "hat " * 22, [(75, "full"), (2, "end")]),
    "the nearest of two": ("red " * 60 + ", hat , " + "hat " * 20, [(63, "comma"), (20, "end")]),
    "a comma begins the next": ("red " * 60 + ", " + "hat " * 14 + ", a", [(75, "full"), (2, "end")]),
    "BREAK": ("red BREAK hat", [(1, "BREAK"), (1, "end")]),
    "BREAK where it is full": ("red " * 75 + "BREAK hat", [(75, "BREAK"), (1, "end")]),
    "BREAK forgets commas": ("red , BREAK " + "hat " * 76, [(2, "BREAK"), (75, "full"), (1, "end")]),
    "BREAK first and last": ("BREAK red BREAK", [(0, "BREAK"), (1, "BREAK")]),
    "BREAK twice": ("red BREAK BREAK hat", [(1, "BREAK"), (0, "BREAK"), (1, "end")]),
    "twice full": ("red " * 60 + ", " + "hat " * 74 + "a " * 20, [(61, "comma"), (75, "full"), (19, "end")]),
    "empty": ("", [(0, "end")]),
}


@pytest.mark.parametrize(("text", "wanted"), COMMAS.values(), ids=list(COMMAS))
def test_a1111_cuts_at_a_near_comma(text: str, wanted: list[tuple[int, str]]) -> None:
    assert borders(text, "a1111") == wanted


PARTS = {
    "no weights": ("red " * 80, [(75, "full"), (5, "end")]),
    "a short part is kept whole": ("red " * 72 + "(a green hat and crown:1.2)", [(72, "part"), (5, "end")]),
    "one of 7 tokens": ("red " * 70 + "(a a a a a a a:1.2)", [(70, "part"), (7, "end")]),
    "one of 8 tokens is cut": ("red " * 70 + "(a a a a a a a a:1.2)", [(75, "full"), (3, "end")]),
    "it just fits": ("red " * 68 + "(a a a a a a a:1.2)", [(75, "end")]),
    "it is full already": ("red " * 75 + "(a:1.2)", [(75, "full"), (1, "end")]),
    "commas and BREAK are text": ("red " * 60 + ", " + "hat " * 20 + "BREAK", [(75, "full"), (6 + 5, "end")]),
    "empty": ("", [(0, "end")]),
}


@pytest.mark.parametrize(("text", "wanted"), PARTS.values(), ids=list(PARTS))
def test_comfyui_keeps_short_parts_whole(text: str, wanted: list[tuple[int, str]]) -> None:
    letters = len(tokenizer().pieces("break"))
    wanted = [(count + letters - 5 if count == 11 else count, why) for count, why in wanted]
    assert borders(text, "comfyui") == wanted


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["a1111", "comfyui"]),
    st.lists(st.sampled_from(["red", ",", "(hat:1.2)", "crown", "(a a a, a a:2)"])),
)
def test_long_prompts_lose_nothing_and_every_chunk_fits(name: str, words: list[str]) -> None:
    text = " ".join(words * 9)
    found = laid(text, name)
    tokens = [token for chunk in found.chunks for token in chunk.tokens]
    plain = text.replace("(", "").replace(":1.2)", "").replace(":2)", "")
    assert [token.id for token in tokens] == [number for number, _, _ in tokenizer().pieces(plain)]
    assert all(len(chunk.tokens) <= ROOM for chunk in found.chunks) and found.cut == ""
    weights = {"hat": 1.2, "a": 2.0, "red": 1.0, "crown": 1.0}
    assert all(token.weight == weights.get(token.text, token.weight) for token in tokens)


def test_a_weight_counts_for_every_token_of_its_piece() -> None:
    (chunk,) = laid("a (red hat:1.5) and [green] hair", "a1111").chunks
    assert [(t.text, round(t.weight, 6)) for t in chunk.tokens] == [
        *[("a", 1.0), ("red", 1.5), ("hat", 1.5), ("and", 1.0), ("green", 0.909091), ("hair", 1.0)]
    ]
    assert said(chunk.tokens) == "a red hat and green hair"


def test_endless_prompts_are_refused() -> None:
    assert len(lay(tokenizer(), "red " * 75 * 128, "a1111").chunks) == 128
    for name in ("a1111", "comfyui"):
        with pytest.raises(PromptError, match="takes 129 chunks of 75 tokens; 128 are the most"):
            lay(tokenizer(), "red " * (75 * 128 + 1), name)
