"""A second pass at a larger size, over what the first pass drew: "hires fix" of other programs.

What the first pass drew is enlarged, as a picture or as latents, forgotten in part, and drawn again: image to image at
the larger size. Large pictures keep the composition of the size that the model was trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from safelight.errors import RequestError, UnknownNameError

PICTURE = "lanczos"
UPSCALERS = {
    PICTURE: "Lanczos",
    "nearest-exact": "Latent (nearest-exact)",
    "bilinear": "Latent",
    "bicubic": "Latent (bicubic)",
}
"""How it is enlarged -> the same in A1111's words. The first decodes, the others enlarge latents."""
LARGEST, STRENGTH = 8.0, 0.7


@dataclass(frozen=True)
class Hires:
    """A second pass.

    Args:
        scale: of both edges, above 1 to 8; the size is the nearest that the model draws.
        strength: how much of the first pass is forgotten: above 0 (nothing) to 1 (all).
        steps: of the whole second schedule, of which ``strength`` says what share runs; None for as many as the first.
        upscaler: a name of UPSCALERS; latents enlarged as they are need a strength of about 0.6 or more to be drawn
            sharp.

    Raises:
        RequestError: a number out of its range. UnknownNameError: no such upscaler.
    """

    scale: float
    strength: float = STRENGTH
    steps: int | None = None
    upscaler: str = PICTURE

    def __post_init__(self) -> None:
        if not 1.0 < self.scale <= LARGEST:
            raise RequestError(f"hires enlarges by more than 1 and at most {LARGEST:g}, not {self.scale:g}")
        if not 0.0 < self.strength <= 1.0:
            raise RequestError(f"the strength of hires must lie above 0 and not above 1, not {self.strength:g}")
        if self.upscaler not in UPSCALERS:
            raise UnknownNameError("upscaler", self.upscaler, UPSCALERS)

    def size(self, first: tuple[int, int], nearest: Callable[[float], int]) -> tuple[int, int]:
        """The size of the second pass: each edge the nearest that can be drawn.

        Raises:
            RequestError: it is no larger than the first.
        """
        width, height = (nearest(edge * self.scale) for edge in first)
        if (width, height) == first:
            raise RequestError(f"hires {self.scale:g} leaves {width}x{height} as it is; enlarge by more")
        return width, height
