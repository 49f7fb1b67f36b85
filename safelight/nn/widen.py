"""A first convolution that reads more channels than it was trained on, so that at the start nothing changes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from safelight.errors import RequestError


class WidenedConv(nn.Conv2d):
    """A convolution over [B, C + E, h, w] whose last E channels are read apart and added: zeros there change no bit.

    One sum over all channels would be the same number, but a kernel may add it up otherwise.

    Args:
        conv: what it was: its weights are kept, those of the new channels are zero.
        extra: E, above 0.
    """

    def __init__(self, conv: nn.Conv2d, extra: int) -> None:
        if extra < 1:
            raise RequestError(f"a convolution is widened by 1 channel and more, not by {extra}")
        shape = (conv.in_channels + extra, conv.out_channels, conv.kernel_size[0])
        weight = conv.weight
        super().__init__(*shape, padding=conv.padding[0], device=weight.device, dtype=weight.dtype)
        self.before = conv.in_channels
        with torch.no_grad():
            self.weight.zero_()
            self.weight[:, : self.before] = weight
            assert self.bias is not None and conv.bias is not None
            self.bias.copy_(conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        known, new = x[:, : self.before], x[:, self.before :]
        y = self._conv_forward(known, self.weight[:, : self.before], self.bias)
        return y + self._conv_forward(new, self.weight[:, self.before :], None)
