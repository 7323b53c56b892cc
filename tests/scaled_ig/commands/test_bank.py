"""``scaled-ig bank``: what it says, what it changes, and what it leaves alone."""

import json
import shlex
import shutil
from itertools import product

import numpy as np
import pytest
import torch
import yaml

from data_modules.packing.pack import write_pack
from data_modules.shapenet import ShapeNetCars
from data_modules.streaming.choice import SceneChoice
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.cli import main
from scaled_ig.metrics.evaluation import evaluate, over_scenes, per_scene
from scaled_ig.rendering.sampling import InsideHull
from scaled_ig.runs.encodings import measure_encodings
from tests.conftest import BallScenes, ball_hulls


@pytest.fixture
def run(tmp_path, tiny_pack, tiny_scene):
    """A run folder with a bank of both stages on the tiny pack, whose scenes nobody has trained."""
    folder = tmp_path / "run"
    folder.mkdir()
    arguments = {"path": str(tiny_pack), "stage1_scenes": 4, "stage2_scenes": 4}
    data = {"class_path": "data_modules.shapenet.ShapeNetCars", "init_args": arguments}
    (folder / "config.yaml").write_text(yaml.safe_dump({"data": data}))
    views = ShapeNetCars(str(tiny_pack), 4, 4)
    for stage in (1, 2):
        scene = tiny_scene(rgb=True)
        scene.representation.new_scenes(4, seed=stage)
        with torch.no_grad():
            scene.representation.micro.weight.mul_(10)  # so that pixels depend on them before any training
        SceneBank.write(folder / "bank", scene, views.scene_ids(stage), f"stage{stage}", views.scene_digests(stage))
    return folder


@pytest.fixture
def say(capsys):
    """Runs the program: exit status, and what it printed without progress bars."""

    def leave(*arguments) -> tuple[int, str]:
        with pytest.raises(SystemExit) as left:
            main(["bank", *map(str, arguments)])
        said = capsys.readouterr()
        errors = [line for line in said.err.splitlines() if line.startswith("error: ")]
        return left.value.code, said.out + "\n".join(errors)

    return leave


