"""A scene in closed form: a hollow ball that is open nowhere, whose colour goes with the place, and a speck."""

import torch
from torch import Tensor

from scaled_ig.autoencoders import IdentityAutoencoder
from scaled_ig.bank.scene import BankScene
from scaled_ig.bank.table import BankRecord
from scaled_ig.rendering.field_head import FieldHead
from scaled_ig.rendering.sampling import InsideBall
from scaled_ig.representations.base import SceneRepresentation
from scaled_ig.representations.scene_table import SceneTable
from scaled_ig.scene_model import SceneModel

CENTRE, RADIUS, WALL = torch.tensor([0.05, -0.08, 0.1]), 0.3, 0.08
SPECK, SPECK_RADIUS = torch.tensor([-0.3, 0.25, -0.2]), 0.03
DENSITY, SOFTNESS = 400.0, 0.002


def colour(points: Tensor) -> Tensor:
    """[..., 3] in [0, 1] at points [..., 3]."""
    return 0.5 + 0.8 * (points - CENTRE)


def density(points: Tensor) -> Tensor:
    """[...] at points [..., 3]: the wall of the ball, and the speck."""
    from_centre = (points - CENTRE).norm(dim=-1)
    depth = torch.minimum(RADIUS - from_centre, from_centre - (RADIUS - WALL))
    depth = torch.maximum(depth, SPECK_RADIUS - (points - SPECK).norm(dim=-1))
    return DENSITY * torch.sigmoid(depth / SOFTNESS)


class Formula(SceneRepresentation):
    """Its features are what the head returns."""

    feature_channels = 4

    def __init__(self) -> None:
        super().__init__()
        self.table = SceneTable((1,), 0.0)

    def own_tables(self):
        return {"table": self.table}

    def forward(self, scene_index: Tensor, positions: Tensor) -> Tensor:
        wanted = density(positions).clamp(1e-4, 1e4).double()
        raw = 1 + wanted + torch.log(-torch.expm1(-wanted))  # softplus of raw - 1 is what is wanted
        return torch.cat([raw.float()[..., None], colour(positions)], -1)


class Passing(FieldHead):
    """A head that changes nothing."""

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return features[..., 0], features[..., 1:]


def ball_scene(resolution: int = 64, num_samples: int = 96) -> BankScene:
    """The scene, as a bank would hand it out."""
    model = SceneModel(Formula(), IdentityAutoencoder(), InsideBall(num_samples), resolution=resolution)
    model.representation.new_scenes(1, seed=0)
    model.renderer.head = Passing(4, 3)
    record = BankRecord("ball", "stage1", "00000001-00000.bin", 0, 1, "", "", "ball", "CC0-1.0")
    return BankScene(record, model.requires_grad_(False))
