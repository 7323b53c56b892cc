"""What a run shows in W&B, read back from the files that W&B wrote."""

import json
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import wandb
from lightning.pytorch import Trainer
from PIL import Image
from wandb.proto import wandb_internal_pb2

from data_modules.shapenet import ShapeNetCars
from scaled_ig.callbacks import dashboard
from scaled_ig.callbacks.clock import TrainingClock
from scaled_ig.callbacks.dashboard import Dashboard, orbit_frames, picture_grid
from scaled_ig.callbacks.run_logger import RunLogger
from scaled_ig.phases import AutoencoderTraining, Joint, WarmUp
from tests.conftest import phase_data

STEPS = 6


def frames_of(path: Path):
    """Records of a W&B file: a header of 7 bytes, then LevelDB's log frames in blocks of 32 KiB."""
    raw = path.read_bytes()
    assert raw[:4] == b":W&B"
    position, whole = 7, b""
    while position + 7 <= len(raw):
        room = 32768 - position % 32768
        if room < 7:
            position += room
            continue
        _, length, kind = struct.unpack("<IHB", raw[position : position + 7])
        if kind == 0 and length == 0:
            break
        part = raw[position + 7 : position + 7 + length]
        position += 7 + length
        whole = part if kind in (1, 2) else whole + part
        if kind in (1, 4):
            yield whole


def records_of(path: Path) -> list[wandb_internal_pb2.Record]:
    """Records of a run that was finished; on a busy machine W&B's process writes the last ones a little later."""
    for _ in range(120):
        records = [wandb_internal_pb2.Record.FromString(frame) for frame in frames_of(path)]
        if any(record.WhichOneof("record_type") == "exit" for record in records):
            break
        time.sleep(0.5)
    return records


def history(folder: Path) -> list[dict]:
    """Rows that were logged offline, in their order."""
    rows = []
    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    for record in records_of(path):
        if record.WhichOneof("record_type") == "history":
            row: dict = {}
            for item in record.history.item:
                *path, last = item.nested_key or [item.key]
                inner = row
                for key in path:
                    inner = inner.setdefault(key, {})
                inner[last] = json.loads(item.value_json)
            rows.append(row)
    return rows


@pytest.fixture
def data(tiny_pack):
    return ShapeNetCars(str(tiny_pack), stage1_scenes=4, stage2_scenes=4, batch_size=4, val_fraction=0.25)


def train(phase, data, logger, folder: Path, **options) -> tuple[Trainer, TrainingClock]:
    """A real Trainer with the dashboard."""
    data = data.for_phase(phase_data(phase))
    clock = TrainingClock()
    trainer = Trainer(
        accelerator="cpu", devices=1, max_steps=STEPS, max_epochs=-1, logger=logger, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False, log_every_n_steps=2,
        default_root_dir=str(folder), callbacks=[clock, Dashboard(clock, **options)],
    )  # fmt: skip
    trainer.fit(phase, datamodule=data)
    return trainer, clock


@pytest.fixture
def logger(tmp_path):
    yield RunLogger(mode="offline", save_dir=str(tmp_path), id="abcd1234")
    wandb.finish()


def media(folder: Path, entry: dict) -> Path:
    """File of a logged picture or film."""
    (run,) = folder.glob("wandb/offline-run-*/files")
    return run / (entry["path"] if "path" in entry else entry["filenames"][0])


def test_two_phases_are_shown_on_one_axis(tmp_path, tiny_scene, data, logger):
    scene = tiny_scene()
    for phase in (WarmUp(scene), Joint(scene)):
        trainer, clock = train(phase, data, logger, tmp_path, every_n_steps=3, num_scenes=3, orbit_views=5)
        logger.step_offset += trainer.global_step
    wandb.finish()
    rows = history(tmp_path)

    rated = [row for row in rows if any(key.startswith("lr/") for key in row)]
    assert [row["trainer/global_step"] for row in rated] == [1, 3, 5, 7, 9, 11]
    names = [{key for key in row if key.startswith("lr/")} for row in rated]
    assert names[0] == {"lr/micro", "lr/mixing", "lr/bases", "lr/head"}
    assert names[-1] == names[0] | {"lr/encoder", "lr/decoder"}
    assert rated[0]["lr/micro"] == 1e-2
    assert rated[-1]["lr/encoder"] == pytest.approx(1e-4)
    for own in (rated[:3], rated[3:]):
        seconds = [row["train/seconds"] for row in own]
        assert seconds == sorted(seconds)
        assert all(row["train/seconds_per_step"] > 0 for row in own)
    assert rated[-1]["train/seconds"] <= clock.seconds

    grids = [row for row in rows if "pictures/grid" in row]
    assert [row["trainer/global_step"] for row in grids] == [3, 6, 9, 12]
    picture = Image.open(media(tmp_path, grids[0]["pictures/grid"]))
    assert picture.size == (7 * 32, 3 * 2 * 32), "seven columns of 3 scenes with 2 views"
    truths = [np.asarray(Image.open(media(tmp_path, row["pictures/grid"])))[:, :32] for row in grids]
    assert all(np.array_equal(truth, truths[0]) for truth in truths), "the same views every time"

    films = [row for row in rows if "pictures/orbit" in row]
    assert [row["trainer/global_step"] for row in films] == [6, 12]
    film = Image.open(media(tmp_path, films[-1]["pictures/orbit"]["videos"][0]))
    assert (film.format, film.size, film.n_frames) == ("GIF", (32, 32), 5)


def test_an_autoencoder_alone_shows_reconstructions(tmp_path, tiny_scene, data, logger):
    train(AutoencoderTraining(tiny_scene()), data, logger, tmp_path, num_scenes=2, num_views=1)
    wandb.finish()
    rows = history(tmp_path)
    (grid,) = [row for row in rows if "pictures/grid" in row]
    assert Image.open(media(tmp_path, grid["pictures/grid"])).size == (2 * 32, 2 * 32)
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
    start = time.perf_counter()
    _, clock = train(WarmUp(scene), data, logger, tmp_path, every_n_steps=2, orbit_views=2)
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
