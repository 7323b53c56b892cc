"""``scaled-ig report``: the page of a run, its film, and the bars that renderings must clear."""

import base64
import csv
import html
import io
import json
import os
import re
import shlex
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from PIL import Image

from scaled_ig import cli
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.commands import test as command
from scaled_ig.commands.report import report
from scaled_ig.errors import UsageError
from scaled_ig.parsing import VerbParser
from scaled_ig.report import charts, comparison, figures, scene_table
from scaled_ig.report.gallery import FRAMES
from scaled_ig.report.measure import add_bars
from scaled_ig.report.views import LatentColours, choose_views, show_depth, show_error
from scaled_ig.runs.record import RunRecord
from tests.banks import change_last_scene
from tests.rounding import DECIBELS
from tests.warm import PROGRAM

DATA_URI = re.compile(r"data:([\w/+]+);base64,([\w+/=]+)")


def copy_run(source, target, gain=0.0):
    """A copy of a run whose test PSNR is ``gain`` dB higher."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("checkpoints", "latents"))
    rows = list(csv.DictReader((target / "training.csv").open()))
    with (target / "training.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        for row in rows:
            if row["name"] == "test/psnr":
                row["value"] = str(float(row["value"]) + gain)
            writer.writerow(row)
    metrics = json.loads((target / "metrics.json").read_text())
    metrics["s2"]["psnr"] += gain
    (target / "metrics.json").write_text(json.dumps(metrics))
    return target


@pytest.fixture(scope="module")
def reported(tmp_path_factory, tiny_run):
    """A run with its page, compared with two others: its folder, its page."""
    folder = tmp_path_factory.mktemp("report")
    run, rgb, without = (
        copy_run(tiny_run, folder / name, gain) for name, gain in (("run", 0), ("rgb", 1.25), ("without", -0.75))
    )
    assert report(str(run), rgb=str(rgb), no_prior=str(without), compare=[f"the <run>'s twin={run}"]) == 0
    return run, (run / "report.html").read_text()


def test_metrics_hold_the_bars(reported):
    run, _ = reported
    metrics = json.loads((run / "metrics.json").read_text())
    for stage in (1, 2):
        own = [scene["nearest_view_psnr"] for scene in metrics["scenes"] if scene["stage"] == stage]
        assert len(own) == 4
        assert metrics[f"s{stage}"]["nearest_view_psnr"] == pytest.approx(sum(own) / 4)
    assert metrics["s2"]["rgb_triplanes_psnr"] == pytest.approx(metrics["s2"]["psnr"] + 1.25)
    assert metrics["s1"]["rgb_triplanes_psnr"] is None, "an RGB run's stage 1 is only a short start"
    assert "nearest_view_psnr" in metrics["protocol"]


def test_every_number_is_defined_in_a_fold_of_the_page(reported):
    run, text = reported
    protocol = json.loads((run / "metrics.json").read_text())["protocol"]
    fold = re.search(r'<dl id="protocol">(.*?)</dl>\s*</details>', text, re.DOTALL)[1]
    assert re.findall("<dt>(.*?)</dt>", fold) == list(protocol)
    assert [html.unescape(line) for line in re.findall("<dd>(.*?)</dd>", fold)] == [
        definition.replace("'", "’") for definition in protocol.values()
    ]
    assert 'href="#protocol"' in text


def test_bars_that_are_missing_are_measured(tiny_run, tmp_path):
    run = copy_run(tiny_run, tmp_path / "run")
    written = json.loads((run / "metrics.json").read_text())
    bare = json.loads((run / "metrics.json").read_text())
    for record in (*bare["scenes"], bare["s1"], bare["s2"]):
        del record["nearest_view_psnr"]
    (run / "metrics.json").write_text(json.dumps(bare))
    record = RunRecord.open(run)
    add_bars(record, record.open_data(), None)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["s2"].pop("stage1_autoencoder_psnr")  # training does not measure it
    for scene in metrics["scenes"]:
        scene.pop("stage1_autoencoder_psnr", None)
    assert metrics == written


def test_the_autoencoder_of_stage_1_is_measured_on_the_views_of_stage_2(tiny_run, tmp_path):
    run = copy_run(tiny_run, tmp_path / "run")
    record = RunRecord.open(run)
    data = record.open_data()
    add_bars(record, data, None)
    metrics = json.loads((run / "metrics.json").read_text())
    prefix, autoencoder = "scene.autoencoder.", record.bank.load_version("stage2").autoencoder
    saved = torch.load(tiny_run / "checkpoints/joint/final.ckpt", weights_only=True)["state_dict"]
    autoencoder.load_state_dict({name.removeprefix(prefix): v for name, v in saved.items() if name.startswith(prefix)})
    for place, scene in enumerate(record.scenes(2)):
        views = data.views(2).__getitems__([(place, view) for view in data.split(2, "test")[place]])
        with torch.no_grad():
            images = autoencoder.decode(autoencoder.encode(views.pixels))
        errors = (images.clamp(-1, 1) - views.pixels).square().flatten(1).mean(1) / 4
        assert scene["stage1_autoencoder_psnr"] == pytest.approx(float(-10 * errors.log10().mean()), abs=DECIBELS)
        assert scene["stage1_autoencoder_psnr"] != pytest.approx(scene["autoencoder_psnr"], abs=DECIBELS)
    assert not any("stage1_autoencoder_psnr" in scene for scene in record.scenes(1))
    means = [scene["stage1_autoencoder_psnr"] for scene in metrics["scenes"] if scene["stage"] == 2]
    assert metrics["s2"]["stage1_autoencoder_psnr"] == pytest.approx(sum(means) / len(means))
    assert command.test(str(run), lpips="off") == 0
    measured_again = json.loads((run / "metrics.json").read_text())["scenes"]
    assert [scene["stage1_autoencoder_psnr"] for scene in measured_again if scene["stage"] == 2] == means


def test_the_autoencoder_of_stage_1_is_known_where_its_encoder_followed(run_scaled_ig, tiny_config, tmp_path):
    option = "--phases.rgb_alignment.module.encoder_follows=true"
    status, said = run_scaled_ig("fit", "--config", tiny_config, "--run_dir", tmp_path, option)
    assert status == 0, said[-1500:]
    record = RunRecord.open(tmp_path)
    add_bars(record, record.open_data(), None)
    for scene in record.scenes(2):
        assert scene["stage1_autoencoder_psnr"] != pytest.approx(scene["autoencoder_psnr"], abs=DECIBELS)


@pytest.mark.parametrize("follows", [False, True])
@pytest.mark.parametrize("init_from", ["gone", "other"])
def test_the_autoencoder_of_another_stage_1_is_left_out(tiny_run, tmp_path, tiny_scene, init_from, follows):
    SceneBank.write(tmp_path / "other" / "bank", tiny_scene(1), ["a"], "stage1", ["0" * 64])
    record = RunRecord.open(copy_run(tiny_run, tmp_path / "run"))
    record.config["init_from"] = str(tmp_path / init_from)
    record.config["phases"]["rgb_alignment"]["module"]["init_args"]["encoder_follows"] = follows
    add_bars(record, record.open_data(), None)
    assert not any("stage1_autoencoder_psnr" in scene for scene in record.scenes(2))


def without_content(text):
    """A page without its pictures and files."""
    return DATA_URI.sub("", text)


def test_page_needs_nothing_else(reported):
    _, text = reported
    page = without_content(text)
    assert "http" not in page.replace("http-equiv", "")
    assert "default-src 'none'" in page, "a browser would refuse what is missed here"
    assert not re.search(r'(src|href)="(?!"|#)', page)


def test_everything_embedded_decodes(reported):
    _, text = reported
    kinds, frames = {}, []
    for kind, content in DATA_URI.findall(text):
        kinds[kind] = kinds.get(kind, 0) + 1
        data = base64.b64decode(content, validate=True)
        if kind == "image/webp":
            picture = Image.open(io.BytesIO(data))
            picture.load()
            frames += [picture.size] if max(picture.size) > 100 else []
    assert frames == [(10 * 32, FRAMES // 10 * 32)] * 4, "a sheet for each scene of stage 2"
    in_cards, in_table, in_strips = 8 * 6, 8 * 2, 3 * 3
    files = {"text/csv": 2, "application/json": 2, "text/plain": 1}
    assert kinds == {"image/webp": 4 + in_cards + in_table + in_strips} | files


def test_film_has_all_frames_and_scenes(reported):
    run, _ = reported
    frames = imageio.mimread(run / "orbit.mp4", memtest=False)
    assert len(frames) == FRAMES
    assert frames[0].shape == (256, 4 * 256, 3)


def test_downloads_are_the_files(reported):
    run, text = reported
    links = re.findall(r'download="run-([\w.]+)" href="data:[\w/]+;base64,([^"]+)"', text)
    contents = {name: base64.b64decode(content) for name, content in links}
    for name in ("metrics.json", "costs.json", "training.csv", "config.yaml"):
        assert contents.pop(name) == (run / name).read_bytes()
    scenes = list(csv.DictReader(io.StringIO(contents.pop("scenes.csv").decode())))
    record = RunRecord.open(run)
    assert not contents
    for scene in scenes:
        (measured,) = (one for one in record.metrics["scenes"] if one["id"] == scene["id"])
        assert (float(scene["psnr"]), int(scene["stage"])) == (measured["psnr"], measured["stage"])
        assert int(scene["bytes"]) == record.bank.record(scene["id"]).bytes
        assert float(scene["seconds"]) == pytest.approx(record.seconds(measured["stage"]) / 4)
    assert len(scenes) == 8
    assert [float(scene["psnr"]) for scene in scenes] == sorted(one["psnr"] for one in record.metrics["scenes"])[::-1]


def test_page_is_well_formed(reported):
    """Every element is closed where it must be, and no id is there twice."""
    _, text = reported
    checker = Nesting()
    checker.feed(without_content(text))
    assert checker.open == []
    assert len(checker.ids) == len(set(checker.ids))
    assert {link for link in checker.links if link.startswith("#")} <= {f"#{name}" for name in checker.ids}
    assert checker.without_alternative == []


class Nesting(HTMLParser):
    """Elements that are open, ids, links, and pictures that say nothing to who does not see them."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.without_alternative = [], [], [], []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values[name] for name in ("href",) if name in values]
        if tag == "img" and not values.get("alt"):
            self.without_alternative.append(values.get("alt"))
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"


