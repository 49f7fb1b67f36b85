"""The signs of three programs: what each means, that writing and reading agree, and what cannot be meant."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safelight.encoders.compel import compel
from safelight.encoders.emphasis import EMPHASES, emphasis, script
from safelight.encoders.prompt import Piece, Sections, a1111, comfyui, hint, literal
from safelight.errors import PromptError, UnknownNameError
from tests.encoders import written

Weighed = list[tuple[str, float]]
LETTERS = "ab é漢:,.|'\"()[]\\+-1 "


def weighed(sections: Sections) -> list[Weighed]:
    """The pieces with their weights in nine digits."""
    return [[(piece.text, round(piece.weight, 9)) for piece in pieces] for pieces in sections]


A1111: dict[str, Any] = {
    "plain text": [[("plain text", 1.0)]],
    "": [[]],
    "a (cat) sat": [[("a ", 1.0), ("cat", 1.1), (" sat", 1.0)]],
    "a ((cat))": [[("a ", 1.0), ("cat", 1.21)]],
    "[cat]": [[("cat", 0.909090909)]],
    "(a cat:1.5) sat": [[("a cat", 1.5), (" sat", 1.0)]],
    "(a (cat:1.5):2)": [[("a ", 2.0), ("cat", 3.0)]],
    "((cat:0.5))": [[("cat", 0.55)]],
    "[(cat:1.1)]": [[("cat", 1.0)]],
    "(cat: 1.5 )": [[("cat", 1.5)]],
    "(cat:-1)": [[("cat", -1.0)]],
    "(cat:+.5)": [[("cat", 0.5)]],
    "(cat:)": [[("cat:", 1.1)]],
    "(cat:x)": [[("cat:x", 1.1)]],
    "(:1.5)": [[]],
    "cat:1.5": [[("cat:1.5", 1.0)]],
    "cat:1.5) sat": [[("cat:1.5) sat", 1.0)]],
    "[cat:1.5]": [[("cat:1.5", 0.909090909)]],
    "a (cat sat": [[("a ", 1.0), ("cat sat", 1.1)]],
    "a [cat sat": [[("a ", 1.0), ("cat sat", 0.909090909)]],
    "a (cat [sat": [[("a ", 1.0), ("cat ", 1.1), ("sat", 1.0)]],
    "a cat) sat]": [[("a cat) sat]", 1.0)]],
    r"a \(cat\) \[sat\]": [[("a (cat) [sat]", 1.0)]],
    r"(a\):1.5)": [[("a)", 1.5)]],
    r"a\\(b)": [[("a\\", 1.0), ("b", 1.1)]],
    r"a\b\|c": [[("ab|c", 1.0)]],
    "cat\\": [[("cat", 1.0)]],
    "(big)(cat)": [[("bigcat", 1.1)]],
    "a BREAK b": [[("a", 1.0)], [("b", 1.0)]],
    "a BREAK BREAK b": [[("a", 1.0)], [], [("b", 1.0)]],
    "aBREAK BREAKb break": [[("aBREAK BREAKb break", 1.0)]],
    "(a BREAK b:1.5) c": [[("a", 1.5)], [("b", 1.5), (" c", 1.0)]],
}
COMFYUI: dict[str, Any] = {
    "a (cat) sat": [[("a ", 1.0), ("cat", 1.1), (" sat", 1.0)]],
    "((cat))": [[("cat", 1.21)]],
    "(cat:1.5)": [[("cat", 1.5)]],
    "((cat:1.5))": [[("cat", 1.5)]],
    "(a (cat:1.5) sat:2)": [[("a ", 2.0), ("cat", 1.5), (" sat", 2.0)]],
    "(a (cat) sat:2)": [[("a ", 2.0), ("cat", 2.2), (" sat", 2.0)]],
    "(a: cat :1e-1)": [[("a: cat ", 0.1)]],
    "(cat:-1)": [[("cat", -1.0)]],
    "(cat:x)": [[("cat:x", 1.1)]],
    "(:1.5)": [[(":1.5", 1.1)]],
    "(1.5)": [[("1.5", 1.1)]],
    "[cat] BREAK [a:b:0.5]": [[("[cat] BREAK [a:b:0.5]", 1.0)]],
    r"\(cat\) (\(sat:1.5)": [[("(cat) ", 1.0), ("(sat", 1.5)]],
    r"a\b\[c": [[(r"a\b\[c", 1.0)]],
    "(cat sat": [[("(cat sat", 1.0)]],
    "cat) (sat) on": [[("cat) (sat) on", 1.0)]],
    "(a (cat)": [[("a (cat", 1.1)]],
}
COMPEL: dict[str, Any] = {
    "a cat++ sat": [[("a", 1.0), ("cat", 1.21), ("sat", 1.0)]],
    "a cat--": [[("a", 1.0), ("cat", 0.81)]],
    "(a cat)1.5 sat": [[("a cat", 1.5), ("sat", 1.0)]],
    "(a cat)- sat": [[("a cat", 0.9), ("sat", 1.0)]],
    "(a (fat)1.5 cat)2": [[("a", 2.0), ("fat", 3.0), ("cat", 2.0)]],
    '"a cat"+ sat': [[("a cat", 1.1), ("sat", 1.0)]],
    '"a (fat)2 cat"+': [[("a", 1.1), ("fat", 2.2), ("cat", 1.1)]],
    "(a cat) 1.5": [[("a cat 1.5", 1.0)]],
    "(a cat)": [[("a cat", 1.0)]],
    "cat1.5": [[("cat1.5", 1.0)]],
    "a cat+, sat": [[("a", 1.0), ("cat", 1.1), (", sat", 1.0)]],
    "(a,cat)+": [[("a , cat", 1.1)]],
    "a,cat+": [[("a,", 1.0), ("cat", 1.1)]],
    "red-haired+ cat": [[("red-haired", 1.1), ("cat", 1.0)]],
    "a--b": [[("a", 0.81), ("b", 1.0)]],
    "a - b": [[("a - b", 1.0)]],
    "(a - b)+": [[("(a - b)+", 1.0)]],
    "(cat sat+": [[("(cat", 1.0), ("sat", 1.1)]],
    '"cat sat+': [[('"cat', 1.0), ("sat", 1.1)]],
    r"\(cat\)+ sat\+": [[("(cat)", 1.1), ("sat+", 1.0)]],
    "(cat)-0.5": [[("cat", 0.9), ("0.5", 1.0)]],
    "[cat] BREAK (a:1.5)": [[("[cat] BREAK a:1 . 5", 1.0)]],
    "": [[]],
}


@pytest.mark.parametrize(("text", "pieces"), A1111.items(), ids=list(A1111))
def test_a1111s_signs_mean_what_they_mean_there(text: str, pieces: list[Weighed]) -> None:
    assert weighed(a1111(text)) == pieces


@pytest.mark.parametrize(("text", "pieces"), COMFYUI.items(), ids=list(COMFYUI))
def test_comfyuis_signs_mean_what_they_mean_there(text: str, pieces: list[Weighed]) -> None:
    assert weighed(comfyui(text)) == pieces


@pytest.mark.parametrize(("text", "pieces"), COMPEL.items(), ids=list(COMPEL))
def test_compels_signs_mean_what_they_mean_there(text: str, pieces: list[Weighed]) -> None:
    assert weighed(compel(text)) == pieces


def test_nothing_is_a_sign_where_nothing_was_asked_for() -> None:
    text = "(a:1.2) [b] BREAK c++ \\(d\\) [x:y:0.5]"
    assert literal(text) == ((Piece(text, 1.0),),)
    assert script(text, "none", 3) == [text] * 3


PIECES = st.tuples(
    st.text(LETTERS, min_size=1, max_size=8), st.floats(-2, 3, allow_nan=False).map(lambda w: round(w, 3))
)


def pieces_of(raw: list[tuple[str, float]]) -> tuple[Piece, ...]:
    """Neighbours of different weights."""
    pieces = [Piece(text, weight) for text, weight in raw]
    return tuple(each for place, each in enumerate(pieces) if not place or pieces[place - 1].weight != each.weight)


def fit(pieces: tuple[Piece, ...]) -> bool:
    """Whether neighbours still differ once equal ones were left out."""
    return all(a.weight != b.weight for a, b in pairwise(pieces))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(PIECES, max_size=4), min_size=1, max_size=3))
def test_what_is_written_for_a1111_is_read_again(raw: list[list[tuple[str, float]]]) -> None:
    sections = tuple(pieces_of(part) for part in raw)
    if not all(map(fit, sections)):
        return
    found = a1111(written.a1111(sections))
    if len(sections) == 1:
        assert found == sections
    assert [[(each.text.strip(), each.weight) for each in part if each.text.strip()] for part in found] == [
        [(each.text.strip(), each.weight) for each in part if each.text.strip()] for part in sections
    ]
    assert a1111(written.a1111(found)) == found


@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES, max_size=5))
def test_what_is_written_for_comfyui_is_read_again(raw: list[tuple[str, float]]) -> None:
    # A backslash before a bracket cannot be written for ComfyUI, nor a colon and a number at the end of plain brackets.
    pieces = pieces_of([(text.replace("\\", "/"), weight) for text, weight in raw])
    if fit(pieces):
        assert comfyui(written.comfyui((pieces,))) == (pieces,)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.text("ab é漢:", min_size=1, max_size=8), st.floats(0, 3).map(lambda w: round(w, 3))), max_size=5
    )
)
def test_what_is_written_for_compel_is_read_again(raw: list[tuple[str, float]]) -> None:
    pieces = pieces_of([(" ".join(text.split()), weight) for text, weight in raw if text.strip()])
    if fit(pieces):
        assert compel(written.compel(pieces)) == (pieces,)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(EMPHASES)), st.text(LETTERS, max_size=60), st.integers(1, 12))
def test_any_text_is_read_or_refused_in_one_line(name: str, text: str, steps: int) -> None:
    refused = ""
    try:
        for said in script(text, name, steps):
            for pieces in emphasis(name).read(said):
                assert fit(pieces) and (name == "none" or all(piece.text for piece in pieces))
    except PromptError as error:
        refused = str(error)
    assert "\n" not in refused


REFUSED = {
    ("a1111", "(a:nan)"): "cannot be the weight",
    ("a1111", "(a:-inf)"): "cannot be the weight",
    ("a1111", "(a:1.2.3)"): "cannot be the weight",
    ("a1111", "(a:101)"): "at most 100",
    ("a1111", "((a:20):6)"): "120 cannot be the weight",
    ("a1111", "(" * 65 + "a"): "nested deeper than 64",
    ("a1111", "a cat AND a dog"): "write it in lower case",
    ("comfyui", "(a:nan)"): "cannot be the weight",
    ("comfyui", "(a:1e9)"): "at most 100",
    ("comfyui", "(a:-inf)"): "cannot be the weight",
    ("comfyui", "(" * 66 + "a" + ")" * 66): "nested deeper than 64",
    ("compel", "a" + "+" * 99): "cannot be the weight",
    ("compel", "(a)1000.0"): "at most 100",
    ("compel", "((a)50)3"): "150 cannot be the weight",
    ("compel", "(" * 66 + "a"): "nested deeper than 64",
    ("compel", '("a", "b").blend(1, 1)'): "operator of compel's",
    ("compel", "cat.swap(dog)"): "operator of compel's",
}


@pytest.mark.parametrize(("name", "text"), REFUSED, ids=[f"{name} {text[:14]}" for name, text in REFUSED])
def test_what_cannot_be_meant_is_refused(name: str, text: str) -> None:
    with pytest.raises(PromptError, match=REFUSED[name, text]):
        script(text, name, 4)


def test_a_prompt_of_a_hundred_thousand_signs_is_read_at_once() -> None:
    begun = time.perf_counter()
    for name in EMPHASES:
        for text in ("(a) " * 25_000, "a(" * 30 + ")a:" * 30_000, "[a " * 30 + "b+ " * 30_000, "\\" * 100_000):
            script(text, name, 1)
    assert time.perf_counter() - begun < 30, "a second or two where nothing else runs"


def test_an_unknown_emphasis_lists_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="the nearest known: a1111"):
        emphasis("a111")


HINTS = {
    "a (cat:1.2)": "a1111",
    "a ((cat))": "a1111",
    "a [[cat]]": "a1111",
    "[a:b:0.5]": "a1111",
    "[a::3] c": "a1111",
    "[a|b]": "a1111",
    "a BREAK b": "a1111",
    "a cat++": "compel",
    "a cat--, sat": "compel",
    "(a cat)1.2": "compel",
    "(a cat)+": "compel",
    "a cat (sitting)": "",
    "a cat [1]": "",
    r"a \(cat:1.2\)": "",
    "red-haired, at 10:30 - or a:b": "",
    "a cat, 1.2 break": "",
    "f(x) = 2": "",
}


@pytest.mark.parametrize(("text", "name"), HINTS.items(), ids=list(HINTS))
def test_a_prompt_that_seems_weighted_is_noticed_and_plain_text_is_not(text: str, name: str) -> None:
    assert hint(text) == name
