"""Files of the released sizes load strictly through the whole loader; one name or shape changed, and they do not.

The files have real headers and holes for numbers, so they take no room and no time.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from safelight.encoders.vocabulary import save_tokenizer
from safelight.errors import ConfigError, SafelightError, WeightsError
from safelight.evaluate.hollow import single, write_file
from safelight.families.sd import shape
from safelight.families.sd.convert import to_folder
from safelight.families.sd.kunet import KUNet, KUNetConfig
from safelight.families.sd.model import UNet, UNetConfig
from safelight.families.sd.scheduler import read as plan_of
from safelight.families.sd.single import read_single, single_index, understand
from safelight.vae.kl import KLConfig
from safelight.weights.folder import Index
from safelight.weights.keys import Shape
from safelight.weights.load import check, unfilled
from safelight.weights.variants import expected, tables_of

SD = tables_of("sd")
TRIES = 12


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words")
    save_tokenizer(("a", "person"), folder)
    return folder


@pytest.mark.parametrize(("name", "channels"), [("sd1", 4), ("sd1", 9), ("sd2", 4), ("sd2", 5), ("x4", 7), ("sdxl", 4)])
def test_a_single_file_of_the_released_size_loads_strictly(
    name: str, channels: int, tmp_path: Path, vocabulary: Path
) -> None:
    path = write_file(tmp_path / "m.safetensors", single(name, channels))
    parts = read_single(single_index(path, False, (vocabulary,)))
    assert parts.unet.config.in_channels == channels
    assert parts.unet.conv_in.weight.dtype == torch.float16, "the format of the file is kept"
    count = sum(p.numel() for p in parts.unet.parameters())
    stored = expected(SD.folder)[SD.variant(name).expected["unet"]]
    more = channels - stored["conv_in.weight"][1]
    assert count - more * 9 * 320 == sum(torch.Size(size).numel() for size in stored.values())


def test_the_refiner_fits_its_network() -> None:
    stored = expected(SD.folder)["unet-refiner"]
    config = shape.unet(stored, SD.variant("sdxl-refiner").config["unet"])
    net = unfilled(config, lambda raw: UNet(UNetConfig.from_dict(raw)))
    check("UNet", net.state_dict(), {name: torch.empty(size, device="meta") for name, size in stored.items()})


def test_a_network_that_is_told_the_scale_of_guidance_loads_from_a_file_that_says_nothing(
    tmp_path: Path, vocabulary: Path
) -> None:
    rows = single("sd1") | {"model.diffusion_model.time_embed.cond_proj.weight": (320, 256)}
    index = single_index(write_file(tmp_path / "m.safetensors", rows), False, (vocabulary,))
    parts = read_single(index)
    assert index.pipeline == "LatentConsistencyModelPipeline"
    assert parts.unet.config.time_cond_proj_dim == 256
    assert plan_of(parts.scheduler).sampler == "lcm_boundary"


def test_an_upscaler_that_says_nothing_has_the_facts_of_its_training(tmp_path: Path, vocabulary: Path) -> None:
    """As configs/stable-diffusion/x4-upscaling.yaml of Stability-AI/stablediffusion has them."""
    index = single_index(write_file(tmp_path / "m.safetensors", single("x4")), False, (vocabulary,))
    parts = read_single(index)
    assert index.pipeline == "StableDiffusionUpscalePipeline" and index.settings["max_noise_level"] == 350
    for told in (parts.scheduler, parts.low_res):
        assert told and (told["beta_schedule"], told["beta_start"], told["beta_end"]) == ("scaled_linear", 0.0001, 0.02)
    assert plan_of(parts.scheduler).prediction == "v"
    assert parts.vae.config.scaling_factor == 0.08333
    assert parts.unet.config.num_class_embeds == 1000
    assert parts.unet.config.only_cross_attention == (False, True, True, False), "of the finest level there is none"


def test_the_latent_upscaler_fits_its_network() -> None:
    stored = expected(SD.folder)["unet-x2"]
    config = shape.unet(stored, SD.variant("x2").config["unet"])
    net = unfilled(config, lambda raw: KUNet(KUNetConfig.from_dict(raw)))
    check("KUNet", net.state_dict(), {name: torch.empty(size, device="meta") for name, size in stored.items()})


def test_a_file_of_two_models_parts_is_not_made_a_folder(tmp_path: Path, vocabulary: Path) -> None:
    rows = single("sd1") | {"first_stage_model.decoder.conv_in.weight": (512, 16, 3, 3)}
    told = understand(write_file(tmp_path / "m.safetensors", rows))
    with pytest.raises(WeightsError, match=r"vae: the file does not fit AutoencoderKL"):
        to_folder(told, tmp_path / "out", Index(told.path, "", {}, {}, tokenizers=(vocabulary,)))
    assert [each.name for each in tmp_path.iterdir()] == ["m.safetensors"]


def renamed(rows: dict[str, Shape], name: str) -> None:
    rows[f"{name[:-2]}z{name[-1]}"] = rows.pop(name)


def reshaped(rows: dict[str, Shape], name: str) -> None:
    rows[name] = (*rows[name][:-1], rows[name][-1] + 1)


def turned(rows: dict[str, Shape], name: str) -> None:
    rows[name] = (1, *rows[name])


def removed(rows: dict[str, Shape], name: str) -> None:
    del rows[name]


@pytest.mark.parametrize(("kind", "tries"), [("sd1", TRIES), ("x4", 2)])
@pytest.mark.parametrize("change", [renamed, reshaped, turned, removed])
def test_one_name_or_shape_changed_is_always_refused(
    change: Callable[[dict[str, Shape], str], None], kind: str, tries: int, tmp_path: Path, vocabulary: Path
) -> None:
    good = single(kind)
    chosen = random.Random(change.__name__).sample(sorted(good), tries)
    for name in chosen:
        rows = dict(good)
        change(rows, name)
        path = write_file(tmp_path / "m.safetensors", rows)
        with pytest.raises(SafelightError):
            read_single(single_index(path, False, (vocabulary,)))


def test_a_header_that_asks_for_a_hundred_thousand_blocks_is_refused_at_once(tmp_path: Path, vocabulary: Path) -> None:
    rows = single("sd1")
    for block in (1, 4, 7):
        for depth in range(1, 256):
            rows[f"model.diffusion_model.input_blocks.{block}.1.transformer_blocks.{depth}.norm1.bias"] = (320,)
    path = write_file(tmp_path / "m.safetensors", rows)
    begun = time.process_time()
    with pytest.raises(ConfigError, match="at most 512"):
        read_single(single_index(path, False, (vocabulary,)))
    assert time.process_time() - begun < 1


def test_a_small_header_that_asks_for_very_many_rules_is_answered_at_once() -> None:
    names = [f"u_net.d_blocks.{d}.1.main.2.weight" for d in range(64)]
    names += [f"u_net.d_blocks.0.{n}.main.2.weight" for n in range(1, 65)]
    begun = time.process_time()
    plan = SD.keys.parts["kunet"].to_ours(dict.fromkeys(names))
    assert plan.left, "levels and layers beyond any network's belong to nothing"
    assert time.process_time() - begun < 1


@pytest.mark.parametrize(
    ("build", "raw"),
    [
        (UNetConfig, {"layers_per_block": 256}),
        (UNetConfig, {"transformer_layers_per_block": 200}),
        (KLConfig, {"layers_per_block": 255}),
        (KLConfig, {"block_out_channels": [32] * 16, "layers_per_block": 17}),
    ],
)
def test_a_configuration_that_asks_for_too_many_layers_is_refused(build: Any, raw: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"blocks in all|layers in all"):
        build.from_dict(raw)
