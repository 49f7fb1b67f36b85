"""An IP-Adapter's own weights, under the names of its released file: ``image_proj.*`` and ``ip_adapter.<number>.*``.

Axes: X width of the text, C width of a layer, R rank. A number counts the network's attention layers from 0, those that
read themselves and those that read the text in turn; `numbered` gives the order.
Source: Ye et al. 2308.06721, equation 5; the released code of IP-Adapter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from safelight.adapters.ip_adapter.projection import HEAD, EachToken, FaceResampler, FaceSpread, Resampler, Spread
from safelight.errors import WeightsError
from safelight.families.sd.model import UNet
from safelight.nn.attention import Attention
from safelight.nn.config import DEEPEST, LARGEST

Shape = tuple[int, ...]
BASE, FULL, PLUS, FACE, FACE_PLUS = "base", "full", "plus", "face id", "face id plus"
READS = {BASE: "projected", FULL: "hidden", PLUS: "hidden", FACE: "", FACE_PLUS: "hidden"}
"""Kind -> what it reads of the image encoder: its projection, its last layer but one, or nothing."""
FACES = (FACE, FACE_PLUS)
"""Kinds that are shown embeddings of faces."""
MOST_LAYERS = 512
NUMBER = re.compile(r"ip_adapter\.(\d{1,4})\.")


@dataclass(frozen=True)
class Plan:
    """What an adapter is, read from the names and shapes of its tensors.

    Attributes:
        kind: a key of READS. text: X. source: width of what it reads of the image encoder, 0 for nothing.
        face: width of a face's embedding, 0 for none. tokens: M of one picture, 0 where it is the encoder's own number.
        inner: width inside of the projection. depth: layers of the resampler.
        pairs: number of a layer -> its width, where it has keys and values.
        loras: number of a layer -> (its width, of its context, rank), where it has a LoRA.
        heads: of the resampler, 64 wide each; 0 for as many as fill its inner width.
    """

    kind: str
    text: int
    source: int
    face: int
    tokens: int
    inner: int
    depth: int
    pairs: Mapping[int, int]
    loras: Mapping[int, tuple[int, int, int]]
    heads: int = 0


def plan(shapes: Mapping[str, Shape]) -> Plan:
    """What a file of these tensors is; names that belong to nothing are left for the strict loader to refuse.

    Raises:
        WeightsError: the tensors that say it are not there, or have shapes that no released adapter has.
    """
    numbers = sorted({int(found[1]) for name in shapes if (found := NUMBER.match(name))})
    if not numbers or not any(name.startswith("image_proj.") for name in shapes):
        raise WeightsError("is no IP-Adapter: it lacks image_proj.* or ip_adapter.<number>.*; choose another file")
    if len(numbers) > MOST_LAYERS:
        raise WeightsError(f"has {len(numbers)} layers; the largest of these networks has 140")
    try:
        pairs = {n: _width(shapes, f"ip_adapter.{n}.to_k_ip.weight", 0) for n in numbers if _has(shapes, n, "to_k_ip")}
        loras = {n: _lora(shapes, n) for n in numbers if _has(shapes, n, "to_q_lora.down")}
        text = _width(shapes, f"ip_adapter.{min(pairs)}.to_k_ip.weight", 1)
        return Plan(*_projection(shapes, text), pairs, loras)
    except (IndexError, KeyError, ValueError) as error:
        raise WeightsError(f"lacks tensors of an IP-Adapter, or they have strange shapes ({error})") from None


class Layer(nn.Module):
    """What an adapter has for one attention layer: keys and values of pictures, and for faces a LoRA."""

    def __init__(self, told: Plan, number: int) -> None:
        super().__init__()
        if number in told.pairs:
            self.to_k_ip = nn.Linear(told.text, told.pairs[number], bias=False)
            self.to_v_ip = nn.Linear(told.text, told.pairs[number], bias=False)
        if number in told.loras:
            width, context, rank = told.loras[number]
            self.to_q_lora = LowRank(width, width, rank)
            self.to_k_lora = LowRank(context, width, rank)
            self.to_v_lora = LowRank(context, width, rank)
            self.to_out_lora = LowRank(width, width, rank)

    def pair(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of tokens: [n, M, X] -> [n, M, C] each."""
        return self.to_k_ip(tokens), self.to_v_ip(tokens)


class LowRank(nn.Module):
    """A change of a linear layer, up(down(x))."""

    def __init__(self, width: int, out: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, rank, bias=False)
        self.up = nn.Linear(rank, out, bias=False)


class IpNetwork(nn.Module):
    """An adapter of the kind that its ``plan`` says: how pictures become tokens, and keys and values of each layer."""

    def __init__(self, told: Plan, *, shortcut: bool = False) -> None:
        super().__init__()
        self.plan = told
        self.image_proj: nn.Module
        if told.kind == BASE:
            self.image_proj = Spread(told.source, told.tokens, told.text)
        elif told.kind == FULL:
            self.image_proj = EachToken(told.source, told.inner, told.text)
        elif told.kind == FACE:
            self.image_proj = FaceSpread(told.face, told.inner, told.tokens, told.text)
        elif told.kind == PLUS:
            self.image_proj = Resampler(told.source, told.inner, told.tokens, told.text, told.depth, told.heads)
        else:
            sizes = (told.face, told.inner, told.tokens, told.text)
            self.image_proj = FaceResampler(*sizes, width=told.source, depth=told.depth, shortcut=shortcut)
        numbers = sorted({*told.pairs, *told.loras})
        self.ip_adapter = nn.ModuleDict({str(number): Layer(told, number) for number in numbers})

    def layer(self, number: int) -> Layer:
        """What it has for a layer."""
        found = self.ip_adapter[str(number)]
        assert isinstance(found, Layer)
        return found


