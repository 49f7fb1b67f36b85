"""Ray casting in closed form: which shape every pixel sees, how far away, and its normal there.

Axis legend: P shapes, H W pixels of the traced picture, n points; vectors x y z last.

A ray is position + t (R (u, v, 1)) with R the camera's rotation and (u, v) its place on the plane at depth 1, so t is
the depth along the camera's forward axis; a ray of an orthographic camera is position + R (u, v, t). In a shape's own
frame its surface is pᵀDp + 2 h·p + e = 0 (Glassner, *An Introduction to Ray Tracing*, 1989, ch. 2). With everything
taken relative to the ray through the shape's centre, the coefficients of t are polynomials in (u, v): no direction
vector is ever built, and nothing large cancels in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from safelight.core.camera import Camera
from safelight.figurines.shapes import Shape

_NEAR: Final = 1e-3
"""Nearer than this to the camera nothing is seen."""
_SLABS: Final[dict[str, tuple[tuple[int, float, float], ...]]] = {
    "ball": (),
    "frustum": ((2, 0.0, 1.0),),
    "box": ((0, -1.0, 1.0), (1, -1.0, 1.0), (2, -1.0, 1.0)),
}
"""Pairs of planes (own axis, from, to) that a solid lies between."""


class Seen(NamedTuple):
    """What every pixel's centre sees: depth [H, W] float32 (inf = nothing), shape [H, W] int16 (-1 = nothing)."""

    depth: np.ndarray
    shape: np.ndarray


