"""How strong an adapter is in which blocks: beginnings of layers' names, or the customary rows of numbers; no torch.

The rows are those of A1111's extension "LoRA Block Weight" (hako-mikan): the text encoder first, then the blocks of the
single file's U-Net on the way down, in the middle and up; a short row leaves out the blocks without attention.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from safelight.adapters.lora.plan import Plan
from safelight.errors import RequestError

Blocks = Mapping[str, float] | Sequence[float] | None
"""Beginning of layers' names -> what the scale is multiplied by there; or a customary row of numbers."""
BASE = "BASE"
ROWS: dict[int, tuple[str, ...]] = {
    12: (BASE, "IN04", "IN05", "IN07", "IN08", "MID", *(f"OUT{n:02}" for n in range(6))),
    17: (BASE, *(f"IN{n:02}" for n in (1, 2, 4, 5, 7, 8)), "MID", *(f"OUT{n:02}" for n in range(3, 12))),
    20: (BASE, *(f"IN{n:02}" for n in range(9)), "MID", *(f"OUT{n:02}" for n in range(9))),
    26: (BASE, *(f"IN{n:02}" for n in range(12)), "MID", *(f"OUT{n:02}" for n in range(12))),
}
"""Length of a row -> what its numbers are of: 17 and 26 for Stable Diffusion 1 and 2, 12 and 20 for XL."""
LAYERS = 2
"""Residual blocks of a level of these networks."""


def weight_of(blocks: Mapping[str, float], name: str) -> float:
    """What the scale is multiplied by at a layer: by the longest beginning that fits its name, else 1."""
    fitting = [begin for begin in blocks if _begins(name, begin)]
    return blocks[max(fitting, key=len)] if fitting else 1.0


def blocks_of(said: Blocks, plan: Plan) -> dict[str, float]:
    """What was said of blocks, by the beginnings of names.

    Raises:
        RequestError: see `row_of` and `check_blocks`.
    """
    blocks = dict(said or {}) if said is None or isinstance(said, Mapping) else row_of(said, plan)
    check_blocks(blocks, plan)
    return blocks


def check_blocks(blocks: Mapping[str, float], plan: Plan) -> None:
    """Refuse blocks in which the adapter changes nothing.

    Raises:
        RequestError: there is one, or a weight is no number that can be; says what there is.
    """
    names = [row.layer.full for row in plan.rows]
    for begin, weight in blocks.items():
        if not abs(weight) <= 100:
            raise RequestError(f"the weight of the block {begin!r} is {weight}; it can be from -100 to 100")
        if not any(_begins(name, begin) for name in names):
            known = sorted({".".join(name.split(".")[:2]) for name in names})
            raise RequestError(f"the adapter changes nothing in {begin!r}; it does in {', '.join(known)}")


def row_of(numbers: Sequence[float], plan: Plan) -> dict[str, float]:
    """A customary row of numbers as blocks; a number whose block the adapter does not change is left out.

    Raises:
        RequestError: no row has this length.
    """
    if len(numbers) not in ROWS:
        raise RequestError(f"a row of block weights has {', '.join(map(str, ROWS))} numbers, not {len(numbers)}")
    names = [row.layer.full for row in plan.rows]
    blocks = {begin: n for word, n in zip(ROWS[len(numbers)], numbers) for begin in begins(word)}
    return {begin: n for begin, n in blocks.items() if any(_begins(name, begin) for name in names)}


def begins(word: str) -> tuple[str, ...]:
    """The beginnings of the names of a block's layers: ``IN04`` is ``down_blocks.1.resnets.0`` and its attention."""
    if word == BASE:
        return ("text_encoder", "text_encoder_2")
    if word == "MID":
        return ("mid_block",)
    if word == "IN00":
        return ("conv_in",)
    if word.startswith("IN"):
        block, layer = divmod(int(word[2:]) - 1, LAYERS + 1)
        if layer == LAYERS:
            return (f"down_blocks.{block}.downsamplers",)
        return (f"down_blocks.{block}.resnets.{layer}", f"down_blocks.{block}.attentions.{layer}")
    block, layer = divmod(int(word[3:]), LAYERS + 1)
    both = (f"up_blocks.{block}.resnets.{layer}", f"up_blocks.{block}.attentions.{layer}")
    return (*both, f"up_blocks.{block}.upsamplers") if layer == LAYERS else both


def _begins(name: str, begin: str) -> bool:
    begin = begin.removeprefix("unet.")
    return (
        (begin in ("unet", "") and not name.startswith("text_encoder")) or name == begin or name.startswith(begin + ".")
    )
