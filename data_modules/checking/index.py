"""What the index of a pack alone shows: what its scenes have in common."""

from collections.abc import Iterator

import numpy as np

from data_modules.checking.findings import LEAVE_OUT, Finding
from data_modules.layout import INDEX_FILE, PackIndex

FEW_VIEWS = 0.5  # of the views that most scenes have


def shared_findings(index: PackIndex, sound: set[int]) -> Iterator[tuple[int, Finding]]:
    """Scenes that stand out from the others, or are there twice.

    Args:
        index: the pack.
        sound: scenes that nothing else is wrong with; the first of these is kept of scenes that are alike.

    Yields:
        The number of the scene, and the finding.
    """
    usual_views = float(np.median(index.num_views))
    splits = [index.split(scene) for scene in range(index.num_scenes)]
    any_test = any(len(test) for _, test in splits)
    by_id: dict[str, int] = {}
    by_digest: dict[str, int] = {}
    for scene, (name, digest, (train, test)) in enumerate(zip(index.scene_ids, index.digests, splits, strict=True)):
        views, faults = len(train) + len(test), []
        if name in by_id:
            faults.append(("has the id of another scene", f"give each scene an id of its own, {LEAVE_OUT}"))
        elif scene in sound and digest in by_digest:
            twin = index.scene_ids[by_digest[digest]]
            faults.append((f"has the views and cameras of scene {twin}", f"pack it once, {LEAVE_OUT}"))
        if views < FEW_VIEWS * usual_views:
            faults.append((f"has {views} views, where most scenes have {usual_views:g}", f"add its views, {LEAVE_OUT}"))
        for part, use in ((train, "train on"), (test, "test on")):
            if views and not len(part) and (any_test or use == "train on"):
                what = f"has no view to {use}: {views} views, split rule {index.split_rule}"
                faults.append((what, f"add views, {LEAVE_OUT}"))
        by_id.setdefault(name, scene)
        if scene in sound and not faults:
            by_digest.setdefault(digest, scene)
        file = index.shards[index.shard_of(scene)].path.name
        yield from ((scene, Finding(file, name, None, *fault)) for fault in faults)


def untested_findings(index: PackIndex) -> Iterator[Finding]:
    """One line where no scene at all has a test view, as with few views and a rule made for many."""
    most = int(index.num_views.max())
    if most and not any(len(index.split(scene)[1]) for scene in range(index.num_scenes)):
        what = f"split rule {index.split_rule} leaves no scene a view to test on (at most {most} views a scene)"
        yield Finding(INDEX_FILE, None, None, what, "pack it again with --split every_tenth, or with 10 views or more")
