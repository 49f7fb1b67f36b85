"""How files call the tensors of a change: whose layer it is, by the first words, and what it is of it, by the last.

Two tables of rules, read from top to bottom; what no rule knows is left over and refused. Whose names these are:
kohya-ss/sd-scripts, LyCORIS, diffusers before and since 0.2x, PEFT, ComfyUI, OneTrainer. No torch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from safelight.adapters.lora.forms import FORMS

OURS, LDM, OLD = "ours", "ldm", "old"
"""Ways to name a layer: as released folders do, as single files do, as diffusers' attention processors did."""


class Beginning(NamedTuple):
    """What the first words of a name say.

    Attributes:
        words: the words. dialect: whose they are.
        part: of the model; empty where the names are those of whichever part has them.
        naming: how the layer is named behind them. joint: what stands between its words.
    """

    words: str
    dialect: str
    part: str
    naming: str = OURS
    joint: str = "."


class Ending(NamedTuple):
    """What the last words of a name say.

    Attributes:
        words: the words. role: of the tensor in its change. hand: who writes so; the tensors of one change are of one
            hand, but for those that every hand writes alike (empty).
    """

    words: str
    role: str
    hand: str = ""


BEGINNINGS = (
    Beginning("lora_unet_", "kohya", "unet", OURS, "_"),
    Beginning("lora_unet_", "kohya", "unet", LDM, "_"),
    Beginning("lora_te_", "kohya", "text_encoder", OURS, "_"),
    Beginning("lora_te1_", "kohya", "text_encoder", OURS, "_"),
    Beginning("lora_te2_", "kohya", "text_encoder_2", OURS, "_"),
    Beginning("oft_unet_", "kohya", "unet", OURS, "_"),
    Beginning("oft_unet_", "kohya", "unet", LDM, "_"),
    Beginning("lycoris_", "kohya", "unet", OURS, "_"),
    Beginning("lora_unet.", "onetrainer", "unet"),
    Beginning("lora_te.", "onetrainer", "text_encoder"),
    Beginning("lora_te1.", "onetrainer", "text_encoder"),
    Beginning("lora_te2.", "onetrainer", "text_encoder_2"),
    Beginning("clip_l.", "onetrainer", "text_encoder"),
    Beginning("clip_g.", "onetrainer", "text_encoder_2"),
    Beginning("base_model.model.unet.", "peft", "unet"),
    Beginning("base_model.model.", "peft", ""),
    Beginning("diffusion_model.", "comfyui", "unet", LDM),
    Beginning("diffusion_model.", "comfyui", "unet", OURS),
    Beginning("text_encoders.clip_l.transformer.", "comfyui", "text_encoder"),
    Beginning("text_encoders.clip_g.transformer.", "comfyui", "text_encoder_2"),
    Beginning("unet.", "diffusers", "unet"),
    Beginning("unet.", "diffusers", "unet", OLD),
    Beginning("unet.", "onetrainer", "unet", LDM),
    Beginning("text_encoder.", "diffusers", "text_encoder"),
    Beginning("text_encoder.", "diffusers", "text_encoder", OLD),
    Beginning("text_encoder_2.", "diffusers", "text_encoder_2"),
    Beginning("text_encoder_2.", "diffusers", "text_encoder_2", OLD),
    Beginning("", "diffusers", ""),
    Beginning("", "diffusers", "unet", OLD),
    Beginning("", "comfyui", "unet", LDM),
)
ENDINGS = (
    Ending(".lora_down.weight", "down", "kohya"),
    Ending(".lora_up.weight", "up", "kohya"),
    Ending(".lora_mid.weight", "mid", "kohya"),
    Ending(".lora.down.weight", "down", "diffusers"),
    Ending(".lora.up.weight", "up", "diffusers"),
    Ending("_lora.down.weight", "down", "processors"),
    Ending("_lora.up.weight", "up", "processors"),
    Ending(".lora_linear_layer.down.weight", "down", "linear layers"),
    Ending(".lora_linear_layer.up.weight", "up", "linear layers"),
    Ending(".lora_A.weight", "down", "peft"),
    Ending(".lora_B.weight", "up", "peft"),
    Ending(".lora_B.bias", "up_bias", "peft"),
    Ending(".lora_A.default.weight", "down", "peft default"),
    Ending(".lora_B.default.weight", "up", "peft default"),
    Ending(".lora_B.default.bias", "up_bias", "peft default"),
    Ending(".lora_magnitude_vector", "magnitude", "peft"),
    Ending(".lora_magnitude_vector.weight", "magnitude", "peft"),
    Ending(".lora_magnitude_vector.default.weight", "magnitude", "peft default"),
    Ending(".lora_magnitude_vector.default", "magnitude", "peft default"),
    Ending(".hada_w1_a", "hada_w1_a"),
    Ending(".hada_w1_b", "hada_w1_b"),
    Ending(".hada_w2_a", "hada_w2_a"),
    Ending(".hada_w2_b", "hada_w2_b"),
    Ending(".hada_t1", "hada_t1"),
    Ending(".hada_t2", "hada_t2"),
    Ending(".lokr_w1", "lokr_w1"),
    Ending(".lokr_w1_a", "lokr_w1_a"),
    Ending(".lokr_w1_b", "lokr_w1_b"),
    Ending(".lokr_w2", "lokr_w2"),
    Ending(".lokr_w2_a", "lokr_w2_a"),
    Ending(".lokr_w2_b", "lokr_w2_b"),
    Ending(".lokr_t2", "lokr_t2"),
    Ending(".oft_blocks", "oft_blocks"),
    Ending(".oft_diag", "oft_diag"),
    Ending(".rescale", "rescale"),
    Ending(".oft_R.weight", "oft_R", "peft"),
    Ending(".oft_R.default.weight", "oft_R", "peft default"),
    Ending(".ia3_l", "ia3_l", "peft"),
    Ending(".ia3_l.default", "ia3_l", "peft default"),
    Ending(".on_input", "on_input", "lycoris"),
    Ending(".weight", "gain", "lycoris"),
    Ending(".diff", "diff"),
    Ending(".diff_b", "diff_b"),
    Ending(".w_norm", "w_norm"),
    Ending(".b_norm", "b_norm"),
    Ending(".dora_scale", "dora_scale"),
    Ending(".alpha", "alpha"),
)
STRANGERS = (
    (("lllite_",), "a ControlNet-LLLite"),
    ((".a1.weight", ".b1.weight"), "a GLoRA"),
    (("bundle_emb.",), "embeddings that OneTrainer bundled; load them as textual inversions"),
    ((".hypernetwork", "hypernet"), "a hypernetwork"),
    (("lora_transformer_", "transformer.", "lora_prior_"), "an adapter for another kind of network"),
)
"""Words of names that are known, and refused."""


