"""Rows that differ in scenes of stage 1: what they are compared on, from how many scenes on they pay, what is drawn."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from scaled_ig.cli import main
from scaled_ig.metrics.accounting import Growth
from scaled_ig.report import results, scaling_figures
from scaled_ig.report.cost_figures import Curve, draw_growth
from scaled_ig.report.scaling import WORST, Sizes

PSNRS = {"latent-m3-n2": (20.0, 22.0, 24.0, 26.0), "latent-m3-n4": (21.0, 24.0, 24.5, 30.0)}
PLAIN = (19.0, 25.0, 20.0)


def put_row(run: Path, folder: Path, psnrs: tuple[float, ...], first: int) -> None:
    """A copy of a run as if its stage 1 had had ``first`` scenes, with PSNR of stage 2's first scenes alone."""
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("checkpoints", "latents"))
    metrics, costs = (json.loads((folder / f"{name}.json").read_text()) for name in ("metrics", "costs"))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    scenes = [scene for scene in metrics["scenes"] if scene["stage"] == 2][: len(psnrs)]
    metrics["scenes"] = [scene | {"psnr": psnr} for scene, psnr in zip(scenes, psnrs, strict=True)]
    for name, phase in list(costs["phases"].items()):
        if phase["stage"] == 1:
            phase |= {"scenes": first, "seconds": 60.0, "peak_mebibytes": 1000.0 + first}
        else:
            phase |= {"scenes": 4, "seconds": 40.0 if first else 100.0}
        phase["processor_seconds"] = phase["seconds"] / 2
        if phase["stage"] == 1 and not first:
            costs["phases"].pop(name)
            config["phases"][name] = None
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "costs.json").write_text(json.dumps(costs))
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_run) -> Path:
    """Two sizes of a way, and a baseline that has learned one scene less."""
    folder = tmp_path_factory.mktemp("rows") / "scale" / "cars"
    for name, psnrs in PSNRS.items():
        put_row(tiny_run, folder / name, psnrs, int(name[-1]))
    put_row(tiny_run, folder / "plain", PLAIN, 0)
    return folder


@pytest.fixture
def sizes(folder) -> Sizes:
    return Sizes.of(results.read_rows(folder)[0])


def test_rows_are_compared_on_scenes_that_all_have(sizes):
    assert [one.row.name for one in sizes.rows] == ["plain", "latent-m3-n2", "latent-m3-n4"]
    assert len(sizes.ids) == 3
    plain, few, many = sizes.records(100)
    gains = np.array(PSNRS["latent-m3-n4"][:3]) - PSNRS["latent-m3-n2"][:3]
    assert (plain["N1"], few["N1"], many["N1"], many["M"]) == (0, 2, 4, 3)
    assert few["PSNR S2, dB"] == pytest.approx(22.0)
    assert many["over the smallest N1, dB"] == pytest.approx(gains.mean())
    assert many["± its standard error"] == pytest.approx(gains.std(ddof=1) / 3**0.5)
    assert few["over the smallest N1, dB"] is None
    assert (plain["MiB peak, stage 1"], many["MiB peak, stage 1"]) == (None, 1004.0)
    assert sizes.spreads()[0]["PSNR, worst, dB"] == min(PLAIN)
    assert sizes.spreads()[0]["PSNR, 50 %, dB"] == pytest.approx(np.median(PLAIN))
    over = np.array(PSNRS["latent-m3-n2"][:3]) - PLAIN
    assert sizes.spreads()[1]["over no stage 1, dB"] == pytest.approx(over.mean())
    assert sizes.spreads()[1]["± its standard error"] == pytest.approx(over.std(ddof=1) / 3**0.5)
    mean = np.mean([PLAIN, PSNRS["latent-m3-n4"][:3]], axis=0)
    assert sizes.worst() == [sizes.ids[place] for place in mean.argsort()][:WORST]


