"""Drawing with control networks: own rows, own steps, hints of any size; what cannot be meant is refused early."""

from __future__ import annotations

import json
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
from safelight.adapters.controlnet.model import ControlNet
from safelight.adapters.controlnet.use import ControlUse, Hint
from safelight.adapters.loaded import Loaded
from safelight.adapters.rows import added, own
from safelight.adapters.use import Span
from safelight.errors import ImageError, RequestError, SafelightError, UnknownNameError, WeightsError
from safelight.generate.hires import Hires
from safelight.generate.recipe import Recipe
from safelight.generate.request import Request
from safelight.weights.load import read
from safelight.weights.save import save
from tests.adapters.nets import folder
from tests.generate.scenes import PROMPT, mask, picture, pipe, requests


@cache
def control(kind: str = "sd1", seed: int = 0, union: bool = False) -> Loaded[ControlNet]:
    return open_control(folder(kind, seed, union), pipe(kind).model)


def use(picture_: Image.Image | None = None, *, kind: str = "sd1", seed: int = 0, **said: Any) -> ControlUse:
    return ControlUse(control(kind, seed), (Hint(picture_ or picture(seed=1)),), **said)


def drawn(*uses: ControlUse, kind: str = "sd1", **fields: Any) -> Tensor:
    (found,) = pipe(kind).draw(Request(PROMPT, **{"seed": 3, "steps": 4, **fields}, adapters=uses))
    return found.latents


def test_strength_hint_span_guess_and_hole_each_change_the_picture() -> None:
    found = [
        drawn(),
        drawn(use()),
        drawn(use(strength=0.5)),
        drawn(use(picture(seed=2))),
        drawn(use(span=Span(0.0, 0.5))),
        drawn(use(guess=True)),
        drawn(ControlUse(control(), (Hint(picture(seed=1), hole=mask()),))),
        drawn(use(seed=1)),
        drawn(use(), use(seed=1)),
    ]
    assert len({each.numpy().tobytes() for each in found}) == len(found)


def test_without_strength_it_is_not_asked_and_a_black_hint_is_a_hint() -> None:
    assert torch.equal(drawn(use(strength=0.0)), drawn())
    assert not torch.equal(drawn(use(Image.new("RGB", (32, 32)))), drawn())


def test_strangers_share_calls_and_keep_their_bits() -> None:
    kinds = [
        (use(),),
        (),
        (use(picture(seed=2), strength=0.4, span=Span(0.2, 0.8)),),
        (use(guess=True), use(seed=1)),
        (),
    ]
    square = [each for each in requests() if each.size is None]
    asked = [replace(each, adapters=kinds[k % len(kinds)]) for k, each in enumerate(square)]
    wanted = [pipe().draw(each)[0].latents for each in asked]
    for found, alone in zip(pipe().draw_many(asked[::-1]), wanted[::-1]):
        assert torch.equal(found.latents, alone)


def test_what_adds_nothing_changes_no_bit_not_even_the_sign_of_zero() -> None:
    there = torch.tensor([-0.0, 0.0, 1.5, -1.5]).reshape(2, 2, 1, 1)
    mine, rows = torch.full((2, 2, 1, 1), float("nan")), torch.tensor([False, False])
    (found,) = added(rows, [mine], [there])
    assert torch.equal(found.signbit(), there.signbit()) and torch.equal(found, there)
    assert torch.equal(own(torch.tensor([True, False]), torch.ones(2, 2, 1, 1))[:, 0, 0, 0], torch.tensor([1.0, -0.0]))


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl"])
def test_every_task_is_controlled(kind: str) -> None:
    tasks: list[dict[str, Any]] = [
        {"image": picture(), "strength": 0.8},
        {"image": picture(), "mask": mask()},
        {"hires": Hires(2.0)},
        {"size": (32, 48)},
        {"sampler": "heun", "steps": 2},
    ]
    for fields in tasks:
        hint = picture(seed=1).resize(fields.get("size", (32, 32)))
        controlled = drawn(use(hint, kind=kind), kind=kind, **fields)
        assert not torch.equal(drawn(kind=kind, **fields), controlled), fields
        assert controlled.isfinite().all()


def test_a_hint_of_another_size_is_fitted_and_of_another_shape_refused() -> None:
    large = picture(seed=1).resize((64, 64), Image.Resampling.NEAREST)
    assert not torch.equal(drawn(use(large)), drawn())
    wide = picture(seed=1).resize((64, 48))
    with pytest.raises(ImageError, match="64 x 48 pixels and what is drawn 32 x 32, of another shape"):
        drawn(use(wide))
    with pytest.raises(ImageError, match="the hole: the picture is 64 x 48"):
        drawn(ControlUse(control(), (Hint(picture(), hole=wide.convert("L")),)))
    almost = picture(seed=1).resize((33, 32))
    assert drawn(use(almost)).isfinite().all()


