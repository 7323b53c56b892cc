"""benchmarks/decibels.py: parts of the squared error sum to the whole, and each is what its name says."""

from pathlib import Path

import pytest
import torch

from benchmarks.decibels import BANDS, PLACES, bands, measure_run, places, versions
from scaled_ig.errors import UsageError
from scaled_ig.runs.record import RunRecord
from tests.rounding import DECIBELS

KEPT = Path(__file__).parent / "kept/run"


def test_bands_sum_to_the_whole_error():
    errors = torch.randn(3, 2, 24, 40, dtype=torch.float64)
    assert torch.allclose(bands(errors).sum(1), errors.square().flatten(1).mean(1))


@pytest.mark.parametrize(("band", "period"), list(enumerate((1, 2, 4, 8))))
def test_stripes_are_in_the_band_of_their_width(band, period):
    stripes = 1.0 - 2 * (torch.arange(32) // period % 2)
    found = bands(stripes.expand(1, 1, 32, 32))
    assert found.tolist() == [[float(place == band) for place in range(len(BANDS))]]


def test_images_that_blocks_do_not_divide_are_refused():
    with pytest.raises(UsageError, match="20 × 32"):
        bands(torch.zeros(1, 3, 20, 32))


def test_places_sum_to_the_whole_error_and_rims_reach_two_pixels_from_either_side():
    masks = torch.zeros(1, 16, 16, dtype=torch.bool)
    masks[:, 4:, :] = True  # rows 0 to 3 are outside
    errors = torch.zeros(1, 1, 16, 16)
    errors[:, :, :, 3] = torch.arange(16.0)
    squares = torch.arange(16.0).square() / 256
    rim, inside, outside = squares[2:6].sum(), squares[6:].sum(), squares[:2].sum()
    assert torch.allclose(places(errors, masks), torch.stack([rim, inside, outside])[None])
    shapes, noise = torch.rand(4, 16, 24) > 0.9, torch.randn(4, 3, 16, 24)
    assert torch.allclose(places(noise, shapes).sum(1), noise.square().flatten(1).mean(1))


@pytest.mark.parametrize("part", [True, False])
def test_a_mask_without_rim_is_all_inside_or_all_outside(part):
    found = places(torch.ones(1, 1, 8, 8), torch.full((1, 8, 8), part))
    assert found.tolist() == [[0.0, float(part), float(not part)]]


def cells(text):
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    return lines[0], {(line[0], line[1]): line[2:] for line in lines[2:]}


def test_a_run_has_a_row_a_phase_and_kind_of_views(tiny_run):
    run = RunRecord.open(tiny_run)
    head, rows = cells(measure_run(run, None, scenes=8, views=8))
    titles = ("stage 1, S1", "latent supervision, S2", "RGB alignment, S2")
    assert list(rows) == [(title, kind) for title in titles for kind in ("unseen", "training")]
    assert not {*PLACES} & {*head}, "the pack has no masks"
    for stage, title in ((1, titles[0]), (2, titles[2])):
        encoded, rendered = (
            float(rows[title, "unseen"][head.index(f"{name}, dB") - 2]) for name in ("encoded", "rendered")
        )
        assert encoded == pytest.approx(run.metrics[f"s{stage}"]["autoencoder_psnr"], abs=0.005 + DECIBELS)
        assert rendered == pytest.approx(run.metrics[f"s{stage}"]["psnr"], abs=0.005 + DECIBELS)
    supervised = run.test_value("latent_supervision", "psnr")
    assert float(rows[titles[1], "unseen"][3]) == pytest.approx(supervised, abs=0.005 + DECIBELS)


def test_a_phase_whose_scenes_are_no_longer_those_of_the_bank_is_left_out(tiny_run):
    run = RunRecord.open(tiny_run)
    run.costs["phases"]["latent_supervision"]["scenes"] += 1
    assert [version.title for version in versions(run)] == ["stage 1", "RGB alignment"]


def test_a_run_on_pixels_is_refused():
    with pytest.raises(UsageError, match="trained on pixels"):
        measure_run(RunRecord.open(KEPT, measured=False), None, 1, 1)
