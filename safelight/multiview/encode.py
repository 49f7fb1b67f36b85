"""What networks are told of cameras: numbers or maps, by name.

Axis legend: V views, C channels, H W pixels of the cameras' pictures. Nothing here is learned, and no network knows
about cameras: a model's configuration names an encoder. Plücker coordinates: Hartley & Zisserman, sec. 3.2.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from safelight.core.camera import Camera
from safelight.errors import RequestError, UnknownNameError

Frame = Literal["world", "first", "last"]
Order = Literal["direction-moment", "moment-direction"]
FRAMES: Final = ("world", "first", "last")
ORDERS: Final = ("direction-moment", "moment-direction")
DOMAINS: Final = ("normals", "colours")
"""The order of Wonder3D's switches, and of its sets of views."""
LABELS: Final = {
    0: (0.0, 0.0),
    45: (-0.2362, 0.8125),
    90: (-0.1686, 1.6934),
    180: (0.5220, 3.1406),
    270: (0.6904, 4.8359),
    315: (0.3733, 5.5859),
}
"""Azimuth in degrees from the picture -> what Wonder3D is told of it."""


def pose16(cameras: Camera, normalise: bool = True) -> Tensor:
    """[V, 16]: camera-to-world matrices with OpenGL axes, row after row, as MVDream and ImageDream are told.

    Args:
        normalise: scale every position to length 1.
    """
    matrix = cameras.camera_to_world_opengl
    if normalise:
        moved = normalize(matrix[..., :3, 3:], dim=-2)
        matrix = torch.cat([torch.cat([matrix[..., :3, :3], moved], -1), matrix[..., 3:, :]], -2)
    return matrix.flatten(-2)


def zero123(cameras: Camera, reference: Camera) -> Tensor:
    """[V, 4]: difference of polar angles (radians, positive = the camera goes down), sine and cosine of the
    difference of azimuths, difference of distances, from a reference camera, as Zero123 is told."""
    (azimuth, elevation, distance), (a, e, d) = cameras.angles(), reference.angles()
    turn = torch.deg2rad(azimuth - a)
    return torch.stack([torch.deg2rad(e - elevation), turn.sin(), turn.cos(), distance - d], -1)


def stable_zero123(cameras: Camera, reference: Camera) -> Tensor:
    """[V, 4]: as `zero123`, but the fourth number is the polar angle of the reference from straight above, in radians.

    So Stable Zero123 is told how high the given picture was taken, and no distance.
    """
    polar = torch.deg2rad(90.0 - reference.angles()[1]).expand(*cameras.shape)
    return torch.cat([zero123(cameras, reference)[..., :3], polar[..., None]], -1)


def wonder3d(cameras: Camera, domain: str) -> Tensor:
    """[V, 10]: sines, then cosines, of an elevation that is always 0, of differences of elevation and azimuth (radians)
    and of two switches, normals and colours, as Wonder3D is told.

    The differences are no longer those of the cameras: they were measured in a world that leans (issue 72 of its
    code), and the network knows each view by them as by a label. In half precision, as they were released.

    Args:
        cameras: level ones, of azimuths that have a label: 0, 45, 90, 180, 270, 315, counted from the given picture.
        domain: ``normals`` or ``colours``.

    Raises:
        RequestError: a camera that has no label. UnknownNameError: no such domain.
    """
    if domain not in DOMAINS:
        raise UnknownNameError("domain of Wonder3D", domain, DOMAINS)
    azimuths, elevations, _ = cameras.angles()
    rows = []
    for azimuth, elevation in zip(azimuths.tolist(), elevations.tolist(), strict=True):
        near = round(azimuth) % 360
        if near not in LABELS or abs(azimuth - round(azimuth)) > 1e-3 or abs(elevation) > 1e-3:
            known = ", ".join(map(str, LABELS))
            raise RequestError(
                f"Wonder3D draws level views at {known} degrees from the picture, none at azimuth {azimuth:g}, "
                f"elevation {elevation:g}"
            )
        rows.append((0.0, *LABELS[near], *(float(domain == each) for each in DOMAINS)))
    told = torch.tensor(rows, dtype=torch.float16).to(cameras.position)
    return torch.cat([told.sin(), told.cos()], -1)


def polar_azimuth(cameras: Camera, reference: Camera) -> Tensor:
    """[V, 2]: the polar angle from straight above, and the azimuth from the reference's in [0, 2 pi), both in radians,
    as SV3D is told (its reference is the last view)."""
    (azimuth, elevation, _), (a, _, _) = cameras.angles(), reference.angles()
    turn = torch.remainder(azimuth - a, 360.0)
    turn = torch.where(turn > 360.0 - 1e-4, torch.zeros_like(turn), turn)  # a rounding below 0 is 0, not a whole turn
    return torch.deg2rad(torch.stack([90.0 - elevation, turn], -1))


def plucker(cameras: Camera, order: Order = "direction-moment", frame: Frame = "world", centre: float = 0.5) -> Tensor:
    """[V, 6, H, W]: every pixel's ray as its unit direction d and its moment o x d, which is the same for every
    point o of the ray.

    Args:
        order: ``direction-moment`` = SEVA's and MV-Adapter's, ``moment-direction`` = LGM's.
        frame: the world in which rays are told: as it is, or the axes of the first or the last camera.
        centre: where a pixel's ray passes it: 0.5 = the middle, 0 = its upper left corner.
    """
    if order not in ORDERS:
        raise UnknownNameError("order", order, ORDERS)
    origins, rays = _framed(cameras, frame, centre).rays()
    moment = torch.linalg.cross(origins, rays)
    parts = (rays, moment) if order == ORDERS[0] else (moment, rays)
    return torch.cat(parts, -1).movedim(-1, -3)


