"""Checkpoints whose files are damaged, foreign or of another version: nothing of them is ever trained on."""

import os
import random
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing import spawn

from scaled_ig.errors import UsageError
from scaled_ig.phases import checkpoint_files
from scaled_ig.phases.checkpoint_files import MARK, last_checkpoints, newest_whole, read_checkpoint, seal
from scaled_ig.phases.checkpoints import AtomicCheckpointIO
from scaled_ig.phases.saved_rows import Place, digest_rows, verify_rows, write_shards
from scaled_ig.representations.scene_table import SceneTable
from tests.rounding import PHASES, assert_same_run, checkpoint

FLIPS = 64
KEPT = Path(__file__).parents[2] / "kept"


def flip_bit(file: Path, byte: int, bit: int) -> None:
    content = bytearray(file.read_bytes())
    content[byte] ^= 1 << bit
    file.write_bytes(content)


def random_flips(file: Path, seed: int) -> list[tuple[int, int]]:
    """Bytes and bits of a file: anywhere, and the first and last of its parts."""
    size, generator = file.stat().st_size, random.Random(seed)
    edges = [0, size - 1, size - 64, size - 65, size - 64 - len(MARK), size - 65 - len(MARK), size - 66 - len(MARK)]
    return [(byte, generator.randrange(8)) for byte in [*edges, *generator.choices(range(size), k=FLIPS)]]


def phase_content(step: int, phase: str = "joint") -> dict:
    """What a checkpoint of a phase holds at least."""
    named = {"phase": phase, "stage": 1, "num_scenes": 2}
    content = {name: {} for name in checkpoint_files.CONTENT}
    return content | {"global_step": step, "scaled_ig": named, "state_dict": {"weight": torch.full((100,), step)}}


def save(folder: Path, *steps: int, keep: int = 2, start: Path | None = None) -> None:
    files = AtomicCheckpointIO(keep, start)
    for step in steps:
        files.save_checkpoint(phase_content(step), folder / "last.ckpt")
        files.settle()


def steps_in(folder: Path) -> dict[str, int]:
    return {file.stem: read_checkpoint(file)["global_step"] for file in sorted(folder.glob("*.ckpt"))}


# -- one file -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["last", "final"])
def test_no_flipped_bit_is_read(tmp_path, tiny_run, name):
    file = Path(shutil.copy(tiny_run / "checkpoints" / "joint" / f"{name}.ckpt", tmp_path))
    content = file.read_bytes()
    for byte, bit in random_flips(file, seed=ord(name[0])):
        flip_bit(file, byte, bit)
        with pytest.raises(UsageError, match=r"\.ckpt is damaged \(its digest is not that of its content\)"):
            read_checkpoint(file)
        flip_bit(file, byte, bit)
    assert file.read_bytes() == content
    assert read_checkpoint(file)["scaled_ig"]["phase"] == "joint"


def test_no_truncated_file_is_read(tmp_path, tiny_run):
    file = Path(shutil.copy(tiny_run / "checkpoints" / "joint" / "last.ckpt", tmp_path))
    content, generator = file.read_bytes(), random.Random(0)
    lengths = [0, 1, 21, 22, 63, 64, len(content) - 64 - len(MARK), len(content) - 64, len(content) - 1]
    for length in [*lengths, *generator.choices(range(len(content)), k=20)]:
        file.write_bytes(content[:length])
        with pytest.raises(UsageError, match=r"last\.ckpt is damaged \(.+\): copy it again, or remove it"):
            read_checkpoint(file)
    file.write_bytes(content + b"\0")
    with pytest.raises(UsageError, match=r"last\.ckpt is damaged"):
        read_checkpoint(file)


def test_a_file_that_is_not_there_or_a_folder_is_one_sentence(tmp_path):
    with pytest.raises(UsageError, match=r"last\.ckpt cannot be read \(No such file or directory\): copy it again"):
        read_checkpoint(tmp_path / "last.ckpt")
    with pytest.raises(UsageError, match=r"cannot be read \(Is a directory\): copy it again"):
        read_checkpoint(tmp_path)


def test_any_tool_reads_a_sealed_archive(tmp_path):
    save(tmp_path, 3)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 3
    with zipfile.ZipFile(tmp_path / "last.ckpt") as archive:
        assert archive.testzip() is None
        assert archive.comment.startswith(MARK)


