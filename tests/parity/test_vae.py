"""The autoencoder equals diffusers' on tiny random weights; its latents are scaled as the configuration says."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from safelight.errors import ConfigError, RequestError
from safelight.vae.checkpoints import today
from safelight.vae.kl import AutoencoderKL, Gaussian, KLConfig
from safelight.vae.latent import LatentSpec
from tests.parity.networks import BARS, KL, VAES, difference, random, vaes


@pytest.mark.parametrize("dtype", BARS, ids=str)
@pytest.mark.parametrize("name", VAES)
def test_moments_and_pictures_equal_the_reference(name: str, dtype: torch.dtype) -> None:
    ours, theirs = vaes(VAES[name], dtype)
    picture = random(2, 3, 16, 24, dtype=dtype)
    latents = random(2, ours.config.latent_channels, 8, 12, dtype=dtype)
    with torch.no_grad():
        got, wanted = ours.encode(picture), theirs.encode(picture).latent_dist
        assert difference(got.mean, wanted.mean) <= BARS[dtype]
        assert difference(got.logvar, wanted.logvar) <= BARS[dtype]
        assert difference(ours.decode(latents), theirs.decode(latents).sample) <= BARS[dtype]


@pytest.mark.parametrize("name", VAES)
def test_names_and_shapes_are_the_released_ones_both_ways(name: str) -> None:
    ours, theirs = vaes(VAES[name])
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}


def test_a_draw_and_its_divergence_equal_the_reference() -> None:
    ours, theirs = vaes(KL)
    picture = random(2, 3, 16, 16)
    with torch.no_grad():
        got, wanted = ours.encode(picture), theirs.encode(picture).latent_dist
        noise = torch.randn(got.mean.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        theirs_drawn = wanted.sample(torch.Generator().manual_seed(3))
        assert difference(got.sample(noise), theirs_drawn) <= 1e-9
        assert difference(got.kl(), wanted.kl()) <= 1e-9
        assert torch.equal(got.mode(), got.mean)


def test_extreme_variances_stay_finite() -> None:
    ours, _ = vaes(KL)
    with torch.no_grad():
        ours.quant_conv.bias[4:] = torch.tensor([1e4, -1e4, 1e4, -1e4])  # type: ignore[union-attr]
        gaussian = ours.encode(random(1, 3, 16, 16))
    assert gaussian.logvar.max() == 20
    assert gaussian.logvar.min() == -30
    assert gaussian.sample(torch.ones_like(gaussian.mean)).isfinite().all()


def test_every_parameter_learns_on_a_fresh_network() -> None:
    torch.manual_seed(0)
    network = AutoencoderKL(KLConfig.from_dict(KL))
    picture = random(1, 3, 16, 16, dtype=torch.float32)
    rebuilt, gaussian = network(picture, random(1, 4, 8, 8, dtype=torch.float32))
    ((rebuilt - picture).square().mean() + 1e-6 * gaussian.kl().mean()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert sum(float(p.grad.abs().sum()) == 0 for p in network.parameters() if p.grad is not None) == 0


def test_the_divergence_of_a_unit_normal_is_zero() -> None:
    zeros = torch.zeros(2, 4, 3, 3)
    assert torch.equal(Gaussian(zeros, zeros).kl(), torch.zeros(2))


def test_names_of_the_oldest_files_are_translated() -> None:
    stem = "decoder.mid_block.attentions.0"
    assert today(f"{stem}.query.weight") == f"{stem}.to_q.weight"
    assert today(f"{stem}.proj_attn.bias") == f"{stem}.to_out.0.bias"
    assert today(f"{stem}.group_norm.bias") == f"{stem}.group_norm.bias"
    assert today("encoder.conv_in.weight") == "encoder.conv_in.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latents_mean": [0.0] * 4}, "latents_mean"),
        ({"_class_name": "AutoencoderTiny"}, "AutoencoderTiny"),
        ({"down_block_types": ("AttnDownEncoderBlock2D", "DownEncoderBlock2D")}, "AttnDownEncoderBlock2D"),
        ({"latent_channel": 4}, "did you mean 'latent_channels'"),
        ({"norm_num_groups": 7}, "norm_num_groups"),
    ],
)
def test_a_configuration_of_another_network_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        KLConfig.from_dict({**KL, **change})


# Latents


def test_the_oldest_configurations_mean_the_oldest_scale() -> None:
    assert KLConfig.from_dict({}).latent() == LatentSpec(channels=4, stride=8, scale=0.18215, shift=0.0)


def test_scaling_is_undone_and_shifts_before_it_multiplies() -> None:
    spec = KLConfig.from_dict(VAES["16 channels without quantisation"]).latent()
    z = random(1, 16, 2, 2)
    assert difference(spec.scaled(z), (z - 0.1159) * 0.3611) <= 1e-12
    assert difference(spec.unscaled(spec.scaled(z)), z) <= 1e-12


def test_sizes_that_are_no_multiples_are_refused_with_the_nearest() -> None:
    spec = LatentSpec(4, 8, 1.0)
    assert spec.shape(512, 384) == (4, 48, 64)
    with pytest.raises(RequestError, match=r"width 100 .* 96 and 104"):
        spec.shape(100, 64)
    with pytest.raises(RequestError, match="height 0"):
        spec.shape(64, 0)


def test_a_preview_is_the_linear_map_it_was_given() -> None:
    rows = ((0.5, 0.0, 0.0), (0.0, 0.25, 0.0), (0.1, 0.2, 2.0))
    spec = LatentSpec(2, 8, 1.0, preview=rows)
    got = spec.picture(torch.tensor([[[[1.0]], [[-2.0]]]]))
    assert got is not None
    assert torch.allclose(got[0, :, 0, 0], torch.tensor([0.6, -0.3, 1.0]))
    assert LatentSpec(2, 8, 1.0).picture(torch.zeros(1, 2, 1, 1)) is None
