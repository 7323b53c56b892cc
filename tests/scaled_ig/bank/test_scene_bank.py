"""What is kept renders as what was trained."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch

from scaled_ig.autoencoders import IdentityAutoencoder
from scaled_ig.bank.changes import LOCK_FILE
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.bank.scene_records import ENCODINGS
from scaled_ig.bank.table import Origin
from scaled_ig.batch import to_unit_range
from scaled_ig.cameras import orbit
from scaled_ig.errors import UsageError
from scaled_ig.files import alone_in
from scaled_ig.metrics.costs import bytes_per_scene
from scaled_ig.rendering.sampling import InsideBall, InsideHull
from scaled_ig.representations import InstantNgp, TriPlanes
from scaled_ig.representations.occupancy import Hulls
from scaled_ig.scene_model import SceneModel
from tests.conftest import ball_hulls

IDS = ["a", "b", "c", "d"]


@pytest.fixture
def scene(tiny_scene):
    made = tiny_scene()
    made.measure_background()
    return made


@pytest.fixture
def bank(scene, tmp_path) -> SceneBank:
    SceneBank.write(tmp_path / "bank", scene, IDS, "stage1", [f"digest-{name}" for name in IDS])
    return SceneBank.open(tmp_path / "bank")


def expected(scene, row: int) -> torch.Tensor:
    cameras = orbit(3)
    return to_unit_range(scene.render_image(cameras, torch.full((3,), row))).detach()


def content(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def only(folder: Path, pattern: str) -> Path:
    """The one file of that pattern."""
    (file,) = folder.glob(pattern)
    return file


def flip(path: Path, byte: int = -1, bit: int = 0) -> None:
    changed = bytearray(path.read_bytes())
    changed[byte] ^= 1 << bit
    path.write_bytes(changed)


def test_a_scene_renders_bit_by_bit_as_it_was_trained(scene, bank):
    assert bank.ids == IDS
    assert len(bank) == 4
    for row, name in enumerate(IDS):
        assert torch.equal(bank[name].render(orbit(3)), expected(scene, row))
        assert bank[name].record.source_sha256 == f"digest-{name}"
    latent = bank["c"].render_latent(orbit(3))
    assert torch.equal(latent.pixels, scene.render(orbit(3), torch.full((3,), 2)).pixels.detach())


@torch.no_grad()
def test_heads_of_scenes_are_kept_with_them(tmp_path):
    """Nothing of a field head is in the parts that they share."""
    scene = SceneModel(TriPlanes(3, 8, 0.5), IdentityAutoencoder(), InsideBall(8), resolution=16, own_heads=True)
    scene.representation.new_scenes(4, seed=5)
    head = scene.representation.head.weight
    head += torch.randn(head.shape, generator=torch.Generator().manual_seed(0))
    SceneBank.write(tmp_path / "bank", scene, IDS, "stage2", [""] * 4)
    bank = SceneBank.open(tmp_path / "bank")
    for row, name in enumerate(IDS):
        assert torch.equal(bank[name].render(orbit(3)), expected(scene, row))
    loaded = bank.load_version("stage2", ["d", "b"])
    assert torch.equal(loaded.representation.head.weight, head[[3, 1]])
    assert not any("head" in name for name in loaded.shared_state())


def test_two_scenes_can_be_held_at_once(scene, bank):
    first, second = bank["a"], bank["b"]
    assert torch.equal(second.render(orbit(3)), expected(scene, 1))
    assert torch.equal(first.render(orbit(3)), expected(scene, 0))


def test_versions_keep_the_shared_parts_that_their_scenes_were_learned_with(scene, bank):
    before = expected(scene, 1)
    with torch.no_grad():
        scene.representation.bases.add_(1)
    scene.representation.new_scenes(2, seed=8)
    SceneBank.write(bank.path, scene, ["x", "y"], "stage2", ["", ""])
    both = SceneBank.open(bank.path)
    assert both.ids == [*IDS, "x", "y"]
    assert torch.equal(both["b"].render(orbit(3)), before)
    assert torch.equal(both["y"].render(orbit(3)), expected(scene, 1))
    assert [both[name].record.version for name in ("b", "y")] == ["stage1", "stage2"]
    assert [record.id for record in both.scenes("stage2")] == ["x", "y"]
    assert {name: version.num_scenes for name, version in both.versions.items()} == {"stage1": 4, "stage2": 2}


def test_a_version_is_loaded_whole_or_in_part(scene, bank):
    whole, part = bank.load_version("stage1"), bank.load_version("stage1", ["d", "b"])
    for name, table in scene.representation.scene_tables().items():
        assert torch.equal(whole.representation.scene_tables()[name].weight, table.weight)
        assert torch.equal(part.representation.scene_tables()[name].weight, table.weight[[3, 1]])
        torch.testing.assert_close(bank.mean("stage1")[name], table.weight.detach().mean(0))
    with pytest.raises(UsageError, match=r"version 'stage1' of .* holds no scene 'z'"):
        bank.load_version("stage1", ["z"])
    with pytest.raises(UsageError, match="holds no version 'stage3'; it holds stage1"):
        bank.mean("stage3")


def test_a_version_is_replaced_by_one_of_the_same_name(scene, bank):
    with torch.no_grad():
        scene.representation.micro.weight.mul_(2)
    before = set(content(bank.path))
    SceneBank.write(bank.path, scene, IDS, "stage1", [""] * 4)
    again = SceneBank.open(bank.path)
    assert again.ids == IDS
    assert torch.equal(again["d"].render(orbit(3)), expected(scene, 3))
    assert len(content(bank.path)) == len(before), "nothing of the old one is left"
    assert not again.verify()
    with pytest.raises(UsageError, match="has been changed since it was opened: open it again"):
        bank["a"]


@pytest.mark.parametrize("encoding", ["bfloat16", "int8", "int8_difference"])
def test_smaller_encodings_render_nearly_the_same(scene, tmp_path, encoding):
    bank = SceneBank.write(tmp_path / "bank", scene, IDS, "stage1", [""] * 4, encoding)
    exact = SceneBank.write(tmp_path / "exact", scene, IDS, "stage1", [""] * 4)
    assert bank.versions["stage1"].encoding == encoding
    assert not torch.equal(bank["b"].rows["micro"], exact["b"].rows["micro"])
    torch.testing.assert_close(bank["b"].render(orbit(3)), exact["b"].render(orbit(3)), atol=0.02, rtol=0)
    assert bank.record_bytes() < 0.6 * exact.record_bytes()
    assert not bank.verify()


@pytest.fixture
def hulled(tiny_scene):
    """Scenes with hulls, but for the last one; a texel that no sample reads is no number."""
    made = tiny_scene(rgb=True, sampling=InsideHull(8))
    representation = made.representation
    representation.hull.weight.copy_(ball_hulls(4))
    read = representation.texels(Hulls(representation.hull.weight))
    with torch.no_grad():
        made.renderer.head.out.bias[0] += 3  # so that scenes are not mist
        representation.micro.weight.mul_(10)[~read] = torch.nan
    return made


def test_scenes_with_hulls_render_bit_by_bit_as_they_were_trained(hulled, tmp_path):
    bank = SceneBank.write(tmp_path / "bank", hulled, IDS, "stage1", [""] * 4)
    whole, part = bank.load_version("stage1"), bank.load_version("stage1", ["d", "b"])
    for row, name in enumerate(IDS):
        scene, truth = bank[name], expected(hulled, row)
        assert truth.std() > 0.01
        assert torch.equal(scene.render(orbit(3)), truth)
        assert torch.equal(expected(whole, row), truth)
        assert torch.equal(scene.rows["hull"], hulled.representation.hull.weight[row])
        assert scene.rows["micro"].isfinite().all()
    assert torch.equal(expected(part, 0), expected(hulled, 3))
    assert torch.equal(part.representation.hull.weight, hulled.representation.hull.weight[[3, 1]])
    sizes = {record.id: record.bytes for record in bank.scenes()}
    assert max(sizes[name] for name in "abc") < sizes["d"] < 4 * (3 * 8 * 8 * 4 + 3) + 60
    assert bank.record_bytes() / 4 == pytest.approx(sum(bytes_per_scene(hulled).values()), abs=2)
    assert not bank.verify()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_scenes_with_hulls_are_merged_and_replaced_in_each_encoding(hulled, tmp_path, encoding):
    exact = SceneBank.write(tmp_path / "exact", hulled, IDS, "stage1", [""] * 4)
    bank = SceneBank.write(tmp_path / "bank", hulled, IDS, "stage1", [""] * 4, encoding)
    merged = SceneBank.merge(tmp_path / "merged", [exact.path], encoding)
    digests = [record.sha256 for record in bank.scenes()]
    assert [record.sha256 for record in merged.scenes()] == digests, "to the bit as if it had been written so"
    torch.testing.assert_close(bank["b"].render(orbit(3)), expected(hulled, 1), atol=0.05, rtol=0)
    with torch.no_grad():
        for table in hulled.representation.scene_tables().values():
            table.weight[0] = table.weight[1]
    replaced = SceneBank.replace(bank.path, hulled, IDS, [""] * 4)
    assert torch.equal(replaced["a"].render(orbit(3)), merged["b"].render(orbit(3)))
    assert [record.sha256 for record in replaced.scenes()][1:] == digests[1:]
    assert not replaced.verify()


@pytest.mark.parametrize("encoding", ["float32", "int8_difference"])
@torch.no_grad()
def test_scenes_of_tables_beside_hulls_keep_all_of_their_values(tmp_path, encoding):
    representation = InstantNgp(2, 6, coarsest=4, finest=8, extent=0.5, table_std=0.1, density_resolution=4)
    scene = SceneModel(representation, IdentityAutoencoder(), InsideHull(8), resolution=16)
    representation.new_scenes(4, seed=5)
    representation.hull.weight.copy_(ball_hulls(4))
    bank = SceneBank.write(tmp_path / "bank", scene, IDS, "stage2", [""] * 4, encoding)
    for row, name in enumerate(IDS):
        assert torch.equal(bank[name].render(orbit(3)), expected(scene, row))
        assert torch.equal(bank[name].rows["micro"], representation.micro.weight[row])


def test_a_model_that_samples_no_hulls_takes_no_scenes_with_hulls(hulled, tiny_scene, tmp_path):
    bank = SceneBank.write(tmp_path / "bank", hulled, IDS, "stage1", [""] * 4)
    ball = tiny_scene(rgb=True)
    bank.load_shared("stage1", ball)
    with pytest.raises(UsageError, match="differ in their names or shapes"):
        SceneBank.replace(bank.path, ball, IDS, [""] * 4)


def test_what_is_not_there_is_named(bank, tmp_path):
    with pytest.raises(UsageError, match=r"holds no scene 'z'; it holds 4 scenes: a, b, c, d"):
        bank["z"]
    with pytest.raises(UsageError, match=f"{tmp_path / 'nothing'} is no scene bank"):
        SceneBank.open(tmp_path / "nothing")


@pytest.mark.parametrize("version", [1, 99, None])
def test_another_schema_is_refused(bank, scene, version):
    (bank.path / "index.json").write_text(json.dumps({"schema": "scaled-ig-bank", "schema_version": version}))
    before = content(bank.path)
    for act in (
        lambda: SceneBank.open(bank.path),
        lambda: SceneBank.write(bank.path, scene, IDS, "stage1", [""] * 4),
    ):
        with pytest.raises(UsageError, match=f"is not scaled-ig-bank version 3 but scaled-ig-bank version {version}"):
            act()
    assert content(bank.path) == before


def test_the_index_is_read_without_the_scene_table(bank):
    only(bank.path, "scenes-*.sqlite").unlink()
    opened = SceneBank.open(bank.path)
    assert len(opened) == 4
    assert opened.versions["stage1"].num_scenes == 4
    with pytest.raises(UsageError, match=r"scenes-00000001\.sqlite cannot be read"):
        opened["a"]


def test_a_forked_child_reads_too(bank):
    record = bank["a"].record
    read, write = os.pipe()
    child = os.fork()
    if not child:
        before = bank._table._here.connection
        digest = bank.scenes()[0].sha256
        os.write(write, digest.encode() if bank._table._here.connection is not before else b"its parent's connection")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 100).decode() == record.sha256
    assert bank["b"].record.id == "b"


def test_a_bank_can_be_sent_to_another_process(bank):
    bank["a"]
    with get_context("spawn").Pool(1) as pool:
        assert pool.apply(SceneBank.scenes, (bank, "stage1")) == bank.scenes()


# -- damage ----------------------------------------------------------------------------------------------------------


def test_a_damaged_record_is_found(bank):
    flip(bank.path / "blocks" / bank["d"].record.block)
    with pytest.raises(UsageError, match="scene 'd' is damaged"):
        bank["d"]
    assert bank["a"].record.id == "a", "the others are whole"
    with pytest.raises(UsageError, match="scene 'd' is damaged"):
        bank.load_version("stage1")
    assert len(bank.verify()) == 1


def test_damaged_shared_parts_are_found(bank):
    flip(only(bank.path, "shared-*"))
    with pytest.raises(UsageError, match=r"shared-\w{16}.safetensors is damaged"):
        bank["a"]


def test_a_scene_under_another_name_is_found(bank):
    """What a repaired scene table says must be what was written, too."""
    path = only(bank.path, "scenes-*.sqlite")
    for change in ("id = 'e' WHERE id = 'd'", "source_sha256 = 'digest-x' WHERE id = 'c'"):
        with sqlite3.connect(path) as connection:
            connection.execute(f"UPDATE scenes SET {change}")
        connection.close()
    for name in ("c", "e"):
        with pytest.raises(UsageError, match=f"scene '{name}' is damaged"):
            SceneBank.open(bank.path)[name]


@pytest.mark.parametrize("pattern", ["blocks/*-00000.bin", "shared-*", "scenes-*"])
def test_a_file_cut_short_or_missing_is_named(bank, pattern):
    file = only(bank.path, pattern)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UsageError, match=file.name):
        SceneBank.open(bank.path)["a"]
    assert any(file.name in finding for finding in bank.verify())
    file.unlink()
    with pytest.raises(UsageError, match=file.name):
        SceneBank.open(bank.path)["a"]
    assert any(file.name in finding for finding in bank.verify())
    with pytest.raises(UsageError, match=f"{file.name} cannot be read"):
        SceneBank.merge(bank.path.parent / "other", [bank.path], "int8")
    assert not (bank.path.parent / "other").exists()


def test_a_foreign_file_is_found_and_left_alone(bank):
    (bank.path / "notes.txt").write_text("mine")
    assert bank.verify() == [f"{bank.path / 'notes.txt'}: no part of the bank"]
    bank.remove(["a"])
    assert (bank.path / "notes.txt").read_text() == "mine"


def test_every_flipped_bit_is_noticed(scene, bank):
    generator = np.random.default_rng(0)
    assert not bank.verify()
    files = sorted(path for path in bank.path.rglob("*") if path.is_file())
    assert len(files) == 7  # index, table, shared parts, four blocks
    for file in files:
        count = 300 if file.name == "index.json" else 40
        for _ in range(count):
            place = int(generator.integers(file.stat().st_size)), int(generator.integers(8))
            flip(file, *place)
            try:
                noticed = SceneBank.open(bank.path).verify()
            except UsageError as error:
                noticed = [str(error)]
            assert noticed, f"bit {place} of {file.name}"
            assert all("\n" not in sentence for sentence in noticed)
            flip(file, *place)
    assert not bank.verify()


@pytest.mark.slow("flips a byte at a time")
def test_readers_of_a_rotten_table_get_what_was_written_or_a_sentence(bank):
    generator = np.random.default_rng(1)
    table, rows = only(bank.path, "scenes-*"), {name: bank[name].rows for name in IDS}
    outcomes = []
    for _ in range(300):
        place = int(generator.integers(table.stat().st_size)), int(generator.integers(8))
        flip(table, *place)
        for name in IDS:
            try:
                found = SceneBank.open(bank.path)[name].rows
                outcomes.append(all(torch.equal(found[key], rows[name][key]) for key in found))
                assert outcomes[-1], f"{name} after bit {place}"
            except UsageError:
                outcomes.append(None)
        flip(table, *place)
    assert None in outcomes
    assert True in outcomes


# -- changes ---------------------------------------------------------------------------------------------------------


def test_ids_of_other_versions_are_refused_before_anything_is_replaced(scene, bank):
    before = content(bank.path)
    scene.representation.new_scenes(2, seed=1)
    with pytest.raises(UsageError, match="holds a scene 'b' of version 'stage1' already"):
        SceneBank.write(bank.path, scene, ["x", "b"], "stage2", ["", ""])
    with pytest.raises(UsageError, match="1 of 2 scenes have the id of another one"):
        SceneBank.write(bank.path, scene, ["x", "x"], "stage2", ["", ""])
    assert content(bank.path) == before


def test_removed_scenes_are_gone(bank, scene):
    held = bank["c"].rows["micro"].numpy().tobytes()
    bank.remove(["c", "a"])
    assert bank.ids == ["b", "d"] == SceneBank.open(bank.path).ids
    assert len(bank) == 2
    assert not any(held in file for file in content(bank.path).values())
    assert torch.equal(bank["d"].render(orbit(3)), expected(scene, 3))
    assert not bank.verify()
    with pytest.raises(UsageError, match="holds no scene 'a': nothing was removed"):
        bank.remove(["b", "a"])
    assert bank.ids == ["b", "d"]
    bank.remove(["b", "d"])
    assert (bank.ids, list(bank.versions), bank.verify()) == ([], ["stage1"], [])


def test_nothing_of_a_removed_scene_is_left(tmp_path, tiny_scene):
    ids, sources = [f"person-{row:03d}" for row in range(40)], [f"photographs-{row:03d}" for row in range(40)]
    bank = SceneBank.write(tmp_path / "bank", tiny_scene(40), ids, "stage1", sources)
    row = bank["person-017"].rows["micro"].numpy().tobytes()
    words = (b"person-017", b"photographs-017", row[:64], row[-64:])
    assert all(any(word in file for file in content(bank.path).values()) for word in words)
    bank.remove(["person-017"])
    assert not any(word in file for file in content(bank.path).values() for word in words)


def test_a_rotten_scene_table_is_not_built_upon(bank, scene):
    """It decides which blocks are removed."""
    table = only(bank.path, "scenes-*")
    flip(table, table.read_bytes().index(b"00000001-00002.bin"), 1)
    before = content(bank.path)
    for act in (
        lambda: bank.remove(["a"]),
        lambda: SceneBank.write(bank.path, scene, IDS, "stage1", [""] * 4),
        lambda: SceneBank.merge(bank.path, [], "int8"),
    ):
        with pytest.raises(UsageError, match=r"scenes-00000001.sqlite is damaged"):
            act()
    assert content(bank.path) == before


def test_what_stays_in_a_block_survives_the_others(tmp_path, tiny_scene):
    scene = tiny_scene(9)
    bank = SceneBank.write(tmp_path / "bank", scene, list("abcdefghi"), "stage1", [""] * 9)
    bank.remove(["b", "i"])
    assert bank.ids == list("acdefgh")
    assert torch.equal(bank["h"].rows["mixing"], scene.representation.mixing.weight[7])
    assert torch.equal(bank["a"].rows["mixing"], scene.representation.mixing.weight[0])
    assert not bank.verify()


def test_versions_with_equal_shared_parts_share_a_file(bank, scene):
    scene.representation.new_scenes(2, seed=1)
    SceneBank.write(bank.path, scene, ["x", "y"], "stage2", ["", ""], mean=bank.mean("stage1"))
    both = SceneBank.open(bank.path)
    assert both.versions["stage1"].shared_sha256 == both.versions["stage2"].shared_sha256
    only(bank.path, "shared-*")
    both.remove(["x"])
    assert both["y"].rows["micro"].shape == (3, 8, 8, 4)


# -- merging ---------------------------------------------------------------------------------------------------------


def test_merged_banks_hold_the_scenes_of_all(tmp_path, tiny_scene):
    first, second = tiny_scene(2), tiny_scene(3)
    with torch.no_grad():
        second.representation.bases.mul_(2)
    one = SceneBank.write(tmp_path / "one", first, ["a", "b"], "stage1", ["1", "2"])
    two = SceneBank.write(tmp_path / "two", second, ["x", "y", "z"], "stage1", ["3", "4", "5"])
    before = content(one.path), content(two.path)
    merged = SceneBank.merge(tmp_path / "all", [one.path, two.path])
    assert merged.ids == ["a", "b", "x", "y", "z"]
    assert [version.num_scenes for version in merged.versions.values()] == [2, 3]
    assert list(merged.versions) == ["stage1", "stage1-2"]
    for name, row, scene in (("b", 1, first), ("z", 2, second)):
        assert torch.equal(merged[name].render(orbit(3)), expected(scene, row))
    assert merged["z"].record.source_sha256 == "5"
    assert not merged.verify()
    assert (content(one.path), content(two.path)) == before
    again = content(merged.path)
    merged = SceneBank.merge(tmp_path / "all", [two.path])
    assert merged.ids == ["a", "b", "x", "y", "z"], "what is there is kept once"
    assert {name for name in content(merged.path) if "blocks" in name} == {name for name in again if "blocks" in name}


def test_versions_with_equal_shared_parts_become_one(tmp_path, tiny_scene):
    scene = tiny_scene(4)
    mean = {name: table.mean() for name, table in scene.representation.scene_tables().items()}
    one = SceneBank.write(tmp_path / "one", scene, IDS, "stage2", [""] * 4, mean=mean)
    scene.representation.new_scenes(2, seed=9)
    two = SceneBank.write(tmp_path / "two", scene, ["x", "y"], "stage2", [""] * 2, mean=mean)
    merged = SceneBank.merge(one.path, [two.path])
    assert list(merged.versions) == ["stage2"]
    assert merged.load_version("stage2").representation.num_scenes == 6
    assert torch.equal(merged["y"].rows["micro"], scene.representation.micro.weight[1])
    assert not merged.verify()


def test_one_name_for_two_scenes_is_refused(tmp_path, tiny_scene):
    scene = tiny_scene(2)
    one = SceneBank.write(tmp_path / "one", scene, ["a", "b"], "stage1", ["", ""])
    with torch.no_grad():
        scene.representation.micro.weight[1] += 1
    two = SceneBank.write(tmp_path / "two", scene, ["a", "b"], "stage1", ["", ""], mean=one.mean("stage1"))
    before = content(one.path)
    with pytest.raises(UsageError, match="scene 'b' is there twice with different content"):
        SceneBank.merge(one.path, [two.path])
    assert content(one.path) == before
    with pytest.raises(UsageError, match="cannot be merged into itself"):
        SceneBank.merge(one.path, [one.path])


def test_merging_encodes_again(tmp_path, scene, bank):
    small = SceneBank.merge(tmp_path / "small", [bank.path], encoding="int8")
    direct = SceneBank.write(tmp_path / "direct", scene, IDS, "stage1", [f"digest-{name}" for name in IDS], "int8")
    assert [record.sha256 for record in small.scenes()] == [record.sha256 for record in direct.scenes()]
    assert small.versions["stage1"].shared_sha256 == bank.versions["stage1"].shared_sha256
    own = SceneBank.merge(bank.path, [small.path], encoding="int8")
    assert own.ids == IDS
    assert {version.encoding for version in own.versions.values()} == {"int8"}
    assert not own.verify()


# -- writers ---------------------------------------------------------------------------------------------------------


def test_no_temporary_files_are_left(bank):
    names = {file.relative_to(bank.path).as_posix() for file in bank.path.rglob("*") if file.is_file()}
    shared = bank.versions["stage1"].shared_file
    blocks = {f"blocks/00000001-{shard:05d}.bin" for shard in range(4)}
    assert names == {"index.json", "scenes-00000001.sqlite", shared} | blocks
    assert {file.stat().st_mode & 0o444 for file in bank.path.rglob("*")} == {0o444}


def test_one_writer_at_a_time(bank, scene):
    before = content(bank.path)
    with alone_in(bank.path, LOCK_FILE, "read", "wait"):
        for act in (lambda: SceneBank.write(bank.path, scene, IDS, "stage1", [""] * 4), lambda: bank.remove(["a"])):
            with pytest.raises(UsageError, match=r"is being changed by process \d+ on host .*: wait until it is"):
                act()
        assert bank["a"].record.id == "a", "readers do not mind"
    assert content(bank.path) == before


def test_a_file_system_that_is_full_is_one_sentence(bank, scene, monkeypatch):
    before = content(bank.path)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    for name in ("blocks.os.fsync", "changes.sync", "index.write_whole"):
        with monkeypatch.context() as patch:
            patch.setattr(f"scaled_ig.bank.{name}", full)
            with pytest.raises(UsageError, match=r"cannot be written .No space left on device.: make room"):
                SceneBank.write(bank.path, scene, IDS, "stage1", [""] * 4)
        assert content(bank.path) == before


LIMITED = """
import resource, sys, torch
from scaled_ig.errors import UsageError
from scaled_ig.bank.scene_bank import SceneBank
bank = SceneBank.open(sys.argv[1])
scene = bank.load_version("stage1")
torch.nn.init.zeros_(scene.renderer.head.hidden.weight)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    SceneBank.write(bank.path, scene, bank.ids, "stage1", [""] * 4)
except UsageError as error:
    print(error)
