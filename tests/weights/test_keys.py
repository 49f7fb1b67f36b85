"""Names are translated by tables that run both ways, and whatever a table does not know is told."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from safelight.weights.keys import Move, Plan, Table
from safelight.weights.moves import to_ours, to_theirs
from safelight.weights.variants import expected, tables_of

SD = tables_of("sd")
STORED = expected(SD.folder)
PARTS = [
    ("unet", "unet-sd1"),
    ("unet", "unet-sd2"),
    ("unet", "unet-sdxl"),
    ("unet", "unet-refiner"),
    ("unet", "unet-x4"),
    ("kunet", "unet-x2"),
    ("vae", "vae-x4"),
    ("controlnet", "controlnet-sd1"),
    ("controlnet", "controlnet-sd2"),
    ("controlnet", "controlnet-sdxl"),
    ("vae", "vae"),
    ("clip", "clip-l"),
    ("openclip", "clip-h"),
    ("openclip", "clip-g"),
]


def there(part: str, stored: str) -> Plan:
    return SD.keys.parts[part].to_theirs(STORED[stored])


@pytest.mark.parametrize(("part", "stored"), PARTS)
def test_every_name_of_a_released_model_goes_there_and_comes_back(part: str, stored: str) -> None:
    plan = there(part, stored)
    assert plan.left == ()
    theirs = [move.theirs for move in plan.moves]
    assert len(set(theirs)) == len(theirs)
    back = SD.keys.parts[part].to_ours(theirs)
    assert back.left == back.unread == ()
    assert sorted(name for move in back.moves for name in move.ours) == sorted(STORED[stored])
    assert set(back.moves) == set(plan.moves)


@pytest.mark.parametrize(("part", "stored"), PARTS)
def test_a_name_changed_by_one_letter_never_becomes_another(part: str, stored: str) -> None:
    """Over a dozen names: the changed one is left over, or keeps its strange name for the network to refuse."""
    theirs = [move.theirs for move in there(part, stored).moves]
    for place in range(0, len(theirs), len(theirs) // 12):
        name = theirs[place]
        changed = name[:-3] + ("x" if name[-3] != "x" else "y") + name[-2:]
        plan = SD.keys.parts[part].to_ours([*theirs[:place], changed, *theirs[place + 1 :]])
        ours = {each for move in plan.moves for each in move.ours}
        assert changed in plan.left or ours - STORED[stored].keys(), changed
        assert not STORED[stored].keys() <= ours


def test_an_upsampler_under_the_number_of_another_level_is_left_over() -> None:
    theirs = [move.theirs for move in there("unet", "unet-sd1").moves]
    moved = [name.replace("output_blocks.5.2.conv", "output_blocks.5.1.conv") for name in theirs]
    plan = SD.keys.parts["unet"].to_ours(moved)
    assert set(plan.left) == {"output_blocks.5.1.conv.weight", "output_blocks.5.1.conv.bias"}


TABLE: dict[str, Any] = {
    "marker": "x",
    "unread": ["count", "loss.*"],
    "count": {"n": {"theirs": {"last": "b.{n-1}.w"}, "ours": {"last": "a.{n-1}.w"}}},
    "rules": [
        {"ours": "a.{i}.w", "theirs": "b.{n-1-i}.w", "over": {"i": "n"}},
        {"ours": ["q", "k", "v"], "theirs": "qkv", "how": "split"},
        {"ours": "t", "theirs": "t_turned", "how": "transpose"},
        {"ours": "c", "theirs": "c_conv", "how": "conv"},
        {"ours": ["x", "y"], "theirs": "xy", "how": "split_conv"},
        {"ours": "l", "theirs": "l_column", "how": "column"},
        {"ours": "s", "theirs": "s_swapped", "how": "swap"},
        {"ours": "g", "theirs": "group", "of": "inner"},
    ],
}
OURS = {
    **{f"a.{i}.w": torch.full((1,), i) for i in range(3)},
    **{name: torch.randn(2, 3) for name in "qkvtcxyl"},
    "s": torch.arange(4.0),
    "g.one": torch.ones(1),
}


def test_every_kind_of_move_runs_both_ways() -> None:
    table = Table(TABLE, {"inner": [["one", "first"]]})
    plan = table.to_theirs(OURS)
    theirs = to_theirs(OURS, plan.moves)
    made = ["qkv", "t_turned", "c_conv", "xy", "l_column", "s_swapped", "group.first"]
    assert list(theirs) == ["b.2.w", "b.1.w", "b.0.w", *made]
    assert int(theirs["b.2.w"]) == 0
    assert torch.equal(theirs["qkv"], torch.cat([OURS["q"], OURS["k"], OURS["v"]]))
    assert torch.equal(theirs["xy"][:, :, 0, 0], torch.cat([OURS["x"], OURS["y"]]))
    assert theirs["xy"].shape == (4, 3, 1, 1) and theirs["l_column"].shape == (2, 3, 1)
    assert theirs["t_turned"].shape == (3, 2) and theirs["c_conv"].shape == (2, 3, 1, 1)
    assert theirs["s_swapped"].tolist() == [2, 3, 0, 1]
    for move in plan.moves:
        assert move.their_shape(tuple(OURS[move.ours[0]].shape)) == tuple(theirs[move.theirs].shape)
        assert move.our_shape(tuple(theirs[move.theirs].shape)) == tuple(OURS[move.ours[0]].shape)
    back = table.to_ours([*theirs, "count", "loss.a", "junk"])
    assert back.unread == ("count", "loss.a") and back.left == ("junk",)
    again = to_ours(theirs, back.moves)
    assert again.keys() == OURS.keys() and all(torch.equal(again[name], OURS[name]) for name in OURS)


IMPOSSIBLE = [("split", (4, 2)), ("split", ()), ("conv", (2, 3)), ("conv", (2, 3, 3, 3)), ("swap", (3,))]
IMPOSSIBLE += [("split_conv", (6, 2)), ("split_conv", (4, 2, 1, 1)), ("column", (3, 2)), ("column", ())]


@pytest.mark.parametrize(("how", "shape"), IMPOSSIBLE)
def test_a_shape_that_cannot_be_is_told(how: str, shape: tuple[int, ...]) -> None:
    assert Move(("q", "k", "v"), "x", how).our_shape(shape) is None


def test_a_part_of_what_belongs_together_is_left_over() -> None:
    table = Table(TABLE, {"inner": []})
    assert table.to_theirs(["q", "k"]).left == ("q", "k")