def test_parts_come_in_their_order(reported):
    _, text = reported
    titles = re.findall("<h2>(.*?)</h2>", text)
    assert titles == [
        "Orbits",
        "Unseen views",
        "Scenes",
        "Quality",
        "Training",
        "What bases learn",
        "Against other ways",
        "Costs",
        "Repeat it",
    ]
    anchors = re.findall('href="#(.*?)"', re.search('class="anchors".*?</div>', text, re.DOTALL)[0])
    assert anchors == re.findall('<section id="(.*?)">', text)


def test_sentences_follow_from_the_numbers(reported):
    _, text = reported
    assert "1.25 dB more than this run" in text
    assert "+0.75 dB after RGB alignment" in text
    assert "whole images" in text
    assert "within 0.05 dB of this run" in text  # its twin
    assert not re.search("faster|speed|outperform", without_content(text))


def test_names_are_text_and_commands_can_be_repeated(reported):
    _, text = reported
    label = "the &lt;run&gt;’s twin"
    assert text.count(label) == 2, "in the table, and in its sentence"
    assert text.count("the &lt;run&gt;'s twin") == 2, "in both widths of the chart"
    assert "<run>" not in text
    for line in commands(text):
        name, function, arguments = cli.called(shlex.split(line.rpartition(" && ")[2])[1:])
        if name != "fit":
            VerbParser(function).parse_args(arguments)


