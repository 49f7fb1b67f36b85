"""IP-Adapters: every tensor of a released file is used or the file is refused, and a use is refused before it costs."""

from __future__ import annotations

import gzip
import json
import math
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

import safelight
from safelight.adapters.ip_adapter.file import IpAdapter, load_ip_adapter, read_faces
from safelight.adapters.ip_adapter.model import IpNetwork, misfit, numbered, plan
from safelight.adapters.ip_adapter.use import ImageUse
from safelight.adapters.use import Span
from safelight.encoders.viewer import load_viewer
from safelight.errors import ImageError, RequestError, WeightsError
from safelight.families.sd.model import UNet, UNetConfig
from safelight.generate.pipe import Pipe, load
from safelight.generate.recipe import Recipe
from safelight.generate.request import Request
from safelight.weights.load import Unfilled
from safelight.weights.save import save
from tests.generate.scenes import PROMPT, pipe, requests
from tests.headers.ip_adapters import FILE, RELEASED
from tests.models import tiny
from tests.parity.ip_adapters import FACE, SHOWN, half, nested, tensors, write
from tests.parity.networks import random

HEADERS = json.loads(gzip.decompress(FILE.read_bytes()))
PARAMETERS = {
    "ip-adapter_sd15": 22_319_616,
    "ip-adapter-plus_sd15": 49_087_488,
    "ip-adapter-full-face_sd15": 21_794_304,
    "ip-adapter_sdxl": 351_285_248,
    "ip-adapter_sdxl_vit-h": 349_188_096,
    "ip-adapter-plus_sdxl_vit-h": 423_748_864,
    "ip-adapter-faceid_sd15": 48_354_816,
    "ip-adapter-faceid-plus_sd15": 78_260_736,
    "ip-adapter-faceid_sdxl": 535_507_968,
    "ip-adapter-faceid-plusv2_sdxl": 743_707_648,
}


@cache
def full(name: str) -> UNet:
    raw = {key: list(value) if isinstance(value, tuple) else value for key, value in RELEASED[name][1].items()}
    with torch.device("meta"), Unfilled():
        return UNet(UNetConfig.from_dict(raw))


@pytest.mark.parametrize("name", RELEASED)
def test_the_released_headers_are_understood_whole_and_belong_to_their_network(name: str) -> None:
    shapes = {key: tuple(shape) for key, shape in HEADERS[name].items()}
    assert sum(math.prod(shape) for shape in shapes.values()) == PARAMETERS[name]
    told = plan(shapes)
    assert told.kind == RELEASED[name][0]
    assert misfit(told, full(name)) == ""
    with torch.device("meta"), Unfilled():
        network = IpNetwork(told)
    assert {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()} == shapes


def test_another_familys_adapter_is_named() -> None:
    sd1, sdxl = ({key: tuple(shape) for key, shape in HEADERS[name].items()} for name in list(RELEASED)[0:4:3])
    assert "is for Stable Diffusion XL" in misfit(plan(sdxl), full("ip-adapter_sd15"))
    assert "this model is Stable Diffusion XL" in misfit(plan(sd1), full("ip-adapter_sdxl"))
    assert "another" in misfit(plan(sd1), torch.nn.Linear(2, 2))


def tiny_adapter(place: Path, kind: str = "base", name: str = "a.safetensors", into: Pipe | None = None) -> IpAdapter:
    drawing = into or pipe()
    assert isinstance(drawing.model.network, UNet)
    return load_ip_adapter(write(place, tensors(kind, drawing.model.network), name), drawing.model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_proj.proj.bias": None}, r"missing     image_proj.proj.bias"),
        ({"image_proj.extra": torch.zeros(2)}, r"unexpected  image_proj.extra 2"),
        ({"ip_adapter.1.to_k_lora.up.weight": torch.zeros(2, 2)}, r"unexpected  ip_adapter.1.to_k_lora"),
        ({"ip_adapter.3.to_v_ip.weight": torch.zeros(16, 15)}, r"shape       ip_adapter.3.to_v_ip"),
        ({"ip_adapter.3.to_k_ip.weight": torch.zeros(16)}, r"strange shapes"),
        ({"image_proj.proj.weight": torch.zeros(63, 24)}, r"no whole tokens"),
        ({"ip_adapter.1.to_k_ip.weight": torch.zeros(16, 32)}, r"text of width 32 in 4 layers"),
        ({"double_blocks.0.x": torch.zeros(2)}, r"unexpected  double_blocks.0.x"),
        ({"ip_adapter.5.to_k_ip.weight": torch.zeros(8, 16)}, r"layer 5 is 8 wide"),
    ],
)
def test_a_damaged_file_is_refused_by_the_tensor(
    change: dict[str, Tensor | None], message: str, tmp_path: Path
) -> None:
    model = pipe().model
    assert isinstance(model.network, UNet)
    flat = {**tensors("base", model.network), **change}
    file = write(tmp_path, {name: tensor for name, tensor in flat.items() if tensor is not None})
    with pytest.raises(WeightsError, match=message) as caught:
        load_ip_adapter(file, model)
    assert str(file) in str(caught.value)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    save({"conv_in.weight": torch.zeros(2, 2)}, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=r"a.safetensors: is no IP-Adapter"):
        load_ip_adapter(tmp_path / "a.safetensors", pipe().model)


