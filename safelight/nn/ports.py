"""The ports of a denoising network: everything that an adapter may hand to a forward pass, in one frozen record.

Axes: B rows, C channels, h w grid, N tokens of a layer, H heads, D width of a head. A network offers the ports and
knows nothing of who uses them; replaceable layers need no port, since every layer is reached by its dotted name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from safelight.nn.attention import Attention, Beside

SelfAttention = Callable[[str, Attention, Tensor], Tensor]
"""(name of the layer, the layer, its normalised input [B, N, C]) -> what stands in for its output, [B, N, C]."""

Between = Callable[[str, Tensor], Tensor]
"""(name of the block, what its self-attention leaves [B, N, C]) -> what goes on to the text, [B, N, C]."""

Passage = Callable[[str, Tensor, Tensor], Tensor]
"""(name of the block, what went in [B, N, C], what came out [B, N, C]) -> what goes on, [B, N, C]."""

Ascent = Callable[[Tensor, Tensor], Tensor]
"""(features of the middle block [B, C, h, w], the time vector [B, E]) -> the time vector that the way up is told."""

Stage = Callable[[str, Tensor], Tensor]
"""(name of the block and number of its layer, features [B, C, h, w]) -> what goes on, [B, C, h, w]."""

Join = Callable[[str, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(name of the block on the way up, its features [B, C, h, w], a skip connection [B, C', h, w]) -> what is joined."""


@dataclass(frozen=True)
class Ports:
    """What adapters feed to one forward pass; the default of every field changes nothing.

    Attributes:
        residuals: added to the skip connections, one [B, C, h, w] per skip in the order they are made, the output of
            the first convolution included (ControlNet).
        mid_residual: [B, C, h, w], added to the output of the middle block (ControlNet).
        block_residuals: added inside the way down, one [B, C, h, w] per block: after the last attention where the
            block has one, else to what it hands on (T2I-Adapter). May be shorter than the list of blocks.
        beside: called in each layer that reads the text, before the output projection: what is read beside the text
            (IP-Adapter), with keys and values of the adapter's own.
        override: called instead of each self-attention layer: perturbed and smoothed guidance, reference attention,
            layouts of several views.
        between: called in each transformer block between self-attention and the text: a second self-attention.
        passage: called behind each transformer block: skip-layer guidance.
        ascent: called behind the middle block: what the network tells itself on the way up.
        stage: called behind each residual block and its transformers, and behind the middle block.
        join: called wherever a skip connection is about to be joined (FreeU).
    """

    residuals: Sequence[Tensor] = ()
    mid_residual: Tensor | None = None
    block_residuals: Sequence[Tensor] = ()
    beside: Beside | None = None
    override: SelfAttention | None = None
    between: Between | None = None
    passage: Passage | None = None
    ascent: Ascent | None = None
    stage: Stage | None = None
    join: Join | None = None


NO_PORTS = Ports()
