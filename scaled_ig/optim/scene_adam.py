"""Adam for scenes: only the rows in the batch are touched, whatever the number of scenes.

Dense Adam moves every scene at every step; a scene that is seen once in P steps coasts on its momentum meanwhile, so
the same rate is another method at another number of scenes (method 5). Hence two clocks:

- ``exact_dense``: equal to ``torch.optim.Adam`` on the whole table. The zero-gradient updates that a row missed are
  applied, all at once, before it is read.
- ``per_scene``: each scene has its own step count, so that it trains as if it were alone.

Letters: N scenes, R rows of a step, F features; m and v are the first and second moments.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.adam import Adam, adam

from scaled_ig import native
from scaled_ig.optim.deferred_updates import Array, deferred_updates

Clock = Literal["exact_dense", "per_scene"]

_SIDE_BY_SIDE = 2**26  # bytes of rows that catch up at once: a GPU's launches count, and so does its memory


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
        self._texel_masks: dict[nn.Parameter, Tensor] = {}
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

    def keep(self, table: nn.Parameter, texels: Tensor) -> None:
        """Train only some texels of the rows of a table; the others have no gradient.

        Args:
            table: Parameter [N, ..., F] of a row group.
            texels: [N, ...] bool.
        """
        native.require_shape("texels", texels, *table.shape[:-1])
        self._texel_masks[table] = texels.contiguous()

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
        late_rows = rows[(last > 0) & (last < t)]  # rows that were never seen have no momentum
        if len(late_rows):
            self._apply_deferred(group, table, late_rows)
        step[late_rows] = t

    def _apply_deferred(self, group: dict[str, Any], table: nn.Parameter, rows: Tensor) -> None:
        """θ −= m Σ_i w_i / (√v + ε x_i); m and v decay."""
        state, (beta1, beta2) = self.state[table], group["betas"]
        last = state["step"][rows].tolist()
        tolerance = 1e-12 if table.dtype == torch.float64 else 1e-8
        nodes, weights = deferred_updates(last, group["t"], group["rates"], beta1, beta2, tolerance)
        missed = group["t"] - np.asarray(last)
        decays = beta1**missed, beta2**missed
        tensors = table.detach(), state["exp_avg"], state["exp_avg_sq"]
        is_plain = table.device.type == "cpu" and table.dtype == torch.float32
        apply = _apply_by_row if is_plain and native.works() else _apply_together
        apply(tensors, rows, group["eps"] * nodes, weights, decays)

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a state; that of tables is copied to where it lies, since memory may not hold it twice.

        Args:
            state_dict: Of :meth:`state_dict`. Tables whose rows are none in it keep their own.
        """
        state_of_tables = {id(table): self.state[table] for group in self._row_groups() for table in group["params"]}
        tables = [key for group in state_dict["param_groups"] if group["rows"] for key in group["params"]]
        state_of_others = {key: state for key, state in state_dict["state"].items() if key not in tables}
        super().load_state_dict({**state_dict, "state": state_of_others})
        loaded = (table for group in self._row_groups() for table in group["params"])
        for table, key in zip(loaded, tables, strict=True):
            self.state[table] = state_of_tables[id(table)]
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
                    self._step_rows(group, table, coalesced(table.grad))
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
        values = table.detach(), state["exp_avg"], state["exp_avg_sq"]
        if table.device.type == "cpu" and table.dtype == torch.float32 and native.works():
            state["step"][rows] += 1
            gradients, texel_mask = gradient.values().contiguous(), self._texel_masks.get(table)
            _step_by_row(values, at, gradients, texel_mask, state["step"][rows].tolist(), group)
            return
        gradients = gradient.values()
        if table in self._texel_masks:  # Adam leaves values alone whose gradient and moments are 0
            gradients = gradients.masked_fill(~self._texel_masks[table][rows][..., None], 0)
        adam(
            [table[row] for row in at],
            list(gradients),
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


def coalesced(gradient: Tensor) -> Tensor:
    """A sparse gradient with each row once, in order. Autograd forgets that it had them so: adding up would copy it."""
    if bool((gradient._indices()[0].diff() > 0).all()):
        gradient._coalesced_(True)
    return gradient.coalesce()


Rows = tuple[Tensor, Tensor, Tensor]
"""Parameters, first and second moments: tables with one row a scene."""


def _step_by_row(
    tables: Rows,
    rows: list[int],
    gradients: Tensor,
    texel_mask: Tensor | None,
    steps: list[float],
    group: dict[str, Any],
) -> None:
    """One step of Adam on each row, the ``steps``-th of it; by adam.c."""
    (beta1, beta2), step = group["betas"], native.library("adam").adam
    channels = gradients.shape[-1] if texel_mask is not None else 1
    texels = ctypes.c_long(gradients[0].numel() // channels)

    def task(_: int, first: int, last: int) -> None:
        for place in range(first, last):
            row, rate = rows[place], group["lr"] / (1 - beta1 ** steps[place])
            parameter, m, v = (native.pointer(table[row]) for table in tables)
            trained = None if texel_mask is None else texel_mask[row]
            numbers = rate, beta1, beta2, (1 - beta2 ** steps[place]) ** 0.5, group["eps"]
            arrays = parameter, native.pointer(gradients[place]), m, v, texels, channels, native.pointer(trained)
            step(*arrays, *map(ctypes.c_float, numbers))

    native.run(task, native.shares(len(rows), len(rows)))


def _apply_by_row(tables: Rows, rows: Tensor, nodes: Array, weights: Array, decays: tuple[Array, Array]) -> None:
    """θ −= m Σ_p weights_p / (√v + nodes_p), then m and v decay; by deferred.c."""
    rules = [torch.from_numpy(rule).to(torch.float32).contiguous() for rule in (nodes, weights)]
    count, points, apply = (
        ctypes.c_long(tables[0][0].numel()),
        nodes.shape[1],
        native.library("deferred").apply_deferred,
    )
    places = rows.tolist()

    def task(_: int, first: int, last: int) -> None:
        for place in range(first, last):
            values = (native.pointer(table[places[place]]) for table in tables)
            rule = (native.pointer(part[place]) for part in rules)
            apply(*values, count, points, *rule, *(ctypes.c_float(decay[place]) for decay in decays))

    native.run(task, native.shares(len(places), len(places)))


def _apply_together(tables: Rows, rows: Tensor, nodes: Array, weights: Array, decays: tuple[Array, Array]) -> None:
    """The same by whole tensors, as on a GPU."""
    parameters, first, second = tables
    shape = (-1, *[1] * (parameters.dim() - 1))
    at_once = max(1, _SIDE_BY_SIDE // max(1, first[0].numel() * first.element_size()))
    for start in range(0, len(rows), at_once):
        block = slice(start, start + at_once)
        block_rows = rows[block]
        decay_m, decay_v = (torch.as_tensor(decay[block]).to(first).view(shape) for decay in decays)
        m, v = first[block_rows], second[block_rows]
        root, factor = v.sqrt(), torch.zeros_like(v)
        for node, weight in zip(nodes[block].T, weights[block].T, strict=True):
            node, weight = (torch.as_tensor(values).to(first).view(shape) for values in (node, weight))
            factor.addcdiv_(weight, root + node)
        parameters.index_add_(0, block_rows, factor.mul_(m), alpha=-1)
        first.index_copy_(0, block_rows, m.mul_(decay_m))
        second.index_copy_(0, block_rows, v.mul_(decay_v))
