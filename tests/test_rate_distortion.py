"""Ways to keep planes in fewer bytes: what they lose by closed forms, and that a run is measured as it is stored."""

import shutil

import numpy as np
import pytest
import torch

from benchmarks.plane_codes import Planes, entropy_bytes, fewer_steps, fewer_texels, head_axes, rotated
from benchmarks.rate_distortion import Row, StoredScenes, draw, measure, recommended, table
from scaled_ig.bank.scene_records import encode
from scaled_ig.runs.record import RunRecord
from tests.test_kept_run import KEPT


@pytest.fixture
def planes() -> Planes:
    """Uniform differences of two scenes in [-1, 1], 8 features of different sizes."""
    generator = np.random.default_rng(0)
    mask = generator.random((2, 3, 32, 32)) < 0.7
    values = generator.uniform(-1, 1, (2, 3, 32, 32, 8)) * np.arange(1, 9) * mask[..., None]
    return Planes(values.astype(np.float32), mask)


@pytest.fixture
def weight() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(20, 8)).astype(np.float32)


@pytest.mark.parametrize("most", [127, 15, 7])
def test_an_error_of_fewer_steps_is_a_twelfth_of_the_squared_step(planes, most):
    errors = (fewer_steps(planes, most).restored - planes.values)[planes.mask]
    steps = np.arange(1, 9) / most  # the largest value of a plane and feature, over the steps beside zero
    assert np.square(errors).mean(0) == pytest.approx(steps**2 / 12, rel=0.05)


def test_what_the_head_sees_of_a_turned_error_is_a_twelfth_of_the_squared_step_along_each_axis(planes, weight):
    errors = (rotated(planes, weight, step=0.5).restored - planes.values)[planes.mask]
    assert np.square(errors @ weight.T).sum(1).mean() == pytest.approx(8 * 0.5**2 / 12, rel=0.05)
    turned = planes.values[planes.mask] @ head_axes(planes, weight).T
    sizes = turned.T @ turned
    assert sizes - np.diag(np.diag(sizes)) == pytest.approx(0, abs=1e-3 * float(sizes.max()))
    assert (np.diff(np.diag(sizes)) < 0).all()


def test_axes_that_scenes_do_not_use_can_be_left_out(planes, weight):
    few = np.random.default_rng(2).normal(size=(8, 3))
    flat = Planes((planes.values @ few @ few.T / 100).astype(np.float32), planes.mask)
    whole, short = (rotated(flat, weight, 0.05, kept).restored - flat.values for kept in (3, 2))
    seen = [np.square(errors[flat.mask] @ weight.T).sum(1).mean() for errors in (whole, short)]
    assert seen[0] == pytest.approx(3 * 0.05**2 / 12, rel=0.05)
    assert seen[1] > 10 * seen[0]


def test_even_planes_need_no_texels(planes):
    even = Planes(np.where(planes.mask[..., None], np.float32(0.5), np.float32(0)), planes.mask)
    code = fewer_texels(even, 16, 127)
    assert code.steps.shape == (2, 3, 16, 16, 1)
    inside = planes.mask & (np.abs(code.restored[..., 0]) > 0)
    assert code.restored[inside] == pytest.approx(0.5, abs=1e-5)
    assert inside.sum() > 0.99 * planes.mask.sum()


def test_entropy_is_that_of_frequencies():
    assert entropy_bytes(np.repeat(np.arange(16, dtype=np.int8), 10)) == pytest.approx(160 * 4 / 8)
    assert entropy_bytes(np.zeros(100, np.int8)) == 0


@pytest.mark.slow("trains a small run")
def test_a_run_is_measured_as_it_is_stored(tmp_path, run_scaled_ig):
    shutil.copytree(KEPT / "pack", tmp_path / "pack")
    call = ("fit", "--config", KEPT / "run.yaml", "--data.path", tmp_path / "pack", "--run_dir", tmp_path / "run")
    status, output = run_scaled_ig(*call)
    assert status == 0, output[-3000:]
    scenes = StoredScenes(tmp_path / "run", None)
    rows = {row.way: row for row in measure(scenes, is_first=True)}
    metrics = RunRecord.open(tmp_path / "run").metrics
    assert rows["float32"].psnr == pytest.approx(metrics["s2"]["psnr"], abs=1e-4)
    texels = scenes.model.representation.texels
    sizes = [len(encode(row, "int8_difference", scenes.mean, texels)) for row in scenes.rows]
    assert rows["47 steps, 6.6 bits"].zlib == np.mean(sizes)
    assert rows["3 steps, 2.8 bits"].zlib < rows["127 steps, 8.0 bits"].zlib < rows["float32"].zlib
    assert torch.equal(scenes.rows[0]["hull"], RunRecord.open(tmp_path / "run").bank["ball-2"].rows["hull"])


def test_the_fewest_bytes_below_the_noise_are_recommended_and_drawn(tmp_path):
    whole = Row("16 features", "no reference", "float32", 300_000, None, None, 34.0, 0.0)
    ways = [("15 steps, 5.0 bits", 40_000, -0.06), ("47 steps, 6.6 bits", 57_000, -0.01), ("7 steps", 30_000, -0.2)]
    rows = [whole] + [
        Row("16 features", "fewer steps", way, size, size, size, 34 + gain, gain) for way, size, gain in ways
    ]
    assert recommended(rows).way == "15 steps, 5.0 bits"
    assert "| fewer steps | 7 steps | 30.0 | 30.0 | 30.0 | 33.80 | −0.200 |" in table(rows).splitlines()
    draw(rows, tmp_path / "front.png")
    assert (tmp_path / "front.png").stat().st_size > 10_000
