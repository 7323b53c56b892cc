"""Adam for scenes: only the rows in the batch are touched, whatever the number of scenes.

Dense Adam moves every scene at every step; a scene that is seen once in P steps coasts on its momentum meanwhile, so
the same rate is another method at another number of scenes (method 5). Hence two clocks:

- ``exact_dense``: equal to ``torch.optim.Adam`` on the whole table. The zero-gradient updates that a row missed are
  applied, all at once, before it is read.
- ``per_scene``: each scene has its own step count, so that it trains as if it were alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.adam import Adam, adam

Clock = Literal["exact_dense", "per_scene"]

_MAX_TERMS = 300  # (β1/√β2)^300 < 1e-13: what a row misses later no longer moves it


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
        state, t = self.state[table], group["t"]
        behind = rows[state["step"][rows] < t]
        for t0 in state["step"][behind].unique().tolist():
            late = behind[state["step"][behind] == t0]
            if t0 > 0:  # rows that were never seen have no momentum
                nodes, weights = self._missed_updates(group, int(t0))
                beta1, beta2 = group["betas"]
                for row in late.tolist():
                    _coast(table[row], state["exp_avg"][row], state["exp_avg_sq"][row], nodes, weights, group["eps"])
                    state["exp_avg"][row].mul_(beta1 ** (t - t0))
                    state["exp_avg_sq"][row].mul_(beta2 ** (t - t0))
            state["step"][late] = t

    @staticmethod
    def _missed_updates(group: dict[str, Any], t0: int) -> tuple[np.ndarray, np.ndarray]:
        """Quadrature of Σ_t a_t / (√v + ε d_t) over the steps t0+1 … t that a row missed (method 5)."""
        beta1, beta2 = group["betas"]
        t, rates = group["t"], group["rates"]
        k = np.arange(1, min(t - t0, _MAX_TERMS) + 1, dtype=np.float64)
        step = t0 + k
        rate = np.asarray(rates[len(rates) - (t - t0) :][: len(k)])
        correction = np.sqrt(1 - beta2**step)
        a = rate * correction / (1 - beta1**step) * (beta1 / np.sqrt(beta2)) ** k
        return gauss_rule(correction / beta2 ** (k / 2), a)

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


def _coast(row: Tensor, m: Tensor, v: Tensor, nodes: np.ndarray, weights: np.ndarray, eps: float) -> None:
    """θ −= m Σ_i w_i / (√v + ε x_i); nothing where m = 0."""
    root = v.sqrt()
    factor = torch.zeros_like(root)
    for node, weight in zip(nodes.tolist(), weights.tolist(), strict=True):
        factor += weight / (root + eps * node)
    row.sub_(torch.where(m == 0, 0.0, m * factor))
