"""Tiny networks of two domains: the stock U-Net of diffusers with a second self-attention put into its blocks by hand.

The reference is written slot by slot with lists, so that it shares no rearrangement with what it is held against.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import TimestepEmbedding
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.multiview.checkpoints import build
from safelight.multiview.layouts import layout
from safelight.multiview.network import Conditions, ViewNetwork
from safelight.multiview.presets import Preset, preset
from safelight.weights.save import save
from tests.parity.networks import SD1, SD2, random, randomise
from tests.parity.views import mixed

B, V, H, W, TEXT = 2, 3, 6, 4, 32
"""Rows, views of a domain, a grid that is no square, width of what is read; in tiny networks."""

Reads = Callable[[int, int], list[tuple[int, int]]]
"""(domain, view) -> the domains and views whose tokens it reads."""


def tiny(name: str) -> Preset:
    """A preset of tiny heads."""
    found = preset(name)
    return replace(found, heads=8 if found.heads_fixed else 16, hidden=5 if found.hidden else 0)


def config(told: Preset) -> dict[str, Any]:
    """The stock network's configuration."""
    return {
        **(SD1 if told.heads_fixed else SD2),
        "in_channels": 4 * (1 + len(told.shown)),
        "class_embed_type": "projection",
        "projection_class_embeddings_input_dim": told.told,
    }


def fork(told: Preset, **change: Any) -> dict[str, Any]:
    """``config.json`` of the released folder, in the fork's words, of the tiny sizes."""
    stock = config(told)
    down, up = (
        [each.replace("Block2D", "BlockMV2D") if "Cross" in each else each for each in stock[f"{way}_block_types"]]
        for way in ("down", "up")
    )
    return {
        **{key: list(value) if isinstance(value, tuple) else value for key, value in stock.items()},
        "_class_name": "UNetMV2DConditionModel",
        "_diffusers_version": "0.19.3",
        "down_block_types": down,
        "mid_block_type": "UNetMidBlockMV2DCrossAttn",
        "up_block_types": up,
        "num_views": 6,
        **WORDS[told.name],
        **change,
    }


WORDS: dict[str, dict[str, Any]] = {
    "wonder3d": {
        "cd_attention_last": False,
        "cd_attention_mid": True,
        "cross_domain_attention": False,
        "joint_attention": False,
        "joint_attention_twice": True,
        "multiview_attention": True,
        "mvcd_attention": False,
        "sparse_mv_attention": False,
    },
}
WORDS["era3d"] = {
    "addition_channels": [1280, 1280, 1280],
    "addition_downsample": False,
    "cd_attention_last": False,
    "cd_attention_mid": False,
    "decay": 0.9999,
    "inv_gamma": 1.0,
    "min_decay": 0.0,
    "multiview_attention": True,
    "mvcd_attention": True,
    "num_regress_blocks": 3,
    "optimization_step": 40000,
    "power": 0.6666666666666666,
    "projection_camera_embeddings_input_dim": 4,
    "regress_elevation": True,
    "regress_focal_length": True,
    "selfattn_block": "self_rowwise",
    "sparse_mv_attention": True,
    "update_after_step": 0,
    "use_dino": False,
    "use_ema_warmup": False,
}
WORDS["facelift"] = {
    "addition_channels": [1280, 1280, 1280],
    "addition_downsample": False,
    "cd_attention_last": False,
    "cd_attention_mid": False,
    "multiview_attention": True,
    "selfattn_block": "custom",
    "sparse_mv_attention": True,
}
WORDS["era3d-ortho"] = WORDS["era3d"] | {"regress_elevation": False, "regress_focal_length": False}
"""What the released configurations say beside the stock words; those of Era3D's second folder and
of FaceLift's were not seen, but the code that writes them."""


@dataclass
class Slots:
    """What a self-attention of each slot of a row reads: whole slots."""

    rows: int
    domains: int
    views: int
    reads: Reads

    def __call__(self, attn: Any, x: Tensor) -> Tensor:
        q, k, v = attn.to_q(x), attn.to_k(x), attn.to_v(x)
        out = []
        for row in range(self.rows):
            for domain in range(self.domains):
                for view in range(self.views):
                    seen = [self.place(row, *each) for each in self.reads(domain, view)]
                    keys, values = torch.cat([k[i] for i in seen]), torch.cat([v[i] for i in seen])
                    out.append(mixed(attn, q[self.place(row, domain, view)][None], keys[None], values[None]))
        return attn.to_out[0](torch.cat(out))

    def place(self, row: int, domain: int, view: int) -> int:
        return (row * self.domains + domain) * self.views + view


