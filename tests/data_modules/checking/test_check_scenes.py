"""What is wrong with scenes: pictures, cameras, conventions, and scenes that stand out from the others."""

import numpy as np
import pytest

from data_modules import layout
from data_modules.checking.cameras import file_matrices
from data_modules.layout import ball_near_far
from data_modules.raycast import FOCAL
from data_modules.sources.conventions import CONVENTIONS, opencv_camera_to_world
from tests.data_modules.checking.packs import NAMES, changed, lines_of, make_pack, noisy_views, sound_scenes


def white(views):
    views.images[[1, 4]] = 255


def flat(views):
    views.images[[1, 4]] = (9, 80, 30)


def repeated(views):
    for values in vars(views).values():
        if isinstance(values, np.ndarray):
            values[[1, 4]] = values[0]


def two_pictures_of_a_camera(views):
    views.camera_to_world[[1, 4]] = views.camera_to_world[0]
    views.near_far[[1, 4]] = views.near_far[0]


def frozen_picture(views):
    views.images[[1, 4]] = views.images[0]


def infinite(views):
    views.camera_to_world[[1, 4], 0, 3] = np.nan


def sheared(views):
    views.camera_to_world[[1, 4], 0, 1] += 0.1


def scaled(views):
    views.camera_to_world[[1, 4], :3, :3] *= 2


def bottom_row(views):
    views.camera_to_world[[1, 4], 3, 3] = 2


def mirrored(views):
    views.camera_to_world[[1, 4], :3, 0] *= -1


def inside(views):
    views.camera_to_world[[1, 4], :3, 3] *= 0.3
    views.near_far[[1, 4]] = (0.05, 1)


def turned_away(views):
    views.camera_to_world[[1, 4], :3, 1:3] *= -1


def beside_the_scene(views):
    views.camera_to_world[[1, 4], :3, 3] += 3 * views.camera_to_world[[1, 4], :3, 0]
    views.near_far[[1, 4]] = (0.1, 9)


def no_focal_length(views):
    views.intrinsics[[1, 4], 0] = 0


def pixels_for_shares(views):
    views.intrinsics[[1, 4], :2] *= 128


def infinite_focal_length(views):
    views.intrinsics[[1, 4], 1] = np.nan


def principal_point_in_pixels(views):
    views.intrinsics[[1, 4], 2:] *= 128


def infinite_far(views):
    views.near_far[[1, 4], 1] = np.inf


def near_behind_far(views):
    views.near_far[[1, 4]] = views.near_far[[1, 4], ::-1]


def range_before_the_scene(views):
    views.near_far[[1, 4]] = (0.01, 0.02)


SPOILED_SCENES = {
    white: "nothing is shown, all is white",
    flat: "nothing is shown, all is one colour",
    repeated: "picture and camera are those of another view (1 is 0)",
    two_pictures_of_a_camera: "the camera is that of another view, the picture is not (1 is 0)",
    frozen_picture: "the picture is that of another view, the camera is not (1 is 0)",
    infinite: "the pose is not finite",
    sheared: "the pose is no rigid motion (|R^T R - I| up to 0.",
    scaled: "the pose is no rigid motion (|R^T R - I| up to 3",
    bottom_row: "the last row of the pose is not 0, 0, 0, 1",
    mirrored: "the pose is left-handed (det R = -1.00)",
    inside: "the camera stands inside the ball of radius 0.5",
    turned_away: "the camera does not see the scene",
    beside_the_scene: "the camera does not see the scene",
    no_focal_length: "the focal length (0, 1.025 of the image's size) is outside",
    pixels_for_shares: "the focal length (131",
    infinite_focal_length: "the focal length (1.025, nan",
    principal_point_in_pixels: "the principal point (64, 64",
    infinite_far: "near and far are no range",
    near_behind_far: "near and far are no range",
    range_before_the_scene: "the scene does not lie between near and far: 0.01 to 0.02",
}


