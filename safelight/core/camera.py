"""One batched camera type: where views are taken from, and which ray belongs to which pixel.

Axis legend: ``*B`` leading batch dimensions, H W picture height and width in pixels, N points, last axis x y z (world)
or u v (picture, in pixels).

World: right-handed, z up, unit free. Camera: OpenCV axes, x right, y down, z forward. Pixel (row r, column c) has its
centre at u = c + 0.5, v = r + 0.5. Projections and epipolar geometry as in Hartley & Zisserman, *Multiple View
Geometry*, eq. 6.5 (pinhole), sec. 6.3 (orthographic), eq. 9.1 (fundamental matrix).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import normalize

from safelight.core.similarity import Similarity
from safelight.errors import RequestError, UnknownNameError

Number: TypeAlias = "float | Sequence[float] | Tensor"
Vector: TypeAlias = "Sequence[float] | Tensor"
PROJECTIONS = ("perspective", "orthographic")
_ORIGIN = (0.0, 0.0, 0.0)


@dataclass(frozen=True, eq=False)
class Camera:
    """One or many cameras that share a picture size; every tensor has the same leading dimensions ``*B``.

    Attributes:
        rotation: [*B, 3, 3], camera to world: its columns are the camera's right, down and forward axes in the world.
        position: [*B, 3], the centre of projection in the world. ``x_world = rotation @ x_camera + position``.
        focal: [*B, 2], focal lengths (fx, fy) in pixels; of an orthographic camera, pixels per unit of the world.
        principal: [*B, 2], where the optical axis meets the picture (cx, cy), in pixels.
        size: (height, width) in pixels.
        projection: ``perspective``, or ``orthographic``: all rays are parallel to the optical axis.

    Raises:
        RequestError: shapes that do not belong together, a size that is not positive, numbers that are not finite, a
            focal length that is not above 0, or axes that are no rotation: scaled, skewed or left-handed.
        UnknownNameError: another projection.
    """

    rotation: Tensor
    position: Tensor
    focal: Tensor
    principal: Tensor
    size: tuple[int, int]
    projection: Literal["perspective", "orthographic"] = "perspective"

    def __post_init__(self) -> None:
        batch = self.position.shape[:-1]
        wanted = ((*batch, 3, 3), (*batch, 3), (*batch, 2), (*batch, 2))
        tensors = (self.rotation, self.position, self.focal, self.principal)
        found = tuple(tuple(t.shape) for t in tensors)
        if found != wanted:
            raise RequestError(f"a camera needs tensors of shapes {wanted}, these have {found}")
        if min(self.size) < 1:
            raise RequestError(f"a picture needs at least one pixel each way, not {self.size}")
        if self.projection not in PROJECTIONS:
            raise UnknownNameError("projection", self.projection, PROJECTIONS)
        if not self.position.is_meta:
            _checked(*tensors)

    @classmethod
    def orbit(
        cls,
        azimuth: Number,
        elevation: Number = 0.0,
        distance: Number = 1.0,
        fov: Number = 45.0,
        size: int | tuple[int, int] = 128,
        target: Vector = _ORIGIN,
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

        Raises:
            RequestError: a distance or a field of view out of its range.
        """
        numbers = (torch.as_tensor(n, dtype=dtype) for n in (azimuth, elevation, distance, fov))
        az, el, far, view = torch.broadcast_tensors(*numbers)
        if not bool((far > 0).all()):
            raise RequestError(f"a camera's distance is above 0, not {far.tolist()}")
        az, el = torch.deg2rad(az), torch.deg2rad(el)
        zero = torch.zeros_like(az)
        right = torch.stack([az.cos(), az.sin(), zero], -1)
        outward = torch.stack([az.sin() * el.cos(), -az.cos() * el.cos(), el.sin()], -1)
        down = torch.linalg.cross(-outward, right)
        position = torch.as_tensor(target, dtype=dtype) + far[..., None] * outward
        return cls._pinhole(torch.stack([right, down, -outward], -1), position, view, size)

    @classmethod
    def ring(
        cls,
        count: int,
        elevation: Number = 0.0,
        distance: Number = 1.0,
        fov: Number = 45.0,
        size: int | tuple[int, int] = 128,
        start: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> Camera:
        """``count`` cameras at equal steps of azimuth all around the origin, the first at ``start`` degrees: [count].

        Raises:
            RequestError: a count below 1, or what `orbit` refuses.
        """
        if count < 1:
            raise RequestError(f"a ring has at least one camera, not {count}")
        azimuth = [start + view * 360.0 / count for view in range(count)]
        return cls.orbit(azimuth, elevation, distance, fov, size, dtype=dtype)

    @classmethod
    def look_at(
        cls,
        eye: Vector,
        target: Vector,
        up: Vector = (0.0, 0.0, 1.0),
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
        forward, right = normalize(forward, dim=-1), normalize(right, dim=-1)
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

    @classmethod
    def from_opencv(
        cls,
        world_to_camera: Tensor,
        intrinsics: Tensor,
        size: tuple[int, int],
        projection: Literal["perspective", "orthographic"] = "perspective",
    ) -> Camera:
        """Cameras from world-to-camera matrices with OpenCV axes, as COLMAP and gsplat have them.

        Args:
            world_to_camera: [*B, 4, 4], homogeneous.
            intrinsics: [*B, 3, 3], K in pixels whose centres lie at 0.5.

        Raises:
            RequestError: a last row other than 0 0 0 1, a skew, or what `Camera` refuses.
        """
        _homogeneous(world_to_camera)
        rotation = world_to_camera[..., :3, :3].mT
        position = -(rotation @ world_to_camera[..., :3, 3:])[..., 0]
        skewed = intrinsics[..., 0, 1].abs() + intrinsics[..., 1, 0].abs()
        if bool((skewed > 1e-6 * intrinsics[..., 0, 0].abs()).any()):
            raise RequestError("intrinsics with a skew have no place here; rectify the pictures first")
        focal = torch.stack([intrinsics[..., 0, 0], intrinsics[..., 1, 1]], -1)
        return cls(rotation, position, focal, intrinsics[..., :2, 2], size, projection)

    @classmethod
    def from_opengl(
        cls,
        camera_to_world: Tensor,
        intrinsics: Tensor,
        size: tuple[int, int],
        projection: Literal["perspective", "orthographic"] = "perspective",
    ) -> Camera:
        """Cameras from camera-to-world matrices with OpenGL axes (y up, z backward), as nerfstudio and Blender have
        them; the arguments are those of `from_opencv`."""
        _homogeneous(camera_to_world)
        turned = camera_to_world[..., :3, :3] * camera_to_world.new_tensor([1.0, -1.0, -1.0])
        empty = torch.eye(4).to(camera_to_world).expand(camera_to_world.shape)
        plain = cls.from_opencv(empty, intrinsics, size, projection)
        return replace(plain, rotation=turned, position=camera_to_world[..., :3, 3])

    def orthographic(self, span: Number) -> Camera:
        """The same poses with parallel rays; ``span`` is the length in the world that the picture's height shows."""
        told = torch.as_tensor(span, dtype=self.position.dtype, device=self.position.device)
        if not bool((told > 0).all()):
            raise RequestError(f"an orthographic picture spans a length above 0, not {told.tolist()}")
        focal = (self.size[0] / told).expand(self.shape)
        return replace(self, focal=torch.stack([focal, focal], -1), projection="orthographic")

    @property
    def shape(self) -> torch.Size:
        """The leading dimensions ``*B``; empty for a single camera."""
        return self.position.shape[:-1]

    @property
    def forward(self) -> Tensor:
        """[*B, 3], the unit direction of the optical axis in the world."""
        return self.rotation[..., 2]

    @property
    def camera_to_world(self) -> Tensor:
        """[*B, 4, 4], homogeneous: maps camera coordinates (OpenCV axes) to world coordinates."""
        top = torch.cat([self.rotation, self.position[..., None]], -1)
        bottom = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*self.shape, 1, 4)
        return torch.cat([top, bottom], -2)

    @property
    def camera_to_world_opengl(self) -> Tensor:
        """[*B, 4, 4]: the same for OpenGL's camera axes, y up and z backward: ``camera_to_world @ diag(1,-1,-1,1)``."""
        return self.camera_to_world * self.position.new_tensor([1.0, -1.0, -1.0, 1.0]) + 0.0  # no zeros below zero

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

    @property
    def matrix(self) -> Tensor:
        """[*B, 3, 4], from homogeneous world points to homogeneous pixels."""
        if self.projection == "perspective":
            return self.intrinsics @ self.world_to_camera[..., :3, :]
        return self.intrinsics @ self.world_to_camera[..., (0, 1, 3), :]

    def angles(self, target: Vector = _ORIGIN) -> tuple[Tensor, Tensor, Tensor]:
        """Where the cameras stand as seen from ``target``: azimuth in (-180, 180] and elevation in degrees, and
        distance, [*B] each. Straight above or below, the azimuth is what `orbit` was given for such a picture."""
        out = self.position - torch.as_tensor(target, dtype=self.position.dtype, device=self.position.device)
        distance, level = out.norm(dim=-1), out[..., :2].norm(dim=-1)
        right = self.rotation[..., 0]
        around = torch.atan2(out[..., 0], -out[..., 1])
        azimuth = torch.where(level > 1e-6 * distance, around, torch.atan2(right[..., 1], right[..., 0]))
        return torch.rad2deg(azimuth), torch.rad2deg(torch.atan2(out[..., 2], level)), distance

    def __getitem__(self, index: int | slice | tuple[int | slice | list[int], ...] | Tensor) -> Camera:
        """Some of the cameras, by an index into the leading dimensions."""
        if not self.shape:
            raise RequestError("a single camera has no leading dimension to index")
        rotation, position = self.rotation[index], self.position[index]
        return replace(
            self, rotation=rotation, position=position, focal=self.focal[index], principal=self.principal[index]
        )

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Camera:
        """The same cameras in another floating-point format, or on another device."""
        kept = {name: getattr(self, name) for name in ("rotation", "position", "focal", "principal")}
        return replace(self, **{name: tensor.to(device=device, dtype=dtype) for name, tensor in kept.items()})

    def resized(self, size: int | tuple[int, int]) -> Camera:
        """The same views drawn with another number of pixels: intrinsics scale with each side."""
        height, width = (size, size) if isinstance(size, int) else size
        scale = self.focal.new_tensor([width / self.size[1], height / self.size[0]])
        return replace(self, focal=self.focal * scale, principal=self.principal * scale, size=(height, width))

    def cropped(self, left: int, top: int, size: tuple[int, int]) -> Camera:
        """The views of a window (height, width) whose corner is pixel column ``left`` and row ``top``, which may lie
        outside the picture: then the window is padded."""
        corner = self.principal.new_tensor([left, top])
        return replace(self, principal=self.principal - corner, size=size)

    def rays(self) -> tuple[Tensor, Tensor]:
        """Origins and unit directions in the world of the rays through all pixel centres: two of [*B, H, W, 3]."""
        v, u = (torch.arange(n, dtype=self.position.dtype, device=self.position.device) + 0.5 for n in self.size)
        v, u = torch.meshgrid(v, u, indexing="ij")
        plane = self._plane(torch.stack([u, v], -1).reshape(-1, 2))
        one = torch.ones_like(plane[..., :1])
        if self.projection == "perspective":
            seen = normalize(torch.cat([plane, one], -1), dim=-1)
            directions = (seen @ self.rotation.mT).unflatten(-2, self.size)
            return self.position[..., None, None, :].expand_as(directions), directions
        origins = torch.cat([plane, 0 * one], -1) @ self.rotation.mT + self.position[..., None, :]
        origins = origins.unflatten(-2, self.size)
        return origins, self.forward[..., None, None, :].expand_as(origins)

    def _plane(self, pixels: Tensor) -> Tensor:
        """Pixels [(*B,) N, 2] as lengths on the plane at depth 1, or of any depth if orthographic: [*B, N, 2]."""
        return (pixels - self.principal[..., None, :]) / self.focal[..., None, :]

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
        plane = seen[..., :2] / depth[..., None] if self.projection == "perspective" else seen[..., :2]
        return plane * self.focal[..., None, :] + self.principal[..., None, :], depth

    def unproject(self, pixels: Tensor, depth: Tensor) -> Tensor:
        """The world points [*B, N, 3] that appear at ``pixels`` [*B, N, 2] at ``depth`` [*B, N] along the forward
        axis: the inverse of `project`."""
        plane = self._plane(pixels)
        if self.projection == "perspective":
            plane = plane * depth[..., None]
        return torch.cat([plane, depth[..., None]], -1) @ self.rotation.mT + self.position[..., None, :]

    def fundamental(self, other: Camera) -> Tensor:
        """[*B, 3, 3] with norm 1: ``F @ (u, v, 1)`` is the line in ``other``'s picture on which all lies that this
        camera sees at (u, v). Perspective and orthographic cameras may be mixed.

        Raises:
            RequestError: the two share their centre of projection; then a pixel has a point there, not a line.
        """
        mine, theirs = self.matrix, other.matrix
        centre = torch.cat([self.position, torch.ones_like(self.position[..., :1])], -1)
        if self.projection == "orthographic":
            centre = torch.cat([self.forward, torch.zeros_like(self.forward[..., :1])], -1)
        epipole = (theirs @ centre[..., None])[..., 0]
        found = torch.linalg.cross(epipole[..., None, :], (theirs @ torch.linalg.pinv(mine)).mT, dim=-1).mT
        length = found.flatten(-2).norm(dim=-1)[..., None, None]
        tiny = 64 * torch.finfo(found.dtype).eps * theirs.flatten(-2).norm(dim=-1)[..., None, None]
        if bool((length <= tiny).any()):
            raise RequestError("two cameras with one centre of projection have no epipolar lines")
        return found / length

    def relative_to(self, other: Camera) -> Camera:
        """The same cameras with ``other``'s camera axes as their world; relative to itself a camera sits at 0. The
        way back of points is ``other.camera_to_world``."""
        turned = other.rotation.mT
        position = (turned @ (self.position - other.position)[..., None])[..., 0]
        rotation = turned @ self.rotation
        focal, principal = (part.expand(*position.shape[:-1], 2) for part in (self.focal, self.principal))
        return replace(self, rotation=rotation, position=position, focal=focal, principal=principal)

    def moved(self, by: Similarity) -> Camera:
        """The same cameras in a world that was turned, scaled and moved: they see the moved points where they saw
        the points. A depth grows with the world; pixels per unit of an orthographic camera shrink."""
        focal = self.focal / by.scale if self.projection == "orthographic" else self.focal
        return replace(self, rotation=by.rotation @ self.rotation, position=by.apply(self.position), focal=focal)


def _checked(rotation: Tensor, position: Tensor, focal: Tensor, principal: Tensor) -> None:
    """RequestError where the numbers are no camera."""
    if not all(bool(part.isfinite().all()) for part in (rotation, position, focal, principal)):
        raise RequestError("a camera holds numbers that are not finite (nan or inf); its pose or lens is broken")
    if not bool((focal > 0).all()):
        raise RequestError(f"focal lengths are above 0, not {float(focal.min()):g}")
    square = rotation.detach().to(torch.promote_types(rotation.dtype, torch.float32))  # half formats have no det
    drift = (square.mT @ square - torch.eye(3, dtype=square.dtype, device=square.device)).abs()
    if bool((drift > max(1e-3, 8 * torch.finfo(rotation.dtype).eps)).any()):
        raise RequestError("a camera's axes are scaled or skewed, not a rotation; divide them by their lengths")
    if bool((torch.linalg.det(square) < 0).any()):
        raise RequestError("a camera's axes are left-handed: one is flipped, or two of them are swapped")


def _homogeneous(matrices: Tensor) -> None:
    """RequestError where matrices are not [*B, 4, 4] with the last row 0 0 0 1: transposed ones are caught here."""
    wanted = matrices.new_tensor([0.0, 0.0, 0.0, 1.0])
    if matrices.shape[-2:] != (4, 4) or not bool((matrices[..., 3, :] == wanted).all()):
        raise RequestError("a pose is a 4 x 4 matrix with the last row 0 0 0 1; is it transposed, or 3 x 4?")
