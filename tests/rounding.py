"""How far apart two float32 runs may be that add the same numbers in another order: on more ranks, or after a restart.

Whatever the processor, a sum of N terms in another order differs by less than N 2⁻²⁴ of its terms' total. A weight's
gradient has at most 4,096 terms here (pixels of four views), hence ROUNDING. The error grows as the root of N, 64 times
less; what is left is for terms that cancel and for the layers that a gradient has passed. Adam's moments are sums of
gradients, so they are equal to ROUNDING of the largest of their tensor.

Adam moves a weight by rate m / (√v + ε). Where √v is less than a gradient's rounding and ε less still, it is rounding
alone that decides where to. The tiny run has ε = 0.01 instead, as large as the largest gradients: no step is then
farther off, in parts of the largest step of its tensor, than a few times its gradient is. So weights are equal to
ROUNDING of the way that their tensor has gone, and to STORED of themselves, for every step ends with a rounding.

A fault is far beyond that: one step of twelve that a rank leaves out is a twelfth of the way, and a gradient divided
once more by two ranks is half a moment; as ε is no less than the gradients, it is also another way.
"""

from pathlib import Path

import torch
from torch import Tensor

from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.cameras import orbit

PHASES = ("autoencoder", "warm_up", "joint", "latent_supervision", "rgb_alignment")
EPSILON = 0.01
ROUNDING = 4096 * 2.0**-24
STORED = 128 * 2.0**-24  # no test takes more steps
FARTHEST = 12 * 0.01  # way of a phase: its steps times the largest rate
MEASURED = ("background", "centre", "half_range")  # means and ranges of many latents, not trained
DECIBELS = 1e-3  # an error of 0.1 of which pixels know their part to 1e-5: 20 / ln 10 times as much
SMALLEST = torch.finfo(torch.float32).tiny  # squares of small gradients are smaller


def checkpoint(run: Path, phase: str, name: str = "final") -> dict:
    return torch.load(run / "checkpoints" / phase / f"{name}.ckpt", weights_only=True)


def assert_near(ours: dict[str, Tensor], theirs: dict[str, Tensor], where: str, scale: dict | None = None) -> None:
    """Two dictionaries hold the same, to ROUNDING of what ``scale`` says of each; of the longest way without it."""
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        size = len(PHASES) * FARTHEST if scale is None else scale[name]
        bound = {"rtol": STORED, "atol": ROUNDING * size + SMALLEST}
        torch.testing.assert_close(theirs[name], value, **bound, msg=lambda m, n=name: f"{where} {n}: {m}")


def largest(value: Tensor) -> float:
    return float(value.abs().max()) if value.numel() else 0.0


def assert_same_run(run: Path, other: Path, phases: tuple[str, ...] = PHASES) -> None:
    """Weights, Adam's moments and rendered views of two finished runs."""
    assert_same_training(run, other, phases)
    assert_same_scenes(run, other)


def assert_same_training(run: Path, other: Path, phases: tuple[str, ...] = PHASES) -> None:
    """Weights and Adam's moments after each phase."""
    way: dict[str, float] = {}
    before: dict[str, Tensor] = {}
    for phase in phases:
        one, several = checkpoint(run, phase), checkpoint(other, phase)
        assert one.keys() == several.keys()
        assert one["global_step"] == several["global_step"] > 0
        assert one["scaled_ig"] == several["scaled_ig"]
        for name, value in one["state_dict"].items():
            # Where a row began is not kept for the first phase, nor for new scenes.
            gone = min(largest(value - before[name]), FARTHEST) if name in before else FARTHEST
            way[name] = largest(value) if name.endswith(MEASURED) else way.get(name, 0.0) + gone
        before = one["state_dict"]
        assert_near(before, several["state_dict"], phase, way)
        assert_same_moments(one, several["optimizer_states"][0]["state"], phase)


def assert_same_moments(whole: dict, theirs: dict, where: str) -> None:
    """Adam's state in a checkpoint, and another one."""
    states = whole["optimizer_states"][0]["state"]
    assert states.keys() == theirs.keys()
    for key, state in states.items():
        scale = {name: largest(value) for name, value in state.items()}
        assert_near(state, theirs[key], f"{where}, optimiser's state {key}", scale)


def assert_same_scenes(run: Path, other: Path) -> None:
    """Both banks hold the same scenes and versions, and show the same."""
    ours, theirs = (SceneBank.open(folder / "bank") for folder in (run, other))
    assert ours.ids == theirs.ids
    for version in ours.versions:
        own, wanted = (bank.load_version(version).state_dict() for bank in (ours, theirs))
        assert_near(own, wanted, version)
    for name in ours.ids:
        assert (ours[name].render(orbit(2)) - theirs[name].render(orbit(2))).abs().max() < 1e-3, "a quarter of a byte"
