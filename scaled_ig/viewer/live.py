"""Scenes in a browser while they are trained."""

from __future__ import annotations

import copy
import math
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from lightning.pytorch import Callback
from lightning.pytorch.utilities import rank_zero_only

from scaled_ig.bank.scene import BankScene
from scaled_ig.bank.scene_bank import spread
from scaled_ig.bank.table import BankRecord
from scaled_ig.runs.training import Training
from scaled_ig.scene_model import SceneModel
from scaled_ig.viewer import server
from scaled_ig.viewer.bank_page import BankPage
from scaled_ig.viewer.scenes import Scenes
from scaled_ig.viewer.views import NoTruth

EVERY_N_STEPS = 25
REST = 2.0  # seconds between two copies of a phase, at least
MOST_SCENES = 12
WAITING = "Scenes appear here as soon as a phase trains them."


class LiveView(Callback):
    """Shows the first rank's scenes of the phase that is trained, as they are at every 25th step.

    Training copies scenes and goes on; a thread draws the copies. Nothing is copied while no browser is there or while
    the last copy is still being drawn, and nothing that training reads is written. Rows that a step has not read for
    long are shown as it left them: dense Adam would have moved them on.

    Args:
        port: Of localhost.

    Raises:
        UsageError: viser is missing, or the port is taken.
    """

    def __init__(self, port: int) -> None:
        self._server: Any = None
        self._newest: Copies | None = None
        self._pages: list[LivePage] = []
        self._lock = threading.Lock()  # a browser that comes is shown the newest copies, once
        self._last = -math.inf  # when scenes were copied
        self._pool = ThreadPoolExecutor(1, "live")
        self._drawn: Future[None] | None = None
        if getattr(rank_zero_only, "rank", 0) == 0:
            self._server = server.start("localhost", port, self._enter)
            print(f"scenes while they train: open {server.address(self._server)} in a browser", flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            server.stop(self._server)

    def __deepcopy__(self, memo: Any) -> Self:
        return self  # one server for all phases

    def join(self, training: Training) -> Training:
        """The same training, looked at."""
        make = training.make_trainer

        def make_trainer(callbacks: list[Callback], **arguments: Any) -> Any:
            return make([*callbacks, self], **arguments)

        return replace(training, make_trainer=make_trainer)

    # -- training ----------------------------------------------------------------------------------------------------

    def on_train_start(self, trainer, pl_module) -> None:
        self._last = -math.inf

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if self._server is None or pl_module.name == "autoencoder" or trainer.global_step % EVERY_N_STEPS:
            return
        is_free = self._drawn is None or self._drawn.done()
        if self._server.get_clients() and is_free and time.monotonic() - self._last > REST:
            self._copy(trainer, pl_module)

    def _copy(self, trainer, phase) -> None:
        try:
            ids, owned = trainer.datamodule.scene_ids(phase.stage), trainer.datamodule.own_scenes(phase.stage)
            places = spread(range(len(owned)), MOST_SCENES)
            scenes = copy_scenes(phase.scene, [ids[owned[place]] for place in places], places)
            copies = Copies(Scenes(scenes), list(scenes), f"### {phase.name}\nstep {trainer.global_step:,}")
            self._drawn = self._pool.submit(self._show, copies)
        except Exception:  # training goes on without being looked at
            traceback.print_exc(file=sys.stderr)
        self._last = time.monotonic()

    # -- browsers ----------------------------------------------------------------------------------------------------

    def _show(self, copies: Copies) -> None:
        with self._lock:
            self._newest = copies
            for page in self._pages:
                try:
                    page.show(copies)
                except Exception:  # as when a browser leaves meanwhile
                    traceback.print_exc(file=sys.stderr)

    def _enter(self, client: Any) -> LivePage:
        page = LivePage(client, self._leave)
        with self._lock:
            self._pages.append(page)
            if self._newest is not None:
                page.show(self._newest)
        return page

    def _leave(self, page: LivePage) -> None:
        with self._lock:
            self._pages.remove(page)


@dataclass(frozen=True)
class Copies:
    """Scenes as they were at one step.

    Args:
        scenes: What can be seen.
        ids: Of the scenes, in order.
        title: Phase and step, Markdown.
    """

    scenes: Scenes
    ids: list[str]
    title: str


class LivePage:
    """What one browser sees of training: first that there is nothing yet, then the page of the newest copies.

    Args:
        client: The browser, a ``viser.ClientHandle``.
        leave: Called when it has gone.
    """

    def __init__(self, client: Any, leave: Callable[[LivePage], None]) -> None:
        self._client, self._leave = client, leave
        self._page: BankPage | None = None
        client.gui.add_markdown(WAITING)

    def show(self, copies: Copies) -> None:
        """Show these scenes in place of what is shown; the same ones in the same place."""
        if self._page is not None and self._page.ids == copies.ids:
            self._page.refresh(copies.scenes, copies.title)
            return
        if self._page is not None:
            self._page.close()
        self._client.gui.reset()
        self._client.scene.reset()
        truth = NoTruth("Views are not read while training.")
        self._page = BankPage(self._client, copies.title, copies.scenes, copies.ids, [], truth)

    def close(self) -> None:
        """The browser has gone."""
        self._leave(self)
        if self._page is not None:
            self._page.close()


@torch.no_grad()
def copy_scenes(model: SceneModel, ids: list[str], rows: list[int]) -> dict[str, BankScene]:
    """Some scenes of a model as they are now, on the CPU; nothing is shared with it.

    Args:
        model: The model that is trained.
        ids: Names of the scenes.
        rows: Where each is in the tables held here.
    """
    tables = model.representation.scene_tables()
    chosen = {name: table.weight.detach()[rows] for name, table in tables.items()}
    held = copy.deepcopy(model.of_rows(chosen)).cpu().eval().requires_grad_(False)
    scene_rows = {name: table.weight.detach() for name, table in held.representation.scene_tables().items()}
    scenes = {}
    for place, name in enumerate(ids):
        record = BankRecord(name, "training", "", 0, 0, "", "")
        scenes[name] = BankScene(record, held.of_rows({key: rows[place][None] for key, rows in scene_rows.items()}))
    return scenes
