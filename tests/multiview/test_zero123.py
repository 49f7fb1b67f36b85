"""Zero123's files are read strictly in every layout, and its views do not see each other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from safelight.core.camera import Camera
from safelight.encoders import viewer
from safelight.encoders.clip_vision import ClipVision, ClipVisionConfig
from safelight.errors import ConfigError, ImageError, RequestError, SafelightError, WeightsError
from safelight.families.sd import shape
from safelight.families.sd.convert import to_folder
from safelight.families.sd.model import UNetConfig
from safelight.families.sd.single import CONFIGS, understand
from safelight.generate.pipe import load as load_pipe
from safelight.multiview.network import Conditions
from safelight.multiview.presets import preset
from safelight.multiview.zero123.files import load as load_preset
from safelight.multiview.zero123.model import Projection, Told, Zero123
from safelight.weights.detect import detect
from safelight.weights.folder import Index
from safelight.weights.header import Entry, Header
from safelight.weights.load import read
from safelight.weights.save import save
from safelight.weights.variants import expected, tables_of
from tests.generate.scenes import picture
from tests.zero123 import WEIGHTS, original, tiny_zero123

VIEWS = Camera.orbit([30.0, 90.0, -60.0, 180.0], [10.0, -20.0, 0.0, 30.0], 1.8)
FRONT = Camera.orbit(0.0, 5.0, 1.8)
T = torch.tensor([500.0])


def load(place: Path, name: str = "zero123") -> Zero123:
    return load_preset(place, preset(name))


def noisy(views: int = 4) -> Tensor:
    return torch.randn(1, 4, views, 8, 8, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def said(loaded: Zero123, told: Told, x: Tensor | None = None) -> Tensor:
    return loaded.predict(noisy() if x is None else x, T, told)


@pytest.fixture
def small_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Single files do not say how many heads CLIP has; its width does."""
    monkeypatch.setitem(viewer.RELEASED, 16, (2, "quick_gelu"))


def written(tmp_path: Path, **change: Tensor | None) -> Path:
    """The original file; what no shape says of so small networks stands in its metadata."""
    tensors = {name: each for name, each in {**original(tiny_zero123()), **change}.items() if each is not None}
    said = {part: json.loads((tiny_zero123() / part / "config.json").read_text()) for part in ("unet", "vae")}
    said |= {"model_index": {"_class_name": "Zero1to3StableDiffusionPipeline"}}
    save(tensors, tmp_path / "zero123.safetensors", {CONFIGS: json.dumps(said)})
    return tmp_path / "zero123.safetensors"


def test_the_original_file_holds_what_the_folder_holds(tmp_path: Path, small_clip: None) -> None:
    folder, file = load(tiny_zero123()), load(written(tmp_path))
    for one, other in zip(folder.modules, file.modules, strict=True):
        assert one.state_dict().keys() == other.state_dict().keys()
        assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
    assert folder.plan.path == file.plan.path and folder.plan.prediction == file.plan.prediction == "eps"
    told = folder.tell(picture(), VIEWS, FRONT)["cond"]
    assert torch.equal(said(folder, told), said(file, told))
    assert file.files == (written(tmp_path),)
    assert {path.relative_to(tiny_zero123()).parts[0] for path in folder.files} == {
        *("model_index.json", "unet", "vae", "image_encoder", "scheduler", "cc_projection")
    }


def test_the_other_port_calls_its_projection_otherwise(tmp_path: Path) -> None:
    place = shutil.copytree(tiny_zero123(), tmp_path / "m")
    (place / "cc_projection").rename(place / "clip_camera_projection")
    tensors = read(place / "clip_camera_projection" / WEIGHTS)
    renamed = {name.replace("projection.", "proj."): tensor.clone() for name, tensor in tensors.items()}
    save(renamed, place / "clip_camera_projection" / WEIGHTS)
    index = json.loads((place / "model_index.json").read_text())
    index["clip_camera_projection"] = index.pop("cc_projection")
    (place / "model_index.json").write_text(json.dumps(index))
    assert torch.equal(load(place).projection.projection.weight, load(tiny_zero123()).projection.projection.weight)


def at_full_size() -> dict[str, tuple[int, ...]]:
    """The names and shapes of the original file."""
    sd = tables_of("sd")
    stored, variant = expected(sd.folder), sd.variant("zero123")
    large = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    config = ClipVisionConfig(**large, patch_size=14, projection_dim=768, projection=True)
    with torch.device("meta"):
        clip, layer = ClipVision(config).state_dict(), Projection(768, 768).state_dict()
    rows = {part: dict(stored[header]) for part, header in variant.expected.items()}
    rows["unet"]["conv_in.weight"] = (320, 8, 3, 3)
    rows |= {"image_encoder": {name: tuple(each.shape) for name, each in clip.items()}}
    rows |= {"cc_projection": {name: tuple(each.shape) for name, each in layer.items()}}
    made: dict[str, tuple[int, ...]] = {"cond_stage_model.model.ln_final.weight": (768,)}
    for part in variant.parts:
        plan = sd.keys.parts[part.table].to_theirs(rows[part.name])
        assert not plan.left
        moves = plan.moves
        made |= {part.prefixes[0] + each.theirs: each.their_shape(rows[part.name][each.ours[0]]) for each in moves}
    return made


