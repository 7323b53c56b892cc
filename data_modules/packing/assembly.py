"""Puts the scenes of a running job together to shards, block by block of the source's list."""

from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

from data_modules import layout
from data_modules.layout import PackIndex
from data_modules.packing.origin import is_changed_since
from data_modules.packing.parts import SCENES_FOLDER, Parts
from data_modules.packing.scene_writer import RenderSettings, SceneWriter
from data_modules.packing.shards import image_size, index_row, scene_ids, scene_records, write_index, write_shard
from data_modules.packing.workers import Workers, settle_scenes
from data_modules.sources.base import SceneSource
from scaled_ig.errors import UsageError
from scaled_ig.progress import Progress


class Assembly:
    """Blocks of rows of the source's list; each becomes a shard when all its scenes are finished or left out.

    Args:
        out: folder of the pack, claimed for this job.
        source: reader of the scenes.
        scenes: ``id`` and ``category`` of the scenes, in the source's order.
        begun: when the job began, ``created_utc``, and the number of its first shard, ``first_shard``.
        index: the finished pack that the scenes are added to, if there is one.
        render: how meshes are rendered; None for sources of ready views.
        strict: the first scene that cannot be packed ends the job; those left out before are tried again.
    """

    def __init__(
        self,
        out: Path,
        source: SceneSource,
        scenes: list[dict[str, str]],
        begun: dict[str, Any],
        index: PackIndex | None,
        render: RenderSettings | None,
        strict: bool,
    ) -> None:
        self.out, self.scenes, self.index, self.strict = out, scenes, index, strict
        self.parts = Parts(out / SCENES_FOLDER)
        self.stamp = {"renderer": _renderer(render), "created_utc": begun["created_utc"]}
        self.first_shard: int = begun["first_shard"]
        count = -(-len(scenes) // layout.SCENES_PER_SHARD)
        self.files = [out / layout.shard_name(self.first_shard + block) for block in range(count)]
        self._forget_changed(source)
        self.waiting = [block for block, file in enumerate(self.files) if not file.exists()]
        if strict:
            for block in self.waiting:
                for row in self._rows(block):
                    self.parts.forget(row)
        self.missing = {
            block: {row for row in self._rows(block) if not self.parts.is_settled(row)} for block in self.waiting
        }
        whole = next((file for file in self.files if file.exists()), None)
        self.image_size = image_size(whole) if whole else index.image_size if index else None
        self.num_reported = 0

    def settle(self, writer: SceneWriter, workers: Workers) -> None:
        """Makes all scenes that are not there yet, and the shards.

        Raises:
            UsageError: with ``strict``, a scene cannot be packed; or no worker can begin.
            OSError: the disk is full.
        """
        todo = [row for block in self.waiting for row in sorted(self.missing[block])]
        settled = settle_scenes(writer, todo, workers)
        total = len(self.scenes)
        with closing(settled), Progress(desc="packing", total=total, initial=total - len(todo), unit="scene") as bar:
            self._write_whole_blocks()
            for row in settled:
                self._report(row)
                self.missing[row // layout.SCENES_PER_SHARD].remove(row)
                self._write_whole_blocks()
                bar.update()

    def write_index(self, split_rule: str, job: str) -> None:
        """Writes ``pack.json``, which makes the scenes part of the pack.

        Raises:
            UsageError: no scene could be packed.
        """
        records = [self.parts.left_out(row) for row in range(len(self.scenes))]
        left_out = [record for record in records if record is not None]
        shards = [index_row(file) for file in self.files if file.exists()]
        if not shards:
            if self.num_reported == len(left_out):
                raise UsageError("no scene can be packed: mend what the lines above say")
            first = f"the first, {left_out[0]['id']}, because {left_out[0]['reason']}"
            raise UsageError(f"no scene can be packed, {first}")
        if self.index is not None:
            tried = {scene["id"] for scene in self.scenes}
            left_out = [record for record in self.index.left_out if record["id"] not in tried] + left_out
            shards = self.index.document["shards"] + shards
        jobs = self.index.document["jobs"] if self.index is not None else []
        write_index(self.out, shards, split_rule, [*jobs, job], left_out)

    def _rows(self, block: int) -> range:
        first = block * layout.SCENES_PER_SHARD
        return range(first, min(first + layout.SCENES_PER_SHARD, len(self.scenes)))

    def _forget_changed(self, source: SceneSource) -> None:
        """Scenes whose files were changed while the job was interrupted are made anew, whole shards with them."""
        row_of = {scene["id"]: row for row, scene in enumerate(self.scenes)}
        finished = [(file, [row_of[name] for name in scene_ids(file)]) for file in self.files if file.exists()]
        finished += [(self.parts.views(row), [row]) for row in row_of.values() if self.parts.views(row).exists()]
        for file, rows in finished:
            records = zip(rows, scene_records(file), strict=True)
            changed = [row for row, record in records if is_changed_since(source, record, self.parts.begun(row))]
            for row in changed:
                Progress.write(f"made anew, since its file was changed: {self.scenes[row]['id']}")
            if changed:
                file.unlink()

    def _report(self, row: int) -> None:
        """Says that a scene is left out; with ``strict`` that ends the job, and the scene's turn comes again."""
        record = self.parts.left_out(row)
        if record is None:
            return
        if self.strict:
            self.parts.forget(row)
            raise UsageError(f"scene {record['id']}: {record['reason']}")
        Progress.write(f"left out: {record['id']}: {record['reason']}")
        self.num_reported += 1

    def _write_whole_blocks(self) -> None:
        self.image_size = self.image_size or self._first_image_size()
        for block in [block for block in self.waiting if self.image_size and not self.missing[block]]:
            self._leave_out_other_sizes(block)
            self._write_shard(block)
            self.waiting.remove(block)

    def _first_image_size(self) -> tuple[int, int] | None:
        """That of the first scene of the list that can be packed, once it is known which one it is."""
        for row in range(len(self.scenes)):
            if self.parts.views(row).exists():
                return image_size(self.parts.views(row))
            if not self.parts.is_settled(row):
                return None
        return None

    def _finished(self, block: int) -> list[int]:
        return [row for row in self._rows(block) if self.parts.views(row).exists()]

    def _leave_out_other_sizes(self, block: int) -> None:
        """Last of all, since only now it is known which size the pack has."""
        assert self.image_size is not None
        for row in self._finished(block):
            (height, width), (pack_height, pack_width) = image_size(self.parts.views(row)), self.image_size
            if (height, width) == (pack_height, pack_width):
                continue
            reason = (
                f"its images have {height}x{width} pixels, those of the pack {pack_height}x{pack_width}: bring all to "
                "one size with --resolution"
            )
            if self.strict:
                raise UsageError(f"scene {self.scenes[row]['id']}: {reason}")
            self.parts.leave_out(row, self.scenes[row]["id"], reason)
            self._report(row)

    def _write_shard(self, block: int) -> None:
        rows = self._finished(block)
        files = [self.parts.views(row) for row in rows]
        if files:
            stamp = self.stamp | {"shard_index": self.first_shard + block}
            write_shard(self.files[block], [self.scenes[row] for row in rows], files, stamp)
        for file in files:
            file.unlink()


def _renderer(render: RenderSettings | None) -> str:
    if render is None:
        return "none: the views were copied"
    return f"ray caster on embreex {version('embreex')}, {render.samples_per_pixel} samples a pixel"
