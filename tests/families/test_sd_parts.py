"""Folders written by the references load strictly and without conversion; parts of different models are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from safelight.encoders.checkpoints import load_clip_text
from safelight.encoders.vocabulary import save_tokenizer
from safelight.errors import ConfigError, WeightsError
from safelight.families.sd.checkpoints import load_unet
from safelight.families.sd.parts import Parts, read_parts
from safelight.vae.checkpoints import load_kl
from safelight.weights.folder import read_index
from tests.parity.networks import (
    CLIP,
    KL,
    SD1,
    SDXL,
    clip_ids,
    difference,
    predict,
    predict_reference,
    random,
    randomise,
    unet_inputs,
)

SCHEDULER = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}

READS = {"vocab_size": 600, "eos_token_id": 599, "max_position_embeddings": 77}
"""What an encoder needs to read the rows of the tokenizer below."""


def references(xl: bool) -> dict[str, Any]:
    plain = {**CLIP, **READS}
    parts: dict[str, Any] = {
        "unet": diffusers.UNet2DConditionModel(**{**SDXL, "cross_attention_dim": 64} if xl else SD1),
        "vae": diffusers.AutoencoderKL(**KL),
        "text_encoder": transformers.CLIPTextModel(transformers.CLIPTextConfig(**plain)),
    }
    if xl:
        projected = transformers.CLIPTextConfig(**{**plain, "hidden_act": "gelu", "projection_dim": 16})
        parts["text_encoder_2"] = transformers.CLIPTextModelWithProjection(projected)
    for seed, part in enumerate(parts.values()):
        randomise(part, seed)
        part.eval()
    return parts


def write_folder(folder: Path, parts: dict[str, Any], pipeline: str) -> None:
    index: dict[str, Any] = {"_class_name": pipeline, "scheduler": ["diffusers", "DDIMScheduler"]}
    for name, part in parts.items():
        part.save_pretrained(folder / name)
        index[name] = [type(part).__module__.split(".")[0], type(part).__name__]
    for name in ("tokenizer", "tokenizer_2")[: len(parts) - 2]:
        (folder / name).mkdir()
        save_tokenizer(["a", "red", "hat"], folder / name)
        index[name] = ["transformers", "CLIPTokenizer"]
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER))
    (folder / "model_index.json").write_text(json.dumps(index))


@pytest.fixture(scope="module")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder, parts = tmp_path_factory.mktemp("sd1"), references(xl=False)
    write_folder(folder, parts, "StableDiffusionPipeline")
    return folder, parts


@pytest.fixture
def copy(sd1: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    return Path(shutil.copytree(sd1[0], tmp_path / "model"))


def check_equal(loaded: Parts, parts: dict[str, Any], config: dict[str, Any]) -> None:
    asked = unet_inputs(config, torch.float32)
    with torch.no_grad():
        assert difference(predict(loaded.unet, asked), predict_reference(parts["unet"], asked)) <= 1e-5
        latents = random(1, 4, 8, 8, dtype=torch.float32)
        assert difference(loaded.vae.decode(latents), parts["vae"].decode(latents).sample) <= 1e-5
        for number, reader in enumerate(loaded.readers):
            theirs = parts[("text_encoder", "text_encoder_2")[number]](clip_ids(), output_hidden_states=True)
            assert difference(reader.encoder(clip_ids()).hidden[-2], theirs.hidden_states[-2]) <= 1e-5


def test_a_folder_of_the_first_kind_loads_and_draws_the_same(sd1: tuple[Path, dict[str, Any]]) -> None:
    folder, parts = sd1
    loaded = read_parts(read_index(folder))
    check_equal(loaded, parts, SD1)
    assert len(loaded.readers) == 1
    assert loaded.scheduler == SCHEDULER
    assert not any(network.training for network in (loaded.unet, loaded.vae, loaded.readers[0].encoder))
    assert sorted(str(file.relative_to(folder)) for file in loaded.files) == [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/merges.txt",
        "tokenizer/special_tokens_map.json",
        "tokenizer/tokenizer_config.json",
        "tokenizer/vocab.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ]


def test_a_folder_with_two_text_encoders_loads(tmp_path: Path) -> None:
    parts = references(xl=True)
    write_folder(tmp_path, parts, "StableDiffusionXLPipeline")
    loaded = read_parts(read_index(tmp_path))
    check_equal(loaded, parts, {**SDXL, "cross_attention_dim": 64})
    assert [reader.encoder.text_projection is None for reader in loaded.readers] == [True, False]


def test_half_precision_and_shards_load_in_the_dtype_of_the_file(tmp_path: Path) -> None:
    theirs = diffusers.UNet2DConditionModel(**SD1).half()
    theirs.save_pretrained(tmp_path, max_shard_size="500KB", variant="fp16")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    ours = load_unet(tmp_path)
    assert {p.dtype for p in ours.parameters()} == {torch.float16}
    assert all(torch.equal(ours.state_dict()[name], tensor) for name, tensor in theirs.state_dict().items())


def test_an_autoencoder_of_the_oldest_kind_loads(sd1: tuple[Path, dict[str, Any]], copy: Path) -> None:
    file = copy / "vae" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
        weights = {name.replace(f".{new}.", f".{old}."): tensor for name, tensor in weights.items()}
    assert "encoder.mid_block.attentions.0.proj_attn.weight" in weights
    save_file(weights, file)
    loaded = load_kl(copy / "vae")
    assert all(torch.equal(loaded.state_dict()[name], t) for name, t in sd1[1]["vae"].state_dict().items())


def test_a_text_encoder_of_the_released_kind_loads(copy: Path) -> None:
    """With the prefix and the list of positions that the newest library no longer writes."""
    file = copy / "text_encoder" / "model.safetensors"
    weights = {f"text_model.{name}": tensor for name, tensor in load_file(file).items()}
    weights["text_model.embeddings.position_ids"] = torch.arange(16)[None]
    save_file(weights, file)
    assert set(load_clip_text(copy / "text_encoder").state_dict()) == set(weights) - {
        "text_model.embeddings.position_ids"
    }


def test_what_another_library_wrote_is_what_we_would_write(sd1: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = sd1
    loaded = read_parts(read_index(folder))
    for part, network in (("unet", loaded.unet), ("vae", loaded.vae)):
        released = load_file(folder / part / "diffusion_pytorch_model.safetensors")
        assert {name: t.shape for name, t in network.state_dict().items()} == {
            name: t.shape for name, t in released.items()
        }


def edit(path: Path, **change: Any) -> None:
    raw = json.loads(path.read_text())
    path.write_text(json.dumps({**raw, **change}))


def test_parts_that_do_not_belong_together_are_refused(copy: Path) -> None:
    shutil.rmtree(copy / "text_encoder")
    wide = transformers.CLIPTextConfig(**{**CLIP, **READS, "hidden_size": 64})
    transformers.CLIPTextModel(wide).save_pretrained(copy / "text_encoder")
    with pytest.raises(ConfigError, match="reads text of width 32, the text encoders write 64"):
        read_parts(read_index(copy))


def test_a_configuration_that_does_not_fit_its_weights_is_refused_with_the_table(copy: Path) -> None:
    edit(copy / "unet" / "config.json", cross_attention_dim=48)
    with pytest.raises(WeightsError, match=r"unet: the file does not fit UNet: 2\d\d of") as caught:
        read_parts(read_index(copy))
    assert "attn2.to_k.weight is 32×32, not 32×48" in str(caught.value)


@pytest.mark.parametrize("part", ["unet", "vae", "scheduler"])
def test_a_missing_part_is_named(copy: Path, part: str) -> None:
    edit(copy / "model_index.json", **{part: [None, None]})
    with pytest.raises(WeightsError, match=f"names no {part}"):
        read_parts(read_index(copy))


@pytest.mark.parametrize(
    "file",
    [
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
        "tokenizer/merges.txt",
        "scheduler/scheduler_config.json",
    ],
)
def test_a_missing_file_is_named(copy: Path, file: str) -> None:
    (copy / file).unlink()
    with pytest.raises(WeightsError, match="is the model complete") as caught:
        read_parts(read_index(copy))
    assert Path(file).parent.name in str(caught.value)


def test_a_truncated_file_is_named(copy: Path) -> None:
    file = copy / "unet" / "diffusion_pytorch_model.safetensors"
    with file.open("rb+") as handle:
        handle.truncate(file.stat().st_size // 2)
    with pytest.raises(WeightsError, match=r"cut off.*download it again"):
        read_parts(read_index(copy))


def test_a_configuration_of_something_else_names_its_file(copy: Path) -> None:
    edit(copy / "vae" / "config.json", latents_mean=[0.0] * 4)
    with pytest.raises(ConfigError, match=r"vae.config\.json: .*latents_mean"):
        read_parts(read_index(copy))
