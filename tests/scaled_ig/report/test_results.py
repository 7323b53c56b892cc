"""``scaled-ig tables``: rows, their means and spreads, costs at N scenes, and the papers' figures beside them."""

import csv
import json
import re
import shutil
import statistics
import subprocess
from pathlib import Path

import pytest
import yaml

from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.cli import main
from scaled_ig.errors import UsageError
from scaled_ig.report import papers, results

ROOT = Path(__file__).parents[3]


STAGE_1 = ("autoencoder", "warm_up", "joint")


def put_row(run: Path, folder: Path, psnr: float, stages: tuple[int, ...] = (1, 2)) -> None:
    """A copy of a run whose stage-2 PSNR is another, as if it had had these stages alone."""
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("checkpoints", "latents"))
    metrics, costs = (json.loads((folder / f"{name}.json").read_text()) for name in ("metrics", "costs"))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    metrics["s2"]["psnr"] = psnr
    gone = [stage for stage in (1, 2) if stage not in stages]
    for name, phase in list(costs["phases"].items()):
        if phase["stage"] in gone:
            costs["phases"].pop(name)
            config["phases"][name] = None
    for stage in gone:
        metrics.pop(f"s{stage}")
    metrics["scenes"] = [scene for scene in metrics["scenes"] if scene["stage"] in stages]
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "costs.json").write_text(json.dumps(costs))
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


@pytest.fixture(scope="module")
def rows(tmp_path_factory, tiny_run) -> Path:
    """Ours with three seeds from a stage 1, and two other rows."""
    folder = tmp_path_factory.mktemp("rows") / "ablations" / "demo"
    put_row(tiny_run, folder / "ours" / "stage1", 99.0, (1,))
    for seed, psnr in enumerate((20.0, 21.0, 22.5)):
        put_row(tiny_run, folder / "ours" / f"seed{seed}", psnr, (2,))
    put_row(tiny_run, folder / "macro_only", 21.9)
    for seed, psnr in enumerate((24.0, 26.0)):
        put_row(tiny_run, folder / "my_own_row" / f"seed{seed}", psnr)
    unfinished = folder / "ours" / "seed3"
    put_row(tiny_run, unfinished, 90.0)
    costs = json.loads((unfinished / "costs.json").read_text())
    costs["phases"].pop("rgb_alignment")
    (unfinished / "costs.json").write_text(json.dumps(costs))
    return folder


def test_a_run_that_has_not_learned_all_waves_is_left_out(tiny_run, tmp_path):
    folder = tmp_path / "demo"
    for name in ("ours", "macro_only"):
        put_row(tiny_run, folder / name, 20.0)
    scenes, costs = (json.loads((folder / "ours" / f"{name}.json").read_text()) for name in ("scenes", "costs"))
    (folder / "ours" / "scenes.json").write_text(json.dumps(scenes | {"waves": [["a"], ["b"]]}))
    for name, waves in (("latent_supervision", {"0": {}, "1": {}}), ("rgb_alignment", {"0": {}})):
        costs["phases"][name]["waves"] = waves
    (folder / "ours" / "costs.json").write_text(json.dumps(costs))
    rows, left_out = results.read_rows(folder)
    assert [row.name for row in rows] == ["macro_only"]
    assert left_out == [f"{folder / 'ours'} has learned 1 of 2 waves: go on with --resume true"]


