"""Edges that meet: what goes round in the noise goes round in the picture, and taken off every bit is back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import safelight
from safelight.adapters.tile import Tileable, around
from safelight.errors import RequestError
from safelight.families.family import Prompt
from safelight.generate import image as task
from safelight.generate.pipe import Pipe, load
from safelight.generate.reproduce import check_adapters
from safelight.generate.request import Request
from tests.adapters import made
from tests.cascade import tiny_cascade
from tests.generate.scenes import PROMPT, picture, pipe
from tests.models import tiny
from tests.parity.networks import SD1, difference, predict, predict_reference, random, unet_inputs, unets

AXES = {"x": (3,), "y": (2,), "xy": (2, 3)}


def fresh(kind: str = "sd1") -> Pipe:
    return load(str(tiny(kind)), device="cpu", threads=1)


def rolled(x: Tensor, edges: str, by: int) -> Tensor:
    return x.roll([by] * len(AXES[edges]), AXES[edges])


def shown(pipe: Pipe, x: Tensor) -> Tensor:
    """What the U-Net says of these latents, and the autoencoder of that, there and back."""
    words = pipe.model.encode(Prompt(PROMPT, (32, 32))).cond
    with torch.no_grad():
        said = pipe.model.predict(x, torch.tensor([500.0]), words.to(x))
        return task.encode(pipe.model, task.decode(pipe.model, said))


@pytest.mark.parametrize("edges", AXES)
@pytest.mark.parametrize("kind", ["sd1", "sd2"])
def test_noise_that_goes_round_is_a_picture_that_goes_round(kind: str, edges: str) -> None:
    own = fresh(kind)
    own.model.network.double()
    own.model.vae.double()
    x = random(1, 4, 8, 12)
    plain = shown(own, x)
    assert difference(rolled(shown(own, rolled(x, edges, 2)), edges, -2), plain) > 1e-3
    with safelight.applied(own, Tileable(edges)):
        found = shown(own, x)
        assert difference(rolled(shown(own, rolled(x, edges, 2)), edges, -2), found) < 1e-5, "encoded in float32"
        for other in set("xy") - set(edges):
            assert difference(rolled(shown(own, rolled(x, other, 2)), other, -2), found) > 1e-3
        assert difference(found, plain) > 1e-3
    assert torch.equal(shown(own, x), plain)


def test_a_whole_picture_goes_round_with_its_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    own = fresh()
    request = Request(PROMPT, seed=3, steps=3)
    draw = task.source

    def turned(*words: Any, **more: Any) -> Any:
        noise, steps = draw(*words, **more)
        return rolled(noise, "xy", 4), steps

    with safelight.applied(own, Tileable()):
        (first,) = own.draw(request)
        with monkeypatch.context() as patch:
            patch.setattr(task, "source", turned)
            (second,) = own.draw(request)
    torch.testing.assert_close(rolled(second.latents, "xy", -4), first.latents, rtol=1e-3, atol=1e-3)
    assert first.recipe.adapters == [{"kind": "tileable", "name": "xy", "files": {}}]
    (plain,) = own.draw(request)
    assert torch.equal(plain.latents, pipe().draw(request)[0].latents) and plain.recipe.adapters == []


def test_all_edges_meet_as_where_every_convolution_of_the_reference_pads_in_circles() -> None:
    ours, theirs = unets(SD1)
    asked = unet_inputs(SD1)
    with torch.no_grad():
        plain = predict(ours, asked)
    worn = Tileable().put_on(replace(fresh().model, network=ours))
    for layer in theirs.modules():
        if isinstance(layer, nn.Conv2d) and layer.padding != (0, 0):
            layer.padding_mode = "circular"
            layer._reversed_padding_repeated_twice = [p for p in reversed(layer.padding) for _ in range(2)]  # type: ignore[arg-type]
    with torch.no_grad():
        wanted = predict_reference(theirs, asked)
        assert difference(predict(ours, asked), wanted) <= 1e-9 < difference(plain, wanted)
    worn.take_off()
    with torch.no_grad():
        assert torch.equal(predict(ours, asked), plain)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_a_line_is_continued_by_its_other_end(count: int) -> None:
    line = torch.arange(3.0).reshape(1, 1, 1, 3)
    wanted = [(place - count) % 3 for place in range(3 + 2 * count)]
    assert around(line, 3, count).flatten().tolist() == wanted


def test_it_is_laid_over_with_a_lora_and_taken_off_in_any_order(tmp_path: Path) -> None:
    tensors = made.kohya(made.model(), made.matrices(made.lora), "unet")
    lora = safelight.lora(str(made.write(tensors, tmp_path / "style.safetensors")))
    own = fresh()
    request = Request(PROMPT, seed=3, steps=2, image=picture(), strength=0.8)
    drawn = lambda: own.draw(request)[0].latents  # noqa: E731
    plain = drawn()
    names = dict(own.model.network.state_dict())
    change = own.wardrobe.put_on(lora)
    edges = own.wardrobe.put_on(Tileable("x"))
    both = drawn()
    assert set(own.model.network.state_dict()) == set(names)
    own.wardrobe.take_off(change)
    alone = drawn()
    again = own.wardrobe.put_on(lora)
    assert torch.equal(drawn(), both)
    own.wardrobe.take_off(edges)
    louder = drawn()
    own.wardrobe.take_off(again)
    assert torch.equal(drawn(), plain)
    assert len({each.numpy().tobytes() for each in (plain, both, alone, louder)}) == 4


def test_what_cannot_be_is_refused() -> None:
    own = fresh()
    with pytest.raises(RequestError, match="x, y or xy, not 'z'"):
        Tileable("z")
    with pytest.raises(RequestError, match="meet or they do not"):
        own.wardrobe.put_on(Tileable(), 0.5)
    own.wardrobe.put_on(Tileable("x"))
    with pytest.raises(RequestError, match="attached already"):
        own.wardrobe.put_on(Tileable("y"))
    other = load(str(tiny_cascade()), device="cpu", threads=1)
    with pytest.raises(RequestError, match="has none"):
        other.wardrobe.put_on(Tileable())
    check_adapters(own.recipe(own.settle(PROMPT)), [{"kind": "tileable", "name": "x", "files": {}}])