def commands(text):
    """Commands that a page names."""
    blocks = re.findall("<pre>(.*?)</pre>", text, re.DOTALL)
    return [line for block in blocks for line in html.unescape(block).splitlines()]


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--compare", "a=b"], ["a=b"]),
        (["--compare", "a=b", "--compare=c d=e"], ["a=b", "c d=e"]),
        (["--compare", '["a=b", "c=d"]'], ["a=b", "c=d"]),
    ],
)
def test_runs_are_compared_with_one_option_each_or_a_list(words, value):
    assert VerbParser(report).parse_args(["run", *words]).compare == value


def test_cells_without_a_number_are_told_apart(reported):
    _, text = reported
    assert text.count('<td class="none">not on this machine</td>') == 2, "LPIPS was left out, of both stages"
    assert text.count('<td class="none">–</td>') == 4, (
        "stage 1 has no RGB tri-planes and one autoencoder; this run and its twin no lead"
    )


def test_table_names_plain_planes_beside_sizes(reported):
    run, text = reported
    record = RunRecord.open(run)
    assert comparison.plain_bytes(record, 10) == 3 * 8 * 8 * 10 * 4
    assert record.bytes_per_scene() == 3 * 8 * 8 * 4 * 4 + 3 * 4
    assert "7.5 KiB with F = 10 and 24.0 KiB with F = 32" in text