def test_colours_of_every_mode_are_read_and_what_holds_none_is_refused() -> None:
    grey = picture(seed=1).convert("L")
    wanted = drawn(use(grey.convert("RGB")))
    for mode in ("L", "RGBA", "LA"):
        assert torch.equal(drawn(use(grey.convert(mode))), wanted)
    assert torch.equal(drawn(use(grey.convert("1").convert("RGB"))), drawn(use(grey.convert("1"))))
    clear = Image.new("RGBA", (32, 32), (200, 0, 0, 0))
    assert torch.equal(drawn(use(clear)), drawn(use(Image.new("RGB", (32, 32), "white"))))
    for mode in ("I;16", "I", "F", "CMYK", "HSV"):
        with pytest.raises(ImageError, match=f"mode {mode} holds no colours"):
            drawn(use(Image.new(mode, (32, 32))))


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"strength": -0.1}, RequestError, "between 0 and 2"),
        ({"strength": 2.5}, RequestError, "between 0 and 2"),
        ({"strength": float("nan")}, RequestError, "between 0 and 2"),
        ({"span": Span(0.8, 0.2)}, RequestError, "to a later one"),
        ({"hints": ()}, RequestError, "is shown one hint"),
        ({"hints": (Hint(picture()), Hint(picture()))}, RequestError, "is shown one hint"),
        ({"hints": (Hint(picture(), kind="edges"),)}, RequestError, "without a kind"),
    ],
)
def test_numbers_that_cannot_be_meant_are_refused(changed: dict[str, Any], error: type, said: str) -> None:
    with pytest.raises(error, match=said):
        drawn(replace(use(), **changed))


def test_a_network_of_another_model_is_refused_at_once_and_says_of_which() -> None:
    model, other = pipe("sd1").model, use(kind="sdxl")
    begin = time.process_time()
    with pytest.raises(RequestError, match=r"was made for a network that reads text of width 32, this model is .* 16 "):
        open_control(folder("sdxl"), model)
    with pytest.raises(RequestError, match=r"ControlNet .*\(text of width 32, not 16\)"):
        drawn(other)
    assert time.process_time() - begin < 1
    with pytest.raises(RequestError, match=r"speaks to a U-Net of Stable Diffusion; this model \(cascade\) has none"):
        open_control(folder("sd1"), replace(pipe().model, network=torch.nn.Identity(), family="cascade"))


def test_the_titles_of_released_families_are_said() -> None:
    from safelight.adapters.fitting import title
    from safelight.families.sd.model import UNetConfig

    widths = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 2048: "Stable Diffusion XL"}
    widths |= {1280: "Stable Diffusion XL refiner", 20: "a network that reads text of width 20"}
    for width, name in widths.items():
        assert title(UNetConfig(cross_attention_dim=width)) == name


def test_a_network_with_a_number_that_is_none_is_refused(tmp_path: Path) -> None:
    source = folder("sd1")
    tensors = {name: tensor.clone() for name, tensor in read(source / "diffusion_pytorch_model.safetensors").items()}
    tensors["mid_block.resnets.0.conv1.weight"][0, 0, 0, 0] = float("nan")
    save(tensors, tmp_path / "diffusion_pytorch_model.safetensors")
    (tmp_path / "config.json").write_bytes((source / "config.json").read_bytes())
    with pytest.raises(WeightsError, match=r"mid_block\.resnets\.0\.conv1\.weight holds what is no number"):
        open_control(tmp_path, pipe().model)


# Union networks


def union(*hints: Hint, **said: Any) -> ControlUse:
    return ControlUse(control("sdxl", 0, True), hints, **said)


def test_kinds_of_hints_go_by_name_and_number_and_count_as_much_as_asked() -> None:
    depth, edges = Hint(picture(seed=1), kind="depth"), Hint(picture(seed=2), kind="edges")
    alone = drawn(union(depth), kind="sdxl")
    assert torch.equal(drawn(union(replace(depth, kind=1)), kind="sdxl"), alone)
    found = [
        drawn(kind="sdxl"),
        alone,
        drawn(union(edges), kind="sdxl"),
        drawn(union(depth, edges), kind="sdxl"),
        drawn(union(depth, replace(edges, strength=0.3)), kind="sdxl"),
        drawn(union(depth, edges, strength=0.5), kind="sdxl"),
    ]
    assert len({each.numpy().tobytes() for each in found}) == len(found)
    half = drawn(union(replace(depth, strength=0.5)), kind="sdxl")
    assert torch.equal(half, drawn(union(depth, strength=0.5), kind="sdxl"))


@pytest.mark.parametrize(
    ("hints", "error", "said"),
    [
        ((), RequestError, "at least one hint"),
        ((Hint(picture()),), RequestError, "told the kind of each hint: pose, depth"),
        ((Hint(picture(), kind="edge"),), UnknownNameError, "edges"),
        ((Hint(picture(), kind="tile"),), UnknownNameError, "unknown kind of hint 'tile'"),
        ((Hint(picture(), kind=6),), RequestError, "0 to 5, not 6"),
        ((Hint(picture(), kind=1), Hint(picture(), kind="depth")), RequestError, "each kind once"),
        ((Hint(picture(), kind=1, strength=3.0),), RequestError, "between 0 and 2"),
    ],
)
def test_hints_that_a_union_network_cannot_be_shown_are_refused(
    hints: tuple[Hint, ...], error: type[SafelightError], said: str
) -> None:
    with pytest.raises(error, match=said):
        drawn(union(*hints), kind="sdxl")


def test_the_recipe_names_files_hints_and_numbers() -> None:
    asked = use(strength=0.5, span=Span(0.1, 0.9), guess=True)
    (found,) = pipe().draw(Request(PROMPT, steps=2, adapters=[asked]))
    (told,) = found.recipe.adapters
    assert told["kind"] == "controlnet" and set(told["files"]) == {"config.json", "diffusion_pytorch_model.safetensors"}
    assert (told["strength"], told["span"], told["guess"]) == (0.5, [0.1, 0.9], True)
    assert all(len(digest) == 64 for digest in told["files"].values())
    assert len(told["hints"][0]["sha256"]) == 64
    assert Recipe.from_json(found.recipe.json()) == found.recipe
    json.dumps(union(Hint(picture(), mask(), "depth", 0.5)).told())