"""


@pytest.mark.parametrize("most", [0, 1000, 5000, 20_000])
def test_files_that_cannot_grow_are_one_sentence(bank, most):
    """Blocks are the first to reach the limit, then the shared parts."""
    before = content(bank.path)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(bank.path), str(most)], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"{bank.path} cannot be written (" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert content(bank.path) == before


def test_a_file_in_the_place_of_the_folder_is_one_sentence(tmp_path, scene):
    (tmp_path / "bank").write_text("mine")
    with pytest.raises(UsageError, match=r"bank cannot be written .File exists."):
        SceneBank.write(tmp_path / "bank", scene, IDS, "stage1", [""] * 4)
    assert content(tmp_path) == {"bank": b"mine"}


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from scaled_ig import files
from scaled_ig.bank import changes, index, blocks
from scaled_ig.bank.scene_bank import SceneBank
folder, other, place = sys.argv[1:]
module, _, name = place.rpartition(".")
module = {"changes": changes, "index": index, "files": files, "blocks": blocks}[module]
ordinary, calls = getattr(module, name), []

def die(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)

setattr(module, name, die)
SceneBank.merge(folder, [other])
"""


@pytest.mark.parametrize(
    "place",
    [
        "index.write_whole",
        *(
            pytest.param(place, marks=pytest.mark.slow("many processes"))
            for place in ("blocks.os", "changes.sync", "files.os", "changes.file_sha256", "changes.files_of")
        ),
    ],
)
def test_a_killed_writer_leaves_the_old_bank(bank, scene, tmp_path, place):
    scene.representation.new_scenes(2, seed=1)
    other = SceneBank.write(tmp_path / "other", scene, ["x", "y"], "stage2", ["", ""])
    program = KILLED.replace("setattr(module, name, die)", _patch(place))
    done = subprocess.run([sys.executable, "-c", program, str(bank.path), str(other.path), place], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    opened = SceneBank.open(bank.path)
    assert opened.ids == IDS
    assert torch.equal(opened["d"].rows["micro"], bank["d"].rows["micro"])
    merged = SceneBank.merge(bank.path, [other.path])
    assert merged.ids == [*IDS, "x", "y"]
    assert not merged.verify(), "and nothing is left of it"
    assert LOCK_FILE not in content(bank.path)


def _patch(place: str) -> str:
    """Kill at a file's fsync or rename for modules of the standard library, at the call for others."""
    if place == "blocks.os":
        return "os.fsync = die"
    if place == "files.os":
        return "os.replace = die"
    return "setattr(module, name, die)"


# -- ranks -----------------------------------------------------------------------------------------------------------

RANKS = """
import json, sys, torch, torch.distributed as dist
from scaled_ig.bank import writing
from scaled_ig.metrics.costs import bytes_per_scene
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.bank.table import Origin
from scaled_ig.errors import UsageError
from tests.scaled_ig.bank.test_scene_bank import ranks_scene
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
for encoding in ("float32", "int8_difference"):
    scene = ranks_scene(rank)
    ids = [f"scene-{row}" for row in range(9)]
    origins = [Origin("ball", f"licence-{row}") for row in range(9)]
    SceneBank.write(f"{folder}/two", scene, ids, encoding, ids, encoding, origins=origins)
    scene = ranks_scene(rank)
    assert len(SceneBank.write(f"{folder}/two", scene, ids, encoding, ids, encoding, origins=origins)) in (9, 18)
    if encoding == "float32":
        SceneBank.open(f"{folder}/two").remove(ids) if rank == 0 else None
        dist.barrier()
hulled = ranks_scene(rank, hulls=True)
SceneBank.write(f"{folder}/two", hulled, [f"hulled-{row}" for row in range(9)], "hulls", ids, "int8_difference")
with open(f"{folder}/bytes-{rank}.json", "w") as file:
    json.dump(bytes_per_scene(hulled), file)
if rank == 1:
    with torch.no_grad():
        scene.representation.micro.weight[0, 0, 0, 0, 0] = torch.nan
try:
    SceneBank.write(f"{folder}/two", scene, ids, "int8_difference", ids, "int8")
    raise SystemExit("a scene that is not finite was written")
except UsageError as error:
    assert "scene 'scene-4' cannot be kept as int8" in str(error), error

def full(*arguments):
    raise OSError(28, "No space left on device")

if rank == 0:
    writing.write_shared = full
try:
    SceneBank.write(f"{folder}/two", ranks_scene(rank), ids, "int8_difference", ids)
    raise SystemExit("a full disk was not said")
except UsageError as error:
    assert "No space left on device" in str(error), error
dist.barrier()
dist.destroy_process_group()
"""


def ranks_scene(rank: int | None = None, hulls: bool = False):
    """Nine scenes whose sums of floats depend on their order, or those that a rank of two owns."""
    from scaled_ig.autoencoders import SmallAutoencoder
    from scaled_ig.rendering.sampling import InsideBall, InsideHull
    from scaled_ig.representations import MicroMacro
    from scaled_ig.scene_model import SceneModel

    torch.manual_seed(0)
    autoencoder = SmallAutoencoder(patch_size=4, latent_channels=5, width=16, blocks=1)
    sampling = InsideHull(8) if hulls else InsideBall(8)
    scene = SceneModel(MicroMacro(4, 6, num_bases=3, plane_resolution=8), autoencoder, sampling, resolution=32)
    scene.representation.new_scenes(9, seed=5)
    if hulls:
        scene.representation.hull.weight.copy_(ball_hulls(9))
    if rank is not None:
        scene.representation.shard(rank, 2)
    return scene


@pytest.mark.slow("two ranks")
def test_files_are_the_same_on_one_rank_and_on_two(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    environment |= {"GLOO_SOCKET_IFNAME": "lo"}
    ranks = [
        subprocess.Popen([sys.executable, "-c", RANKS, str(rank), str(tmp_path)], env=environment, stderr=-1)
        for rank in range(2)
    ]
    for rank in ranks:
        _, said = rank.communicate(timeout=200)
        assert rank.returncode == 0, said.decode()[-3000:]
    ids = [f"scene-{row}" for row in range(9)]
    for encoding in ("float32", "int8_difference"):
        for _ in range(2):
            origins = [Origin("ball", f"licence-{row}") for row in range(9)]
            alone = SceneBank.write(tmp_path / "one", ranks_scene(), ids, encoding, ids, encoding, origins=origins)
        if encoding == "float32":
            alone.remove(ids)
    hulled = ranks_scene(hulls=True)
    names = [f"hulled-{row}" for row in range(9)]
    alone = SceneBank.write(tmp_path / "one", hulled, names, "hulls", ids, "int8_difference")
    for rank in range(2):
        assert json.loads((tmp_path / f"bytes-{rank}.json").read_text()) == bytes_per_scene(hulled)
    one, two = content(tmp_path / "one"), content(tmp_path / "two")
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []
    assert not SceneBank.open(tmp_path / "two").verify()


def test_a_bank_can_be_moved(bank, tmp_path):
    shutil.move(bank.path, tmp_path / "elsewhere")
    assert SceneBank.open(tmp_path / "elsewhere")["a"].record.id == "a"
