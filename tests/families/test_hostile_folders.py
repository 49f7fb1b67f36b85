"""Whatever a model's configurations say, it loads, or a ConfigError names the key: nothing fails while drawing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safelight.encoders.clip import ClipTextConfig
from safelight.errors import ConfigError
from safelight.families.sd.model import UNetConfig
from safelight.families.sd.scheduler import read
from safelight.generate.pipe import load
from safelight.vae.kl import KLConfig
from safelight.weights.notes import notes
from tests.models import scheduler, tiny, write_tiny

UNET, KL, TEXT = UNetConfig.from_dict, KLConfig.from_dict, ClipTextConfig.from_dict
HUGE = 10**9
WRONG: list[tuple[Callable[[dict[str, Any]], object], str, Any]] = [
    (UNET, "block_out_channels", 320),
    (UNET, "block_out_channels", [320, "640"]),
    (UNET, "block_out_channels", [320] * 99),
    (UNET, "layers_per_block", HUGE),
    (UNET, "transformer_layers_per_block", HUGE),
    (UNET, "cross_attention_dim", 10**12),
    (UNET, "sample_size", 0),
    (UNET, "use_linear_projection", "yes"),
    (UNET, "freq_shift", True),
    (UNET, "num_class_embeds", -1),
    (UNET, "time_cond_proj_dim", 0),
    (UNET, "freq_shift", float("nan")),
    (KL, "scaling_factor", "0.18"),
    (KL, "scaling_factor", 0),
    (KL, "layers_per_block", HUGE),
    (KL, "down_block_types", "DownEncoderBlock2D"),
    (TEXT, "num_hidden_layers", HUGE),
    (TEXT, "hidden_act", {"gelu": 1}),
    (TEXT, "layer_norm_eps", [1e-5]),
    (TEXT, "architectures", 5),
]


@pytest.mark.parametrize(("reader", "key", "value"), WRONG, ids=[f"{key} {str(value)[:20]}" for _, key, value in WRONG])
def test_a_value_of_another_type_or_beyond_every_network_is_refused(
    reader: Callable[[dict[str, Any]], object], key: str, value: Any
) -> None:
    with pytest.raises(ConfigError, match="CLIPTextModel is expected" if key == "architectures" else key):
        reader({key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("_class_name", []),
        ("timestep_spacing", []),
        ("prediction_type", {}),
        ("beta_schedule", []),
        ("num_train_timesteps", HUGE),
        ("num_train_timesteps", 1000.5),
        ("trained_betas", "many"),
        ("steps_offset", -1),
        ("set_alpha_to_one", "false"),
        ("clip_sample", True),
        ("clip_sample", None),
        ("sigma_min", 0),
        ("sigma_min", 1e7),
        ("sigma_max", -1),
        ("sigma_max", 1e308),
    ],
)
def test_a_scheduler_of_wrong_types_or_with_clipped_latents_is_refused(key: str, value: Any) -> None:
    config = {**scheduler(), key: value}
    if value is None:  # absent, which means true to that class
        del config[key]
    with pytest.raises(ConfigError, match=f"scheduler_config.json.*({key}|names)"):
        read(config)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("preview", [[1, 2]]),
        ("preview", [[1, 2, "3"]]),
        ("defaults", []),
        ("defaults", {"steps": "x"}),
        ("defaults", {"steps": 0}),
        ("defaults", {"guidance": None}),
        ("camera", {"azimuth": "left"}),
        ("card", 1),
    ],
)
def test_notes_of_wrong_types_are_refused(key: str, value: Any, tmp_path: Path) -> None:
    (tmp_path / "safelight.json").write_text(json.dumps({key: value}))
    with pytest.raises(ConfigError, match=rf"safelight.json: {key} cannot be"):
        notes(tmp_path)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny(), tmp_path / "model"))


def edit(path: Path, **change: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **change}))


def test_a_tokenizer_of_another_encoder_is_refused(copy: Path) -> None:
    vocab = json.loads((copy / "tokenizer/vocab.json").read_text("utf-8"))
    edit(copy / "tokenizer/vocab.json", unheard=max(vocab.values()) + 1)
    with pytest.raises(ConfigError, match=rf"numbers up to {len(vocab)}; the encoder reads 77 below {len(vocab)}"):
        load(str(copy), device="cpu", threads=1)


def test_a_tokenizer_of_longer_rows_is_refused(copy: Path) -> None:
    edit(copy / "tokenizer/tokenizer_config.json", model_max_length=78)
    with pytest.raises(ConfigError, match="writes 78 numbers"):
        load(str(copy), device="cpu", threads=1)


def test_merges_without_end_are_not_read(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safelight.weights.folder.MAX_TEXT", 10_000)
    with (copy / "tokenizer/merges.txt").open("a") as file:
        file.write("a b\n" * 9000)
    with pytest.raises(Exception, match=r"merges\.txt: larger than"):
        load(str(copy), device="cpu", threads=1)


def test_a_preview_of_another_autoencoder_is_refused(copy: Path) -> None:
    edit(copy / "safelight.json", preview=[[0, 0, 0]] * 3)
    with pytest.raises(ConfigError, match="the preview has 3 rows, not 5"):
        load(str(copy), device="cpu", threads=1)


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("sd1", {"out_channels": 12}, "writes 12 channels"),
        ("sdxl", {"projection_class_embeddings_input_dim": 12 + 4 * 4}, "a refiner's four and a score are 32"),
        ("depth", {"in_channels": 6}, "reads 6 channels; known are 4"),
        ("x4", {"num_class_embeds": None}, "reads 7 channels; known are"),
    ],
)
def test_a_network_that_is_told_or_says_something_else_is_refused_at_load(
    kind: str, change: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests import models

    monkeypatch.setitem(models.UNETS, kind, {**models.UNETS[kind], **change})
    write_tiny(tmp_path / "model", kind)
    with pytest.raises(ConfigError, match=words):
        load(str(tmp_path / "model"), device="cpu", threads=1)
