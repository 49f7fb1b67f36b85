"""IP-Adapter equals diffusers': every kind, several pictures, several adapters, masks, and scales per block."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor, nn

from safelight.adapters.ip_adapter import model as network
from safelight.adapters.ip_adapter import use
from safelight.adapters.ip_adapter.file import IpAdapter, load_ip_adapter, read_faces
from safelight.adapters.ip_adapter.use import ImageUse
from safelight.adapters.use import Call, Place
from safelight.core.path import Level
from safelight.encoders.clip_vision import ClipVision, ClipVisionOutput
from safelight.families.family import Model
from safelight.families.sd.model import UNet
from safelight.nn.attention import Attention
from safelight.nn.ports import NO_PORTS
from safelight.weights.save import save
from tests.parity.ip_adapters import EDGE, FACE, KINDS, SHOWN, half, nested, reference_encoder, tensors, write
from tests.parity.networks import BARS, SD1, difference, random, unets
from tests.parity.pipelines import config_of, ours

BAR = BARS[torch.float64]
WIDE = {**SD1, "cross_attention_dim": 64}
SIZE, LEVELS = (64, 96), (Level(0.1, 0.99, 900.0), Level(1.0, 0.0, 0.0))
ROWS = {"x": random(2, 4, 24, 16), "t": torch.tensor([801.0, 801.0]), "context": random(2, 7, 64, seed=2)}


def model_of(network: UNet) -> Model:
    return replace(ours("sd1", config_of("sd1", "DDIMScheduler")).model, network=network)


def pair() -> tuple[Model, nn.Module]:
    mine, theirs = unets(WIDE)
    return model_of(mine), theirs


def faces(place: Path, count: int = 2) -> Path:
    save({"faces": random(count, FACE, seed=9, dtype=torch.float32)}, place / "faces.safetensors")
    return place / "faces.safetensors"


def asked(place: Path, kind: str, adapter: IpAdapter, **fields: Any) -> ImageUse:
    shown = {} if kind == "face id" else {"pictures": SHOWN}
    known = {"faces": read_faces(faces(place))} if kind.startswith("face") else {}
    return ImageUse(adapter, **{**shown, **known, **fields})


def mine(model: Model, uses: list[ImageUse], rows: dict[str, Tensor] = ROWS) -> Tensor:
    """One call whose first row is led away from, and whose second follows the prompt."""
    ports = NO_PORTS
    for each in uses:
        each.check(model, SIZE)
        aids = each.ready(Place(model, SIZE, LEVELS, 0))
        call = Call(rows["x"], rows["t"], None, None)  # type: ignore[arg-type]
        for aid, own in ((aids.uncond, [True, False]), (aids.cond, [False, True])):
            assert aid is not None
            if aid.on(LEVELS[0]):
                ports = aid.ports(call, torch.tensor(own), ports)
    with torch.no_grad():
        return model.network(rows["x"], rows["t"], rows["context"], ports=ports)


def embeds(kind: str, theirs: nn.Module, index: int, place: Path) -> Tensor:
    """What the reference's pipelines hand to the network: nothing's and the pictures' embeddings, [2, n, ...]."""
    encoder = reference_encoder().double()
    processor = diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion.CLIPImageProcessor(
        size=EDGE, crop_size=EDGE
    )
    pixels = processor(SHOWN, return_tensors="pt").pixel_values.double()
    hidden = [encoder(each, output_hidden_states=True).hidden_states[-2] for each in (torch.zeros_like(pixels), pixels)]
    if kind == "base":
        found = encoder(pixels).image_embeds
        return torch.stack([torch.zeros_like(found), found])
    if not kind.startswith("face"):
        return torch.stack(hidden)
    if kind == "face id plus":
        theirs.encoder_hid_proj.image_projection_layers[index].clip_embeds = torch.stack(hidden)
    vectors = read_faces(faces(place)).vectors.double()
    return torch.stack([torch.zeros_like(vectors), vectors])


