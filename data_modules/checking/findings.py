"""What is asked of the check of a pack, and what it answers: findings, each one line, and a report on each scene."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_modules.layout import Shard

LEAVE_OUT = "or leave the scene out with scaled-ig check --fix-drop"
RESTORE = f"restore the file from a copy, {LEAVE_OUT}"
RESTORE_FILE = "restore it from a copy, or leave out the scenes that are lost with scaled-ig check --fix-drop"
REPACK = f"correct its source and pack it again, {LEAVE_OUT}"
LISTED_VIEWS = 5


@dataclass(frozen=True)
class Finding:
    """One fault of a pack.

    Attributes:
        file: name of the file within the pack.
        scene: id of the scene; None where the whole file is meant.
        views: numbers of the scene's views; None where the whole scene is meant.
        what: what was found, of each of the views.
        remedy: what to do.
    """

    file: str
    scene: str | None
    views: tuple[int, ...] | None
    what: str
    remedy: str

    @property
    def text(self) -> str:
        """What was found and in which views."""
        return self.what if self.views is None else f"{listed_views(self.views)}: {self.what}"

    def __str__(self) -> str:
        where = self.file if self.scene is None else f"{self.file}, scene {self.scene}"
        return printable(f"{where}: {self.text}: {self.remedy}")


def printable(text: str) -> str:
    """The text with ``?`` for what is not to be printed: files that others wrote may bid a terminal do things."""
    return "".join(c if c.isprintable() else "?" for c in text)


def listed_views(views: tuple[int, ...]) -> str:
    """``view 3``, or ``views 3, 4, 5, 6, 7 and 2 more``."""
    more = f" and {len(views) - LISTED_VIEWS} more" if len(views) > LISTED_VIEWS else ""
    return ("view " if len(views) == 1 else "views ") + ", ".join(map(str, views[:LISTED_VIEWS])) + more


@dataclass(frozen=True)
class ShardTask:
    """What the index says of one shard, from scene ``start`` of the pack on.

    ``scene_ids``, ``categories``, ``digests``, ``masked`` and ``num_views`` are those of all scenes of the shard. Of
    the scenes ``shown`` some views come back.
    """

    shard: Shard
    scene_ids: tuple[str, ...]
    categories: tuple[str, ...]
    digests: tuple[str, ...]
    masked: tuple[bool, ...]
    num_views: tuple[int, ...]
    image_size: tuple[int, int]
    scene_radius: float
    start: int
    shown: frozenset[int]

    @property
    def offsets(self) -> NDArray[np.int64]:
        """int64 [S + 1], as in the shard."""
        return np.cumsum([0, *self.num_views])


class ShownScene(NamedTuple):
    """Some views of a scene, spread evenly.

    ``images`` uint8 [n, H, W, 3], ``masks`` uint8 [n, H, W] or None, ``camera_to_world`` [n, 4, 4], ``intrinsics``
    [n, 4].
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8] | None
    camera_to_world: NDArray[np.float32]
    intrinsics: NDArray[np.float32]


@dataclass(frozen=True)
class SceneReport:
    """One scene as it was found.

    Attributes:
        scene: its number in the pack.
        findings: what is wrong with it.
        record: where it came from; empty for a damaged scene.
        shown: views for the sheet, if they were asked for; None for a damaged scene.
    """

    scene: int
    findings: tuple[Finding, ...]
    record: dict[str, Any]
    shown: ShownScene | None = None
