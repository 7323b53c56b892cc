"""What every reader of scenes gives to the packer: a list of scenes, and each scene as a mesh or as posed views.

Letters: V views or vertices, H rows and W columns of pixels, F faces of a mesh.
"""

import hashlib
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from scaled_ig.errors import UsageError

SourceRecord = dict[str, Any]

LARGEST_UV = 1e6
LARGEST_PLACE = 1e150  # of a vertex; its square is a number, too


@dataclass(frozen=True)
class Sampler:
    """How a texture is read.

    Attributes:
        wrap: along u and along v, what lies outside of [0, 1]: ``repeat``, ``mirror``, or ``clamp``, the texels at the
            edge.
        is_nearest: a point has the colour of one texel; else that between four of them.
    """

    wrap: tuple[str, str] = ("repeat", "repeat")
    is_nearest: bool = False


@dataclass(frozen=True)
class Material:
    """Diffuse colour of a surface: ``color`` times the texture.

    Attributes:
        color: linear RGB in [0, 1].
        texture: uint8 [h, w, 3 or 4], sRGB and alpha, first row at the top (v = 1); None is plain white.
        sampler: of the texture.
        alpha: times that of the texture, the share of what lies behind that is hidden, in [0, 1].
        cutoff: below it nothing is there, from it on nothing shines through; None for what is between.
        emission: linear RGB, 0 or more, of the light that the surface sends out by itself, times its texture.
        emission_texture: as ``texture``, without alpha.
        emission_sampler: of that texture.
        is_unlit: the colour is seen as it is, whatever light falls on it.
    """

    color: tuple[float, float, float] = (1.0, 1.0, 1.0)
    texture: NDArray[np.uint8] | None = None
    sampler: Sampler = Sampler()
    alpha: float = 1.0
    cutoff: float | None = None
    emission: tuple[float, float, float] = (0.0, 0.0, 0.0)
    emission_texture: NDArray[np.uint8] | None = None
    emission_sampler: Sampler = Sampler()
    is_unlit: bool = False


@dataclass(frozen=True)
class Mesh:
    """Triangles with diffuse colours.

    Attributes:
        vertices: float64 [V, 3].
        faces: int [F, 3], rows of ``vertices``.
        normals: float32 [F, 3, 3], a normal for every corner of a face, zero where the file gives none.
        uv: float32 [F, 3, 2], texture coordinates of every corner, v upwards.
        material_index: int [F], rows of ``materials``.
        materials: diffuse colours.
        vertex_colors: float32 [V, 3 or 4], linear RGB and alpha in [0, 1], multiplies the material; or None.
        emission_uv: as ``uv``, for the textures of emission; None where they are the same.
        warnings: what the file says of its look and the views do not show, one clause each.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]
    normals: NDArray[np.float32]
    uv: NDArray[np.float32]
    material_index: NDArray[np.int64]
    materials: tuple[Material, ...]
    vertex_colors: NDArray[np.float32] | None = None
    emission_uv: NDArray[np.float32] | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class PosedViews:
    """Ready images with their cameras.

    Attributes:
        images: uint8 [V, H, W, 3], sRGB on white.
        camera_to_world: float32 [V, 4, 4], OpenCV axes (x right, y down, z forward).
        intrinsics: float32 [V, 4], fx / W, fy / H, cx / W, cy / H.
        near_far: float32 [V, 2], distances from the camera between which the scene lies; None where the source gives
            none: then it is the ball of radius 0.5 around the origin.
        masks: uint8 [V, H, W], how much of each pixel the object covers, 255 is all of it; or None.
        warnings: what may be wrong with the views although they can be read, one clause each.
    """

    images: NDArray[np.uint8]
    camera_to_world: NDArray[np.float32]
    intrinsics: NDArray[np.float32]
    near_far: NDArray[np.float32] | None = None
    masks: NDArray[np.uint8] | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class SceneEntry:
    """One line of a source's list: a unique ``id`` and a ``category`` such as ``car``."""

    id: str
    category: str


# Control characters, ends of lines, and halves of characters, which no file and no terminal takes.
UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def is_name(text: str) -> bool:
    """Whether a text may be the id of a scene: neither empty nor with characters that cannot be written or printed."""
    return bool(text) and UNFIT.search(text) is None


