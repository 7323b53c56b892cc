"""Phases keep what they do to a scene, however many scenes they train."""

import pytest

from scaled_ig.runs.plan import PhaseConfig, Waves, for_scenes


def phase(batch_size: int, views_per_scene: int, **length) -> PhaseConfig:
    return PhaseConfig(None, batch_size=batch_size, views_per_scene=views_per_scene, **length)


@pytest.mark.parametrize("views_per_scene", [1, 2])
@pytest.mark.parametrize("batch_size", [4, 16, 32])
@pytest.mark.parametrize("meant_for", [4, 16, 1500])
@pytest.mark.parametrize("num_scenes", [1, 3, 8, 16, 500])
def test_a_scene_is_seen_as_often(num_scenes, meant_for, batch_size, views_per_scene):
    given = phase(batch_size, views_per_scene, max_steps=1000)
    scaled = for_scenes(given, num_scenes, meant_for)
    seen, asked = scaled.max_steps * scaled.batch_size / num_scenes, 1000 * batch_size / meant_for
    assert asked <= seen <= asked + scaled.batch_size / num_scenes, "to the last, unfinished step"
    assert scaled.batch_size % views_per_scene == 0
    in_a_step = max(views_per_scene, batch_size / meant_for)
    assert scaled.batch_size <= num_scenes * in_a_step or scaled.batch_size % (2 * views_per_scene)


def test_all_scenes_are_trained_as_asked():
    for length in ({"max_steps": 77}, {"max_epochs": 5}):
        assert for_scenes(phase(16, 2, **length), 24, 24) == phase(16, 2, **length)
    assert for_scenes(phase(16, 2, max_epochs=5), 12, 24).max_epochs == 5


@pytest.mark.parametrize(("num_scenes", "size"), [(10, 3), (9, 3), (1, 3), (3, 3), (100, 7)])
def test_waves_are_even_and_no_larger_than_asked(num_scenes, size):
    ranges = Waves(scenes=size).ranges(num_scenes)
    assert [scene for wave in ranges for scene in wave] == list(range(num_scenes))
    lengths = [len(wave) for wave in ranges]
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1
    assert Waves().ranges(num_scenes) == [range(num_scenes)]
