"""A row of the campaign that flips single bits of a pack: nobody may read something else than was packed.

Bits of its data, headers, attributes and index, one at a time; two readers are asked: the check, and the data module
that trains. The same flips can be made behind the back of the digests in ``pack.json``, to see what the checksums
within the files catch alone.
"""

import hashlib
import json
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np

from data_modules import layout
from data_modules.checking.check import check_pack
from data_modules.layout import PackIndex
from data_modules.packing import shards
from data_modules.packing.pack import write_pack
from data_modules.processes import DONE, Lost, run_tasks
from scaled_ig.errors import UsageError
from tests.conftest import BallScenes
from tests.faults.laboratory import Laboratory, Trial

PLACES = ("data", "headers", "attributes", "index")
SILENT, CRASHED, HUNG = "SILENTLY WRONG", "CRASHED", "HUNG"
HANG_SECONDS = 10.0
FLIPS_OF_A_CHILD = 100  # which imports the training code
NAMES = (
    *shards.CAMERAS, layout.VIEWS, layout.MASKS, layout.OFFSET, layout.SCENE_ID, layout.CATEGORY, layout.SHA256,
    layout.SOURCE, layout.MASKED,
)  # fmt: skip


@dataclass(frozen=True)
class Flip:
    """One bit of one file of a pack; ``place`` is one of ``PLACES``."""

    place: str
    file: str
    byte: int
    bit: int


def draw_flips(pack: Path, count: int, seed: int) -> list[Flip]:
    """Bits of a pack, as many in each of ``PLACES``, drawn at random."""
    generator = np.random.default_rng(seed)
    ranges = _places(pack)
    flips = []
    for number in range(count):
        place = PLACES[number % len(PLACES)]
        sizes = np.array([last - first for _, first, last in ranges[place]], float)
        file, first, last = ranges[place][generator.choice(len(sizes), p=sizes / sizes.sum())]
        flips.append(Flip(place, file, int(generator.integers(first, last)), int(generator.integers(8))))
    return flips


def _places(pack: Path) -> dict[str, list[tuple[str, int, int]]]:
    """Ranges of bytes: file, first, last."""
    found: dict[str, list[tuple[str, int, int]]] = {place: [] for place in PLACES}
    found["index"] = [(layout.INDEX_FILE, 0, (pack / layout.INDEX_FILE).stat().st_size)]
    for path in sorted(pack.glob("*.h5")):
        with h5py.File(path, "r") as file:
            chunks = [file[name].id.get_chunk_info(i) for name in NAMES for i in range(file[name].id.get_num_chunks())]
            attributes = [name.encode() for name in file.attrs]
        data = sorted((chunk.byte_offset, chunk.byte_offset + chunk.size) for chunk in chunks)
        found["data"] += [(path.name, *span) for span in data]
        borders = [0, *(edge for span in data for edge in span), path.stat().st_size]
        gaps = zip(borders[::2], borders[1::2], strict=True)
        found["headers"] += [(path.name, first, last) for first, last in gaps if last > first]
        content = path.read_bytes()
        starts = [content.index(name + b"\0") for name in attributes]
        found["attributes"].append((path.name, min(starts), max(starts) + 64))
    return found


def apply_flip(pack: Path, flip: Flip, rehash: bool) -> bytes:
    """Flips the bit; with ``rehash`` the digests in ``pack.json`` follow. Returns what the file was."""
    path = pack / flip.file
    before = path.read_bytes()
    content = bytearray(before)
    content[flip.byte] ^= 1 << flip.bit
    path.write_bytes(content)
    if rehash:
        document = json.loads((pack / layout.INDEX_FILE).read_text())
        row = next(row for row in document["shards"] if row["file"] == flip.file)
        row["sha256"] = hashlib.sha256(content).hexdigest()
        (pack / layout.INDEX_FILE).write_text(json.dumps(document | {"sha256": layout.json_sha256(document)}))
    return before


def read_everything(pack: Path) -> dict[str, Any]:
    """All that a pack says, without the digests of its files."""
    document = json.loads((pack / layout.INDEX_FILE).read_text())
    for row in document["shards"]:
        del row["sha256"]
    del document["sha256"]
    found: dict[str, Any] = {"index": document}
    for path in sorted(pack.glob("*.h5")):
        with h5py.File(path, "r") as file:
            found |= {f"{path.name}/{name}": file[name][()].tobytes() for name in NAMES}
            found |= {f"{path.name}@{name}": np.asarray(value).tolist() for name, value in file.attrs.items()}
    return found


def _compare(job: tuple[Path, Path]) -> Iterator[bool]:
    yield read_everything(job[0]) == read_everything(job[1])


