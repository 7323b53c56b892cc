"""Banks of strangers, with digests that fit: refused before they cost time or memory."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from scaled_ig.bank.index import INDEX_FILE, Index
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.cameras import orbit
from tests.hostile import check_refusal

IDS = ["a", "b", "c", "d"]


@pytest.fixture
def folder(tiny_scene, tmp_path) -> Path:
    SceneBank.write(tmp_path / "bank", tiny_scene(), IDS, "stage1", IDS)
    return tmp_path / "bank"


def use(folder: Path) -> None:
    """What a user does with a bank."""
    bank = SceneBank.open(folder)
    bank["a"].render(orbit(1))
    bank.load_version("stage1")


def change_version(folder: Path, **values: Any) -> None:
    """Write the index of a bank with other values of its version, and a digest that fits."""
    index = Index.read(folder)
    index.with_version(replace(index.versions["stage1"], **values)).write(folder)


def test_the_bank_itself_is_sound(folder):
    use(folder)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        ((), {}),
        (("representation",), None),
        (("representation", "class"), "base"),
        (("representation", "class"), "SceneRepresentation"),
        (("representation", "class"), ["MicroMacro"]),
        (("representation", "arguments", "plane_resolution"), 100_000),
        (("representation", "arguments", "plane_resolution"), 4000),
        (("representation", "arguments", "micro_channels"), 1 << 20),
        (("representation", "arguments", "num_bases"), 1 << 20),
        (("representation", "arguments", "num_bases"), -5),
        (("representation", "arguments", "unknown"), 5),
        (("representation", "arguments", "extent"), "wide"),
        (("autoencoder", "arguments", "blocks"), 10**6),
        (("autoencoder", "arguments", "width"), 10**5),
        (("autoencoder", "arguments", "patch_size"), 0),
        (("sampling", "class"), "Sampling"),
        (("sampling", "arguments", "num_samples"), 10**9),
        (("resolution",), 100_000),
        (("resolution",), 10**30),
        (("hidden_channels",), 1 << 20),
        (("hidden_channels",), [[5]] * 1000),
    ],
)
def test_models_that_claim_what_cannot_be(folder, keys, value):
    model = json.loads(json.dumps(Index.read(folder).versions["stage1"].model))
    if keys:
        place = model
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
    change_version(folder, model=model if keys else value)
    check_refusal(lambda: use(folder), str(folder))


@pytest.mark.parametrize("kind", ["deep", "nearly deep", "device", "sparse", "number", "negative", "fraction", "model"])
def test_indices_that_claim_what_cannot_be(folder, kind):
    file = folder / INDEX_FILE
    if kind in ("deep", "nearly deep"):
        depth = 100_000 if kind == "deep" else 930
        versions = {"stage1": {"model": "DEEP"}}
        document = json.dumps({"schema": "scaled-ig-bank", "schema_version": 2, "versions": versions})
        file.write_text(document.replace('"DEEP"', "[" * depth + "]" * depth))
    elif kind == "device":
        file.unlink()
        file.symlink_to("/dev/zero")
    elif kind == "sparse":
        with file.open("r+b") as stream:
            stream.truncate(10**11)
    elif kind == "model":
        change_version(folder, model=[])
    else:
        change_version(folder, num_scenes={"number": 10**30, "negative": -1, "fraction": 0.5}[kind])
    check_refusal(lambda: len(SceneBank.open(folder)), str(folder))


@pytest.mark.parametrize("kind", ["view", "overlap"])
def test_scene_tables_that_claim_what_cannot_be(folder, kind):
    (file,) = folder.glob("scenes-*.sqlite")
    with closing(sqlite3.connect(file)) as connection, connection:
        if kind == "view":
            connection.execute("ALTER TABLE scenes RENAME TO few")
            connection.execute(
                "CREATE VIEW scenes AS WITH RECURSIVE more(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM more) "
                "SELECT n AS position, 'a' || n AS id, version, block, offset, length, sha256, source_sha256, "
                "category, licence FROM more, few"
            )
        else:
            columns = "version, block, offset, length, sha256, source_sha256, category, licence"
            connection.execute(
                "WITH RECURSIVE more(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM more WHERE n < 100000) "
                f"INSERT INTO scenes (id, {columns}) SELECT 'x' || n, {columns} FROM more, scenes WHERE id = 'a'"
            )
    check_refusal(lambda: use(folder), file.name if kind == "view" else str(folder))


def test_rows_of_other_shapes_are_refused_before_scenes_are_made(folder, tiny_scene):
    """The shared file of one model, and the description of another of other planes."""
    other = tiny_scene()
    with torch.no_grad():
        SceneBank.write(folder.parent / "other", other, IDS, "stage1", IDS)
    model = json.loads(json.dumps(Index.read(folder).versions["stage1"].model))
    model["representation"]["arguments"]["micro_channels"] = 5
    change_version(folder, model=model)
    check_refusal(lambda: use(folder), str(folder))