@pytest.mark.parametrize("kept", [0, 100, -100])
def test_a_file_of_an_earlier_version_opens_or_is_damaged(tmp_path, kept):
    torch.save({"weight": torch.ones(100)}, tmp_path / "last.ckpt")
    assert read_checkpoint(tmp_path / "last.ckpt")["weight"].equal(torch.ones(100))
    (tmp_path / "last.ckpt").write_bytes((tmp_path / "last.ckpt").read_bytes()[:kept])
    with pytest.raises(UsageError, match=r"last\.ckpt is damaged \(.+\): copy it again, or remove it"):
        read_checkpoint(tmp_path / "last.ckpt")


class Marker:
    """Unpickled as Python would, it leaves a folder behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("is_sealed", [False, True])
def test_code_in_a_file_is_neither_run_nor_is_there_advice_to_run_it(tmp_path, is_sealed):
    torch.save({"weight": Marker(tmp_path / "ran")}, tmp_path / "last.ckpt")
    if is_sealed:
        seal(tmp_path / "last.ckpt")
    with pytest.raises(UsageError, match="no archive of tensors and plain values") as caught:
        read_checkpoint(tmp_path / "last.ckpt")
    assert "weights_only" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


# -- the files of a phase -------------------------------------------------------------------------------------------


def test_the_last_few_are_kept(tmp_path):
    save(tmp_path, 1, 2, 3, 4, keep=3)
    assert steps_in(tmp_path) == {"last": 4, "last-1": 3, "last-2": 2}
    save(tmp_path, 5, keep=2)
    assert steps_in(tmp_path) == {"last": 5, "last-1": 4}
    save(tmp_path, 6, keep=1)
    assert steps_in(tmp_path) == {"last": 6}
    (tmp_path / "last-copy.ckpt").write_bytes(b"somebody's own")
    assert list(last_checkpoints(tmp_path).values()) == [tmp_path / "last.ckpt"]


@pytest.mark.parametrize("gap", [None, 0, 1, 2])
def test_a_process_killed_while_files_move_on_leaves_whole_ones(tmp_path, monkeypatch, gap):
    """Killed before or after any of the renames: what is newest is whole, and the next checkpoint loses none of it."""
    save(tmp_path, 1, 2, 3, keep=3)
    real, calls = os.replace, []

    def replace(source, target):
        if len(calls) == gap:
            raise KeyboardInterrupt
        calls.append(target)
        real(source, target)

    monkeypatch.setattr("os.replace", replace)
    monkeypatch.setattr(Path, "replace", lambda source, target: replace(source, target))
    if gap is None:
        save(tmp_path, 4, keep=3)
    else:
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, 4, keep=3)
    monkeypatch.undo()
    newest = newest_whole(list(last_checkpoints(tmp_path).values()), "joint")
    assert newest.damages == ()
    assert newest.step == (4 if gap is None else 3)
    save(tmp_path, 5, keep=3, start=newest.path)
    assert steps_in(tmp_path)["last"] == 5
    assert newest.step in steps_in(tmp_path).values()


def test_the_newest_that_is_whole_is_taken_and_kept(tmp_path):
    save(tmp_path, 1, 2, 3, keep=3)
    flip_bit(tmp_path / "last.ckpt", 1000, 3)
    files = list(last_checkpoints(tmp_path).values())
    newest = newest_whole(files, "joint")
    assert (newest.path, newest.step) == (tmp_path / "last-1.ckpt", 2)
    assert newest.damages == (f"{tmp_path}/last.ckpt is damaged (its digest is not that of its content)",)
    save(tmp_path, 4, keep=3, start=newest.path)
    assert steps_in(tmp_path) == {"last": 4, "last-1": 2, "last-2": 1}, "the damaged one made room"
    for file in files:
        flip_bit(file, 1000, 3)
    with pytest.raises(UsageError, match=rf"last\.ckpt is damaged \(.+\) and no older .+ or remove {tmp_path} and"):
        newest_whole(files, "joint")
    assert newest_whole([], "joint") is None


def choose(rank: int, folder: str) -> None:
    """The second of two ranks cannot read the newest checkpoint, and its list of them is old."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    files = list(last_checkpoints(Path(folder)).values())
    real = checkpoint_files.file_sha256

    def other_bytes(path: Path, without: int = 0) -> str:
        return "0" * 64 if rank and path == files[0] else real(path, without)

    checkpoint_files.file_sha256 = other_bytes
    newest = newest_whole(files[rank:], "joint")
    torch.save((newest.step, list(newest.damages)), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow("two ranks")
def test_ranks_agree_on_the_newest_that_is_whole_for_all(tmp_path):
    save(tmp_path, 1, 2, 3, keep=3)
    spawn(choose, (str(tmp_path),), nprocs=2)
    damage = f"{tmp_path}/last.ckpt is damaged (its digest is not that of its content)"
    assert [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)] == [(2, [damage])] * 2