@pytest.mark.parametrize("spoil", SPOILED_SCENES, ids=lambda spoil: spoil.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_a_spoiled_scene(tmp_path, spoil, name):
    scenes = sound_scenes()
    spoil(scenes[name])
    lines = lines_of(make_pack(tmp_path / "pack", scenes, per_shard=2))
    file = layout.shard_name(NAMES.index(name) // 2)
    matching = [
        line for line in lines if line.startswith(f"{file}, scene {name}: views 1, 4: {SPOILED_SCENES[spoil]}"[:60])
    ]
    assert matching, lines
    assert SPOILED_SCENES[spoil] in matching[0]
    assert "--fix-drop" in matching[0]
    # A camera in pixels sees nothing, either.
    assert len(lines) == 1 or spoil in (no_focal_length, infinite_focal_length, principal_point_in_pixels), lines


@pytest.mark.parametrize("name", NAMES)
def test_scenes_that_stand_out(tmp_path, name):
    scenes = sound_scenes(30) | {name: noisy_views(9, 12)}
    (line,) = lines_of(make_pack(tmp_path / "few", scenes))
    assert f"scene {name}: has 12 views, where most scenes have 30" in line


def test_scenes_that_are_there_twice(tmp_path):
    scenes = sound_scenes() | {"d": noisy_views(1), "a#2": noisy_views(8)}
    lines = lines_of(make_pack(tmp_path / "twice", scenes))
    assert len(lines) == 2
    assert "scene d: has the views and cameras of scene b" in lines[0]
    assert "scene a: has the id of another scene" in lines[1]


def test_splits_without_views(tmp_path):
    (line,) = lines_of(make_pack(tmp_path / "four", sound_scenes(4)))
    assert line.startswith("pack.json: split rule first leaves no scene a view to test on (at most 4 views a scene)")
    (line,) = lines_of(make_pack(tmp_path / "some", sound_scenes(12) | {"c": noisy_views(2, 8)}))
    assert "scene c: has no view to test on: 8 views, split rule first" in line
    scenes = {"a": noisy_views(0, 2), "b": noisy_views(1, 1)}
    (line,) = lines_of(make_pack(tmp_path / "one", scenes, split="every_tenth"))
    assert "scene b: has no view to train on: 1 views, split rule every_tenth" in line


VIEWPOINTS = {
    "hemisphere": ((-180, 180), (0, 85)),
    "frontal": ((-45, 45), (-20, 30)),
    "sphere": ((-180, 180), (-85, 85)),
}


@pytest.mark.parametrize("viewpoints", VIEWPOINTS)
@pytest.mark.parametrize("recorded", CONVENTIONS)
@pytest.mark.parametrize("truth", CONVENTIONS)
def test_the_convention_that_makes_all_cameras_look_is_named(truth, recorded, viewpoints):
    from data_modules.checking.cameras import camera_faults
    from data_modules.raycast import draw_cameras

    poses, intrinsics = draw_cameras(20, 1.3, *VIEWPOINTS[viewpoints], np.random.default_rng(3))
    stored = opencv_camera_to_world(file_matrices(poses.astype(float), truth), recorded).astype(np.float32)
    views = changed(noisy_views(0, 20), camera_to_world=stored, intrinsics=intrinsics, near_far=None)
    found = list(camera_faults(views, 0.5, {"camera_convention": recorded}))
    if truth == recorded:
        assert not found
        return
    (fault,) = found
    assert f"repack with --camera_convention {truth}," in fault.remedy
    if truth.endswith("_w2c") != recorded.endswith("_w2c"):
        assert "as inverted poses do" in fault.what
    (unknown,) = camera_faults(views, 0.5, {})
    assert "camera_convention" not in unknown.remedy


def test_objects_that_reach_outside_the_ball(tmp_path):
    """As photographs in a world of their own show, where the object is larger."""
    sound = sound_scenes()
    poses = sound["b"].camera_to_world.copy()
    poses[:, :3, 3] *= 3
    scenes = sound | {"b": changed(sound["b"], camera_to_world=poses, near_far=ball_near_far(poses))}
    lines = lines_of(make_pack(tmp_path / "pack", scenes))
    assert len(lines) == 1
    assert "scene b: views" in lines[0]
    assert "of what is seen lies outside the ball of radius 0.5 that is learned: pack it with --normalize" in lines[0]
    share = float(lines[0].split(" % of")[0].split()[-1])
    seen = np.hypot(*((np.mgrid[:16, :16] + 0.5) / 16 - 0.5))
    beyond = 3.9 * np.sin(np.arctan(seen / FOCAL)) > 0.525
    assert share == pytest.approx(100 * beyond[seen <= 0.4].mean(), abs=1)


def test_a_background_that_is_not_white(tmp_path):
    sound = sound_scenes()
    busy = sound["c"].images.copy()
    busy[busy == 255] = 90
    lines = lines_of(make_pack(tmp_path / "pack", sound | {"c": changed(sound["c"], images=busy)}))
    assert len(lines) == 1
    assert "scene c: views" in lines[0]
    assert "the background is not white: give images with alpha or masks" in lines[0]
