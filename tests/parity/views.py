"""Tiny networks of views: the stock U-Net of diffusers with attention processors, and ours with the same numbers.

The reference is written view by view with lists, so that it shares no rearrangement with what it is held against.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import diffusers
import torch
from diffusers.models.embeddings import IPAdapterPlusImageProjection
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.multiview.checkpoints import build
from safelight.multiview.layouts import layout
from safelight.multiview.network import Conditions, ViewNetwork
from safelight.multiview.presets import Preset, preset
from tests.parity.networks import SD1, SD2, random, randomise

B, V, H, W, TEXT, HIDDEN, TOKENS, LENGTH = 2, 3, 6, 4, 32, 24, 3, 5
"""Rows, views, a grid that is no square, width of the text and of the image encoder, its tokens and what becomes of
them; in tiny networks."""


def tiny(name: str) -> Preset:
    """A preset of tiny sizes."""
    found = preset(name)
    small = {"tokens": TOKENS, "token_heads": 2, "hidden": HIDDEN} if found.tokens else {}
    return replace(found, heads=8 if found.heads_fixed else 16, **small)


def config(told: Preset) -> dict[str, Any]:
    """The stock network's configuration."""
    return {
        **(SD1 if told.heads_fixed else {**SD2, "upcast_attention": False}),
        "norm_num_groups": 32,  # which no tensor's shape tells
        "in_channels": 4 * (1 + len(told.shown)),
        "class_embed_type": "projection",
        "projection_class_embeddings_input_dim": told.camera_width,
    }


class Pair(nn.Module):
    """Keys and values of the picture's own, of one layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.to_k_ip = nn.Linear(TEXT, width, bias=False)
        self.to_v_ip = nn.Linear(TEXT, width, bias=False)


def heads(x: Tensor, count: int) -> Tensor:
    return x.view(len(x), x.shape[1], count, -1).transpose(1, 2)


def mixed(attn: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (heads(each, attn.heads) for each in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


@dataclass
class Dense:
    """Every view of a row reads all views of the row."""

    slots: int

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Any = None, **_: Any) -> Tensor:
        q, k, v = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
        out = []
        for i in range(len(hidden_states)):
            first = i // self.slots * self.slots
            keys = torch.cat([k[j] for j in range(first, first + self.slots)])
            values = torch.cat([v[j] for j in range(first, first + self.slots)])
            out.append(mixed(attn, q[i][None], keys[None], values[None]))
        return attn.to_out[0](torch.cat(out))


@dataclass
class Beside:
    """The text, and the tokens of the picture with keys and values of their own."""

    pair: Pair
    tokens: Tensor | None = None

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> Tensor:
        q, text = attn.to_q(hidden_states), encoder_hidden_states
        out = mixed(attn, q, attn.to_k(text), attn.to_v(text))
        assert self.tokens is not None
        out = out + mixed(attn, q, self.pair.to_k_ip(self.tokens), self.pair.to_v_ip(self.tokens))
        return attn.to_out[0](out)


class Reference:
    """The stock network, and beside it what a picture needs."""

    def __init__(self, told: Preset) -> None:
        self.told = told
        self.unet = diffusers.UNet2DConditionModel(**config(told))
        randomise(self.unet)
        self.unet = self.unet.double().eval()
        self.pairs: dict[str, Pair] = {}
        self.resampler: Any = None
        if told.tokens:
            self.resampler = IPAdapterPlusImageProjection(
                HIDDEN, TEXT, TEXT, depth=2, dim_head=64, heads=2, num_queries=3
            )
            randomise(self.resampler, seed=7)
            self.resampler.double().eval()
            for number, (path, module) in enumerate(self.unet.named_modules()):
                if path.endswith("attn2"):
                    self.pairs[path] = Pair(module.to_q.out_features)
                    randomise(self.pairs[path], seed=100 + number)
                    self.pairs[path].double()

    def tensors(self) -> dict[str, Tensor]:
        """All its numbers, under the names of a stock U-Net, the picture's as ImageDream calls them."""
        made = {name: tensor.clone() for name, tensor in self.unet.state_dict().items()}
        for path, pair in self.pairs.items():
            made |= {f"{path}.{name}": tensor.clone() for name, tensor in pair.state_dict().items()}
        return made | (resampler(self.resampler) if self.resampler else {})

    @torch.no_grad()
    def __call__(self, x: Tensor, t: Tensor, told: Conditions) -> Tensor:
        pictures, times, texts, cameras, tokens = [], [], [], [], []
        seen = self.resampler(told.hidden) if self.resampler else None
        for row in range(len(x)):
            frames = [x[row, :, view] for view in range(x.shape[2])]
            if told.shown is not None:
                frames = [torch.cat([frame, told.shown[row, :, view]]) for view, frame in enumerate(frames)]
            poses = [told.cameras[row, view] for view in range(x.shape[2])] if told.cameras is not None else []
            if told.reference is not None:
                own = told.reference[row]
                if told.shown is not None:
                    beside = torch.zeros_like(own) if told.beside_reference is None else told.beside_reference[row]
                    own = torch.cat([own, beside])
                frames.append(own)
                poses.append(torch.zeros_like(poses[0]))
            pictures += frames
            cameras += poses
            times += [t[row]] * len(frames)
            texts += [told.context[row]] * len(frames)
            tokens += [seen[row]] * len(frames) if seen is not None else []
        slots = len(pictures) // len(x)
        for path, module in self.unet.named_modules():
            if path.endswith("attn1"):
                module.set_processor(Dense(slots))
            elif path.endswith("attn2") and tokens:
                module.set_processor(Beside(self.pairs[path], torch.stack(tokens)))
        out = self.unet(
            torch.stack(pictures), torch.stack(times), torch.stack(texts), class_labels=torch.stack(cameras)
        ).sample
        rows = [out[row * slots : row * slots + x.shape[2]].transpose(0, 1) for row in range(len(x))]
        return torch.stack(rows)


