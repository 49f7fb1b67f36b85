"""A second self-attention of every transformer block, behind the first and before the text, with weights of its own.

Its layers stand in the blocks of a stock U-Net under their released names, ``norm_<name>`` and ``attn_<name>``, and are
called through the port ``between``: no block is forked. x + attn(norm x), as the first.

Sources: Long et al. 2310.15008, section 4.3 (Wonder3D: ``joint_mid``, the two domains of each view); Li et al.
2405.11616, section 3.2 (Era3D: ``mv``, rows).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from safelight.families.sd.model import UNet
from safelight.multiview.layouts import Layout, Views, override
from safelight.nn.attention import Attention
from safelight.nn.ports import Between
from safelight.nn.transformer import TransformerBlock


@dataclass(frozen=True)
class Second:
    """What the second self-attention of a network is.

    Attributes:
        name: what its layers are called behind ``norm_`` and ``attn_``. layout: who reads whom in it.
    """

    name: str
    layout: Layout


def seconded(unet: UNet, name: str) -> UNet:
    """The same U-Net with a second self-attention in every block, which adds zeros until it learns.

    Changes it where it is, and gives it back.
    """
    for block in _blocks(unet).values():
        first = block.attn1
        width = first.to_q.in_features
        layer = Attention(width, first.heads, upcast=first.upcast)
        layer.name = f"{block.name}.attn_{name}"
        for parameter in layer.to_out.parameters():
            nn.init.zeros_(parameter)
        like = first.to_q.weight
        block.add_module(f"norm_{name}", nn.LayerNorm(width).to(like))
        block.add_module(f"attn_{name}", layer.to(like))
    return unet


def between(unet: UNet, second: Second, views: Views, chunk: int = 0) -> Between:
    """What stands in the port ``between``.

    Args:
        unet: one that was `seconded`. views: on the grid of the latents. chunk: see `safelight.multiview.layouts.read`.
    """
    blocks, across = _blocks(unet), override(second.layout, views, chunk)

    def read(name: str, x: Tensor) -> Tensor:
        norm, layer = (blocks[name].get_submodule(f"{kind}_{second.name}") for kind in ("norm", "attn"))
        assert isinstance(layer, Attention)
        return x + across(layer.name, layer, norm(x))

    return read


def _blocks(unet: UNet) -> dict[str, TransformerBlock]:
    return {module.name: module for module in unet.modules() if isinstance(module, TransformerBlock)}
