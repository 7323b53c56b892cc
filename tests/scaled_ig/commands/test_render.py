"""``scaled-ig render``: films and grids of a bank's scenes."""

import json
import math

import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from PIL import Image

from scaled_ig.bank.scene_bank import SceneBank, spread
from scaled_ig.cameras import PAPER_FOCAL, Cameras, look_at_origin
from scaled_ig.cli import main
from scaled_ig.commands.render import render
from scaled_ig.errors import UsageError
from scaled_ig.report.camera_files import CameraFile
from scaled_ig.report.orbits import orbit_cameras, orbit_like
from scaled_ig.report.pictures import columns_of, mosaic, to_pictures


@pytest.fixture
def bank(tmp_path, tiny_scene):
    """A bank with two versions: scenes a and b of the first, c to f of the second."""
    for version, ids in (("stage1", "ab"), ("stage2", "cdef")):
        SceneBank.write(tmp_path / "bank", tiny_scene(len(ids)), list(ids), version, ["0"] * len(ids))
    return tmp_path / "bank"


def azimuths(cameras):
    x, y = cameras.camera_to_world[:, :2, 3].unbind(1)
    return torch.rad2deg(torch.atan2(y, x))


def test_film_has_every_view_of_the_newest_scenes_side_by_side(bank, tmp_path, capsys):
    out = tmp_path / "films" / "orbit.mp4"
    assert render(str(bank), out=str(out), views=5) == 0
    frames = imageio.mimread(out, memtest=False)
    assert len(frames) == 5
    assert frames[0].shape == (256, 4 * 256, 3)  # tiles of 32 pixels, enlarged to 256
    said = capsys.readouterr()
    assert said.out == f"{out}: 4 scenes, 5 views\n"
    assert said.err.endswith(f"next: scaled-ig bank export {bank} --format mesh --out MESHES\n")
    assert [file.name for file in out.parent.iterdir()] == ["orbit.mp4"]


def test_grid_shows_what_the_scene_renders(bank, tmp_path):
    out = tmp_path / "grid.png"
    render(str(bank), scenes="a", out=str(out), views=6, elevation_degrees=10, azimuth_degrees=(20, 50), distance=1.5)
    grid = np.asarray(Image.open(out))
    expected = to_pictures(SceneBank.open(bank)["a"].render(orbit_cameras(6, 10, (20, 50), 1.5)))
    columns = columns_of(6)
    for view in range(6):
        row, column = divmod(view, columns)
        tile = grid[row * 32 : row * 32 + 32, column * 32 : column * 32 + 32].astype(int)
        assert np.abs(tile - expected[view]).max() <= 1
    assert expected.std() > 1  # a blank tile would fit anything blank


def test_grid_of_many_scenes_has_one_row_a_scene(bank, tmp_path):
    render(str(bank), out=str(tmp_path / "grid.png"), views=3)
    assert Image.open(tmp_path / "grid.png").size == (3 * 32, 4 * 32)


def test_scenes_are_those_of_a_list_or_of_a_file_in_their_order(bank, tmp_path):
    (tmp_path / "some.txt").write_text("\ufeffd\na\nd\n")  # some editors begin with a byte order mark
    for scenes in ("d,a", '["d", "a"]', str(tmp_path / "some.txt")):
        with pytest.raises(SystemExit) as left:
            main(["render", str(bank), "--scenes", scenes, "--views", "2", "--out", str(tmp_path / "x.npz")])
        assert left.value.code == 0
        with np.load(tmp_path / "x.npz") as arrays:
            assert arrays["ids"].tolist() == ["d", "a"]


@pytest.mark.parametrize(
    ("scenes", "said"),
    [
        (",", "--scenes names 0 scenes, and 1 to 24 fit side by side"),
        (
            ",".join(map(str, range(25))),
            "--scenes names 25 scenes, and 1 to 24 fit side by side: name fewer, or scaled",
        ),
        ("gone.txt", "the list of scenes gone.txt cannot be read"),
    ],
)
def test_scenes_that_cannot_be_shown_are_a_mistake(bank, scenes, said):
    with pytest.raises(UsageError, match=said):
        render(str(bank), scenes=scenes)


