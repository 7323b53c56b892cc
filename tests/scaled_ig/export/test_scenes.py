"""Formats of a file or a folder for each scene: through the program, read by what they are for."""

import json
import re
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest
import torch
import trimesh

from data_modules.layout import PackIndex, read_scene
from data_modules.packing.pack import write_pack
from data_modules.sources.conventions import opencv_camera_to_world
from data_modules.sources.transforms import TransformsSource
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.cameras import focal_of
from scaled_ig.errors import UsageError
from scaled_ig.export import mesh, scenes, views
from scaled_ig.report.orbits import orbit_cameras
from scaled_ig.report.pictures import to_pictures

KEPT = Path(__file__).parents[2] / "kept" / "run"


@pytest.fixture(scope="module")
def bank() -> SceneBank:
    return SceneBank.open(KEPT)


def ignore(_: int) -> None:
    """Of what is done."""


def test_views_packed_again_are_the_same_to_the_bit(bank, tmp_path):
    views.write_views(bank, bank.ids, tmp_path / "views", ignore, views=5)
    write_pack(TransformsSource(tmp_path / "views"), tmp_path / "pack", render=None)
    index = PackIndex.open(tmp_path / "pack")
    assert sorted(index.scene_ids) == sorted(bank.ids)
    for row, scene_id in enumerate(index.scene_ids):
        scene = bank[scene_id]
        cameras = orbit_cameras(5, focal=focal_of(scene.model.image_size))
        seen = scene.render(cameras, outputs=("image", "opacity"))
        with index.shards[0].open() as file:
            packed = read_scene(file, index, row)
        np.testing.assert_array_equal(packed.images, to_pictures(seen["image"]))
        np.testing.assert_array_equal(packed.masks, (seen["opacity"][:, 0] * 255).round().byte().numpy())
        np.testing.assert_array_equal(packed.camera_to_world, cameras.camera_to_world.numpy())
        np.testing.assert_array_equal(packed.intrinsics, cameras.intrinsics.numpy())


def test_nerfstudio_turns_the_axes_and_takes_cameras_of_a_file(bank, tmp_path):
    scene_id = bank.ids[0]
    views.write_views(bank, [scene_id], tmp_path / "views", ignore, views=3)
    file = tmp_path / "views" / scene_id / "transforms.json"
    views.write_nerfstudio(bank, [scene_id], tmp_path / "again", ignore, cameras=str(file))
    documents = [json.loads((tmp_path / name / scene_id / file.name).read_text()) for name in ("views", "again")]
    poses = [np.array([frame["transform_matrix"] for frame in document["frames"]]) for document in documents]
    assert not np.allclose(*poses)
    np.testing.assert_allclose(poses[0], opencv_camera_to_world(poses[1], "opengl"))
    for name in ("000000.png", "000002.png"):
        pictures = [imageio.imread(tmp_path / folder / scene_id / "rgb" / name) for folder in ("views", "again")]
        np.testing.assert_array_equal(*pictures)
    assert not (tmp_path / "again" / scene_id / "masks").exists()
    with pytest.raises(UsageError, match="give one of the two"):
        views.write_views(bank, [scene_id], tmp_path / "both", ignore, views=3, cameras=str(file))


def test_a_film_has_its_frames(bank, tmp_path):
    views.write_video(bank, bank.ids[:1], tmp_path, ignore, views=6)
    frames = imageio.mimread(tmp_path / f"{bank.ids[0]}.mp4", "mp4")
    assert len(frames) == 6
    scene = bank[bank.ids[0]]
    cameras = orbit_cameras(6, focal=focal_of(scene.model.image_size))
    shown = to_pictures(scene.render(cameras))
    factor = frames[0].shape[0] // shown.shape[1]
    small = np.stack([frame[::factor, ::factor] for frame in frames])
    assert np.abs(small.astype(int) - shown).mean() < 8  # the film is compressed


