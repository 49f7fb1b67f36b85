"""One batched camera type: where views are taken from, and which ray belongs to which pixel.

Axis legend: ``*B`` leading batch dimensions, H W picture height and width in pixels, N points, last axis x y z (world)
or u v (picture, in pixels).

World: right-handed, z up, unit free. Camera: OpenCV axes, x right, y down, z forward. Pixel (row r, column c) has its
centre at u = c + 0.5, v = r + 0.5. Pinhole projection as in Hartley & Zisserman, *Multiple View Geometry*, eq. 6.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from safelight.errors import RequestError

Number: TypeAlias = "float | Sequence[float] | Tensor"


@dataclass(frozen=True, eq=False)
class Camera:
    """One or many pinhole cameras that share a picture size; every tensor has the same leading dimensions ``*B``.

    Attributes:
        rotation: [*B, 3, 3], camera to world: its columns are the camera's right, down and forward axes in the world.
        position: [*B, 3], the centre of projection in the world. ``x_world = rotation @ x_camera + position``.
        focal: [*B, 2], focal lengths (fx, fy) in pixels.
        principal: [*B, 2], where the optical axis meets the picture (cx, cy), in pixels.
        size: (height, width) in pixels.

    Raises:
        RequestError: shapes that do not belong together, or a size that is not positive.
    """

    rotation: Tensor
    position: Tensor
    focal: Tensor
    principal: Tensor
    size: tuple[int, int]

    def __post_init__(self) -> None:
        batch = self.position.shape[:-1]
        wanted = ((*batch, 3, 3), (*batch, 3), (*batch, 2), (*batch, 2))
        found = tuple(tuple(t.shape) for t in (self.rotation, self.position, self.focal, self.principal))
        if found != wanted:
            raise RequestError(f"a camera needs tensors of shapes {wanted}, these have {found}")
        if min(self.size) < 1:
            raise RequestError(f"a picture needs at least one pixel each way, not {self.size}")

    @classmethod
    def orbit(
        cls,
        azimuth: Number,
        elevation: Number = 0.0,
        distance: Number = 1.0,
        fov: Number = 45.0,
        size: int | tuple[int, int] = 128,
        target: Sequence[float] | Tensor = (0.0, 0.0, 0.0),
        dtype: torch.dtype = torch.float32,
    ) -> Camera:
        """Cameras on spheres around ``target``, looking at it; the first four arguments broadcast into ``*B``.

        Args:
            azimuth: degrees; 0 = in front, at -y; positive = counter-clockwise seen from above, so 90 = at +x.
            elevation: degrees; 0 = level with the target, 90 = straight above, -90 = straight below. No angle is
                singular: at 90 the azimuth turns the picture.
            distance: from target to camera, > 0.
            fov: degrees that the picture's height spans, between 0 and 180 exclusive.
            size: (height, width) in pixels, or one number for both.
        """
        numbers = (torch.as_tensor(n, dtype=dtype) for n in (azimuth, elevation, distance, fov))
        az, el, far, view = torch.broadcast_tensors(*numbers)
        az, el = torch.deg2rad(az), torch.deg2rad(el)
        zero = torch.zeros_like(az)
        right = torch.stack([az.cos(), az.sin(), zero], -1)
        outward = torch.stack([az.sin() * el.cos(), -az.cos() * el.cos(), el.sin()], -1)
        down = torch.linalg.cross(-outward, right)
        position = torch.as_tensor(target, dtype=dtype) + far[..., None] * outward
        return cls._pinhole(torch.stack([right, down, -outward], -1), position, view, size)

    @classmethod
    def look_at(
        cls,
        eye: Sequence[float] | Tensor,
        target: Sequence[float] | Tensor,
        up: Sequence[float] | Tensor = (0.0, 0.0, 1.0),
        fov: Number = 45.0,
        size: int | tuple[int, int] = 128,
        dtype: torch.dtype = torch.float32,
    ) -> Camera:
        """Cameras at ``eye`` that see ``target`` in the middle and ``up`` upwards; all are [*B, 3] and broadcast.

        Raises:
            RequestError: eye and target coincide, or the line of sight is parallel to ``up``.
        """
        at, to, top = torch.broadcast_tensors(*(torch.as_tensor(v, dtype=dtype) for v in (eye, target, up)))
        forward = to - at
        right = torch.linalg.cross(forward, top)
        tiny = 1e-6 * forward.norm(dim=-1) * top.norm(dim=-1)
        if bool((right.norm(dim=-1) <= tiny).any()):
            raise RequestError("look_at needs a line of sight of some length that is not parallel to up")
        forward = torch.nn.functional.normalize(forward, dim=-1)
        right = torch.nn.functional.normalize(right, dim=-1)
        down = torch.linalg.cross(forward, right)
        view = torch.as_tensor(fov, dtype=dtype).expand(at.shape[:-1])
        return cls._pinhole(torch.stack([right, down, forward], -1), at, view, size)

    @classmethod
    def _pinhole(cls, rotation: Tensor, position: Tensor, fov: Tensor, size: int | tuple[int, int]) -> Camera:
        """A camera with square pixels and a centred principal point, from the vertical field of view in degrees."""
        height, width = (size, size) if isinstance(size, int) else size
        if not bool(((fov > 0) & (fov < 180)).all()):
            raise RequestError(f"a field of view lies between 0 and 180 degrees, not {fov.tolist()}")
        focal = 0.5 * height / torch.tan(0.5 * torch.deg2rad(fov))
        principal = torch.tensor([0.5 * width, 0.5 * height], dtype=position.dtype).expand(*fov.shape, 2)
        return cls(rotation, position, torch.stack([focal, focal], -1), principal, (height, width))

    @property
    def shape(self) -> torch.Size:
        """The leading dimensions ``*B``; empty for a single camera."""
        return self.position.shape[:-1]

    @property
    def camera_to_world(self) -> Tensor:
        """[*B, 4, 4], homogeneous: maps camera coordinates to world coordinates."""
        top = torch.cat([self.rotation, self.position[..., None]], -1)
        bottom = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*self.shape, 1, 4)
        return torch.cat([top, bottom], -2)

    @property
    def world_to_camera(self) -> Tensor:
        """[*B, 4, 4], homogeneous: the inverse of `camera_to_world`."""
        turned = self.rotation.mT
        moved = -(turned @ self.position[..., None])
        return replace(self, rotation=turned, position=moved[..., 0]).camera_to_world

    @property
    def intrinsics(self) -> Tensor:
        """[*B, 3, 3], the matrix K with focal lengths and principal point, in pixels."""
        matrix = torch.zeros(*self.shape, 3, 3, dtype=self.position.dtype, device=self.position.device)
        matrix[..., 0, 0], matrix[..., 1, 1] = self.focal[..., 0], self.focal[..., 1]
        matrix[..., :2, 2] = self.principal
        matrix[..., 2, 2] = 1.0
        return matrix

    def __getitem__(self, index: int | slice | tuple[int | slice, ...] | Tensor) -> Camera:
        """Some of the cameras, by an index into the leading dimensions."""
        if not self.shape:
            raise RequestError("a single camera has no leading dimension to index")
        return Camera(self.rotation[index], self.position[index], self.focal[index], self.principal[index], self.size)

    def to(self, dtype: torch.dtype) -> Camera:
        """The same cameras in another floating-point format."""
        rotation, position = self.rotation.to(dtype), self.position.to(dtype)
        return Camera(rotation, position, self.focal.to(dtype), self.principal.to(dtype), self.size)

    def resized(self, size: int | tuple[int, int]) -> Camera:
        """The same views drawn with another number of pixels: intrinsics scale with each side."""
        height, width = (size, size) if isinstance(size, int) else size
        scale = self.focal.new_tensor([width / self.size[1], height / self.size[0]])
        return replace(self, focal=self.focal * scale, principal=self.principal * scale, size=(height, width))

    def rays(self) -> tuple[Tensor, Tensor]:
        """Origins and unit directions in the world of the rays through all pixel centres: two of [*B, H, W, 3]."""
        height, width = self.size
        u = torch.arange(width, dtype=self.position.dtype, device=self.position.device) + 0.5
        v = torch.arange(height, dtype=self.position.dtype, device=self.position.device) + 0.5
        x = (u - self.principal[..., :1]) / self.focal[..., :1]
        y = (v - self.principal[..., 1:]) / self.focal[..., 1:]
        x, y = torch.broadcast_tensors(x[..., None, :], y[..., :, None])
        seen = torch.nn.functional.normalize(torch.stack([x, y, torch.ones_like(x)], -1), dim=-1)
        directions = torch.einsum("...ij,...hwj->...hwi", self.rotation, seen)
        return self.position[..., None, None, :].expand_as(directions), directions

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Where world points appear.

        Args:
            points: [*B, N, 3] or [N, 3].

        Returns:
            pixels [*B, N, 2] (u, v) and depth [*B, N] along the forward axis. Where depth <= 0 the point lies behind
            the camera and its pixel means nothing.
        """
        seen = (points - self.position[..., None, :]) @ self.rotation
        depth = seen[..., 2]
        pixels = seen[..., :2] / depth[..., None] * self.focal[..., None, :] + self.principal[..., None, :]
        return pixels, depth

    def relative_to(self, other: Camera) -> Camera:
        """The same cameras with ``other``'s camera axes as their world; relative to itself a camera sits at 0."""
        turned = other.rotation.mT
        position = (turned @ (self.position - other.position)[..., None])[..., 0]
        rotation = turned @ self.rotation
        batch = position.shape[:-1]
        return Camera(rotation, position, self.focal.expand(*batch, 2), self.principal.expand(*batch, 2), self.size)
