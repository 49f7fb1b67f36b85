"""What guidance computes is what the reference's guiders compute, in float64; where they differ, a test says how.

Branches are combined as x0 here and as whatever the network says there; with a network that predicts x0 the two are
the same numbers. The reference draws its kernels in float32, which sets that bar.
"""

from __future__ import annotations

import math
from typing import Any

import diffusers.guiders.classifier_free_zero_star_guidance as zero_star
import diffusers.hooks.smoothed_energy_guidance_utils as smoothed
import pytest
import torch
from diffusers import DDIMScheduler, guiders
from diffusers.hooks import LayerSkipConfig, apply_layer_skip
from diffusers.pipelines.deprecated.stable_diffusion_sag import pipeline_stable_diffusion_sag as sag
from torch import Tensor, nn

from safelight.core.guidance import CFG, Guidance, Rescaled, Unguided, begin
from safelight.core.guides.apg import APG
from safelight.core.guides.push import Push
from safelight.core.guides.threshold import Threshold
from safelight.core.guides.zero_star import ZeroStar
from safelight.core.path import vp_scaled_linear
from safelight.families.sd.model import UNet
from safelight.nn.perturb import Perturbation, blurred, ports
from tests.parity.networks import SD1, difference, predict_reference, unet_inputs, unets

LEVEL = vp_scaled_linear().level(600)
X, COND, UNCOND, OTHER = torch.randn(4, 1, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
MIDDLE = "mid_block.attentions.0.transformer_blocks.0"
EXACT, ROUNDED = 1e-12, 1e-6


def ours(rule: Guidance, **more: Tensor) -> Tensor:
    return rule.combine(X, LEVEL, {"cond": COND, "uncond": UNCOND, **more}).x0


def theirs(guider: Any, *branches: Tensor) -> Tensor:
    said: Tensor = guider.forward(*branches).pred
    return said


def test_classifier_free_guidance_with_and_without_rescale() -> None:
    for rescale in (0.0, 0.7):
        guider = guiders.ClassifierFreeGuidance(guidance_scale=7.5, guidance_rescale=rescale)
        assert difference(ours(CFG(7.5, rescale, "x0")), theirs(guider, COND, UNCOND)) < EXACT


@pytest.mark.parametrize("momentum", [0.0, -0.5])
@pytest.mark.parametrize("threshold", [math.inf, 8.0])
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_projected_guidance_through_a_whole_run(eta: float, threshold: float, momentum: float) -> None:
    # Their "original formulation" is the paper's algorithm 1 with w - 1 for the scale; their other form is not the
    # condition at scale 1.
    guider = guiders.AdaptiveProjectedGuidance(
        guidance_scale=6.5,
        eta=eta,
        adaptive_projected_guidance_rescale=0.0 if threshold == math.inf else threshold,
        adaptive_projected_guidance_momentum=momentum or None,
        use_original_formulation=True,
    )
    guider._step = 0
    guider.prepare_inputs({})
    run = begin(APG(7.5, eta, threshold, momentum))
    for cond, uncond in ((COND, UNCOND), (OTHER, UNCOND), (UNCOND, X)):
        got = run.combine(X, LEVEL, {"cond": cond, "uncond": uncond}).x0
        assert difference(got, theirs(guider, cond, uncond)) < EXACT


@pytest.mark.parametrize("name", ["PerturbedAttention", "SkipLayer", "SmoothedEnergy"])
@pytest.mark.parametrize("rescale", [0.0, 0.6])
def test_a_push_away_from_a_worse_network(name: str, rescale: float) -> None:
    word = {"PerturbedAttention": "perturbed", "SkipLayer": "skip_layer", "SmoothedEnergy": "seg"}[name]
    asked = {f"{word}_guidance_scale": 2.8, f"{word}_guidance_layers": [0], "guidance_rescale": rescale}
    guider = getattr(guiders, f"{name}Guidance")(guidance_scale=5.0, **asked)
    rule = Rescaled(Push(CFG(5.0), "worse", 2.8), rescale, "x0")
    assert difference(ours(rule, worse=OTHER), theirs(guider, COND, UNCOND, OTHER)) < EXACT
    alone = getattr(guiders, f"{name}Guidance")(guidance_scale=0.0, use_original_formulation=True, **asked)
    rule = Rescaled(Push(Unguided(), "worse", 2.8), rescale, "x0")
    assert difference(ours(rule, worse=OTHER), theirs(alone, COND, OTHER, OTHER)) < EXACT


def test_autoguidance() -> None:
    guider = guiders.AutoGuidance(guidance_scale=2.5, auto_guidance_layers=[0], dropout=0.5)
    assert difference(ours(Push(Unguided(), "weak", 1.5), weak=OTHER), theirs(guider, COND, OTHER)) < EXACT


def test_cfg_zero_star(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "float", Tensor.double)  # the reference fits in float32
    guider = guiders.ClassifierFreeZeroStarGuidance(guidance_scale=5.0, zero_init_steps=1)
    guider._step = 1
    assert difference(ours(ZeroStar(5.0, "x0")), theirs(guider, COND, UNCOND)) < EXACT
    assert zero_star.cfg_zero_star_scale(COND.flatten(1), UNCOND.flatten(1)).dtype == torch.float64
    guider._step = 0
    assert difference(ours(ZeroStar(5.0, "x0", still=LEVEL.lam)) + 1.0, theirs(guider, COND, UNCOND) + 1.0) < EXACT


def test_dynamic_thresholding() -> None:
    plan = DDIMScheduler(thresholding=True, dynamic_thresholding_ratio=0.9, sample_max_value=1e9)
    wanted = plan._threshold_sample(ours(CFG(7.5)).float())
    assert difference(ours(Threshold(CFG(7.5), 0.9)).float(), wanted) < ROUNDED


@pytest.mark.parametrize("deviation", [0.5, 1.0, 2.5, 10.0])
@pytest.mark.parametrize("edge", [7, 8])
def test_the_blur_of_smoothed_queries(edge: int, deviation: float) -> None:
    queries = torch.randn(2, edge * edge, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    half = math.ceil(6 * deviation) // 2
    picture = queries.transpose(1, 2).unflatten(2, (edge, edge))
    got = blurred(picture, deviation, half).flatten(2).transpose(1, 2)
    # The reference's branches are the wrong way round: it takes the mean where the blur is finite. A threshold of 0
    # leads it to its blur.
    wanted = smoothed._gaussian_blur_2d(queries.clone(), 2 * half + 1, deviation, 0.0)
    assert difference(got, wanted) < ROUNDED
    mean = smoothed._gaussian_blur_2d(queries.clone(), 2 * half + 1, deviation, 9999.9)
    torch.testing.assert_close(mean, queries.mean(dim=1, keepdim=True).expand_as(queries))


def test_the_blur_of_degraded_pictures() -> None:
    assert difference(blurred(X, 1.0, 4), sag.gaussian_blur_2d(X, 9, 1.0)) < ROUNDED


def perturbed(network: UNet, asked: dict[str, Any], change: Perturbation) -> Tensor:
    """The network's answer where row 0 is left alone and row 1 is perturbed."""
    with torch.no_grad():
        given = ports([None, change], asked["x"])
        return network(asked["x"], asked["t"], asked["context"], ports=given)


def changed_in_row_one(network: nn.Module, asked: dict[str, Any], got: Tensor, plain: Tensor, bar: float) -> None:
    with torch.no_grad():
        wanted = predict_reference(network, asked)
    assert difference(got[1:], wanted[1:]) < bar
    assert difference(got[:1], plain[:1]) < 1e-12
    assert difference(wanted[1:], plain[1:]) > 1e-3


def test_a_skipped_block_is_the_one_that_the_reference_skips() -> None:
    mine, other = unets(SD1)
    asked = unet_inputs(SD1)
    with torch.no_grad():
        plain = mine(asked["x"], asked["t"], asked["context"])
    got = perturbed(mine, asked, Perturbation("skip", frozenset({MIDDLE})))
    apply_layer_skip(other, LayerSkipConfig([0], fqn="mid_block.attentions.0.transformer_blocks"))
    changed_in_row_one(other, asked, got, plain, 1e-9)


@pytest.mark.parametrize("blur", [1.5, math.inf])
def test_smoothed_queries_are_those_that_the_reference_smooths(blur: float) -> None:
    mine, other = unets(SD1)
    asked = unet_inputs(SD1)
    with torch.no_grad():
        plain = mine(asked["x"], asked["t"], asked["context"])
    got = perturbed(mine, asked, Perturbation("smooth", frozenset({f"{MIDDLE}.attn1"}), blur))
    size = 2 * (math.ceil(6 * min(blur, 10.0)) // 2) + 1
    threshold = 0.0 if blur < math.inf else math.inf  # see above: their branches are the wrong way round

    def hook(layer: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
        return smoothed._gaussian_blur_2d(out.clone(), size, min(blur, 10.0), threshold)

    other.get_submodule(f"{MIDDLE}.attn1.to_q").register_forward_hook(hook)
    changed_in_row_one(other, asked, got, plain, ROUNDED)
