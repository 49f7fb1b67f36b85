"""Random changes of every form, and what each adds to a weight, worked out number by number or with other words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tests.adapters.made import Dice, Tensors


@dataclass(frozen=True)
class Kin:
    """A form: how a change is made at random, and the weight and bias that the layer then has."""

    make: Callable[[Dice, Tensor], Tensors | None]
    dense: Callable[[Tensors, Tensor], Tensor]


def halves(edge: int) -> tuple[int, int]:
    """The factors of a number nearest to each other."""
    small = next(n for n in range(int(edge**0.5), 0, -1) if edge % n == 0)
    return small, edge // small


def chain(up: Tensor, mid: Tensor | None, down: Tensor) -> Tensor:
    """The kernel of convolutions one after the other, found by asking them."""
    out = torch.zeros(up.shape[0], down.shape[1], *(mid if mid is not None else down).shape[2:], dtype=up.dtype)
    for o in range(out.shape[0]):
        for i in range(out.shape[1]):
            if mid is None:
                out[o, i] = sum(up[o, r, 0, 0] * down[r, i] for r in range(down.shape[0]))
            else:
                rows = range(down.shape[0])
                out[o, i] = sum(up[o, r, 0, 0] * mid[r, s] * down[s, i, 0, 0] for r in rows for s in rows)
    return out


def locon_tucker(dice: Dice, weight: Tensor) -> Tensors | None:
    if weight.dim() != 4 or weight.shape[2:] == (1, 1):
        return None
    out, into, *kernel = weight.shape
    return {
        "lora_down.weight": dice(3, into, 1, 1),
        "lora_mid.weight": dice(3, 3, *kernel),
        "lora_up.weight": dice(out, 3, 1, 1),
        "alpha": torch.tensor(2.0),
    }


def dense_locon_tucker(t: Tensors, weight: Tensor) -> Tensor:
    return weight + 2 / 3 * chain(t["lora_up.weight"], t["lora_mid.weight"], t["lora_down.weight"])


def flat(weight: Tensor) -> tuple[int, int]:
    return weight.shape[0], weight[0].numel()


def loha(dice: Dice, weight: Tensor) -> Tensors | None:
    if weight.dim() < 2:
        return None
    out, into = flat(weight)
    half = {f"hada_w{n}_a": dice(out, 2) * 3 for n in "12"} | {f"hada_w{n}_b": dice(2, into) * 3 for n in "12"}
    return half | {"alpha": torch.tensor(1.0)}


def dense_loha(t: Tensors, weight: Tensor) -> Tensor:
    one, two = (t[f"hada_w{n}_a"].matmul(t[f"hada_w{n}_b"]) for n in "12")
    return weight + (0.5 * one * two).reshape(weight.shape)


def loha_tucker(dice: Dice, weight: Tensor) -> Tensors | None:
    if weight.dim() != 4 or weight.shape[2:] == (1, 1):
        return None
    out, into, *kernel = weight.shape
    made: Tensors = {"alpha": torch.tensor(1.0)}
    for n in "12":
        made |= {
            f"hada_w{n}_a": dice(2, out) * 3,
            f"hada_w{n}_b": dice(2, into) * 3,
            f"hada_t{n}": dice(2, 2, *kernel) * 9,
        }
    return made


def dense_loha_tucker(t: Tensors, weight: Tensor) -> Tensor:
    one, two = (
        chain(t[f"hada_w{n}_a"].T[:, :, None, None], t[f"hada_t{n}"], t[f"hada_w{n}_b"][:, :, None, None]) for n in "12"
    )
    return weight + 0.5 * one * two


def lokr(dice: Dice, weight: Tensor) -> Tensors | None:
    """Both whole: alpha says nothing."""
    if weight.dim() < 2:
        return None
    (o1, o2), (i1, i2) = halves(weight.shape[0]), halves(weight.shape[1])
    return {"lokr_w1": dice(o1, i1), "lokr_w2": dice(o2, i2, *weight.shape[2:]), "alpha": torch.tensor(7.0)}


def kron(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    out = torch.zeros_like(weight)
    for o in range(first.shape[0]):
        for i in range(first.shape[1]):
            rows = slice(o * second.shape[0], (o + 1) * second.shape[0])
            out[rows, i * second.shape[1] : (i + 1) * second.shape[1]] = first[o, i] * second
    return out


def dense_lokr(t: Tensors, weight: Tensor) -> Tensor:
    return weight + kron(t["lokr_w1"], t["lokr_w2"], weight)


def lokr_low(dice: Dice, weight: Tensor) -> Tensors | None:
    """Both products."""
    if weight.dim() < 2:
        return None
    (o1, o2), (i1, i2) = halves(weight.shape[0]), halves(weight.shape[1])
    made = {"lokr_w1_a": dice(o1, 2) * 3, "lokr_w1_b": dice(2, i1) * 3, "lokr_w2_a": dice(o2, 2) * 3}
    return made | {"lokr_w2_b": dice(2, i2, *weight.shape[2:]) * 3, "alpha": torch.tensor(3.0)}


def dense_lokr_low(t: Tensors, weight: Tensor) -> Tensor:
    first = t["lokr_w1_a"].matmul(t["lokr_w1_b"])
    second = torch.tensordot(t["lokr_w2_a"], t["lokr_w2_b"], dims=1)
    return weight + 1.5 * kron(first, second, weight)


def lokr_tucker(dice: Dice, weight: Tensor) -> Tensors | None:
    if weight.dim() != 4 or weight.shape[2:] == (1, 1):
        return None
    (o1, o2), (i1, i2) = halves(weight.shape[0]), halves(weight.shape[1])
    made = {"lokr_w1": dice(o1, i1) * 3, "lokr_w2_a": dice(2, o2) * 3, "lokr_w2_b": dice(2, i2) * 3}
    return made | {"lokr_t2": dice(2, 2, *weight.shape[2:]) * 3, "alpha": torch.tensor(3.0)}


def dense_lokr_tucker(t: Tensors, weight: Tensor) -> Tensor:
    second = chain(t["lokr_w2_a"].T[:, :, None, None], t["lokr_t2"], t["lokr_w2_b"][:, :, None, None])
    return weight + 1.5 * kron(t["lokr_w1"], second, weight)


def dora(axis: int) -> Kin:
    """A plain LoRA with LyCORIS's magnitude, for each channel out (0) or in (1)."""

    def make(dice: Dice, weight: Tensor) -> Tensors | None:
        if weight.dim() < 2:
            return None
        ones = [1] * (weight.dim() - 2)
        size = [weight.shape[0], 1, *ones] if axis == 0 else [1, weight.shape[1], *ones]
        low = {"lora_down.weight": dice(2, *weight.shape[1:]), "lora_up.weight": dice(weight.shape[0], 2, *ones)}
        return low | {"alpha": torch.tensor(1.0), "dora_scale": dice(*size).abs() + 0.5}

    def dense(t: Tensors, weight: Tensor) -> Tensor:
        whole = weight + 0.5 * torch.tensordot(t["lora_up.weight"].flatten(1), t["lora_down.weight"], dims=1)
        out = torch.empty_like(whole)
        for n in range(whole.shape[axis]):
            row = whole.select(axis, n)
            eps = torch.finfo(weight.dtype).eps
            out.select(axis, n).copy_(row * t["dora_scale"].flatten()[n] / (row.pow(2).sum().sqrt() + eps))
        return out

    return Kin(make, dense)