def resampler(module: Any) -> dict[str, Tensor]:
    """diffusers' names of a resampler as the original code has them."""
    held = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    made = {f"image_embed.{name}": held.pop(name) for name in list(held) if not name.startswith("layers.")}
    words = {"ln0": "0.norm1", "ln1": "0.norm2", "attn.to_q": "0.to_q", "attn.to_out.0": "0.to_out", "ff.0": "1.0",
             "ff.1.net.0.proj": "1.1", "ff.1.net.2": "1.3"}  # fmt: skip
    for layer in {name.split(".")[1] for name in held}:
        stem = f"layers.{layer}."
        both = [held.pop(f"{stem}attn.to_{part}.weight") for part in "kv"]
        made[f"image_embed.{stem}0.to_kv.weight"] = torch.cat(both)
        for theirs, ours in words.items():
            for kind in ("weight", "bias"):
                if f"{stem}{theirs}.{kind}" in held:
                    made[f"image_embed.{stem}{ours}.{kind}"] = held.pop(f"{stem}{theirs}.{kind}")
    assert not held, held.keys()
    return made


def ours(reference: Reference) -> ViewNetwork:
    """Our network of the same numbers."""
    told = reference.told
    return build(told, reference.tensors(), {}, layout(told.layout))


def asked(told: Preset, views: int = V, seed: int = 1) -> tuple[Tensor, Tensor, Conditions]:
    """Latents, times and conditions of two portraits."""
    cameras = random(B, views, told.camera_width, seed=seed + 2)
    made: dict[str, Tensor] = {"context": random(B, LENGTH, TEXT, seed=seed + 1), "cameras": cameras}
    if told.tokens:
        made["hidden"] = random(B, 7, HIDDEN, seed=seed + 3)
    if told.slot:
        made["reference"] = random(B, 4, H, W, seed=seed + 4)
    if told.shown:
        made["shown"] = random(B, 4, views, H, W, seed=seed + 5)
        made["beside_reference"] = random(B, 4, H, W, seed=seed + 6)
    return random(B, 4, views, H, W, seed=seed), torch.tensor([3.25, 801.0]), Conditions(**made)