def test_rows_count_seconds_from_the_start_of_stage_2(reported):
    run, _ = reported
    record = RunRecord.open(run)
    first, second = comparison.rows([comparison.Contender("this run", record, "ours")])
    phases = record.costs["phases"]
    assert first.seconds == pytest.approx(phases["latent_supervision"]["seconds"])
    assert second.seconds == pytest.approx(first.seconds + phases["rgb_alignment"]["seconds"])
    assert second.seconds_per_scene == pytest.approx(second.seconds / 4)
    assert second.difference == 0


def test_same_time_is_read_off_the_curves(reported):
    def contender(points, seconds):
        phases = {"latent_supervision": {"stage": 2, "seconds": seconds}}
        rows = [{"phase": "latent_supervision", "name": "val/psnr", "seconds": x, "value": y} for x, y in points]
        run = RunRecord(reported[0], {}, {}, {"phases": phases}, rows)
        return comparison.Contender("x", run, "rgb")

    text = comparison._same_time(contender([(0, 20), (10, 30)], 10), contender([(0, 21), (4, 22)], 4))
    assert "after the same 4.0 s: 24.00 dB in this run, 22.00 dB in that" in text
    assert comparison._same_time(contender([], 10), contender([(0, 21)], 4)) == ""


def test_shown_views_hold_the_best_and_the_worst(reported):
    run, _ = reported
    record = RunRecord.open(run)
    data = record.open_data()
    scores = [scene["psnr"] for scene in record.scenes(2)]
    shown = [scene for scene, _ in choose_views(record, data, 2)]
    assert shown[0] == int(np.argmax(scores))
    assert shown[-1] == int(np.argmin(scores))
    assert all(view in data.split(2, "test")[scene] for scene, view in choose_views(record, data, 2))


def test_missing_pack_is_one_sentence(tiny_run, tiny_pack, tmp_path):
    run = copy_run(tiny_run, tmp_path / "run")
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace(str(tiny_pack), str(tmp_path / "gone")))
    with pytest.raises(UsageError, match="--pack"):
        report(str(run))
    assert RunRecord.open(run).open_data(str(tiny_pack)).scene_ids(2)