def wanted(
    theirs: nn.Module, kinds: list[str], scales: list[Any], place: Path, masks: Any = None, shortcut: bool = False
) -> Tensor:
    diffusers.loaders.IPAdapterMixin.set_ip_adapter_scale(SimpleNamespace(unet=theirs, unet_name="unet"), scales)
    for layer in theirs.encoder_hid_proj.image_projection_layers:
        layer.shortcut = shortcut
    shown = [embeds(kind, theirs, index, place) for index, kind in enumerate(kinds)]
    with torch.no_grad():
        return theirs(
            ROWS["x"],
            ROWS["t"],
            ROWS["context"],
            added_cond_kwargs={"image_embeds": shown},
            cross_attention_kwargs={"ip_adapter_masks": masks} if masks is not None else None,
        ).sample


def error(place: Path, kind: str, name: str = "ip-adapter.safetensors", scale: float = 0.8) -> float:
    model, theirs = pair()
    assert isinstance(model.network, UNet)
    flat = tensors(kind, model.network)
    adapter = load_ip_adapter(write(place, flat, name), model)
    theirs._load_ip_adapter_weights([nested(flat)])
    got = mine(model, [asked(place, kind, adapter, scale=scale)])
    return difference(got, wanted(theirs, [kind], [scale], place, shortcut="plusv2" in name))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_reads_two_pictures_as_the_reference_does(kind: str, tmp_path: Path) -> None:
    assert error(tmp_path, kind) <= BAR


def test_the_second_version_of_face_id_plus_is_told_by_the_files_name(tmp_path: Path) -> None:
    assert error(tmp_path, "face id plus", "ip-adapter-faceid-plusv2.safetensors") <= BAR


class Two:
    """A base and a plus adapter of one network, for ours and the reference."""

    def __init__(self, place: Path) -> None:
        self.model, self.theirs = pair()
        assert isinstance(self.model.network, UNet)
        self.place, self.kinds = place, ["base", "plus"]
        flat = {kind: tensors(kind, self.model.network, seed) for seed, kind in enumerate(self.kinds)}
        self.adapters = [load_ip_adapter(write(place, flat[kind], f"{kind}.safetensors"), self.model) for kind in flat]
        self.theirs._load_ip_adapter_weights([nested(each) for each in flat.values()])

    def uses(self, *fields: dict[str, Any]) -> list[ImageUse]:
        return [asked(self.place, *each, **more) for *each, more in zip(self.kinds, self.adapters, fields)]

    def error(self, fields: tuple[dict[str, Any], dict[str, Any]], scales: list[Any], masks: Any = None) -> float:
        found = mine(self.model, self.uses(*fields))
        return difference(found, wanted(self.theirs, self.kinds, scales, self.place, masks))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Two:
    return Two(tmp_path_factory.mktemp("two"))


def test_two_adapters_at_once_with_a_scale_each_and_one_that_is_silent(two: Two) -> None:
    assert two.error(({"scale": 0.7}, {"scale": -0.4}), [0.7, -0.4]) <= BAR
    assert two.error(({"scale": 0.7}, {"scale": 0.4}), [0.7, -0.4]) > 1e3 * BAR
    assert two.error(({"scale": 0.7, "blocks": {"up_blocks": 0.0}}, {}), [0.0, 1.0]) <= BAR


def masks_of(*sides: str) -> Any:
    made = diffusers.image_processor.IPAdapterMaskProcessor().preprocess(
        [half(SIZE, side) for side in sides], height=SIZE[1], width=SIZE[0]
    )
    return made.reshape(1, len(sides), SIZE[1], SIZE[0])


def test_a_mask_for_each_picture_of_each_adapter(two: Two) -> None:
    sides = [("left", "top"), ("top", "left")]
    fields = tuple({"masks": [half(SIZE, side) for side in each], "scale": 0.9} for each in sides)
    masks = [masks_of(*each) for each in sides]
    assert two.error((fields[0], fields[1]), [0.9, 0.9], masks) <= BAR
    assert two.error((fields[0], {"scale": 0.9}), [0.9, 0.9], masks) > 1e3 * BAR
    assert two.error((fields[0], {**fields[1], "masks": fields[1]["masks"][::-1]}), [0.9, 0.9], masks) > 1e3 * BAR