def test_gif_loops(bank, tmp_path):
    render(str(bank), scenes="c", out=str(tmp_path / "orbit.gif"), views=4)
    with Image.open(tmp_path / "orbit.gif") as film:
        assert (film.n_frames, film.info["loop"]) == (4, 0)


def test_a_run_folder_will_do(bank, tmp_path):
    render(str(tmp_path), scenes="b", out=str(tmp_path / "b.png"), views=1)
    assert (tmp_path / "b.png").is_file()


def test_each_output_is_a_file_of_its_own(bank, tmp_path, capsys):
    out = tmp_path / "a.png"
    render(str(bank), scenes="a", out=str(out), views=2, outputs="image, depth,opacity,normals", resolution=16)
    names = ["a.png", "a-depth.png", "a-opacity.png", "a-normals.png"]
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        str(tmp_path / name) for name in names
    ]
    outputs = SceneBank.open(bank)["a"].render(orbit_cameras(2), 16, outputs=("image", "depth", "opacity", "normals"))
    pictures = [np.asarray(Image.open(tmp_path / name)) for name in names]
    for picture, values in zip(pictures[::2], (outputs["image"], outputs["opacity"]), strict=True):
        views = np.concatenate(list(to_pictures(values.expand(-1, 3, -1, -1))), axis=1)
        assert np.abs(picture.astype(int) - views).max() <= 1
    depth = torch.cat(list(outputs["depth"]), 2)[0]
    is_near, is_far = (depth > 0) & (depth < 1.3), depth > 1.3
    assert is_near.any()
    assert is_far.any()
    assert pictures[1][is_near].min() > pictures[1][is_far].max(), "near is bright"
    assert not pictures[1][depth == 0].any()
    normals = torch.cat(list(outputs["normals"]), 2).movedim(0, -1)
    expected = np.where((normals != 0).any(-1, keepdim=True), normals * 127.5 + 127.5, 255)
    assert np.abs(pictures[3] - expected).max() <= 1


def test_arrays_hold_what_is_rendered_and_from_where(bank, tmp_path):
    out = tmp_path / "views.npz"
    render(str(bank), out=str(out), views=3, outputs="image,depth", resolution=[16, 24], elevation_degrees=0)
    content = np.load(out)
    assert list(content["ids"]) == ["c", "d", "e", "f"]
    assert content["image"].shape == (4, 3, 16, 24, 3)
    cameras = Cameras(torch.from_numpy(content["camera_to_world"]), torch.from_numpy(content["intrinsics"]))
    depth = SceneBank.open(bank)["e"].render(cameras, (16, 24), outputs="depth")
    assert np.array_equal(content["depth"][2, ..., 0], depth[:, 0])
    assert np.allclose(content["intrinsics"][0, :2] * [24, 16], 16 * PAPER_FOCAL), "square pixels"


def opengl(cameras: Cameras) -> list[list[list[float]]]:
    """Their poses as nerfstudio has them: y up, z backward."""
    return (cameras.camera_to_world @ torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))).tolist()


def nerfstudio_rays(frame: dict, height: int, width: int) -> torch.Tensor:
    """Directions of a camera of a path by nerfstudio's own formulas, [height · width, 3]."""
    focal = 0.5 * height / math.tan(math.radians(frame["fov"]) / 2)
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    local = torch.stack([(x - width / 2) / focal, -(y - height / 2) / focal, -torch.ones_like(x)], -1)
    rotation = torch.tensor(frame["camera_to_world"]).view(4, 4)[:3, :3]
    return torch.nn.functional.normalize(local.reshape(-1, 3) @ rotation.T, dim=-1)


