"""What each encoding of a run's scenes costs: bytes, and quality on test views."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from data_modules.base import MultiViewDataModule
from scaled_ig.bank.scene_bank import SceneBank, spread
from scaled_ig.bank.scene_records import ENCODINGS, Encoding, decode, encode
from scaled_ig.errors import UsageError
from scaled_ig.metrics.evaluation import evaluate, over_scenes, per_scene
from scaled_ig.progress import Progress
from scaled_ig.runs.record import RunRecord
from scaled_ig.scene_model import SceneModel


@dataclass(frozen=True)
class EncodingCost:
    """What an encoding of a version's scenes costs.

    Args:
        version: Name of the version.
        encoding: Name of the encoding.
        bytes_per_scene: Mean over scenes.
        psnr: Of test views, dB, mean over views, then over scenes.
        psnr_gain: Difference to the PSNR of float32, dB.
    """

    version: str
    encoding: str
    bytes_per_scene: float
    psnr: float
    psnr_gain: float


def measure_encodings(bank: Path, sample: int, pack: str | None) -> list[EncodingCost]:
    """Encode scenes in every way, and render their test views from what is left of them.

    Args:
        bank: The bank of a run.
        sample: Scenes of a version, spread evenly.
        pack: Folder of the pack, where it has been moved since.

    Returns:
        One for each version and encoding.

    Raises:
        UsageError: The bank is none of a run, or the pack is not there.
    """
    if not (bank.parent / "config.yaml").is_file():
        raise UsageError(f"--measure needs the views of a run, and {bank} is in none: give the folder of its run")
    record = RunRecord.open(bank.parent, measured=False)
    data = record.open_data(pack)
    costs = []
    for stage in record.learned_stages():
        for version in record.versions(stage):
            costs += _measure_version(record.bank, version, data, stage, sample)
    for version in record.added_versions():
        try:
            data = record.open_added_data(version)
        except UsageError as error:
            print(f"{version} is left out: {error}")
            continue
        costs += _measure_version(record.bank, version, data, 2, sample)
    return costs


def _measure_version(
    bank: SceneBank, version: str, data: MultiViewDataModule, stage: int, sample: int
) -> list[EncodingCost]:
    """What each encoding costs."""
    ids = [record.id for record in spread(bank.scenes(version), sample)]
    model, mean = bank.load_version(version, ids), bank.mean(version)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    results = {}
    for encoding in Progress(ENCODINGS, version, unit="encoding", leave=False):
        with encoded(model, len(ids), encoding, mean) as size:
            means = over_scenes(per_scene(evaluate(model, data.views_of(stage, ids, "test"))))
        results[encoding] = size / len(ids), means["psnr"]
    exact = results["float32"][1]
    return [EncodingCost(version, name, size, psnr, psnr - exact) for name, (size, psnr) in results.items()]


@contextmanager
def encoded(model: SceneModel, count: int, encoding: Encoding, mean: dict[str, Tensor]) -> Iterator[int]:
    """The first ``count`` scenes of a model as an encoding leaves them, and its bytes; afterwards they are as before.

    Args:
        model: The model, of whose scenes this rank holds as many.
        count: Number of scenes.
        encoding: The encoding.
        mean: Reference row of each table.
    """
    tables, texels = model.representation.scene_tables(), model.representation.texels
    exact = {name: table.weight[:count].detach().clone() for name, table in tables.items()}
    size = 0
    with torch.no_grad():
        for row in range(count):
            content = encode({name: rows[row].cpu() for name, rows in exact.items()}, encoding, mean, texels)
            size += len(content)
            for name, values in decode(content, encoding, mean, texels).items():
                tables[name].weight[row] = values
        try:
            yield size
        finally:
            for name, rows in exact.items():
                tables[name].weight[:count] = rows
