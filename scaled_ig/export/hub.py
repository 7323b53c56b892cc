"""A data set for the Hugging Face Hub: planes in Parquet files, what reads them beside, and a card."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import CommitOperationAdd, HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id
from numpy.typing import NDArray
from safetensors.numpy import save

from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.bank.table import BankRecord
from scaled_ig.errors import UsageError
from scaled_ig.export import decode
from scaled_ig.export.card import card
from scaled_ig.export.contents import Contents
from scaled_ig.files import replacing, write_json, write_whole

FILE_BYTES = 512 * 2**20
"""A Parquet file has scenes of so many bytes, and one more is begun."""
GROUP_BYTES = 32 * 2**20
"""Scenes of so many bytes are in memory together."""
SHARED_FILE, ABOUT_FILE, DECODE_FILE = "shared.safetensors", "about.json", "decode.py"
Row = tuple[BankRecord, NDArray[np.float32], dict[str, NDArray[Any]]]


def write_hf(
    bank: SceneBank, ids: list[str], out: Path, progress: Callable[[int], object], push: str | None = None
) -> str:
    """Write the folder of a data set that ``datasets.load_dataset`` opens, and push it if asked to.

    Args:
        bank: The bank.
        ids: Of the scenes.
        out: The folder.
        progress: Told the number of scenes that are done.
        push: Id of the data set on the Hub.

    Raises:
        UsageError: pyarrow is not installed, the scenes have no planes, or they cannot be pushed; the folder is whole
            in the last case.
    """
    if push is not None:
        _require_pushable(push)
    contents = Contents(bank, ids, progress)
    features = _features(contents)
    _write_rows(contents, features, out / "data")
    shared = contents.shared() | {f"statistics.{name}": array for name, array in contents.statistics().items()}
    if contents.model.own_heads:
        shared |= {f"head.{name}": array for name, array in contents.heads().items()}
    write_whole(out / SHARED_FILE, save({name: np.ascontiguousarray(array) for name, array in shared.items()}))
    write_json(out / ABOUT_FILE, contents.about())
    with replacing(out / DECODE_FILE) as draft:
        shutil.copyfile(decode.__file__, draft)
    write_whole(out / "README.md", card(contents, features, push or f"USER/{out.resolve().name}"))
    written = f"{out}: {len(ids):,} scene{'s' * (len(ids) > 1)} for datasets.load_dataset; look at its README.md before others do"
    return written if push is None else f"{written}\n{_push(out, push)}"


def _features(contents: Contents) -> dict[str, Any]:
    """Columns as the datasets library describes them."""
    text = {"dtype": "string", "_type": "Value"}
    features: dict[str, Any] = dict.fromkeys(("id", "category", "licence", "source_sha256"), text)
    features["planes"] = {"shape": list(contents.plane_shape), "dtype": "float32", "_type": "Array4D"}
    if "mixing" in contents.row_shapes:
        features["mixing"] = {"feature": {"dtype": "float32", "_type": "Value"}, "_type": "Sequence"}
    if "hull" in contents.row_shapes:
        features["hull"] = {"shape": list(contents.row_shapes["hull"]), "dtype": "uint8", "_type": "Array3D"}
    return features


def _write_rows(contents: Contents, features: dict[str, Any], folder: Path) -> None:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise UsageError("--format hf writes Parquet files: pip install 'scaled-ig[hub]', then call again") from None
    scene_bytes = 4 * math.prod(contents.plane_shape)
    per_group, per_file = max(1, GROUP_BYTES // scene_bytes), max(1, FILE_BYTES // scene_bytes)
    num_files = -(-len(contents.records) // per_file)
    rows = contents.scenes()
    schema = None
    for number in range(num_files):
        left = islice(rows, per_file)
        with replacing(folder / f"train-{number:05d}-of-{num_files:05d}.parquet") as draft:
            writer = None
            for group in _groups(left, per_group):
                table = pa.table({name: _column(name, feature, group) for name, feature in features.items()})
                schema = table.schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
                writer = writer or parquet.ParquetWriter(draft, schema, compression="zstd", use_dictionary=False)
                writer.write_table(table.cast(schema))
            assert writer is not None
            writer.close()


def _groups(rows: Iterator[Row], count: int) -> Iterator[list[Row]]:
    while group := list(islice(rows, count)):
        yield group


def _column(name: str, feature: dict[str, Any], group: list[Row]) -> Any:
    """Values of some scenes: texts, or lists of lists as deep as their shape."""
    import pyarrow as pa

    if feature["_type"] == "Value":
        return pa.array([getattr(record, name) for record, _, _ in group], pa.string())
    arrays = [planes if name == "planes" else rows[name] for _, planes, rows in group]
    column = pa.array(np.concatenate([array.reshape(-1) for array in arrays]))
    for size in reversed(arrays[0].shape):
        ends = np.arange(len(column) // size + 1, dtype=np.int32) * size
        column = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), column)
    return column


def _require_pushable(push: str) -> None:
    try:
        validate_repo_id(push)
    except HFValidationError:
        push = ""
    if not re.fullmatch(r"[^/]+/[^/]+", push):
        raise UsageError("--push names no data set of the Hub: give USER/NAME")
    if get_token() is None:
        raise UsageError("--push needs a token of the Hub: hf auth login, or set HF_TOKEN; nothing was written")


def _push(out: Path, name: str) -> str:
    """Put the folder there in one commit: all of it, or nothing (``upload_folder`` may take several)."""
    api, files = HfApi(), sorted(path for path in out.rglob("*") if path.is_file())
    operations = [CommitOperationAdd(file.relative_to(out).as_posix(), file) for file in files]
    try:
        api.create_repo(name, repo_type="dataset", private=True, exist_ok=True)
        commit = api.create_commit(name, operations, commit_message="Scenes as planes", repo_type="dataset")
    except (HfHubHTTPError, OSError, RuntimeError, ValueError) as error:  # the last of a card that it does not take
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UsageError(
            f"{out} is whole, and was not pushed to {name} ({reason}): look at the token and the network, then "
            f"hf upload {name} {out} --repo-type dataset"
        ) from None
    return f"pushed: {commit.commit_url}; a new data set is private until you change that on its page"
