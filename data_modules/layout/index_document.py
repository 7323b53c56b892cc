"""``pack.json``, the index of a pack: its version, its digest, its rule of the split, and whether a document is one."""

import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.sources.base import UNFIT, is_name
from data_modules.sources.files import short
from scaled_ig.documents import parse_json, read_file
from scaled_ig.errors import UsageError

SCHEMA_VERSION = 3
READABLE_VERSIONS = (2, 3)  # a pack of schema 2 has no masks
INDEX_FILE = "pack.json"
SPLIT_RULES = ("first", "every_tenth")
LARGEST_IMAGE = 1 << 16
MOST_PIXELS = 1 << 26
LARGEST_RADIUS = 1e9
MOST_VIEWS = 1 << 20  # of a scene

Kinds = dict[str, tuple[type, ...]]
INDEX_KEYS: Kinds = {
    "image_size": (list,),
    "scene_radius": (int, float),
    "split": (str,),
    "jobs": (list,),
    "left_out": (list,),
    "shards": (list,),
}
SHARD_KEYS: Kinds = {"file": (str,), "bytes": (int,), "sha256": (str,), "scenes": (list,)}
SCENE_KEYS: Kinds = {"id": (str,), "category": (str,), "shape": (str,), "views": (int,), "sha256": (str,)}
MASKS_KEY: Kinds = {"masks": (bool,)}  # of a scene, since schema 3
LEFT_OUT_KEYS: Kinds = {"id": (str,), "reason": (str,)}


def json_sha256(document: dict[str, Any]) -> str:
    """Digest of a JSON document, whatever its layout; its own key ``sha256`` is left out."""
    content = {key: value for key, value in document.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def split_views(num_views: int, rule: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which views of a scene whose files do not say so are trained on and which are held out.

    Args:
        num_views: number of views V of the scene.
        rule: ``first`` holds out the first V - ceil(0.9 V) views, as the authors do with views drawn at random;
            ``every_tenth`` holds out views 0, 10, 20, ... of captures, whose neighbours are alike.

    Returns:
        Indices of training views and of test views, ascending.

    Raises:
        ValueError: the rule is not known.
    """
    if rule not in SPLIT_RULES:
        raise ValueError(f"split rule {rule!r} is not known: use {' or '.join(SPLIT_RULES)}")
    views = np.arange(num_views)
    # Integers, since 0.9 * 50 may come out above 45.
    first = num_views - math.ceil(9 * num_views / 10)
    is_test = views < first if rule == "first" else views % 10 == 0
    return views[~is_test], views[is_test]


def read_index(folder: Path) -> dict[str, Any]:
    """Reads the index of a pack that anybody may have written.

    Raises:
        UsageError: no pack, one of another version, or an index that is damaged or not that of a pack.
    """
    path = folder / INDEX_FILE
    try:
        document = parse_json(read_file(path))
        digest = json_sha256(document) if isinstance(document, dict) else None
    except FileNotFoundError:
        if not folder.is_dir():
            raise UsageError(f"{folder} is no finished pack, since there is no such folder") from None
        raise UsageError(f"{folder} is no finished pack, since it has no {INDEX_FILE}: run scaled-ig pack") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read ({error}): restore it or write the pack again") from None
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version not in READABLE_VERSIONS:
        versions = " and ".join(map(str, READABLE_VERSIONS))
        raise UsageError(f"{path} is of version {short(version)}, this program reads {versions}: write the pack again")
    if document.get("sha256") != digest:
        raise UsageError(f"{path} is damaged (its sha256 is another): restore it or write the pack again")
    fault = next(index_faults(document), None)  # anybody can compute a digest
    if fault:
        raise UsageError(f"{path} is not the index of a pack ({fault}): restore it or write the pack again")
    return document


def index_faults(document: dict[str, Any]) -> Iterator[str]:
    """What keeps a document from being the index of a pack; whoever asks for more than the first may get an error."""
    yield from _key_faults(document, INDEX_KEYS, "it")
    scene_keys = SCENE_KEYS if document["schema_version"] == 2 else SCENE_KEYS | MASKS_KEY
    size, radius = document["image_size"], document["scene_radius"]
    is_size = len(size) == 2 and all(type(side) is int and 0 < side <= LARGEST_IMAGE for side in size)
    if not is_size or math.prod(size) > MOST_PIXELS:
        yield f"its image_size is {short(size)}"
    if not 0 < radius < LARGEST_RADIUS:  # nor NaN
        yield f"its scene_radius is {short(radius)}"
    if document["split"] not in SPLIT_RULES:
        yield f"its split rule is {short(document['split'])}"
    for scene in document["left_out"]:
        yield from _key_faults(scene, LEFT_OUT_KEYS, "a scene that was left out")
    files: set[str] = set()
    for shard in document["shards"]:
        yield from _key_faults(shard, SHARD_KEYS, "a file")
        name = shard["file"]
        if not is_name(name) or Path(name).name != name or not name.endswith(".h5") or name in files:
            yield f"it names the file {short(name)}, twice or not in its folder"
        files.add(name)
        for scene in shard["scenes"]:
            yield from _scene_faults(scene, scene_keys)
    if not any(shard["scenes"] for shard in document["shards"]):
        yield "it lists no scene"


def _scene_faults(scene: Any, keys: Kinds) -> Iterator[str]:
    yield from _key_faults(scene, keys, "a scene")
    for key in ("id", "category"):
        if UNFIT.search(scene[key]):
            yield f"the {key} {short(scene[key])} of a scene has characters that cannot be printed"
    if not 0 <= scene["views"] <= MOST_VIEWS:
        yield f"scene {scene['id']} has {short(scene['views'])} views"
    test_views, val_views = (scene.get(key, 0) for key in ("test_views", "val_views"))
    if not (type(test_views) is type(val_views) is int and test_views >= 0 and val_views >= 0):
        yield f"the held out views of scene {scene['id']} are {short((test_views, val_views))}"
    elif test_views + val_views > scene["views"]:
        yield f"scene {scene['id']} holds out {test_views + val_views} of {scene['views']} views"
    warnings = scene.get("warnings", [])
    if not isinstance(warnings, list) or not all(isinstance(text, str) and is_name(text) for text in warnings):
        yield f"the warnings of scene {scene['id']} are {short(warnings)}"


def _key_faults(row: Any, kinds: Kinds, what: str) -> Iterator[str]:
    """Keys that are missing or of another type; a bool is no number here."""
    if not isinstance(row, dict):
        yield f"{what} is {short(row)}"
        return
    for key, types in kinds.items():
        if type(row.get(key)) not in types:
            yield f"the {key} of {what} is {short(row.get(key))}"
