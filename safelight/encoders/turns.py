"""Prompts that change from step to step: ``[a:b:0.5]``, ``[a:0.5]``, ``[a::0.5]`` and ``[a|b]``.

Source: the documented behaviour of A1111's web UI ("Prompt editing", "Alternating words"). Steps are counted from 1.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from safelight.encoders.prompt import DEEPEST
from safelight.errors import PromptError

NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
CLOSES = {")": "(", "]": "["}


@dataclass(frozen=True)
class Switch:
    """``before`` for some steps, then ``after``; ``when`` as it was written: with a point a share of the steps."""

    before: Text
    after: Text
    when: str

    def last(self, steps: int) -> int:
        """The last step of ``before``, 0 for none.

        Raises:
            PromptError: it is below 0, or not finite.
        """
        share = float(self.when) * (steps if "." in self.when else 1)
        if not 0.0 <= share < math.inf:
            raise PromptError(
                f"a prompt cannot change at {self.when}; give a step, or with a point a share of the steps such as 0.5"
            )
        return min(steps, int(share))


@dataclass(frozen=True)
class Cycle:
    """One of the texts at every step, in turn."""

    texts: tuple[Text, ...]


Node = str | Switch | Cycle
Text = tuple[Node, ...]


@dataclass
class _Open:
    """A bracket that was opened, and what came since: parts, and the signs between them."""

    bracket: str
    parts: list[list[Node]] = field(default_factory=lambda: [[]])
    signs: list[str] = field(default_factory=list)

    def flat(self) -> list[Node]:
        """Everything as it was written, the opening bracket included."""
        nodes: list[Node] = [self.bracket, *self.parts[0]]
        for sign, part in zip(self.signs, self.parts[1:]):
            nodes += [sign, *part]
        return nodes

    def closed(self) -> list[Node]:
        """What the whole bracket means."""
        texts = tuple(tuple(part) for part in self.parts)
        if self.bracket == "[" and self.signs and set(self.signs) == {"|"}:
            return [Cycle(texts)]
        if self.bracket == "[" and self.signs in ([":"], [":", ":"]) and all(isinstance(n, str) for n in texts[-1]):
            when = "".join(str(node) for node in texts[-1]).strip()
            if NUMBER.fullmatch(when):
                return [Switch(texts[0] if len(texts) == 3 else (), texts[-2], when)]
        return [*self.flat(), ")" if self.bracket == "(" else "]"]


def parse(text: str) -> Text:
    """A prompt as text and what changes in it; brackets that do not pair up, or say nothing of steps, are text.

    Raises:
        PromptError: brackets nested too deep.
    """
    stack = [_Open("")]
    place = 0
    while place < len(text):
        sign, end = text[place], place + 1
        if sign == "\\":
            end += 1
            stack[-1].parts[-1].append(text[place:end])
        elif sign in "([":
            stack.append(_Open(sign))
            if len(stack) > DEEPEST:
                raise PromptError(f"brackets are nested deeper than {DEEPEST}")
        elif sign in CLOSES and stack[-1].bracket == CLOSES[sign]:
            nodes = stack.pop().closed()
            stack[-1].parts[-1] += nodes
        elif sign in CLOSES:
            _dissolve(stack)
            stack[0].parts[-1].append(sign)
        elif sign in ":|" and stack[-1].bracket == "[":
            stack[-1].signs.append(sign)
            stack[-1].parts.append([])
        else:
            stack[-1].parts[-1].append(sign)
        place = end
    _dissolve(stack)
    return _merged(stack[0].parts[0])


def _dissolve(stack: list[_Open]) -> None:
    """Brackets that can no longer be closed are text; what is whole inside them stays what it is."""
    for each in stack[1:]:
        stack[0].parts[-1] += each.flat()
    del stack[1:]


def _merged(nodes: list[Node] | Text) -> Text:
    merged: list[Node] = []
    for node in nodes:
        if isinstance(node, str) and merged and isinstance(merged[-1], str):
            merged[-1] += node
        else:
            merged.append(node)
    return tuple(merged)


def at(text: Text, step: int, steps: int) -> str:
    """What stands at a step, 1 to ``steps``.

    Raises:
        PromptError: a change at a step that cannot be; see `Switch.last`.
    """
    said = []
    for node in text:
        if isinstance(node, Switch):
            last = node.last(steps)
            node = at(node.before if step <= last else node.after, step, steps)
        elif isinstance(node, Cycle):
            node = at(node.texts[(step - 1) % len(node.texts)], step, steps)
        said.append(node)
    return "".join(said)


def turns(text: str, steps: int) -> list[str]:
    """What a prompt says at each of its steps.

    Raises:
        PromptError: see `parse` and `at`.
    """
    parsed = parse(text)
    if all(isinstance(node, str) for node in parsed):
        return [text] * steps
    return [at(parsed, step, steps) for step in range(1, steps + 1)]