def test_pickles_are_read_only_where_that_was_allowed(tmp_path: Path) -> None:
    model = pipe().model
    assert isinstance(model.network, UNet)
    flat = tensors("base", model.network)
    file = write(tmp_path, flat).with_name("ip-adapter.bin")
    torch.save(nested(flat, torch.float32), file)
    with pytest.raises(WeightsError, match="pickle"):
        load_ip_adapter(file, model)
    found = load_ip_adapter(file, model, pickles=True)
    assert all(torch.equal(found.network.state_dict()[name], tensor) for name, tensor in flat.items())


def test_the_encoder_that_fits_is_found_in_the_released_places(tmp_path: Path) -> None:
    model = pipe().model
    adapter = tiny_adapter(tmp_path)
    assert adapter.viewer is not None and set(adapter.hashes) == {
        "a.safetensors",
        "image_encoder/config.json",
        "image_encoder/model.safetensors",
    }
    other = tmp_path / "sdxl_models"
    shutil.copytree(tmp_path / "models" / "image_encoder", other / "image_encoder")
    told = json.loads((other / "image_encoder" / "config.json").read_text())
    (other / "image_encoder" / "config.json").write_text(json.dumps({**told, "projection_dim": 25}))
    shutil.copy(adapter.path, other / "b.safetensors")
    found = load_ip_adapter(other / "b.safetensors", model)
    assert found.viewer is not None and found.viewer.files[0].is_relative_to(tmp_path / "models")
    shutil.rmtree(tmp_path / "models")
    with pytest.raises(WeightsError, match=r"a projection of 24; none was found in .*name its folder"):
        load_ip_adapter(other / "b.safetensors", model)
    (other / "image_encoder" / "config.json").write_text(json.dumps(told))
    viewer = load_viewer(other / "image_encoder")
    viewer.encoder.config = replace(viewer.encoder.config, projection_dim=25)
    with pytest.raises(WeightsError, match="the named one has 25"):
        load_ip_adapter(other / "b.safetensors", model, encoder=viewer)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "is shown 1 to 64 pictures, not 0"),
    ({"pictures": SHOWN[:1] * 65}, "not 65"),
    ({"pictures": SHOWN, "masks": [half((32, 32), "left")]}, "1 masks for 2 pictures"),
    ({"pictures": SHOWN, "blocks": {"up_block": 1.0}}, "no layer that reads the text begins with 'up_block'"),
    ({"pictures": SHOWN, "span": Span(0.5, 0.5)}, "later one"),
]


