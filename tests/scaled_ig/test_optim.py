"""Row-wise Adam against torch.optim.Adam on the whole table."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from scaled_ig.optim import SceneAdam, gauss_rule

SCENES, WIDTH = 12, 6


def visits(steps: int, seed: int = 0) -> list[list[int]]:
    """Scenes seen in each step: 0 every second step, 1 … seldom, 10 only at the ends, 11 never."""
    generator = np.random.default_rng(seed)
    seen = []
    for step in range(steps):
        own = [0] if step % 2 == 0 else []
        own += [scene for scene in range(1, 10) if generator.random() < 1 / (3 * scene)]
        seen.append(own + ([10] if step in (1, 201) else []))
    return seen


def gradients(step: int, rows: list[int], scale: float) -> torch.Tensor:
    """What a row is given depends on row and step alone."""
    parts = [torch.randn(WIDTH, generator=torch.Generator().manual_seed(1000 * step + row)) for row in rows]
    return scale * (torch.stack(parts).double() if parts else torch.zeros(0, WIDTH, dtype=torch.float64))


def new_table() -> nn.Parameter:
    return nn.Parameter(torch.randn(SCENES, WIDTH, generator=torch.Generator().manual_seed(0)).double())


def rate(step: int) -> float:
    return 0.01 * (0.3 if step > 150 else 1.0) * 0.999**step


def train(optimizer: SceneAdam, table: nn.Parameter, steps: range, scale: float, seen, flush_at=()) -> None:
    for step in steps:
        optimizer.param_groups[0]["lr"] = rate(step)
        if step in flush_at:
            optimizer.flush()
        rows = torch.tensor(seen[step], dtype=torch.long)
        optimizer.catch_up(table, rows)
        if len(rows):
            values = gradients(step, seen[step], scale)
            table.grad = torch.sparse_coo_tensor(rows[None], values, table.shape)
        optimizer.step()


def row_adam(table: nn.Parameter, **options) -> SceneAdam:
    return SceneAdam([{"name": "micro", "params": [table], "lr": rate(0), "rows": True}], **options)


def dense(steps: int, scale: float, seen, eps: float = 1e-8) -> torch.Tensor:
    table = new_table()
    optimizer = torch.optim.Adam([table], lr=rate(0), eps=eps)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate(step)
        table.grad = torch.zeros_like(table)
        table.grad[seen[step]] = gradients(step, seen[step], scale)
        optimizer.step()
    return table.detach()


@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e-8])
@pytest.mark.parametrize("flush_at", [(), (77, 78, 190)])
def test_exact_dense_is_adam_on_the_whole_table(scale, flush_at):
    table, seen = new_table(), visits(300)
    optimizer = row_adam(table)
    train(optimizer, table, range(300), scale, seen, flush_at)
    optimizer.flush()
    expected = dense(300, scale, seen)
    assert (expected - new_table().detach())[:11].abs().amax(1).min() > 1e-3, "all but scene 11 have moved"
    torch.testing.assert_close(table.detach(), expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(table.detach()[11], new_table().detach()[11], rtol=0, atol=0)


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
    table.grad = torch.sparse_coo_tensor([[0]], gradients(3, [0], 1.0), table.shape)
    with pytest.raises(RuntimeError, match="micro were read without catch_up"):
        optimizer.step()


@pytest.mark.parametrize("scale", [1.0, 1e-8])
def test_per_scene_trains_each_scene_as_if_alone(scale):
    table, seen = new_table(), visits(200)
    optimizer = row_adam(table, clock="per_scene", betas=(0.9, 0.99), eps=1e-15)
    optimizer.param_groups[0]["lr"] = 0.01
    for step in range(200):
        rows = torch.tensor(seen[step], dtype=torch.long)
        optimizer.catch_up(table, rows)
        if len(rows):
            table.grad = torch.sparse_coo_tensor(rows[None], gradients(step, seen[step], scale), table.shape)
        optimizer.step()
    optimizer.flush()
    for scene in range(SCENES):
        alone = nn.Parameter(new_table().detach()[scene].clone())
        adam = torch.optim.Adam([alone], lr=0.01, betas=(0.9, 0.99), eps=1e-15)
        for step in range(200):
            if scene in seen[step]:
                alone.grad = gradients(step, [scene], scale)[0]
                adam.step()
        torch.testing.assert_close(table.detach()[scene], alone.detach(), rtol=1e-12, atol=1e-12)


def test_other_groups_are_stepped_by_adam_itself():
    shared, same = (nn.Parameter(torch.ones(4, 3, dtype=torch.float64)) for _ in range(2))
    table = new_table()
    groups = [
        {"name": "micro", "params": [table], "lr": 0.01, "rows": True},
        {"name": "head", "params": [shared], "lr": 0.003},
    ]
    ours, theirs = SceneAdam(groups, eps=1e-7), torch.optim.Adam([same], lr=0.003, eps=1e-7)
    for step in range(50):
        shared.grad, same.grad = (gradients(step, [0, 1, 2, 3], 1e-5)[:, :3].clone() for _ in range(2))
        ours.step()
        theirs.step()
    torch.testing.assert_close(shared.detach(), same.detach(), rtol=0, atol=1e-14)


@pytest.mark.parametrize("clock", ["exact_dense", "per_scene"])
def test_a_saved_optimiser_goes_on_as_if_nothing_had_happened(clock, tmp_path):
    seen, table = visits(120), new_table()
    optimizer = row_adam(table, clock=clock)
    train(optimizer, table, range(60), 1e-3, seen)
    torch.save((optimizer.state_dict(), table.detach().clone()), tmp_path / "saved.pt")
    train(optimizer, table, range(60, 120), 1e-3, seen)
    state, rows = torch.load(tmp_path / "saved.pt", weights_only=True)
    resumed = nn.Parameter(rows)
    other = row_adam(resumed, clock=clock)
    other.load_state_dict(copy.deepcopy(state))
    train(other, resumed, range(60, 120), 1e-3, seen)
    for each in (optimizer, other):
        each.flush()
    assert torch.equal(table, resumed)


@pytest.mark.parametrize("t0", [1, 5, 100, 10_000])
@pytest.mark.parametrize("missed", [1, 3, 40, 300])
def test_the_short_rule_equals_the_long_sum(t0, missed):
    k = np.arange(1, missed + 1, dtype=np.float64)
    correction = np.sqrt(1 - 0.999 ** (t0 + k))
    weights = 0.01 * 0.99**k * correction / (1 - 0.9 ** (t0 + k)) * (0.9 / np.sqrt(0.999)) ** k
    nodes = correction / 0.999 ** (k / 2)
    x, w = gauss_rule(nodes, weights)
    assert len(x) <= min(24, missed) or missed <= 24
    for r in (0.0, 1e-3, 1.0, 1e3, 1e8):
        assert (w / (r + x)).sum() == pytest.approx((weights / (r + nodes)).sum(), rel=1e-10)


def test_a_rule_of_nothing_is_nothing():
    x, w = gauss_rule(np.array([1.0, 2.0]), np.zeros(2))
    assert (w / x).sum() == 0