def test_the_original_file_is_known_by_its_header() -> None:
    rows = at_full_size()
    assert rows["cc_projection.weight"] == (768, 772)
    assert rows["cond_stage_model.model.visual.proj"] == (1024, 768)
    found = detect(Header({name: Entry("F32", shape, 0, 0) for name, shape in rows.items()}, {}))
    assert (found.family, found.variant, found.task, found.left) == ("sd", "zero123", "views", ())
    assert found.unread == ("cond_stage_model.model.ln_final.weight",)
    assert [part.part for part in found.components] == ["unet", "vae", "image_encoder", "cc_projection"]
    for part in found.components[:2]:
        assert part.full and not (part.missing or part.extra or part.bent)
    variant = tables_of("sd").variant("zero123")
    made = shape.configs(variant, {part.part: part.shapes for part in found.components})
    assert UNetConfig.from_dict(made["unet"]) == UNetConfig(sample_size=32, in_channels=8)
    assert made.keys() == {"unet", "vae"} and made["vae"]["scaling_factor"] == 0.18215


def test_other_commands_say_that_the_file_is_not_theirs(tmp_path: Path, small_clip: None) -> None:
    file = written(tmp_path)
    with pytest.raises(ConfigError, match="a Zero1to3StableDiffusionPipeline is not known"):
        load_pipe(str(file), device="cpu", threads=1)
    with pytest.raises(WeightsError, match="Zero123 stays as it is; no folder is made of its cc_projection"):
        to_folder(understand(file), tmp_path / "folder", Index(file, "", {}, {}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cc_projection.weight": torch.zeros(16, 16)}, "projection.weight is 16×16, not 16×20"),
        ({"cc_projection.bias": None}, "missing     projection.bias"),
        ({"cc_projection.weight": None, "cc_projection.bias": None}, "belong to nothing"),
        ({"cc_projection.scale": torch.zeros(1)}, "unexpected  cc_projection.scale"),
        ({"cond_stage_model.model.visual.proj": None}, "no projection, of which Zero123 is told"),
        ({"cond_stage_model.model.visual.odd": torch.zeros(1)}, "unexpected  cond_stage_model.model.visual.odd"),
        ({"cond_stage_model.model.visual.class_embedding": None}, "belong to nothing|lacks image_encoder"),
        ({"model.diffusion_model.out.2.bias": None}, "missing     conv_out.bias"),
        ({"junk": torch.zeros(1)}, "unexpected  junk"),
    ],
)
def test_a_damaged_file_is_refused_by_the_name(
    change: dict[str, Any], message: str, tmp_path: Path, small_clip: None
) -> None:
    with pytest.raises(SafelightError, match=message) as caught:
        load(written(tmp_path, **change))
    assert str(tmp_path) in str(caught.value)