def test_a_checkpoint_that_does_not_belong_there_is_refused_though_an_older_one_does(tmp_path):
    save(tmp_path, 1, 2)
    files = list(last_checkpoints(tmp_path).values())
    with pytest.raises(UsageError, match=r"last\.ckpt is a checkpoint of joint, not of warm_up: copy"):
        newest_whole(files, "warm_up")
    for name in checkpoint_files.CONTENT:
        content = phase_content(3)
        del content[name]
        AtomicCheckpointIO().save_checkpoint(content, files[0])
        with pytest.raises(UsageError, match=rf"last\.ckpt is no checkpoint of a phase, {name} is missing: copy"):
            newest_whole(files, "joint")
    AtomicCheckpointIO().save_checkpoint(phase_content(3) | {"scaled_ig": {"phase": "joint"}}, files[0])
    with pytest.raises(UsageError, match=r"scaled_ig\.stage is missing"):
        newest_whole(files, "joint")


def test_a_checkpoint_of_another_version_is_refused(tmp_path, monkeypatch):
    save(tmp_path, 1)
    monkeypatch.setattr(checkpoint_files, "MARK", MARK.replace(b"1", b"2"))
    save(tmp_path, 2)
    monkeypatch.undo()
    with pytest.raises(
        UsageError, match=r"last\.ckpt is a checkpoint of another version of scaled-ig: go on with that"
    ):
        newest_whole(list(last_checkpoints(tmp_path).values()), "joint")


def test_no_flipped_bit_of_rows_is_read(tmp_path):
    table = SceneTable((3, 4), std=1.0)
    table.new_scenes(70, seed=1)
    rows = tmp_path / "rows-0"
    write_shards([Place("micro", table, {"weight": table.weight}, "weight")], rows)
    digests = digest_rows(rows)
    assert digests.keys() == {file.name for file in rows.iterdir()}
    verify_rows(rows, digests)
    for file in sorted(rows.iterdir()):
        for byte, bit in random_flips(file, seed=1):
            flip_bit(file, byte, bit)
            with pytest.raises(UsageError, match=rf"{file.name} is damaged \(its digest is not"):
                verify_rows(rows, digests)
            flip_bit(file, byte, bit)
    verify_rows(rows, digests)
    shutil.copy(file, rows / "shard-00009-00001-of-00001.safetensors")
    with pytest.raises(UsageError, match=r"shard-00009-00001-of-00001\.safetensors does not belong there"):
        verify_rows(rows, digests)
    with pytest.raises(UsageError, match="is missing"):
        verify_rows(tmp_path / "rows-1", digests)


# -- runs -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path, tiny_run) -> Path:
    """A copy of the finished run whose last phase was cut before its end."""
    folder = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    (folder / "checkpoints" / PHASES[-1] / "final.ckpt").unlink()
    return folder


@pytest.fixture
def resume(run_scaled_ig, tiny_config, run):
    """Goes on with it: status and output."""

    def go_on(*options) -> tuple[int, str]:
        return run_scaled_ig("fit", "--config", tiny_config, "--run_dir", run, "--resume", "true", *options)

    return go_on


def assert_same_bits(run: Path, other: Path, phases: tuple[str, ...]) -> None:
    """Weights and moments at the end of phases."""
    for phase in phases:
        ours, theirs = checkpoint(run, phase), checkpoint(other, phase)
        assert ours["global_step"] == theirs["global_step"]
        assert ours["state_dict"].keys() == theirs["state_dict"].keys()
        assert all(value.equal(theirs["state_dict"][name]) for name, value in ours["state_dict"].items())
        for key, state in ours["optimizer_states"][0]["state"].items():
            other_state = theirs["optimizer_states"][0]["state"][key]
            assert all(torch.as_tensor(value).equal(torch.as_tensor(other_state[k])) for k, value in state.items())


@pytest.mark.parametrize(
    ("phase", "damaged", "taken"),
    [
        (PHASES[-1], ("last",), "last-1"),
        (PHASES[-2], ("final",), "last"),
        (PHASES[-2], ("final", "last"), "last-1"),
    ],
)
def test_an_older_checkpoint_takes_over_and_the_run_ends_the_same(run, resume, tiny_run, phase, damaged, taken):
    folder, generator = run / "checkpoints" / phase, random.Random(f"{phase}{damaged}")
    for name in damaged:
        file = folder / f"{name}.ckpt"
        flip_bit(file, generator.randrange(file.stat().st_size), generator.randrange(8))
    step = checkpoint(run, phase, taken)["global_step"]
    status, output = resume()
    assert status == 0, output[-3000:]
    names = " and ".join(f"{folder / name}.ckpt is damaged (its digest is not that of its content)" for name in damaged)
    assert output.count(f"{names}: {phase} goes on from {taken}.ckpt, step {step}\n") == 1, output[-3000:]
    assert_same_bits(tiny_run, run, PHASES)
    assert_same_run(tiny_run, run)


