"""The texts by which Era3D and FaceLift tell views and domains apart.

Source: the released code of Era3D, whose encodings of them lie beside it; the networks were trained with no others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

VIEWS: Final = ("front", "front_right", "right", "back", "left", "front_left")
"""In the order of the rigs ``era3d6`` and ``facelift6``."""
MAPS: Final = {"normals": "normal map", "colours": "color map"}


def captions(domains: Sequence[str]) -> list[str]:
    """One text for every view of each domain in turn."""
    return [f"a rendering image of 3D models, {view} view, {MAPS[domain]}." for domain in domains for view in VIEWS]