def content(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_info_says_what_a_bank_holds(run, say):
    status, said = say("info", run)
    assert status == 0
    first, heading, *rows, origin = [line.split() for line in said.splitlines()]
    assert " ".join(origin) == "8 scenes: no category, no licence named"
    total = sum(len(file) for file in content(run / "bank").values())
    assert " ".join(first) == f"{run / 'bank'}: 8 scenes, 2 versions, {total:,} bytes"
    assert heading[:2] == ["version", "scenes"]
    size = 4 * (3 * 8 * 8 * 4 + 3)
    assert [row[:4] for row in rows] == [[name, "4", "float32", f"{size:,}"] for name in ("stage1", "stage2")]
    shared = [(run / "bank" / row[-1]).stat().st_size for row in rows]
    assert [row[4] for row in rows] == [f"{size:,}" for size in shared]
    assert say("info", run / "bank") == (0, said), "the folder of the bank will do"


def test_scenes_that_are_not_exported_are_named(run, say, tmp_path):
    status, said = say("export", run, "--format", "npz", "--out", tmp_path / "new.npz")
    assert status == 0
    assert "planes 4 ×" in said
    assert "scenes of stage1 are left out: --version stage1 writes them" in said
    status, said = say("export", run, "--format", "npz", "--version", "stage2", "--out", tmp_path / "named.npz")
    assert status == 0
    assert "left out" not in said


def test_info_measures_what_encodings_cost(run, say):
    status, said = say("info", run, "--measure", "--sample", "2")
    assert status == 0
    rows = [line.split() for line in said.splitlines()[6:]]
    assert [row[:2] for row in rows[:4]] == [
        ["stage1", name] for name in ("float32", "bfloat16", "int8", "int8_difference")
    ]
    assert len(rows) == 8
    assert rows[0][2] == f"{4 * (3 * 8 * 8 * 4 + 3):,}"
    assert rows[2][2] == f"{3 * 8 * 8 * 4 + 4 * 12 + 4 * 3:,}"
    assert [row[4] for row in rows if row[1] == "float32"] == ["+0.0000"] * 2


def test_measured_is_what_is_rendered_from_the_records(run, tiny_pack, monkeypatch):
    scene = SceneBank.open(run / "bank").load_version("stage2")
    data = ShapeNetCars(str(tiny_pack), 4, 4)
    keys = data.own_views(2, "test")
    whole = over_scenes(per_scene(evaluate(scene, data.batches(2, keys))))["psnr"]
    part = [key for key in keys if key[0] in (0, 3)]
    ends = over_scenes(per_scene(evaluate(scene, data.batches(2, part))))["psnr"]
    costs = measure_encodings(run / "bank", 16, None)
    assert (costs[4].version, costs[4].encoding) == ("stage2", "float32")
    assert costs[4].psnr == pytest.approx(whole, abs=1e-4)
    assert measure_encodings(run / "bank", 2, None)[4].psnr == pytest.approx(ends, abs=1e-4)
    assert abs(whole - ends) > 1e-3
    monkeypatch.setattr("scaled_ig.bank.scene_records._STEPS", {"int8": 1, "int8_difference": 1})
    rough = measure_encodings(run / "bank", 16, None)
    assert abs(rough[6].psnr_gain) > 10 * abs(costs[6].psnr_gain) + 1e-3, "steps of one value a sign must be seen"


@pytest.fixture
def run_with_more(run, tmp_path, tiny_scene):
    """That run with two scenes of a pack of their own, added since."""
    write_pack(BallScenes(10, 10, 32), tmp_path / "more", render=None)
    ids = ["ball-9", "ball-8"]
    arguments = {"path": str(tmp_path / "more"), "stage1_scenes": 0, "scenes": {"ids": ids}, "split_seed": None}
    folder = run / "added-1"
    folder.mkdir()
    data = {"class_path": "data_modules.shapenet.ShapeNetCars", "init_args": arguments}
    (folder / "config.yaml").write_text(yaml.safe_dump({"data": data}))
    views = ShapeNetCars(str(tmp_path / "more"), 0, scenes=SceneChoice(ids=ids), split_seed=None)
    digests = views.scene_digests(2)
    SceneBank.write(run / "bank", tiny_scene(2, rgb=True), views.scene_ids(2), "added-1", digests)
    return run


def test_scenes_that_were_added_are_measured_on_their_own_pack(run_with_more, say):
    status, said = say("info", run_with_more, "--measure")
    assert status == 0
    rows = [line.split() for line in said.splitlines()]
    assert [row[0] for row in rows[-12:]] == ["stage1"] * 4 + ["stage2"] * 4 + ["added-1"] * 4
    assert float(rows[-4][3]) > 0
    shutil.rmtree(run_with_more.parent / "more")
    status, said = say("info", run_with_more, "--measure")
    assert status == 0
    assert "added-1 is left out: " in said
    assert said.splitlines()[-1].split()[0] == "stage2"


def test_what_is_named_as_next_can_be_called(run, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words, verbs = ["bank", "info", str(run)], []
    while len(verbs) < 3:
        with pytest.raises(SystemExit) as left:
            main(words)
        assert left.value.code == 0
        program, *words = shlex.split(capsys.readouterr().err.splitlines()[-1].removeprefix("next: "))
        assert program == "scaled-ig"
        verbs.append(words[0] if words[0] != "bank" else words[1])
    assert verbs == ["verify", "render", "export"]
    assert (tmp_path / "orbit.mp4").is_file()


def test_verify_tells_sound_from_damaged(run, say):
    status, said = say("verify", run)
    assert status == 0
    assert said.startswith(f"{run / 'bank'}: 8 scenes, 0.0 MB of records, ")
    assert said.strip().endswith("MB/s, sound")
    bank = SceneBank.open(run / "bank")
    name = bank.ids[5]
    file = bank.path / "blocks" / bank[name].record.block
    file.write_bytes(bytes([file.read_bytes()[0] ^ 4]) + file.read_bytes()[1:])
    status, said = say("verify", run)
    assert status == 1
    finding, last = said.splitlines()
    assert finding == f"{file}: scene {name!r} is damaged (its digest differs)"
    assert last.endswith("1 finding")
    (bank.path / "index.json").write_text("{}")
    assert say("verify", run)[0] == 2


def test_scenes_are_removed(run, say):
    ids = SceneBank.open(run / "bank").ids
    assert say("remove", run, "--scenes", f"[{ids[1]}, {ids[6]}]") == (
        0, f"{run / 'bank'}: 2 scenes removed, 6 left\n",
    )  # fmt: skip
    assert say("remove", run, "--scenes", ids[0])[0] == 0
    assert SceneBank.open(run / "bank").ids == [*ids[2:6], ids[7]]
    assert say("verify", run)[0] == 0


def test_banks_are_merged_and_encoded_again(run, say, tmp_path, tiny_scene):
    other = SceneBank.write(tmp_path / "other", tiny_scene(3), ["x", "y", "z"], "stage2", ["", "", ""])
    status, said = say("merge", tmp_path / "all", "--others", f"[{run}, {other.path}]", "--encoding", "int8")
    assert (status, said) == (0, f"{tmp_path / 'all'}: 11 scenes in 3 versions: stage1 (4), stage2 (4), stage2-2 (3)\n")
    merged = SceneBank.open(tmp_path / "all")
    assert {version.encoding for version in merged.versions.values()} == {"int8"}
    off = (merged["y"].rows["micro"] - other["y"].rows["micro"]).abs().max()
    assert 0 < float(off) < 0.05
    assert say("merge", other.path, "--encoding", "bfloat16")[0] == 0
    assert SceneBank.open(other.path).versions["stage2"].encoding == "bfloat16"
    assert torch.equal(SceneBank.open(other.path)["x"].rows["mixing"], merged["x"].rows["mixing"])


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ("info NOWHERE", "NOWHERE is no scene bank"),
        ("look RUN", "action look must be info, verify, remove, merge, refit, export or read"),
        ("remove RUN", "the following arguments are required: scenes"),
        ("remove RUN --scenes nobody", "RUN/bank holds no scene 'nobody': nothing was removed"),
        ("remove RUN --scenes ball-1 --encoding int8", "unrecognized arguments: --encoding int8"),
        ("merge RUN", "bank merge needs --others, --encoding or both"),
        ("merge RUN --others RUN", "RUN/bank cannot be merged into itself"),
        ("merge RUN --others NOWHERE", "NOWHERE is no scene bank"),
        ("merge NOWHERE --encoding int8", "NOWHERE is no scene bank"),
        (
            "merge RUN --encoding int4",
            "encoding int4 is not known: did you mean int8? It must be float32, bfloat16, int8, ",
        ),
        ("info RUN --sample 3", "--sample and --pack have no effect without --measure"),
        ("info RUN --measure --sample 0", "--sample 0 must be 1 to 1,000,000"),
        ("info ALONE --measure", "--measure needs the views of a run, and ALONE is in none"),
        ("info RUN --measure --pack NOWHERE", "the views of RUN are needed"),
    ],
)
def test_mistakes_are_one_sentence_and_harm_nothing(run, say, tmp_path, tiny_scene, call, sentence):
    alone = tmp_path / "alone" / "bank"
    SceneBank.write(alone, tiny_scene(1), ["a"], "stage1", [""])
    places = {"NOWHERE": tmp_path / "nowhere", "RUN": run, "ALONE": alone}
    before = content(tmp_path)
    for name, path in places.items():
        call, sentence = call.replace(name, str(path)), sentence.replace(name, str(path))
    status, said = say(*call.split())
    assert status == 2
    assert said.splitlines()[-1].startswith(f"error: {sentence}")
    assert content(tmp_path) == before