def test_a_table_has_means_spreads_and_costs_of_its_runs(rows, capsys):
    with pytest.raises(SystemExit) as left:
        main(["tables", str(rows), "--out", str(rows / "page.md"), "--num_scenes", "1000"])
    assert not left.value.code
    printed = capsys.readouterr().out
    assert "Some rows have one seed" in printed
    assert "left out" in printed
    assert "rgb_alignment is left" in printed
    table = list(csv.DictReader((rows / "page" / "ablations-demo.csv").open()))
    assert [row[""] for row in table] == ["Ours", "Ours-Macro", "my_own_row"]
    ours = table[0]
    assert float(ours["PSNR S2, dB"]) == pytest.approx(63.5 / 3)
    assert float(ours["± seeds"]) == pytest.approx(statistics.stdev([20, 21, 22.5]))
    costs = json.loads((rows / "ours" / "seed0" / "costs.json").read_text())
    phases, own = costs["phases"], sum(costs["bytes_per_scene"].values())
    each = sum(phases[name]["processor_seconds"] for name in ("latent_supervision", "rgb_alignment")) / 4
    first = json.loads((rows / "ours" / "stage1" / "costs.json").read_text())["phases"]
    once = sum(first[name]["processor_seconds"] for name in STAGE_1)
    assert float(ours["τ, s a scene"]) == pytest.approx(each)
    assert float(ours["min at N = 1,000"]) == pytest.approx((once + 996 * each) / 60)
    shared = sum(costs["shared_bytes"].values()) + own  # with the mean scene of a version
    assert float(ours["MB at N = 1,000"]) == pytest.approx((2 * shared + 1000 * own) / 1e6)
    page = (rows / "page.md").read_text()
    assert "| Ours | ✓ | ✓ | ✓ | 3 | 21.17 | 1.26 |" in page
    assert "4 scenes in stage 1, 4 in stage 2, 4 never-seen views" in page
    assert "Seconds are processor time" in page
    shutil.move(rows / "macro_only", rows.parent / "macro_only")
    assert "by more than a standard deviation over seeds: my_own_row (+3.83 dB)" in results.verdict(
        results.read_rows(rows)[0]
    )
    shutil.move(rows.parent / "macro_only", rows / "macro_only")


def test_the_autoencoder_of_stage_1_stands_beside_the_aligned_one(rows, tmp_path):
    folder = tmp_path / "demo"
    for name in ("macro_only", "my_own_row"):
        shutil.copytree(rows / name, folder / name)
    file = folder / "macro_only" / "metrics.json"
    metrics = json.loads(file.read_text())
    metrics["scenes"] = [
        scene | {"stage1_autoencoder_psnr": 33.456} for scene in metrics["scenes"] if scene["stage"] == 2
    ]
    metrics["s2"] |= {"stage1_autoencoder_psnr": 33.456, "autoencoder_psnr": 28.376, "psnr": 31.207}
    file.write_text(json.dumps(metrics))
    tables = results.insight(results.read_rows(folder)[0])
    assert "| Ours-Macro: PSNR of the autoencoder alone, dB | 33.46 | 28.38 | 31.21 |" in tables
    assert tables.count("of stage 1's version | aligned | rendered |") == 1, "the other row does not know it"


def test_rows_of_other_scenes_do_not_stand_together(rows, tmp_path, tiny_run):
    folder = tmp_path / "mixed" / "demo"
    put_row(tiny_run, folder / "ours", 20.0)
    put_row(tiny_run, folder / "macro_only", 20.0)
    bank = SceneBank.open(folder / "macro_only" / "bank")
    bank.remove([bank.scenes("stage2")[0].id])
    with pytest.raises(UsageError, match="differ in their stage-2 scenes"):
        results.read_rows(folder)


def test_seconds_are_of_the_wall_where_a_row_was_trained_by_several_processes(rows, tmp_path):
    folder = tmp_path / "demo"
    for name in ("macro_only", "my_own_row"):
        shutil.copytree(rows / name, folder / name)
    costs = json.loads((folder / "macro_only" / "costs.json").read_text())
    costs["machine"]["ranks"] = 2
    (folder / "macro_only" / "costs.json").write_text(json.dumps(costs))
    phases = json.loads((folder / "my_own_row" / "seed0" / "costs.json").read_text())["phases"]
    wall = sum(phases[name]["seconds"] for name in ("latent_supervision", "rgb_alignment")) / 4
    read, _ = results.read_rows(folder)
    assert results.columns(read, 1000)[1]["τ, s a scene"] == pytest.approx(wall)
    assert "Seconds are wall time" in results.provenance(read)