@dataclass(frozen=True)
class View:
    """One camera as numbers for numpy: rotation [3, 3] camera to world, position [3], the pixels' (u, v), and whether
    its rays are parallel (orthographic)."""

    rotation: np.ndarray
    position: np.ndarray
    u: np.ndarray
    v: np.ndarray
    parallel: bool = False

    @classmethod
    def of(cls, camera: Camera, per_side: int = 1) -> View:
        """The view of a single camera with ``per_side``² rays in every pixel, evenly spaced."""
        sharp = camera.resized((camera.size[0] * per_side, camera.size[1] * per_side))
        height, width = sharp.size
        (fx, fy), (cx, cy) = sharp.focal.tolist(), sharp.principal.tolist()
        u, v = (np.arange(width) + 0.5 - cx) / fx, (np.arange(height) + 0.5 - cy) / fy
        rotation, position = (np.asarray(part.numpy(), np.float64) for part in (sharp.rotation, sharp.position))
        parallel = camera.projection == "orthographic"
        return cls(rotation, position, u.astype(np.float32), v.astype(np.float32), parallel)

    def points(self, rows: np.ndarray, columns: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """World points [n, 3] that the pixels (rows, columns) [n] see at ``depth`` [n]."""
        wide = np.float32(1.0) if self.parallel else depth
        seen = np.stack([self.u[columns] * wide, self.v[rows] * wide, depth], 1)
        return seen @ self.rotation.T.astype(np.float32) + self.position.astype(np.float32)

    def sight(self, points: np.ndarray) -> np.ndarray:
        """From points [n, 3] towards the eye, of any length: [n, 3]."""
        if self.parallel:
            return np.broadcast_to(-self.rotation[:, 2].astype(np.float32), points.shape).copy()
        seen: np.ndarray = self.position.astype(np.float32) - points
        return seen


class _Frame(NamedTuple):
    """All that one shape's intersection needs, in its own frame (float64 numbers, taken once per view).

    With g what a pixel's distance from the centre's is there, a ray is (spread g + toward) s + (reach g + rest), s its
    depth beyond the centre's: reach is the centre's depth and spread 1, or both are 1 and 0 where rays are parallel.
    """

    shape: Shape
    rows: slice
    columns: slice
    center: tuple[float, float, float]
    to_own: np.ndarray
    d: np.ndarray
    h: np.ndarray
    e: float
    rest: np.ndarray
    toward: np.ndarray
    reach: float
    spread: bool


def trace(shapes: Sequence[Shape], view: View) -> Seen:
    """The nearest surface on every ray."""
    size = len(view.v), len(view.u)
    depth = np.full(size, np.inf, np.float32)
    which = np.full(size, -1, np.int16)
    for i, frame in enumerate(_frames(shapes, view)):
        if frame is None:
            continue
        window = frame.rows, frame.columns
        found = _nearest(frame, view, depth[window])
        np.copyto(which[window], np.int16(i), where=np.isfinite(found))
        np.minimum(depth[window], found, out=depth[window])
    return Seen(depth, which)


def normals(shape: Shape, points: np.ndarray) -> np.ndarray:
    """Outward unit normals [n, 3] of a shape at points [n, 3] on its surface, in the world."""
    to_own = np.linalg.inv(shape.axes)
    own = (points - np.array(shape.center, np.float32)) @ to_own.T.astype(np.float32)
    if shape.kind == "ball":
        gradient = own
    elif shape.kind == "box":
        side = np.abs(own).argmax(1)
        gradient = np.zeros_like(own)
        rows = np.arange(len(own))
        gradient[rows, side] = own[rows, side]
    else:
        gradient = own * np.array([1.0, 1.0, -(shape.taper**2)], np.float32)
        gradient[:, 2] -= shape.taper
        to_side = np.abs(np.hypot(own[:, 0], own[:, 1]) - (1.0 + shape.taper * own[:, 2]))
        cap = np.minimum(np.abs(own[:, 2]), np.abs(own[:, 2] - 1.0)) < to_side
        gradient[cap] = 0.0
        gradient[cap, 2] = np.sign(own[cap, 2] - 0.5)
    world = gradient @ to_own.astype(np.float32)
    length = np.sqrt(np.einsum("ij,ij->i", world, world))
    return world / np.maximum(length, 1e-12)[:, None]


def _frames(shapes: Sequence[Shape], view: View) -> list[_Frame | None]:
    """Coefficients and screen bounds of every shape; None where it cannot be seen."""
    axes = np.stack([shape.axes for shape in shapes])
    centers = np.array([shape.center for shape in shapes])
    seen = (centers - view.position) @ view.rotation
    inverse = np.linalg.inv(axes)
    to_own = inverse @ view.rotation
    ahead = seen[:, 2] if view.parallel else np.maximum(seen[:, 2], 10 * _NEAR)
    rest = to_own[:, :, 2] * (ahead - seen[:, 2])[:, None]
    low, high = _bounds(shapes, axes, seen, view)
    frames: list[_Frame | None] = []
    for i, shape in enumerate(shapes):
        columns, rows = (
            slice(*np.searchsorted(grid, [low[i, k], high[i, k]])) for k, grid in enumerate((view.u, view.v))
        )
        if columns.start >= columns.stop or rows.start >= rows.stop:
            frames.append(None)
            continue
        d, h, e = np.ones(3), np.zeros(3), -1.0
        if shape.kind == "frustum":
            d[2], h[2] = -(shape.taper**2), -shape.taper
        elif shape.kind == "box":
            d[:], e = 0.0, 0.0
        e += float(rest[i] @ (d * rest[i]) + 2 * h @ rest[i])
        reach = 1.0 if view.parallel else float(ahead[i])
        center = (seen[i, 0] / reach, seen[i, 1] / reach, float(ahead[i]))
        toward = to_own[i] @ (0.0, 0.0, 1.0) if view.parallel else to_own[i] @ (*center[:2], 1.0)
        line = (rest[i], toward, reach, not view.parallel)
        frames.append(_Frame(shape, rows, columns, center, to_own[i], d, h + d * rest[i], e, *line))
    return frames


def _bounds(shapes: Sequence[Shape], axes: np.ndarray, seen: np.ndarray, view: View) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest (u, v) [P, 2] that each shape can reach on the plane at depth 1."""
    local = view.rotation.T @ axes
    middle = seen.copy()
    reach = np.sqrt((local**2).sum(-1))
    for i, shape in enumerate(shapes):
        if shape.kind == "box":
            reach[i] = np.abs(local[i]).sum(-1)
        elif shape.kind == "frustum":
            middle[i] += 0.5 * local[i, :, 2]
            wide = max(1.0, 1.0 + shape.taper)
            reach[i] = wide * np.hypot(local[i, :, 0], local[i, :, 1]) + 0.5 * np.abs(local[i, :, 2])
    near, far = middle[:, 2] - reach[:, 2], middle[:, 2] + reach[:, 2]
    if view.parallel:
        return middle[:, :2] - reach[:, :2], middle[:, :2] + reach[:, :2]
    low, high = np.full((len(shapes), 2), -np.inf), np.full((len(shapes), 2), np.inf)
    front = near > _NEAR
    for k in range(2):
        first, last = middle[:, k] - reach[:, k], middle[:, k] + reach[:, k]
        safe = np.where(front, near, 1.0)
        low[front, k] = np.minimum(first / safe, first / far)[front]
        high[front, k] = np.maximum(last / safe, last / far)[front]
    low[far <= _NEAR], high[far <= _NEAR] = 1.0, 0.0
    return low, high


def _nearest(frame: _Frame, view: View, limit: np.ndarray) -> np.ndarray:
    """Depth of the shape's first existing surface nearer than ``limit`` [h, w]; inf where there is none."""
    shape, (u0, v0, t0) = frame.shape, frame.center
    x, y = view.u[frame.columns] - np.float32(u0), view.v[frame.rows] - np.float32(v0)
    enter, leave = _quadric(frame, x, y) if shape.kind != "box" else (None, None)
    for axis, low, high in _SLABS[shape.kind]:
        enter, leave = _between(frame, x, y, axis, (low, high), (enter, leave))
    assert enter is not None
    assert leave is not None
    enter += np.float32(t0)
    leave += np.float32(t0)
    there = enter <= leave
    found = np.where(there & (enter > _NEAR) & (enter < limit), enter, np.float32(np.inf))
    found = _kept(frame, view, found)
    if shape.keep is not None or enter.min() <= _NEAR:  # cut open, or the camera is inside: the far side may show
        within = there & ~np.isfinite(found) & (leave > _NEAR) & (leave < limit)
        if within.any():
            found = np.minimum(found, _kept(frame, view, np.where(within, leave, np.float32(np.inf))))
    return found


def _kept(frame: _Frame, view: View, found: np.ndarray) -> np.ndarray:
    """Depths [h, w] with those set to inf where the shape's skin does not exist."""
    keep = frame.shape.keep
    if keep is None:
        return found
    rows, columns = np.nonzero(np.isfinite(found))
    if len(rows):
        points = view.points(rows + frame.rows.start, columns + frame.columns.start, found[rows, columns])
        lost = ~keep(points)
        found[rows[lost], columns[lost]] = np.inf
    return found


def _quadric(frame: _Frame, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where rays enter and leave the quadric, as depth beyond the centre's; entering after leaving = a miss."""
    a, b, toward = frame.to_own[:, 0], frame.to_own[:, 1], frame.toward
    d, h, reach = frame.d, frame.h, np.float32(frame.reach)
    f = np.float32
    square = (f(a @ (d * a)) * x * x)[None, :] + (f(b @ (d * b)) * y * y)[:, None]
    square += (f(2 * a @ (d * b)) * x)[None, :] * y[:, None]
    mixed = (f(a @ (d * toward)) * x)[None, :] + (f(b @ (d * toward)) * y)[:, None]
    pull = (f(h @ a) * x)[None, :] + (f(h @ b) * y)[:, None] if h.any() else f(0.0)
    straight, rest = f(toward @ (d * toward)), reach * reach * square + 2 * reach * pull + f(frame.e)
    if frame.spread:
        lead = square + 2 * mixed + straight
        half = reach * (square + mixed) + pull + f(h @ toward)
    else:
        lead, half = straight, mixed + f(h @ toward)
        if (
            abs(straight) < 1e-6 and float(np.abs(half).max()) < 1e-5
        ):  # along a cylinder: inside it all the way, or never
            far = np.where(rest < 0, f(np.inf), f(-np.inf))
            return -far, far
    inner = half * half - lead * rest
    miss = inner < 0
    root = np.sqrt(np.maximum(inner, 0, out=inner))
    if frame.shape.kind == "ball" or bool((lead > 1e-6).all()):
        enter, leave = (-half - root) / lead, (root - half) / lead
    else:
        enter, leave = _cone(frame, x, y, lead, half, root)
    enter[miss] = np.inf
    return enter, leave


def _cone(
    frame: _Frame, x: np.ndarray, y: np.ndarray, lead: np.ndarray, half: np.ndarray, root: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Like `_quadric` for rays steeper than a cone's side, which are inside its nappe beyond one of the roots."""
    lead = np.where(np.abs(lead) < 1e-6, np.float32(1e-6), lead)
    first, second = (-half - root) / lead, (root - half) / lead
    near, far = np.minimum(first, second), np.maximum(first, second)
    step = (np.float32(frame.to_own[2, 0]) * x)[None, :] + (np.float32(frame.to_own[2, 1]) * y)[:, None]
    opens = (step * np.float32(frame.spread) + np.float32(frame.toward[2])) * frame.shape.taper > 0
    steep = lead < 0
    enter = np.where(steep, np.where(opens, far, -np.inf), near).astype(np.float32)
    leave = np.where(steep, np.where(opens, np.inf, near), far).astype(np.float32)
    return enter, leave


def _between(
    frame: _Frame,
    x: np.ndarray,
    y: np.ndarray,
    axis: int,
    ends: tuple[float, float],
    inside: tuple[np.ndarray | None, np.ndarray | None],
) -> tuple[np.ndarray, np.ndarray]:
    """Narrow an interval of depths to a slab between two planes across one own axis."""
    row, f = frame.to_own[axis], np.float32
    slope = (f(row[0]) * x)[None, :] + (f(row[1]) * y)[:, None]
    place = f(frame.reach) * slope + f(frame.rest[axis])
    if not frame.spread:
        slope[:] = 0
    slope += f(frame.toward[axis])
    slope[np.abs(slope) < 1e-9] = 1e-9
    first, second = (f(ends[0]) - place) / slope, (f(ends[1]) - place) / slope
    near, far = np.minimum(first, second), np.maximum(first, second)
    enter, leave = inside
    if enter is None or leave is None:
        return near, far
    return np.maximum(enter, near), np.minimum(leave, far)
