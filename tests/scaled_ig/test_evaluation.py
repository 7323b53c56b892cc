"""Quality is measured per image, then per scene, then over scenes."""

import pytest
import torch

from data_modules.base import MultiViewDataModule
from data_modules.shapenet import ShapeNetCars
from scaled_ig.evaluation import evaluate, over_scenes, per_scene
from scaled_ig.metrics import psnr, to_unit_range


@pytest.fixture
def data(tiny_pack) -> MultiViewDataModule:
    return ShapeNetCars(str(tiny_pack), stage1_scenes=4, batch_size=4)


def test_numbers_do_not_depend_on_the_batches(tiny_scene, data):
    scene = tiny_scene()
    scene.measure_background()
    keys = [(0, 1), (2, 5), (0, 0), (3, 9), (2, 2)]
    results = [evaluate(scene, data.batches(1, keys, size)) for size in (1, 2, 5)]
    for records in results:
        assert [(record["scene"], record["view"]) for record in records] == keys
        for record, other in zip(records, results[0], strict=True):
            assert record.pop("lpips", None) is None
            assert record == pytest.approx({name: other[name] for name in record}, rel=1e-4)


@torch.no_grad()
def test_the_upper_bound_is_the_autoencoders(tiny_scene, data):
    scene = tiny_scene()
    (batch,) = data.batches(1, [(1, 4)])
    (record,) = evaluate(scene, [batch])
    target = to_unit_range(batch.pixels)
    reconstruction = scene.autoencoder.decode(scene.autoencoder.encode(batch.pixels))
    assert record["autoencoder_psnr"] == pytest.approx(float(psnr(to_unit_range(reconstruction), target)), abs=1e-3)
    rendered = to_unit_range(scene.render_image(batch.cameras, batch.scene_index))
    assert record["psnr"] == pytest.approx(float(psnr(rendered, target)), abs=1e-3)
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
    assert over_scenes(scenes) == {"num_scenes": 2, "num_views": 4, "psnr": 15.0, "lpips": None}
    assert per_scene([]) == []
    assert over_scenes([]) == {"num_scenes": 0, "num_views": 0}
