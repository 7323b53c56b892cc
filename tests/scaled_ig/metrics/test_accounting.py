"""Break-even by trying every N; what is spent once, shared out."""

import pytest

from scaled_ig.metrics.accounting import Growth


@pytest.mark.parametrize("once", [0, 7, 30, 100])
@pytest.mark.parametrize("each", [1, 3, 4])
@pytest.mark.parametrize("first", [0, 3, 12])
@pytest.mark.parametrize("other", [Growth(0, 3), Growth(20, 3, 5), Growth(5, 1, 1)])
def test_break_even_is_the_first_scene_from_which_on_nothing_else_is_cheaper(once, each, first, other):
    ours = Growth(once, each, first)
    start = max(first, other.first)
    cheaper = [ours.at(scenes) <= other.at(scenes) for scenes in range(start, 1000)]
    found = None
    if cheaper[-1]:
        found = start + len(cheaper) - next((n for n, value in enumerate(cheaper[::-1]) if not value), len(cheaper))
    assert ours.break_even(other) == found


def test_what_is_spent_once_is_shared_out():
    growth = Growth(once=600, each=2, first=10)
    assert growth.effective(30) == 600 / 30 + 2
    assert growth.at(10) == 600
    assert 30 * growth.effective(30) == growth.at(40)
    with pytest.raises(ValueError, match="first 10"):
        growth.at(9)