def directions(cameras: Camera, frame: Frame = "world", centre: float = 0.5) -> Tensor:
    """[V, 3, H, W]: every pixel's unit direction; the arguments are those of `plucker` (CAP4D's centre is 0)."""
    return _framed(cameras, frame, centre).rays()[1].movedim(-1, -3)


def orthographic(cameras: Camera, shifted: bool = True) -> Tensor:
    """[V, 6, H, W], constant over each picture: the direction of sight and that of the position, as MV-Adapter is
    told where rays are parallel.

    Args:
        shifted: from [-1, 1] to [0, 1], as its pipelines do.

    Raises:
        RequestError: perspective cameras, whose rays differ from pixel to pixel.
    """
    if cameras.projection != "orthographic":
        raise RequestError("rays of perspective cameras differ from pixel to pixel; encode them with 'plucker'")
    told = torch.cat([cameras.forward, normalize(cameras.position, dim=-1)], -1)
    told = told[..., None, None].expand(*told.shape, *cameras.size)
    return 0.5 * (told + 1.0) if shifted else told


def canonical(
    cameras: Camera, depth: Tensor, middle: Sequence[float] | Tensor = (0.0, 0.0, 0.0), radius: float = 1.0
) -> Tensor:
    """[V, 3, H, W]: where in the world the surface lies that each pixel sees, the same for a place in every view.

    Args:
        depth: [V, H, W] along the cameras' forward axes; inf where nothing is seen, and there the map is 0.
        middle: what is told as 0. radius: how far from it is told as 1.
    """
    if depth.shape != (*cameras.shape, *cameras.size):
        raise RequestError(f"depth of shape {tuple(depth.shape)} is not that of cameras {tuple(cameras.shape)}, "
                           f"{cameras.size[0]} x {cameras.size[1]}")  # fmt: skip
    seen = depth.isfinite()
    flat = torch.where(seen, depth, torch.ones_like(depth)).flatten(-2)
    height, width = cameras.size
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([columns, rows], -1).reshape(-1, 2).to(cameras.position) + 0.5
    points = cameras.unproject(pixels.expand(*cameras.shape, -1, 2), flat)
    told = (points - torch.as_tensor(middle, dtype=points.dtype, device=points.device)) / radius
    return torch.where(seen[..., None], told.unflatten(-2, cameras.size), 0.0).movedim(-1, -3)


def geometry(cameras: Camera, depth: Tensor, normals: Tensor, radius: float = 0.5) -> Tensor:
    """[V, 6, H, W] in [0, 1]: the place and the normal of what each pixel sees, both in the world, grey where nothing
    is seen, as MV-Adapter's geometry-guided checkpoints are told.

    Args:
        depth: see `canonical`. normals: [V, 3, H, W] unit, in the cameras' axes (x right, y down, z forward).
        radius: half the edge of the cube, around the middle of the world, that the thing fits.

    Raises:
        RequestError: depth or normals are not of these cameras' pictures.
    """
    places = canonical(cameras, depth, radius=radius)
    if normals.shape != places.shape:
        raise RequestError(f"normals of shape {list(normals.shape)} are not those of maps {list(places.shape)}")
    turned = torch.einsum("...ij,...jhw->...ihw", cameras.camera_to_world[..., :3, :3], normals.to(places))
    seen = depth.isfinite().unsqueeze(-3)
    return (0.5 * torch.cat([places, torch.where(seen, turned, 0.0)], -3) + 0.5).clamp(0.0, 1.0)


def _framed(cameras: Camera, frame: str, centre: float) -> Camera:
    if frame not in FRAMES:
        raise UnknownNameError("frame", frame, FRAMES)
    if frame != "world":
        cameras = cameras.relative_to(cameras[0 if frame == "first" else -1])
    return cameras if centre == 0.5 else replace(cameras, principal=cameras.principal + (0.5 - centre))


@dataclass(frozen=True)
class Encoder:
    """A row of the table.

    Attributes:
        function: takes cameras [V], what it ``needs``, and options of its own.
        channels: C of its answer.
        maps: whether that is [V, C, H, W], or [V, C].
        needs: the second argument: ``reference`` (a single camera), ``depth``, ``domain`` (its name), or nothing;
            ``surface`` is two, depth and normals.
        distant: whether it says how far away a camera is.
        who: which models are told this.
    """

    function: Callable[..., Tensor]
    channels: int
    maps: bool
    needs: Literal["", "reference", "depth", "surface", "domain"]
    distant: bool
    who: str


ENCODERS: Final[dict[str, Encoder]] = {
    "pose16": Encoder(pose16, 16, False, "", False, "MVDream, ImageDream"),
    "zero123": Encoder(zero123, 4, False, "reference", True, "Zero123, Zero123-XL"),
    "stable_zero123": Encoder(stable_zero123, 4, False, "reference", False, "Stable Zero123"),
    "wonder3d": Encoder(wonder3d, 10, False, "domain", False, "Wonder3D"),
    "polar_azimuth": Encoder(polar_azimuth, 2, False, "reference", False, "SV3D"),
    "plucker": Encoder(plucker, 6, True, "", True, "SEVA, MV-Adapter (perspective), LGM"),
    "directions": Encoder(directions, 3, True, "", False, "CAP4D"),
    "orthographic": Encoder(orthographic, 6, True, "", False, "MV-Adapter"),
    "canonical": Encoder(canonical, 3, True, "depth", False, "CAP4D"),
    "geometry": Encoder(geometry, 6, True, "surface", False, "MV-Adapter (geometry guided)"),
}


def encoder(name: str) -> Encoder:
    """The row of that name; UnknownNameError names the nearest."""
    if name not in ENCODERS:
        raise UnknownNameError("camera encoder", name, ENCODERS)
    return ENCODERS[name]
