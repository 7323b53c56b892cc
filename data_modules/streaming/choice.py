"""Which scenes of a pack: by place, by name, from a file, or by category."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_modules.layout import PackIndex
from scaled_ig.errors import UsageError
from scaled_ig.ranges import Place, checked


@checked
@dataclass(frozen=True)
class SceneChoice:
    """Some scenes of a pack; give one of the four, or a category together with one of the others.

    Args:
        range: First scene and the one after the last, in the order of the pack.
        ids: Their ids.
        file: Text file with one id on each line.
        category: All scenes of a category.
    """

    range: tuple[Place, Place] | None = None
    ids: list[str] | None = None
    file: str | None = None
    category: str | None = None

    def scenes(self, index: PackIndex, pool: Sequence[int]) -> list[int]:
        """The chosen ones among ``pool``, ascending.

        Args:
            index: The pack.
            pool: Scenes of the pack to choose from; a range counts these.

        Raises:
            UsageError: There is no such scene, or nothing or too much is chosen.
        """
        options = [name for name in ("range", "ids", "file") if getattr(self, name) is not None]
        if len(options) > 1:
            raise UsageError(f"scenes are chosen by one of {' and '.join(options)}: leave out the others")
        if not options and self.category is None:
            raise UsageError("a choice of scenes needs one of range, ids, file and category: give one")
        if not (self.ids is None or self.ids):
            raise UsageError("scenes ids chooses none: name some scenes")
        scenes = list(pool)
        if self.category is not None:
            scenes = [scene for scene in scenes if index.categories[scene] == self.category]
            if not scenes:
                categories = ", ".join(sorted(set(index.categories)))
                raise UsageError(f"{index.path} has no scene of category {self.category!r}: choose among {categories}")
        if self.range is not None:
            first, last = self.range
            if not 0 <= first < last <= len(scenes):
                raise UsageError(
                    f"scenes range [{first}, {last}] does not fit the {len(scenes)} scenes of {index.path}"
                )
            return scenes[first:last]
        if self.ids is not None:
            return _by_id(index, scenes, self.ids, "scenes ids")
        if self.file is not None:
            return _by_id(index, scenes, read_ids(Path(self.file)), self.file)
        return scenes


def _by_id(index: PackIndex, pool: Sequence[int], ids: Sequence[str], origin: str) -> list[int]:
    place = {index.scene_ids[scene]: scene for scene in pool}
    for name in ids:
        if name not in place:
            alike = difflib.get_close_matches(name, place, n=1)
            hint = f"did you mean {alike[0]}?" if alike else "name scenes of this pack"
            raise UsageError(f"{origin}: {index.path} has no scene {name} to choose: {hint}")
    return sorted({place[name] for name in ids})


def read_ids(path: Path) -> list[str]:
    """Ids of a text file, one on each line.

    Raises:
        UsageError: It cannot be read, or is empty.
    """
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the list of scenes {path} cannot be read ({error}): give a text file of ids") from None
    if not any(names):
        raise UsageError(f"the list of scenes {path} is empty: write one id on each line")
    return [name for name in names if name]
