"""The forms that a change of one layer comes in, told by its tensors' names and checked by their shapes; no torch.

Sources: Hu et al. 2106.09685 (LoRA), Hyeon-Woo et al. 2108.06098 (LoHa), Yeh et al. 2309.14859 (LyCORIS: LoCon, LoKr,
Tucker), Liu et al. 2402.09353 (DoRA), Liu et al. 2205.05638 ((IA)^3), Qiu et al. 2306.07280 (OFT), Liu et al.
2311.06243 (BOFT). Letters: O I channels out and in, K the edges of a convolution's kernel, R the rank.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

from safelight.weights.keys import Shape

Shapes = Mapping[str, Shape]
"""Role of a tensor in its change -> shape."""


@dataclass(frozen=True)
class Form:
    """One way to write a change.

    Attributes:
        needs: the sets of roles of which a change has exactly one. may: roles that can come with any of them.
        rank: (shapes by role, shape of the layer's weight) -> rank, 0 for forms that have none; ValueError says what
            does not fit.
        scaled: whether ``alpha`` divided by the rank is the change's strength; else it is a bound, where it is allowed.
    """

    needs: tuple[frozenset[str], ...]
    may: frozenset[str]
    rank: Callable[[Shapes, Shape], int]
    scaled: bool = False

    def is_of(self, roles: frozenset[str]) -> bool:
        """Whether these roles make a whole change of this form."""
        return roles - self.may in self.needs

    def has(self, role: str) -> bool:
        """Whether the form knows a role."""
        return role in self.may or any(role in needed for needed in self.needs)


def same(name: str, found: int, wanted: int, what: str) -> None:
    """Refuse a length that is not the one wanted."""
    if found != wanted:
        raise ValueError(f"{name} has {what} {found}, not {wanted}")


def axes(name: str, shape: Shape, *counts: int) -> None:
    """Refuse a tensor of another number of axes."""
    if len(shape) not in counts:
        raise ValueError(f"{name} of shape {written(shape)} has {len(shape)} axes")


def written(shape: Shape) -> str:
    """A shape for a person."""
    return "×".join(map(str, shape)) or "number"


def squeezed(shape: Shape, like: Shape) -> Shape:
    """The shape without the two axes of length 1 that a 1 × 1 convolution has beside a linear layer, or with them."""
    if len(shape) == 4 and len(like) == 2 and shape[2:] == (1, 1):
        return shape[:2]
    return (*shape, 1, 1) if len(shape) == 2 and len(like) == 4 and like[2:] == (1, 1) else shape


def _matrix(name: str, shape: Shape) -> Shape:
    """A matrix, which convolutions write with two more axes of length 1."""
    if len(shape) == 4 and shape[2:] == (1, 1):
        return shape[:2]
    axes(name, shape, 2)
    return shape


def _layer(weight: Shape) -> None:
    if len(weight) not in (2, 4):
        raise ValueError(f"the layer's weight of shape {written(weight)} is no matrix and no kernel")


def _full(shapes: Shapes) -> None:
    """Refuse tensors without numbers, of which a change of rank 0 is made."""
    for role, shape in shapes.items():
        if 0 in shape:
            raise ValueError(f"{role} of shape {written(shape)} holds no numbers")


def _result(found: Shape, weight: Shape) -> None:
    if squeezed(found, weight) != weight:
        raise ValueError(f"changes a weight of shape {written(found)}; the layer's is {written(weight)}")


def lora(shapes: Shapes, weight: Shape) -> int:
    """up [O, R], down [R, I, K]; or down [R, I], mid [R, R, K] of a Tucker decomposition."""
    _layer(weight)
    _full(shapes)
    up, down = _matrix("up", shapes["up"]), shapes["down"]
    axes("down", down, 2, 4)
    if "mid" in shapes:
        mid, down = shapes["mid"], _matrix("down", down)
        axes("mid", mid, 4)
        same("mid", mid[0], up[1], "rank")
        same("down", down[0], mid[1], "rank")
        _result((up[0], down[1], *mid[2:]), weight)
        return _ranked(shapes, weight, min(mid[:2]))
    same("down", down[0], up[1], "rank")
    _result((up[0], *down[1:]), weight)
    if "up_bias" in shapes and shapes["up_bias"] != (up[0],):
        raise ValueError(f"up_bias has shape {written(shapes['up_bias'])}, not {up[0]}")
    return _ranked(shapes, weight, down[0])


def loha(shapes: Shapes, weight: Shape) -> int:
    """w1_a [O, R], w1_b [R, I·K] and the same again; with Tucker w1_a [R, O], w1_b [R, I], t1 [R, R, K]."""
    _layer(weight)
    _full(shapes)
    found = []
    for half in ("1", "2"):
        a, b = _matrix(f"w{half}_a", shapes[f"hada_w{half}_a"]), _matrix(f"w{half}_b", shapes[f"hada_w{half}_b"])
        if "hada_t1" in shapes:
            core = shapes[f"hada_t{half}"]
            axes(f"t{half}", core, 4)
            same(f"w{half}_a", a[0], core[0], "rank")
            same(f"w{half}_b", b[0], core[1], "rank")
            found.append(((a[1], b[1], *core[2:]), b[0]))
        else:
            same(f"w{half}_b", b[0], a[1], "rank")
            found.append(((a[0], b[1]), b[0]))
    if found[0] != found[1]:
        raise ValueError(f"its halves make {written(found[0][0])} and {written(found[1][0])} at different ranks")
    made, rank = found[0]
    _result(made if len(made) == 4 else _unfolded(made, weight), weight)
    return _ranked(shapes, weight, rank)


def lokr(shapes: Shapes, weight: Shape) -> int:
    """w1 ⊗ w2, each whole or a product; w2 of a convolution [O2, I2, K], or with Tucker a [R, O2], b [R, I2], t2."""
    _layer(weight)
    _full(shapes)
    rank = 0
    if "lokr_w1" in shapes:
        first = _matrix("w1", shapes["lokr_w1"])
    else:
        a, b = _matrix("w1_a", shapes["lokr_w1_a"]), _matrix("w1_b", shapes["lokr_w1_b"])
        same("w1_b", b[0], a[1], "rank")
        first, rank = (a[0], b[1]), b[0]
    if "lokr_w2" in shapes:
        second = shapes["lokr_w2"]
        axes("w2", second, 2, 4)
    else:
        a, b = _matrix("w2_a", shapes["lokr_w2_a"]), shapes["lokr_w2_b"]
        if rank:
            same("w2_b", b[0], rank, "rank")
        if "lokr_t2" in shapes:
            core, b = shapes["lokr_t2"], _matrix("w2_b", b)
            axes("t2", core, 4)
            same("w2_a", a[0], core[0], "rank")
            same("w2_b", b[0], core[1], "rank")
            second = (a[1], b[1], *core[2:])
        else:
            axes("w2_b", b, 2, 4)
            same("w2_b", b[0], a[1], "rank")
            second = (a[0], *b[1:])
        rank = b[0]
    made = (first[0] * second[0], first[1] * second[1], *second[2:])
    _result(made if len(made) == len(weight) else _unfolded(made, weight), weight)
    return _ranked(shapes, weight, rank)


def oft(shapes: Shapes, weight: Shape) -> int:
    """blocks [N, B, B] that turn the channels out, or of BOFT [M, N, B, B], one turn after the other."""
    blocks = shapes["oft_blocks"]
    axes("oft_blocks", blocks, 3, 4)
    if len(blocks) == 4:
        stages, _, edge = blocks[:3]
        if edge % 2 or any(weight[0] % (2 ** (stage + 1) * (edge // 2)) for stage in range(stages)):
            raise ValueError(f"oft_blocks of shape {written(blocks)} cannot be the butterflies of {weight[0]} channels")
    return _turned(blocks[-3:], shapes, weight)


def oft_diag(shapes: Shapes, weight: Shape) -> int:
    """The turns themselves, [N, B, B]."""
    axes("oft_diag", shapes["oft_diag"], 3)
    return _turned(shapes["oft_diag"], shapes, weight)


def oft_r(shapes: Shapes, weight: Shape) -> int:
    """PEFT's turns of the numbers in, [N, B (B - 1) / 2]: what stands above the diagonal; N is 1 where all share it."""
    axes("oft_R", shapes["oft_R"], 2)
    _layer(weight)
    count, above = shapes["oft_R"]
    edge = (1 + math.isqrt(1 + 8 * above)) // 2
    width = math.prod(weight[1:])
    if edge * (edge - 1) // 2 != above or (count * edge != width and (count != 1 or width % edge)):
        raise ValueError(f"oft_R of shape {count}×{above} cannot turn {width} numbers")
    return 0


def ia3(shapes: Shapes, weight: Shape) -> int:
    """gain [O] or [I], with 1s around it for convolutions; ``on_input`` says which."""
    _layer(weight)
    gain = math.prod(shapes["gain"])
    if gain not in weight[:2] or math.prod(shapes["on_input"]) != 1 or max(shapes["gain"]) != gain:
        raise ValueError(f"gain of shape {written(shapes['gain'])} is no row of a weight of {written(weight)}")
    return 0


def ia3_l(shapes: Shapes, weight: Shape) -> int:
    """PEFT's factor: [O, 1] or [1, I]; for convolutions [1, O, 1, 1] or [1, I, 1, 1], which may mean either."""
    _layer(weight)
    shape = shapes["ia3_l"]
    outwards, inwards = (weight[0], 1), (1, weight[1])
    if (len(weight) == 2 and shape in (outwards, inwards)) or (
        len(weight) == 4 and len(shape) == 4 and shape[1] in weight[:2] and math.prod(shape) == shape[1]
    ):
        return 0
    raise ValueError(f"ia3_l of shape {written(shape)} is no row and no column of a weight of {written(weight)}")


def full(shapes: Shapes, weight: Shape) -> int:
    """What is added to the weight, and to the bias."""
    if "diff" in shapes:
        _result(shapes["diff"], weight)
    if "diff_b" in shapes:
        _bias("diff_b", shapes["diff_b"], weight)
    return 0


def norm(shapes: Shapes, weight: Shape) -> int:
    """What is added to gain and shift of a normalisation."""
    axes("the layer's gain", weight, 1)
    for role in ("w_norm", "b_norm"):
        if role in shapes:
            _bias(role, shapes[role], weight)
    return 0


def _bias(role: str, shape: Shape, weight: Shape) -> None:
    if shape != weight[:1]:
        raise ValueError(f"{role} has shape {written(shape)}, not {weight[0]}")


def _turned(blocks: Shape, shapes: Shapes, weight: Shape) -> int:
    _layer(weight)
    if blocks[1] != blocks[2] or blocks[0] * blocks[1] != weight[0]:
        raise ValueError(f"blocks of shape {written(blocks)} cannot turn {weight[0]} channels")
    if "rescale" in shapes and math.prod(shapes["rescale"]) != weight[0]:
        raise ValueError(f"rescale has shape {written(shapes['rescale'])}, not {weight[0]}")
    return 0


def _unfolded(made: Shape, weight: Shape) -> Shape:
    """A matrix [O, I·K] as the kernel it stands for, where it does."""
    flat = len(made) == 2 and made == (weight[0], math.prod(weight[1:]))
    return weight if flat else made


def _ranked(shapes: Shapes, weight: Shape, rank: int) -> int:
    """The rank, once the magnitude of DoRA was looked at."""
    if "diff_b" in shapes:
        _bias("diff_b", shapes["diff_b"], weight)
    for role in ("magnitude", "dora_scale"):
        if role in shapes:
            direction(role, shapes[role], weight)
    if "magnitude" in shapes and "dora_scale" in shapes:
        raise ValueError("it has two magnitudes")
    return rank


def direction(role: str, shape: Shape, weight: Shape) -> int:
    """The axis along which DoRA's magnitude counts: 0, one for each channel out, or 1, one for each channel in.

    PEFT's ``magnitude`` counts channels out, however it is laid out; LyCORIS's ``dora_scale`` says by its shape.
    """
    ones = (1,) * (len(weight) - 2)
    out, into = (weight[0], 1, *ones), (1, weight[1], *ones)
    if shape == out or shape == (weight[0],) or (role == "magnitude" and shape == (1, weight[0], *ones)):
        return 0
    if role == "dora_scale" and shape == into:
        return 1
    raise ValueError(f"{role} of shape {written(shape)} is no row and no column of a weight of {written(weight)}")


def _sets(*needs: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(words.split()) for words in needs)


_HALVES = ("lokr_w1", "lokr_w1_a lokr_w1_b"), ("lokr_w2", "lokr_w2_a lokr_w2_b", "lokr_w2_a lokr_w2_b lokr_t2")
_HADA = "hada_w1_a hada_w1_b hada_w2_a hada_w2_b"
_STRONG = frozenset({"alpha", "magnitude", "dora_scale", "diff_b"})
FORMS: dict[str, Form] = {
    "lora": Form(_sets("up down", "up down mid"), _STRONG | {"up_bias"}, lora, True),
    "loha": Form(_sets(_HADA, f"{_HADA} hada_t1 hada_t2"), _STRONG, loha, True),
    "lokr": Form(_sets(*map(" ".join, product(*_HALVES))), _STRONG, lokr, True),
    "oft": Form(_sets("oft_blocks"), frozenset({"alpha", "rescale"}), oft),
    "oft_diag": Form(_sets("oft_diag"), frozenset({"alpha", "rescale"}), oft_diag),
    "oft_r": Form(_sets("oft_R"), frozenset(), oft_r),
    "ia3": Form(_sets("gain on_input"), frozenset(), ia3),
    "ia3_l": Form(_sets("ia3_l"), frozenset(), ia3_l),
    "full": Form(_sets("diff", "diff diff_b", "diff_b"), frozenset(), full),
    "norm": Form(_sets("w_norm", "w_norm b_norm"), frozenset(), norm),
}