def test_a_transposed_mask_would_show(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    right = use.grids

    def wrong(*args: Any) -> dict[int, Tensor]:
        found = right(*args)
        return {n: grid.unflatten(1, (-1, round((n * 2 / 3) ** 0.5))).mT.flatten(1) for n, grid in found.items()}

    sides = ("left", "top")
    fields = {"masks": [half(SIZE, side) for side in sides]}
    masks = [masks_of(*sides), masks_of(*sides)]
    assert two.error((fields, fields), [1.0, 1.0], masks) <= BAR
    monkeypatch.setattr(use, "grids", wrong)
    assert two.error((fields, fields), [1.0, 1.0], masks) > 1e3 * BAR


def test_scales_per_block_are_those_of_the_reference_and_the_longest_beginning_wins(two: Two) -> None:
    told = {"down": {"block_0": [0.0, 0.5]}, "up": {"block_1": [0.25, 0.25, 1.5]}}
    blocks = {"down_blocks.0.attentions.1": 0.5, "up_blocks": 0.25, "up_blocks.1.attentions.2": 1.5}
    assert two.error(({"blocks": blocks}, {"scale": 0.6}), [told, 0.6]) <= BAR
    doubled = {name: 2.0 * share for name, share in blocks.items()}
    assert two.error(({"blocks": doubled, "scale": 0.5}, {"scale": 0.6}), [told, 0.6]) <= BAR


def test_keys_and_values_swapped_would_show(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    right = network.Layer.pair
    monkeypatch.setattr(network.Layer, "pair", lambda layer, tokens: right(layer, tokens)[::-1])
    assert two.error(({}, {}), [1.0, 1.0]) > 1e3 * BAR


@pytest.mark.parametrize("layer", [-1, -3])
def test_another_layer_of_the_encoder_would_show(two: Two, monkeypatch: pytest.MonkeyPatch, layer: int) -> None:
    right = ClipVision.forward

    def wrong(encoder: ClipVision, pixels: Tensor) -> ClipVisionOutput:
        found = right(encoder, pixels)
        return found._replace(hidden=(found.hidden[layer], found.hidden[layer]))

    monkeypatch.setattr(ClipVision, "forward", wrong)
    assert two.error(({}, {}), [1.0, 1.0]) > 1e3 * BAR


def test_layers_counted_with_the_middle_before_the_way_up_would_show(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(unet: UNet) -> list[Attention]:
        found = network_numbered(unet)
        return [layer for layer in found if layer.name[:2] != "up"] + [l for l in found if l.name[:2] == "up"]

    network_numbered = network.numbered
    monkeypatch.setattr(use, "numbered", wrong)
    with pytest.raises(RuntimeError):  # here the widths differ, too
        two.error(({}, {}), [1.0, 1.0])
    monkeypatch.setattr(use, "numbered", lambda unet: network_numbered(unet))
    assert two.error(({}, {}), [1.0, 1.0]) <= BAR


def test_nothing_is_encoded_from_grey_and_not_from_zeros_in_the_plus_kinds(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = IpAdapter.tokens

    def wrong(adapter: IpAdapter, *args: Any) -> tuple[Tensor, Tensor]:
        seen, blank = right(adapter, *args)
        return seen, torch.zeros_like(blank)

    monkeypatch.setattr(IpAdapter, "tokens", wrong)
    assert two.error(({}, {}), [1.0, 1.0]) > 1e3 * BAR


def test_rows_of_others_keep_their_bits_and_stacking_in_another_order_is_the_same(two: Two) -> None:
    uses = two.uses({"masks": [half(SIZE, "left"), half(SIZE, "top")]}, {"blocks": {"mid_block": 1.0}})
    ready = [each.ready(Place(two.model, SIZE, LEVELS, 0)) for each in uses]
    call = Call(ROWS["x"], ROWS["t"], None, None)  # type: ignore[arg-type]
    unet = two.model.network
    with torch.no_grad():
        plain = unet(ROWS["x"], ROWS["t"], ROWS["context"])
        found = []
        for order in (ready, ready[::-1]):
            ports = NO_PORTS
            for aids in order:
                assert aids.cond is not None
                ports = aids.cond.ports(call, torch.tensor([True, False]), ports)
            found.append(unet(ROWS["x"], ROWS["t"], ROWS["context"], ports=ports))
    assert torch.equal(found[0][1], plain[1]) and not torch.equal(found[0][0], plain[0])
    assert difference(found[0], found[1]) <= BAR