def turns(blocks: Tensor, bound: float) -> Tensor:
    skew = blocks - blocks.mT
    length = float(skew.pow(2).sum().sqrt())
    if bound and length + 1e-8 > bound:
        skew = skew * bound / (length + 1e-8)
    eye = torch.eye(blocks.shape[-1], dtype=blocks.dtype)
    return torch.linalg.solve((eye - skew).mT, (eye + skew).mT).mT


def oft(bound: float | None, rescaled: bool) -> Kin:
    def make(dice: Dice, weight: Tensor) -> Tensors | None:
        if weight.dim() < 2 or weight.shape[0] % 4:
            return None
        made = {"oft_blocks": dice(weight.shape[0] // 4, 4, 4)}
        if rescaled:
            made["rescale"] = 1 + dice(weight.shape[0], *[1] * (weight.dim() - 1))
        return made if bound is None else made | {"alpha": torch.tensor(bound)}

    def dense(t: Tensors, weight: Tensor) -> Tensor:
        out, made = torch.zeros_like(weight), turns(t["oft_blocks"], (bound or 0.0) * len(weight))
        for k, turn in enumerate(made):
            for n in range(4):
                out[4 * k + n] = sum(turn[m, n] * weight[4 * k + m] for m in range(4))
        return out * t["rescale"].reshape(-1, *[1] * (weight.dim() - 1)) if rescaled else out

    return Kin(make, dense)


def oft_diag(dice: Dice, weight: Tensor) -> Tensors | None:
    if weight.dim() < 2 or weight.shape[0] % 4:
        return None
    return {"oft_diag": dice(weight.shape[0] // 4, 4, 4) + torch.eye(4)}


def dense_oft_diag(t: Tensors, weight: Tensor) -> Tensor:
    whole = torch.block_diag(*t["oft_diag"])
    return torch.tensordot(whole.T, weight, dims=1)


def boft(dice: Dice, weight: Tensor) -> Tensors | None:
    if weight.dim() < 2 or weight.shape[0] % 16:
        return None
    return {"oft_blocks": dice(3, weight.shape[0] // 4, 4, 4), "alpha": torch.tensor(0.0)}


def dense_boft(t: Tensors, weight: Tensor) -> Tensor:
    """Each stage as one matrix: what it does to the unit vectors."""
    out = weight
    for stage, made in enumerate(turns(t["oft_blocks"], 0.0)):
        apart = 2**stage * 2
        # Channel (c, g, k) stands at (c, k, g) while the blocks turn.
        place = torch.arange(len(weight)).reshape(-1, 2, apart).transpose(1, 2).reshape(-1)
        shuffle = torch.eye(len(weight), dtype=weight.dtype)[place]
        out = torch.tensordot(shuffle.T @ torch.block_diag(*made) @ shuffle, out, dims=1)
    return out


def ia3(on_input: bool) -> Kin:
    def make(dice: Dice, weight: Tensor) -> Tensors | None:
        if weight.dim() < 2:
            return None
        count = weight.shape[1] if on_input else weight.shape[0]
        gain = dice(count) if weight.dim() == 2 else dice(1, count, 1, 1)
        return {"weight": gain, "on_input": torch.tensor(int(on_input))}

    def dense(t: Tensors, weight: Tensor) -> Tensor:
        out = weight.clone()
        for n, gain in enumerate(t["weight"].flatten()):
            out.select(1 if on_input else 0, n).mul_(1 + gain)
        return out

    return Kin(make, dense)


KIN: dict[str, Kin] = {
    "LoCon with Tucker": Kin(locon_tucker, dense_locon_tucker),
    "LoHa": Kin(loha, dense_loha),
    "LoHa with Tucker": Kin(loha_tucker, dense_loha_tucker),
    "LoKr": Kin(lokr, dense_lokr),
    "LoKr of products": Kin(lokr_low, dense_lokr_low),
    "LoKr with Tucker": Kin(lokr_tucker, dense_lokr_tucker),
    "DoRA out": dora(0),
    "DoRA in": dora(1),
    "OFT": oft(None, False),
    "OFT bound": oft(2.0**-7, False),
    "OFT rescaled": oft(0.0, True),
    "old OFT": Kin(oft_diag, dense_oft_diag),
    "BOFT": Kin(boft, dense_boft),
    "IA3 out": ia3(False),
    "IA3 in": ia3(True),
}
