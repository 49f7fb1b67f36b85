"""Learned words are read as the reference's pipelines read them: one vector and many, one encoder and two."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from safelight.adapters.textual_inversion import load_embedding
from safelight.families.family import Model, Prompt
from safelight.weights.save import save
from tests.parity.networks import BARS, difference, random
from tests.parity.pipelines import config_of, ours, parts_of, plan_of

BAR = BARS[torch.float64]
PIPELINES = {"sd1": "StableDiffusionPipeline", "sd2": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline"}
TEXTS = ("a <cat> hat", "<CAT>", "red <cat>, <cat> and a person", "a hat", "<cat>" + " red" * 80)
ROLES = {"": ("text_encoder", "tokenizer"), "clip_l": ("text_encoder", "tokenizer")}
ROLES["clip_g"] = ("text_encoder_2", "tokenizer_2")


def written(place: Path, kind: str, count: int) -> tuple[Path, dict[str, Tensor]]:
    names = ("clip_l", "clip_g") if kind == "sdxl" else ("<cat>",)
    shape = (count, 16) if count else (16,)
    vectors = {name: random(*shape, seed=20 + k, dtype=torch.float32) for k, name in enumerate(names)}
    save(vectors, place / "<cat>.safetensors")
    return place / "<cat>.safetensors", vectors


def reference_pipe(kind: str, vectors: dict[str, Tensor]) -> Any:
    parts = deepcopy(parts_of(kind))
    pipe = getattr(diffusers, PIPELINES[kind])(scheduler=plan_of(config_of(kind, "DDIMScheduler")), **parts)
    for name, tensor in vectors.items():
        encoder, tokenizer = ROLES[name if name in ROLES else ""]
        chosen = {"text_encoder": getattr(pipe, encoder), "tokenizer": getattr(pipe, tokenizer)}
        pipe.load_textual_inversion({"<cat>": tensor}, **chosen)
    return pipe


def wanted(pipe: Any, kind: str, text: str) -> tuple[Tensor, Tensor | None]:
    with torch.no_grad():
        if kind != "sdxl":
            return pipe.encode_prompt(text, "cpu", 1, False)[0], None
        found = pipe.encode_prompt(text, text, "cpu", 1, False)
        return found[0], found[2]


def read(model: Model, text: str) -> tuple[Tensor, Tensor | None]:
    words = model.encode(Prompt(text, (32, 32), learned=model.learned))
    return words.cond.context, words.cond.pooled


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("kind", PIPELINES)
def test_a_word_of_any_number_of_vectors(kind: str, count: int, tmp_path: Path) -> None:
    file, vectors = written(tmp_path, kind, count)
    plain = ours(kind, config_of(kind, "DDIMScheduler")).model
    model = load_embedding(file).put_on(plain).over(plain)
    pipe = reference_pipe(kind, vectors)
    for text in TEXTS:
        context, pooled = read(model, text)
        reference, reference_pooled = wanted(pipe, kind, text.lower())
        assert difference(context, reference) <= BAR, text
        if pooled is not None and reference_pooled is not None:
            assert difference(pooled, reference_pooled) <= BAR, text
        assert torch.equal(context, read(plain, text)[0]) == ("<cat>" not in text.lower())


def test_vectors_in_another_order_would_show(tmp_path: Path) -> None:
    file, vectors = written(tmp_path, "sd1", 3)
    plain = ours("sd1", config_of("sd1", "DDIMScheduler")).model
    model = load_embedding(file).put_on(plain).over(plain)
    pipe = reference_pipe("sd1", {"<cat>": vectors["<cat>"].flip(0)})
    assert difference(read(model, "a <cat>")[0], wanted(pipe, "sd1", "a <cat>")[0]) > 1e3 * BAR


def test_the_encoders_of_xl_swapped_would_show(tmp_path: Path) -> None:
    file, vectors = written(tmp_path, "sdxl", 2)
    plain = ours("sdxl", config_of("sdxl", "DDIMScheduler")).model
    model = load_embedding(file).put_on(plain).over(plain)
    pipe = reference_pipe("sdxl", dict(zip(vectors, list(vectors.values())[::-1])))
    assert difference(read(model, "a <cat>")[0], wanted(pipe, "sdxl", "a <cat>")[0]) > 1e3 * BAR
