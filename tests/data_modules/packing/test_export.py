"""What is exported and packed again is what it was; what leads out of the folder is not written."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_modules import layout
from data_modules.layout import PackIndex
from data_modules.packing.export import export_transforms
from data_modules.packing.pack import write_pack
from data_modules.raycast import draw_cameras
from data_modules.sources.base import PosedViews, SceneEntry, SceneSource
from data_modules.sources.photographs import normalize_cameras
from data_modules.sources.transforms import TransformsSource
from scaled_ig.cli import main
from scaled_ig.errors import UsageError
from tests.data_modules.sources.captures import CENTRES, middle, see, write_transforms

IDS = ("cars/red one", "cars/blau-é", "chair")


class Posed(SceneSource):
    """Noise seen by cameras of awkward numbers, one lens and one pair of limits a view."""

    viewpoints = None

    def __init__(self, ids: tuple[str, ...] = IDS, normalize: bool = False) -> None:
        self.ids = ids
        self.normalize = normalize

    def scenes(self):
        return [SceneEntry(name, "car" if name.startswith("cars") else "thing") for name in self.ids]

    def load(self, scene_id):
        views = 3 + self.ids.index(scene_id)
        generator = np.random.default_rng(views)
        poses, _ = draw_cameras(views, 1.3, (-180, 180), (0, 85), generator)
        images = generator.integers(0, 256, (views, 5, 7, 3), dtype=np.uint8)
        lens = generator.uniform((0.8, 0.8, 0.4, 0.4), (2, 2, 0.6, 0.6), (views, 4)).astype(np.float32)
        near_far = generator.uniform((0.1, 1.1), (1, 3), (views, 2)).astype(np.float32)
        # The first has masks of all values, the second of the least there are, the third none.
        masks = generator.integers(0, 256, (views, 5, 7), dtype=np.uint8)
        masks = {0: masks, 1: masks // 255, 2: None}[self.ids.index(scene_id) if len(self.ids) == 3 else 2]
        posed, record = PosedViews(images, poses, lens, near_far, masks), None
        if self.normalize:
            posed.camera_to_world[:, :3, 3] += (5, -4, 3)
            posed, record = normalize_cameras(posed)
        return posed, {"shape": f"{scene_id[:4]}-shape", "license": "CC0-1.0", "normalization": record}


def scenes_of(folder: Path) -> dict[str, tuple]:
    index = PackIndex.open(folder)
    found = {}
    for row, name in enumerate(index.scene_ids):
        shard = index.shards[index.shard_of(row)]
        with shard.open() as file:
            views = layout.read_scene(file, index, row)
        record = layout.read_source_records(shard)[row - shard.first_scene]
        arrays = views.images, views.camera_to_world, views.intrinsics, views.near_far, views.masks
        digest, masked = layout.scene_sha256(*arrays), bool(index.masked[row])
        found[name] = (index.categories[row], index.shapes[row], record["license"], digest, index.digests[row], masked)
    return found


@pytest.mark.parametrize("scenes_per_shard", [2, 100])
def test_the_round_trip_is_exact(tmp_path, monkeypatch, scenes_per_shard):
    monkeypatch.setattr(layout, "SCENES_PER_SHARD", scenes_per_shard)
    first = write_pack(Posed(), tmp_path / "first", None)
    assert export_transforms(first, tmp_path / "files") == 3
    second = write_pack(TransformsSource(tmp_path / "files"), tmp_path / "second", None)
    assert scenes_of(tmp_path / "second") == scenes_of(tmp_path / "first")
    assert sorted(scene[-1] for scene in scenes_of(tmp_path / "second").values()) == [False, True, True]
    assert export_transforms(second, tmp_path / "again") == 3
    files = [path.relative_to(tmp_path / "files") for path in sorted((tmp_path / "files").rglob("*")) if path.is_file()]
    assert len(files) == 1 + 3 + (3 + 4 + 5) + (3 + 4), "the map, transforms.json, images, masks"
    assert all((tmp_path / "files" / f).read_bytes() == (tmp_path / "again" / f).read_bytes() for f in files)


def test_what_is_written_says_what_it_is(tmp_path):
    index = write_pack(Posed(), tmp_path / "pack", None)
    export_transforms(index, tmp_path / "files", ["chair", "cars/red one"])
    assert json.loads((tmp_path / "files/dataset_map.json").read_text()) == {
        "car": ["cars/red one"],
        "thing": ["chair"],
    }
    assert not (tmp_path / "files" / "cars" / "blau-é").exists()
    views, _ = Posed().load("chair")
    document = json.loads((tmp_path / "files" / "chair" / "transforms.json").read_text())
    assert (document["camera_convention"], document["license"], document["shape"]) == (
        "opencv",
        "CC0-1.0",
        "chai-shape",
    )
    assert len(document["frames"]) == 5
    assert "images_on_white" not in document
    frame = document["frames"][4]
    assert "mask_path" not in frame
    with Image.open(tmp_path / "files" / "chair" / frame["file_path"]) as image:
        assert (np.asarray(image) == views.images[4]).all()
    assert (frame["w"], frame["h"]) == (7, 5)
    pixels = [frame[key] for key in ("fl_x", "fl_y", "cx", "cy")]
    np.testing.assert_allclose(pixels, views.intrinsics[4] * (7, 5, 7, 5))
    assert np.float32(frame["fl_x"] / 7) == views.intrinsics[4, 0]
    np.testing.assert_array_equal(frame["transform_matrix"], views.camera_to_world[4])
    assert views.near_far is not None
    assert [frame["near"], frame["far"]] == views.near_far[4].tolist()


def test_masks_are_grey_images_beside_the_views(tmp_path):
    export_transforms(write_pack(Posed(), tmp_path / "pack", None), tmp_path / "files")
    folder = tmp_path / "files" / "cars" / "red one"
    document = json.loads((folder / "transforms.json").read_text())
    assert document["images_on_white"] is True
    masks = Posed().load("cars/red one")[0].masks
    assert masks is not None
    for frame, mask in zip(document["frames"], masks, strict=True):
        with Image.open(folder / frame["mask_path"]) as image:
            assert image.mode == "L"
            np.testing.assert_array_equal(np.asarray(image), mask)


def test_normalized_photographs_go_back_to_their_own_world(tmp_path):
    index = write_pack(Posed(("chair",), normalize=True), tmp_path / "pack", None)
    export_transforms(index, tmp_path / "files")
    given = Posed(("chair",)).load("chair")[0]
    document = json.loads((tmp_path / "files" / "chair" / "transforms.json").read_text())
    poses = np.array([frame["transform_matrix"] for frame in document["frames"]])
    np.testing.assert_allclose(poses[:, :3, 3] - (5, -4, 3), given.camera_to_world[:, :3, 3], atol=1e-5)
    np.testing.assert_allclose(poses[:, :3, :3], given.camera_to_world[:, :3, :3], atol=1e-6)
    np.testing.assert_allclose([[f["near"], f["far"]] for f in document["frames"]], given.near_far, rtol=1e-6)


def read_as_nerfstudio_does(folder: Path) -> tuple[dict[str, list[str]], dict[str, tuple]]:
    """A reader of its own, after nerfstudio's page on data conventions: the camera looks along its -z, up is its +y.

    Gives the images of each split, and for each image its pixels and a function from world points to its pixels.
    """
    meta = json.loads((folder / "transforms.json").read_text())
    assert meta["camera_model"] in ("PINHOLE", "OPENCV")
    assert not [key for key in meta if key in ("k1", "k2", "k3", "k4", "p1", "p2", "applied_transform")]
    seen = {}
    for frame in meta["frames"]:
        assert isinstance(frame["w"], int)
        assert "mask_path" not in frame
        pose = np.array(frame["transform_matrix"])
        assert pose.shape == (4, 4)

        def project(points, frame=frame, pose=pose):
            right, up, back = ((points - pose[:3, 3]) @ pose[:3, :3]).T
            assert (back < 0).all(), "the points are before the camera"
            x = frame["cx"] + frame["fl_x"] * right / -back
            y = frame["cy"] - frame["fl_y"] * up / -back
            return np.stack([x, y], axis=1)

        with Image.open(folder / frame["file_path"]) as image:
            assert image.size == (frame["w"], frame["h"])
            seen[frame["file_path"]] = np.asarray(image.convert("RGB")), project
    return {part: meta[f"{part}_filenames"] for part in ("train", "val", "test")}, seen


@pytest.mark.parametrize("normalize", [False, True])
def test_nerfstudio_sees_the_scene_where_it_is(tmp_path, normalize):
    captured = see(64)
    write_transforms(tmp_path / "captures" / "balls", captured, "opencv_w2c", camera_convention="opencv_w2c")
    source = TransformsSource(tmp_path / "captures", normalize=normalize)
    index = write_pack(source, tmp_path / "pack", None, "every_tenth")
    assert export_transforms(index, tmp_path / "files", nerfstudio=True) == 1
    parts, seen = read_as_nerfstudio_does(tmp_path / "files" / "balls")
    assert [len(parts[part]) for part in ("train", "val", "test")] == [7, 1, 1]
    assert sorted({*parts["train"], *parts["test"]}) == sorted(seen)
    for image, project in seen.values():
        middles = [middle(image, channel) for channel in range(3)]
        assert np.linalg.norm(project(CENTRES) - middles, axis=1).max() < 0.5
    again = write_pack(TransformsSource(tmp_path / "files"), tmp_path / "again", None)
    assert again.held_out == ((1, 0),)
    if not normalize:
        views, first = TransformsSource(tmp_path / "files").load("balls")[0], source.load("balls")[0]
        for name in ("images", "camera_to_world", "intrinsics"):
            np.testing.assert_array_equal(getattr(views, name), getattr(first, name))


def test_masks_are_left_out_for_nerfstudio(tmp_path):
    export_transforms(write_pack(Posed(), tmp_path / "pack", None), tmp_path / "files", nerfstudio=True)
    document = json.loads((tmp_path / "files" / "cars" / "red one" / "transforms.json").read_text())
    assert "images_on_white" not in document
    assert not (tmp_path / "files" / "cars" / "red one" / "masks").exists()
    assert document["license"] == "CC0-1.0"


@pytest.mark.parametrize("name", ["../a", "/tmp/a", "a/../../b", "..", ".", "a//b", "a/", "dataset_map.json"])
def test_an_id_that_leads_out_of_the_folder_is_refused(tmp_path, name):
    index = write_pack(Posed(("chair", name)), tmp_path / "pack", None)
    with pytest.raises(UsageError, match="cannot be a folder below --out"):
        export_transforms(index, tmp_path / "below" / "files")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pack"], "nothing is written before all ids are known"
    assert export_transforms(index, tmp_path / "below" / "files", ["chair"]) == 1


def test_mistakes_are_named(tmp_path):
    index = write_pack(Posed(), tmp_path / "pack", None)
    with pytest.raises(UsageError, match="is not empty"):
        export_transforms(index, tmp_path)
    with pytest.raises(UsageError, match="holds no scene sofa"):
        export_transforms(index, tmp_path / "files", ["chair", "sofa"])
    content = bytearray(index.shards[0].path.read_bytes())
    content[len(content) // 2] ^= 4
    index.shards[0].path.write_bytes(content)
    with pytest.raises(UsageError, match="is not the file that was packed"):
        export_transforms(index, tmp_path / "files")


def test_the_command_writes_for_nerfstudio(tmp_path):
    write_pack(Posed(), tmp_path / "pack", None)
    with pytest.raises(SystemExit) as left:
        main(["export", str(tmp_path / "pack"), "--format", "nerfstudio", "--out", str(tmp_path / "files")])
    assert left.value.code == 0
    pose = json.loads((tmp_path / "files" / "chair" / "transforms.json").read_text())["frames"][2]["transform_matrix"]
    flipped = Posed().load("chair")[0].camera_to_world[2] * [1, -1, -1, 1]
    np.testing.assert_array_equal(pose, flipped)


@pytest.mark.parametrize(
    ("scenes", "written"),
    [("chair", 1), ("[chair, cars/red one]", 2), ("chair,cars/blau-é", 2), ('["cars/red one"]', 1), (None, 3)],
)
def test_the_command_takes_ids_in_any_spelling(tmp_path, capsys, scenes, written):
    write_pack(Posed(), tmp_path / "pack", None)
    options = [] if scenes is None else ["--scenes", scenes]
    with pytest.raises(SystemExit) as left:
        main(["export", str(tmp_path / "pack"), "--format", "transforms", "--out", str(tmp_path / "files"), *options])
    assert left.value.code == 0
    assert f"{written} scene" in capsys.readouterr().out
    assert len(list((tmp_path / "files").rglob("transforms.json"))) == written
