"""Images that are no squares, from the pack to the report: a rectangle is the part of a square that it was cut from."""

import copy
import json

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from data_modules.layout import PackIndex
from data_modules.packing.pack import write_pack
from data_modules.sources.base import PosedViews
from data_modules.sources.photographs import fit_image
from data_modules.sources.transforms import TransformsSource
from scaled_ig.autoencoders import IdentityAutoencoder, SmallAutoencoder
from scaled_ig.bank.description import build, describe
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.cameras import PAPER_FOCAL, Cameras, focal_of, orbit, rows_and_columns
from scaled_ig.errors import UsageError
from scaled_ig.metrics.consistency import Surface, match_pixels
from scaled_ig.phases.base import jitter
from scaled_ig.randomness import CounterNoise
from scaled_ig.rendering.kernels import KernelChoice
from scaled_ig.rendering.sampling import InsideBall
from scaled_ig.representations import TriPlanes
from scaled_ig.representations.occupancy import carve, uncovered
from scaled_ig.scene_model import SceneModel
from tests.conftest import BallScenes
from tests.data_modules.sources.captures import distances, see, write_transforms

SIDE, ROWS, COLUMNS = 32, slice(8, 32), slice(4, 20)  # 24 x 16 pixels out of 32 x 32, not from the middle


def cut(cameras: Cameras, side: int = SIDE, rows: slice = ROWS, columns: slice = COLUMNS) -> Cameras:
    """The cameras of that part of square images."""
    height, width = rows.stop - rows.start, columns.stop - columns.start
    pixels = cameras.intrinsics * side - torch.tensor([0, 0, columns.start, rows.start]).to(cameras.intrinsics)
    size = torch.tensor([width, height, width, height]).to(cameras.intrinsics)
    return Cameras(cameras.camera_to_world, pixels / size, cameras.near_far)


class CutBalls(BallScenes):
    """The balls with masks, 24 x 16 pixels."""

    def load(self, scene_id):
        views, record = super().load(scene_id)
        cameras = Cameras(torch.from_numpy(views.camera_to_world), torch.from_numpy(views.intrinsics))
        masks = None if views.masks is None else views.masks[:, ROWS, COLUMNS]
        images = np.ascontiguousarray(views.images[:, ROWS, COLUMNS])
        return PosedViews(images, views.camera_to_world, cut(cameras).intrinsics.numpy(), masks=masks), record


def test_rays_of_a_rectangle_are_those_of_the_square_it_was_cut_from():
    cameras = orbit(3)
    square, rectangle = cameras.rays(SIDE).directions.unflatten(1, (SIDE, SIDE)), cut(cameras).rays((24, 16))
    torch.testing.assert_close(rectangle.directions.unflatten(1, (24, 16)), square[:, ROWS, COLUMNS])
    pixels = torch.tensor([[0, 17, 24 * 16 - 1]]).expand(3, -1)
    some = cut(cameras).rays_at(pixels, (24, 16)).directions
    torch.testing.assert_close(some, rectangle.directions[:, pixels[0]])
    assert (rows_and_columns(7), rows_and_columns([3, 4])) == ((7, 7), (3, 4))


@pytest.mark.parametrize("size", [(96, 128), (128, 96), (64, 64)])
def test_the_shorter_side_sees_as_much_as_a_square(size):
    cameras = orbit(1, focal=focal_of(size))
    fx, fy = (cameras.intrinsics[0, :2] * torch.tensor([size[1], size[0]])).tolist()
    assert fx == pytest.approx(fy) == pytest.approx(PAPER_FOCAL * min(size))


@pytest.mark.parametrize("kernel", ["reference", "auto"])
@torch.no_grad()
def test_a_rectangle_is_rendered_as_the_part_of_a_square(kernel: KernelChoice):
    square = SceneModel(TriPlanes(4, 8, 0.5), IdentityAutoencoder(), InsideBall(12), kernel, resolution=SIDE)
    square.representation.new_scenes(2, seed=1)
    rectangle = copy.deepcopy(square)
    rectangle.image_size = 24, 16
    cameras, index = orbit(3), torch.tensor([1, 0, 1])
    expected = square.render_image(cameras, index)[..., ROWS, COLUMNS]
    torch.testing.assert_close(rectangle.render_image(cut(cameras), index), expected, rtol=0, atol=2e-5)
    assert (expected.amax((2, 3)) - expected.amin((2, 3))).max() > 0.01


@torch.no_grad()
def test_latents_of_rectangles():
    scene = SceneModel(TriPlanes(4, 8), SmallAutoencoder(4, 5, 8, 1), InsideBall(4), resolution=(24, 16))
    scene.representation.new_scenes(2)
    assert (scene.image_size, scene.latent_size) == ((24, 16), (6, 4))
    assert scene.render_latent(orbit(3), torch.tensor([0, 1, 0])).shape == (3, 5, 6, 4)
    assert scene.render_image(orbit(3), torch.tensor([0, 1, 0])).shape == (3, 3, 24, 16)
    scene.measure_background()
    again = build(json.loads(json.dumps(describe(scene))))
    assert again.image_size == (24, 16)
    assert describe(again) == describe(scene)
    for size in ((24, 18), (22, 16)):
        with pytest.raises(UsageError, match="is no multiple of the autoencoder's 4"):
            SceneModel(TriPlanes(4, 8), SmallAutoencoder(4, 5), InsideBall(4), resolution=size)


