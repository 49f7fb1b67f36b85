"""The image encoder of CLIP: a transformer over the patches of a picture; released Hugging Face names.

Axes: B rows, H W pixels, N = 1 + patches tokens (the first is the whole picture's), C width, P width of the space
shared with texts. Source: Dosovitskiy et al. 2020, "An Image is Worth 16x16 Words", section 3.1; Radford et al. 2021,
"Learning Transferable Visual Models From Natural Language Supervision", section 2.4 (the normalisation before the
layers); Ilharco et al. 2021, OpenCLIP (the H and bigG shapes).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from safelight.encoders.clip import IGNORED, Layers
from safelight.errors import ConfigError, RequestError
from safelight.nn.config import DEEPEST, from_released, positive
from safelight.nn.mlp import ACTIVATIONS

FIXED: dict[str, tuple[Any, ...]] = {
    "add_cross_attention": (False,),
    "is_decoder": (False,),
    "model_type": ("clip_vision_model",),
    "num_channels": (3,),
    "tie_encoder_decoder": (False,),
    "use_bfloat16": (False,),
}
KINDS = {"CLIPVisionModel": False, "CLIPVisionModelWithProjection": True}
"""Class in ``architectures`` -> whether its files hold the projection."""


@dataclass(frozen=True)
class ClipVisionConfig:
    """The shape of an image encoder, under the names of the released ``config.json``.

    `projection` says whether the file holds the projection to the space shared with texts; it follows from the released
    ``architectures``, not from a key of its own.
    """

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    image_size: int = 224
    patch_size: int = 32
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    projection_dim: int = 512
    projection: bool = False

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> ClipVisionConfig:
        """Read a released ``config.json``.

        Raises:
            ConfigError: it describes a network that this class is not; the message names the key.
        """
        kinds = raw.get("architectures") or ["CLIPVisionModel"]
        if not isinstance(kinds, list) or len(kinds) != 1 or kinds[0] not in KINDS:
            raise ConfigError(f"the configuration is of {str(kinds)[:80]}; a CLIPVisionModel is expected")
        return from_released(cls, {**raw, "projection": KINDS[kinds[0]]}, fixed=FIXED, ignored=IGNORED)

    def __post_init__(self) -> None:
        positive(self, "hidden_size", "intermediate_size", "num_attention_heads", "image_size", "patch_size")
        positive(self, "projection_dim")
        positive(self, "num_hidden_layers", most=DEEPEST)
        if self.hidden_act not in ACTIVATIONS:
            raise ConfigError(f"hidden_act = {self.hidden_act!r} is not supported; known: {', '.join(ACTIVATIONS)}")
        if self.hidden_size % self.num_attention_heads:
            raise ConfigError(f"hidden_size {self.hidden_size} is not a multiple of {self.num_attention_heads} heads")
        if self.patch_size > self.image_size:
            raise ConfigError(f"patch_size {self.patch_size} is larger than image_size {self.image_size}")

    @property
    def tokens(self) -> int:
        """How many tokens a picture is: one for the whole, one for each patch."""
        return 1 + (self.image_size // self.patch_size) ** 2


class ClipVisionOutput(NamedTuple):
    """Everything a picture is read as.

    Attributes:
        hidden: what enters layer 0, then what leaves each layer: [B, N, C] each. ``hidden[-1]`` is the last layer as it
            is, with no normalisation behind it; ``hidden[-2]`` is what IP-Adapter Plus reads.
        pooled: [B, C], the normalised token of the whole picture.
        projected: [B, P], ``pooled`` in the space shared with texts; None where the file has no projection.
    """

    hidden: tuple[Tensor, ...]
    pooled: Tensor
    projected: Tensor | None


class ClipVision(nn.Module):
    """Pictures [B, 3, H, W] to vectors; built under ``torch.device("meta")`` without weights, else with random ones."""

    def __init__(self, config: ClipVisionConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_model = VisionTransformer(config)
        self.visual_projection = (
            nn.Linear(config.hidden_size, config.projection_dim, bias=False) if config.projection else None
        )
        if self.visual_projection is not None:
            nn.init.normal_(self.visual_projection.weight, std=config.hidden_size**-0.5)

    def forward(self, pixels: Tensor) -> ClipVisionOutput:
        """[B, 3, H, W] as `safelight.encoders.clip_pixels` makes them; H and W are ``image_size``.

        Raises:
            RequestError: pictures of another size.
        """
        edge = self.config.image_size
        if pixels.shape[1:] != (3, edge, edge):
            raise RequestError(f"pictures of shape {list(pixels.shape[1:])}; the encoder reads [3, {edge}, {edge}]")
        hidden = self.vision_model(pixels)
        pooled = self.vision_model.post_layernorm(hidden[-1][:, 0])
        projected = None if self.visual_projection is None else self.visual_projection(pooled)
        return ClipVisionOutput(hidden, pooled, projected)


class VisionTransformer(nn.Module):
    """Embeddings, a normalisation, layers, and the final normalisation, which `ClipVision` applies to one token."""

    def __init__(self, config: ClipVisionConfig) -> None:
        super().__init__()
        self.embeddings = VisionEmbeddings(config)
        self.pre_layrnorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)  # released with this spelling
        self.encoder = Layers(config, causal=False)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """[B, 3, H, W] -> what enters layer 0 and what leaves each layer, [B, N, C] each."""
        return self.encoder(self.pre_layrnorm(self.embeddings(pixels)))


class VisionEmbeddings(nn.Module):
    """A vector per patch and one for the whole picture, plus a learned one per position."""

    def __init__(self, config: ClipVisionConfig) -> None:
        super().__init__()
        width, edge = config.hidden_size, config.patch_size
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.patch_embedding = nn.Conv2d(3, width, edge, stride=edge, bias=False)
        self.position_embedding = nn.Embedding(config.tokens, width)
        nn.init.normal_(self.class_embedding, std=width**-0.5)
        nn.init.normal_(self.patch_embedding.weight, std=0.02)
        nn.init.normal_(self.position_embedding.weight, std=0.02)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        whole = self.class_embedding.expand(len(pixels), 1, -1)
        return torch.cat([whole, patches], dim=1) + self.position_embedding.weight
