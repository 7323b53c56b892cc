"""``scaled-ig test``: never-seen views of a run, measured again."""

import csv
import json
import re
import shutil
import socket

import h5py
import numpy as np
import pytest
import torch

from data_modules.shapenet import ShapeNetCars
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.cli import main
from scaled_ig.commands import test as command
from scaled_ig.errors import UsageError
from scaled_ig.metrics.nearest_view import add_nearest_views, nearest_views
from scaled_ig.runs.measuring import choose_scenes
from scaled_ig.runs.record import RunRecord
from tests.banks import change_last_scene
from tests.rounding import DECIBELS

MEASURED = ("num_scenes", "num_views", "psnr", "ssim", "latent_psnr", "autoencoder_psnr", "nearest_view_psnr")
PARTS = ("config.yaml", "metrics.json", "metrics.csv", "costs.json")


def copy_parts(run, target, *names):
    """A copy of a run's bank and of some of its files."""
    shutil.copytree(run / "bank", target / "bank")
    for name in names:
        shutil.copy(run / name, target / name)
    return target


def read(run):
    return json.loads((run / "metrics.json").read_text())


@pytest.fixture(scope="module")
def measured(tiny_run, tmp_path_factory):
    """A run that knew nothing but its configuration and its scenes, after ``test``."""
    run = copy_parts(tiny_run, tmp_path_factory.mktemp("measured") / "run", "config.yaml")
    assert command.test(str(run), lpips="off") == 0
    return run


def test_numbers_are_those_of_training(tiny_run, measured):
    ours, theirs = read(measured), read(tiny_run)
    assert ours.keys() == theirs.keys()
    assert ours["protocol"] == theirs["protocol"]
    for split in ("s1", "s2"):
        assert ours[split].keys() == theirs[split].keys()
        for name in MEASURED:
            assert ours[split][name] == pytest.approx(theirs[split][name], abs=DECIBELS), (split, name)
        assert ours[split]["lpips"] is None
        assert ours[split]["rgb_triplanes_psnr"] is None
    for own, other in zip(ours["scenes"], theirs["scenes"], strict=True):
        assert (own["id"], own["stage"], own["num_views"]) == (other["id"], other["stage"], other["num_views"])
        assert own["psnr"] == pytest.approx(other["psnr"], abs=DECIBELS)


