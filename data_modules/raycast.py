"""Views of a mesh by ray casting on the CPU (Embree): no window system, the same pixels on every run.

One primary ray a sample; Lambert shading in world space with fixed lights, no shadows, nothing specular, so that a
surface point has one colour from every view.

Letters: V views, H rows and W columns of pixels, R rays.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.sources.base import Mesh, Sampler, srgb_to_linear
from scaled_ig.errors import UsageError

FOCAL = 1.025390625  # focal length over image width

GROUND, SKY = 0.30, 0.52  # ambient light on surfaces that look down, and on those that look up
LIGHTS = np.array([[0.35, -0.60, 0.72], [-0.80, 0.355, 0.48], [0.55, 0.80, 0.24]])  # towards key, fill and rim light
INTENSITIES = np.array([0.55, 0.22, 0.15])

MOST_LAYERS = 64  # of surfaces that a ray goes through
LEAST_SHARE = 1 / 512  # of a ray that goes on
STEP = 1e-5  # from a surface to where the ray goes on, in distances along the camera's axis

SRGB_TO_LINEAR = srgb_to_linear(np.arange(256) / 255).astype(np.float32)


def draw_cameras(
    count: int,
    distance: float,
    azimuth: tuple[float, float],
    elevation: tuple[float, float],
    generator: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cameras drawn independently and uniformly by area on a patch of a sphere, looking at its centre.

    Args:
        count: number of cameras V.
        distance: radius of the sphere.
        azimuth: degrees, 0 stands before the front (-Y), 90 at +X.
        elevation: degrees above the horizon, within [-90, 90].
        generator: source of the draws.

    Returns:
        camera_to_world float32 [V, 4, 4] in OpenCV axes; intrinsics float32 [V, 4].
    """
    angle = np.radians(generator.uniform(*azimuth, size=count))
    low, high = np.sin(np.radians(elevation))
    height = generator.uniform(low, high, size=count)
    across = np.sqrt(1 - height**2)
    outward = np.stack([across * np.sin(angle), -across * np.cos(angle), height], axis=1)
    right = np.stack([np.cos(angle), np.sin(angle), np.zeros(count)], axis=1)
    camera_to_world = np.zeros((count, 4, 4))
    camera_to_world[:, :3, 0] = right
    camera_to_world[:, :3, 1] = np.cross(-outward, right)
    camera_to_world[:, :3, 2] = -outward
    camera_to_world[:, :3, 3] = distance * outward
    camera_to_world[:, 3, 3] = 1.0
    intrinsics = np.tile([FOCAL, FOCAL, 0.5, 0.5], (count, 1))
    return camera_to_world.astype(np.float32), intrinsics.astype(np.float32)


def shade(normals: NDArray[Any]) -> NDArray[Any]:
    """Light that falls on surfaces: [..., 3] unit normals in world axes to [...] linear values."""
    ambient = GROUND + (SKY - GROUND) * (normals[..., 2] + 1) / 2
    return ambient + np.maximum(normals @ LIGHTS.T, 0.0) @ INTENSITIES


