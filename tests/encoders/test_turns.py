"""Prompts that change from step to step."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safelight.encoders.turns import turns
from safelight.errors import PromptError

AT_TEN: dict[str, dict[int, str]] = {  # step -> what stands there from then on
    "a cat": {1: "a cat"},
    "a [cat:dog:0.5]": {1: "a cat", 6: "a dog"},
    "a [cat:dog:.25]": {1: "a cat", 3: "a dog"},
    "a [cat:dog:3]": {1: "a cat", 4: "a dog"},
    "a [cat:dog: 3 ]": {1: "a cat", 4: "a dog"},
    "a [cat:dog:0]": {1: "a dog"},
    "a [cat:dog:0.0]": {1: "a dog"},
    "a [cat:dog:1]": {1: "a cat", 2: "a dog"},
    "a [cat:dog:1.0]": {1: "a cat"},
    "a [cat:dog:30]": {1: "a cat"},
    "a [cat:0.5]": {1: "a ", 6: "a cat"},
    "a [cat::0.5]": {1: "a cat", 6: "a "},
    "a [:cat:5]": {1: "a ", 6: "a cat"},
    "[[cat:dog:2]:bird:5]": {1: "cat", 3: "dog", 6: "bird"},
    "[cat:[dog:bird:7]:5]": {1: "cat", 6: "dog", 8: "bird"},
    "([a:b:5]:1.2)": {1: "(a:1.2)", 6: "(b:1.2)"},
    "[(a:2):b:5]": {1: "(a:2)", 6: "b"},
    "[a [b] c:d:5]": {1: "a [b] c", 6: "d"},
    "[cat]": {1: "[cat]"},
    "[0.5]": {1: "[0.5]"},
    "[cat:dog]": {1: "[cat:dog]"},
    "[a:b:c:0.5]": {1: "[a:b:c:0.5]"},
    "[cat:dog:0.5": {1: "[cat:dog:0.5"},
    "x [y [cat:dog:5]": {1: "x [y cat", 6: "x [y dog"},
    "((a][:b [c:3]": {1: "((a][:b ", 4: "((a][:b c"},
    "[(a]:b:5]": {1: "[(a]:b:5]"},
    "a:b|c": {1: "a:b|c"},
    "[a:b:5|c]": {1: "[a:b:5|c]"},
    r"\[a:b:5\]": {1: r"\[a:b:5\]"},
    r"[a\:b:c:5]": {1: r"a\:b", 6: "c"},
    "[(a:b):c:5]": {1: "(a:b)", 6: "c"},
}


@pytest.mark.parametrize(("text", "said"), AT_TEN.items(), ids=list(AT_TEN))
def test_brackets_change_at_their_step_of_ten(text: str, said: dict[int, str]) -> None:
    wanted = [said[max(step for step in said if step <= now)] for now in range(1, 11)]
    assert turns(text, 10) == wanted


def test_words_take_turns_step_by_step() -> None:
    assert turns("a [cat|dog|bird]", 7) == ["a cat", "a dog", "a bird"] * 2 + ["a cat"]
    assert turns("[a|]", 3) == ["a", "", "a"]
    assert turns("[(a|b)|c]", 2) == ["(a|b)", "c"]
    assert turns("[[a|b]|c]", 4) == ["a", "c", "a", "c"], "the inner one turns with the steps as well"


def test_a_share_is_of_the_steps_that_there_are() -> None:
    for steps in (1, 2, 7, 20, 50):
        said = turns("[a:b:0.29]", steps)
        assert said.count("a") == int(0.29 * steps) and said == sorted(said)


@pytest.mark.parametrize("when", ["-1", "-0.5", "1e999", "-.5"])
def test_a_change_at_no_step_is_refused(when: str) -> None:
    with pytest.raises(PromptError, match="give a step, or with a point a share"):
        turns(f"[a:b:{when}]", 10)


def test_brackets_nested_without_end_are_refused() -> None:
    with pytest.raises(PromptError, match="nested deeper than 64"):
        turns("[" * 100, 4)


@settings(max_examples=300, deadline=None)
@given(st.text("ab[]():|\\ .15", max_size=40), st.integers(1, 9))
def test_any_text_has_something_to_say_at_every_step(text: str, steps: int) -> None:
    said = turns(text, steps)
    assert len(said) == steps
    if "[" not in text:
        assert said == [text] * steps
    assert all(set(each) <= set(text) for each in said)


NODES = st.recursive(
    st.text("ab ", min_size=1, max_size=3),
    lambda inner: st.one_of(
        st.tuples(st.lists(inner, max_size=2), st.lists(inner, max_size=2), st.integers(0, 9)),
        st.lists(st.lists(inner, max_size=2), min_size=2, max_size=3),
    ),
    max_leaves=8,
)


def write(node: object) -> str:
    if isinstance(node, str):
        return node
    if isinstance(node, tuple):
        before, after, when = node
        return f"[{''.join(map(write, before))}:{''.join(map(write, after))}:{when}]"
    assert isinstance(node, list)
    return "[" + "|".join("".join(map(write, text)) for text in node) + "]"


def at(node: object, step: int) -> str:
    """What stands at a step, found without the parser."""
    if isinstance(node, str):
        return node
    if isinstance(node, tuple):
        before, after, when = node
        return "".join(at(each, step) for each in (before if step <= when else after))
    assert isinstance(node, list)
    return "".join(at(each, step) for each in node[(step - 1) % len(node)])


@settings(max_examples=300, deadline=None)
@given(st.lists(NODES, max_size=3))
def test_what_is_written_is_read_again(nodes: list[object]) -> None:
    text = "".join(map(write, nodes))
    assert turns(text, 9) == ["".join(at(node, step) for node in nodes) for step in range(1, 10)]