def test_table_has_a_row_a_scene_and_a_mean_per_split(tiny_run, measured):
    for run in (tiny_run, measured):
        metrics = read(run)
        with (run / "metrics.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        named = [(f"s{scene['stage']}", scene["id"]) for scene in metrics["scenes"]]
        ends = [[(split, "mean"), (split, "std")] for split in ("s1", "s2", "all")]
        assert [(row["split"], row["scene"]) for row in rows] == [*named[:4], *ends[0], *named[4:], *ends[1], *ends[2]]
        for split in ("s1", "s2"):
            own = [row for row in rows if row["split"] == split]
            assert float(own.pop()["psnr"]) == metrics[split]["psnr_std"]
            for name in ("psnr", "ssim", "latent_psnr", "autoencoder_psnr", "nearest_view_psnr"):
                values = [float(row[name]) for row in own]
                assert values[-1] == pytest.approx(np.mean(values[:-1]))
                assert values[-1] == metrics[split][name]
            assert {row["lpips"] for row in own} == {""}


def test_table_is_printed_for_both_splits_and_their_mixture(tiny_run, tmp_path, capsys):
    run = copy_parts(tiny_run, tmp_path / "run", *PARTS)
    command.test(str(run), lpips="off")
    metrics, lines = read(run), capsys.readouterr().out.splitlines()
    table, worst = lines[: lines.index("")], lines[lines.index("") + 1 :]
    assert table[0].split() == ["S1", "S2", "ALL"]
    psnr = next(line for line in table if line.startswith("PSNR"))
    means = [metrics[split] for split in ("s1", "s2", "all")]
    assert psnr.split()[2:] == " ".join(f"{own['psnr']:.2f} ± {own['psnr_std']:.2f}" for own in means).split()
    assert len({len(line) for line in table}) == 1, "columns are aligned"
    scenes = sorted((scene["psnr"], scene["id"], f"S{scene['stage']}") for scene in metrics["scenes"])
    assert [line.split() for line in worst[1:6]] == [[s, f"{psnr:.2f}", name] for psnr, name, s in scenes[:5]]


def ids_of(metrics) -> dict[int, list[str]]:
    return {stage: [scene["id"] for scene in metrics["scenes"] if scene["stage"] == stage] for stage in (1, 2)}


def test_a_draw_is_measured_beside_the_whole(tiny_run, tmp_path):
    run = copy_parts(tiny_run, tmp_path / "run", *PARTS)
    before = [(run / name).read_bytes() for name in ("metrics.json", "metrics.csv")]
    everything = {scene["id"]: scene for scene in read(run)["scenes"]}
    drawn = {}
    for scenes in ("1+3", "1+2", "all+0"):
        command.test(str(run), scenes=scenes, lpips="off")
        metrics = drawn[scenes] = json.loads((run / f"metrics_{scenes}_seed0.json").read_text())
        assert metrics["drawn"] == {"scenes": scenes, "seed": 0}
        assert metrics["protocol"] == read(run)["protocol"]
        for scene in metrics["scenes"]:
            assert scene["psnr"] == pytest.approx(everything[scene["id"]]["psnr"], abs=DECIBELS)
        assert metrics["all"]["psnr"] == pytest.approx(np.mean([scene["psnr"] for scene in metrics["scenes"]]))
        assert (run / f"metrics_{scenes}_seed0.csv").is_file()
    assert [(run / name).read_bytes() for name in ("metrics.json", "metrics.csv")] == before
    large, small, first = (ids_of(drawn[scenes]) for scenes in ("1+3", "1+2", "all+0"))
    assert (len(large[1]), len(large[2])) == (1, 3)
    assert small[1] == large[1]
    assert set(small[2]) < set(large[2]), "a smaller draw is a part of a larger one"
    assert (first[1], first[2], "s2" in drawn["all+0"]) == (ids_of(read(run))[1], [], False)


def test_seeds_draw_different_scenes_in_order(tiny_run):
    record = RunRecord.open(tiny_run)
    order = [scene.id for stage in (1, 2) for scene in choose_scenes(record, "all", 0) if scene.stage == stage]
    draws = {seed: [scene.id for scene in choose_scenes(record, "2+2", seed)] for seed in range(8)}
    assert draws[3] == [scene.id for scene in choose_scenes(record, "2+2", 3)]
    assert len({tuple(ids) for ids in draws.values()}) > 4
    assert set(order) == {name for ids in draws.values() for name in ids}, "each is drawn sometimes"
    for ids in draws.values():
        assert [order.index(name) for name in ids] == sorted(order.index(name) for name in ids)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scenes": "10+40"}, "4 scenes of stage 1 and 4 of stage 2: give at most 4+4, or all"),
        ({"scenes": "ten"}, "--scenes ten is not known: give all, or numbers"),
        ({"scenes": "1+-1"}, "is not known"),
        ({"scenes": "0+0"}, "chooses none of the 8 scenes"),
        ({"batch_size": 0}, "--batch_size 0 must be 1 to 1,000,000"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(tiny_run, options, said):
    before = sorted(tiny_run.iterdir())
    with pytest.raises(UsageError, match=re.escape(said)):
        command.test(str(tiny_run), **options)
    assert sorted(tiny_run.iterdir()) == before


SEVERAL = """
import os, sys
import scaled_ig.runs.measuring, scaled_ig.runs.outcomes  # once, not by every rank
from scaled_ig.commands.test import test
from scaled_ig.errors import UsageError

*runs, lost, port = sys.argv[1:]
for run, ranks in zip([*runs, lost], (2, 4, 2)):
    children = {}
    for rank in range(ranks):
        child = os.fork()
        if not child:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}
            try:
                test(run, lpips="off", batch_size=7)
            except UsageError as error:
                os.write(1, f"rank {rank}: {error}\\n".encode())  # whole lines, beside others'
                os._exit(2)
            os._exit(0)
        children[child] = rank
    statuses = {os.waitpid(child, 0)[1] >> 8 for child in children}
    print(f"{ranks} ranks end with {statuses}", flush=True)
"""


@pytest.mark.slow("two ranks")
def test_ranks_measure_what_one_process_does(tiny_run, measured, tmp_path, run_scaled_ig):
    """One of them finds its part of a bank damaged: all stop."""
    runs = [copy_parts(tiny_run, tmp_path / name, "config.yaml") for name in ("two", "four", "lost")]
    change_last_scene(runs[2] / "bank", "sha256", bytes(32))
    (tmp_path / "several.py").write_text(SEVERAL)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    status, output = run_scaled_ig(*runs, port, program=tmp_path / "several.py", GLOO_SOCKET_IFNAME="lo")
    assert status == 0, output[-3000:]
    assert "2 ranks end with {0}\n" in output
    assert "4 ranks end with {0}\n" in output
    assert output.count("ALL") == 2, "the first rank alone prints"
    for run in runs[:2]:
        ours, theirs = read(run), read(measured)
        assert ours.keys() == theirs.keys()
        assert ids_of(ours) == ids_of(theirs)
        for own, other in zip(ours["scenes"], theirs["scenes"], strict=True):
            assert own == pytest.approx(other, abs=DECIBELS)
        for split in ("s1", "s2", "all"):
            assert ours[split] == pytest.approx(theirs[split], abs=DECIBELS)
    assert "2 ranks end with {2}\n" in output
    assert sorted(re.findall(r"rank (\d): .*? is damaged", output)) == ["0", "1"], output
    assert not (runs[2] / "metrics.json").exists()


def test_nearest_views_are_measured_once(tiny_run, tmp_path, monkeypatch):
    run = copy_parts(tiny_run, tmp_path / "run", *PARTS)
    monkeypatch.setattr("scaled_ig.metrics.nearest_view.nearest_views", lambda *_: pytest.fail("they are known"))
    command.test(str(run), lpips="off")
    assert read(run)["s2"]["nearest_view_psnr"] == read(tiny_run)["s2"]["nearest_view_psnr"]


def test_rgb_run_stands_beside_stage_2_alone(tiny_run, tmp_path):
    run, rgb = (copy_parts(tiny_run, tmp_path / name, *PARTS) for name in ("run", "rgb"))
    command.test(str(run), lpips="off", rgb=str(rgb))
    assert read(run)["s1"]["rgb_triplanes_psnr"] is None
    assert read(run)["s2"]["rgb_triplanes_psnr"] == read(rgb)["s2"]["psnr"]
    command.test(str(run), lpips="off")
    assert read(run)["s2"]["rgb_triplanes_psnr"] == read(rgb)["s2"]["psnr"], "what is known stays"
    command.test(str(run), scenes="0+2", lpips="off", rgb=str(rgb))
    drawn = json.loads((run / "metrics_0+2_seed0.json").read_text())
    assert drawn["s2"]["rgb_triplanes_psnr"] == pytest.approx(drawn["s2"]["psnr"], abs=DECIBELS), "of the same scenes"
    change_last_scene(rgb / "bank", "id", "somebody-else")
    with pytest.raises(UsageError, match="differ in their stage-2 scenes"):
        command.test(str(run), lpips="off", rgb=str(rgb))


def test_lpips_is_left_out_with_a_sentence_or_required(tiny_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    run = copy_parts(tiny_run, tmp_path / "run", *PARTS)
    before = (run / "metrics.json").read_text()
    with pytest.raises(SystemExit) as left:
        main(["test", str(run), "--lpips", "require"])
    assert left.value.code == 2
    assert "error: LPIPS needs" in capsys.readouterr().err
    assert (run / "metrics.json").read_text() == before
    with pytest.raises(SystemExit) as left:
        main(["test", str(run)])
    assert left.value.code == 0
    assert "LPIPS is left out" in capsys.readouterr().out
    assert read(run)["s1"]["lpips"] is None


def test_folder_without_a_bank_is_one_sentence(tiny_run, tmp_path):
    shutil.copy(tiny_run / "config.yaml", tmp_path)
    with pytest.raises(UsageError, match="no scene bank"):
        command.test(str(tmp_path))


def test_version_of_a_bank_holds_its_scenes_in_order(tiny_run, tiny_pack):
    bank = SceneBank.open(tiny_run / "bank")
    data = ShapeNetCars(str(tiny_pack), 4, 4)
    (batch,) = data.batches(2, [(scene, 0) for scene in range(4)])
    latents = bank.load_version("stage2").render_latent(batch.cameras, batch.scene_index)
    for scene, name in enumerate(data.scene_ids(2)):
        alone = bank[name].render_latent(data.views(2).__getitems__([(scene, 0)]).cameras)
        assert torch.allclose(latents[scene].flatten(1).T, alone.pixels[0], atol=1e-5)
    with pytest.raises(UsageError, match="stage3"):
        bank.load_version("stage3")


def test_damaged_version_is_refused(tiny_run, tmp_path):
    copy_parts(tiny_run, tmp_path)
    change_last_scene(tmp_path / "bank", "sha256", bytes(32))
    with pytest.raises(UsageError, match="is damaged"):
        SceneBank.open(tmp_path / "bank").load_version("stage2")


def test_nearest_view_matches_brute_force(tiny_pack):
    data = ShapeNetCars(str(tiny_pack), 4, 4, val_fraction=0.2)
    found = nearest_views(data.views(2), data.split(2, "train"), data.split(2, "test"))
    with h5py.File(next(tiny_pack.glob("*.h5")), locking=False) as file:
        images, poses, offsets = file["views"][:] / 255.0, file["cam2world"][:], file["scene/offset"][:]
    expected = []
    for scene, pack_scene in enumerate(data.scenes(2)):
        first = offsets[pack_scene]
        for test in data.split(2, "test")[scene]:
            wanted = poses[first + test, :3, 3]
            angles = {}
            for view in data.split(2, "train")[scene]:
                centre = poses[first + view, :3, 3]
                cosine = centre @ wanted / np.linalg.norm(centre) / np.linalg.norm(wanted)
                angles[view] = np.arccos(np.clip(cosine, -1, 1))
            neighbour = min(angles, key=angles.get)
            error = ((images[first + neighbour] - images[first + test]) ** 2).mean()
            expected.append((scene, test, neighbour, -10 * np.log10(error)))
    assert [tuple(record.values())[:3] for record in found] == [row[:3] for row in expected]
    assert [record["nearest_view_psnr"] for record in found] == pytest.approx(
        [row[3] for row in expected], abs=DECIBELS
    )


def test_scene_without_test_views_has_no_nearest_view(tiny_pack):
    data = ShapeNetCars(str(tiny_pack), 4, 4)
    ids, test = data.scene_ids(2), data.split(2, "test")
    scenes = [{"id": name} for name in ids]
    add_nearest_views(scenes, ids, data.views(2), data.split(2, "train"), [[], *test[1:]])
    assert scenes[0]["nearest_view_psnr"] is None
    assert all(scene["nearest_view_psnr"] > 0 for scene in scenes[1:])
