"""Row-wise Adam against torch.optim.Adam: on the whole table, and on each scene alone.

The statement, in float64: after 500 steps, with visits 1 to 200 steps apart and farther, a rate that changes in every
step, and gradients of size 1, 1e-4, 1e-8 and of all sizes at once, ``exact_dense`` ends within 1e-9 of dense Adam, and
``per_scene`` within 1e-9 of training each scene alone.
"""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from scaled_ig import native
from scaled_ig.optim import SceneAdam
from scaled_ig.optim.deferred_updates import gauss_rules

STEPS, WIDTH = 500, 6
GAPS = (*range(1, 201), 250, 330, 480)  # scene k is seen every GAPS[k] steps, in its own rhythm
ONCE, NEVER = len(GAPS), len(GAPS) + 1
SCENES = len(GAPS) + 2
SIZES = {"1": 1.0, "1e-4": 1e-4, "1e-8": 1e-8, "mixed": None}


def visits() -> list[list[int]]:
    """Scenes seen in each step; every gap occurs at least once, first visits are spread over the first 100 steps."""
    first = [min(37 * scene % 100, STEPS - 1 - gap) for scene, gap in enumerate(GAPS)]
    seen = [[k for k, gap in enumerate(GAPS) if s >= first[k] and (s - first[k]) % gap == 0] for s in range(STEPS)]
    seen[1].append(ONCE)
    return seen


SEEN = visits()


