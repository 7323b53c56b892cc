"""Surfaces, their colours and their files, against a ball in closed form."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from data_modules.raycast import RayCaster
from data_modules.sources.meshes import MeshSource
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.cameras import orbit
from scaled_ig.errors import UsageError
from scaled_ig.export.gltf import glb
from scaled_ig.export.mesh import draw_points
from scaled_ig.export.ply import ply
from scaled_ig.export.surface import Surface, surface_of
from scaled_ig.report.pictures import to_pictures
from tests.scaled_ig.export import balls

RESOLUTION = 48
KEPT = Path(__file__).parents[2] / "kept" / "run"


@pytest.fixture(scope="module")
def scene():
    return balls.ball_scene()


@pytest.fixture(scope="module")
def surface(scene) -> Surface:
    return surface_of(scene, RESOLUTION)


def mesh_of(surface: Surface) -> trimesh.Trimesh:
    return trimesh.Trimesh(surface.vertices, surface.faces, process=False)


def test_a_ball_has_its_place_its_radius_and_its_normals(surface):
    offset = surface.vertices - balls.CENTRE.numpy()
    radius = np.linalg.norm(offset, axis=1)
    assert np.abs(radius - balls.RADIUS).max() < 1 / RESOLUTION
    assert np.abs(radius.mean() - balls.RADIUS) < 0.3 / RESOLUTION
    cosine = (surface.normals * offset / radius[:, None]).sum(1)
    assert np.degrees(np.arccos(cosine.clip(-1, 1))).mean() < 2
    assert np.linalg.norm(surface.normals, axis=1) == pytest.approx(1, abs=1e-5)


def test_it_is_closed_and_has_neither_its_hollow_nor_the_speck(surface):
    mesh = mesh_of(surface)
    assert mesh.is_watertight
    assert mesh.body_count == 1
    # Positive, for faces look outwards; a third of a cell of the radius is 7 %.
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * balls.RADIUS**3, rel=0.07)


def test_its_colours_are_those_of_the_places(surface):
    wrong = np.abs(surface.colours - balls.colour(torch.from_numpy(surface.vertices)).numpy()) * 255
    assert np.quantile(wrong, 0.99) < 2
    assert wrong.max() < 4


def test_a_scene_without_a_surface_is_said(monkeypatch):
    monkeypatch.setattr(balls, "DENSITY", 1e-3)
    with pytest.raises(UsageError, match="'ball' has no surface"):
        surface_of(balls.ball_scene(resolution=16, num_samples=16), 16)


def test_densities_are_those_of_the_head_and_nothing_outside_the_hull():
    """By the fast kernel, against features and head one after the other."""
    scene = SceneBank.open(KEPT)["ball-0"]
    points = torch.rand(500, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    first = torch.zeros(1, dtype=torch.long)
    representation = scene.model.representation
    raw = scene.model.renderer.raw_densities(representation, first, points[None])[0]
    is_held = representation.hulls(first).hold(first, points[None])[0]
    assert 0 < int(is_held.sum()) < len(points)
    expected = torch.where(is_held, torch.nn.functional.softplus(raw - 1), 0)
    torch.testing.assert_close(scene.densities(points), expected, rtol=1e-4, atol=1e-5)


def test_glb_shows_what_the_scene_shows(scene, surface, tmp_path):
    """Read as any file of meshes is, and seen by the ray caster: axes, colours and light of the format all count."""
    (tmp_path / "ball.glb").write_bytes(glb(surface, "ball", "CC0-1.0"))
    mesh, record = MeshSource(tmp_path).load("ball")
    normalization = record["normalization"]
    mesh = replace(mesh, vertices=mesh.vertices / normalization["scale"] + normalization["center"])
    cameras = orbit(3)
    caster = RayCaster(mesh)
    for view, image in enumerate(to_pictures(scene.render(cameras))):
        pose, lens = cameras.camera_to_world[view].numpy(), cameras.intrinsics[view].numpy()
        cast, mask = caster.render(pose, lens, image.shape[:2])
        inside = mask == 255
        assert inside.sum() > 400
        assert np.abs(cast.astype(int) - image)[inside].max() <= 4
        assert np.abs(cast.astype(int) - image).mean() < 1.5


def test_glb_is_read_by_another_library(surface, tmp_path):
    (tmp_path / "ball.glb").write_bytes(glb(surface, "ball", "CC0-1.0"))
    loaded = trimesh.load(tmp_path / "ball.glb")
    (mesh,) = loaded.geometry.values()
    assert mesh.is_watertight
    x, y, z = surface.vertices.T
    np.testing.assert_array_equal(mesh.vertices, np.stack([x, z, -y], 1).astype(np.float32))
    np.testing.assert_array_equal(mesh.faces, surface.faces)
    linear = mesh.visual.vertex_attributes["color"][:, :3] / 65535
    display = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(display, surface.colours, atol=1e-3)


def test_ply_is_read_by_another_library(surface, tmp_path):
    (tmp_path / "ball.ply").write_bytes(
        ply(surface.vertices, surface.normals, surface.colours, surface.faces, ("a comment",))
    )
    mesh = trimesh.load(tmp_path / "ball.ply", process=False)
    assert mesh.is_watertight
    np.testing.assert_array_equal(mesh.vertices, surface.vertices)
    np.testing.assert_allclose(mesh.vertex_normals, surface.normals, atol=1e-6)
    np.testing.assert_array_equal(mesh.visual.vertex_colors[:, :3], np.round(surface.colours * 255))


def test_points_are_drawn_evenly_by_area(surface, tmp_path):
    drawn = draw_points(surface, 8000)
    radius = np.linalg.norm(drawn.vertices - balls.CENTRE.numpy(), axis=1)
    assert np.abs(radius - balls.RADIUS).max() < 1 / RESOLUTION
    # Archimedes: slices of a ball of one height have one area.
    heights = (drawn.vertices[:, 2] - balls.CENTRE[2].item()) / balls.RADIUS
    counts, _ = np.histogram(heights, bins=np.linspace(-0.95, 0.95, 11))
    assert np.abs(counts / (8000 * 0.095) - 1).max() < 0.15  # four standard deviations
    (tmp_path / "points.ply").write_bytes(ply(drawn.vertices, drawn.normals, drawn.colours))
    assert len(trimesh.load(tmp_path / "points.ply").vertices) == 8000
