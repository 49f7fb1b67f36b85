"""Drawing with T2I-Adapters: own rows, own steps, pictures of any size; what cannot be meant is refused early."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from safelight.adapters.controlnet.checkpoints import open_control
from safelight.adapters.controlnet.use import ControlUse, Hint
from safelight.adapters.loaded import Loaded
from safelight.adapters.t2i.checkpoints import open_t2i
from safelight.adapters.t2i.model import T2IAdapter
from safelight.adapters.t2i.use import T2IUse
from safelight.adapters.use import Span
from safelight.errors import ImageError, RequestError, WeightsError
from safelight.generate.hires import Hires
from safelight.generate.recipe import Recipe
from safelight.generate.request import Request
from safelight.weights.load import read
from safelight.weights.save import save
from tests.adapters.nets import folder, t2i_folder
from tests.generate.scenes import PROMPT, mask, picture, pipe, requests


@cache
def adapter(kind: str = "sd1", seed: int = 0) -> Loaded[T2IAdapter]:
    return open_t2i(t2i_folder(kind, seed), pipe(kind).model)


def use(shown: Image.Image | None = None, *, kind: str = "sd1", seed: int = 0, **said: Any) -> T2IUse:
    return T2IUse(adapter(kind, seed), shown or picture(seed=1), **said)


def drawn(*uses: Any, kind: str = "sd1", **fields: Any) -> Tensor:
    (found,) = pipe(kind).draw(Request(PROMPT, **{"seed": 3, "steps": 4, **fields}, adapters=uses))
    return found.latents


def test_strength_picture_and_span_each_change_the_picture_and_a_control_network_beside_it() -> None:
    control = ControlUse(open_control(folder("sd1"), pipe().model), (Hint(picture(seed=2)),))
    found = [
        drawn(),
        drawn(use()),
        drawn(use(strength=0.5)),
        drawn(use(picture(seed=2))),
        drawn(use(span=Span(0.0, 0.5))),
        drawn(use(), use(seed=1)),
        drawn(control),
        drawn(use(), control),
    ]
    assert len({each.numpy().tobytes() for each in found}) == len(found)
    assert torch.equal(drawn(use(strength=0.0)), drawn())
    assert torch.equal(drawn(control, use()), found[-1])


def test_strangers_share_calls_and_keep_their_bits() -> None:
    kinds: list[tuple[T2IUse, ...]] = [(use(),), (), (use(picture(seed=2), strength=0.4, span=Span(0.2, 0.8)),), ()]
    square = [each for each in requests() if each.size is None]
    asked = [replace(each, adapters=kinds[k % len(kinds)]) for k, each in enumerate(square)]
    wanted = [pipe().draw(each)[0].latents for each in asked]
    for found, alone in zip(pipe().draw_many(asked[::-1]), wanted[::-1]):
        assert torch.equal(found.latents, alone)


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_every_task_is_guided(kind: str) -> None:
    tasks: list[dict[str, Any]] = [
        {"image": picture(), "strength": 0.8},
        {"image": picture(), "mask": mask()},
        {"hires": Hires(2.0)},
        {"size": (36, 44)},
    ]
    for fields in tasks:
        shown = picture(seed=1).resize(fields.get("size", (32, 32)))
        guided = drawn(use(shown, kind=kind), kind=kind, **fields)
        assert guided.isfinite().all() and not torch.equal(drawn(kind=kind, **fields), guided), fields


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"strength": -0.1}, RequestError, "between 0 and 2"),
        ({"strength": float("nan")}, RequestError, "between 0 and 2"),
        ({"span": Span(0.8, 0.2)}, RequestError, "to a later one"),
        ({"picture": Image.new("RGB", (64, 48))}, ImageError, "of another shape"),
        ({"picture": Image.new("I;16", (32, 32))}, ImageError, "holds no colours"),
    ],
)
def test_what_cannot_be_meant_is_refused(changed: dict[str, Any], error: type, said: str) -> None:
    with pytest.raises(error, match=said):
        drawn(replace(use(), **changed))


def test_an_adapter_of_another_model_is_refused_at_once() -> None:
    model, other = pipe("sd1").model, use(kind="sdxl")
    begin = time.process_time()
    with pytest.raises(RequestError, match="was made for Stable Diffusion XL"):
        open_t2i(t2i_folder("sdxl"), model)
    with pytest.raises(RequestError, match="was made for Stable Diffusion XL"):
        drawn(other)
    assert time.process_time() - begin < 1


def test_an_adapter_with_a_number_that_is_none_is_refused(tmp_path: Path) -> None:
    source = t2i_folder("sd1")
    tensors = {name: tensor.clone() for name, tensor in read(source / "diffusion_pytorch_model.safetensors").items()}
    tensors["adapter.conv_in.bias"][3] = float("inf")
    save(tensors, tmp_path / "diffusion_pytorch_model.safetensors")
    (tmp_path / "config.json").write_bytes((source / "config.json").read_bytes())
    with pytest.raises(WeightsError, match=r"adapter\.conv_in\.bias holds what is no number"):
        open_t2i(tmp_path, pipe().model)


def test_the_recipe_names_it() -> None:
    (found,) = pipe().draw(Request(PROMPT, steps=2, adapters=[use(strength=0.5, span=Span(0.1, 0.9))]))
    (told,) = found.recipe.adapters
    assert (told["kind"], told["strength"], told["span"]) == ("t2i-adapter", 0.5, [0.1, 0.9])
    assert set(told["files"]) == {"config.json", "diffusion_pytorch_model.safetensors"}
    assert Recipe.from_json(found.recipe.json()) == found.recipe