def test_changed_pack_is_refused(tiny_run, tmp_path):
    run = copy_run(tiny_run, tmp_path / "run")
    change_last_scene(run / "bank", "source_sha256", "0" * 64)
    with pytest.raises(UsageError, match="has changed since the run"):
        report(str(run))


@pytest.mark.slow("writes pages")
def test_scenes_that_were_added_or_removed_since_do_not_matter(tiny_run, tmp_path):
    run = copy_run(tiny_run, tmp_path / "run")
    bank = SceneBank.open(run / "bank")
    added = bank.load_version("stage2")
    ids = [f"added-{row}" for row in range(4)]
    SceneBank.write(bank.path, added, ids, "added-1", [""] * 4, mean=bank.mean("stage2"))
    with torch.no_grad():
        added.representation.bases.add_(1)
    bank = SceneBank.write(bank.path, added, [f"{name}-2" for name in ids], "added-2", [""] * 4)
    kept = RunRecord.open(run).scenes(2)
    bank.remove([kept.pop(1)["id"]])
    assert report(str(run)) == 0
    text, record = (run / "report.html").read_text(), RunRecord.open(run)
    assert "all 3 versions of the shared parts in the bank are counted, equal ones once" in text
    assert (record.versions(2), record.added_versions()) == (["stage2"], [])
    assert [scene["id"] for scene in record.scenes(2)] == [scene["id"] for scene in kept]
    assert record.metrics["s2"]["psnr"] == pytest.approx(np.mean([scene["psnr"] for scene in kept]))
    assert record.metrics["s1"] == json.loads((tiny_run / "metrics.json").read_text())["s1"]


def test_a_run_whose_stage_2_scenes_were_all_removed_is_not_compared(tiny_run, tmp_path):
    run = copy_run(tiny_run, tmp_path / "run")
    SceneBank.open(run / "bank").remove([scene["id"] for scene in RunRecord.open(run).scenes(2)])
    assert report(str(run)) == 0
    text, record = (run / "report.html").read_text(), RunRecord.open(run)
    assert "Against other ways" not in text
    assert record.stages() == [1]
    assert comparison.sentences([comparison.Contender("this run", record, "ours")]) == []


def test_a_pack_in_another_order_is_refused(tiny_run, tiny_pack, tmp_path):
    run = copy_run(tiny_run, tmp_path / "run")
    record = RunRecord.open(run)
    data = record.open_data()
    data.scenes(2)
    data._stages[2].reverse()
    with pytest.raises(UsageError, match="has changed since the run"):
        record._check_scenes(data, 2, ["stage2"])


def test_runs_on_other_scenes_are_not_compared(tiny_run, tmp_path):
    run, other = copy_run(tiny_run, tmp_path / "run"), copy_run(tiny_run, tmp_path / "other")
    change_last_scene(other / "bank", "id", "somebody-else")
    with pytest.raises(UsageError, match="differ in their stage-2 scenes"):
        report(str(run), rgb=str(other))


def test_folder_without_a_run_is_one_sentence(tmp_path):
    with pytest.raises(UsageError, match="is no run: give the folder"):
        report(str(tmp_path))


def test_three_channels_are_shown_as_they_are():
    latents = torch.rand(2, 3, 4, 4) * 2 - 1
    shown = LatentColours(latents)(latents)
    assert shown == pytest.approx((latents * 0.5 + 0.5).movedim(1, -1).numpy() * 255, abs=1)


def test_more_channels_keep_their_strongest_directions():
    strong = torch.randn(2, 3, 16, 16)
    mixing = torch.linalg.qr(torch.randn(6, 6)).Q
    latents = torch.einsum("ij,bjhw->bihw", mixing, torch.cat([strong, 0.01 * torch.randn(2, 3, 16, 16)], 1))
    colours = LatentColours(latents)
    seen = (latents.movedim(1, -1).double() - colours.mean) @ colours.axes
    assert seen.var((0, 1, 2)).sum() == pytest.approx(strong.double().var((0, 2, 3)).sum().item(), rel=0.02)