def test_a_camera_path_of_nerfstudio_is_followed(bank, tmp_path):
    poses = opengl(orbit_cameras(3, 20, (0, 90), 1.4))
    frames = [{"camera_to_world": np.ravel(pose).tolist(), "fov": 40 + number} for number, pose in enumerate(poses)]
    path = tmp_path / "path.json"
    path.write_text(json.dumps({"camera_path": frames, "render_height": 90, "render_width": 160, "fps": 12}))
    read = CameraFile.read(path)
    assert (read.size, read.frames_per_second) == ((90, 160), 12)
    for number, frame in enumerate(frames):
        rays = read.cameras[[number]].rays((90, 160))
        torch.testing.assert_close(rays.directions[0], nerfstudio_rays(frame, 90, 160), atol=1e-5, rtol=0)
        assert torch.equal(rays.origins[0, 0], torch.tensor(poses[number])[:3, 3])
    render(str(bank), scenes="a", cameras=str(path), out=str(tmp_path / "a.npz"))
    content = np.load(tmp_path / "a.npz")["image"]
    assert content.shape == (1, 3, 32, 56, 3), "as high as the scene was trained, as wide as the path asks"
    expected = SceneBank.open(bank)["a"].render(read.cameras, (32, 56))
    assert np.array_equal(content[0], expected.movedim(1, -1))
    render(str(bank), scenes="a", cameras=str(path), out=str(tmp_path / "a.mp4"), resolution=64)
    film = imageio.get_reader(tmp_path / "a.mp4").get_meta_data()
    assert (film["fps"], film["size"]) == (12, (112 * 4, 64 * 4))


@pytest.mark.parametrize("convention", ["opengl", "opencv", "in its name"])
def test_a_transforms_file_is_followed(tmp_path, convention):
    cameras = orbit_cameras(3, 20, (0, 90), 1.4)
    poses = opengl(cameras) if convention == "opengl" else cameras.camera_to_world.tolist()
    path = tmp_path / ("transforms_opencv.json" if convention == "in its name" else "transforms.json")
    lens = {"fl_x": 60, "fl_y": 70, "cx": 33, "cy": 31, "w": 64, "h": 48}
    key = {"camera_convention": "opencv"} if convention == "opencv" else {}
    path.write_text(json.dumps(lens | key | {"frames": [{"transform_matrix": pose} for pose in poses]}))
    read = CameraFile.read(path)
    torch.testing.assert_close(read.cameras.camera_to_world, cameras.camera_to_world)
    torch.testing.assert_close(read.cameras.intrinsics, torch.tensor([[60 / 64, 70 / 48, 33 / 64, 31 / 48]] * 3))
    assert read.size == (48, 64)
    path.write_text(json.dumps(key | {"camera_angle_x": 0.6, "frames": [{"transform_matrix": poses[0]}]}))
    focal = 0.5 / math.tan(0.3)
    torch.testing.assert_close(CameraFile.read(path).cameras.intrinsics, torch.tensor([[focal, focal, 0.5, 0.5]]))


@pytest.mark.parametrize(
    ("content", "said_of_it"),
    [
        ("[]", "holds no JSON object"),
        ("{}", "has neither frames nor a camera_path"),
        ('{"frames": []}', "has 0 cameras"),
        ('{"frames": [{"fl_x": 3}]}', "camera 0: its pose is not 3x4 or 4x4 finite numbers"),
        ('{"frames": [{"transform_matrix": POSE}]}', "camera 0: its focal length is not there"),
        ('{"fl_x": 3, "k1": 0.1, "frames": [{"transform_matrix": POSE}]}', "camera 0: its lens is distorted"),
        ('{"camera_path": [{"camera_to_world": POSE, "fov": 180}]}', "camera 0: its fov is no angle"),
        (
            '{"camera_path": [{"camera_to_world": POSE, "fov": 50}], "camera_type": "equirectangular"}',
            "camera 0: its camera_type is 'equirectangular'",
        ),
        ('{"frames": [{"transform_matrix": POSE, "fl_x": -9, "w": 8, "h": 8}]}', "camera 0: its focal lengths are not"),
        (
            '{"frames": [{"transform_matrix": POSE, "fl_x": NaN, "w": 8, "h": 8}]}',
            "camera 0: its focal lengths are not",
        ),
        (
            '{"frames": [{"transform_matrix": POSE, "fl_x": 9, "w": 8, "h": 100000}]}',
            "8 x 100000 pixels: repair w and h",
        ),
        (
            '{"frames": [{"transform_matrix": POSE, "fl_x": 9, "w": 8, "h": 8},'
            ' {"transform_matrix": POSE, "fl_x": 9, "w": 16, "h": 16}]}',
            "camera 1: its w and h are not those of camera 0",
        ),
        ('{"fl_x": 3, "w": "x", "frames": [{"transform_matrix": POSE}]}', "repair w and h"),
    ],
)
def test_a_wrong_camera_file_is_one_sentence(bank, tmp_path, content, said_of_it):
    path = tmp_path / "cameras.json"
    path.write_text(content.replace("POSE", "[[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 2]]"))
    with pytest.raises(UsageError, match=said_of_it) as error:
        render(str(bank), cameras=str(path), out=str(tmp_path / "x.png"))
    assert str(path) in str(error.value)
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"out": "orbit.avi"}, "orbit.avi"),
        ({"cameras": "x.json", "views": 3, "distance": 2.0}, "--views, --distance have no effect beside --cameras"),
        ({"out": "x.png", "frames_per_second": 3}, "--frames_per_second has no effect"),
        ({"cameras": "nowhere.json"}, "nowhere.json is no file"),
        ({"outputs": "image,nromals"}, "did you mean normals"),
        ({"resolution": 30}, "resolution .* is no multiple of the autoencoder's 4"),
        ({"resolution": 5000}, "--resolution 5000"),
        ({"views": 0}, "--views 0"),
        ({"elevation_degrees": 90}, "--elevation_degrees 90"),
        ({"distance": 0.3}, "--distance 0.3"),
    ],
)
def test_impossible_options_are_named(bank, options, word):
    with pytest.raises(UsageError, match=word):
        render(str(bank), **options)


