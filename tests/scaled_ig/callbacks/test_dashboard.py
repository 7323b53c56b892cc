"""What a run shows in W&B, read back from the files that W&B wrote."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch
import wandb
from lightning.pytorch import Trainer
from PIL import Image

from data_modules.shapenet import ShapeNetCars
from scaled_ig.callbacks import dashboard
from scaled_ig.callbacks.clock import TrainingClock
from scaled_ig.callbacks.dashboard import Dashboard, scene_rows
from scaled_ig.callbacks.pictures import orbit_frames, picture_grid
from scaled_ig.callbacks.run_log import Beginning, RunLog
from scaled_ig.callbacks.run_logger import RunLogger
from scaled_ig.metrics.evaluation import evaluate, per_scene
from scaled_ig.phases import AutoencoderTraining, Joint, WarmUp
from tests.conftest import phase_data
from tests.wandb_files import files_of, history, media, tables

STEPS, AE = 6, "autoencoder"


@pytest.fixture
def data(tiny_pack):
    return ShapeNetCars(str(tiny_pack), stage1_scenes=4, stage2_scenes=4, batch_size=4, val_fraction=0.25)


def train(phase, data, logger, folder: Path, clock: TrainingClock | None = None, **options) -> Trainer:
    """A real Trainer with the dashboard."""
    data = data.for_phase(phase_data(phase))
    clock = clock or TrainingClock()
    dashboard = Dashboard(clock, **options)
    trainer = Trainer(
        accelerator="cpu", devices=1, max_steps=STEPS, max_epochs=-1, logger=logger, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False, log_every_n_steps=2,
        default_root_dir=str(folder), callbacks=[clock, dashboard],
    )  # fmt: skip
    trainer.fit(phase, datamodule=data)
    phase.scene.eval()
    scenes = per_scene(evaluate(phase.scene, data.batches(1, data.own_views(1, "test")), None, phase.name != AE))
    dashboard.conclude(trainer, phase, scenes, {"cost/seconds_per_scene": 1.5})
    return trainer


@pytest.fixture
def logger(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path))
    yield RunLog([RunLogger(mode="offline", save_dir=str(tmp_path), id="abcd1234")], tmp_path)
    wandb.finish()


def test_two_phases_are_shown_on_one_axis(tmp_path, tiny_scene, data, logger):
    scene, begins, clocks = tiny_scene(), Beginning(phase=2, scenes=4, images_per_step=4), []
    for phase in (WarmUp(scene), Joint(scene)):
        clock = TrainingClock()
        logger.enter(begins, clock)
        trainer = train(phase, data, logger, tmp_path, clock, every_n_steps=3, num_scenes=3, orbit_views=5)
        clocks.append(clock.seconds)
        steps = begins.steps + trainer.global_step
        begins = Beginning(3, steps, sum(clocks), 4 * steps, scenes=4, images_per_step=4)
    wandb.finish()
    (file,) = files_of(tmp_path)
    rows = history(file)

    rated = [row for row in rows if any(key.startswith("lr/") for key in row)]
    assert [row["trainer/global_step"] for row in rated] == [1, 3, 5, 7, 9, 11]
    assert [row["axes/images"] for row in rated] == [4, 12, 20, 28, 36, 44]
    assert [row["axes/phase"] for row in rated] == [2, 2, 2, 3, 3, 3]
    names = [{key for key in row if key.startswith("lr/")} for row in rated]
    assert names[0] == {"lr/micro", "lr/mixing", "lr/bases", "lr/head"}
    assert names[-1] == names[0] | {"lr/encoder", "lr/decoder"}
    assert rated[0]["lr/micro"] == 1e-2
    assert rated[-1]["lr/encoder"] == pytest.approx(1e-4)
    assert all(row["train/seconds_per_step"] > 0 for row in rated)
    seconds = [row["axes/seconds"] for row in rows if "axes/seconds" in row]
    assert seconds == sorted(seconds), "seconds go on over the phases"
    assert clocks[0] < seconds[-1] <= sum(clocks)

    grids = [row for row in rows if "pictures/grid" in row]
    assert [row["trainer/global_step"] for row in grids] == [3, 6, 9, 12]
    picture = Image.open(media(file, grids[0]["pictures/grid"]))
    assert picture.size == (7 * 32, 3 * 2 * 32), "seven columns of 3 scenes with 2 views"
    truths = [np.asarray(Image.open(media(file, row["pictures/grid"])))[:, :32] for row in grids]
    assert all(np.array_equal(truth, truths[0]) for truth in truths), "the same views every time"
    caption = grids[0]["pictures/grid"]["caption"]
    assert caption.startswith("warm_up, columns: ground truth | rendering | ")
    assert caption.endswith("rows: " + ", ".join(data.scene_ids(1)[:3]))

    films = [row for row in rows if "pictures/orbit" in row]
    assert [row["trainer/global_step"] for row in films] == [6, 12]
    film = Image.open(media(file, films[-1]["pictures/orbit"]))
    assert (film.format, film.size, film.n_frames) == ("GIF", (32, 32), 5)
    assert films[-1]["pictures/orbit"]["caption"] == f"joint: around {data.scene_ids(1)[0]}"


def test_a_table_has_scenes_from_the_worst_to_the_best(tmp_path, tiny_scene, data, logger):
    phase = WarmUp(tiny_scene())
    train(phase, data, logger, tmp_path)
    wandb.finish()
    (file,) = files_of(tmp_path)
    (rows,) = tables(file, "scenes/stage1")
    assert sorted(row["scene"] for row in rows) == sorted(data.scene_ids(1))
    assert {row["category"] for row in rows} == {"ball"}
    assert [row["PSNR"] for row in rows] == sorted(row["PSNR"] for row in rows)
    for row in rows:
        scene = data.scene_ids(1).index(row["scene"])
        test_views = [view for key, view in data.own_views(1, "test") if key == scene]
        assert row["view"] == test_views[0]
        batch = next(data.batches(1, [(scene, row["view"])]))
        truth, rendering = (np.asarray(Image.open(row[name])) for name in ("truth", "rendering"))
        assert np.array_equal(truth, batch.images[0].permute(1, 2, 0).numpy())
        if len(test_views) == 1:  # then the picture is what was measured
            error = ((rendering / 255.0 - truth / 255.0) ** 2).mean()
            assert -10 * np.log10(error) == pytest.approx(row["PSNR"], abs=0.05)
    histogram = next(row["scenes/psnr"] for row in history(file) if "scenes/psnr" in row)
    assert sum(histogram["values"]) == 4


def test_a_table_of_many_scenes_has_some_of_them(tiny_scene, data):
    measured = [{"scene": scene, "psnr": -scene, "ssim": 0.5, "lpips": None} for scene in range(4)]
    with torch.no_grad():
        rows = scene_rows(tiny_scene().eval(), data, 1, measured, at_most=2)
    assert [row["PSNR"] for row in rows] == [-3, -1]


def test_an_autoencoder_alone_shows_reconstructions(tmp_path, tiny_scene, data, logger):
    train(AutoencoderTraining(tiny_scene()), data, logger, tmp_path, num_scenes=2, num_views=1)
    wandb.finish()
    (file,) = files_of(tmp_path)
    rows = history(file)
    (grid,) = [row for row in rows if "pictures/grid" in row]
    assert Image.open(media(file, grid["pictures/grid"])).size == (2 * 32, 2 * 32)
    assert not any("pictures/orbit" in row for row in rows)


def test_without_the_logger_nothing_is_drawn(tmp_path, tiny_scene, data):
    train(WarmUp(tiny_scene()), data, False, tmp_path, every_n_steps=2)
    assert [file.name for file in tmp_path.iterdir()] == ["latents"]


def test_drawing_does_not_count_as_training(tmp_path, tiny_scene, data, logger, monkeypatch):
    scene, drawn = tiny_scene(), []

    def slow_grid(model, *arguments):
        drawn.append(model.training)
        time.sleep(0.5)
        return np.zeros((4, 4, 3), np.uint8)

    monkeypatch.setattr(dashboard, "picture_grid", slow_grid)
    start, clock = time.perf_counter(), TrainingClock()
    train(WarmUp(scene), data, logger, tmp_path, clock, every_n_steps=2, orbit_views=2)
    assert drawn == [False] * 3
    assert scene.training
    assert clock.seconds < time.perf_counter() - start - 1.5


@pytest.mark.parametrize("fraction", [0.0, 0.25])
def test_test_views_are_never_shown(fraction, data):
    data.val_fraction = fraction
    batch = Dashboard(TrainingClock(), num_scenes=3, num_views=2)._views(data, 1)
    assert batch.scene_index.tolist() == [0, 0, 1, 1, 2, 2]
    shown = set(zip(batch.scene_index.tolist(), batch.view_index.tolist(), strict=True))
    assert shown <= set(data.own_views(1, "val" if fraction else "train"))
    assert not shown & set(data.own_views(1, "test"))


@pytest.mark.parametrize("rgb", [False, True])
def test_the_grid_shows_what_the_model_gives(rgb, tiny_scene, data):
    scene = tiny_scene(rgb=rgb).eval()
    batch = next(data.batches(1, [(0, 0), (3, 2)]))
    with torch.no_grad():
        grid = picture_grid(scene, batch)
        image = scene.render_image(batch.cameras, batch.scene_index)
    assert grid.shape == (2 * 32, 7 * 32, 3)
    assert np.array_equal(grid[:32, :32], batch.images[0].permute(1, 2, 0).numpy())
    expected = ((image[1] + 1) * 127.5).permute(1, 2, 0).numpy()
    assert np.abs(grid[32:, 32:64] - expected).max() < 0.51
    gap = 4 * np.abs(grid[:, 32:64].astype(int) - grid[:, :32])
    assert np.abs(grid[:, 64:96] - gap.clip(0, 255)).max() <= 4
    opacity, nearness = grid[:, 160:192].astype(int), grid[:, 192:]
    assert (nearness <= opacity + 1).all(), "what is not there is not near"


def test_the_orbit_goes_around_the_first_scene(tiny_scene, data):
    scene = tiny_scene().eval()
    batch = next(data.batches(1, [(2, 0), (3, 2)]))
    with torch.no_grad():
        assert orbit_frames(scene, batch, 5, chunk=2).shape == (5, 32, 32, 3)
