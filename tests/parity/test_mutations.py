"""The parity tests have teeth: each mistake that ports really make turns them red.

Every mutation is applied to our side only, on the smallest configuration that shows it, and must exceed the float64 bar
a thousand times over, or a hundred times where an epsilon is all that changed. One test asserts that the comparisons
are green without a mutation; those of whole pipelines are in ``test_pipelines``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from safelight.core.path import Level
from safelight.encoders import clip
from safelight.families.sd import model, scheduler
from safelight.generate import answer
from safelight.generate.request import Request
from safelight.nn import mlp
from safelight.nn.resnet import Downsample
from tests.parity.networks import (
    BARS,
    CLIPS,
    KL,
    SD1,
    SD2,
    clip_ids,
    clips,
    difference,
    predict,
    predict_reference,
    random,
    unet_inputs,
    unets,
    vaes,
)
from tests.parity.pipelines import config_of, latents, ours, reference, start

BAR = BARS[torch.float64]
Patch = pytest.MonkeyPatch


def unet_error(config: dict[str, Any], mutate: Callable[[nn.Module], None] = lambda network: None) -> float:
    ours, theirs = unets(config)
    mutate(ours)
    asked = unet_inputs(config)
    with torch.no_grad():
        return difference(predict(ours, asked), predict_reference(theirs, asked))


def vae_error(mutate: Callable[[nn.Module], None] = lambda network: None) -> float:
    ours, theirs = vaes(KL)
    mutate(ours)
    picture, latents = random(1, 3, 16, 16), random(1, 4, 8, 8)
    with torch.no_grad():
        encoded = difference(ours.encode(picture).mean, theirs.encode(picture).latent_dist.mean)
        return max(encoded, difference(ours.decode(latents), theirs.decode(latents).sample))


def clip_error(name: str, layer: int = -2) -> float:
    ours, theirs = clips(CLIPS[name])
    with torch.no_grad():
        return difference(
            ours(clip_ids()).hidden[layer], theirs(clip_ids(), output_hidden_states=True).hidden_states[-2]
        )


def group_norms(frm: float, to: float) -> Callable[[nn.Module], None]:
    def mutate(network: nn.Module) -> None:
        changed = [layer for layer in network.modules() if isinstance(layer, nn.GroupNorm) and layer.eps == frm]
        assert changed
        for layer in changed:
            layer.eps = to

    return mutate


def test_the_comparisons_are_green_without_a_mutation() -> None:
    assert max(unet_error(SD1), unet_error(SD2), vae_error(), *(clip_error(name) for name in CLIPS)) <= BAR


def test_heads_read_as_width_of_a_head(monkeypatch: Patch) -> None:
    right = model.UNetConfig.transformer

    def wrong(config: model.UNetConfig, level: int, *, middle: bool = False) -> Any:
        shape = right(config, level, middle=middle)
        return replace(shape, heads=config.block_out_channels[level] // shape.heads)

    monkeypatch.setattr(model.UNetConfig, "transformer", wrong)
    assert unet_error(SD1) > 1e3 * BAR


def test_heads_of_one_level_used_for_all(monkeypatch: Patch) -> None:
    right = model.UNetConfig.transformer
    monkeypatch.setattr(
        model.UNetConfig,
        "transformer",
        lambda c, level, *, middle=False: replace(right(c, level, middle=middle), heads=2),
    )
    assert unet_error(SD2) > 1e3 * BAR


def test_tanh_gelu_for_the_exact_one_in_the_unet(monkeypatch: Patch) -> None:
    monkeypatch.setattr(mlp, "gelu", mlp.gelu_tanh)
    assert unet_error(SD1) > 1e3 * BAR


@pytest.mark.parametrize(
    ("name", "own", "other"),
    [
        ("OpenCLIP-H", "gelu", "gelu_new"),
        ("OpenCLIP-H", "gelu", "quick_gelu"),
        ("ViT-L", "quick_gelu", "gelu"),
    ],
)
def test_one_gelu_for_another_in_the_text_encoder(monkeypatch: Patch, name: str, own: str, other: str) -> None:
    monkeypatch.setitem(mlp.ACTIVATIONS, own, mlp.ACTIVATIONS[other])
    assert clip_error(name) > 1e3 * BAR


@pytest.mark.parametrize(("frm", "to"), [(1e-5, 1e-6), (1e-6, 1e-5)], ids=["residual blocks", "transformers"])
def test_another_epsilon_in_the_unets_normalisations(frm: float, to: float) -> None:
    assert unet_error(SD1, group_norms(frm, to)) > 1e2 * BAR


def test_the_unets_epsilon_in_the_autoencoder() -> None:
    assert vae_error(group_norms(1e-6, 1e-5)) > 1e2 * BAR


def test_sines_before_cosines(monkeypatch: Patch) -> None:
    right = model.sinusoid

    def wrong(t: Tensor, width: int, *, cosine_first: bool, shift: float) -> Tensor:
        return right(t, width, cosine_first=not cosine_first, shift=shift)

    monkeypatch.setattr(model, "sinusoid", wrong)
    assert unet_error(SD1) > 1e3 * BAR


def test_the_last_layer_for_the_penultimate() -> None:
    assert clip_error("OpenCLIP-bigG", layer=-1) > 1e3 * BAR


def test_the_causal_mask_dropped(monkeypatch: Patch) -> None:
    right = clip.attend
    monkeypatch.setattr(clip, "attend", lambda q, k, v, *, mask, causal: right(q, k, v))
    assert clip_error("ViT-L") > 1e3 * BAR


@pytest.mark.parametrize("part", ["quant_conv", "post_quant_conv"])
def test_the_quantisation_convolutions_dropped(part: str) -> None:
    assert vae_error(lambda network: setattr(network, part, None)) > 1e3 * BAR


def test_the_asymmetric_pad_made_symmetric() -> None:
    def mutate(network: nn.Module) -> None:
        for layer in network.modules():
            if isinstance(layer, Downsample):
                layer.asymmetric, layer.conv.padding = False, (1, 1)

    assert vae_error(mutate) > 1e3 * BAR


def test_two_skip_connections_swapped(monkeypatch: Patch) -> None:
    right = model.UpBlock.forward

    def wrong(block: model.UpBlock, x: Tensor, skips: list[Tensor], *rest: Any) -> Tensor:
        if skips[-1].shape == skips[-2].shape:
            skips = [*skips[:-2], skips[-1], skips[-2]]
        return right(block, x, skips, *rest)

    monkeypatch.setattr(model.UpBlock, "forward", wrong)
    assert unet_error(SD1) > 1e3 * BAR


def test_the_gate_and_the_value_swapped(monkeypatch: Patch) -> None:
    def wrong(layer: mlp.GEGLU, x: Tensor) -> Tensor:
        gate, value = layer.proj(x).chunk(2, dim=-1)
        return value * mlp.gelu(gate)

    monkeypatch.setattr(mlp.GEGLU, "forward", wrong)
    assert unet_error(SD1) > 1e3 * BAR


def test_the_time_forgotten_by_the_residual_blocks(monkeypatch: Patch) -> None:
    right = model.ResnetBlock.forward
    monkeypatch.setattr(model.ResnetBlock, "forward", lambda block, x, time: right(block, x, None))
    assert unet_error(SD1) > 1e3 * BAR


def drawing_error(kind: str) -> float:
    """Our latents of one short run against those of the reference's pipeline, as ``test_pipelines`` compares them."""
    config = config_of(kind, "DDIMScheduler")
    drawn = latents(ours(kind, config), Request("a red hat", steps=4, guidance=1.0, seed=3))
    pipe = reference("StableDiffusionPipeline", kind, config)
    wanted = pipe("a red hat", num_inference_steps=4, guidance_scale=1.0, latents=start(3), output_type="latent").images
    return difference(drawn, wanted)


@pytest.mark.parametrize("kind", ["sd1", "sd2"])
def test_the_drawings_are_green_without_a_mutation(kind: str) -> None:
    assert drawing_error(kind) <= BAR


def test_the_sign_of_v_flipped(monkeypatch: Patch) -> None:
    right = answer.denoised_rows

    def wrong(kind: str, x: Tensor, out: Tensor, levels: list[Level]) -> Tensor:
        return right(kind, x, -out, levels)

    monkeypatch.setattr(answer, "denoised_rows", wrong)
    assert drawing_error("sd2") > 1e3 * BAR


def test_the_steps_offset_ignored(monkeypatch: Patch) -> None:
    right = scheduler.leading_positions
    monkeypatch.setattr(scheduler, "leading_positions", lambda steps, n, offset, spare: right(steps, n, 0, spare))
    assert drawing_error("sd1") > 1e3 * BAR