def test_an_interrupted_export_goes_on(bank, tmp_path, monkeypatch):
    written = []

    def interrupted(scene, resolution):
        if written:
            raise KeyboardInterrupt
        written.append(scene.id)
        return whole(scene, resolution)

    whole = mesh.surface_of
    monkeypatch.setattr(mesh, "surface_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        mesh.write_mesh(bank, bank.ids, tmp_path, ignore, resolution=24)
    first = tmp_path / f"{bank.ids[0]}.glb"
    content, time = first.read_bytes(), first.stat().st_mtime_ns
    assert not (tmp_path / f"{bank.ids[1]}.glb").exists()
    monkeypatch.setattr(mesh, "surface_of", whole)
    done = []
    said = mesh.write_mesh(bank, bank.ids, tmp_path, done.append, resolution=24)
    assert "1 of them before" in said
    assert sum(done) == len(bank)
    assert (first.read_bytes(), first.stat().st_mtime_ns) == (content, time)
    with pytest.raises(UsageError, match="holds another export"):
        mesh.write_mesh(bank, bank.ids, tmp_path, ignore, resolution=32)


def test_what_is_missing_or_empty_of_a_scene_is_written_again(bank, tmp_path):
    mesh.write_mesh(bank, bank.ids, tmp_path, ignore, resolution=24)
    content = {path: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / f"{bank.ids[0]}.ply").unlink()
    assert "1 of them before" in mesh.write_mesh(bank, bank.ids, tmp_path, ignore, resolution=24)
    (tmp_path / f"{bank.ids[1]}.glb").write_bytes(b"")
    assert "1 of them before" in mesh.write_mesh(bank, bank.ids, tmp_path, ignore, resolution=24)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == content


def test_changed_cameras_are_another_export(bank, tmp_path):
    file, ids = tmp_path / "cameras.json", bank.ids[:1]
    views.write_views(bank, ids, tmp_path / "views", ignore, views=3)
    document = json.loads((tmp_path / "views" / ids[0] / "transforms.json").read_text())
    file.write_text(json.dumps(document))
    views.write_views(bank, ids, tmp_path / "again", ignore, cameras=str(file))
    assert "1 of them before" in views.write_views(bank, ids, tmp_path / "again", ignore, cameras=str(file))
    document["frames"][0]["transform_matrix"][0][3] += 0.1
    file.write_text(json.dumps(document))
    with pytest.raises(UsageError, match="holds another export"):
        views.write_views(bank, ids, tmp_path / "again", ignore, cameras=str(file))


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (["box", "box/inner"], "scene 'box/inner' would lie within scene 'box'"),
        (["export.json"], "scene 'export.json' has the name of a file of the export"),
        (["car", "dataset_map.json/a"], "scene 'dataset_map.json/a' would lie within the export's list"),
    ],
)
def test_scenes_whose_places_are_taken_are_refused_before_anything_is_written(bank, tmp_path, ids, said):
    model = bank[bank.ids[0]].model
    model.representation.new_scenes(len(ids), seed=0)
    odd = SceneBank.write(tmp_path / "bank", model, ids, "one", [""] * len(ids))
    with pytest.raises(UsageError, match=re.escape(said)):
        views.write_views(odd, ids, tmp_path / "views", ignore, views=2)
    assert not (tmp_path / "views").exists()


def test_a_scene_without_a_surface_costs_the_others_nothing(bank, tmp_path, monkeypatch):
    def partly(scene, resolution):
        if scene.id == bank.ids[0]:
            raise UsageError("it is mist")
        return whole(scene, resolution)

    whole = mesh.surface_of
    monkeypatch.setattr(mesh, "surface_of", partly)
    said = mesh.write_mesh(bank, bank.ids, tmp_path, ignore, resolution=24)
    assert "1 scene;" in said
    assert "left out: it is mist" in said
    assert sorted(path.name for path in tmp_path.glob("*.glb")) == [f"{scene_id}.glb" for scene_id in bank.ids[1:]]
    with pytest.raises(UsageError, match="it is mist"):
        mesh.write_mesh(bank, bank.ids[:1], tmp_path / "alone", ignore, resolution=30)
    monkeypatch.setattr(mesh, "surface_of", whole)
    mesh.write_mesh(bank, bank.ids[:1], tmp_path / "alone", ignore, resolution=24)  # where nothing was written


def test_scenes_side_by_side_are_those_one_after_the_other(bank, tmp_path):
    mesh.write_mesh(bank, bank.ids, tmp_path / "one", ignore, resolution=24)
    try:
        torch.set_num_threads(2)
        mesh.write_mesh(bank, bank.ids, tmp_path / "two", ignore, resolution=24)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(names) == 2 * len(bank) + 1
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_folder_that_fails_is_not_there(tmp_path):
    with pytest.raises(OSError, match="full"), scenes.whole_folder(tmp_path / "scene") as draft:  # noqa: PT012
        (draft / "part").write_text("one")
        raise OSError("full")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("format", "suffix"), [("mesh", "glb"), ("mesh", "ply"), ("pointcloud", "ply")])
def test_the_program_writes_what_trimesh_opens(run_scaled_ig, bank, tmp_path, format, suffix):
    out, scene_id = tmp_path / "out", bank.ids[0]
    options = ["--resolution", 24, *(["--points", 500] if format == "pointcloud" else [])]
    status, said = run_scaled_ig(
        "bank", "export", KEPT, "--format", format, "--out", out, "--scenes", scene_id, *options
    )
    assert status == 0, said
    assert "1 scene" in said
    loaded = trimesh.load(out / f"{scene_id}.{suffix}")
    if format == "mesh":
        assert all(part.is_watertight for part in getattr(loaded, "geometry", {"only": loaded}).values())
    else:
        assert loaded.vertices.shape == (500, 3)


def test_the_program_says_what_cannot_be(run_scaled_ig, tmp_path):
    call = ("bank", "export", KEPT, "--out", tmp_path / "out", "--format")
    for words, sentence in [
        (("video", "--resolution", 64), "--resolution has no effect with --format video"),
        (("mesh", "--resolution", 5), "--resolution 5 must be 16 to 512"),
        (("views", "--cameras", tmp_path / "none.json"), "none.json"),
    ]:
        status, said = run_scaled_ig(*call, *words)
        assert status == 2, said
        assert sentence in said
        assert "Traceback" not in said
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("")
    status, said = run_scaled_ig(*call, "mesh")
    assert status == 2
    assert "is there already" in said