@dataclass
class Rows(Slots):
    """Every row of pixels of a slot reads that row in the slots that the slot reads; a grid of any level."""

    def __call__(self, attn: Any, x: Tensor) -> Tensor:
        shrunk = round((H * W / x.shape[1]) ** 0.5)
        lines = H // shrunk
        q, k, v = (project(x).unflatten(1, (lines, -1)) for project in (attn.to_q, attn.to_k, attn.to_v))
        out = torch.zeros_like(q)
        for row in range(self.rows):
            for domain in range(self.domains):
                for view in range(self.views):
                    here, seen = (
                        self.place(row, domain, view),
                        [self.place(row, *each) for each in self.reads(domain, view)],
                    )
                    for line in range(lines):
                        keys, values = (torch.cat([each[i, line] for i in seen]) for each in (k, v))
                        out[here, line] = mixed(attn, q[here, line][None], keys[None], values[None])[0]
        return attn.to_out[0](out.flatten(1, 2))


class Regressor(nn.Module):
    """One number of the middle's features, layer by layer."""

    def __init__(self, source: int, width: int) -> None:
        super().__init__()
        self.linear_in = nn.Sequential(nn.Linear(source, width), nn.SiLU())
        self.blocks = nn.ModuleList(
            nn.ModuleDict({f"linear{i}": nn.Linear(width, width) for i in (1, 2)}) for _ in range(3)
        )
        self.linear_out = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear_in(x)
        block: Any
        for block in self.blocks:
            x = F.silu(block["linear2"](F.silu(block["linear1"](x))) + x)
        return self.linear_out(x)


class Guess:
    """Sees what leaves the middle block, and changes the time vector of the blocks on the way up."""

    def __init__(self, unet: Any, domains: int) -> None:
        self.unet, self.domains, self.rows = unet, domains, 1
        width = unet.time_embedding.linear_2.out_features
        for name in ("elevation_regressor", "focal_regressor"):
            unet.add_module(name, Regressor(domains * unet.config.block_out_channels[-1], width))
        unet.add_module("camera_embedding", TimestepEmbedding(4, width))
        unet.mid_block.register_forward_hook(self.see)
        for block in unet.up_blocks:
            block.register_forward_pre_hook(self.tell, with_kwargs=True)

    def see(self, block: Any, given: Any, made: Tensor) -> None:
        slots = len(made) // self.rows
        views = slots // self.domains
        self.ways = []
        for row in range(self.rows):
            own = made[row * slots : (row + 1) * slots].mean(-1).mean(-1)
            seen = [torch.cat([own[domain * views + view] for domain in range(self.domains)]) for view in range(views)]
            elevation = sum(self.unet.elevation_regressor(each) for each in seen) / views
            focal = sum(self.unet.focal_regressor(each) for each in seen) / views
            told = torch.cat([elevation.sin(), focal.sin(), elevation.cos(), focal.cos()])
            self.ways += [self.unet.camera_embedding(told)] * slots

    def tell(self, block: Any, given: Any, named: Any) -> Any:
        return given, {**named, "temb": named["temb"] + torch.stack(self.ways)}


class Processor:
    """Stands in the first self-attention of a block, and adds what the second leaves of what the first made."""

    def __init__(self, block: Any, name: str) -> None:
        if name:
            self.norm, self.attn = block.get_submodule(f"norm_{name}"), block.get_submodule(f"attn_{name}")
        self.first: Any = None
        self.second: Any = None
        self.entered = torch.empty(0)
        block.register_forward_pre_hook(self.see, with_kwargs=True)

    def see(self, block: Any, given: Any, named: Any) -> None:
        self.entered = given[0] if given else named["hidden_states"]

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Any = None, **_: Any) -> Tensor:
        first = self.first(attn, hidden_states)
        if self.second is None:
            return first
        return first + self.second(self.attn, self.norm(self.entered + first))


def reader(name: str, rows: int, domains: int, views: int) -> Slots:
    """What stands for a layout of that name."""
    reads: dict[str, Reads] = {
        "dense": lambda d, v: [(d, each) for each in range(views)],
        "rows": lambda d, v: [(d, each) for each in range(views)],
        "front-self": lambda d, v: [(d, 0), (d, v)],
        "joint-domain": lambda d, v: [(each, v) for each in range(domains)],
    }
    return (Rows if name == "rows" else Slots)(rows, domains, views, reads[name])