def test_seeds_of_a_row_are_averaged_scene_by_scene(tiny_run, tmp_path):
    for seed, psnrs in enumerate([(20.0, 22.0, 24.0), (23.0, 23.0, 26.0)]):
        put_row(tiny_run, tmp_path / "cars" / "latent-m3-n2" / f"seed{seed}", psnrs, 2)
    put_row(tiny_run, tmp_path / "cars" / "latent-m3-n4", (19.0, 19.0, 19.0), 4)
    two, one = Sizes.of(results.read_rows(tmp_path / "cars")[0]).records(100)
    assert (two["seeds"], one["seeds"], one["± seeds"]) == (2, 1, None)
    assert two["PSNR S2, dB"] == pytest.approx(23.0)
    assert two["± seeds"] == pytest.approx(2 / 2**0.5)


def test_rows_of_few_views_are_a_line_each_and_compared_with_nobody_in_time(tiny_run, tmp_path):
    for name, psnrs in {
        "latent-m3-v2-n2": 20.0,
        "latent-m3-v2-n4": 21.0,
        "latent-m3-v9-n2": 25.0,
        "plain-v2": 18.0,
    }.items():
        folder = tmp_path / "cars" / name
        put_row(tiny_run, folder, (psnrs, psnrs, psnrs), int(name[-1]) if "-n" in name else 0)
        config = yaml.safe_load((folder / "config.yaml").read_text())
        config["data"]["init_args"]["train_views"] = int(name.partition("-v")[2][0])
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    sizes = Sizes.of(results.read_rows(tmp_path / "cars")[0])
    plain, few, more, nine = sizes.records(100)
    assert [one["views"] for one in (plain, few, more, nine)] == [2, 2, 2, 9]
    assert (few["over the smallest N1, dB"], more["over the smallest N1, dB"], nine["N1"]) == (None, 1.0, 2)
    assert not [name for one in (few, more, nine) for name in one if name.startswith("N:")]
    assert [row.get("over no stage 1, dB") for row in sizes.spreads()] == [None, 2.0, 3.0, None], (
        "nine views: no baseline"
    )
    assert [one.row.name for one in sizes.shown] == ["plain-v2", "latent-m3-v2-n4"], "the fewest views, most scenes"
    assert "N is that from which" not in sizes.provenance()
    Image.open(io.BytesIO(scaling_figures.views(sizes))).load()
    alone = [one.row for one in sizes.rows if one.first in (0, 2)]
    assert results.differ_in_size(alone), "several numbers of views are enough"
    assert not results.differ_in_size(alone[:2])


def test_a_row_pays_from_where_its_line_lies_below(sizes):
    plain, few, _ = sizes.records(100)
    # Three phases of half a minute each for two scenes, two of 20 s for four: 90 + 10 (N - 2) seconds, and 25 N alone.
    assert few["t1, min"] == pytest.approx(1.5)
    assert few["τ, s a scene"] == pytest.approx(10.0)
    assert few["min at N = 100"] == pytest.approx((90 + 98 * 10) / 60)
    assert few["N: time of plain"] == 5
    assert "N: time of plain" not in plain


def test_where_steps_cost_alike_no_number_of_scenes_is_told(folder, tmp_path):
    for name in ("latent-m3-n2", "latent-m3-n4", "plain"):
        shutil.copytree(folder / name, tmp_path / "cars" / name)
    file = tmp_path / "cars" / "plain" / "costs.json"
    costs = json.loads(file.read_text())
    for phase in costs["phases"].values():
        phase["processor_seconds"] = 1.05 * 20
    file.write_text(json.dumps(costs))
    _, few, many = Sizes.of(results.read_rows(tmp_path / "cars")[0]).records(100)
    assert few["N: time of plain"] == many["N: time of plain"] == "not told"


def test_wall_time_stands_where_a_row_knows_no_other(sizes):
    for phase in sizes.rows[0].run.costs["phases"].values():
        del phase["processor_seconds"]
    _, few, _ = Sizes.of([one.row for one in sizes.rows]).records(100)
    assert few["t1, min"] == pytest.approx(3.0)
    assert few["τ, s a scene"] == pytest.approx(20.0)


