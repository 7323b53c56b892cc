"""Views as a browser shows them, and the held-out views of a run's scenes where its pack is there.

Letters: V views, H rows and W columns of pixels.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from data_modules.base import MultiViewDataModule
from scaled_ig.batch import ViewBatch
from scaled_ig.cameras import Cameras
from scaled_ig.errors import UsageError
from scaled_ig.report.pictures import Picture
from scaled_ig.runs.record import RunRecord

SCENES_KEPT = 4
MOST_VIEWS = 256  # of a scene


@dataclass(frozen=True)
class Views:
    """Views of one scene.

    Args:
        cameras: V cameras.
        pictures: uint8 [V, H, W, 3].
        masks: uint8 [V, H, W]; None where there are none.
    """

    cameras: Cameras
    pictures: Picture
    masks: Picture | None

    @classmethod
    def of(cls, batch: ViewBatch) -> Views:
        """Views of a batch with images."""
        assert batch.images is not None
        masked = batch.masked is not None and bool(batch.masked.all())
        masks = batch.masks.numpy() if masked and batch.masks is not None else None
        return cls(batch.cameras, batch.images.permute(0, 2, 3, 1).contiguous().numpy(), masks)

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def size(self) -> tuple[int, int]:
        """H, W."""
        return self.pictures.shape[1], self.pictures.shape[2]


class NoTruth:
    """No held-out views of any scene.

    Args:
        reason: Why.

    Attributes:
        category_of: Categories of scenes, by id.
    """

    category_of: Mapping[str, str] = {}

    def __init__(self, reason: str = "") -> None:
        self.reason = reason

    def views(self, scene_id: str) -> Views:
        """Held-out views of a scene.

        Raises:
            UsageError: There are none; the message says why.
        """
        raise UsageError(self.reason)


class RunTruth(NoTruth):
    """Held-out views of a run's scenes, read when they are asked for.

    Args:
        run: The run.
        pack: Folder of its pack where it has been moved.
    """

    def __init__(self, run: RunRecord, pack: str | None = None) -> None:
        super().__init__()
        self._places: dict[str, tuple[MultiViewDataModule, int]] = {}
        data = run.open_data(pack)
        for stage in run.learned_stages():
            self._places |= dict.fromkeys(data.scene_ids(stage), (data, stage))
        for version in run.added_versions():
            added = run.open_added_data(version)
            self._places |= dict.fromkeys(added.scene_ids(2), (added, 2))
        names = {(data.index.scene_ids, data.index.categories) for data, _ in self._places.values()}
        self.category_of = {name: category for ids in names for name, category in zip(*ids, strict=True)}
        self._kept: OrderedDict[str, Views] = OrderedDict()

    def views(self, scene_id: str) -> Views:
        if scene_id not in self._places:
            raise UsageError(f"the run's pack holds no scene {scene_id}")
        if scene_id not in self._kept:
            data, stage = self._places[scene_id]
            batch = next(data.views_of(stage, [scene_id], "test", batch_size=MOST_VIEWS), None)
            if batch is None:
                raise UsageError(f"{data.path} holds out no view of scene {scene_id}")
            self._kept[scene_id] = Views.of(batch)
            while len(self._kept) > SCENES_KEPT:
                self._kept.popitem(last=False)
        return self._kept[scene_id]


def truth_of(path: Path, pack: str | None) -> NoTruth:
    """Held-out views of the scenes of a run; of a bank alone there are none.

    Args:
        path: Folder of what is looked at.
        pack: Folder of the run's pack where it has been moved.

    Raises:
        UsageError: ``pack`` is given and is not the run's.
    """
    try:
        return RunTruth(RunRecord.open(path, measured=False), pack)
    except UsageError as error:
        if pack is not None:
            raise
        return NoTruth(str(error) if (path / "config.yaml").is_file() else "A bank has no views: open its run instead.")
