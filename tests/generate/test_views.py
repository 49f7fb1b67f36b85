"""Views are drawn as asked: with a scale for each, and what cannot be is refused before anything is computed."""

from __future__ import annotations

import re

import pytest
import torch

from safelight.errors import SafelightError
from tests.generate.sets import asked, drawn, model


def test_a_scale_for_each_view_is_heard_by_that_view() -> None:
    apart = model(reads="self")  # where no view reads another, so that the scale of one changes it alone
    mixed = drawn(apart, asked(guidance=(2.0, 5.0, 1.0)))
    for view, scale in enumerate((2.0, 5.0, 1.0)):
        torch.testing.assert_close(mixed[:, :, view], drawn(apart, asked(guidance=scale))[:, :, view])
    assert torch.equal(drawn(model(), asked(guidance=(2.0,) * 3)), drawn(model(), asked(guidance=2.0)))
    assert torch.equal(drawn(model(), asked(guidance=[2.0])), drawn(model(), asked(guidance=2.0)))
    assert not torch.equal(drawn(model(), asked(guidance=(2.0, 2.0, 5.0))), drawn(model(), asked(guidance=2.0)))


WRONG: list[tuple[str, dict[str, object], str]] = [
    ("pose", {"guidance": (1.0, 2.0)}, "2 scales of guidance were given for 3 views"),
    ("pose", {"guidance": (1.0, 2.0, -1.0)}, "guidance is a number from 0 to 100, not -1"),
    ("pose", {"guidance": ()}, "0 scales of guidance"),
    ("pose", {"guidance": float("nan")}, "0 to 100, not nan"),
    ("pose", {"steps": 0}, "1 to 1000"),
]


@pytest.mark.parametrize(("kind", "changes", "told"), WRONG)
def test_what_cannot_be_is_refused_before_anything_is_computed(
    kind: str, changes: dict[str, object], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = model(kind)
    for module in of.modules:
        monkeypatch.setattr(type(module), "forward", refused)
    monkeypatch.setattr(type(of.vae), "encode", refused)
    with pytest.raises(SafelightError, match=re.escape(told)):
        drawn(of, asked(**changes))


def refused(*_: object) -> None:
    raise AssertionError("a network was asked")
