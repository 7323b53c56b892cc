"""When a scene counts as learned."""

from types import SimpleNamespace

import torch

from scaled_ig.callbacks import Plateau, PlateauStop


def follow(measurements: list[list[float]], **settings) -> tuple[list[list[bool]], list[bool]]:
    """Which scenes are learned after each measurement of all scenes, and whether the phase then stops."""
    evaluation = SimpleNamespace(watched=[], watched_at=0)
    trainer = SimpleNamespace(global_step=0, should_stop=False)
    representation = SimpleNamespace(num_scenes=len(measurements[0]))
    phase = SimpleNamespace(scene=SimpleNamespace(representation=representation), device="cpu", watches="psnr")
    stop = PlateauStop(Plateau(**settings), evaluation)
    stop.on_train_start(trainer, phase)
    learned, stops = [], []
    for row in measurements:
        for measured in (True, False):  # a step with a measurement, and one without
            trainer.global_step += 1
            if measured:
                evaluation.watched = [{"scene": scene, "psnr": value} for scene, value in enumerate(row)]
                evaluation.watched_at = trainer.global_step
            stop.on_train_batch_end(trainer, phase, None, None, 0)
        learned.append(phase.learned.tolist())
        stops.append(trainer.should_stop)
        again = PlateauStop(Plateau(**settings), evaluation)  # as after a resume
        again.load_state_dict(torch.utils._pytree.tree_map(torch.clone, stop.state_dict()))
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
