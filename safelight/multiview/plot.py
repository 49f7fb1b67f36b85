"""A rig as a drawing: where its cameras stand and look, from above and from the side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from PIL import Image, ImageDraw

from safelight.core.camera import Camera
from safelight.multiview.bounds import checked

PANEL: Final = 420
"""Pixels a side of each of the two drawings."""
INK, PALE, PAPER = (40, 40, 48), (200, 200, 206), (252, 252, 250)
FIRST, LAST = (190, 40, 30), (40, 80, 190)
# Name, the axes that go right and up, and what is to the right and up there.
SIDES: Final = (("from above", (0, 1), "+x", "+y (behind)"), ("from the left, +x", (1, 2), "+y (behind)", "+z (up)"))


def plot(cameras: Camera, title: str = "") -> Image.Image:
    """Draw cameras [V] with their numbers and what they see, around the origin whose front (-y) is marked.

    The first view is red, the last is blue, those between are between.
    """
    views = checked(cameras, nearest=0.0).to(torch.float32, "cpu")
    reach = 1.35 * max(1e-9, float(views.position.norm(dim=-1).max()))
    page = Image.new("RGB", (2 * PANEL, PANEL + 24), PAPER)
    pen = ImageDraw.Draw(page)
    pen.text((8, 6), title, fill=INK)
    for panel, side in enumerate(SIDES):
        _panel(pen, views, side, (panel * PANEL, 24), 0.5 * PANEL / reach)
    return page


def _panel(
    pen: ImageDraw.ImageDraw,
    views: Camera,
    side: tuple[str, tuple[int, int], str, str],
    corner: tuple[int, int],
    scale: float,
) -> None:
    name, (across, up), right, top = side
    middle = (corner[0] + PANEL // 2, corner[1] + PANEL // 2)

    def place(point: Sequence[float]) -> tuple[float, float]:
        return middle[0] + scale * point[across], middle[1] - scale * point[up]

    pen.rectangle((corner[0] + 2, corner[1] + 2, corner[0] + PANEL - 3, corner[1] + PANEL - 3), outline=PALE)
    pen.text((corner[0] + 8, corner[1] + 6), name, fill=INK)
    pen.line((corner[0] + 8, middle[1], corner[0] + PANEL - 8, middle[1]), fill=PALE)
    pen.line((middle[0], corner[1] + 22, middle[0], corner[1] + PANEL - 8), fill=PALE)
    pen.text((corner[0] + PANEL - 10, middle[1] + 3), right, fill=INK, anchor="ra")
    pen.text((middle[0] + 5, corner[1] + 20), top, fill=INK)
    head = 0.12 * PANEL / 2
    pen.ellipse((middle[0] - head, middle[1] - head, middle[0] + head, middle[1] + head), outline=INK)
    nose: list[tuple[float, float]] = [(middle[0], middle[1] + head), (middle[0], middle[1] + 1.5 * head)]
    if across == 1:
        nose = [(middle[0] - head, middle[1]), (middle[0] - 1.5 * head, middle[1])]
    pen.line(nose, fill=INK, width=3)
    count = views.shape[0]
    for view in range(count):
        share = view / max(1, count - 1)
        color = tuple(round(a + share * (b - a)) for a, b in zip(FIRST, LAST, strict=True))
        for start, end in _lines(views[view], 0.16 * PANEL / scale):
            pen.line((*place(start), *place(end)), fill=color)
        at = place((views.position[view] * 1.08).tolist())
        pen.text(at, str(view), fill=color, anchor="mm")


def _lines(camera: Camera, length: float) -> list[tuple[list[float], list[float]]]:
    """The four corner rays of a camera, and the frame at their ends, as pairs of points of the world."""
    height, width = camera.size
    corners = torch.tensor([[0, 0], [width, 0], [width, height], [0, height]], dtype=torch.float32)
    near, far = (camera.unproject(corners, torch.full((4,), d, dtype=torch.float32)).tolist() for d in (0.0, length))
    frame = [(far[k], far[(k + 1) % 4]) for k in range(4)]
    if camera.projection == "orthographic":
        frame += [(near[k], near[(k + 1) % 4]) for k in range(4)]
    return [*zip(near, far, strict=True), *frame]
