"""Micro-Macro planes against their equation."""

import pytest
import torch

from scaled_ig.representations import MicroMacro
from scaled_ig.representations.occupancy import HULL_RESOLUTION, pack
from scaled_ig.representations.scene_table import HullTable


def made(**options) -> MicroMacro:
    options = {"micro_channels": 2, "macro_channels": 3, "num_bases": 4, "plane_resolution": 5} | options
    representation = MicroMacro(**options)
    representation.new_scenes(6, seed=1)
    return representation


@torch.no_grad()
def test_planes_are_micro_beside_a_mixture_of_bases():
    representation = made()
    planes = representation.planes(torch.tensor([4, 0]))
    assert planes.shape == (2, 3, 5, 5, 5)
    for number, scene in enumerate((4, 0)):
        macro = torch.zeros(3, 5, 5, 3)
        for k in range(4):
            macro += representation.mixing.weight[scene, k] * representation.bases[k]
        torch.testing.assert_close(planes[number], torch.cat([representation.micro.weight[scene], macro], -1))


def test_micro_alone_and_macro_alone():
    micro, macro = made(macro_channels=0), made(micro_channels=0)
    assert torch.equal(micro.planes(torch.tensor([3])), micro.micro.weight[[3]])
    assert (micro.feature_channels, macro.feature_channels) == (2, 3)
    assert (set(micro.scene_tables()), set(macro.scene_tables())) == ({"micro"}, {"mixing"})
    assert (set(micro.shared_parameters()), set(macro.shared_parameters())) == (set(), {"bases"})
    expected = torch.einsum("m,mpijf->pijf", macro.mixing.weight[3], macro.bases)
    torch.testing.assert_close(macro.planes(torch.tensor([3]))[0], expected)
    with pytest.raises(ValueError, match="both 0"):
        made(micro_channels=0, macro_channels=0)


def test_every_parameter_has_one_role():
    representation = made()
    scene = {id(table.weight) for table in representation.scene_tables().values()}
    shared = {id(parameter) for parameter in representation.shared_parameters().values()}
    assert scene | shared == {id(parameter) for parameter in representation.parameters()}
    assert not scene & shared


def test_features_scale_with_the_extent():
    representation, wide = made(extent=0.5), made(extent=1.0)
    where = 0.4 * torch.randn(1, 30, 3)
    torch.testing.assert_close(representation(torch.tensor([2]), where), wide(torch.tensor([2]), 2 * where))


@torch.no_grad()
def test_the_start_has_the_spread_that_was_asked_for():
    representation = MicroMacro(4, 4, num_bases=30, plane_resolution=16, plane_std=0.1, mixing_std=0.316)
    representation.new_scenes(40)
    assert float(representation.micro.weight.std()) == pytest.approx(0.1, rel=0.02)
    assert float(representation.bases.std()) == pytest.approx(0.1, rel=0.02)
    assert float(representation.mixing.weight.std()) == pytest.approx(0.316, rel=0.1)
    assert not torch.equal(representation.micro.weight[0], representation.micro.weight[1])


def test_gradients_reach_all_three_parts():
    representation = made()
    representation(torch.tensor([1, 1, 3]), torch.rand(3, 4, 3) - 0.5).square().sum().backward()
    for table in representation.scene_tables().values():
        assert table.weight.grad.coalesce().indices()[0].tolist() == [1, 3]
    assert representation.bases.grad.abs().sum() > 0


def test_new_scenes_start_at_the_mean_of_the_old_ones_and_leave_the_bases():
    representation = made()
    bases = representation.bases.detach().clone()
    means = {name: table.weight.detach().mean(0) for name, table in representation.scene_tables().items()}
    representation.new_scenes(9, start=representation.mean_scene())
    assert representation.num_scenes == 9
    assert torch.equal(representation.bases, bases)
    for name, table in representation.scene_tables().items():
        torch.testing.assert_close(table.weight.detach(), means[name].expand_as(table.weight))


def test_texels_outside_hulls_are_neither_mixed_nor_kept_from_before():
    representation = MicroMacro(2, 3, num_bases=4, plane_resolution=16, extent=0.5)
    representation.new_scenes(3)
    assert representation.texel_masks() is None  # without hulls
    representation.hull = HullTable(HULL_RESOLUTION)
    representation.hull.new_scenes(3, 0)
    index = torch.tensor([2, 0])
    whole = representation.planes(index)
    assert bool(representation.texel_masks().all())
    cells = torch.zeros(HULL_RESOLUTION, HULL_RESOLUTION, HULL_RESOLUTION, dtype=torch.bool)
    cells[20:30, 10:20, 40:50] = True
    representation.hull.weight[2] = pack(cells)
    masks = representation.texel_masks()
    torch.testing.assert_close(representation.planes(index), whole * masks[index][..., None])
    assert 0 < float(masks[2].float().mean()) < 0.1
    representation.new_scenes(2, seed=1)
    assert bool(representation.texel_masks().all()), "masks of scenes that are gone"