def test_of_the_papers_only_psnr_stands_beside_runs_of_another_size(rows, monkeypatch):
    ours, *_, other = results.columns(results.read_rows(rows)[0], 1000)
    assert ours["paper's cars: PSNR, dB"] == papers.TABLE_3["Ours"].psnr
    assert other["paper's cars: PSNR, dB"] is None
    assert not any(name.startswith("paper:") for name in ours)
    monkeypatch.setattr(papers, "N1", 4)
    monkeypatch.setattr(papers, "N2", 4)
    ours, macro, other = results.columns(results.read_rows(rows)[0], 1000)
    assert ours["paper: PSNR, dB"] == papers.TABLE_3["Ours"].psnr
    first, second = (
        json.loads((rows / "ours" / run / "metrics.json").read_text())[split]["psnr_pooled"]
        for run, split in (("stage1", "s1"), ("seed0", "s2"))
    )
    assert ours["pooled PSNR, 10 : 40, dB"] == pytest.approx(0.2 * first + 0.8 * second)
    assert macro["paper: PSNR S2, workshop"] == papers.WORKSHOP_TABLE_2["Ours-Macro"][1]
    assert not any(name.startswith("paper") for name in other)


def test_a_folder_without_runs_is_one_sentence(tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        main(["tables", str(tmp_path)])
    assert left.value.code == 2
    assert "holds no finished run" in capsys.readouterr().err


@pytest.mark.parametrize("scale", ["demo", "paper"])
def test_every_row_has_a_run(scale):
    planned = subprocess.run(
        ["make", "-n", "-B", "ablations", "baselines", f"SCALE={scale}", "SEEDS=0 1"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    fits = [line for line in planned.splitlines() if "scaled-ig fit" in line]
    for file in (ROOT / "experiments" / "ablations").glob("*.yaml"):
        assert sum(f"ablations/{file.name}" in line for line in fits) == (2 if file.stem == "no_prior" else 3), file
    sizes = "demo/" if scale == "demo" else ""
    for file in (ROOT / "experiments" / "baselines").glob(f"{sizes}*.yaml"):
        runs = sum(f"experiments/baselines/{sizes}{file.name}" in line for line in fits)
        assert runs == (2 if sizes else 1), file  # the demo's sizes are those of the analytic scene too
    named = re.findall(r"--run_dir runs/(?:ablations|baselines)/\w+/(\w+)", planned)
    assert set(named) <= set(results.TITLES)


BASELINES = {
    "vanilla_nerf": "VanillaNerf", "instant_ngp": "InstantNgp", "tensorf": "TensoRF", "kplanes": "KPlanes",
    "triplanes": "TriPlanes", "triplanes_shared_head": "TriPlanes",
}  # fmt: skip


@pytest.mark.parametrize("scale", ["demo", "paper"])
def test_a_baseline_is_what_its_row_says(scale, capsys):
    """As make lays its files over each other."""
    planned = subprocess.run(
        ["make", "-n", "-B", "baselines", f"SCALE={scale}"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name, kind in BASELINES.items():
        line = next(line for line in planned.splitlines() if f"--run_dir runs/baselines/{scale}/{name} " in line)
        files = [ROOT / file for file in re.findall(r"--config (\S+)", line)]
        with pytest.raises(SystemExit):
            main(["fit", *(f"--config={file}" for file in files), "--print_config"])
        config = yaml.safe_load(capsys.readouterr().out)
        scene = config["scene"]
        assert scene["representation"]["class_path"].endswith(kind)
        assert scene["autoencoder"]["class_path"].endswith("IdentityAutoencoder")
        assert scene["own_heads"] == (name != "triplanes_shared_head")
        assert [phase for phase, settings in config["phases"].items() if settings] == ["latent_supervision"]
