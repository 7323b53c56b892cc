"""Looks through one shard, in a child process: damage may crash the HDF5 library or have it wait for ever.

Nothing is read before its type and shape are known to be those of the index, so that no file can ask for more memory
than its scenes take.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from data_modules import layout
from data_modules.checking.findings import RESTORE, RESTORE_FILE, Finding, SceneReport, ShardTask
from data_modules.checking.scene import check_scene
from data_modules.layout.index_document import READABLE_VERSIONS
from data_modules.layout.structure import claim_faults, dataset_faults, link_faults
from data_modules.processes import BEAT
from data_modules.sources.base import PosedViews

OPENED = "opened"  # the scenes come next
BLOCK_BYTES = 16 << 20
ATTRIBUTE_ITEMS = 256


def check_shard(task: ShardTask) -> Iterator[Any]:
    """Yields ``Finding`` for the file; ``OPENED``, ``SceneReport`` for each scene in order; ``BEAT`` in between."""
    if task.start == task.shard.first_scene:
        yield from _check_bytes(task)
    try:
        with h5py.File(task.shard.path, "r", locking=False) as file:
            faults = list(structure_faults(file, task))
            yield from (_of_file(task, fault) for fault in faults)
            if faults:
                return
            columns = {name: file[name][:] for name in (layout.SCENE_ID, layout.CATEGORY, layout.SHA256, layout.SOURCE)}
            masked = file[layout.MASKED][:].astype(bool) if any(task.masked) else [False] * len(task.masked)
            digest = hashlib.sha256(b"".join(columns[layout.SHA256])).hexdigest()
            if digest.encode() != file.attrs["content_sha256"]:
                yield _of_file(task, "its content_sha256 is not that of its scenes' digests")
            yield OPENED
            for scene in range(task.start, task.shard.last_scene):
                row = scene - task.shard.first_scene
                record = {name: bytes(column[row]) for name, column in columns.items()}
                try:
                    yield from _check_scene(file, task, scene, record, bool(masked[row]))
                except Exception as error:
                    yield _damaged(task, scene, f"cannot be read ({_sentence(error)})")
    except Exception as error:  # h5py raises whatever the damage leads it to
        yield _of_file(task, f"cannot be read ({_sentence(error)})")


def _of_file(task: ShardTask, what: str) -> Finding:
    return Finding(task.shard.path.name, None, None, what, RESTORE_FILE)


def _sentence(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _check_bytes(task: ShardTask) -> Iterator[Any]:
    shard, digest = task.shard, hashlib.sha256()
    try:
        size = shard.path.stat().st_size
        with shard.path.open("rb") as stream:
            while block := stream.read(BLOCK_BYTES):
                digest.update(block)
                yield BEAT
    except OSError as error:
        yield _of_file(task, f"cannot be read ({error.strerror})")
        return
    if size != shard.bytes:
        yield _of_file(task, f"is not the file that was packed: it has {size:,} bytes instead of {shard.bytes:,}")
    elif digest.hexdigest() != shard.sha256:
        yield _of_file(task, f"is not the file that was packed: its sha256 is not that of {layout.INDEX_FILE}")


def structure_faults(file: h5py.File, task: ShardTask) -> Iterator[str]:
    """What keeps the scenes of an open shard from being read; nothing large is read to find out."""
    outside = list(link_faults(file))
    if outside:
        yield from outside
        return
    faults = list(_attribute_faults(file, task))
    for name, (dtype, shape) in _expected(task).items():
        faults += _dataset_faults(file, name, dtype, shape, task.shard.path.stat().st_size)
    if layout.MASKS in file and not any(task.masked):
        faults.append(f"has a dataset {layout.MASKS}, while {layout.INDEX_FILE} says that no scene has masks")
    yield from faults
    if not faults:
        offsets = file[layout.OFFSET][:]
        if offsets[0] != 0 or (np.diff(offsets) < 0).any() or offsets[-1] != len(file[layout.VIEWS]):
            yield f"its table {layout.OFFSET} does not ascend from 0 to the number of views"


def _attribute_faults(file: h5py.File, task: ShardTask) -> Iterator[str]:
    expected: dict[str, tuple[Any, ...]] = {name: (value,) for name, value in layout.WORLD_ATTRIBUTES.items()}
    expected |= {"schema": (layout.SCHEMA,), "image_size": (task.image_size,), "complete": (True,)}
    # But for this number, a file of schema 2 is one of schema 3 without masks.
    expected["schema_version"] = (layout.SCHEMA_VERSION,) if any(task.masked) else READABLE_VERSIONS
    for name in (*expected, "content_sha256"):
        if name not in file.attrs:
            yield f"has no attribute {name}, as an unfinished or foreign file"
            return
        attribute = file.attrs.get_id(name)
        if attribute.dtype.kind not in "Sbiuf" or np.prod(attribute.shape, dtype=float) > ATTRIBUTE_ITEMS:
            yield f"its attribute {name} is of type {attribute.dtype} and shape {attribute.shape}"
        elif name in expected and not any(_is_equal(file.attrs[name], value) for value in expected[name]):
            values = " or ".join(map(str, expected[name]))
            yield f"its attribute {name} is {str(file.attrs[name])[:60]} instead of {values}"


def _is_equal(value: Any, expected: Any) -> bool:
    if isinstance(expected, str):
        return value in (expected, expected.encode())
    return bool(np.array_equal(value, expected))


def _expected(task: ShardTask) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of every dataset; ``S`` stands for strings of fixed length."""
    scenes, views = len(task.scene_ids), sum(task.num_views)
    masks: dict[str, tuple[str, tuple[int, ...]]] = {
        layout.MASKS: ("uint8", (views, *task.image_size)),
        layout.MASKED: ("uint8", (scenes,)),
    }
    return {
        layout.VIEWS: ("uint8", (views, *task.image_size, 3)),
        layout.CAMERA_TO_WORLD: ("float32", (views, 4, 4)),
        layout.INTRINSICS: ("float32", (views, 4)),
        layout.NEAR_FAR: ("float32", (views, 2)),
        layout.OFFSET: ("int64", (scenes + 1,)),
        layout.SCENE_ID: ("S", (scenes,)),
        layout.CATEGORY: ("S", (scenes,)),
        layout.SHA256: ("S", (scenes,)),
        layout.SOURCE: ("S", (scenes,)),
        **(masks if any(task.masked) else {}),
    }


