"""When a scene counts as learned."""

import copy
from types import SimpleNamespace

import pytest

from scaled_ig.callbacks import Plateau, PlateauStop
from scaled_ig.errors import UsageError


def follow(epochs: list[list[float]], **settings) -> tuple[list[list[bool]], list[bool]]:
    """Which scenes are learned after each epoch, whose measurements are given, and whether the phase then stops."""
    representation = SimpleNamespace(num_scenes=len(epochs[0]))
    phase = SimpleNamespace(scene=SimpleNamespace(representation=representation), device="cpu", watches="psnr")
    trainer, evaluation = SimpleNamespace(should_stop=False, global_step=0), SimpleNamespace()
    stop = PlateauStop(Plateau(**settings), evaluation)
    stop.on_train_start(trainer, phase)
    learned, stops = [], []
    for measured in epochs:
        records = [{"scene": scene, "psnr": value} for scene, value in enumerate(measured)]
        evaluation.measure_watched = lambda trainer, phase, records=records: records
        stop.on_train_epoch_end(trainer, phase)
        learned.append(phase.learned.tolist())
        stops.append(trainer.should_stop)
        again = PlateauStop(Plateau(**settings), evaluation)  # as after a resume
        again.load_state_dict(copy.deepcopy(stop.state_dict()))
        again.on_train_start(trainer, phase)
        stop = again
    return learned, stops


def test_scenes_are_learned_one_by_one():
    rows = [[20.0, 20.0], [21.0, 20.05], [22.0, 20.09], [22.05, 20.3], [22.0, 20.3]]
    learned, stops = follow(rows, min_gain_decibels=0.1, patience=2)
    assert learned == [[False, False], [False, False], [False, True], [False, True], [True, True]]
    assert stops == [False, False, False, False, True]


def test_slow_gains_add_up():
    """A gain counts from the best so far, not from the last time, so that noise cannot keep a scene."""
    learned, _ = follow([[20.0], [19.0], [19.5], [20.0]], min_gain_decibels=0.1, patience=3)
    assert [scene for (scene,) in learned] == [False, False, False, True]
    learned, _ = follow([[20.0], [20.06], [20.12], [20.18]], min_gain_decibels=0.1, patience=3)
    assert not any(scene for (scene,) in learned)


@pytest.mark.parametrize("settings", [{"patience": 0}, {"min_gain_decibels": -0.1}])
def test_settings_that_would_train_nothing_or_for_ever_are_refused(settings):
    with pytest.raises(UsageError, match=r"^Plateau\.\w+ \S+ must be "):
        Plateau(**settings)