@dataclass(frozen=True)
class Piece:
    """One change as a file has it.

    Attributes:
        stem: what the names of its tensors have in common. form: a name of FORMS.
        names: role -> name of the tensor. hand: who writes so.
    """

    stem: str
    form: str
    names: Mapping[str, str]
    hand: str


@dataclass(frozen=True)
class Parsed:
    """The names of a file, sorted.

    Attributes:
        pieces: whole changes, in the order of their stems.
        halves: stem -> roles that do not make a whole change.
        left: names that no rule knows.
    """

    pieces: tuple[Piece, ...]
    halves: Mapping[str, tuple[str, ...]]
    left: tuple[str, ...]


def parse(names: Iterable[str]) -> Parsed:
    """Sort the names of a file into changes."""
    groups: dict[str, dict[str, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
    left = []
    for name in names:
        ending = _ending(name)
        if ending is None:
            left.append(name)
            continue
        group = groups[name.removesuffix(ending.words)][ending.hand]
        if ending.role in group:  # two spellings of one tensor
            left.append(name)
        else:
            group[ending.role] = name
    pieces, halves = [], {}
    for stem, hands in sorted(groups.items()):
        piece = _piece(stem, hands)
        if piece is None:
            halves[stem] = tuple(role for roles in hands.values() for role in roles)
        else:
            pieces.append(piece)
    return Parsed(tuple(pieces), halves, tuple(left))


def stranger(names: Iterable[str]) -> str:
    """What names that no rule knows seem to be of; empty where nobody knows."""
    every = list(names)
    return next((what for words, what in STRANGERS if any(word in name for name in every for word in words)), "")


_BY_LENGTH = tuple(sorted(ENDINGS, key=lambda ending: -len(ending.words)))


def _ending(name: str) -> Ending | None:
    """The longest ending that a name has, with a layer's name before it."""
    return next((e for e in _BY_LENGTH if name.endswith(e.words) and len(name) > len(e.words)), None)


def _piece(stem: str, hands: Mapping[str, Mapping[str, str]]) -> Piece | None:
    """The change that the tensors of one stem make, where they make one."""
    own = [hand for hand in hands if hand]
    if len(own) > 1:
        return None
    names = {role: name for roles in hands.values() for role, name in roles.items()}
    form = next((form for form, each in FORMS.items() if each.is_of(frozenset(names))), None)
    return None if form is None else Piece(stem, form, names, own[0] if own else "")
