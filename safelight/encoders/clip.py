"""The text encoder of CLIP: a causal transformer over at most 77 tokens; released Hugging Face names.

Axes: B rows, L tokens, C width. Source: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language
Supervision", section 2.4 (the network and its initialisation); Ilharco et al. 2021, OpenCLIP (the H and bigG shapes).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from safelight.errors import ConfigError, RequestError
from safelight.nn.attention import attend, merge_heads, split_heads
from safelight.nn.config import DEEPEST, from_released, positive
from safelight.nn.mlp import ACTIVATIONS

LEGACY_EOS = 2
"""Files written before the end token's number was corrected say 2 and mean "the highest number in the row"."""

FIXED: dict[str, tuple[Any, ...]] = {
    "add_cross_attention": (False,),
    "is_decoder": (False,),
    "model_type": ("clip_text_model",),
    "tie_encoder_decoder": (False,),
    "use_bfloat16": (False,),
}
IGNORED = frozenset(
    {
        *("architectures", "attention_dropout", "chunk_size_feed_forward", "dropout", "dtype", "id2label"),
        *("initializer_factor", "initializer_range", "is_encoder_decoder", "label2id", "output_attentions"),
        *("output_hidden_states", "problem_type", "return_dict", "tie_word_embeddings", "torch_dtype"),
        "transformers_version",
    }
)


@dataclass(frozen=True)
class ClipTextConfig:
    """The shape of a text encoder, under the names of the released ``config.json``.

    `projection` says whether the file holds the projection to the space shared with pictures; it follows from the
    released ``architectures``, not from a key of its own.
    """

    vocab_size: int = 49408
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    projection_dim: int = 512
    bos_token_id: int = 49406
    eos_token_id: int = 49407
    pad_token_id: int = 1
    projection: bool = False

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> ClipTextConfig:
        """Read a released ``config.json``.

        Raises:
            ConfigError: it describes a network that this class is not; the message names the key.
        """
        kinds = raw.get("architectures") or ["CLIPTextModel"]
        if kinds not in (["CLIPTextModel"], ["CLIPTextModelWithProjection"]):
            raise ConfigError(f"the configuration is of {str(kinds)[:80]}; a CLIPTextModel is expected")
        projection = kinds == ["CLIPTextModelWithProjection"]
        return from_released(cls, {**raw, "projection": projection}, fixed=FIXED, ignored=IGNORED)

    def __post_init__(self) -> None:
        positive(self, "vocab_size", "hidden_size", "intermediate_size", "num_attention_heads")
        positive(self, "max_position_embeddings", "projection_dim")
        positive(self, "num_hidden_layers", most=DEEPEST)
        if self.hidden_act not in ACTIVATIONS:
            raise ConfigError(f"hidden_act = {self.hidden_act!r} is not supported; known: {', '.join(ACTIVATIONS)}")
        if self.hidden_size % self.num_attention_heads:
            raise ConfigError(f"hidden_size {self.hidden_size} is not a multiple of {self.num_attention_heads} heads")


class Depth(Protocol):
    """What a layer needs to know of its network; both of CLIP's configurations say it."""

    @property
    def hidden_size(self) -> int: ...
    @property
    def intermediate_size(self) -> int: ...
    @property
    def num_hidden_layers(self) -> int: ...
    @property
    def num_attention_heads(self) -> int: ...
    @property
    def hidden_act(self) -> str: ...
    @property
    def layer_norm_eps(self) -> float: ...


class ClipTextOutput(NamedTuple):
    """Everything a text is read as.

    Attributes:
        hidden: what enters layer 0, then what leaves each layer, before the final normalisation: [B, L, C] each.
            ``hidden[-2]`` is the penultimate layer (SDXL).
        last: [B, L, C], the final normalisation of ``hidden[-1]`` (Stable Diffusion 1 and 2).
        pooled: [B, C], ``last`` at the first end token of each row.
        projected: [B, P], ``pooled`` in the space shared with pictures; None where the file has no projection.
    """

    hidden: tuple[Tensor, ...]
    last: Tensor
    pooled: Tensor
    projected: Tensor | None


