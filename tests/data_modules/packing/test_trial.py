"""What a pack will take, by a few of its scenes."""

import re

import pytest
import trimesh

from data_modules.packing.pack import write_pack
from data_modules.packing.scene_writer import RenderSettings
from data_modules.packing.trial import try_scenes
from data_modules.packing.workers import Workers
from data_modules.sources.meshes import MeshSource
from scaled_ig.commands.pack import pack
from scaled_ig.errors import UsageError
from tests.data_modules.packing.test_workers import REASONS, Troubled

RENDER = RenderSettings(views=10, azimuth=(-180, 180), elevation=(0, 85), resolution=48, samples_per_pixel=4)


@pytest.fixture
def boxes(tmp_path):
    """Twelve boxes of different shape and colour."""
    pytest.importorskip("embreex", reason="embreex has no wheel for this machine")
    folder = tmp_path / "boxes"
    folder.mkdir()
    for row in range(12):
        box = trimesh.creation.box((1, 1 + row, 2))
        box.visual.vertex_colors = [20 * row, 100, 200, 255]
        box.export(folder / f"box-{row:02d}.ply")
    return folder


@pytest.mark.parametrize("processes", [0, 2])
def test_bytes_are_those_of_the_pack(boxes, tmp_path, processes):
    estimate = try_scenes(MeshSource(boxes), RENDER, Workers(processes))
    index = write_pack(MeshSource(boxes), tmp_path / "out", RENDER)
    assert index.document["totals"]["bytes"] == pytest.approx(estimate.bytes, rel=0.25)
    assert (estimate.scenes, estimate.views, estimate.image_size, estimate.tried) == (12, 10, (48, 48), 4)
    assert estimate.left_out == []
    assert estimate.seconds > 0


def test_time_is_that_of_all_scenes_on_all_processes(monkeypatch):
    ticks = iter(range(1000))
    monkeypatch.setattr("data_modules.packing.trial._seconds", lambda parts, row: 10.0 * next(ticks))
    assert try_scenes(Troubled(100, {}), None, Workers(2)).seconds == pytest.approx(100 * (0 + 10 + 20 + 30) / 4 / 2)


def test_scenes_that_fail_are_listed():
    estimate = try_scenes(Troubled(10, {"s0": "usage", "s9": "value", "s1": "memory"}), None, Workers())
    assert estimate.left_out == [
        {"id": "s0", "reason": REASONS["usage"]},
        {"id": "s9", "reason": REASONS["value"]},
    ]
    assert (estimate.scenes, estimate.tried, estimate.views) == (10, 4, 2)
    with pytest.raises(UsageError, match=r"no scene that was tried can be packed, e\.g\. not s0"):
        try_scenes(Troubled(2, {"s0": "usage", "s1": "value"}), None, Workers())


def test_the_command_says_it_and_writes_nothing(boxes, tmp_path, capsys):
    (boxes / "box-00.ply").write_text("no mesh")
    out = tmp_path / "out"
    assert pack("meshes", str(boxes), out=str(out), views=2, resolution=16, dry_run=True, processes=2) == 0
    failed, said = capsys.readouterr().out.splitlines()
    assert failed.startswith("left out: box-00: ")
    pattern = r"12 scenes × 2 views of 16×16: about \d+\.\d KiB and \d+ seconds? with 2 processes \(4 scenes tried\)"
    assert re.fullmatch(pattern, said), said
    assert not out.exists()
