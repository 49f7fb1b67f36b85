"""Tiny released folders of MVDream, ImageDream, Wonder3D, Era3D and FaceLift: networks of references, and encoders."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from safelight.encoders.clip import ClipText, ClipTextConfig
from safelight.encoders.clip_vision import ClipVision, ClipVisionConfig
from safelight.encoders.tokenizer import ClipTokenizer
from safelight.multiview import model
from safelight.multiview.presets import Preset, preset
from safelight.multiview.unclip import Normalizer
from safelight.weights.save import save
from tests.models import EDGE, randomise, tiny
from tests.parity import domains, views
from tests.variations import PIXELS, VISION

DOMAINS = ("wonder3d", "era3d", "era3d-ortho", "facelift")
"""Those whose references stand in `tests.parity.domains`."""


@cache
def reference(name: str) -> views.Reference | domains.Reference:
    """The stock network with attention processors; never change it."""
    return domains.reference(name) if name in DOMAINS else views.Reference(views.tiny(name))


@cache
def dream(name: str) -> Path:
    """The folder of a preset; never change it, copy it."""
    folder = tiny("sd1").with_name(name)
    shutil.copytree(tiny("sd1"), folder)
    for part in ("unet", "text_encoder", "model_index.json"):
        shutil.rmtree(folder / part) if (folder / part).is_dir() else (folder / part).unlink()
    network = reference(name)
    unet = domains.fork(network.told) if name in DOMAINS else {"_class_name": "UNet2DConditionModel"}
    config = unet if name in DOMAINS else {**unet, **views.config(network.told)}
    written(folder / "unet", config, "diffusion_pytorch_model.safetensors", network.tensors())
    if "text" in network.told.inputs:
        _text(folder)
    else:
        shutil.rmtree(folder / "tokenizer")
    if network.told.pictured:
        _image(folder, network.told)
    if network.told.picture == "time":
        _noising(folder, network.told.hidden)
    plan = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    plan |= {"prediction_type": network.told.prediction}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(plan), encoding="utf-8")
    notes = {"views": name, "changes": {"size": EDGE}}
    (folder / "safelight.json").write_text(json.dumps(notes), encoding="utf-8")
    return folder


def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let folders have the tiny sizes of the references, which are none of the released ones."""

    def tiny_of(name: str) -> Preset:
        known = preset(name)
        return domains.tiny(name) if name in DOMAINS else views.tiny(name) if known.layout == "dense" else known

    monkeypatch.setattr(model, "preset", tiny_of)


def written(folder: Path, config: dict[str, Any], file: str, tensors: dict[str, Any]) -> None:
    """One part of a folder."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save(tensors, folder / file)


def _text(folder: Path) -> None:
    end = ClipTokenizer.from_folder(folder / "tokenizer").end
    special = {"bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end}
    sizes = {"hidden_size": views.TEXT, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    network = ClipText(ClipTextConfig(vocab_size=end + 1, hidden_act="gelu", **sizes, **special))
    config = {key: value for key, value in asdict(network.config).items() if key != "projection"}
    _network(folder / "text_encoder", network, {"architectures": ["CLIPTextModel"], **config})


def _image(folder: Path, told: Preset) -> None:
    projected = told.hidden if told.picture == "time" else views.TEXT
    width = {"hidden_size": views.HIDDEN} if told.tokens else {"projection_dim": projected}
    config = {**VISION, **width, "hidden_act": "gelu"}
    _network(folder / "image_encoder", ClipVision(ClipVisionConfig.from_dict(config)), config)
    (folder / "feature_extractor").mkdir()
    (folder / "feature_extractor" / "preprocessor_config.json").write_text(json.dumps(PIXELS), encoding="utf-8")


def _noising(folder: Path, width: int) -> None:
    _network(folder / "image_normalizer", Normalizer(width), {"embedding_dim": width}, "diffusion_pytorch_model")
    (folder / "image_noising_scheduler").mkdir()
    plan = {"_class_name": "DDPMScheduler", "beta_schedule": "squaredcos_cap_v2", "clip_sample": True}
    place = folder / "image_noising_scheduler" / "scheduler_config.json"
    place.write_text(json.dumps(plan), encoding="utf-8")


def _network(folder: Path, network: nn.Module, config: dict[str, Any], stem: str = "model") -> None:
    randomise(network, seed=len(folder.name))
    written(folder, config, f"{stem}.safetensors", dict(network.state_dict()))