class ClipText(nn.Module):
    """Token numbers [B, L] to vectors; built under ``torch.device("meta")`` without weights, else with random ones."""

    def __init__(self, config: ClipTextConfig) -> None:
        super().__init__()
        self.config = config
        self.text_model = TextTransformer(config)
        self.text_projection = (
            nn.Linear(config.hidden_size, config.projection_dim, bias=False) if config.projection else None
        )
        if self.text_projection is not None:
            nn.init.normal_(self.text_projection.weight, std=config.hidden_size**-0.5)

    def forward(self, ids: Tensor, seen: Tensor | None = None, learned: Tensor | None = None) -> ClipTextOutput:
        """[B, L] whole numbers, L at most ``max_position_embeddings``.

        Args:
            seen: [B, L] booleans, False at tokens that no other looks at; the first of a row must be True.
            learned: [K, C], what the numbers from ``vocab_size`` on stand for.

        Raises:
            RequestError: longer rows than the encoder has positions.
        """
        if ids.shape[-1] > self.config.max_position_embeddings:
            raise RequestError(f"{ids.shape[-1]} tokens; the encoder reads {self.config.max_position_embeddings}")
        hidden = self.text_model(ids, seen, learned)
        last = self.normed(hidden[-1])
        pooled = last[torch.arange(len(ids), device=ids.device), self.ends(ids)]
        projected = None if self.text_projection is None else self.text_projection(pooled)
        return ClipTextOutput(hidden, last, pooled, projected)

    def normed(self, hidden: Tensor) -> Tensor:
        """The final normalisation, as wanted for an earlier layer when the last ones are skipped (clip-skip)."""
        return self.text_model.final_layer_norm(hidden)

    def ends(self, ids: Tensor) -> Tensor:
        """[B, L] -> [B]: the position of the first end token of each row; learned words are never the highest."""
        end = self.config.eos_token_id
        return (ids * (ids < self.config.vocab_size) if end == LEGACY_EOS else (ids == end).int()).argmax(dim=-1)


class TextTransformer(nn.Module):
    """Embeddings, layers, and the final normalisation, which `ClipText` applies."""

    def __init__(self, config: ClipTextConfig) -> None:
        super().__init__()
        self.embeddings = TextEmbeddings(config)
        self.encoder = Layers(config, causal=True)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(
        self, ids: Tensor, seen: Tensor | None = None, learned: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """[B, L] -> what enters layer 0 and what leaves each layer, [B, L, C] each."""
        mask = None
        if seen is not None:
            order = torch.ones(ids.shape[-1], ids.shape[-1], dtype=torch.bool, device=ids.device).tril()
            mask = order & seen[:, None, None, :]
        return self.encoder(self.embeddings(ids, learned), mask)


class Layers(nn.Module):
    """The layers, one level down as in the released names; those of pictures are not causal."""

    def __init__(self, config: Depth, *, causal: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config, causal=causal) for _ in range(config.num_hidden_layers))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """[B, L, C] -> what enters layer 0 and what leaves each layer, [B, L, C] each."""
        hidden = [x]
        for layer in self.layers:
            hidden.append(layer(hidden[-1], mask))
        return tuple(hidden)


class TextEmbeddings(nn.Module):
    """A learned vector per token plus one per position."""

    def __init__(self, config: ClipTextConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.position_embedding.weight, std=0.01)

    def forward(self, ids: Tensor, learned: Tensor | None = None) -> Tensor:
        """[B, L] -> [B, L, C]; ``learned`` [K, C] goes on where the table of tokens ends."""
        if learned is None:
            return self.token_embedding(ids) + self.position_embedding.weight[: ids.shape[-1]]
        known = self.token_embedding.num_embeddings
        words = self.token_embedding(ids.clamp(max=known - 1))
        words = torch.where((ids >= known)[..., None], learned[(ids - known).clamp(min=0)], words)
        return words + self.position_embedding.weight[: ids.shape[-1]]


class EncoderLayer(nn.Module):
    """x + attention(norm x), + perceptron(norm x): [B, L, C] -> [B, L, C]."""

    def __init__(self, config: Depth, *, causal: bool) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.self_attn = SelfAttention(config, causal=causal)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = Perceptron(config)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x), mask)
        return x + self.mlp(self.layer_norm2(x))


class SelfAttention(nn.Module):
    """Each token looks at all, or at itself and those before it; with a mask [B, 1, L, L], where that is True."""

    def __init__(self, config: Depth, *, causal: bool) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads, self.causal = config.num_attention_heads, causal
        self.q_proj = _linear(width, width, std=width**-0.5)
        self.k_proj = _linear(width, width, std=width**-0.5)
        self.v_proj = _linear(width, width, std=width**-0.5)
        self.out_proj = _linear(width, width, std=_residual_std(config))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = (split_heads(y, self.heads) for y in (self.q_proj(x), self.k_proj(x), self.v_proj(x)))
        return self.out_proj(merge_heads(attend(q, k, v, mask=mask, causal=self.causal and mask is None)))


class Perceptron(nn.Module):
    """Linear, the configured activation, linear."""

    def __init__(self, config: Depth) -> None:
        super().__init__()
        self.activation = config.hidden_act
        self.fc1 = _linear(config.hidden_size, config.intermediate_size, std=(2 * config.hidden_size) ** -0.5)
        self.fc2 = _linear(config.intermediate_size, config.hidden_size, std=_residual_std(config))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(ACTIVATIONS[self.activation](self.fc1(x)))


def _linear(width: int, out: int, *, std: float) -> nn.Linear:
    """A linear layer with CLIP's random weights and no bias to begin with."""
    linear = nn.Linear(width, out)
    nn.init.normal_(linear.weight, std=std)
    nn.init.zeros_(linear.bias)
    return linear


def _residual_std(config: Depth) -> float:
    """The weights that write into the residual stream are smaller the deeper the network, so that its sum is not."""
    return config.hidden_size**-0.5 * (2 * config.num_hidden_layers) ** -0.5
