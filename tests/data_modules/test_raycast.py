"""The ray caster against closed forms, and against images that another program rendered."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from data_modules.raycast import FOCAL, RayCaster, draw_cameras, shade
from data_modules.sources.base import Material, Mesh, Sampler, normalize
from data_modules.sources.basel import read_face_model
from data_modules.sources.meshes import MeshSource
from scaled_ig.errors import UsageError

pytest.importorskip("embreex", reason="embreex has no wheel for this machine")
DATA = Path(os.environ.get("SCALED_IG_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
SIZE = (128, 128)
PINHOLE = np.array([FOCAL, FOCAL, 0.5, 0.5], np.float32)


def cameras(count: int, elevation=(0.0, 85.0), seed: int = 0):
    return draw_cameras(count, 1.3, (-180.0, 180.0), elevation, np.random.default_rng(seed))


def solids(*parts: tuple[trimesh.Trimesh, Sequence[float]]) -> Mesh:
    """Triangle meshes, each of one linear colour."""
    firsts = np.cumsum([0, *(len(part.vertices) for part, _ in parts)])
    faces = np.concatenate([part.faces + first for (part, _), first in zip(parts, firsts, strict=False)])
    return Mesh(
        vertices=np.concatenate([part.vertices for part, _ in parts]),
        faces=faces,
        normals=np.zeros((len(faces), 3, 3), np.float32),
        uv=np.zeros((len(faces), 3, 2), np.float32),
        material_index=np.concatenate([np.full(len(part.faces), row) for row, (part, _) in enumerate(parts)]),
        materials=tuple(Material((red, green, blue)) for _, (red, green, blue) in parts),
    )


def project(points, camera_to_world, intrinsics):
    """Points [N, 3] to pixels [N, 2], by the pinhole formula."""
    camera = (points - camera_to_world[:3, 3]) @ camera_to_world[:3, :3].astype(np.float64)
    return (camera[:, :2] / camera[:, 2:] * intrinsics[:2] + intrinsics[2:]) * 128


def test_cameras_are_rigid_and_look_at_the_centre():
    poses, intrinsics = cameras(200, elevation=(-20.0, 85.0))
    rotation, position = poses[:, :3, :3].astype(np.float64), poses[:, :3, 3].astype(np.float64)
    np.testing.assert_allclose(rotation @ rotation.transpose(0, 2, 1), np.tile(np.eye(3), (200, 1, 1)), atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(rotation), 1, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(position, axis=1), 1.3, atol=1e-6)
    np.testing.assert_allclose(rotation[:, :, 2], -position / 1.3, atol=1e-6)
    assert (rotation[:, 2, 1] < 0).all(), "image rows run downwards in the world"
    np.testing.assert_array_equal(intrinsics, np.tile(PINHOLE, (200, 1)))


def test_cameras_are_uniform_by_area():
    poses, _ = draw_cameras(40_000, 1.0, (-45.0, 45.0), (-20.0, 30.0), np.random.default_rng(0))
    x, y, z = poses[:, :3, 3].T
    low, high = np.sin(np.radians([-20, 30]))
    assert z.mean() == pytest.approx((low + high) / 2, abs=0.005)
    assert z.std() == pytest.approx((high - low) / np.sqrt(12), abs=0.005)
    azimuth = np.degrees(np.arctan2(x, -y))
    assert np.abs(azimuth).max() <= 45.0001
    assert azimuth.std() == pytest.approx(90 / np.sqrt(12), abs=0.3)


def test_sphere_silhouette():
    ball = trimesh.creation.icosphere(subdivisions=5, radius=0.3)
    caster = RayCaster(solids((ball, (0.0, 0.0, 0.0))))
    image, mask = caster.render(cameras(1)[0][0], PINHOLE, SIZE)
    coverage = mask / 255
    assert abs(coverage * 16 - np.round(coverage * 16)).max() < 16 / 255, "16 samples a pixel"
    assert (image[mask == 0] == 255).all()
    assert (image[mask > 0] < 255).all()
    radius = FOCAL * 128 * 0.3 / np.sqrt(1.3**2 - 0.3**2)
    assert coverage.sum() == pytest.approx(np.pi * radius**2, rel=0.003)
    rows, columns = np.mgrid[:128, :128] + 0.5
    distance = np.hypot(rows - 64, columns - 64)
    assert (coverage[distance < radius - 1] == 1).all()
    assert (coverage[distance > radius + 1] == 0).all()


def test_coloured_balls_stand_where_the_cameras_see_them():
    centers = np.array([[0.35, 0.0, 0.0], [0.0, 0.35, 0.0], [0.0, 0.0, 0.35]])
    balls = [trimesh.creation.icosphere(subdivisions=3, radius=0.04).apply_translation(center) for center in centers]
    caster = RayCaster(solids(*zip(balls, np.eye(3).tolist(), strict=True)))
    rows, columns = np.mgrid[:128, :128] + 0.5
    checked = 0
    for pose, pinhole in zip(*cameras(12), strict=True):
        image = caster.render(pose, pinhole, SIZE)[0].astype(np.float64) / 255
        pixels = project(centers, pose, pinhole)
        for channel, pixel in enumerate(pixels):
            others = np.delete(pixels, channel, axis=0)
            if np.linalg.norm(others - pixel, axis=1).min() < 16:
                continue  # one ball may hide another
            weight = 1 - image[..., (channel + 1) % 3]  # how much of the ball a pixel sees
            weight = weight * (np.hypot(columns - pixel[0], rows - pixel[1]) < 8)
            centroid = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
            np.testing.assert_allclose(centroid, pixel, atol=0.5)
            checked += 1
    assert checked > 20


def quad(texture: np.ndarray) -> Mesh:
    """A square before the front camera, u to the right and v upwards."""
    corners = np.array([[-0.3, 0.0, -0.3], [0.3, 0.0, -0.3], [0.3, 0.0, 0.3], [-0.3, 0.0, 0.3]])
    uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    return Mesh(
        corners, faces, np.zeros((2, 3, 3), np.float32), uv[faces], np.zeros(2, int), (Material((1, 1, 1), texture),)
    )


def front_view(mesh: Mesh) -> np.ndarray:
    pose, pinhole = draw_cameras(1, 1.3, (0.0, 0.0), (0.0, 0.0), np.random.default_rng(0))
    return RayCaster(mesh).render(pose[0], pinhole[0], SIZE)[0]


def test_textures_stand_upright_and_are_lit_by_the_formula():
    texture = np.zeros((8, 8, 3), np.uint8)
    texture[:4, :4], texture[:4, 4:], texture[4:, :4], texture[4:, 4:] = 100, (100, 0, 0), (0, 100, 0), (0, 0, 100)
    image = front_view(quad(texture))
    linear = ((100 / 255 + 0.055) / 1.055) ** 2.4 * float(shade(np.array([0.0, -1.0, 0.0])))
    lit = round(255 * (1.055 * linear ** (1 / 2.4) - 0.055))
    for (row, column), expected in {
        (52, 52): (1, 1, 1),
        (52, 76): (1, 0, 0),
        (76, 52): (0, 1, 0),
        (76, 76): (0, 0, 1),
    }.items():
        np.testing.assert_allclose(image[row, column], np.array(expected) * lit, atol=1)


def layers(*materials: Material, colors=None) -> Mesh:
    """Squares behind each other, the first in front."""
    corners = quad(np.zeros((1, 1, 3), np.uint8))
    count = len(materials)
    return replace(
        corners,
        vertices=np.concatenate([corners.vertices + np.array([0, 0.1 * row, 0]) for row in range(count)]),
        faces=np.concatenate([corners.faces + 4 * row for row in range(count)]),
        normals=np.zeros((2 * count, 3, 3), np.float32),
        uv=np.tile(corners.uv, (count, 1, 1)),
        material_index=np.repeat(np.arange(count), 2),
        materials=materials,
        vertex_colors=colors,
    )


def display(linear):
    return 255 * (1.055 * np.asarray(linear) ** (1 / 2.4) - 0.055)


LIGHT = float(shade(np.array([0.0, -1.0, 0.0])))


def test_alpha_blends_what_lies_behind_in_linear_light_and_white_in_display_space():
    red, green = Material((0.5, 0.1, 0.1), alpha=0.4), Material((0.1, 0.5, 0.1), alpha=0.7)
    over_blue = front_view(layers(red, green, Material((0.1, 0.1, 0.5))))[64, 64]
    behind = 0.7 * np.array([0.1, 0.5, 0.1]) + 0.3 * np.array([0.1, 0.1, 0.5])
    expected = 0.4 * np.array([0.5, 0.1, 0.1]) + 0.6 * behind
    np.testing.assert_allclose(over_blue, display(LIGHT * expected), atol=1)
    hidden = 1 - 0.6 * 0.3
    mixed = (0.4 * np.array([0.5, 0.1, 0.1]) + 0.6 * 0.7 * np.array([0.1, 0.5, 0.1])) / hidden
    np.testing.assert_allclose(
        front_view(layers(red, green))[64, 64], hidden * display(LIGHT * mixed) + (1 - hidden) * 255, atol=1
    )


def test_alpha_of_textures_and_vertices_multiply_and_masks_cut():
    texture = np.full((2, 2, 4), 255, np.uint8)
    texture[..., 3] = [[51, 204], [51, 204]]  # 0.2 on the left, 0.8 on the right, 0.5 between
    colors = np.array([[0.5, 0.5, 0.5, 0.5]] * 4 + [[1, 1, 1, 1]] * 4, np.float32)
    wall = Material((0.2, 0.2, 0.2))
    image = front_view(layers(Material(texture=texture, alpha=0.6), wall, colors=colors))
    share = 0.6 * 0.5 * 0.5
    np.testing.assert_allclose(image[64, 64], display(LIGHT * (share * 0.5 + (1 - share) * 0.2)), atol=1)
    clamped = Sampler(("clamp", "clamp"))
    image = front_view(layers(Material(texture=texture, alpha=0.8, cutoff=0.4, sampler=clamped), wall))
    for column, expected in ((50, 0.2), (62, 0.2), (66, 1.0), (78, 1.0)):
        np.testing.assert_allclose(image[64, column], display(LIGHT * expected), atol=1)


def test_more_layers_than_are_looked_through_end():
    glass = [Material((0.5, 0.5, 0.5), alpha=0.001)] * 80
    mesh = layers(*glass)
    mesh.vertices[:, 1] *= 0.01
    image = front_view(mesh)
    hidden = 1 - 0.999**64
    np.testing.assert_allclose(image[64, 64], hidden * display(LIGHT * 0.5) + (1 - hidden) * 255, atol=1)


@pytest.mark.parametrize(("wrap", "mode"), [("repeat", "wrap"), ("mirror", "symmetric"), ("clamp", "edge")])
@pytest.mark.parametrize("axis", [0, 1])
def test_what_lies_outside_of_a_texture_is_as_in_one_that_is_padded(wrap, mode, axis):
    texture = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    other = "clamp"
    wraps = (wrap, other) if axis == 0 else (other, wrap)
    mesh = quad(texture)
    mesh.uv[...] = 3 * mesh.uv - 1
    material = Material(texture=texture, sampler=Sampler(wraps))
    modes = {1 - axis: mode, axis: "edge"}  # axis 0 of the picture runs along v
    padded = texture
    for direction in (0, 1):
        padded = np.pad(padded, [(4, 4) if place == direction else (0, 0) for place in range(3)], mode=modes[direction])
    whole = quad(padded)
    edge = Material(texture=padded, sampler=Sampler(("clamp", "clamp")))
    inner = np.s_[45:83, 45:83]  # at the very edge the padded one ends, while a repeated one goes on
    np.testing.assert_allclose(
        front_view(replace(mesh, materials=(material,)))[inner].astype(int),
        front_view(replace(whole, materials=(edge,)))[inner],
        atol=1,
    )


def test_the_nearest_texel_is_that_of_a_texture_magnified_by_repeating_texels():
    texture = np.random.default_rng(1).integers(0, 256, (4, 3, 3), dtype=np.uint8)
    large = texture.repeat(64, axis=0).repeat(64, axis=1)
    images = [
        front_view(replace(quad(pixels), materials=(Material(texture=pixels, sampler=Sampler(is_nearest=True)),)))
        for pixels in (texture, large)
    ]
    np.testing.assert_array_equal(*images)


def test_emission_is_added_and_unlit_colours_are_seen_as_they_are():
    texture = np.array([[[255, 0, 0], [0, 255, 0]]], np.uint8)
    still = Sampler(("clamp", "clamp"), is_nearest=True)
    lamp = Material((0.1, 0.1, 0.1), emission=(0.3, 0.4, 0.5), emission_texture=texture, emission_sampler=still)
    mesh = layers(lamp)
    image = front_view(mesh)
    np.testing.assert_allclose(image[64, 52], display(0.1 * LIGHT + np.array([0.3, 0, 0])), atol=1)
    np.testing.assert_allclose(image[64, 76], display(0.1 * LIGHT + np.array([0, 0.4, 0])), atol=1)
    turned = front_view(replace(mesh, emission_uv=mesh.uv[..., [0, 1]] * [-1, 1] + np.array([1, 0], np.float32)))
    np.testing.assert_array_equal(turned[64, 52], image[64, 76])
    unlit = front_view(layers(Material((0.2, 0.4, 0.6), is_unlit=True)))
    np.testing.assert_allclose(unlit[64, 64], display([0.2, 0.4, 0.6]), atol=1)


def test_winding_does_not_matter():
    mesh = quad(np.full((1, 1, 3), 200, np.uint8))
    turned = Mesh(
        mesh.vertices, mesh.faces[:, ::-1], mesh.normals, mesh.uv[:, ::-1], mesh.material_index, mesh.materials
    )
    np.testing.assert_array_equal(front_view(mesh), front_view(turned))


def test_edges_are_blended_on_white_in_display_space():
    image = front_view(quad(np.zeros((1, 1, 3), np.uint8)))
    left = 64 - 0.3 / 1.3 * FOCAL * 128
    coverage = np.ceil(left) - left
    assert image[64, int(left), 0] == pytest.approx(255 * (1 - coverage), abs=255 / 8)


def test_samples_must_be_a_square():
    with pytest.raises(UsageError, match="no square number"):
        RayCaster(quad(np.zeros((1, 1, 3), np.uint8)), samples_per_pixel=5)


def test_machines_without_embree_are_told_the_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "embreex.mesh_construction", None)
    with pytest.raises(UsageError, match=r"linux-aarch64.*macOS-arm64: pack on an x86-64 machine and copy the pack"):
        RayCaster(quad(np.zeros((1, 1, 3), np.uint8)))


def rendered_mesh(scene: str, document: dict) -> Mesh:
    if "shape_coefficients" not in document:
        return MeshSource(DATA / "vehicles.json").load(scene)[0]
    model = read_face_model(DATA / "faces" / "ict_face_bfm_layout.h5")
    shape, color = np.array(document["shape_coefficients"]), np.array(document["color_coefficients"])
    mean = model.mesh(np.zeros_like(shape), np.zeros_like(color))
    return normalize(model.mesh(shape, color), up="y", box_of=mean)[0]


@pytest.mark.skipif(not (DATA / "rendered").is_dir(), reason=f"no rendered scenes in {DATA}")
@pytest.mark.parametrize(
    "scene", ["face-0", "face-1", "gazebo-fire-truck", "kenney-car-sedan", "quaternius-realistic-cop"]
)
def test_reproduces_rendered_images(scene):
    folder = DATA / "rendered" / "transforms" / scene
    document = json.loads((folder / "transforms.json").read_text())
    caster = RayCaster(rendered_mesh(scene, document))
    psnr = []
    for frame in document["frames"][::8]:
        pose = np.array(frame["transform_matrix"], np.float32)
        image = caster.render(pose, PINHOLE, SIZE)[0].astype(np.float64)
        expected = np.asarray(Image.open(folder / frame["file_path"]).convert("RGB"), dtype=np.float64)
        psnr.append(-10 * np.log10(((image - expected) ** 2).mean() / 255**2))
    assert np.mean(psnr) > 50
