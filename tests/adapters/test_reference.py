"""Reference-only attention and style alignment equal the same written with the reference's processors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor
from torch.nn import functional as F

from safelight.adapters.bank import Bank
from safelight.adapters.reference import Reference, coarse
from safelight.adapters.style import Style, aligned
from safelight.adapters.use import Use
from safelight.core.path import Level
from safelight.errors import RequestError
from safelight.nn import perturb
from safelight.nn.perturb import Perturbation
from tests.adapters.reading import LEVELS, noised, twice, with_uses
from tests.generate.scenes import picture, pipe
from tests.parity.networks import UNETS, difference, predict, predict_reference, random, unet_inputs, unets

NETWORKS = ("sd1", "sd2", "sdxl")
SIDES = ("uncond", "cond")
EVERY: list[Use] = [Reference(picture()), Reference(picture(), 0.0, spread=True), Style(picture())]


def banked(fidelity: float) -> Any:
    """The community pipeline's processor; row 0 is led away from."""

    def read(attn: Any, hidden: Tensor, kept: Tensor) -> Tensor:
        both = AttnProcessor2_0()(attn, hidden, torch.cat([hidden, kept], dim=1))
        faithful = both.clone()
        faithful[:1] = AttnProcessor2_0()(attn, hidden)[:1]
        return fidelity * faithful + (1 - fidelity) * both

    return read


