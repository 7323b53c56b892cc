"""Scenes that were learned again take the place of their old records, and of nothing else."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.errors import UsageError
from tests.scaled_ig.bank.test_scene_bank import content, ranks_scene

IDS = [f"scene-{row}" for row in range(9)]
AGAIN = ["scene-7", "scene-1", "scene-2", "scene-5"]


def write(folder: Path, encoding="float32") -> SceneBank:
    """A bank of two versions, in the first of which scenes are replaced."""
    SceneBank.write(folder, ranks_scene(), IDS, "stage1", IDS, encoding)
    other = ranks_scene()
    other.representation.new_scenes(9, seed=6)
    torch.nn.init.zeros_(other.representation.bases)
    return SceneBank.write(folder, other, [f"other-{row}" for row in range(9)], "stage2", IDS, encoding)


def learned_again(folder: Path, rank: int | None = None, ids=AGAIN):
    """A model with other rows for some scenes, all of them or those that a rank of two owns."""
    scene = ranks_scene()
    SceneBank.open(folder).load_shared("stage1", scene)
    scene.representation.new_scenes(len(ids), seed=77)
    if rank is not None:
        scene.representation.shard(rank, 2)
    return scene


@pytest.mark.parametrize("encoding", ["float32", "int8_difference"])
def test_scenes_are_replaced_where_they_are(tmp_path, encoding):
    bank = write(tmp_path / "bank", encoding)
    before, mean, held = bank.scenes(), bank.mean("stage1"), content(bank.path)
    old = {record.id: held[f"blocks/{record.block}"][record.offset :][: record.bytes] for record in before}
    scene = learned_again(bank.path)
    replaced = SceneBank.replace(bank.path, scene, AGAIN, [f"again-{name}" for name in AGAIN])
    assert replaced.ids == [record.id for record in before]
    assert not replaced.verify()
    assert all(torch.equal(replaced.mean("stage1")[name], row) for name, row in mean.items())
    assert replaced.versions == bank.versions, "encodings, shared parts and numbers of scenes are as they were"
    for record, now in zip(before, replaced.scenes(), strict=True):
        again = record.id in AGAIN
        assert now.version == record.version
        assert now.source_sha256 == (f"again-{record.id}" if again else record.source_sha256)
        assert (now.sha256 == record.sha256) != again
        assert any(old[record.id] in file for file in content(bank.path).values()) != again, "no byte of it is left"
    for row, name in enumerate(AGAIN):
        error = (replaced[name].rows["micro"] - scene.representation.micro.weight[row]).abs().max()
        assert error <= (0 if encoding == "float32" else 0.05)
    with pytest.raises(UsageError, match="has been changed since it was opened: open it again"):
        _ = bank["scene-3"]


def test_a_damaged_scene_can_be_replaced_and_no_other_is_lost_for_it(tmp_path):
    bank = write(tmp_path / "bank")
    record = next(record for record in bank.scenes() if record.id == "scene-2")
    block = bank.path / "blocks" / record.block
    damaged = bytearray(block.read_bytes())
    damaged[record.offset + 5] ^= 1
    block.write_bytes(damaged)
    before = content(bank.path)
    with pytest.raises(UsageError, match="scene 'scene-2' is damaged"):
        SceneBank.replace(bank.path, learned_again(bank.path, ids=["scene-3"]), ["scene-3"], [""])
    assert content(bank.path) == before
    assert not SceneBank.replace(bank.path, learned_again(bank.path), AGAIN, AGAIN).verify()


def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path):
    bank = write(tmp_path / "bank")
    before, scene = content(bank.path), learned_again(bank.path)
    for ids, sentence in (
        (["scene-1", "scene-2", "scene-3", "scene-9"], "holds no scene 'scene-9': nothing was replaced"),
        (["scene-1", "scene-2", "scene-3", "other-3"], "scenes of stage1 and stage2 at once: replace those of one"),
        (["scene-1", "scene-2", "scene-3", "scene-3"], "1 of 4 scenes have the id of another one"),
    ):
        with pytest.raises(UsageError, match=sentence):
            SceneBank.replace(bank.path, scene, ids, ids)
    with torch.no_grad():
        scene.representation.bases[0, 0, 0, 0, 0] += 1e-6
    with pytest.raises(UsageError, match=r"other shared parts than version 'stage1' .representation.bases differs"):
        SceneBank.replace(bank.path, scene, AGAIN, AGAIN)
    with torch.no_grad():
        scene = learned_again(bank.path)
        scene.representation.micro.weight[3, 0, 0, 0, 0] = torch.nan
    SceneBank.merge(bank.path, [], "int8")
    before = content(bank.path)
    with pytest.raises(UsageError, match="scene 'scene-5' cannot be kept as int8"):
        SceneBank.replace(bank.path, scene, AGAIN, AGAIN)
    assert content(bank.path) == before
    with pytest.raises(UsageError, match="is no scene bank"):
        SceneBank.replace(tmp_path / "none", scene, AGAIN, AGAIN)
    assert not (tmp_path / "none").exists()
    with pytest.raises(ValueError, match="3 ids, 4 digests and 3 origins for 4 scenes"):
        SceneBank.replace(bank.path, scene, AGAIN[:3], AGAIN)


KILLED = """
import os, signal, sys
from scaled_ig.bank import changes, index
from scaled_ig.bank.scene_bank import SceneBank
from tests.scaled_ig.bank.test_replacing import AGAIN, learned_again
folder, place, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
module, name = {"fsync": (os, "fsync"), "rename": (os, "replace"), "table": (changes, "file_sha256"),
                "index": (index, "write_whole"), "sweep": (changes, "files_of")}[place]