def rewritten(place: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    raw = json.loads(place.read_text())
    change(raw)
    place.write_text(json.dumps(raw))


@pytest.mark.parametrize(
    ("file", "change", "kind", "message"),
    [
        ("model_index.json", lambda raw: raw.pop("cc_projection"), WeightsError, "names no cc_projection; is this"),
        ("model_index.json", lambda raw: raw.pop("image_encoder"), WeightsError, "names no image_encoder; is this"),
        ("unet/config.json", lambda raw: raw.update(in_channels=4), WeightsError, "of another shape"),
        ("scheduler/scheduler_config.json", lambda raw: raw.update(odd=1), ConfigError, "scheduler_config.json: .*odd"),
        ("image_encoder/config.json", lambda raw: raw.update(projection_dim=12), WeightsError, "visual_projection"),
    ],
)
def test_a_damaged_folder_is_refused_by_the_file(
    file: str, change: Any, kind: type[SafelightError], message: str, tmp_path: Path
) -> None:
    place = shutil.copytree(tiny_zero123(), tmp_path / "m")
    rewritten(place / file, change)
    with pytest.raises(kind, match=message):
        load(place)


def test_a_network_that_is_shown_no_picture_is_refused(tmp_path: Path) -> None:
    place = shutil.copytree(tiny_zero123(), tmp_path / "m")
    shutil.rmtree(place / "unet")
    shutil.copytree(tiny_zero123().with_name("variations") / "unet", place / "unet")
    with pytest.raises(ConfigError, match="reads 4 channels and writes 4; Zero123's reads 8"):
        load(place)


def test_the_preset_says_what_of_cameras_it_is_told() -> None:
    with pytest.raises(RequestError, match=r"MVDream.*take the preset 'zero123'"):
        load(tiny_zero123(), "mvdream")
    assert load(tiny_zero123(), "stable-zero123").camera == "stable_zero123"
    for name in ("zero123", "zero123-xl", "stable-zero123"):
        row = preset(name)
        assert row.inputs == ("picture", "camera", "reference") and set(row.unconditional.values()) == {"zeros"}
        assert (row.prediction, row.betas["schedule"], row.background) == ("epsilon", "scaled_linear", 1.0)
        with pytest.raises(RequestError, match="from its `tell`"):
            row.led_away(Conditions(torch.zeros(1, 1, 1)), torch.zeros(1, 1, 1))


@pytest.mark.parametrize(
    ("cameras", "shown", "kind", "message"),
    [
        (VIEWS, Image.new("RGB", (40, 30)), ImageError, "40 x 30 pixels .* of another shape"),
        (VIEWS, Image.new("F", (32, 32)), ImageError, "holds no colours"),
        (VIEWS[:0], picture(), RequestError, "1 to 64 views, not 0"),
        (Camera.orbit([0.0] * 65, 0.0, 1.8), picture(), RequestError, "1 to 64 views, not 65"),
        (Camera.orbit([0.0], 0.0, 0.2), picture(), RequestError, "inside the head"),
    ],
)
def test_what_no_view_can_be_drawn_of_is_refused(
    cameras: Camera, shown: Image.Image, kind: type[SafelightError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        load(tiny_zero123()).tell(shown, cameras, FRONT)


def test_views_do_not_see_each_other_so_more_of_them_change_none() -> None:
    loaded = load(tiny_zero123())
    loaded.unet.double()
    told = loaded.tell(picture(), VIEWS, FRONT)["cond"].to(noisy().double())
    x = noisy().double()
    all_four = said(loaded, told, x)
    two = said(loaded, replace(told, context=told.context[:, :2]), x[:, :, :2])
    torch.testing.assert_close(all_four[:, :, :2], two, rtol=1e-10, atol=1e-10)
    order = [2, 0, 3, 1]
    turned = said(loaded, replace(told, context=told.context[:, order]), x[:, :, order])
    torch.testing.assert_close(turned, all_four[:, :, order], rtol=1e-10, atol=1e-10)
    assert not torch.allclose(said(loaded, replace(told, context=told.context[:, order]), x), all_four, atol=1e-6)
    with pytest.raises(RequestError, match=r"told of \[1, 4\] rows and views, and is shown \[1, 3\]"):
        said(loaded, told, x[:, :, :3])


@pytest.mark.parametrize("together", [1, 3])
def test_fewer_at_once_are_the_same_views_in_more_calls(together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, rows = load(tiny_zero123()), []
    loaded.unet.double()
    told, x = loaded.tell(picture(), VIEWS, FRONT)["cond"].to(noisy().double()), noisy().double()
    whole = said(loaded, told, x)
    forward = type(loaded.unet).forward

    def counted(self: Any, x: Tensor, *rest: Any, **more: Any) -> Tensor:
        rows.append(len(x))
        return forward(self, x, *rest, **more)

    monkeypatch.setattr(type(loaded.unet), "forward", counted)
    torch.testing.assert_close(said(replace(loaded, together=together), told, x), whole, rtol=1e-10, atol=1e-10)
    assert rows == {1: [1, 1, 1, 1], 3: [3, 1]}[together]


def test_a_new_projection_passes_the_picture_on_and_sees_no_camera() -> None:
    """Zero-initialised widening: training begins with image variations, to the last bit."""
    seen, way = torch.randn(2, 16), torch.randn(2, 4)
    assert torch.equal(Projection(16, 16)(torch.cat([seen, way], -1)), seen)


def test_views_are_decoded_one_by_one_as_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, sizes = load(tiny_zero123()), []
    decode = type(loaded.vae).decode
    monkeypatch.setattr(type(loaded.vae), "decode", lambda self, z: sizes.append(tuple(z.shape)) or decode(self, z))
    stream = loaded.decode(noisy())
    first = next(stream)
    assert sizes == [(1, 4, 8, 8)] and first.shape == (1, 3, 32, 32)
    assert len([*stream]) == 3 and len(sizes) == 4


def test_transparency_is_laid_over_white() -> None:
    loaded = load(tiny_zero123())
    clear, white = Image.new("RGBA", (32, 32), (255, 0, 0, 0)), Image.new("RGB", (32, 32), "white")
    one, other = (loaded.tell(each, VIEWS, FRONT)["cond"].shown for each in (clear, white))
    assert torch.equal(one, other)


def test_cameras_of_another_training_raise_doubts() -> None:
    loaded, lens = load(tiny_zero123()), {"fov": 49.13}
    near, far = Camera.orbit([30.0], 10.0, 1.8, **lens), Camera.orbit([30.0, 60.0], 10.0, [1.8, 3.0], **lens)
    assert loaded.doubts(near, near[0]) == ()
    (doubt,) = loaded.doubts(far, near[0])
    assert "distances of 1.80 to 3.00" in doubt and "expect another size" in doubt
    assert len(loaded.doubts(near, Camera.orbit(0.0, 10.0, 1.2, **lens))) == 1
    for other in (Camera.orbit([30.0], 10.0, 1.8, fov=30.0), near.orthographic(1.0)):
        (doubt,) = loaded.doubts(other, near[0])
        assert "told no lens" in doubt
