"""Prompts for regions equal the same written with the reference's processors, and obey the laws of a mean."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from safelight.adapters.regions import Coupled, Region, Regions
from safelight.adapters.use import Call
from safelight.errors import ImageError, PromptError, RequestError
from safelight.families.sd.model import Added, UNet
from safelight.generate.request import Request
from safelight.nn.attention import Attention
from safelight.nn.ports import NO_PORTS, Ports
from tests.generate.scenes import PROMPT, pipe
from tests.parity.networks import UNETS, difference, predict_reference, random, unet_inputs, unets

SIDE = 128
"""Pixels, 16 latents of the tiny networks of the reference."""


def area(*box: float, size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    """A white box: left, top, right and bottom as shares of the picture."""
    grey = np.zeros((size[1], size[0]), np.uint8)
    left, top, right, bottom = (round(share * size[place % 2]) for place, share in enumerate(box))
    grey[top:bottom, left:right] = 255
    return Image.fromarray(grey, "L")


LEFT, RIGHT, ALL = area(0, 0, 0.53, 1), area(0.4, 0, 1, 0.7), area(0, 0, 1, 1)


def coupled(asked: dict[str, Any], masks: list[Tensor], base: float) -> Coupled:
    texts = tuple(random(1, 5 + 2 * place, asked["context"].shape[-1], seed=60 + place) for place in range(len(masks)))
    return Coupled(tuple(text.to(asked["x"]) for text in texts), torch.stack(masks)[:, None], base)


def with_regions(ours: UNet, asked: dict[str, Any], aid: Coupled, rows: list[bool], inner: Ports = NO_PORTS) -> Tensor:
    told = {name: asked[name] for name in ("pooled", "times") if name in asked}
    call = Call(asked["x"], asked["t"], None, lambda *_: asked["x"])
    ports = aid.ports(call, torch.tensor(rows), inner)
    with torch.no_grad():
        return ours(asked["x"], asked["t"], asked["context"], added=Added(**told) if told else None, ports=ports)


def pixels(mask: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(mask)).float() / 255


@pytest.mark.parametrize("name", ["sd1", "sd2", "sdxl"])
def test_reading_by_regions_equals_the_same_with_the_references_processors(name: str) -> None:
    ours, theirs = unets(UNETS[name])
    asked = unet_inputs(UNETS[name])
    weights, base = (1.0, 3.0), 0.25
    masks = [weight * pixels(mask) for weight, mask in zip(weights, (LEFT, RIGHT))]
    aid = coupled(asked, masks, base)
    bare = ((masks[0] + masks[1]) == 0).float() + base

    class Processor:
        def __call__(self, attn: Any, hidden: Tensor, encoder_hidden_states: Any = None, **_: Any) -> Tensor:
            side = int(hidden.shape[1] ** 0.5)
            parts = [F.interpolate(each[None, None].double(), (side, side), mode="area").reshape(-1, 1)
                     for each in (bare, *masks)]  # fmt: skip
            texts = [encoder_hidden_states, *(text.expand(len(hidden), -1, -1) for text in aid.texts)]
            outs = [AttnProcessor2_0()(attn, hidden, text) for text in texts]
            return sum(part * out for part, out in zip(parts, outs)) / sum(parts)  # type: ignore[return-value]

    network: Any = theirs
    network.set_attn_processor(
        {each: Processor() if ".attn2." in each else AttnProcessor2_0() for each in network.attn_processors}
    )
    with torch.no_grad():
        wanted = predict_reference(theirs, asked)
    assert difference(with_regions(ours, asked, aid, [True, True]), wanted) <= 1e-9
    plain = with_regions(ours, asked, aid, [False, False])
    assert difference(plain, wanted) > 1e-3


def test_rows_of_strangers_keep_their_bits_and_what_is_read_beside_is_kept() -> None:
    ours, _ = unets(UNETS["sd1"], torch.float32)
    asked = unet_inputs(UNETS["sd1"], torch.float32)

    def more(name: str, layer: Attention, q: Tensor, y: Tensor) -> Tensor:
        return y + 0.5 * q

    for inner in (NO_PORTS, Ports(beside=more)):
        aid = coupled(asked, [pixels(LEFT)], 0.0)
        with torch.no_grad():
            plain = ours(asked["x"], asked["t"], asked["context"], ports=inner)
        both, one = (with_regions(ours, asked, aid, rows, inner) for rows in ([True, True], [False, True]))
        assert torch.equal(one[0], plain[0]) and torch.equal(one[1], both[1]) and not torch.equal(one[1], plain[1])
    alone = with_regions(ours, asked, aid, [True, True])
    assert difference(both, alone) > 1e-4, "what is read beside the text is read by regions too"


def test_shares_sum_to_one_and_overlaps_are_shared_out() -> None:
    masks = torch.stack([1.0 * pixels(LEFT), 3.0 * pixels(RIGHT)])[:, None]
    aid = Coupled((), masks, 0.0)
    fine = aid.shared((SIDE, SIDE), masks.double()).unflatten(1, (SIDE, SIDE))
    assert fine[:, 64, 10].tolist() == [0, 1, 0] and fine[:, 64, 120].tolist() == [0, 0, 1]
    assert fine[:, 10, 60].tolist() == [0, 0.25, 0.75] and fine[:, 127, 127].tolist() == [1, 0, 0]
    for grid in ((16, 16), (5, 3), (1, 1)):
        for base in (0.0, 0.7):
            share = replace(aid, base=base).shared(grid, masks.double())
            torch.testing.assert_close(share.sum(0), torch.ones(grid[0] * grid[1], dtype=torch.float64))
            assert (share >= 0).all()
    based = replace(aid, base=1.0).shared((SIDE, SIDE), masks.double()).unflatten(1, (SIDE, SIDE))
    assert based[:, 10, 60].tolist() == [0.2, 0.2, 0.6]
    hair = torch.zeros(1, 1, SIDE, SIDE)
    hair[..., 5] = 1
    assert 0 < float(Coupled((), hair, 0.0).shared((8, 8), hair)[1, 0]) < 1, "nothing thin is lost"


def drawn(prompt: str, kind: str = "sd1", **fields: Any) -> Tensor:
    (found,) = pipe(kind).draw(Request(prompt, **{"seed": 3, "steps": 3, **fields}))
    return found.latents


def test_a_region_that_covers_all_is_its_prompt() -> None:
    for guidance in (3.0, 1.0):
        over = drawn("a crown", adapters=[Regions((Region(ALL, PROMPT),))], guidance=guidance)
        assert torch.equal(over, drawn(PROMPT, guidance=guidance))
        assert not torch.equal(over, drawn("a crown", guidance=guidance))


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_equal_prompts_everywhere_are_no_regions(kind: str) -> None:
    same = Regions((Region(LEFT, PROMPT), Region(RIGHT, PROMPT, 3.0)), 0.5)
    torch.testing.assert_close(drawn(PROMPT, kind, adapters=[same]), drawn(PROMPT, kind), rtol=1e-3, atol=1e-4)
    other = Regions((Region(LEFT, "a red hat"), Region(RIGHT, PROMPT, 3.0)), 0.5)
    assert difference(drawn(PROMPT, kind, adapters=[other]), drawn(PROMPT, kind)) > 1e-3


def test_regions_may_be_longer_than_the_prompt_and_speak_its_signs() -> None:
    long = "red hat " * 60
    fields: dict[str, Any] = {"emphasis": "a1111", "negative": "green"}
    whole = drawn("a crown", adapters=[Regions((Region(ALL, long + "(crown:1.3)"),))], **fields)
    torch.testing.assert_close(whole, drawn(long + "(crown:1.3)", **fields), rtol=1e-3, atol=1e-4)
    with pytest.raises(PromptError, match="holds for all steps"):
        drawn("a crown", adapters=[Regions((Region(ALL, "[red:green:0.5]"),))], **fields)
    (found,) = pipe().draw(Request("a crown", steps=1, adapters=[Regions((Region(ALL, long),))]))
    assert found.cut and "red hat" in found.cut[0]


def test_an_inversion_reads_its_own_text() -> None:
    fields: dict[str, Any] = {"image": area(0, 0, 1, 0.5, size=(32, 32)).convert("RGB"), "invert": "a person"}
    over = Regions((Region(ALL, "a red hat"),))
    assert torch.equal(drawn("a crown", adapters=[over], **fields), drawn("a red hat", **fields))


@pytest.mark.parametrize(
    ("use", "error", "words"),
    [
        (Regions(()), RequestError, "1 to 16 regions with prompts, not 0"),
        (Regions((Region(ALL, "x"),) * 17), RequestError, "not 17"),
        (Regions((Region(ALL, "x", 0.0),)), RequestError, "above 0 and up to 100, not 0"),
        (Regions((Region(ALL, "x"),), -1.0), RequestError, "between 0 and 100, not -1"),
        (Regions((Region(ALL, "x"),), float("nan")), RequestError, "not nan"),
        (Regions((Region(area(0, 0, 0, 0), "x"),)), ImageError, "has no white"),
        (Regions((Region(ALL, "x\0"),)), PromptError, "no text"),
    ],
)
def test_what_cannot_be_meant_is_refused(use: Regions, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        pipe().settle(Request(PROMPT, adapters=[use]))
    with pytest.raises(RequestError, match="where no region reaches"):
        Regions((Region(ALL, "x"),)).check(pipe("x4").model, (32, 32))