def _dataset_faults(file: h5py.File, name: str, dtype: str, shape: tuple[int, ...], file_bytes: int) -> Iterator[str]:
    faults = list(dataset_faults(file, name, dtype, shape, layout.INDEX_FILE))
    if faults:
        yield from faults
        return
    claims = list(claim_faults(file, name, file_bytes))
    if claims:
        yield from claims
    elif name in (layout.VIEWS, layout.MASKS) and not _is_stored_by_view(file[name]):
        yield f"its dataset {name} is not stored as one gzip-compressed chunk with a checksum a view"


def _is_stored_by_view(views: h5py.Dataset) -> bool:
    by_view = views.chunks == (1, *views.shape[1:])
    return by_view and views.compression == "gzip" and views.fletcher32 and not (views.shuffle or views.scaleoffset)


def _damaged(task: ShardTask, scene: int, what: str, views: tuple[int, ...] | None = None) -> SceneReport:
    name = task.scene_ids[scene - task.shard.first_scene]
    return SceneReport(scene, (Finding(task.shard.path.name, name, views, what, RESTORE),), {})


def _check_scene(
    file: h5py.File, task: ShardTask, scene: int, record: dict[str, bytes], has_masks: bool
) -> Iterator[Any]:
    """Reads one scene with beats in between, and reports on it."""
    row = scene - task.shard.first_scene
    first, last = (int(place) for place in task.offsets[row : row + 2])
    for actual, expected, what in (
        (file[layout.OFFSET][row : row + 2].tolist(), [first, last], "table of views"),
        (record[layout.SCENE_ID].decode(errors="replace"), task.scene_ids[row], "id"),
        (record[layout.CATEGORY].decode(errors="replace"), task.categories[row], "category"),
        (record[layout.SHA256].decode(errors="replace"), task.digests[row], "digest"),
        (has_masks, task.masked[row], "flag of masks"),
    ):
        if actual != expected:
            yield _damaged(task, scene, f"its {what} is {actual} in the file, but {expected} in {layout.INDEX_FILE}")
            return
    images = np.empty((last - first, *task.image_size, 3), np.uint8)
    masks = np.empty(images.shape[:3], np.uint8) if has_masks else None
    step = max(1, BLOCK_BYTES // max(1, images[:1].nbytes))
    for name, values in ((layout.VIEWS, images), (layout.MASKS, masks)):
        if values is None:
            continue
        try:
            for start in range(0, len(values), step):
                values[start : start + step] = file[name][first + start : min(first + start + step, last)]
                yield BEAT
        except Exception as error:
            rows = _unreadable_rows(file[name], first, last)
            yield _damaged(task, scene, f"cannot be read ({_sentence(error)})", rows)
            return
    names = (layout.CAMERA_TO_WORLD, layout.INTRINSICS, layout.NEAR_FAR)
    poses, intrinsics, near_far = (file[name][first:last] for name in names)
    views = PosedViews(images, poses, intrinsics, near_far, masks)
    if layout.scene_sha256(images, poses, intrinsics, near_far, masks) != task.digests[row]:
        yield _damaged(task, scene, "its views, cameras or masks are not those that were packed (sha256)")
    else:
        yield from check_scene(views, task, scene, record[layout.SOURCE])


def _unreadable_rows(views: h5py.Dataset, first: int, last: int) -> tuple[int, ...] | None:
    unreadable = []
    for view in range(first, last):
        try:
            views[view]
        except Exception:
            unreadable.append(view - first)
    return tuple(unreadable) or None
