"""What all readers share."""

from data_modules.sources.base import scene_generator


def test_a_scenes_random_numbers_are_its_own():
    assert scene_generator(0, "a").random() == scene_generator(0, "a").random()
    assert len({scene_generator(seed, name).random() for seed in (0, 1) for name in "ab"}) == 4