def scene_generator(seed: int, scene_id: str) -> np.random.Generator:
    """The random numbers of one scene, independent of all other scenes."""
    digest = hashlib.sha256(f"{seed}/{scene_id}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


@dataclass(frozen=True)
class Viewpoints:
    """Where the cameras of rendered scenes stand by default; angles in degrees, azimuth 0 looks at the front."""

    views: int
    azimuth: tuple[float, float]
    elevation: tuple[float, float]


UPPER_HEMISPHERE = Viewpoints(views=160, azimuth=(-180.0, 180.0), elevation=(0.0, 85.0))
FRONTAL = Viewpoints(views=50, azimuth=(-45.0, 45.0), elevation=(-20.0, 30.0))


class SceneSource(ABC):
    """A reader of one format. Picklable, since worker processes load the scenes.

    ``viewpoints`` is None where the scenes come as ready views.
    """

    viewpoints: ClassVar[Viewpoints | None]

    @abstractmethod
    def scenes(self) -> list[SceneEntry]:
        """All scenes in a fixed order, found without reading meshes or images."""

    @abstractmethod
    def load(self, scene_id: str) -> tuple[Mesh | PosedViews, SourceRecord]:
        """Reads one scene.

        Returns:
            The scene in world axes (+Z up, front -Y, box centred, diagonal 1), and where it came from: ``file``,
            ``sha256``, ``license``, ``shape`` (variants of one shape share it), ``normalization``.

        Raises:
            UsageError: a file is missing or malformed.
        """


def normalize(mesh: Mesh, up: str, yaw_degrees: float = 0.0, box_of: Mesh | None = None) -> tuple[Mesh, dict[str, Any]]:
    """Brings a mesh to world axes: +Z up, then a turn about +Z, then box centred with diagonal 1.

    Args:
        mesh: triangles in the file's own axes.
        up: ``y`` (x, y, z become x, -z, y) or ``z``.
        yaw_degrees: turn about +Z that brings the front to -Y.
        box_of: mesh in the same axes whose box is centred instead; None takes the mesh's own.

    Returns:
        The mesh, and the normalization: world = (turned - ``center``) * ``scale``.

    Raises:
        UsageError: no triangle, a vertex that is not finite, or a box without extent.
    """
    if up not in ("y", "z"):
        raise UsageError(f"up axis {up!r} is not known: use y or z")
    turn = turn_about_z(yaw_degrees)
    if up == "y":
        turn = turn @ np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    measured = mesh if box_of is None else box_of
    with np.errstate(all="ignore"):
        used_vertices = measured.vertices[np.unique(measured.faces)] @ turn.T
    if not len(used_vertices) or not (np.abs(used_vertices) < LARGEST_PLACE).all():  # nor NaN
        raise UsageError("the mesh has no triangle or a vertex that is not a finite number: repair or remove it")
    low, high = used_vertices.min(axis=0), used_vertices.max(axis=0)
    diagonal = float(np.linalg.norm(high - low))
    if diagonal == 0.0:
        raise UsageError("all vertices of the mesh are one point: repair or remove it")
    center = (low + high) / 2
    with np.errstate(all="ignore"):  # vertices of no face may be anything
        vertices = (mesh.vertices @ turn.T - center) / diagonal
    moved = replace(mesh, vertices=vertices, normals=(mesh.normals @ turn.T).astype(np.float32))
    return moved, {"center": center.tolist(), "scale": 1.0 / diagonal, "up": up, "yaw_degrees": float(yaw_degrees)}


def turn_about_z(degrees: float) -> NDArray[np.float64]:
    """The rotation [3, 3] about +Z that takes +X towards +Y."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])


def bounded_uv(uv: NDArray[Any]) -> NDArray[np.float32]:
    """Texture coordinates as float32: beyond the largest a texture is noise, and numbers of texels end."""
    return np.nan_to_num(np.clip(uv, -LARGEST_UV, LARGEST_UV)).astype(np.float32)


def srgb_to_linear(display: NDArray[Any]) -> NDArray[Any]:
    """sRGB display values in [0, 1] to linear light."""
    return np.where(display <= 0.04045, display / 12.92, ((np.maximum(display, 0.04045) + 0.055) / 1.055) ** 2.4)


GREY = Material(color=(float(srgb_to_linear(np.array(0.8))),) * 3)  # what has no colour of its own
