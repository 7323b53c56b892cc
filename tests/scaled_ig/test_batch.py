"""A batch says what it expected."""

import pytest
import torch

from scaled_ig.batch import ViewBatch
from scaled_ig.cameras import orbit


def batch(**changes) -> ViewBatch:
    parts = {"cameras": orbit(2), "scene_index": torch.tensor([0, 1]), "view_index": torch.tensor([3, 4])}
    return ViewBatch(**(parts | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scene_index": torch.zeros(3, dtype=torch.long)}, r"scene_index must be \[2\] integers, got \[3\]"),
        ({"view_index": torch.zeros(2)}, r"view_index must be \[2\] integers, got \[2\] torch.float32"),
        ({"images": torch.zeros(2, 3, 4, 4)}, r"images must be \[2, 3, H, W\] uint8"),
        ({"images": torch.zeros(2, 4, 4, 3, dtype=torch.uint8)}, r"got \[2, 4, 4, 3\]"),
        ({"images": torch.zeros(3, 4, 4, dtype=torch.uint8)}, r"got \[3, 4, 4\]"),
        ({"masks": torch.zeros(2, 1, 4, 4, dtype=torch.uint8)}, r"masks must be \[2, H, W\] uint8, got \[2, 1, 4, 4\]"),
        ({"masks": torch.zeros(3, 4, 4, dtype=torch.uint8)}, r"masks must be \[2, H, W\] uint8"),
        ({"masks": torch.zeros(2, 4, 4)}, r"masks must be \[2, H, W\] uint8, got \[2, 4, 4\] torch.float32"),
        ({"masks": torch.zeros(2, 4, 4, dtype=torch.uint8)}, r"masked must be \[2\] bool beside masks, got None"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        batch(**changes)


def test_pixels_span_the_range_and_leave_the_images_as_they_were():
    images = torch.arange(256, dtype=torch.uint8).repeat(6).view(2, 3, 16, 16)
    given = batch(images=images.clone())
    torch.testing.assert_close(given.pixels, images.double().mul(2 / 255).sub(1).float())
    assert torch.equal(given.images, images)


@pytest.mark.parametrize("channels_last", [True, False])
def test_some_pixels_are_those_of_the_whole(channels_last):
    images = torch.randint(256, (2, 4, 5, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    given = batch(images=images if channels_last else images.contiguous())
    places = torch.tensor([[0, 19, 7], [4, 5, 19]])
    expected = torch.stack([whole.flatten(1)[:, own].T for whole, own in zip(given.pixels, places, strict=True)])
    assert torch.equal(given.pixels_at(places), expected)


def test_a_batch_without_images_says_who_must_ask_for_them():
    with pytest.raises(ValueError, match="needs_images"):
        _ = batch().pixels


def test_moving_a_batch_keeps_all_its_parts():
    masks, masked = torch.zeros(2, 4, 4, dtype=torch.uint8), torch.tensor([True, False])
    whole = batch(images=torch.zeros(2, 3, 4, 4, dtype=torch.uint8), masks=masks, masked=masked)
    moved = whole.to("meta")
    parts = moved.images, moved.masks, moved.masked, moved.scene_index, moved.view_index, moved.cameras.camera_to_world
    assert {part.device.type for part in parts} == {"meta"}
    assert batch().to("meta").images is None
    some = whole[torch.tensor([False, True])]
    assert some.masks.shape == (1, 4, 4)
    assert some.masked.tolist() == [False]
