"""The map from what views tell to planes: exact where planes are linear in it, the same in any order of scenes."""

import pytest
import torch

from scaled_ig.representations.micro_macro import MicroMacro
from scaled_ig.representations.triplanes import TriPlanes
from scaled_ig.representations.view_features import rounded
from scaled_ig.representations.view_start import ViewRegression, ViewStart

K, D, F = 6, 5, 4


@pytest.fixture
def scenes():
    """Features, planes that are linear in them beside an offset of each texel, and texels that are read; 12 scenes."""
    generator = torch.Generator().manual_seed(0)
    weight, offset = torch.randn(3, D, F, generator=generator), torch.randn(3, K, K, F, generator=generator)
    truth = ViewStart(rounded(weight).float(), rounded(offset).float())
    features = rounded(torch.randn(12, 3, K, K, D, generator=generator))
    planes = torch.stack([truth.planes(part) for part in features])
    texels = torch.rand(12, 3, K, K, generator=generator) < 0.7
    planes[~texels] = 1e3 * torch.randn(int((~texels).sum()), F, generator=generator)  # nobody reads them
    return truth, list(zip(features, planes, texels, strict=True))


def regression(scenes) -> ViewRegression:
    fitted = ViewRegression(K, D, F)
    for scene in scenes:
        fitted.add(*scene)
    return fitted


def test_planes_that_are_linear_are_started_exactly(scenes):
    truth, everything = scenes
    start = regression(everything).solve(ridge=0.0)
    features = rounded(torch.randn(3, K, K, D))
    torch.testing.assert_close(start.planes(features), truth.planes(features), atol=5e-3, rtol=0)


def test_few_scenes_and_much_ridge_stay_at_the_mean(scenes):
    _, everything = scenes
    start = regression(everything).solve(ridge=1e9)
    read = torch.stack([texels for _, _, texels in everything])[..., None]
    mean = (torch.stack([planes for _, planes, _ in everything]) * read).sum(0) / read.sum(0)
    torch.testing.assert_close(start.planes(everything[0][0]), mean, atol=1e-3, rtol=0)


def test_a_texel_that_no_scene_reads_has_the_offset_of_all(scenes):
    _, everything = scenes
    blind = [(features, planes, texels & (torch.arange(K) > 0)) for features, planes, texels in everything]
    start = regression(blind).solve(ridge=1e9)
    read = torch.stack([texels for _, _, texels in blind])[..., None]
    mean = (torch.stack([planes for _, planes, _ in blind]) * read).sum((0, 2, 3)) / read.sum((0, 2, 3))
    torch.testing.assert_close(start.offset[:, :, 0], mean[:, None].expand(-1, K, -1), atol=1e-3, rtol=0)


def test_ranks_and_the_order_of_scenes_change_nothing(scenes):
    _, everything = scenes
    alone, first, second = regression(everything), regression(everything[7:]), regression(everything[6::-1])
    theirs = iter(vars(second).values())
    first.sum(lambda value: value + next(theirs))
    for name, value in vars(alone).items():
        assert torch.equal(value, getattr(first, name)), name
    for name, value in vars(alone.solve()).items():
        assert torch.equal(value, getattr(first.solve(), name)), name


def test_features_that_never_change_cost_nothing(scenes):
    _, everything = scenes
    constant = [(features.clone().index_fill_(-1, torch.tensor([0, 3]), 0.5), *rest) for features, *rest in everything]
    start = regression(constant).solve()
    assert start.weight.isfinite().all()
    assert (start.weight[:, [0, 3]] == 0).all()


def test_parts_that_do_not_fit_are_no_start():
    with pytest.raises(ValueError, match="do not fit"):
        ViewStart(torch.zeros(3, D, F), torch.zeros(3, K, K, F + 1))


@torch.no_grad()
@pytest.mark.parametrize(
    "representation",
    [
        TriPlanes(channels=3, plane_resolution=5),
        MicroMacro(micro_channels=2, macro_channels=3, num_bases=4, plane_resolution=5),
        MicroMacro(micro_channels=0, macro_channels=3, num_bases=4, plane_resolution=5),
        MicroMacro(micro_channels=2, macro_channels=0, plane_resolution=5),
    ],
    ids=["TriPlanes", "MicroMacro", "macro", "micro"],
)
def test_rows_of_a_scenes_planes_are_its_own(representation):
    representation.new_scenes(3, seed=1)
    texels = torch.rand(3, 5, 5, generator=torch.Generator().manual_seed(0)) < 0.5
    planes = representation.planes(torch.tensor([1]))[0]
    planes = torch.where(texels[..., None], planes, planes + 7)  # nobody reads them
    rows = representation.rows_of_planes(planes, representation.mean_scene(), texels)
    assert rows.keys() == representation.own_tables().keys()
    for name, row in rows.items():
        theirs = representation.own_tables()[name].weight[1]
        read = texels if theirs.dim() == 4 else ...
        torch.testing.assert_close(row[read], theirs[read], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_mixing_that_bases_do_not_tell_stays_at_the_start():
    representation = MicroMacro(micro_channels=0, macro_channels=2, num_bases=2, plane_resolution=4)
    representation.bases[1] = representation.bases[0]
    start = {"mixing": torch.tensor([1.0, 3.0])}
    planes = 10 * representation.bases[0]
    rows = representation.rows_of_planes(planes, start, torch.ones(3, 4, 4, dtype=torch.bool))
    torch.testing.assert_close(rows["mixing"], torch.tensor([4.0, 6.0]), atol=1e-3, rtol=0)
