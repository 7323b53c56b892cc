"""What a scene of a bank shows beside its image, and at other sizes: a ball in closed form."""

import pytest
import torch

from scaled_ig.bank.scene import OUTPUTS
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.cameras import focal_of, orbit
from scaled_ig.errors import UsageError
from tests.balls import COLOUR, RADIUS, ball_model, first_hits
from tests.scaled_ig.bank.test_scene_bank import IDS


@pytest.fixture
def ball(tmp_path):
    return SceneBank.write(tmp_path / "ball", ball_model(), ["ball"], "stage2", [""])["ball"]


def degrees_between(vectors: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Angles [B, 1, H, W] between unit vectors [B, 3, H, W]."""
    return torch.rad2deg((vectors * others).sum(1, keepdim=True).clamp(-1, 1).acos())


def test_depth_opacity_and_normals_are_those_of_a_ball(ball):
    cameras = orbit(3)
    outputs = ball.render(cameras, outputs=OUTPUTS)
    depth, normals, distance = first_hits(cameras, (32, 32))
    inside, outside = distance < 0.9 * RADIUS, distance > 1.1 * RADIUS
    assert (outputs["opacity"][inside] > 0.999).all()
    assert (outputs["opacity"][outside] < 1e-4).all()
    assert not outputs["depth"][outside].any()
    off = (outputs["depth"] - depth)[inside]
    assert off.abs().max() < 0.03  # it hardens over a hundredth of a unit, more along slanted rays
    assert off.mean().abs() < 0.015
    assert degrees_between(outputs["normals"], normals)[inside].mean() < 1.5
    assert degrees_between(outputs["normals"], normals)[inside].max() < 6
    torch.testing.assert_close(outputs["normals"].norm(dim=1, keepdim=True)[inside], torch.ones(int(inside.sum())))
    assert not outputs["normals"][outside.expand_as(normals)].any()
    red = outputs["image"].movedim(1, -1)[inside[:, 0]]
    torch.testing.assert_close(red, torch.tensor(COLOUR).expand_as(red), atol=2e-3, rtol=0)


def test_densities_are_those_of_the_field(ball):
    points = torch.tensor([[0.0, 0, 0], [RADIUS - 0.02, 0, 0], [0, 0, RADIUS + 0.02], [0.2, -0.2, 0.2]])
    raw = 3e4 * (RADIUS**2 - points.square().sum(1))
    expected = torch.nn.functional.softplus(raw - 1)
    overestimated = 3e4 * 3 / 32**2 / 4  # by features that are linear between texels, at most
    torch.testing.assert_close(ball.densities(points), expected, rtol=0, atol=overestimated)


def test_one_name_is_a_tensor_and_several_are_a_dictionary(ball):
    cameras = orbit(2)
    all_of_them = ball.render(cameras, outputs=list(OUTPUTS))
    assert list(all_of_them) == list(OUTPUTS)
    for name in OUTPUTS:
        assert torch.equal(ball.render(cameras, outputs=name), all_of_them[name])
        assert all_of_them[name].shape == (2, 1 if name in ("depth", "opacity") else 3, 32, 32)
    with pytest.raises(UsageError, match=r"outputs 'depht' is not rendered: did you mean depth\?"):
        ball.render(cameras, outputs=("image", "depht"))


@pytest.mark.parametrize("rgb", [True, False])
@pytest.mark.parametrize("resolution", [48, (16, 40)])
def test_another_resolution_is_that_of_a_model_that_has_it(tiny_scene, tmp_path, rgb, resolution):
    bank = SceneBank.write(tmp_path / "bank", tiny_scene(rgb=rgb), IDS, "stage1", [""] * 4)
    other = bank.load_version("stage1").at(resolution)
    cameras = orbit(3, focal=focal_of(other.image_size))
    expected = other.render_image(cameras, torch.full((3,), 2)) * 0.5 + 0.5
    rendered = bank["c"].render(cameras, resolution, outputs=("image", "depth"))
    assert torch.equal(rendered["image"], expected.clamp(0, 1))
    assert torch.equal(bank["c"].render(cameras, resolution), rendered["image"])
    assert rendered["depth"].shape == (3, 1, *other.image_size)
    assert bank["c"].model.image_size == (32, 32), "the scene's own resolution stays"


def test_an_impossible_resolution_is_one_sentence(tiny_scene, tmp_path):
    bank = SceneBank.write(tmp_path / "bank", tiny_scene(), IDS, "stage1", [""] * 4)
    with pytest.raises(UsageError, match="resolution 30 is no multiple of the autoencoder's 4: give 32"):
        bank["a"].render(orbit(1), 30)
    with pytest.raises(UsageError, match="resolution 0 must be positive"):
        bank["a"].render(orbit(1), resolution=0)


def test_many_views_are_rendered_a_few_at_a_time(ball, monkeypatch):
    cameras = orbit(5)
    whole = ball.render(cameras, outputs=OUTPUTS)
    monkeypatch.setattr("scaled_ig.bank.scene.PIXELS_AT_ONCE", 2 * 32 * 32)
    parts = ball.render(cameras, outputs=OUTPUTS)
    for name in OUTPUTS:
        torch.testing.assert_close(parts[name], whole[name])


def test_a_blend_of_two_scenes_is_a_scene(tiny_scene, tmp_path):
    model = tiny_scene()
    bank = SceneBank.write(tmp_path / "bank", model, IDS, "stage1", [""] * 4)
    first, second = bank["a"], bank["b"]
    micro = 0.5 * (first.rows["micro"] + second.rows["micro"])
    blend = first.with_rows({"micro": micro})
    for rows in ({"nothing": micro}, {"micro": micro[..., :-1]}):
        with pytest.raises(UsageError, match=f"scene '{first.id}' has no row"):
            first.with_rows(rows)
    with torch.no_grad():
        model.representation.micro.weight[0] = micro
    expected = model.render_image(orbit(1), torch.tensor([0])) * 0.5 + 0.5
    assert torch.equal(blend.render(orbit(1)), expected.clamp(0, 1).detach())
    assert not torch.equal(first.render(orbit(1)), blend.render(orbit(1)))


def test_cameras_of_another_type_will_do(ball):
    cameras = orbit(1)
    assert torch.equal(ball.render(cameras.to(torch.float64)), ball.render(cameras))