@pytest.mark.parametrize(("fields", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_cannot_be_meant_is_refused_before_anything_is_computed(
    fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    use = ImageUse(tiny_adapter(tmp_path), **fields)
    with pytest.raises(RequestError, match=message):
        pipe().settle(Request(PROMPT, adapters=[use]))


def test_a_mask_that_covers_nothing_and_a_thread_of_a_picture_are_refused(tmp_path: Path) -> None:
    adapter = tiny_adapter(tmp_path)
    with pytest.raises(ImageError, match="no white"):
        pipe().settle(Request(adapters=[ImageUse(adapter, SHOWN[:1], masks=[half((32, 32), "none")])]))
    with pytest.raises(ImageError, match="too long for its width"):
        pipe().settle(Request(adapters=[ImageUse(adapter, [Image.new("RGB", (30_000, 2))])]))
    with pytest.raises(RequestError, match="a number up to 100, not nan"):
        ImageUse(adapter, SHOWN, math.nan)


def test_another_models_adapter_is_refused_when_it_is_used(tmp_path: Path) -> None:
    use = ImageUse(tiny_adapter(tmp_path, into=pipe("sdxl")), SHOWN)
    with pytest.raises(RequestError, match=r"a.safetensors: is for a network that reads text of width 32"):
        pipe().settle(Request(adapters=[use]))


def test_faces_are_read_from_a_file_and_belong_to_their_adapter(tmp_path: Path) -> None:
    adapter = tiny_adapter(tmp_path, "face id")
    assert adapter.viewer is None
    save({"faces": random(2, 1, FACE, dtype=torch.float32)}, tmp_path / "f.safetensors")
    faces = read_faces(tmp_path / "f.safetensors")
    assert faces.vectors.shape == (2, FACE)
    one, two = (pipe().draw(Request(PROMPT, steps=2, adapters=u))[0] for u in ((), [ImageUse(adapter, faces=faces)]))
    assert not torch.equal(one.latents, two.latents)
    with pytest.raises(RequestError, match="is shown no pictures, not 2"):
        pipe().settle(Request(adapters=[ImageUse(adapter, SHOWN, faces=faces)]))
    with pytest.raises(RequestError, match="1 to 64 embeddings of faces, not 0"):
        pipe().settle(Request(adapters=[ImageUse(adapter)]))
    save({"x": torch.ones(5)}, tmp_path / "g.safetensors")
    with pytest.raises(RequestError, match=f"faces of width 5; a reads {FACE}"):
        pipe().settle(Request(adapters=[ImageUse(adapter, faces=read_faces(tmp_path / "g.safetensors"))]))
    save({"x": torch.ones(5), "y": torch.ones(5)}, tmp_path / "h.safetensors")
    with pytest.raises(WeightsError, match="holds 2 tensors"):
        read_faces(tmp_path / "h.safetensors")


def test_the_lora_of_a_face_adapter_is_a_lora_like_any_other(tmp_path: Path) -> None:
    drawing = load(str(tiny("sd1")), device="cpu", threads=1)
    adapter = tiny_adapter(tmp_path, "face id", into=drawing)
    network = drawing.model.network
    assert isinstance(network, UNet)
    layer = numbered(network)[5]
    x = random(1, 3, layer.to_q.in_features, dtype=torch.float32)
    change = adapter.network.layer(5).to_q_lora
    with torch.no_grad():
        wanted = layer.to_q(x) + change.up(change.down(x))
        plain = layer.to_q(x)
        with safelight.applied(drawing, adapter.lora(drawing.model)):
            assert torch.allclose(layer.to_q(x), wanted, atol=1e-5) and not torch.allclose(plain, wanted, atol=1e-2)
        assert torch.equal(layer.to_q(x), plain)
    with pytest.raises(RequestError, match="brings no LoRA"):
        tiny_adapter(tmp_path, "base").lora(drawing.model)


def test_a_recipe_names_the_pictures_and_files_and_is_read_back(tmp_path: Path) -> None:
    use = ImageUse(
        *(tiny_adapter(tmp_path), SHOWN[:1], 0.5),
        blocks={"mid_block": 1.0},
        masks=[half((32, 32), "left")],
        span=Span(0.0, 0.5),
    )
    (drawn,) = pipe().draw(Request(PROMPT, steps=2, adapters=[use]))
    (told,) = drawn.recipe.adapters
    assert told["kind"] == "ip-adapter" and told["name"] == "a" and told["scale"] == 0.5
    assert {"files", "images", "blocks", "masks", "span"} < told.keys()
    assert Recipe.from_json(drawn.recipe.json()) == drawn.recipe


def test_strangers_with_other_pictures_keep_their_bits(tmp_path: Path) -> None:
    adapter = tiny_adapter(tmp_path, "plus")
    asked = [
        replace(each, adapters=[ImageUse(adapter, [SHOWN[k % 2]], 0.5)]) if k % 3 else each
        for k, each in enumerate(requests()[:8])
    ]
    wanted = [pipe().draw(each)[0].latents for each in asked]
    for found, alone in zip(pipe().draw_many(asked[::-1]), wanted[::-1]):
        assert torch.equal(found.latents, alone)


def test_scale_0_changes_no_bit_and_taken_away_the_bits_are_back(tmp_path: Path) -> None:
    adapter = tiny_adapter(tmp_path)
    drawn = [
        pipe().draw(Request(PROMPT, steps=2, adapters=uses))[0].latents
        for uses in ((), [ImageUse(adapter, SHOWN, 0.0)], [ImageUse(adapter, SHOWN, 0.1)], ())
    ]
    assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[0], drawn[3])
    assert not torch.equal(drawn[0], drawn[2])
