"""Banks of three kinds, whose scenes nobody has trained."""

from pathlib import Path

import torch

from scaled_ig.autoencoders import IdentityAutoencoder, SmallAutoencoder
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.bank.table import Origin
from scaled_ig.rendering.sampling import FullRay, InsideBall, InsideHull, SamplingPlan
from scaled_ig.representations import MicroMacro, SceneRepresentation, TriPlanes
from scaled_ig.scene_model import SceneModel
from tests.conftest import ball_hulls

IDS = ["cars/b", "a, 'c'", "ä"]
ORIGINS = [Origin("car", "CC0-1.0"), Origin("car", "CC0-1.0"), Origin("face", "")]
KINDS = ("latents", "hulls", "heads")


def write_bank(folder: Path, kind: str) -> SceneBank:
    """Micro-Macro planes in latents; RGB planes in hulls; RGB planes with a head of each scene."""
    torch.manual_seed(0)
    parts: tuple[SceneRepresentation, IdentityAutoencoder | SmallAutoencoder, SamplingPlan] = {
        "latents": (MicroMacro(3, 2, 4, 8), SmallAutoencoder(4, 5, 16, 1), FullRay(64, 0)),
        "hulls": (TriPlanes(4, 16, 0.5), IdentityAutoencoder(), InsideHull(256)),
        "heads": (TriPlanes(4, 8, 0.7, "xy-xz-zx"), IdentityAutoencoder(), InsideBall(64)),
    }[kind]
    model = SceneModel(*parts, resolution=16, own_heads=kind == "heads")
    model.representation.new_scenes(len(IDS), seed=3)
    with torch.no_grad():
        model.background.uniform_(-0.5, 0.9)
        if model.representation.hull is not None:
            model.representation.hull.weight.copy_(ball_hulls(len(IDS)))
        if model.representation.head is not None:
            weight = model.representation.head.weight
            weight += 0.3 * torch.randn(weight.shape)
    return SceneBank.write(folder, model, IDS, "stage2", [f"views-{name}" for name in IDS], origins=ORIGINS)