def ask_check(pack: Path, original: Path) -> str:
    """What the check makes of a flipped pack, in a word."""
    start = time.monotonic()
    try:
        findings = check_pack(PackIndex.open(pack), quiet=True).findings
    except UsageError:
        return "refused"
    except Exception as error:
        return f"{CRASHED} {type(error).__name__}"
    if any("the HDF5 library" in finding.what for finding in findings):
        return "reported, HDF5 crashed or hung in its child"
    if time.monotonic() - start > HANG_SECONDS:
        return HUNG
    if findings:
        return "reported: sha256 of the file" if "is not the file" in findings[0].what else "reported: inside the file"
    (_, equal), *_ = run_tasks(_compare, deque([(pack, original)]), 1, HANG_SECONDS, disposable=True)
    return "harmless" if equal is True else SILENT


def ask_training(job: tuple[Path, tuple[Flip, ...], bool]) -> Iterator[str]:
    """What training makes of flipped packs: the data module verifies, reads and deals all views."""
    import torch

    from data_modules.shapenet import ShapeNetCars
    from data_modules.streaming.views import PackViews

    original, flips, rehash = job

    def read(folder: Path) -> list[Any]:
        scenes = PackIndex.open(original).num_scenes
        data = ShapeNetCars(str(folder), stage1_scenes=scenes, split_seed=None, num_workers=0)
        keys = data.own_views(1, "train") + data.own_views(1, "test")
        views = list(data.batches(1, keys))
        masks = PackViews(data.index, data.scenes(1), with_images=False, with_masks=True).__getitems__(keys)
        names = [data.scene_ids(1), data.index.categories, data.index.shapes, data.split(1, "train")]
        return [*names, [*views, masks]]

    def is_equal(a: list[Any], b: list[Any]) -> bool:
        parts = [[(x.images, x.masks, x.masked, *vars(x.cameras).values()) for x in own[-1]] for own in (a, b)]
        tensors = [[tensor for part in own for tensor in part if tensor is not None] for own in parts]
        return a[:-1] == b[:-1] and all(torch.equal(x, y) for x, y in zip(*tensors, strict=True))

    expected = read(original)
    with tempfile.TemporaryDirectory() as scratch:
        own = Path(shutil.copytree(original, Path(scratch) / "pack"))
        index = (own / layout.INDEX_FILE).read_bytes()
        for flip in flips:
            before, start = apply_flip(own, flip, rehash), time.monotonic()
            try:
                verdict = "harmless" if is_equal(read(own), expected) else SILENT
            except (UsageError, OSError) as error:
                verdict = "refused" if isinstance(error, UsageError) else "refused by HDF5"
            except Exception as error:
                verdict = f"{CRASHED} {type(error).__name__}"
            yield HUNG if time.monotonic() - start > HANG_SECONDS else verdict
            (own / flip.file).write_bytes(before)
            (own / layout.INDEX_FILE).write_bytes(index)


def check_verdicts(original: Path, flips: list[Flip], rehash: bool) -> list[str]:
    """What the check says of each flip."""
    verdicts = []
    with tempfile.TemporaryDirectory() as scratch:
        pack = Path(shutil.copytree(original, Path(scratch) / "pack"))
        index = (pack / layout.INDEX_FILE).read_bytes()
        for flip in flips:
            before = apply_flip(pack, flip, rehash)
            verdicts.append(ask_check(pack, original))
            (pack / flip.file).write_bytes(before)
            (pack / layout.INDEX_FILE).write_bytes(index)
    return verdicts


def training_verdicts(original: Path, flips: list[Flip], rehash: bool) -> list[str]:
    """What training says of each flip; a crash or a hang of its process costs one flip."""
    verdicts: list[str] = []
    while len(verdicts) < len(flips):
        some = tuple(flips[len(verdicts) : len(verdicts) + FLIPS_OF_A_CHILD])
        with closing(run_tasks(ask_training, deque([(original, some, rehash)]), 1, 60.0, disposable=True)) as answers:
            for answer in (message for _, message in answers if message != DONE):
                verdicts.append(f"{CRASHED} {answer.reason}" if isinstance(answer, Lost) else answer)
    return verdicts


def pack_flips(laboratory: Laboratory, random: Random, count: int) -> Iterator[Trial]:
    """A bit of a pack flips: the check reports it, and training refuses it."""
    pack = laboratory.folder / "spoilt"
    write_pack(BallScenes(8, 10, 32, masked=4), pack, render=None)
    flips = draw_flips(pack, count, random.randrange(2**32))
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(verdicts, pack, flips, rehash=False) for verdicts in (check_verdicts, training_verdicts)]

    def trial(verdicts: tuple[str, str], folder: Path) -> None:
        assert not any(verdict.startswith((SILENT, CRASHED, HUNG)) for verdict in verdicts), verdicts

    answers = zip(*(future.result() for future in asked), strict=True)
    for flip, verdicts in zip(flips, answers, strict=True):
        yield Trial(f"bit {flip.bit} of byte {flip.byte} of {flip.file}", partial(trial, verdicts))
