"""The papers' figures follow from their constants; break-even by trying every N."""

import pytest

from scaled_ig.metrics.accounting import Growth, saved
from scaled_ig.report import papers


def test_the_papers_own_figures_follow_from_their_constants():
    totals = {"Ours": (papers.MINUTES, papers.MEGABYTES), "Tri-Planes": (papers.RGB_MINUTES, papers.RGB_MEGABYTES)}
    for name, (minutes, megabytes) in totals.items():
        row = papers.TABLE_4[name]
        assert round(minutes.at(2000) / 1000, 2) == row.minutes  # 5.22, 32.04
        assert round(megabytes.at(2000) / 1000, 2) == row.megabytes  # 1.08, 3.00
    assert round(100 * saved(papers.MINUTES.each, papers.RGB_MINUTES.each)) == 86
    assert round(100 * saved(papers.MEGABYTES.each, papers.RGB_MEGABYTES.each)) == 68


def test_the_papers_stage_1_is_worth_117_scenes_and_pays_from_the_first_on():
    assert round(papers.MINUTES.worth(papers.RGB_MINUTES)) == 117
    assert papers.MINUTES.break_even(papers.RGB_MINUTES) == papers.N1


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