class RayCaster:
    """Renders one mesh from any camera.

    Args:
        mesh: triangles around the origin.
        samples_per_pixel: a square number, samples on a regular grid in the pixel.

    Raises:
        UsageError: Embree is not to be had on this machine, or ``samples_per_pixel`` is no square.
    """

    def __init__(self, mesh: Mesh, samples_per_pixel: int = 16) -> None:
        try:
            from embreex.mesh_construction import TriangleMesh
            from embreex.rtcore_scene import EmbreeScene
        except ImportError as error:
            raise UsageError(
                f"rendering meshes needs embreex ({error}), which has no wheel for linux-aarch64 and macOS-arm64: "
                "pack on an x86-64 machine and copy the pack"
            ) from None
        self.grid = math.isqrt(max(samples_per_pixel, 1))
        if self.grid**2 != samples_per_pixel:
            raise UsageError(f"--samples_per_pixel {samples_per_pixel} is no square number: use 1, 4, 9, 16, 25, ...")
        self.mesh = mesh
        corners = mesh.vertices[mesh.faces]  # vertices of no face may be anywhere
        self.radius = float(np.linalg.norm(corners, axis=-1).max())
        self.scene = EmbreeScene()
        TriangleMesh(self.scene, corners.astype(np.float32))
        self._prepare_surface()

    def _prepare_surface(self) -> None:
        mesh = self.mesh
        edges = mesh.vertices[mesh.faces[:, 1:]] - mesh.vertices[mesh.faces[:, :1]]
        self.face_normals = _unit(np.cross(edges[:, 0], edges[:, 1])).astype(np.float32)
        missing = ~mesh.normals.any(axis=-1, keepdims=True)
        self.corner_normals = np.where(missing, self.face_normals[:, None], mesh.normals)
        materials = mesh.materials
        self.textures = _Textures([m.texture for m in materials], [m.sampler for m in materials])
        self.emission_textures = _Textures(
            [m.emission_texture for m in materials], [m.emission_sampler for m in materials]
        )
        self.material_color = np.array([(*m.color, m.alpha) for m in materials], dtype=np.float32)
        self.emission = np.array([m.emission for m in materials], dtype=np.float32)
        self.cutoff = np.array([np.nan if m.cutoff is None else m.cutoff for m in materials])
        self.is_unlit = np.array([m.is_unlit for m in materials])

    def render(
        self, camera_to_world: NDArray[np.float32], intrinsics: NDArray[np.float32], image_size: tuple[int, int]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Renders one view on white, and its mask.

        Args:
            camera_to_world: [4, 4], OpenCV axes.
            intrinsics: [4], fx / W, fy / H, cx / W, cy / H.
            image_size: H, W.

        Returns:
            uint8 [H, W, 3], sRGB; and uint8 [H, W], the share of a pixel that the mesh hides, 255 is all.
        """
        height, width = image_size
        directions, pixel = self._rays(camera_to_world, intrinsics, height, width)
        origins = np.broadcast_to(camera_to_world[:3, 3], directions.shape).astype(np.float32)
        pixels, going_on = height * width, np.ones(len(directions))
        total, count = np.zeros((pixels, 3)), np.zeros((pixels, 1))
        for _ in range(MOST_LAYERS):
            hits = self.scene.run(origins, directions, output=True)
            is_hit = hits["primID"] >= 0
            origins, directions, pixel, going_on = origins[is_hit], directions[is_hit], pixel[is_hit], going_on[is_hit]
            face, u, v = (hits[name][is_hit] for name in ("primID", "u", "v"))
            radiance, alpha = self._surface(face, np.stack([1 - u - v, u, v], axis=1), directions)
            share = going_on * alpha
            count += np.bincount(pixel, share, minlength=pixels)[:, None]
            radiance = radiance * share[:, None]
            total += np.stack([np.bincount(pixel, radiance[:, c], minlength=pixels) for c in range(3)], axis=1)
            going_on = going_on - share
            left = going_on > LEAST_SHARE
            if not left.any():
                break
            origins = (origins + (hits["tfar"][is_hit] + np.float32(STEP))[:, None] * directions)[left]
            directions, pixel, going_on = directions[left], pixel[left], going_on[left]
        # Averaging hits in linear light and blending with white in display space leaves no dark fringe.
        display = _linear_to_srgb(total / np.where(count > 0, count, 1))
        coverage = count / self.grid**2
        image = display * coverage + (1 - coverage)
        mask = np.round(coverage * 255).astype(np.uint8).reshape(height, width)
        return np.round(image * 255).astype(np.uint8).reshape(height, width, 3), mask

    def _rays(
        self, camera_to_world: NDArray[np.float32], intrinsics: NDArray[np.float32], height: int, width: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Directions [R, 3] of the samples that meet the bounding ball, and their pixels [R]."""
        columns = (np.arange(width * self.grid) + 0.5) / (width * self.grid)
        rows = (np.arange(height * self.grid) + 0.5) / (height * self.grid)
        x = (columns - intrinsics[2]) / intrinsics[0]
        y = (rows - intrinsics[3]) / intrinsics[1]
        rotation, origin = camera_to_world[:3, :3].astype(np.float64), camera_to_world[:3, 3].astype(np.float64)
        towards = origin @ rotation
        # A ray o + t d passes the centre at a distance whose square is |o|^2 - (o.d)^2 / |d|^2.
        along = (x * towards[0])[None, :] + (y * towards[1] + towards[2])[:, None]
        length = (x**2)[None, :] + (y**2 + 1)[:, None]
        row, column = np.nonzero(along**2 >= (origin @ origin - (self.radius * 1.001) ** 2) * length)
        directions = np.stack([x[column], y[row], np.ones(len(row))], axis=1) @ rotation.T
        return directions.astype(np.float32), (row // self.grid) * width + column // self.grid

    def _normals(
        self, face: NDArray[np.int64], barycentric: NDArray[np.float32], directions: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Smooth normals, on the viewer's side of the face: windings of real files cannot be trusted."""
        smooth = _mean(barycentric, self.corner_normals[face])
        flat = self.face_normals[face]
        flat = np.where(_dot(flat, directions) > 0, -flat, flat)
        return _unit(np.where(_dot(smooth, flat) < 0, -smooth, smooth))

    def _surface(
        self, face: NDArray[np.int64], barycentric: NDArray[np.float32], directions: NDArray[np.float32]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Linear RGB [R, 3] that points of faces send towards the camera, and their alpha [R]."""
        mesh, material = self.mesh, self.mesh.material_index[face]
        color = self.textures.look_up(material, _mean(barycentric, mesh.uv[face]))
        color *= self.material_color[material, : color.shape[1]]
        alpha = color[:, 3] if color.shape[1] == 4 else self.material_color[material, 3]
        color = color[:, :3]
        if mesh.vertex_colors is not None:
            painted = _mean(barycentric, mesh.vertex_colors[mesh.faces[face]])
            color *= painted[:, :3]
            alpha = alpha * painted[:, 3] if painted.shape[1] == 4 else alpha
        cutoff = self.cutoff[material]
        alpha = np.where(np.isnan(cutoff), np.clip(alpha, 0, 1), alpha >= cutoff)
        light = shade(self._normals(face, barycentric, directions))
        radiance = color * np.where(self.is_unlit[material], 1, light)[:, None]
        if self.emission.any():
            uv = mesh.uv if mesh.emission_uv is None else mesh.emission_uv
            emitted = self.emission_textures.look_up(material, _mean(barycentric, uv[face]))[:, :3]
            radiance = radiance + emitted * self.emission[material]
        return radiance, alpha


class _Textures:
    """Textures of all materials, one behind the other; None is plain white, and one that comes twice is kept once."""

    WRAPS = ("repeat", "mirror", "clamp")

    def __init__(self, textures: list[NDArray[np.uint8] | None], samplers: list[Sampler]) -> None:
        white = np.full((1, 1, 3), 255, np.uint8)
        filled = [white if texture is None else texture for texture in textures]
        once = {id(texture): texture for texture in filled}
        channels = max(texture.shape[2] for texture in filled)
        starts = dict(zip(once, np.cumsum([0, *(t.shape[0] * t.shape[1] for t in once.values())]), strict=False))
        rows = [texture.reshape(-1, texture.shape[2]) for texture in once.values()]
        self.texels = np.full((sum(map(len, rows)), channels), 255, np.uint8)
        for start, texels in zip(starts.values(), rows, strict=True):
            self.texels[start : start + len(texels), : texels.shape[1]] = texels
        self.has_alpha = channels == 4
        self.size = np.array([texture.shape[1::-1] for texture in filled])
        self.start = np.array([starts[id(texture)] for texture in filled])
        self.wrap = np.array([[self.WRAPS.index(wrap) for wrap in sampler.wrap] for sampler in samplers])
        self.is_nearest = np.array([sampler.is_nearest for sampler in samplers])

    def look_up(self, material: NDArray[np.int64], uv: NDArray[np.float32]) -> NDArray[np.float32]:
        """Linear RGB, and alpha where any texture has it, [R, 3 or 4] of materials [R] at ``uv`` [R, 2]."""
        size = self.size[material]
        place = np.stack([uv[:, 0], 1 - uv[:, 1]], axis=1) * size - 0.5
        if self.is_nearest.any():
            place = np.where(self.is_nearest[material, None], np.floor(place + 0.5), place)
        corner = np.floor(place).astype(np.int64)
        weight = (place - corner).astype(np.float32)
        color = np.zeros((len(material), self.texels.shape[1]), np.float32)
        for right in (0, 1):
            for down in (0, 1):
                column, row = self._wrapped(corner + np.array([right, down]), size, material).T
                texel = self.texels[self.start[material] + row * size[:, 0] + column]
                part = np.abs(1 - right - weight[:, 0]) * np.abs(1 - down - weight[:, 1])
                color[:, :3] += SRGB_TO_LINEAR[texel[:, :3]] * part[:, None]
                if self.has_alpha:
                    color[:, 3] += texel[:, 3] * part / 255
        return color

    def _wrapped(
        self, place: NDArray[np.int64], size: NDArray[np.int64], material: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        if not self.wrap.any():
            return place % size
        wrap, turn = self.wrap[material], place % (2 * size)
        mirrored = np.where(turn < size, turn, 2 * size - 1 - turn)
        return np.choose(wrap, [place % size, mirrored, np.clip(place, 0, size - 1)])


def _mean(barycentric: NDArray[np.float32], corners: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values [R, D] between those of three corners [R, 3, D]."""
    return np.einsum("nk,nkd->nd", barycentric, corners)


def _unit(vectors: NDArray[Any]) -> NDArray[Any]:
    return vectors / np.maximum(np.sqrt(_dot(vectors, vectors)), 1e-12)


def _dot(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    return np.einsum("nk,nk->n", first, second)[:, None]


def _linear_to_srgb(linear: NDArray[Any]) -> NDArray[Any]:
    linear = np.clip(linear, 0.0, 1.0)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055)
