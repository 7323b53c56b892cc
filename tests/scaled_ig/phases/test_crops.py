"""Parts of views are what whole views show there, at the object, and their rays are those of the whole image."""

import pytest
import torch

from scaled_ig.autoencoders import SmallAutoencoder
from scaled_ig.batch import ViewBatch
from scaled_ig.cameras import orbit
from scaled_ig.errors import UsageError
from scaled_ig.phases.crops import MARGIN, Crops
from scaled_ig.randomness import CounterNoise
from scaled_ig.rendering.sampling import InsideBall
from scaled_ig.representations import TriPlanes
from scaled_ig.scene_model import SceneModel

HEIGHT, WIDTH, SIZE = 48, 64, 24
VIEWS = 40


@pytest.fixture(scope="module")
def scene() -> SceneModel:
    autoencoder = SmallAutoencoder(2, 4, width=8, blocks=1, network_patch_size=4)
    return SceneModel(TriPlanes(4, 8, 0.5), autoencoder, InsideBall(8), resolution=(HEIGHT, WIDTH))


def views(box: tuple[int, int, int, int], masked: bool = True) -> ViewBatch:
    """Views whose pixels tell where they are, of an object in rows and columns of a box."""
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    images = torch.stack([rows, columns, rows + columns]).to(torch.uint8).expand(VIEWS, 3, -1, -1)
    masks = torch.zeros(VIEWS, HEIGHT, WIDTH, dtype=torch.uint8)
    top, bottom, left, right = box
    masks[:, top:bottom, left:right] = 255 if masked else 0
    index = torch.arange(VIEWS)
    return ViewBatch(orbit(VIEWS), index, index, images, masks, torch.full((VIEWS,), masked))


def cropped(scene: SceneModel, batch: ViewBatch, step: int = 0) -> tuple[SceneModel, ViewBatch]:
    return Crops(SIZE, scene)(scene, batch, CounterNoise(0, 2, step))


def starts(batch: ViewBatch) -> torch.Tensor:
    """First row and column of each part, [B, 2], as its first pixel tells."""
    assert batch.images is not None
    return batch.images[:, :2, 0, 0].long()


def test_rays_and_pixels_are_those_of_the_whole_view(scene):
    batch = views((10, 30, 20, 50))
    model, part = cropped(scene, batch)
    assert model.image_size == (SIZE, SIZE)
    assert part.images.shape == (VIEWS, 3, SIZE, SIZE)
    whole = batch.cameras.rays((HEIGHT, WIDTH)).directions.unflatten(1, (HEIGHT, WIDTH))
    rays = part.cameras.rays(SIZE).directions.unflatten(1, (SIZE, SIZE))
    for view, (row, column) in enumerate(starts(part).tolist()):
        place = view, ..., slice(row, row + SIZE), slice(column, column + SIZE)
        assert torch.equal(part.images[view], batch.images[place])
        assert torch.equal(part.masks[view], batch.masks[place])
        torch.testing.assert_close(rays[view], whole[view, row : row + SIZE, column : column + SIZE])


@pytest.mark.parametrize("box", [(20, 30, 30, 45), (0, 6, 58, 64), (2, 46, 5, 60)], ids=["small", "corner", "large"])
def test_a_part_holds_the_object_or_lies_within_it(scene, box):
    top, bottom, left, right = box
    _, part = cropped(scene, views(box))
    for first, (low, high), length in zip(starts(part).T, [(top, bottom), (left, right)], (HEIGHT, WIDTH), strict=True):
        low, high = max(low - MARGIN, 0), min(high + MARGIN, length)
        if high - low <= SIZE:
            assert ((first <= low) & (first + SIZE >= high)).all(), "all of the object is seen"
        else:
            assert ((first >= low) & (first + SIZE <= high)).all(), "nothing but the object is seen"


def test_parts_begin_anywhere_and_elsewhere_in_every_step(scene):
    batch = views((2, 46, 5, 60))
    first, second = (starts(cropped(scene, batch, step)[1]) for step in (0, 1))
    assert not torch.equal(first, second)
    assert set((first % 4).flatten().tolist()) == {0, 1, 2, 3}, "at any place of a latent's grid"
    assert torch.equal(first, starts(cropped(scene, batch, 0)[1])), "a step can be repeated"


def test_views_without_masks_are_cut_anywhere(scene):
    _, part = cropped(scene, views((0, 0, 0, 0), masked=False))
    first = starts(part)
    assert first.amin() >= 0
    assert first[:, 0].amax() - first[:, 0].amin() > (HEIGHT - SIZE) / 2
    assert first[:, 1].amax() - first[:, 1].amin() > (WIDTH - SIZE) / 2


def test_whole_views_where_no_part_is_asked_for_or_it_has_no_room(scene):
    batch = views((10, 30, 20, 50))
    for size in (None, HEIGHT, 1000):
        assert Crops(size, scene)(scene, batch, CounterNoise(0, 2, 0)) == (scene, batch)


def test_a_size_that_the_autoencoder_has_no_latents_of_is_refused(scene):
    with pytest.raises(UsageError, match="crop_size 22 is no multiple of the autoencoder's 4: give 20"):
        Crops(22, scene)