@pytest.mark.parametrize("fidelity", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", NETWORKS)
def test_reading_the_reference_equals_the_community_pipeline(name: str, fidelity: float) -> None:
    ours, theirs = unets(UNETS[name])
    asked = unet_inputs(UNETS[name])
    got = with_uses(ours, asked, [Reference(picture(), fidelity)], SIDES)
    assert difference(got, twice(theirs, asked, banked(fidelity))) <= 1e-9
    with torch.no_grad():
        apart = [difference(a, b) for a, b in zip(got, predict(ours, asked))]
    assert apart[1] > 1e-4 and (apart[0] > 1e-4) == (fidelity < 1)


def test_taking_the_spread_equals_the_community_pipeline() -> None:
    config = {**UNETS["sd1"], "block_out_channels": (32, 64, 64), "attention_head_dim": 4}
    config["down_block_types"] = ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D")
    config["up_block_types"] = ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D")
    ours, theirs = unets(config)
    asked, fidelity = unet_inputs(config), 0.3
    kept: dict[Any, tuple[Tensor, Tensor]] = {}

    def hook(module: Any, _: Any, out: Any) -> Any:
        x = out[0] if isinstance(out, tuple) else out
        variance, mean = torch.var_mean(x, dim=(2, 3), keepdim=True, correction=0)
        if module not in kept:
            kept[module] = variance, mean
            return out
        deviation, there = ((each.clamp(min=1e-6)) ** 0.5 for each in (variance, kept[module][0]))
        both = (x - mean) / deviation * there + kept[module][1]
        faithful = both.clone()
        faithful[:1] = x[:1]
        x = fidelity * faithful + (1 - fidelity) * both
        return (x,) if isinstance(out, tuple) else x

    modules: Any = theirs
    deep = [(modules.down_blocks, 2), (modules.up_blocks, 0), (modules.up_blocks, 1)]
    stages = [layer for blocks, at in deep for layer in getattr(blocks[at], "attentions", blocks[at].resnets)]
    for stage in (modules.mid_block, *stages):
        stage.register_forward_hook(hook)
    for attention in (True, False):
        kept.clear()
        if attention:
            wanted = twice(theirs, asked, banked(fidelity))
        else:
            modules.set_attn_processor(AttnProcessor2_0())
            with torch.no_grad():
                predict_reference(theirs, noised(asked))
                wanted = predict_reference(theirs, asked)
        got = with_uses(ours, asked, [Reference(picture(), fidelity, attention, spread=True)], SIDES)
        assert difference(got, wanted) <= 1e-9
    assert len(stages) == 2 + 3 + 3


def test_the_coarser_half_takes_the_spread() -> None:
    names = [f"{way}.{n}.0" for way in ("down_blocks", "up_blocks") for n in range(4)] + ["mid_block.0"]
    wanted = {"down_blocks.2.0", "down_blocks.3.0", "mid_block.0", "up_blocks.0.0", "up_blocks.1.0", "up_blocks.2.0"}
    assert coarse(dict.fromkeys(names)) == wanted


def shared(attn: Any, hidden: Tensor, kept: Tensor) -> Tensor:
    """The paper's layer, head by head, with the reference in the place of the first of the batch."""

    def moments(y: Tensor) -> tuple[Tensor, Tensor]:
        return y.mean(dim=-2, keepdim=True), (y.var(dim=-2, keepdim=True) + 1e-5).sqrt()

    def like(y: Tensor, there: Tensor) -> Tensor:
        (mean, deviation), (mean_there, deviation_there) = moments(y), moments(there)
        return (y - mean) / deviation * deviation_there + mean_there

    q, k, v, q_there, k_there, v_there = (
        project(y).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
        for y in (hidden, kept)
        for project in (attn.to_q, attn.to_k, attn.to_v)
    )
    keys, values = torch.cat([like(k, k_there), k_there], dim=-2), torch.cat([v, v_there], dim=-2)
    out = F.scaled_dot_product_attention(like(q, q_there), keys, values)
    return attn.to_out[0](out.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("name", NETWORKS)
def test_style_alignment_equals_the_papers_layer(name: str) -> None:
    ours, theirs = unets(UNETS[name])
    asked = unet_inputs(UNETS[name])
    assert difference(with_uses(ours, asked, [Style(picture())], SIDES), twice(theirs, asked, shared)) <= 1e-9


def test_what_is_aligned_has_the_spread_that_it_is_aligned_to() -> None:
    x, there = 3 * random(2, 50, 4, seed=1) + 2, random(2, 30, 4, seed=2)
    found = aligned(x, there)
    torch.testing.assert_close(found.mean(1), there.mean(1))
    torch.testing.assert_close(found.std(1), there.std(1), rtol=1e-4, atol=0)
    torch.testing.assert_close(aligned(there, there), there)
    assert aligned(x[:, :1], there[:, :1]).isfinite().all()


@pytest.mark.parametrize("use", EVERY, ids=["reference", "spread", "style"])
def test_rows_of_strangers_keep_their_bits(use: Use) -> None:
    ours, _ = unets(UNETS["sd1"], torch.float32)
    asked = unet_inputs(UNETS["sd1"], torch.float32)
    plain = with_uses(ours, asked, [], SIDES)
    both = with_uses(ours, asked, [use], ("cond", "cond"))
    for mine in (0, 1):
        sides = ["cond" if row == mine else None for row in (0, 1)]
        one = with_uses(ours, asked, [use], sides)
        assert torch.equal(one[1 - mine], plain[1 - mine]) and torch.equal(one[mine], both[mine])
        assert not torch.equal(one[mine], plain[mine])


@pytest.mark.parametrize("use", EVERY, ids=["reference", "spread", "style"])
@pytest.mark.parametrize("kind", ["identity", "smooth"])
def test_perturbed_layers_stay_perturbed(use: Use, kind: str) -> None:
    """A layer whose tokens read themselves alone reads no reference; blurred queries read it too."""
    ours, _ = unets(UNETS["sd1"])
    asked = unet_inputs(UNETS["sd1"])
    layers = frozenset(layer.name for layer in ours.modules() if getattr(layer, "name", "").endswith("attn1"))
    worse = perturb.ports([Perturbation(kind, layers)] * 2, asked["x"])
    alone = with_uses(ours, asked, [], SIDES, worse)
    found = with_uses(ours, asked, [use], ("cond", "cond"), worse)
    only_attention = use in (EVERY[0], EVERY[2])
    assert torch.equal(found, alone) == (kind == "identity" and only_attention)


def test_the_reference_is_as_noisy_as_each_row_and_its_noise_is_the_pictures() -> None:
    latents = random(1, 4, 8, 8, dtype=torch.float32)
    bank, other = Bank(latents, 7), Bank(latents, 8)
    one, two = bank.noisy(LEVELS, latents).split(1)
    assert torch.equal(bank.noisy(LEVELS[::-1], latents), torch.cat([two, one]))
    assert torch.equal(bank.noisy((LEVELS[0],) * 3, latents), one.repeat(3, 1, 1, 1))
    assert not torch.equal(one, other.noisy(LEVELS[:1], latents))
    clean, noise = Level(1.0, 0.0, 0.0), Level(0.0, 1.0, 999.0)
    assert torch.equal(bank.noisy((clean,), latents), latents)
    assert abs(float(bank.noisy((noise,), latents).std()) - 1) < 0.2
    assert bank.noisy((clean,), latents.double()).dtype == torch.float64


def test_both_sides_of_the_guidance_share_one_look_at_the_reference() -> None:
    ours, _ = unets(UNETS["sd1"], torch.float32)
    asked, calls = unet_inputs(UNETS["sd1"], torch.float32), []
    ours.register_forward_pre_hook(lambda *_: calls.append(1))
    for use in EVERY:
        calls.clear()
        with_uses(ours, asked, [use], SIDES)
        assert len(calls) == 2


def test_numbers_that_cannot_be_meant_are_refused() -> None:
    for fidelity in (-0.1, 1.1, float("nan")):
        with pytest.raises(RequestError, match="between 0 and 1"):
            Reference(picture(), fidelity).check(pipe().model, (32, 32))
    with pytest.raises(RequestError, match="does nothing"):
        Reference(picture(), attention=False).check(pipe().model, (32, 32))