def gradients(step: int, rows: list[int], size: float | None) -> torch.Tensor:
    """What a row is given depends on row and step alone; ``None`` mixes sizes within a row and changes them in time."""
    parts = [torch.randn(WIDTH, generator=torch.Generator().manual_seed(1000 * step + row)) for row in rows]
    values = torch.stack(parts).double() if parts else torch.zeros(0, WIDTH, dtype=torch.float64)
    if size is not None:
        return size * values
    exponents = torch.tensor([[(step // 90 + row + 4 * column) % 13 for column in range(WIDTH)] for row in rows])
    return values * 10.0 ** -exponents.view(-1, WIDTH).double()


def new_table() -> nn.Parameter:
    return nn.Parameter(torch.randn(SCENES, WIDTH, generator=torch.Generator().manual_seed(0)).double())


def rate(step: int) -> float:
    return 0.01 * (0.3 if step > 150 else 1.0) * 0.999**step


def train(optimizer: SceneAdam, table: nn.Parameter, steps: range, size, seen=SEEN, flush_at=()) -> None:
    for step in steps:
        optimizer.param_groups[0]["lr"] = rate(step)
        if step in flush_at:
            optimizer.flush()
        rows = torch.tensor(seen[step], dtype=torch.long)
        optimizer.catch_up(table, rows)
        if len(rows):
            table.grad = sparse(rows, gradients(step, seen[step], size), table)
        optimizer.step()


def sparse(rows: torch.Tensor, values: torch.Tensor, table: nn.Parameter) -> torch.Tensor:
    return torch.sparse_coo_tensor(rows[None], values, table.shape, check_invariants=True)


def row_adam(table: nn.Parameter, **options) -> SceneAdam:
    return SceneAdam([{"name": "micro", "params": [table], "lr": rate(0), "rows": True}], **options)


def dense(steps: int, size, seen=SEEN, **options) -> torch.Tensor:
    table = new_table()
    optimizer = torch.optim.Adam([table], lr=rate(0), **options)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate(step)
        table.grad = torch.zeros_like(table)
        table.grad[seen[step]] = gradients(step, seen[step], size)
        optimizer.step()
    return table.detach()


def test_visits_are_every_distance_apart():
    steps_of = [[step for step, seen in enumerate(SEEN) if scene in seen] for scene in range(SCENES)]
    apart = {later - earlier for steps in steps_of for earlier, later in pairwise(steps)}
    assert apart >= set(range(1, 201)) | {250, 330, 480}
    assert (len(steps_of[ONCE]), len(steps_of[NEVER])) == (1, 0)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("flush_at", [(), (77, 78, 390)], ids=["", "flushed"])
def test_exact_dense_is_adam_on_the_whole_table(size, flush_at):
    table = new_table()
    optimizer = row_adam(table)
    train(optimizer, table, range(STEPS), size, flush_at=flush_at)
    optimizer.flush()
    expected = dense(STEPS, size)
    assert (expected - new_table().detach())[:NEVER].abs().amax(1).min() > 1e-3, "all that were seen have moved"
    torch.testing.assert_close(table.detach(), expected, rtol=0, atol=1e-9)
    assert torch.equal(table[NEVER], new_table()[NEVER])


@pytest.mark.parametrize("betas", [(0.0, 0.999), (0.97, 0.999), (0.9, 0.8)])
def test_exact_dense_holds_for_any_decay(betas):
    table = new_table()
    optimizer = row_adam(table, betas=betas)
    train(optimizer, table, range(STEPS), 1e-8)
    optimizer.flush()
    torch.testing.assert_close(table.detach(), dense(STEPS, 1e-8, betas=betas), rtol=0, atol=1e-9)


def test_a_row_is_up_to_date_before_it_is_read():
    seen = [[0]] + [[1]] * 30 + [[0]]
    table = new_table()
    optimizer = row_adam(table)
    train(optimizer, table, range(31), 1.0, seen)
    optimizer.catch_up(table, torch.tensor([0]))
    torch.testing.assert_close(table.detach()[0], dense(31, 1.0, seen)[0], rtol=0, atol=1e-12)


def test_reading_rows_without_catching_up_is_an_error():
    table = new_table()
    optimizer = row_adam(table)
    train(optimizer, table, range(3), 1.0, [[0, 1], [1], [1]])
    table.grad = sparse(torch.tensor([0]), gradients(3, [0], 1.0), table)
    with pytest.raises(RuntimeError, match="micro were read without catch_up"):
        optimizer.step()


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_per_scene_trains_each_scene_as_if_alone(size):
    table = new_table()
    optimizer = row_adam(table, clock="per_scene", betas=(0.9, 0.99), eps=1e-15)
    train(optimizer, table, range(STEPS), size)
    optimizer.flush()
    for scene in range(SCENES):
        alone = nn.Parameter(new_table().detach()[scene].clone())
        adam = torch.optim.Adam([alone], betas=(0.9, 0.99), eps=1e-15)
        for step in (step for step in range(STEPS) if scene in SEEN[step]):
            adam.param_groups[0]["lr"] = rate(step)
            alone.grad = gradients(step, [scene], size)[0]
            adam.step()
        torch.testing.assert_close(table.detach()[scene], alone.detach(), rtol=0, atol=1e-9)


def test_other_groups_are_stepped_by_adam_itself():
    shared, same = (nn.Parameter(torch.ones(4, 3, dtype=torch.float64)) for _ in range(2))
    table = new_table()
    groups = [
        {"name": "micro", "params": [table], "lr": 0.01, "rows": True},
        {"name": "head", "params": [shared], "lr": 0.003},
    ]
    ours, theirs = SceneAdam(groups, eps=1e-7), torch.optim.Adam([same], lr=0.003, eps=1e-7)
    assert all(group["fused"] for group in ours.param_groups)
    for step in range(50):
        shared.grad, same.grad = (gradients(step, [0, 1, 2, 3], 1e-5)[:, :3].clone() for _ in range(2))
        ours.step()
        theirs.step()
    torch.testing.assert_close(shared.detach(), same.detach(), rtol=0, atol=1e-14)


@pytest.mark.parametrize("clock", ["exact_dense", "per_scene"])
def test_a_saved_optimiser_goes_on_as_if_nothing_had_happened(clock, tmp_path):
    table = new_table()
    optimizer = row_adam(table, clock=clock)
    train(optimizer, table, range(60), 1e-3)
    torch.save((optimizer.state_dict(), table.detach().clone()), tmp_path / "saved.pt")
    train(optimizer, table, range(60, 120), 1e-3)
    state, rows = torch.load(tmp_path / "saved.pt", weights_only=True)
    resumed = nn.Parameter(rows)
    other = row_adam(resumed, clock=clock)
    other.load_state_dict(copy.deepcopy(state))
    train(other, resumed, range(60, 120), 1e-3)
    for each in (optimizer, other):
        each.flush()
    assert torch.equal(table, resumed)


def test_a_table_without_rows_is_stepped():
    table = nn.Parameter(torch.empty(0, WIDTH))
    optimizer = row_adam(table)
    optimizer.step()
    optimizer.flush()


@pytest.mark.parametrize("t0", [1, 5, 100, 10_000])
@pytest.mark.parametrize("missed", [1, 3, 40, 300])
def test_the_short_rule_equals_the_long_sum(t0, missed):
    k = np.arange(1, missed + 1, dtype=np.float64)
    correction = np.sqrt(1 - 0.999 ** (t0 + k))
    weights = 0.01 * 0.99**k * correction / (1 - 0.9 ** (t0 + k)) * (0.9 / np.sqrt(0.999)) ** k
    nodes = correction / 0.999 ** (k / 2)
    (x,), (w,) = gauss_rules(nodes[None], weights[None])
    assert len(x) <= min(24, missed) or missed <= 24
    for r in (0.0, 1e-3, 1.0, 1e3, 1e8):
        assert (w / (r + x)).sum() == pytest.approx((weights / (r + nodes)).sum(), rel=1e-10)


def test_a_rule_of_nothing_is_nothing():
    for count in (2, 40):
        x, w = gauss_rules(1.0 + np.arange(count)[None], np.zeros((1, count)))
        assert (w / x).sum() == 0
    x, w = gauss_rules(np.ones((1, 40)), np.full((1, 40), 0.5))  # forty nodes that are one
    assert (w / (1 + x)).sum() == pytest.approx(10)


@pytest.mark.parametrize("width", [1, 64, 130])
@pytest.mark.parametrize("path", ["deferred.c", "tensors"])
def test_float32_rows_stay_near_dense_adam(width, path, monkeypatch):
    """Of widths that fill blocks of deferred.c and that do not; gradients of three sizes side by side."""
    if path == "tensors":
        monkeypatch.setattr(native, "works", lambda: False)
    elif not native.works():
        pytest.skip("no C compiler on this machine: set CC")
    generator = torch.Generator().manual_seed(width)
    start, sizes = torch.randn(40, width, generator=generator), 10.0 ** (-4.0 * (torch.arange(width) % 3))
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.double())
    rows, adam = row_adam(ours), torch.optim.Adam([theirs], lr=rate(0))
    for _ in range(90):
        seen = torch.randperm(40, generator=generator)[:3]
        gradient = sizes * torch.randn(3, width, generator=generator)
        rows.catch_up(ours, seen)
        ours.grad = sparse(seen, gradient, ours)
        theirs.grad = torch.zeros_like(theirs).index_add_(0, seen, gradient.double())
        rows.step()
        adam.step()
    rows.flush()
    moved = (theirs.detach() - start).abs().max()
    # Each of some 15 visits and catch-ups of a row ends with a rounding of weights of up to 4; a step is 1e-2.
    assert (ours.detach() - theirs.detach()).abs().max() < 15 * 2**-22 + 1e-5 * moved
