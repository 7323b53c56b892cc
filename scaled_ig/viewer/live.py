"""Scenes in a browser while they are trained."""

from __future__ import annotations

import copy
import sys
import threading
import time
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
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
REST = 2.0  # seconds between two copies, at least
MOST_SCENES = 12
WAITING = "Scenes appear here as soon as a phase trains them."


class LiveView(Callback):
    """Shows the first rank's scenes of the phase that is trained, as they are at every 25th step.

    Nothing is copied while no browser is there, and nothing that training reads is written. Rows that a step has not
    read for long are shown as it left them: dense Adam would have moved them on.

    Args:
        port: Of localhost.

    Raises:
        UsageError: viser is missing, or the port is taken.
    """

    def __init__(self, port: int) -> None:
        self._server: Any = None
        self._scenes: Scenes | None = None
        self._ids: list[str] = []
        self._title, self._last = "", 0.0
        self._pages: dict[int, tuple[Any, BankPage | None]] = {}
        self._lock = threading.RLock()
        self._pool = ThreadPoolExecutor(1, "live")  # training waits for copies alone
        self._drawn: Future[None] | None = None
        if getattr(rank_zero_only, "rank", 0) == 0:
            self._server = server.start("localhost", port, self._enter)
            print(f"scenes while they train: open {server.address(self._server)} in a browser", flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._server.stop()

    def __deepcopy__(self, memo: Any) -> Self:
        return self  # one server for all phases

    def join(self, training: Training) -> Training:
        """The same training, looked at."""
        make = training.make_trainer

        def make_trainer(callbacks: list[Callback], **arguments: Any) -> Any:
            return make([*callbacks, self], **arguments)

        return replace(training, make_trainer=make_trainer)

    # -- training ----------------------------------------------------------------------------------------------------

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if self._server is None or pl_module.name == "autoencoder" or trainer.global_step % EVERY_N_STEPS:
            return
        is_free = self._drawn is None or self._drawn.done()
        if self._server.get_clients() and is_free and time.monotonic() - self._last > REST:
            self._show(trainer, pl_module)

    def _show(self, trainer, phase) -> None:
        try:
            ids = trainer.datamodule.scene_ids(phase.stage)
            places = spread(range(len(trainer.datamodule.own_scenes(phase.stage))), MOST_SCENES)
            owned = trainer.datamodule.own_scenes(phase.stage)
            scenes = copy_scenes(phase.scene, [ids[owned[place]] for place in places], places)
            title = f"### {phase.name}\nstep {trainer.global_step:,}"
            self._drawn = self._pool.submit(self._turn_to, scenes, title)
        except Exception:  # training goes on without being looked at
            traceback.print_exc(file=sys.stderr)
        self._last = time.monotonic()

    # -- browsers ----------------------------------------------------------------------------------------------------

    def _turn_to(self, scenes: dict[str, BankScene], title: str) -> None:
        try:
            self._show_all(scenes, title)
        except Exception:  # as when a browser leaves meanwhile
            traceback.print_exc(file=sys.stderr)

    def _show_all(self, scenes: dict[str, BankScene], title: str) -> None:
        with self._lock:
            are_others = list(scenes) != self._ids
            self._ids, self._title = list(scenes), title
            if self._scenes is None or are_others:
                self._scenes = Scenes(scenes)
            else:
                self._scenes.use(scenes)
            for client, page in list(self._pages.values()):
                if page is None or are_others:
                    self._build(client)
                else:
                    page.refresh(title)

    def _enter(self, client: Any) -> server.Page:
        with self._lock:
            self._pages[client.client_id] = client, None
            if self._scenes is None:
                client.gui.add_markdown(WAITING)
            else:
                self._build(client)
        return _Seat(self, client.client_id)

    def leave(self, client_id: int) -> None:
        """A browser has gone."""
        with self._lock:
            _, page = self._pages.pop(client_id, (None, None))
        if page is not None:
            page.close()

    def _build(self, client: Any) -> None:
        _, old = self._pages[client.client_id]
        if old is not None:
            old.close()
        client.gui.reset()
        client.scene.reset()
        assert self._scenes is not None
        page = BankPage(client, self._title, self._scenes, self._ids, [], NoTruth("Views are not read while training."))
        self._pages[client.client_id] = client, page


class _Seat:
    """A browser's place, whatever page it has."""

    def __init__(self, live: LiveView, client_id: int) -> None:
        self._live, self._client_id = live, client_id

    def close(self) -> None:
        self._live.leave(self._client_id)


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