class Reference:
    """The stock network with the second self-attention of a preset."""

    def __init__(self, told: Preset) -> None:
        self.told = told
        self.unet: Any = diffusers.UNet2DConditionModel(**config(told))
        self.blocks = [module for module in self.unet.modules() if isinstance(module, BasicTransformerBlock)]
        name = told.second.get("name", "")
        for block in self.blocks if name else ():
            width, heads = block.attn1.query_dim, block.attn1.heads
            block.add_module(f"norm_{name}", nn.LayerNorm(width))
            block.add_module(f"attn_{name}", Attention(width, heads=heads, dim_head=width // heads))
        self.guess = Guess(self.unet, len(told.domains)) if told.guesses else None
        randomise(self.unet)
        self.unet = self.unet.double().eval()
        self.processors = [Processor(block, name) for block in self.blocks]
        for block, processor in zip(self.blocks, self.processors, strict=True):
            block.attn1.set_processor(processor)

    def tensors(self) -> dict[str, Tensor]:
        """All its numbers, under the names of the released file."""
        return {name: tensor.clone() for name, tensor in self.unet.state_dict().items()}

    @torch.no_grad()
    def __call__(self, x: Tensor, t: Tensor, told: Conditions) -> Tensor:
        rows, domains = len(x), len(self.told.domains)
        views = x.shape[2] // domains
        assert told.shown is not None
        label = told.embedding if told.cameras is None else told.cameras
        assert label is not None
        for processor in self.processors:
            processor.first = reader(self.told.layout, rows, domains, views)
            if self.told.second:
                processor.second = reader(self.told.second["layout"], rows, domains, views)
        if self.guess is not None:
            self.guess.rows = rows
        pictures, labels, texts = [], [], []
        for row in range(rows):
            for slot in range(x.shape[2]):
                pictures.append(torch.cat([x[row, :, slot], told.shown[row, :, slot]]))
                labels.append(label[row] if label.ndim == 2 else label[row, slot])
                texts.append(told.context[row] if told.context.ndim == 3 else told.context[row, slot])
        asked = torch.stack(pictures), t.repeat_interleave(x.shape[2]), torch.stack(texts)
        out = self.unet(*asked, class_labels=torch.stack(labels)).sample
        return out.unflatten(0, (rows, -1)).transpose(1, 2)


@cache
def reference(name: str) -> Reference:
    """The one of a preset; never change it."""
    return Reference(tiny(name))


def written(name: str, place: Path, tensors: dict[str, Tensor] | None = None, **change: Any) -> Path:
    """A released folder: its ``unet``, and a schedule."""
    told, folder = tiny(name), place / "unet"
    folder.mkdir(parents=True)
    (place / "scheduler").mkdir()
    betas = {f"beta_{key}": value for key, value in told.betas.items()}
    plan = {"_class_name": "DDIMScheduler", **betas, "prediction_type": told.prediction, "clip_sample": False}
    (place / "scheduler" / "scheduler_config.json").write_text(json.dumps({**plan, "set_alpha_to_one": False}))
    (folder / "config.json").write_text(json.dumps(fork(told, **change)))
    save(reference(name).tensors() if tensors is None else tensors, folder / "diffusion_pytorch_model.safetensors")
    return place


def ours(reference: Reference) -> ViewNetwork:
    """Our network of the same numbers."""
    told = reference.told
    return build(told, reference.tensors(), fork(told), layout(told.layout))


def asked(told: Preset, views: int = V, seed: int = 1) -> tuple[Tensor, Tensor, Conditions]:
    """Latents, times and conditions of two things, each domain in turn."""
    slots = views * len(told.domains)
    pictured = told.picture == "time"
    cond = Conditions(
        context=random(B, slots, 5, TEXT, seed=seed + 1) if pictured else random(B, 1, TEXT, seed=seed + 1),
        cameras=None if pictured else random(B, slots, told.told, seed=seed + 2),
        embedding=random(B, told.told, seed=seed + 2) if pictured else None,
        shown=random(B, 4, 1, H, W, seed=seed + 3).expand(-1, -1, slots, -1, -1),
    )
    return random(B, 4, slots, H, W, seed=seed), torch.tensor([3.25, 801.0]), cond
