"""What a change adds to a layer's parameters: the dense arithmetic of every form, differentiable, in float32 or better.

Letters: W the layer's weight [O, I] or [O, I, K, K], R the rank. Sources: see `forms`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from safelight.adapters.lora.forms import direction

Tensors = Mapping[str, Tensor]
"""Role -> tensor, in the dtype of W."""


def deltas(form: str, tensors: Tensors, weight: Tensor, strength: float, said: Mapping[str, Any]) -> dict[str, Tensor]:
    """Parameter -> what the change adds to it at scale 1.

    Args:
        form: a name of FORMS. weight: the layer's, as it was read.
        strength: alpha by rank, for forms that have it.
        said: PEFT's settings, for forms whose tensors do not say all.
    """
    made: dict[str, Tensor] = {}
    if form in LOW:
        delta = _like(LOW[form](tensors), weight) * strength
        made["weight"] = decomposed(tensors, weight, delta)
        if "up_bias" in tensors:
            made["bias"] = tensors["up_bias"] * strength
        if "diff_b" in tensors:
            made["bias"] = made.get("bias", 0) + tensors["diff_b"]
    elif form in ("full", "norm"):
        for role, name in (("diff", "weight"), ("w_norm", "weight"), ("diff_b", "bias"), ("b_norm", "bias")):
            if role in tensors:
                made[name] = tensors[role] if name == "bias" else _like(tensors[role], weight)
    else:
        made["weight"] = (
            (TURNS[form](tensors, weight, said) - weight) if form in TURNS else GAINS[form](tensors, weight)
        )
    return made


def decomposed(tensors: Tensors, weight: Tensor, delta: Tensor) -> Tensor:
    """DoRA: what W + delta becomes at the length that the file says, less W (2402.09353 eq. 5)."""
    role = next((role for role in ("magnitude", "dora_scale") if role in tensors), None)
    if role is None:
        return delta
    size = tensors[role]
    axis = direction(role, tuple(size.shape), tuple(weight.shape))
    whole = weight + delta
    others = [each for each in range(weight.dim()) if each != axis]
    length = torch.linalg.vector_norm(whole, dim=others, keepdim=True)
    if role == "dora_scale":  # as LyCORIS has it
        length = length + torch.finfo(weight.dtype).eps
    return whole * (size.reshape(length.shape) / length) - weight


def low_rank(tensors: Tensors) -> Tensor:
    """up · down, or up · mid · down."""
    up, down = tensors["up"], tensors["down"]
    if "mid" in tensors:
        return torch.einsum("op,pqkl,qi->oikl", up.flatten(1), tensors["mid"], down.flatten(1))
    return (up.flatten(1) @ down.flatten(1)).view(len(up), *down.shape[1:])


def hadamard(tensors: Tensors) -> Tensor:
    """(w1_a · w1_b) ∘ (w2_a · w2_b), or both with a core between (2108.06098 prop. 2 and 3)."""
    halves = []
    for half in ("1", "2"):
        a, b = tensors[f"hada_w{half}_a"].flatten(1), tensors[f"hada_w{half}_b"].flatten(1)
        core = tensors.get(f"hada_t{half}")
        halves.append(a @ b if core is None else _tucker(core, a, b))
    return halves[0] * halves[1]


def kronecker(tensors: Tensors) -> Tensor:
    """w1 ⊗ w2, each of which may be a product (2309.14859 section 3.2)."""
    first = tensors["lokr_w1"] if "lokr_w1" in tensors else tensors["lokr_w1_a"] @ tensors["lokr_w1_b"]
    if "lokr_w2" in tensors:
        second = tensors["lokr_w2"]
    elif "lokr_t2" in tensors:
        second = _tucker(tensors["lokr_t2"], tensors["lokr_w2_a"].flatten(1), tensors["lokr_w2_b"].flatten(1))
    else:
        b = tensors["lokr_w2_b"]
        second = (tensors["lokr_w2_a"].flatten(1) @ b.flatten(1)).view(-1, *b.shape[1:])
    return torch.kron(first.view(*first.shape[:2], *[1] * (second.dim() - 2)), second.contiguous())


def turned(tensors: Tensors, weight: Tensor, said: Mapping[str, Any]) -> Tensor:
    """Channels out turned in blocks, by what Cayley makes of them; of BOFT several times, between shuffles."""
    blocks = tensors["oft_blocks"]
    skew = blocks - blocks.transpose(-1, -2)
    bound = float(tensors["alpha"]) * len(weight) if "alpha" in tensors else 0.0
    if bound > 0:
        length = torch.linalg.vector_norm(skew) + 1e-8
        skew = torch.where(length > bound, skew * (bound / length), skew)
    eye = torch.eye(blocks.shape[-1], dtype=blocks.dtype, device=blocks.device)
    turns = (eye + skew) @ torch.linalg.inv(eye - skew)
    return _rescaled(tensors, _blockwise(turns, weight) if blocks.dim() == 3 else _butterflies(turns, weight))


def turned_plainly(tensors: Tensors, weight: Tensor, said: Mapping[str, Any]) -> Tensor:
    """Channels out turned in blocks by the file's own matrices."""
    return _rescaled(tensors, _blockwise(tensors["oft_diag"], weight))


