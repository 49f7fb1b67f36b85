"""The tiny autoencoder gives the reference's latents and colours, and its released size."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch

from safelight.errors import ConfigError
from safelight.vae.tiny import AutoencoderTiny, TinyConfig
from safelight.weights.load import Unfilled
from tests.parity.networks import BARS, difference, random, randomise

TINY: dict[str, dict[str, Any]] = {
    "four levels": {
        "encoder_block_out_channels": (16,) * 4,
        "decoder_block_out_channels": (16,) * 4,
    },
    "16 channels, other depths": {
        "latent_channels": 16,
        "encoder_block_out_channels": (8,) * 3,
        "decoder_block_out_channels": (12,) * 3,
        "num_encoder_blocks": (2, 1, 3),
        "num_decoder_blocks": (1, 3, 2),
    },
}


@pytest.mark.parametrize("dtype", BARS)
@pytest.mark.parametrize("name", TINY)
def test_there_and_back(name: str, dtype: torch.dtype) -> None:
    theirs = diffusers.AutoencoderTiny(**TINY[name])
    randomise(theirs)
    ours = AutoencoderTiny(TinyConfig.from_dict(dict(theirs.config)))
    ours.load_state_dict(theirs.state_dict())
    ours, theirs = ours.to(dtype).eval(), theirs.to(dtype).eval()
    picture = random(2, 3, 32, 48, dtype=dtype).clamp(-1, 1)
    latents = 4 * random(2, ours.config.latent_channels, 5, 7, seed=2, dtype=dtype)
    with torch.no_grad():
        assert difference(ours.encode(picture), theirs.encode(picture).latents) < BARS[dtype]
        assert difference(ours.decode(latents), theirs.decode(latents).sample) < BARS[dtype]
        assert ours.decode(latents).shape == (2, 3, 5 * ours.config.stride, 7 * ours.config.stride)


def test_the_released_size() -> None:
    with Unfilled():
        whole = AutoencoderTiny(TinyConfig())
    assert (sum(p.numel() for p in whole.parameters()), len(whole.state_dict())) == (2_445_063, 134)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"_class_name": "AutoencoderKL"}, "AutoencoderTiny is expected"),
        ({"act_fn": "gelu"}, "act_fn"),
        ({"scaling_factor": 0.18215}, "scaling_factor"),
        ({"encoder_block_out_channels": [64, 64, 32, 64]}, "all equal"),
        ({"num_decoder_blocks": [3, 3, 1]}, "equally many"),
        ({"num_decoder_blocks": [3, 3, 3, 10**9]}, "num_decoder_blocks"),
        ({"depth": 3}, "depth"),
    ],
)
def test_another_network_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        TinyConfig.from_dict({"_class_name": "AutoencoderTiny", **change})
