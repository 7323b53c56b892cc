"""Packing: the same bytes on any number of processes, after any interruption, and of copied views."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from data_modules import layout
from data_modules.layout import PackIndex
from data_modules.packing.pack import write_pack
from data_modules.packing.scene_writer import RenderSettings
from data_modules.packing.workers import Workers
from data_modules.raycast import RayCaster
from data_modules.sources.meshes import MeshSource
from scaled_ig.commands.pack import pack
from scaled_ig.errors import UsageError

DATA = Path(os.environ.get("SCALED_IG_TEST_DATA", Path(__file__).parents[4] / "shared" / "data"))
RENDER = RenderSettings(views=3, azimuth=(-180, 180), elevation=(0, 85), resolution=16, samples_per_pixel=4)


@pytest.fixture(autouse=True)
def _fixed_date_and_small_shards(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    monkeypatch.setattr(layout, "SCENES_PER_SHARD", 2)


@pytest.fixture
def boxes(tmp_path) -> Path:
    """Five boxes of different shape and colour."""
    pytest.importorskip("embreex", reason="embreex has no wheel for this machine")
    folder = tmp_path / "boxes"
    folder.mkdir()
    for row in range(5):
        box = trimesh.creation.box((1, 1 + row, 2))
        box.visual.vertex_colors = [50 * row, 100, 200, 255]
        box.export(folder / f"box-{row}.ply")
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


def test_same_bytes_with_one_and_two_processes(boxes, tmp_path):
    for processes in (0, 2):
        write_pack(MeshSource(boxes), tmp_path / str(processes), RENDER, workers=Workers(processes))
    assert contents(tmp_path / "0") == contents(tmp_path / "2")
    assert sorted(contents(tmp_path / "0")) == [layout.shard_name(row) for row in range(3)] + ["pack.json"]


def test_masks_of_meshes_are_those_of_the_ray_caster(boxes, tmp_path):
    index = write_pack(MeshSource(boxes), tmp_path / "pack", RENDER)
    assert index.masked.all()
    for scene, name in enumerate(index.scene_ids):
        with index.shards[index.shard_of(scene)].open() as file:
            views = layout.read_scene(file, index, scene)
        assert views.masks is not None
        caster = RayCaster(MeshSource(boxes).load(name)[0], RENDER.samples_per_pixel)
        for row, camera in enumerate(zip(views.camera_to_world, views.intrinsics, strict=True)):
            image, mask = caster.render(*camera, (16, 16))
            np.testing.assert_array_equal(views.images[row], image)
            np.testing.assert_array_equal(views.masks[row], mask)
        assert set(np.unique(views.masks)) <= {0, 64, 128, 191, 255}, "quarters of a pixel"


def test_a_mesh_that_fills_all_views_needs_no_masks(boxes, tmp_path):
    wall = RenderSettings(1, (0, 0), (0, 0), resolution=4, samples_per_pixel=1, camera_distance=0.51)
    trimesh.creation.box((100, 1, 100)).export(tmp_path / "wall.ply")
    index = write_pack(MeshSource(_only(tmp_path / "wall.ply"), up="z"), tmp_path / "pack", wall)
    assert not index.masked.any()


def _only(file: Path) -> Path:
    folder = file.parent / "one"
    folder.mkdir()
    return Path(shutil.move(file, folder)).parent


def test_views_of_a_scene_do_not_depend_on_other_scenes(boxes, tmp_path):
    five = write_pack(MeshSource(boxes), tmp_path / "five", RENDER)
    (boxes / "box-0.ply").unlink()
    four = write_pack(MeshSource(boxes), tmp_path / "four", RENDER)
    all_digests = dict(zip(five.scene_ids, five.digests, strict=True))
    assert dict(zip(four.scene_ids, four.digests, strict=True)).items() < all_digests.items()


@pytest.mark.parametrize("finished_scenes", [0, 1, 3])
def test_an_interrupted_pack_goes_on(boxes, tmp_path, monkeypatch, finished_scenes):
    write_pack(MeshSource(boxes), tmp_path / "whole", RENDER)
    load = MeshSource.load
    loaded: list[str] = []
    interrupted_at: list[int] = [finished_scenes]

    def interrupted(self, scene_id):
        if len(loaded) in interrupted_at:
            raise KeyboardInterrupt
        loaded.append(scene_id)
        return load(self, scene_id)

    monkeypatch.setattr(MeshSource, "load", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_pack(MeshSource(boxes), tmp_path / "resumed", RENDER)
    with pytest.raises(UsageError, match="no finished pack"):
        PackIndex.open(tmp_path / "resumed")
    interrupted_at.clear()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1800000000")
    write_pack(MeshSource(boxes), tmp_path / "resumed", RENDER)
    assert loaded == [f"box-{row}" for row in range(5)], "finished scenes are kept"
    assert contents(tmp_path / "resumed") == contents(tmp_path / "whole")


@pytest.mark.slow("many processes")
def test_a_killed_pack_goes_on(boxes, tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    options: dict[str, Any] = {"path": str(boxes), "views": 40, "resolution": 64, "processes": 1}
    out = tmp_path / "killed"
    program = f"from scaled_ig.commands.pack import pack; pack('meshes', out={str(out)!r}, **{options!r})"
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(out.glob("scenes.part/00000?.h5")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / layout.INDEX_FILE).exists()
    pack("meshes", out=str(out), **options)
    pack("meshes", out=str(tmp_path / "whole"), **options)
    assert contents(out) == contents(tmp_path / "whole")


def test_an_unfinished_pack_refuses_other_settings(boxes, tmp_path):
    (boxes / "box-4.ply").write_text("no mesh")
    with pytest.raises(UsageError, match="box-4"):
        write_pack(MeshSource(boxes), tmp_path / "out", RENDER, strict=True)
    with pytest.raises(UsageError, match="unfinished pack of other settings"):
        write_pack(MeshSource(boxes, category="car"), tmp_path / "out", RENDER)
    (boxes / "box-1.ply").unlink()
    with pytest.raises(UsageError, match="unfinished pack of other settings"):
        write_pack(MeshSource(boxes), tmp_path / "out", RENDER)


def test_two_calls_do_not_pack_into_one_folder(boxes, tmp_path):
    class Greedy(MeshSource):
        """While it loads, somebody else packs into the same folder."""

        def load(self, scene_id):
            with pytest.raises(UsageError, match="is being packed into by process"):
                write_pack(MeshSource(boxes), tmp_path / "out", RENDER)
            return super().load(scene_id)

    assert write_pack(Greedy(boxes), tmp_path / "out", RENDER).num_scenes == 5
    write_pack(MeshSource(boxes), tmp_path / "out", RENDER)  # the folder is free again


def test_a_finished_pack_is_not_written_over(boxes, tmp_path):
    write_pack(MeshSource(boxes), tmp_path / "out", RENDER)
    before = {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in (tmp_path / "out").iterdir()}
    write_pack(MeshSource(boxes), tmp_path / "out", RENDER)  # the same again: kept
    assert {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in (tmp_path / "out").iterdir()} == before
    with pytest.raises(UsageError, match="already holds a pack of other settings"):
        write_pack(MeshSource(boxes, category="car"), tmp_path / "out", RENDER)
    with pytest.raises(UsageError, match="not empty"):
        write_pack(MeshSource(boxes), boxes, RENDER)


@pytest.mark.parametrize("processes", [0, 2])
def test_a_bad_mesh_is_named(boxes, tmp_path, processes):
    (boxes / "box-3.ply").write_text("no mesh")
    with pytest.raises(UsageError, match=r"scene box-3: .*box-3\.ply"):
        write_pack(MeshSource(boxes), tmp_path / "out", RENDER, workers=Workers(processes), strict=True)


def test_the_command_says_what_has_no_effect(boxes, tmp_path):
    out = str(tmp_path / "out")
    idle: tuple[tuple[Any, dict[str, Any]], ...] = (
        ("meshes", {"synset": "02958343"}),
        ("shapenet", {"scenes": 3}),
        ("transforms", {"views": 3}),
        ("transforms", {"views_per_scene": 3}),
        ("srn", {"seed": 3}),
        ("eg3d", {"expression": 1.0}),
        ("basel", {"camera_convention": "opencv"}),
        ("basel", {"category": "face"}),
        ("meshes", {"normalize": True}),
    )
    for source, option in idle:
        with pytest.raises(UsageError, match=f"--{next(iter(option))} has no effect on {source}"):
            pack(source, str(boxes), out=out, **option)
    with pytest.raises(UsageError, match="inside the object"):
        pack("meshes", str(boxes), out=out, camera_distance=0.4)
    with pytest.raises(UsageError, match="is not there"):
        pack("meshes", str(boxes / "none"), out=out)
    with pytest.raises(UsageError, match="--processes 0"):
        pack("meshes", str(boxes), out=out, processes=0)
    with pytest.raises(UsageError, match=r"--out .* cannot be written"):
        pack("meshes", str(boxes), out=str(boxes / "box-0.ply" / "out"), processes=1)


def test_two_spellings_of_a_path_are_one_job(boxes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options: dict[str, Any] = {"out": "out", "views": 1, "resolution": 8, "processes": 1}
    pack("meshes", str(boxes), **options)
    before = contents(tmp_path / "out")
    (boxes / "box-0.ply").write_text("not read again")
    for path in ("boxes", "boxes/", "./boxes", "boxes/../boxes"):
        pack("meshes", path, **options)
    assert contents(tmp_path / "out") == before


def test_bad_meshes_are_counted_at_the_end(boxes, tmp_path, capsys):
    (boxes / "box-3.ply").write_text("no mesh")
    options: dict[str, Any] = {"out": str(tmp_path / "out"), "views": 1, "resolution": 8, "processes": 2}
    assert pack("meshes", str(boxes), **options) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("left out: box-3: ")
    assert "box-3.ply" in said[0]
    assert "4 scenes, 4 views" in said[-1]
    assert said[-1].endswith("; 1 left out, see pack.json")


@pytest.mark.skipif(not (DATA / "rendered").is_dir(), reason=f"no rendered scenes in {DATA}")
def test_posed_images_are_copied_bit_for_bit(tmp_path, capsys):
    folder = DATA / "rendered" / "transforms"
    assert pack("transforms", str(folder), out=str(tmp_path / "out"), processes=1) == 0
    said = capsys.readouterr().out.splitlines()
    assert "5 scenes, 220 views" in said[0]
    assert said[-1].startswith("cameras: opencv axes, as their files say; --camera_convention overrides")
    index = PackIndex.open(tmp_path / "out")
    assert index.num_views.tolist() == [50, 50, 40, 40, 40]
    for scene, name in enumerate(index.scene_ids):
        with index.shards[index.shard_of(scene)].open() as file:
            views = layout.read_scene(file, index, scene)
        document = json.loads((folder / name / "transforms.json").read_text())
        assert hashlib.sha256(views.images.tobytes()).hexdigest() == document["rgb_sha256"]
        expected = [frame["transform_matrix"] for frame in document["frames"]]
        np.testing.assert_array_equal(views.camera_to_world, np.array(expected, np.float32))
        assert views.intrinsics[0].tolist() == [1.025390625, 1.025390625, 0.5, 0.5]