def numbered(network: UNet) -> list[Attention]:
    """The attention layers in the order in which adapters count them: the way down, the way up, then the middle."""
    parts = (network.down_blocks, network.up_blocks, network.mid_block)
    return [layer for part in parts for layer in part.modules() if isinstance(layer, Attention)]


def misfit(told: Plan, network: nn.Module) -> str:
    """Why an adapter cannot be this network's; empty where it can."""
    if not isinstance(network, UNet):
        return "is for the U-Nets of Stable Diffusion; this model's network is another"
    layers = numbered(network)
    pairs = {n: layer.to_q.out_features for n, layer in enumerate(layers) if layer.name.endswith("attn2")}
    loras = {n: (layer.to_q.in_features, layer.to_k.in_features) for n, layer in enumerate(layers)}
    text = network.config.cross_attention_dim
    if told.text != text or told.pairs.keys() != pairs.keys():
        return (
            f"is for {named(told.text, len(told.pairs))}, and this model is {named(text, len(pairs))};"
            " choose the file that was made for this model"
        )
    if wrong := [n for n, width in pairs.items() if told.pairs[n] != width]:
        n = wrong[0]
        return f"layer {n} is {told.pairs[n]} wide; the network's {layers[n].name} is {pairs[n]}"
    if told.loras and {n: sizes[:2] for n, sizes in told.loras.items()} != loras:
        return f"has a LoRA for {len(told.loras)} layers of other widths than the network's {len(loras)}"
    return ""


def named(text: int, layers: int) -> str:
    """What a network is called that reads text of a width in so many layers."""
    known = {
        (768, 16): "Stable Diffusion 1 (text of width 768)",
        (1024, 16): "Stable Diffusion 2 (text of width 1024)",
        (1280, 44): "the refiner of Stable Diffusion XL (text of width 1280)",
        (2048, 70): "Stable Diffusion XL (text of width 2048)",
    }
    return known.get((text, layers), f"a network that reads text of width {text} in {layers} layers")


def _has(shapes: Mapping[str, Shape], number: int, what: str) -> bool:
    return f"ip_adapter.{number}.{what}.weight" in shapes


def _lora(shapes: Mapping[str, Shape], number: int) -> tuple[int, int, int]:
    stem = f"ip_adapter.{number}."
    return (
        _width(shapes, f"{stem}to_q_lora.down.weight", 1),
        _width(shapes, f"{stem}to_k_lora.down.weight", 1),
        _width(shapes, f"{stem}to_q_lora.down.weight", 0),
    )


def _projection(shapes: Mapping[str, Shape], text: int) -> tuple[str, int, int, int, int, int, int]:
    """The first seven fields of a `Plan`."""

    def width(name: str, axis: int) -> int:
        return _width(shapes, f"image_proj.{name}.weight", axis)

    def depth(stem: str) -> int:
        layer = re.compile(re.escape(f"image_proj.{stem}layers.") + r"(\d{1,3})\.")
        found = 1 + max(int(hit[1]) for name in shapes if (hit := layer.match(name)))
        if found > DEEPEST:
            raise ValueError(f"{found} layers of a resampler")
        return found

    if "image_proj.proj.weight" in shapes:
        return BASE, text, width("proj", 1), 0, _times(width("proj", 0), text), 0, 0
    if "image_proj.proj.3.weight" in shapes:
        return FULL, text, width("proj.0", 1), 0, 0, width("proj.0", 0), 0
    if "image_proj.perceiver_resampler.proj_in.weight" in shapes:
        tokens, read = _times(width("proj.2", 0), text), width("perceiver_resampler.proj_in", 1)
        return FACE_PLUS, text, read, width("proj.0", 1), tokens, width("proj.0", 0), depth("perceiver_resampler.")
    if "image_proj.norm.weight" in shapes:
        return FACE, text, 0, width("proj.0", 1), _times(width("proj.2", 0), text), width("proj.0", 0), 0
    tokens = shapes["image_proj.latents"][1]
    if not 1 <= tokens <= LARGEST or width("proj_in", 0) % HEAD:
        raise ValueError(f"{tokens} tokens of width {width('proj_in', 0)}")
    return PLUS, text, width("proj_in", 1), 0, tokens, width("proj_in", 0), depth("")


def _times(rows: int, text: int) -> int:
    if rows % text:
        raise ValueError(f"{rows} numbers are no whole tokens of width {text}")
    return rows // text


def _width(shapes: Mapping[str, Shape], name: str, axis: int) -> int:
    """An edge of a matrix, of a size that can be."""
    shape = shapes[name]
    if len(shape) != 2 or not all(1 <= edge <= LARGEST for edge in shape):
        raise ValueError(f"{name} of shape {list(shape)}")
    return shape[axis]