def test_a_bank_is_read_without_this_package(run, tmp_path, tiny_scene):
    """The page's own lines, on banks of the encodings that they name."""
    from pathlib import Path

    page = (Path(__file__).parents[3] / "docs" / "bank.md").read_text()
    block = next(part.partition("```")[0] for part in page.split("```python\n") if "def read_scene" in part)
    assert not {"torch", "scaled_ig", "safetensors"} & {
        line.split()[1] for line in block.splitlines() if "import" in line
    }
    space: dict = {}
    exec(block, space)
    hulled = tiny_scene(9, sampling=InsideHull(8))
    hulled.representation.hull.weight.copy_(ball_hulls(9))
    for encoding, scene in product(("float32", "int8"), (tiny_scene(9), hulled)):
        bank = SceneBank.write(tmp_path / encoding, scene, list("abcdefghi"), "stage2", [""] * 9, encoding)
        for name in "agi":
            rows = space["read_scene"](str(bank.path), name)
            for key, row in bank[name].rows.items():
                np.testing.assert_array_equal(rows[key], row.numpy())


def test_the_index_is_small_and_readable(run):
    index = json.loads((run / "bank" / "index.json").read_text())
    assert index["versions"]["stage1"]["num_scenes"] == 4
    assert index["versions"]["stage2"]["model"]["representation"]["class"] == "MicroMacro"
    assert (run / "bank" / index["scenes"]["file"]).is_file()
