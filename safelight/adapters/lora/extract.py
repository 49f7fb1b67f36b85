"""Find the LoRA that leads from one checkpoint to another: the nearest of its rank, layer by layer.

Source: Eckart & Young 1936: the largest singular values and their vectors are the nearest matrix of a rank. They are
taken from the eigenvectors of D · D^T in float64, which is smaller than D; D is what was learned, [O, I] or [O, I·K].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from safelight.adapters.lora.export import Change
from safelight.adapters.lora.targets import Layer, Targets
from safelight.errors import RequestError, WeightsError

MOST_RANK = 4096


@dataclass(frozen=True)
class Extracted:
    """What was found.

    Attributes:
        changes: one per layer that differs. errors: full name of a layer -> what is left, by what was learned, 0 to 1.
        left_out: full names of differing tensors that a LoRA cannot hold and that were not asked for.
    """

    changes: tuple[Change, ...]
    errors: Mapping[str, float]
    left_out: tuple[str, ...]


def extract(
    base: Mapping[str, Mapping[str, Tensor]],
    tuned: Mapping[str, Mapping[str, Tensor]],
    targets: Targets,
    *,
    rank: int | None = 16,
    error: float | None = None,
    rest: bool = False,
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> Extracted:
    """The LoRA from ``base`` to ``tuned``.

    Args:
        base, tuned: part -> name of a tensor -> its numbers. targets: the layers of ``base``.
        rank: the largest; None for no bound. error: of every layer, by the length of what it learned (Frobenius), 0 to
            1; the smallest rank that keeps it, not above ``rank``, which is the one where there is no ``error``.
        rest: write what norms, biases and embeddings learned, too, as differences.
        watch: is told how many layers are done, of how many.

    Raises:
        RequestError: a rank or an error that cannot be, or two equal checkpoints.
        WeightsError: they do not have the same tensors.
    """
    if (rank is None and error is None) or (rank is not None and not 1 <= rank <= MOST_RANK):
        raise RequestError(f"a LoRA has a rank from 1 to {MOST_RANK}, or an error from 0 to 1")
    if error is not None and not 0 <= error < 1:
        raise RequestError(f"the error is a share of what was learned, 0 to 1, not {error}")
    _alike(base, tuned)
    changes: list[Change] = []
    errors: dict[str, float] = {}
    left_out: list[str] = []
    layers = [layer for rows in targets.layers.values() for layer in rows.values()]
    for done, layer in enumerate(layers):
        watch(done, len(layers))
        found = _learned(layer, base[layer.part], tuned[layer.part])
        matrix = len(layer.weight) in (2, 4) and not layer.name.endswith("_embedding")
        if matrix and found["weight"].any():
            change, errors[layer.full] = nearest(layer, found["weight"], rank, error)
            changes.append(change)
        others = [word for word, d in found.items() if d.any() and not (matrix and word == "weight")]
        if not rest:
            left_out += [f"{layer.full}.{word}" for word in others]
        elif others:
            changes += _rest(layer, found, changes, matrix=matrix)
    watch(len(layers), len(layers))
    if not changes:
        raise RequestError(
            "there is nothing to extract: the two checkpoints are the same to the last bit"
            if not left_out
            else f"only what no LoRA holds was changed ({left_out[0]} ...); ask for the rest, too"
        )
    if rest:
        _even(changes)
    return Extracted(tuple(changes), errors, tuple(left_out))


def _learned(layer: Layer, base: Mapping[str, Tensor], tuned: Mapping[str, Tensor]) -> dict[str, Tensor]:
    names = {word: f"{layer.name}.{word}" for word in ("weight", "bias")}
    return {word: tuned[name].double() - base[name].double() for word, name in names.items() if name in base}


def nearest(layer: Layer, learned: Tensor, rank: int | None, error: float | None) -> tuple[Change, float]:
    """The nearest change of a rank, or of the smallest rank that is near enough, and how far off it is."""
    flat = learned.flatten(1)
    turned = flat if flat.shape[0] <= flat.shape[1] else flat.t()
    squares, vectors = torch.linalg.eigh(turned @ turned.t())
    squares, vectors = squares.flip(0).clamp(min=0), vectors.flip(1)
    whole = float(squares.sum())
    after = (whole - squares.cumsum(0)).clamp(min=0)  # what is left behind ranks 1, 2, ...
    most = min(len(squares), rank or len(squares))
    if error is not None:
        enough = (after <= (error**2) * whole + 1e-24 * whole).nonzero()
        most = min(most, int(enough[0]) + 1 if len(enough) else most)
    left = vectors[:, :most]
    right = left.t() @ turned  # [R, I·K]: singular values included
    lengths = torch.linalg.vector_norm(right, dim=1, keepdim=True).sqrt().clamp(min=1e-30)
    left, right = left * lengths.t(), right / lengths
    up, down = (left, right) if flat.shape[0] <= flat.shape[1] else (right.t(), left.t())
    made = float(torch.linalg.vector_norm(flat - up @ down)) / whole**0.5
    ones = [1] * (len(layer.weight) - 2)
    tensors = {
        "up": up.float().reshape(layer.weight[0], most, *ones),
        "down": down.float().reshape(most, *layer.weight[1:]),
    }
    return Change(layer, "lora", {role: tensor.contiguous() for role, tensor in tensors.items()}), made


def _rest(layer: Layer, found: Mapping[str, Tensor], changes: list[Change], *, matrix: bool) -> list[Change]:
    """What is added to norms, embeddings and biases; a bias goes with the change of its weight."""
    if not matrix:
        words = {"weight": "w_norm", "bias": "b_norm"} if len(layer.weight) == 1 else {"weight": "diff"}
        return [
            Change(layer, "norm" if len(layer.weight) == 1 else "full", {words[w]: d.float() for w, d in found.items()})
        ]
    if changes and changes[-1].layer is layer:
        changes[-1].tensors["diff_b"] = found["bias"].float()
        return []
    ones = [1] * (len(layer.weight) - 2)
    nothing = {"up": torch.zeros(layer.weight[0], 1, *ones), "down": torch.zeros(1, *layer.weight[1:])}
    return [Change(layer, "lora", nothing | {"diff_b": found["bias"].float()})]


def _even(changes: list[Change]) -> None:
    """Where one change adds to a bias, all of layers with biases do: a reader then sees that none was lost."""
    low = [change for change in changes if change.form == "lora" and change.layer.biased]
    if any("diff_b" in change.tensors for change in low):
        for change in low:
            change.tensors.setdefault("diff_b", torch.zeros(change.layer.weight[0]))


def _alike(base: Mapping[str, Mapping[str, Tensor]], tuned: Mapping[str, Mapping[str, Tensor]]) -> None:
    one, other = ({f"{part} {name}": tuple(t.shape) for part, rows in each.items() for name, t in rows.items()}
                  for each in (base, tuned))  # fmt: skip
    if one != other:
        unlike = sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
        raise WeightsError(
            f"the two checkpoints are of two kinds of model: {len(unlike)} tensors differ ({unlike[0]} ...)"
        )
