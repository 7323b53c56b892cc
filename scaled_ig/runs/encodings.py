"""What each encoding of a run's scenes costs: bytes, and quality on test views."""

from __future__ import annotations

from pathlib import Path

import torch
from tqdm import tqdm

from data_modules.base import MultiViewDataModule
from scaled_ig.bank.scene_bank import SceneBank, spread
from scaled_ig.bank.scene_records import ENCODINGS, decode, encode
from scaled_ig.errors import UsageError
from scaled_ig.metrics.evaluation import evaluate, over_scenes, per_scene
from scaled_ig.runs.record import RunRecord


def measure_encodings(bank: Path, sample: int, pack: str | None) -> list[list[str]]:
    """Encode scenes in every way, and render their test views from what is left of them.

    Args:
        bank: The bank of a run.
        sample: Scenes of a version, spread evenly.
        pack: Folder of the pack, where it has been moved since.

    Returns:
        A row for each version and encoding: names, bytes a scene, PSNR in dB (mean over views, then over scenes), and
        its difference from that of float32.

    Raises:
        UsageError: The bank is none of a run, or the pack is not there.
    """
    if not (bank.parent / "config.yaml").is_file():
        raise UsageError(f"--measure needs the views of a run, and {bank} is in none: give the folder of its run")
    record = RunRecord.open(bank.parent, measured=False)
    data = record.open_data(pack)
    rows = []
    for stage in record.learned_stages():
        for version in record.versions(stage):
            rows += _rows(version, _measure_version(record.bank, version, data, stage, sample))
    for version in record.added_versions():
        try:
            data = record.open_added_data(version)
        except UsageError as error:
            print(f"{version} is left out: {error}")
            continue
        rows += _rows(version, _measure_version(record.bank, version, data, 2, sample))
    return rows


def _rows(version: str, results: dict[str, tuple[float, float]]) -> list[list[str]]:
    exact = results["float32"][1]
    return [
        [version, encoding, f"{size:,.0f}", f"{psnr:.3f}", f"{psnr - exact:+.4f}"]
        for encoding, (size, psnr) in results.items()
    ]


def _measure_version(
    bank: SceneBank, version: str, data: MultiViewDataModule, stage: int, sample: int
) -> dict[str, tuple[float, float]]:
    """Bytes a scene and PSNR of each encoding."""
    ids = [record.id for record in spread(bank.scenes(version), sample)]
    scene, mean = bank.load_version(version, ids), bank.mean(version)
    tables, texels = scene.representation.scene_tables(), scene.representation.texels
    exact = {name: table.weight.detach().clone() for name, table in tables.items()}
    scene.to("cuda" if torch.cuda.is_available() else "cpu")
    results = {}
    for encoding in tqdm(ENCODINGS, version, unit="encoding", leave=False):
        size = 0
        for row in range(len(ids)):
            content = encode({name: values[row] for name, values in exact.items()}, encoding, mean, texels)
            size += len(content)
            for name, values in decode(content, encoding, mean, texels).items():
                with torch.no_grad():
                    tables[name].weight[row] = values
        means = over_scenes(per_scene(evaluate(scene, data.views_of(stage, ids, "test"))))
        results[encoding] = size / len(ids), means["psnr"]
    return results