@pytest.mark.slow("three runs")
def test_one_damaged_checkpoint_that_is_kept_alone_is_one_sentence(tmp_path, run_scaled_ig, tiny_config, tiny_run):
    run = tmp_path / "run"
    call = ("fit", "--config", tiny_config, "--run_dir", run, "--keep_checkpoints")
    status, output = run_scaled_ig(*call, 0)
    assert (status, output.splitlines()[-1]) == (2, "error: keep_checkpoints 0 must be 1 to 1,000,000")
    status, output = run_scaled_ig(*call, 1)
    assert status == 0, output[-3000:]
    folder = run / "checkpoints" / PHASES[-1]
    assert sorted(file.name for file in folder.iterdir()) == ["final.ckpt", "last.ckpt"]
    (folder / "final.ckpt").unlink()
    flip_bit(folder / "last.ckpt", 5000, 0)
    status, output = run_scaled_ig(*call, 1, "--resume", "true")
    assert status == 2
    assert output.splitlines()[-1] == (
        f"error: {folder}/last.ckpt is damaged (its digest is not that of its content) and no older checkpoint of "
        f"{PHASES[-1]} is whole: copy it again, or remove {folder} and --resume true trains {PHASES[-1]} again"
    )
    shutil.rmtree(folder)
    status, output = run_scaled_ig(*call, 1, "--resume", "true")
    assert status == 0, output[-3000:]
    assert_same_bits(tiny_run, run, PHASES)


@pytest.mark.slow("several runs")
def test_what_does_not_fit_is_one_sentence(run, resume, tiny_run):
    last, other = (run / "checkpoints" / phase / "last.ckpt" for phase in PHASES[:-3:-1])

    def sealed(change, phase: str = PHASES[-1], name: str = "last") -> None:
        content = checkpoint(tiny_run, phase, name)
        change(content)
        AtomicCheckpointIO().save_checkpoint(content, run / "checkpoints" / phase / f"{name}.ckpt")

    def another_model(content):
        content["state_dict"]["scene.representation.micro.weight"] = torch.zeros(4, 9)

    def other_parts(content):
        content["state_dict"]["scene.more"] = content["state_dict"].pop("scene.background")

    def other_groups(content):
        del content["optimizer_states"][0]["param_groups"][0]

    cases = {
        "is a checkpoint of latent_supervision, not of rgb_alignment: ": lambda: shutil.copy(other, last),
        "is no checkpoint of a phase, loops is missing: ": lambda: sealed(lambda content: content.pop("loops")),
        "does not fit this scene model (scene.representation.micro.weight is (9,) ": lambda: sealed(another_model),
        "does not fit this scene model (scene.background is missing there ": lambda: sealed(other_parts),
        f"trains {', '.join(groups_of(last)[1:])}, this run {', '.join(groups_of(last))}: ": lambda: sealed(
            other_groups
        ),
    }
    for sentence, damage in cases.items():
        damage()
        status, output = resume()
        assert status == 2, output[-3000:]
        assert "Traceback" not in output
        assert "weights_only" not in output
        assert output.splitlines()[-1].startswith(f"error: {last} {sentence}"), output[-3000:]
    last.unlink()
    sealed(another_model, PHASES[-2], "final")
    status, output = resume()
    assert status == 2, output[-3000:]
    assert "Traceback" not in output
    final = other.with_name("final.ckpt")
    assert output.splitlines()[-1].startswith(f"error: {final} does not fit this scene model ("), output[-3000:]


def groups_of(file: Path) -> list[str]:
    return [group["name"] for group in torch.load(file, weights_only=True)["optimizer_states"][0]["param_groups"]]


def test_a_run_of_an_earlier_version_warns_once(tmp_path, run_scaled_ig):
    kept = Path(shutil.copytree(KEPT, tmp_path / "kept"))
    call = ("fit", "--config", kept / "run/config.yaml", "--run_dir", kept / "run", "--resume", "true")
    status, output = run_scaled_ig(*call, "--data.path", kept / "pack", "--data.split_seed", "null")
    assert status == 0, output[-3000:]
    assert output.count("checkpoints of an earlier version have no digest") == 1, output
    assert output.startswith("checkpoints of an earlier version have no digest: damage to them may go unnoticed\n")
