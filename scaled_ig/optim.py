"""Adam for scenes: only the rows in the batch are touched, whatever the number of scenes.

Dense Adam moves every scene at every step; a scene that is seen once in P steps coasts on its momentum meanwhile, so
the same rate is another method at another number of scenes (method 5). Hence two clocks:

- ``exact_dense``: equal to ``torch.optim.Adam`` on the whole table. The zero-gradient updates that a row missed are
  applied, all at once, before it is read.
- ``per_scene``: each scene has its own step count, so that it trains as if it were alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.adam import Adam, adam

Clock = Literal["exact_dense", "per_scene"]

_NEGLIGIBLE = 1e-13  # part of the first missed update: smaller ones, after some 300 steps, no longer move a row
_SIDE_BY_SIDE = {"cpu": 2**17}  # bytes of rows that catch up at once: a CPU's cache; elsewhere few launches count


def gauss_rule(nodes: np.ndarray, weights: np.ndarray, tolerance: float = 1e-12) -> tuple[np.ndarray, np.ndarray]:
    """A short rule for a long sum: Σ_t weights_t / (r + nodes_t) ≈ Σ_i w_i / (r + x_i) for every r ≥ 0.

    Gauss quadrature of a discrete measure, by Lanczos and the eigenvalues of its Jacobi matrix. r = 0 is the hardest
    case, hence the check that decides the length: 4 points late in training, up to some 20 in its first steps.

    Args:
        nodes: [T] float64, positive.
        weights: [T] float64, non-negative.
        tolerance: Relative error.

    Returns:
        x [P] and w [P], P ≤ T.
    """
    total, exact = weights.sum(), (weights / nodes).sum()
    if total == 0:
        return nodes[:1], weights[:1]
    for points in (4, 6, 8, 12, 16, 24):
        if points >= len(nodes):
            break
        x, w = _lanczos_rule(nodes, weights / total, points)
        if abs(total * (w / x).sum() - exact) <= tolerance * exact:
            return x, total * w
    return nodes, weights


def _lanczos_rule(nodes: np.ndarray, weights: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray]:
    basis = np.sqrt(weights)[None]
    diagonal, off_diagonal = [], []
    for _ in range(points):
        image = nodes * basis[-1]
        diagonal.append(basis[-1] @ image)
        for _ in range(2):  # twice is enough to keep the basis orthogonal to rounding
            image = image - basis.T @ (basis @ image)
        off_diagonal.append(np.linalg.norm(image))
        if off_diagonal[-1] < 1e-14 * nodes.max():  # fewer distinct nodes than points
            break
        basis = np.vstack([basis, image / off_diagonal[-1]])
    inner = off_diagonal[: len(diagonal) - 1]
    values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(inner, 1) + np.diag(inner, -1))
    return values, vectors[0] ** 2


@lru_cache(maxsize=256)  # tables have rows in common, and mostly rates
def _missed_rule(t0: int, rates: tuple[float, ...], beta1: float, beta2: float) -> tuple[np.ndarray, np.ndarray]:
    """Quadrature of Σ_t a_t / (√v + ε d_t) over the steps t0+1, t0+2, … that a row missed (method 5)."""
    k = np.arange(1, len(rates) + 1, dtype=np.float64)
    correction = np.sqrt(1 - beta2 ** (t0 + k))
    a = np.asarray(rates) * correction / (1 - beta1 ** (t0 + k)) * (beta1 / beta2**0.5) ** k
    return gauss_rule(correction / beta2 ** (k / 2), a)


class SceneAdam(Adam):
    """Adam over named groups, some of which are tables with one row a scene.

    A row is to Adam a parameter of its own: tables step only the rows that their sparse gradient names. Other groups
    are stepped by ``torch.optim.Adam`` itself.

    Args:
        groups: Parameter groups with ``name``, ``params``, ``lr`` and, for tables, ``rows: True``.
        clock: See the module.
        betas: β1, β2.
        eps: ε.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        clock: Clock = "exact_dense",
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        groups = [{"rows": False, **group} for group in groups]
        super().__init__(groups, betas=betas, eps=eps, fused=True)
        self.clock = clock
        self._step_supports_amp_scaling = False  # a scaler must not leave overflows of fp16 to the rows
        for group in self._row_groups():
            group |= {"t": 0, "rates": []}  # steps taken; learning rate of each step since the last flush
            for table in group["params"]:
                self.state[table] = {
                    "step": torch.zeros(len(table), device=table.device),
                    "exp_avg": torch.zeros_like(table),
                    "exp_avg_sq": torch.zeros_like(table),
                }

    def _row_groups(self) -> list[dict[str, Any]]:
        return [group for group in self.param_groups if group["rows"]]

    @torch.no_grad()
    def catch_up(self, table: nn.Parameter, rows: Tensor) -> None:
        """Apply to rows the updates that they missed. To be called before they are read in training.

        Args:
            table: Parameter of a row group.
            rows: [R] long, without repetition.
        """
        if self.clock == "per_scene":
            return
        group = next(group for group in self._row_groups() if any(table is p for p in group["params"]))
        step, t = self.state[table]["step"], group["t"]
        last = step[rows]
        behind = rows[(last > 0) & (last < t)]  # rows that were never seen have no momentum
        row_bytes = table.element_size() * math.prod(table.shape[1:])
        at_once = max(1, _SIDE_BY_SIDE.get(table.device.type, 2**26) // row_bytes)
        for some in behind.split(at_once) if len(behind) else ():
            self._coast(group, table, some)
        step[behind] = t

    def _coast(self, group: dict[str, Any], table: nn.Parameter, rows: Tensor) -> None:
        """θ −= m Σ_i w_i / (√v + ε x_i); m and v decay."""
        state, (beta1, beta2) = self.state[table], group["betas"]
        shape = (len(rows), *[1] * (table.dim() - 1))
        last = state["step"][rows].tolist()
        rules = {t0: self._missed_updates(group, int(t0)) for t0 in set(last)}
        longest = max(len(nodes) for nodes, _ in rules.values())
        padded = np.zeros((2, longest, len(last)))
        padded[0] = 1  # a node without weight, where another row has a longer rule
        for row, t0 in enumerate(last):
            padded[:, : len(rules[t0][0]), row] = rules[t0]
        nodes, weights = torch.as_tensor(padded).to(table)
        m, v = state["exp_avg"][rows], state["exp_avg_sq"][rows]
        root, factor = v.sqrt(), torch.zeros_like(v)
        for node, weight in zip(nodes, weights, strict=True):
            factor.addcdiv_(weight.view(shape), root + group["eps"] * node.view(shape))
        table.index_add_(0, rows, factor.mul_(m), alpha=-1)
        missed = group["t"] - torch.tensor(last, dtype=torch.float64)
        state["exp_avg"].index_copy_(0, rows, m.mul_((beta1**missed).to(table).view(shape)))
        state["exp_avg_sq"].index_copy_(0, rows, v.mul_((beta2**missed).to(table).view(shape)))

    @staticmethod
    def _missed_updates(group: dict[str, Any], t0: int) -> tuple[np.ndarray, np.ndarray]:
        """Quadrature of the updates after step t0, of which the last ones may not count any more."""
        (beta1, beta2), rates = group["betas"], group["rates"]
        decay, missed = beta1 / beta2**0.5, group["t"] - t0
        count = min(missed, int(math.log(_NEGLIGIBLE, decay)) + 1) if 0 < decay < 1 else missed
        first = len(rates) - missed
        return _missed_rule(t0, tuple(rates[first : first + count]), beta1, beta2)

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a state; that of tables is copied to where it lies, since memory may not hold it twice.

        Args:
            state_dict: Of :meth:`state_dict`. Tables whose rows are none in it keep their own.
        """
        own = {id(table): self.state[table] for group in self._row_groups() for table in group["params"]}
        tables = [key for group in state_dict["param_groups"] if group["rows"] for key in group["params"]]
        others = {key: state for key, state in state_dict["state"].items() if key not in tables}
        super().load_state_dict({**state_dict, "state": others})
        loaded = (table for group in self._row_groups() for table in group["params"])
        for table, key in zip(loaded, tables, strict=True):
            self.state[table] = own[id(table)]
            for slot, rows in state_dict["state"][key].items():
                if len(rows):
                    self.state[table][slot].copy_(rows)

    def flush(self) -> None:
        """Bring every row to the present step: before evaluation, saving and hand-over."""
        for group in self._row_groups():
            for table in group["params"]:
                self.catch_up(table, torch.arange(len(table), device=table.device))
            group["rates"] = []

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self._row_groups():
            group["t"] += 1
            if self.clock == "exact_dense":
                group["rates"].append(float(group["lr"]))
            for table in group["params"]:
                if table.grad is not None:
                    self._step_rows(group, table, table.grad.coalesce())
                    table.grad = None
        super().step()
        return loss

    def _step_rows(self, group: dict[str, Any], table: nn.Parameter, gradient: Tensor) -> None:
        rows, state = gradient.indices()[0], self.state[table]
        if self.clock == "exact_dense":
            seen_before = state["step"][rows] > 0
            if bool((state["step"][rows][seen_before] != group["t"] - 1).any()):
                raise RuntimeError(f"rows of {group['name']} were read without catch_up")
            state["step"][rows] = group["t"] - 1.0
        at = rows.tolist()
        beta1, beta2 = group["betas"]
        adam(
            [table[row] for row in at],
            list(gradient.values()),
            [state["exp_avg"][row] for row in at],
            [state["exp_avg_sq"][row] for row in at],
            [],
            [state["step"][row] for row in at],
            fused=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=0.0,
            eps=group["eps"],
            maximize=False,
        )