scene, ordinary, calls = learned_again(folder), getattr(module, name), []

def die(*arguments, **options):
    calls.append(1)
    if len(calls) == count:
        os.kill(os.getpid(), signal.SIGKILL)
    return ordinary(*arguments, **options)

setattr(module, name, die)
SceneBank.replace(folder, scene, AGAIN, AGAIN)
"""


@pytest.mark.slow("a killed writer for every kind of file operation")
@pytest.mark.parametrize(
    ("place", "count"), [("fsync", 1), ("fsync", 5), ("rename", 1), ("table", 1), ("index", 1), ("sweep", 2)]
)
def test_a_killed_writer_leaves_the_old_bank_or_the_new_one(tmp_path, place, count):
    bank = write(tmp_path / "bank")
    before = {record.id: record.sha256 for record in bank.scenes()}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(bank.path), place, str(count)], env=environment(), capture_output=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    opened = SceneBank.open(bank.path)
    committed = place == "sweep"  # the second one is behind the new index
    assert {name for name in IDS if opened[name].record.sha256 != before[name]} == (set(AGAIN) if committed else set())
    replaced = SceneBank.replace(bank.path, learned_again(bank.path), AGAIN, AGAIN)
    assert not replaced.verify(), "and nothing is left of it"


def environment() -> dict[str, str]:
    paths = {"PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return os.environ | paths


RANKS = """
import sys, torch, torch.distributed as dist
from scaled_ig.errors import UsageError
from scaled_ig.bank.scene_bank import SceneBank
from tests.scaled_ig.bank.test_replacing import AGAIN, learned_again
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
SceneBank.replace(f"{folder}/two", learned_again(f"{folder}/two", rank), AGAIN, AGAIN)
try:
    SceneBank.replace(f"{folder}/two", learned_again(f"{folder}/two", rank), ["x", *AGAIN[1:]], AGAIN)
    raise SystemExit("a scene was replaced that is not there")
except UsageError as error:
    assert "holds no scene 'x': nothing was replaced" in str(error), error
dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.slow("two ranks")
@pytest.mark.parametrize("encoding", ["float32", "int8_difference"])
def test_files_are_the_same_on_one_rank_and_on_two(tmp_path, encoding):
    write(tmp_path / "two", encoding)
    ranks = [
        subprocess.Popen([sys.executable, "-c", RANKS, str(rank), str(tmp_path)], env=environment(), stderr=-1)
        for rank in range(2)
    ]
    for rank in ranks:
        _, said = rank.communicate(timeout=200)
        assert rank.returncode == 0, said.decode()[-3000:]
    write(tmp_path / "one", encoding)
    SceneBank.replace(tmp_path / "one", learned_again(tmp_path / "one"), AGAIN, AGAIN)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert not SceneBank.open(tmp_path / "two").verify()
