"""Quality is measured per image, then per scene, then over scenes."""

import numpy as np
import pytest
import torch

from data_modules.base import MultiViewDataModule
from data_modules.shapenet import ShapeNetCars
from scaled_ig.autoencoders import SmallAutoencoder
from scaled_ig.batch import to_unit_range
from scaled_ig.metrics.evaluation import evaluate, over_scenes, per_scene, with_means
from scaled_ig.metrics.images import psnr
from tests.rounding import DECIBELS


@pytest.fixture
def data(tiny_pack) -> MultiViewDataModule:
    return ShapeNetCars(str(tiny_pack), stage1_scenes=4, batch_size=4)


def test_numbers_do_not_depend_on_the_batches(tiny_scene, data):
    """Beyond the rounding of float32: the order of a sum may change with the shape of what is summed."""
    scene = tiny_scene()
    scene.autoencoder = SmallAutoencoder(latent_channels=5, width=16, blocks=1, small_decoder_channels=8)
    scene.measure_background()
    keys = [(0, 1), (2, 5), (0, 0), (3, 9), (2, 2)] + [(s, view) for s in range(4) for view in range(10)]
    results = [evaluate(scene, data.batches(1, keys, size)) for size in (1, 7, 64)]
    for records in results:
        assert [(record["scene"], record["view"]) for record in records] == keys
        assert {"psnr", "psnr_small", "ssim", "ssim_signed", "latent_psnr", "autoencoder_psnr"} < records[0].keys()
        for record, other in zip(records, results[0], strict=True):
            assert record.pop("lpips", None) is None
            assert record == pytest.approx({name: other[name] for name in record}, abs=DECIBELS)


@torch.no_grad()
def test_the_upper_bound_is_the_autoencoders(tiny_scene, data):
    scene = tiny_scene()
    (batch,) = data.batches(1, [(1, 4)])
    (record,) = evaluate(scene, [batch])
    target = to_unit_range(batch.pixels)
    reconstruction = scene.autoencoder.decode(scene.autoencoder.encode(batch.pixels))
    assert record["autoencoder_psnr"] == pytest.approx(float(psnr(to_unit_range(reconstruction), target)), abs=DECIBELS)
    rendered = to_unit_range(scene.render_image(batch.cameras, batch.scene_index))
    assert record["psnr"] == pytest.approx(float(psnr(rendered, target)), abs=DECIBELS)
    assert record["lpips"] is None


def test_means_over_views_come_before_means_over_scenes():
    records = [
        {"scene": 7, "view": 0, "psnr": 10.0, "lpips": None},
        {"scene": 2, "view": 0, "psnr": 30.0, "lpips": None},
        {"scene": 2, "view": 1, "psnr": 20.0, "lpips": None},
        {"scene": 2, "view": 2, "psnr": 10.0, "lpips": None},
    ]
    scenes = per_scene(records)
    assert [(scene["scene"], scene["num_views"], scene["psnr"]) for scene in scenes] == [(2, 3, 20.0), (7, 1, 10.0)]
    means = over_scenes(scenes)
    assert {name: means[name] for name in ("num_scenes", "num_views", "psnr", "lpips", "lpips_std")} == {
        "num_scenes": 2, "num_views": 4, "psnr": 15.0, "lpips": None, "lpips_std": None
    }  # fmt: skip
    assert means["psnr_std"] == pytest.approx(np.std([20, 10], ddof=1))
    assert per_scene([]) == []
    assert over_scenes([]) == {"num_scenes": 0, "num_views": 0}
    assert over_scenes(scenes[:1])["psnr_std"] is None


@torch.no_grad()
def test_pooled_psnr_is_of_all_views_of_a_scene_at_once(tiny_scene, data):
    scene = tiny_scene()
    keys = [(s, view) for s in (2, 0) for view in range(5)]
    (batch,) = data.batches(1, keys)
    rendered = scene.render_image(batch.cameras, batch.scene_index)
    for record in per_scene(evaluate(scene, data.batches(1, keys, 3))):
        own = batch.scene_index == record["scene"]
        error = np.mean((rendered[own].double().numpy() - batch.pixels[own].double().numpy()) ** 2)
        assert record["psnr_pooled"] == pytest.approx(10 * np.log10(4 / error), abs=DECIBELS)
        assert record["psnr_pooled"] < record["psnr"]


def test_the_mixture_counts_each_scene_once():
    rows = [{"id": str(k), "stage": 1 + (k > 1), "num_views": 3, "psnr": float(k**2)} for k in range(7)]
    written = with_means({"protocol": {}, "scenes": rows, "s2": {"rgb_triplanes_psnr": 5.5}})
    s1, s2, everything = (written[split] for split in ("s1", "s2", "all"))
    assert (s1["psnr"], s2["psnr"]) == (0.5, 18.0)
    assert everything["psnr"] == pytest.approx((2 * s1["psnr"] + 5 * s2["psnr"]) / 7)
    assert everything["psnr_std"] == pytest.approx(np.std([k**2 for k in range(7)], ddof=1))
    assert (everything["num_scenes"], everything["num_views"]) == (7, 21)
    assert (s1["rgb_triplanes_psnr"], s2["rgb_triplanes_psnr"]) == (None, 5.5), "scenes do not hold it: it stays"
    assert with_means(written | {"scenes": rows[:2]}).keys() == {"protocol", "scenes", "s1", "all"}


def test_a_mean_is_of_all_scenes_or_not_known():
    rows = [{"num_views": 1, "psnr": 20.0, "lpips": 0.1}, {"num_views": 1, "psnr": 30.0, "lpips": None}]
    assert over_scenes(rows)["lpips"] is over_scenes(rows)["lpips_std"] is None
    del rows[1]["lpips"]  # measured before it was
    assert over_scenes(rows)["lpips"] is None