def turned_inwards(tensors: Tensors, weight: Tensor, said: Mapping[str, Any]) -> Tensor:
    """PEFT's: the numbers in turned in blocks; with its settings Cayley's inverse is a short series."""
    above = tensors["oft_R"]
    edge = (1 + math.isqrt(1 + 8 * above.shape[1])) // 2
    rows, columns = torch.triu_indices(edge, edge, 1, device=above.device)
    skew = above.new_zeros(len(above), edge, edge)
    skew[:, rows, columns] = above
    skew = skew - skew.transpose(-1, -2)
    eye = torch.eye(edge, dtype=above.dtype, device=above.device)
    if said.get("use_cayley_neumann", False):
        turns, power = eye.expand_as(skew), eye.expand_as(skew)
        terms = int(said.get("num_cayley_neumann_terms", 5))
        for term in range(1, terms):
            power = power @ skew
            turns = turns + power * (2.0 if term < terms - 1 or terms == 2 else 1.0)
    else:
        turns = torch.linalg.solve(eye + skew, eye - skew, left=False)
    flat = weight.flatten(1)
    made = torch.einsum("nkc,onc->onk", turns.expand(flat.shape[1] // edge, edge, edge), flat.unflatten(1, (-1, edge)))
    return made.reshape(weight.shape)


def gained(tensors: Tensors, weight: Tensor) -> Tensor:
    """W times a gain for each channel, in or out; the 1 of the unchanged weight is not counted in."""
    shape = [1] * weight.dim()
    shape[1 if bool(tensors["on_input"]) else 0] = -1
    return weight * tensors["gain"].reshape(shape)


def gained_as_peft(tensors: Tensors, weight: Tensor) -> Tensor:
    """W times PEFT's factor, less W."""
    factor = tensors["ia3_l"]
    if weight.dim() == 4 and factor.shape[1] == len(weight):
        factor = factor.transpose(0, 1)
    return weight * factor - weight


def _tucker(core: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.einsum("ijkl,jr,ip->prkl", core, b, a)


def _blockwise(turns: Tensor, weight: Tensor) -> Tensor:
    """Rows of W in blocks, each turned by the transpose of its matrix, as both originals have it."""
    count, edge, _ = turns.shape
    return torch.einsum("knm,kn...->km...", turns, weight.unflatten(0, (count, edge))).reshape(weight.shape)


def _butterflies(turns: Tensor, weight: Tensor) -> Tensor:
    """2311.06243 section 4: turn, after pairs of channels that lie ever further apart were brought together."""
    edge = turns.shape[-1]
    rows = weight.flatten(1)
    for stage, matrices in enumerate(turns):
        apart = 2**stage * (edge // 2)
        rows = rows.unflatten(0, (-1, 2, apart)).transpose(1, 2).flatten(0, 2).unflatten(0, (-1, edge))
        rows = torch.einsum("bij,bjx->bix", matrices, rows).flatten(0, 1)
        rows = rows.unflatten(0, (-1, apart, 2)).transpose(1, 2).flatten(0, 2)
    return rows.view(weight.shape)


def _rescaled(tensors: Tensors, weight: Tensor) -> Tensor:
    if "rescale" not in tensors:
        return weight
    return weight * tensors["rescale"].reshape(-1, *[1] * (weight.dim() - 1))


def _like(delta: Tensor, weight: Tensor) -> Tensor:
    """The same numbers in the shape of the layer's weight, which the plan saw to fit."""
    return delta.reshape(weight.shape)


LOW: dict[str, Callable[[Tensors], Tensor]] = {"lora": low_rank, "loha": hadamard, "lokr": kronecker}
TURNS: dict[str, Callable[[Tensors, Tensor, Mapping[str, Any]], Tensor]] = {
    "oft": turned,
    "oft_diag": turned_plainly,
    "oft_r": turned_inwards,
}
GAINS: dict[str, Callable[[Tensors, Tensor], Tensor]] = {"ia3": gained, "ia3_l": gained_as_peft}