def test_unknown_scene_is_one_sentence_and_status_2(bank, tmp_path, capsys):
    with pytest.raises(SystemExit) as ending:
        main(["render", str(bank), "--scenes", "nobody", "--out", str(tmp_path / "x.mp4")])
    assert ending.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "holds no scene 'nobody'" in last
    assert not (tmp_path / "x.mp4").exists()


def test_swing_goes_there_and_back():
    angles = azimuths(orbit_cameras(8, 0.0, (-30, 30)))
    assert angles[[0, 4]].tolist() == pytest.approx([-30, 30], abs=1e-3)
    assert angles[1:4].tolist() == pytest.approx(angles[[7, 6, 5]].tolist(), abs=1e-3)


def test_full_turn_does_not_show_a_view_twice():
    angles = azimuths(orbit_cameras(4, 0.0, (0, 360)))
    assert (angles % 360).tolist() == pytest.approx([0, 90, 180, 270], abs=1e-3)


def test_orbit_follows_frontal_cameras():
    angles = torch.deg2rad(torch.linspace(-130, -50, 41))  # before the front, which looks to -Y
    centres = 1.4 * torch.stack([angles.cos(), angles.sin(), torch.zeros(41)], 1)
    film = orbit_like(look_at_origin(centres, focal=1.2), 16)
    found = azimuths(film)
    assert found.min() > -131
    assert found.max() < -49
    assert film.camera_to_world[:, :3, 3].norm(dim=1).tolist() == pytest.approx([1.4] * 16, abs=1e-4)
    assert film.intrinsics[:, 0].tolist() == pytest.approx([1.2] * 16)


def test_orbit_goes_round_for_views_from_all_sides():
    angles = torch.arange(0, 360, 5) * math.pi / 180
    centres = torch.stack([angles.cos(), angles.sin(), torch.full_like(angles, 0.5)], 1)
    found = azimuths(orbit_like(look_at_origin(centres), 8)) % 360
    assert found.sort().values.diff().tolist() == pytest.approx([45] * 7, abs=1e-2)


def test_mosaic_keeps_the_order_and_fills_with_white():
    tiles = np.arange(1, 6, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 3), np.uint8)
    whole = mosaic(tiles, columns=3)
    assert whole[::2, ::3, 0].tolist() == [[1, 2, 3], [4, 5, 255]]
    assert whole.shape == (4, 9, 3)


def test_spread_keeps_first_and_last():
    assert spread(range(10), 4) == [0, 3, 6, 9]
    assert spread("abc", 9) == ["a", "b", "c"]