def test_error_is_white_where_there_is_none_and_depth_fades():
    truth = torch.zeros(3, 2, 2)
    assert (show_error(truth, truth) == 255).all()
    assert show_error(truth + 0.25, truth).max() < 100
    depth = show_depth(torch.tensor([[0.8, 1.8]]), torch.tensor([[1.0, 0.0]]), distance=1.3)
    assert (depth[0, 1] == 255).all()
    assert depth[0, 0].tolist() != [255, 255, 255]


def test_a_page_lists_and_pictures_no_more_than_it_has_room_for(reported, monkeypatch):
    record = RunRecord.open(reported[0])
    monkeypatch.setattr(scene_table, "MOST_LISTED", 5)
    monkeypatch.setattr(scene_table, "MOST_PICTURED", 3)
    table = scene_table.scene_table(record, record.open_data())
    ranked = [scene["id"] for scene in sorted(record.metrics["scenes"], key=lambda scene: -scene["psnr"])]
    listed = [row.id for row in table["rows"]]
    assert (len(listed), table["of"], len(table["csv"].splitlines())) == (5, 8, 9)
    assert [listed[0], listed[-1]] == [ranked[0], ranked[-1]], "the best and the worst"
    assert len(table["pictures"]) == 3
    assert {ranked[0], ranked[-1]} < table["pictures"].keys() < set(listed)


def test_names_are_text_in_charts_too(reported):
    names = ["$x$ {} \\frac", "</text><script>", 'id="a" #0072b2', "–"]
    record = RunRecord.open(reported[0])
    scenes = [scene | {"id": names[place % 4]} for place, scene in enumerate(record.scenes(2))]
    svg = figures.draw_scenes(replace(record, metrics={"scenes": scenes}), 2)
    chart = charts.inline(svg, "a", "wide", 'it says "</svg>"')
    checker = Nesting()
    checker.feed(chart)
    assert checker.open == []
    texts = [html.unescape(text) for text in re.findall("<text[^>]*>(.*?)</text>", chart, re.DOTALL)]
    assert set(names) <= set(texts)
    assert "#0072b2" not in re.sub("<text.*?</text>", "", chart, flags=re.DOTALL), "colours are those of the page"
    assert {link[1:] for link in checker.links} <= set(checker.ids), "markers are found under their new names"


@pytest.mark.slow("two runs of the program, one of them cold")
def test_the_command_of_the_page_repeats_the_run_from_anywhere(
    tiny_pack, tiny_config, run_scaled_ig, tmp_path, monkeypatch
):
    shutil.copytree(tiny_pack, tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    relative = "--data.path", "data", "--run_dir", "first run", "--phases.distillation", "null"
    assert run_scaled_ig("fit", "--config", tiny_config, *relative, "--resume", "true")[0] == 0
    assert run_scaled_ig("report", "first run")[0] == 0
    (command, *_) = commands((tmp_path / "first run" / "report.html").read_text())
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = os.environ | {"PATH": f"{PROGRAM.parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    subprocess.run(["bash", "-c", command], cwd=elsewhere, env=environment, check=True)
    first, again = tmp_path / "first run", tmp_path / "first run-again"
    assert not any(elsewhere.iterdir())
    assert json.loads((again / "scenes.json").read_text())["stage2"]
    keys = ("id", "psnr", "ssim")
    measured = [json.loads((run / "metrics.json").read_text())["scenes"] for run in (first, again)]
    numbers = [[[scene[key] for key in keys] for scene in scenes] for scenes in measured]
    assert numbers[0] == numbers[1]
    banks = [SceneBank.open(run / "bank").scenes("stage2") for run in (first, again)]
    assert [record.sha256 for record in banks[0]] == [record.sha256 for record in banks[1]]