def test_the_page_has_charts_and_measures_bases_once(folder, tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        main(["tables", str(folder), "--out", str(tmp_path / "page.md")])
    assert not left.value.code
    page = (tmp_path / "page.md").read_text()
    for name in ("quality", "growth", "spread", "worst"):
        assert f"](page/scale-cars-{name}.png)" in page
        Image.open(tmp_path / "page" / f"scale-cars-{name}.png").load()
    assert "make scale" in page
    assert len(list(csv.DictReader((tmp_path / "page" / "scale-cars-scenes.csv").open()))) == 3
    path = folder / "latent-m3-n4" / "insight.json"
    insight = json.loads(path.read_text())
    insight["bases"]["s2"]["psnr_without_macro"] = 77.5
    path.write_text(json.dumps(insight))
    with pytest.raises(SystemExit):
        main(["tables", str(folder), "--out", str(tmp_path / "page.md")])
    assert "77.50" in (tmp_path / "page.md").read_text()
    bases = list(csv.DictReader((tmp_path / "page" / "scale-cars-bases.csv").open()))
    assert [row["bases"] for row in bases] == ["3", "3", "3"]
    assert bases[2]["PSNR without macro, dB"] == "77.5"
    capsys.readouterr()


def test_without_the_pack_what_is_measured_stands(tiny_run, tmp_path, capsys):
    for name, psnrs in PSNRS.items():
        put_row(tiny_run, tmp_path / "cars" / name, psnrs, int(name[-1]))
        config = tmp_path / "cars" / name / "config.yaml"
        described = yaml.safe_load(config.read_text())
        described["data"]["init_args"]["path"] = str(tmp_path / "nowhere")
        config.write_text(yaml.safe_dump(described))
        (tmp_path / "cars" / name / "insight.json").unlink(missing_ok=True)
    with pytest.raises(SystemExit) as left:
        main(["tables", str(tmp_path / "cars")])
    assert not left.value.code
    assert "left out: base planes and the worst scenes" in capsys.readouterr().out
    page = (tmp_path / "cars" / "results.md").read_text()
    assert "| latent-m3-n4 | 4 | 3 |" in page
    assert "worst.png" not in page


def test_the_sheet_of_the_worst_has_a_line_a_scene(sizes):
    sheet = Image.open(io.BytesIO(scaling_figures.worst(sizes)))
    side = scaling_figures.SMALLEST
    lines = len(sizes.ids)
    assert sheet.size == (3 * side, scaling_figures.HEAD + lines * (side + scaling_figures.CAPTION))
    data = sizes.rows[0].run.open_data()
    place = data.scene_ids(2).index(sizes.worst()[0])
    (batch,) = data.batches(2, [(place, data.split(2, "test")[place][0])])
    top = scaling_figures.HEAD + scaling_figures.CAPTION
    shown = sheet.crop((0, top, side, top + side)).resize(batch.images.shape[:1:-1], Image.Resampling.NEAREST)
    np.testing.assert_array_equal(shown, batch.images[0].permute(1, 2, 0).numpy())


def test_rings_stand_where_a_curve_meets_the_baseline():
    each, alike = Growth(0.0, 2.0), Growth(0.0, 1.0)
    plain = Curve("plain", each, alike)
    shared = Curve("shared", Growth(20.0, 1.0, 4), Growth(30.0, 1.0, 4))
    with_ring, without = draw_growth([plain, shared], 100, plain), draw_growth([plain, shared], 100)
    pictures = [np.asarray(Image.open(io.BytesIO(png)).convert("L")).astype(int) for png in (with_ring, without)]
    changed = np.argwhere(pictures[0] != pictures[1])
    # t crosses at N = 16; m(N) runs parallel, and what meets by chance gets no ring.
    assert len(changed)
    assert (changed[:, 1] < pictures[0].shape[1] / 2).all()
    height, width = changed.max(0) - changed.min(0)
    assert abs(height - width) <= 2
