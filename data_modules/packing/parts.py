"""Where the scenes of an unfinished pack wait for their shard, so that an interrupted call makes nothing twice."""

import json
from dataclasses import dataclass
from pathlib import Path

from scaled_ig.files import write_json

SCENES_FOLDER = "scenes.part"


@dataclass(frozen=True)
class Parts:
    """A folder with a few small files a scene, named after its row in the source's list.

    ``<row>.begun`` says that a process took the scene up, ``<row>.h5`` holds its views (``shards.write_scene``), and
    ``<row>.json`` is the record of a scene that is left out.
    """

    folder: Path

    def begun(self, row: int) -> Path:
        """Empty file; a process that died leaves it without one of the other two."""
        return self.folder / f"{row:06d}.begun"

    def views(self, row: int) -> Path:
        """File of a finished scene."""
        return self.folder / f"{row:06d}.h5"

    def _record(self, row: int) -> Path:
        return self.folder / f"{row:06d}.json"

    def is_settled(self, row: int) -> bool:
        """Whether the scene is finished or left out."""
        return self.views(row).exists() or self._record(row).exists()

    def leave_out(self, row: int, scene_id: str, reason: str) -> None:
        """Records that a scene is not packed, and why, in one line."""
        printable = "".join(sign if sign.isprintable() else "?" for sign in " ".join(reason.split()))
        write_json(self._record(row), {"id": scene_id, "reason": printable})
        self.views(row).unlink(missing_ok=True)

    def left_out(self, row: int) -> dict[str, str] | None:
        """``id`` and ``reason`` of a scene that is left out; None for all others."""
        path = self._record(row)
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def forget(self, row: int) -> None:
        """Takes back that a scene is left out."""
        self._record(row).unlink(missing_ok=True)
