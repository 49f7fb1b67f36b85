"""Zero123++: the tile and its cameras, the reference that is written once or never, files that are read strictly."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from safelight.adapters.picture import over
from safelight.core.guidance import CFG
from safelight.core.noise import Fresh
from safelight.core.sample import Job, sample
from safelight.core.samplers.table import find
from safelight.errors import ConfigError, ImageError, RequestError, SafelightError, WeightsError
from safelight.multiview.answer import evaluator
from safelight.multiview.presets import preset
from safelight.multiview.rig import rig
from safelight.multiview.zero123plus.files import load as load_preset
from safelight.multiview.zero123plus.model import Remembering, Told, Zero123Plus
from safelight.multiview.zero123plus.tile import apart, tiled
from safelight.vae.latent import LatentSpec
from tests.generate.scenes import picture
from tests.zero123plus import RAMP, noise, tiny_zero123plus

T = torch.tensor([500.0])


def load(place: Path, name: str = "zero123pp-1.2") -> Zero123Plus:
    return load_preset(place, preset(name))


def noisy() -> Tensor:
    return noise((4, 6, 8, 8), 3).float()


def test_view_by_view_the_tile_is_three_rows_of_two() -> None:
    views = torch.arange(6.0)[None, None, :, None, None].expand(1, 2, 6, 3, 3)
    assert tiled(views)[0, 0, ::3, ::3].tolist() == [[0, 1], [2, 3], [4, 5]]
    x = torch.randn(2, 4, 6, 5, 5)
    assert torch.equal(apart(tiled(x)), x) and tiled(x).shape == (2, 4, 15, 10)
    assert torch.equal(tiled(x)[:, :, 5:10, 5:], x[:, :, 3])


@pytest.mark.parametrize("shape", [(1, 4, 5, 8, 8), (1, 4, 24, 16)])
def test_another_number_of_views_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(RequestError, match="draws 6 views at once"):
        tiled(torch.zeros(shape))


@pytest.mark.parametrize("size", [(24, 24), (16, 24), (960, 636)])
def test_a_tile_of_another_shape_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(RequestError, match="3 high and 2 wide"):
        apart(torch.zeros(1, 4, *size))


@pytest.mark.parametrize("name", ["zero123pp-1.1", "zero123pp-1.2"])
def test_the_views_have_the_cameras_of_the_rig_counted_from_the_picture(name: str) -> None:
    loaded = load(tiny_zero123plus(), name)
    azimuth, elevation, distance = loaded.cameras(20.0, 64).angles()
    torch.testing.assert_close(torch.remainder(azimuth, 360), torch.tensor([50.0, 110, 170, 230, 290, 350]))
    torch.testing.assert_close(elevation, torch.tensor([*map(float, rig(name).elevations)]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(distance, torch.full((6,), rig(name).distance), rtol=1e-4, atol=1e-4)
    assert (
        loaded.cameras(20.0, 64).size == (64, 64)
        and loaded.shape() == (4, 6, 80, 80)
        and loaded.shape(32)[2:] == (8, 8)
    )


@contextmanager
def counted(loaded: Zero123Plus, patch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """The sizes of what the U-Net is shown."""
    calls: list[tuple[int, ...]] = []
    kind = type(loaded.parts.unet)
    forward = kind.forward

    def watched(self: Any, x: Tensor, *rest: Any, **more: Any) -> Tensor:
        calls.append(tuple(x.shape))
        return forward(self, x, *rest, **more)

    with patch.context() as patched:
        patched.setattr(kind, "forward", watched)
        yield calls


def drawn(loaded: Zero123Plus, ask: Any, sampler: str = "plms") -> Tensor:
    told = loaded.tell(picture(), 5)
    rule = evaluator(ask, loaded.plan.prediction, loaded.parts.unet.conv_in.weight)
    noises = Fresh(1, tuple(noisy().shape[1:]))
    levels = loaded.plan.levels(3)
    job = Job(find(sampler).bind(loaded.plan.path), levels, noisy(), noises, CFG(3.0), told)
    *_, last = sample(rule, job)
    return last.x


def test_what_is_remembered_of_the_reference_changes_no_bit_and_saves_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """PLMS asks twice at its second level: written once for both. At every other level the noise is another."""
    loaded = load(tiny_zero123plus())
    with counted(loaded, monkeypatch) as plain:
        one = drawn(loaded, loaded.predict)
    with counted(loaded, monkeypatch) as remembered:
        other = drawn(loaded, Remembering(loaded))
    assert torch.equal(one, other)
    written = [shape for shape in plain if shape == (2, 4, 6, 6)]
    assert len(plain) == 2 * len(written) and len(remembered) == len(plain) - 1


@torch.no_grad()
def test_what_is_remembered_is_of_one_level_one_picture_and_one_text() -> None:
    loaded = load(tiny_zero123plus())
    ask, told = Remembering(loaded), loaded.tell(picture(), 5)["cond"]
    others = [
        (T, loaded.tell(picture(), 6)["cond"]),
        (T - 1, told),
        (T, replace(told, reference=told.reference * 1.01)),
        (T, replace(told, context=told.context * 1.01)),
    ]
    ask(noisy(), T, told)
    for t, record in others:
        assert torch.equal(ask(noisy(), t, record), loaded.predict(noisy(), t, record))
        assert not torch.equal(loaded.predict(noisy(), t, record), loaded.predict(noisy(), T, told))
        ask(noisy(), T, told)


@torch.no_grad()
def test_at_strength_0_the_network_is_the_plain_one_and_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load(tiny_zero123plus())
    told, x = loaded.tell(picture(), 5)["cond"], noisy()
    plain = apart(loaded.parts.unet(tiled(x), T, told.context))
    for ask in (replace(loaded, strength=0.0).predict, Remembering(replace(loaded, strength=0.0))):
        with counted(loaded, monkeypatch) as calls:
            assert torch.equal(ask(x, T, told), plain)
        assert calls == [(1, 4, 24, 16)]
    whole, half = loaded.predict(x, T, told), replace(loaded, strength=0.5).predict(x, T, told)
    assert not torch.allclose(whole, plain, atol=1e-4) and not torch.allclose(half, plain, atol=1e-4)
    nearly = replace(loaded, strength=1.0 - 1e-6).predict(x, T, told)
    torch.testing.assert_close(nearly, whole, rtol=1e-4, atol=1e-4)
    for strength in (-0.1, 1.1):
        with pytest.raises(RequestError, match="between 0 and 1"):
            replace(loaded, strength=strength)


@torch.no_grad()
def test_rows_of_strangers_do_not_see_each_other() -> None:
    loaded = load(tiny_zero123plus())
    one, other = (loaded.tell(picture(seed=seed), seed)["cond"] for seed in (1, 2))
    x, t = torch.cat([noisy(), noisy().flip(-1)]), torch.tensor([500.0, 100.0])
    both = loaded.predict(x, t, one.cat([other]))
    changed = loaded.predict(x, t, one.cat([replace(other, reference=other.reference + 1, context=other.context + 1)]))
    assert torch.equal(both[:1], changed[:1]) and not torch.equal(both[1:], changed[1:])
    torch.testing.assert_close(loaded.predict(x[1:], t[1:], other), both[1:], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_every_view_sees_every_other() -> None:
    """The tile is one picture: what changes in one view changes all, so views cannot be added or drawn one by one."""
    loaded = load(tiny_zero123plus())
    told, x = loaded.tell(picture(), 5)["cond"], noisy()
    moved = x.clone()
    moved[:, :, 5] += 1.0
    apart_ = (loaded.predict(moved, T, told) - loaded.predict(x, T, told)).abs().amax((0, 1, 3, 4))
    assert (apart_ > 1e-5).all()


def test_transparency_is_laid_over_grey_and_texts_stand_beside_the_picture() -> None:
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert over(clear, 0.498).getcolors() == [(64, (127, 127, 127))]
    assert over(clear.convert("RGB"), 0.498).getcolors() == [(64, (255, 0, 0))]
    loaded = load(tiny_zero123plus())
    plain, said = (loaded.tell(picture(), 5, text=text) for text in ("", "a red hat"))
    assert not torch.equal(plain["cond"].context, said["cond"].context)
    assert torch.equal(plain["uncond"].context, said["uncond"].context)
    assert torch.equal(plain["cond"].reference, said["cond"].reference)
    away = loaded.tell(picture(), 5, negative="a red hat")["uncond"]
    torch.testing.assert_close(said["cond"].context - plain["cond"].context, away.context - plain["uncond"].context)
    assert isinstance(away, Told) and away.stretch(2).context.shape[1] == 2 * len(RAMP)


def rewritten(folder: Path, file: str, **change: Any) -> Path:
    raw = json.loads((folder / file).read_text())
    told = {key: value for key, value in {**raw, **change}.items() if value is not None}
    (folder / file).write_text(json.dumps(told))
    return folder


@pytest.mark.parametrize(
    ("file", "change", "kind", "message"),
    [
        ("model_index.json", {"ramping_coefficients": None}, ConfigError, "has no ramping_coefficients"),
        ("model_index.json", {"ramping_coefficients": ["a"] * 77}, ConfigError, "is no list of numbers"),
        ("model_index.json", {"ramping_coefficients": RAMP[:9]}, ConfigError, "has 9 numbers, and the text 77 places"),
        ("model_index.json", {"vision_encoder": None}, WeightsError, "names no vision_encoder; is this Zero123"),
        ("model_index.json", {"text_encoder": None}, WeightsError, "names no text_encoder"),
        ("vision_encoder/config.json", {"projection_dim": 12}, WeightsError, "visual_projection.weight is 16×16"),
        ("vision_encoder/config.json", {"architectures": ["CLIPVisionModel"]}, WeightsError, "1 unexpected"),
        ("unet/config.json", {"in_channels": 8}, WeightsError, "of another shape"),
        ("feature_extractor_vae/preprocessor_config.json", {"resample": 2}, ConfigError, "extractor_vae.*resample"),
        ("feature_extractor_vae/preprocessor_config.json", {"crop_size": 22}, ConfigError, "22 pixels are no whole"),
        ("feature_extractor_clip/preprocessor_config.json", {"crop_size": 14}, ConfigError, "cuts out 14 pixels"),
        ("scheduler/scheduler_config.json", {"odd": 1}, ConfigError, "scheduler_config.json: .*odd"),
    ],
)
def test_a_damaged_folder_is_refused_by_the_file(
    file: str, change: dict[str, Any], kind: type[SafelightError], message: str, tmp_path: Path
) -> None:
    folder = rewritten(shutil.copytree(tiny_zero123plus(), tmp_path / "m"), file, **change)
    with pytest.raises(kind, match=message) as caught:
        load(folder)
    assert str(folder) in str(caught.value)


def test_a_preset_of_another_model_is_refused() -> None:
    with pytest.raises(RequestError, match=r"MVDream.*draws no tile of 6 views; take the preset 'zero123pp-1\.2'"):
        load(tiny_zero123plus(), "mvdream")


def test_the_facts_of_the_note_stand_in_the_presets() -> None:
    released = LatentSpec(4, 8, 0.18215)
    for name in ("zero123pp-1.1", "zero123pp-1.2"):
        row, z = preset(name), torch.randn(1, 4, 2, 2, dtype=torch.float64)
        assert row.inputs == ("text", "picture", "reference") and row.rig == name and not row.commercial
        assert row.unconditional == {"text": "prompt", "picture": "drop", "reference": "grey"}
        assert (row.prediction, row.betas["schedule"], row.spacing) == ("v_prediction", "linear", "trailing")
        torch.testing.assert_close((z - row.latent["shift"]) * row.latent["scale"], (released.scaled(z) - 0.22) * 0.75)


@pytest.mark.parametrize(
    ("shown", "text", "kind", "message"),
    [
        (Image.new("RGB", (40, 30)), "", ImageError, "of another shape"),
        (Image.new("I", (40, 40)), "", ImageError, "holds no colours"),
        (Image.new("RGB", (40, 40)), "a hat " * 60, RequestError, "does not fit into the 77 places"),
    ],
)
def test_what_no_views_can_be_drawn_of_is_refused(
    shown: Image.Image, text: str, kind: type[SafelightError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        load(tiny_zero123plus()).tell(shown, text=text)


def test_latents_of_no_size_are_refused() -> None:
    with pytest.raises(RequestError, match="not a multiple of 4"):
        load(tiny_zero123plus()).shape(33)