def test_hulls_of_rectangles():
    views, _ = CutBalls(1, 20, SIDE, masked=1).load("ball-0")
    cameras = Cameras(torch.from_numpy(views.camera_to_world), torch.from_numpy(views.intrinsics))
    masks = torch.from_numpy(views.masks)
    assert uncovered(carve(masks, cameras, 32), masks, cameras) < 0.01
    turned = masks.transpose(1, 2).reshape(masks.shape)  # what a mix-up of rows and columns would read
    assert uncovered(carve(masks, cameras, 32), turned.contiguous(), cameras) > 0.05


def test_pixels_of_rectangles_are_carried_to_themselves():
    cameras = cut(orbit(2))
    surface = Surface(cameras, torch.full((2, 24, 16), 1.3), torch.ones(2, 24, 16))
    match = match_pixels(surface, surface)
    rows, columns = torch.meshgrid((torch.arange(24) + 0.5) / 24, (torch.arange(16) + 0.5) / 16, indexing="ij")
    torch.testing.assert_close(match.places, (torch.stack([columns, rows], -1) * 2 - 1).expand(2, -1, -1, -1))
    assert match.visible.all()


@pytest.mark.parametrize("size", [(60, 90), (30, 80), (96, 64), (45, 45)])
def test_photographs_are_cut_to_a_rectangle(tmp_path, size):
    write_transforms(tmp_path / "balls", see(96), "opengl")
    views, _ = TransformsSource(tmp_path, resolution=size).load("balls")
    assert views.images.shape == (8, *size, 3)
    fx, fy = (views.intrinsics[0, :2] * (size[1], size[0])).tolist()
    assert fx == pytest.approx(fy, rel=0.02), "pixels stay squares"
    if min(size) > 30:  # else a ball is cut
        assert distances(views.images, views.camera_to_world, views.intrinsics).max() < 0.5


def test_a_whole_ratio_is_a_mean_over_areas():
    image = np.arange(8 * 12, dtype=np.uint8).reshape(8, 12)
    part, lens = fit_image(image, np.array([1.0, 1.5, 0.5, 0.5]), (2, 6))
    np.testing.assert_allclose(part, image[2:6].reshape(2, 2, 6, 2).mean(axis=(1, 3)), atol=0.5)
    np.testing.assert_allclose(lens, [1.0, 3.0, 0.5, 0.5])


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rectangles") / "pack"
    write_pack(CutBalls(8, 10, SIDE, masked=8), folder, render=None)
    assert PackIndex.open(folder).image_size == (24, 16)
    return folder


def test_training_draws_the_pixels_of_rectangles(pack):
    from data_modules.shapenet import ShapeNetCars

    data = ShapeNetCars(str(pack), stage1_scenes=4, stage2_scenes=4)
    (batch,) = data.batches(1, [(0, 1), (2, 3)])
    scene = SceneModel(TriPlanes(4, 8), IdentityAutoencoder(), InsideBall(4), resolution=(24, 16))
    assert jitter(scene, batch, CounterNoise(0)).ray_ids.shape == (2, 24 * 16)
    pixels = torch.tensor([[5, 24 * 16 - 1]]).expand(2, -1)
    torch.testing.assert_close(batch.pixels_at(pixels), batch.pixels.flatten(2)[:, :, [5, 383]].transpose(1, 2))


@pytest.mark.slow("five phases, a page and an export")
@pytest.mark.parametrize("rgb", [False, True], ids=["latents", "pixels"])
def test_a_whole_run(pack, tiny_config, tmp_path, run_scaled_ig, rgb):
    """Trained, tested, rendered, reported, and gone on with."""
    config = yaml.safe_load(tiny_config.read_text())
    config["data"]["init_args"]["path"] = str(pack)
    config["scene"]["resolution"] = [24, 16]
    if rgb:
        config["scene"]["autoencoder"] = {"class_path": "IdentityAutoencoder"}
        config["scene"]["sampling"] = {"class_path": "InsideHull", "init_args": {"num_samples": 8}}
        arguments = {"rays_per_view": 64, "opacity_weight": 0.5}
        config["phases"] = {
            name: {"module": {"class_path": class_path, "init_args": arguments}, "max_steps": 12}
            for name, class_path in (("warm_up", "WarmUp"), ("latent_supervision", "LatentSupervision"))
        }
    (tmp_path / "run.yaml").write_text(json.dumps(config))
    run = tmp_path / "run"
    status, output = run_scaled_ig("fit", "--config", tmp_path / "run.yaml", "--run_dir", run)
    assert status == 0, output[-3000:]
    for command in (
        ("test", run),
        ("report", run),
        ("render", run, "--out", tmp_path / "grid.png", "--views", "2"),
        ("fit", "--config", tmp_path / "run.yaml", "--run_dir", run, "--resume", "true"),
    ):
        status, output = run_scaled_ig(*command)
        assert status == 0, output[-3000:]
    bank = SceneBank.open(run / "bank")
    scene = bank[bank.scenes()[0].id]
    assert scene.render(orbit(1)).shape == (1, 3, 24, 16)
    with Image.open(tmp_path / "grid.png") as grid:
        assert (grid.width % 16, grid.height % 24) == (0, 0)
    assert "Views have 24 × 16 pixels" in (run / "report.html").read_text()
    status, output = run_scaled_ig(
        "fit", "--config", tmp_path / "run.yaml", "--run_dir", tmp_path / "square", "--scene.resolution", "32"
    )
    assert status == 2
    assert "has views of 24×16 pixels, the model is made for 32×32: give --scene.resolution '[24, 16]'" in output
