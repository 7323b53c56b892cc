"""``make scale``: which rows it has, what they are trained on, how long; and the tiny one from data to tables."""

import csv
import os
import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from scaled_ig.cli import main

ROOT = Path(__file__).parents[1]
VIEWS = 34
"""Of 40: a tenth is for tests, and two of the other 36 are watched."""


def planned(*words: str, target: str = "scale") -> list[list[str]]:
    """Arguments of each ``fit`` that make would call."""
    told = subprocess.run(["make", "-n", "-B", target, *words], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = told.stdout.replace("\\\n", " ").splitlines()
    return [shlex.split(line.partition("scaled-ig ")[2]) for line in lines if "scaled-ig fit" in line]


def value(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def test_rows_differ_in_nothing_but_what_they_are_called_after():
    fits = planned("SEEDS=0 1")
    by_run = {value(words, "--run_dir"): words for words in fits}
    assert len(by_run) == len(fits)
    kinds = {"cars": ((8, 32, 128, 500), 500, 2000), "faces": ((8, 100), 100, 500)}
    more = 4  # rows of cars have seeds 0, 1, 2
    assert len(fits) == more + sum(2 * 2 + 5 * 3 * len(firsts) for firsts, _, _ in kinds.values())
    for run, words in by_run.items():
        _, _, kind, row, part = run.split("/")
        firsts, first, scenes = kinds[kind]
        n1 = int(row.partition("-n")[2] or 0)
        last = scenes if n1 == max(firsts) and row.startswith(("fast-m0", "latent-m10")) else first + 200
        assert yaml.safe_load(value(words, "--data.stage2_scenes")) == {"range": [first, last]}
        stage1 = yaml.safe_load(value(words, "--data.stage1_scenes"))
        assert stage1 == ({"range": [0, n1]} if n1 else 0)
        assert ("--init_from" in words) == (part != "stage1" and n1 > 0)
        if "--init_from" in words:
            assert value(words, "--init_from") == run.replace(part, "stage1")
        files = f"experiments/scale/{row.partition('-')[0]}_short.yaml"
        assert (files in words) == ("_short" in " ".join(words)) == (n1 == 500 and part == "stage1")
        assert ("scale/bases50" in " ".join(words)) == ("-m50" in row)
        assert value(words, "--resume") == "true"
        assert part == "stage1" or value(words, "--seed_everything") == part.removeprefix("seed")


def test_some_ways_alone_take_all_scenes_where_one_says_so():
    ends = {
        value(words, "--run_dir"): yaml.safe_load(value(words, "--data.stage2_scenes"))["range"][1]
        for words in planned("LONG=fast-m10 latent-m50")
    }
    whole = {run for run, end in ends.items() if end == 2000 and "/cars/" in run}
    assert {run.split("/")[3] for run in whole} == {"fast-m10-n500", "latent-m50-n500"}
    assert ends["runs/scale/cars/latent-m10-n500/seed0"] == 700


def parsed(capsys, files: list[str]) -> dict:
    with pytest.raises(SystemExit) as left:
        main(["fit", *(f"--config={ROOT / file}" for file in files), "--print_config"])
    assert not left.value.code
    return yaml.safe_load(capsys.readouterr().out)


def files_of(way: str, fits: list[list[str]]) -> list[str]:
    words = next(words for words in fits if f"/{way}/" in value(words, "--run_dir"))
    return [words[place + 1] for place, word in enumerate(words) if word == "--config"]


@pytest.mark.parametrize("recipe", ["fast", "latent"])
def test_a_scene_sees_as_many_images_as_in_the_recipe(recipe, capsys):
    fits = planned()
    base = parsed(capsys, [f"experiments/recipes/{recipe}.yaml"])
    for bases in ("m10", "m50"):
        sized = parsed(capsys, files_of(f"{recipe}-{bases}-n8", fits))
        for name, phase in base["phases"].items():
            if phase is None:
                assert sized["phases"][name] is None
                continue
            scenes = 8 if name in ("autoencoder", "warm_up", "joint") else 16
            batch = phase["batch_size"] or base["data"]["init_args"]["batch_size"]
            assert sized["phases"][name]["max_steps"] is None
            images = sized["phases"][name]["max_epochs"] * VIEWS
            part = 0.5 if name in ("joint", "rgb_alignment") else 1  # of latents, as its file says
            assert images == pytest.approx(part * phase["max_steps"] * batch / scenes, abs=VIEWS / 2)
            batch = 16 if (recipe, name) == ("fast", "warm_up") else phase["batch_size"]  # for many scenes
            assert sized["phases"][name]["batch_size"] == batch
            assert sized["phases"][name]["module"]["class_path"] == phase["module"]["class_path"]


def test_a_batch_of_stage_1_has_no_scene_twice():
    fits = [words for words in planned() if "/fast-" in value(words, "--run_dir")]
    stages1 = [words for words in fits if value(words, "--run_dir").endswith("stage1")]
    assert {int(value(words, "--run_dir").split("-n")[1].split("/")[0]) for words in stages1} >= {8, 32}
    for words in stages1:
        n1 = int(value(words, "--run_dir").split("-n")[1].split("/")[0])
        options = dict(pairwise(words))
        assert options.get("--phases.warm_up.batch_size") == ("8" if n1 == 8 else None)


@pytest.mark.parametrize("recipe", ["fast", "latent"])
def test_stage_1_of_500_scenes_is_a_quarter_as_long(recipe, capsys):
    fits = planned()
    short, whole = (parsed(capsys, files_of(f"{recipe}-m10-n{n1}", fits)) for n1 in (500, 128))
    for name in ("autoencoder", "warm_up", "joint"):
        if whole["phases"][name] is None:
            assert short["phases"][name] is None
        else:
            quarter = whole["phases"][name]["max_epochs"] / 4
            assert short["phases"][name]["max_epochs"] == pytest.approx(quarter, abs=0.5)
    assert short["phases"]["latent_supervision"] == whole["phases"]["latent_supervision"]


def test_base_planes_change_the_planes_alone(capsys):
    fits = planned()
    without, ten, fifty = (parsed(capsys, files_of(f"fast-m{bases}-n8", fits)) for bases in (0, 10, 50))
    plain = parsed(capsys, files_of("plain", fits))
    planes = [config["scene"]["representation"]["init_args"] for config in (without, ten, fifty)]
    assert [one.get("num_bases") for one in planes] == [None, 10, 50]
    for one in planes:
        assert (one["plane_resolution"], one["extent"], one["plane_std"]) == (80, 0.5, 0.1)
    for one in planes[1:]:  # the sum of mixed planes varies as one plane does
        assert one["num_bases"] * one["mixing_std"] ** 2 == pytest.approx(1.0, abs=0.01)
        assert (one["micro_channels"], one["macro_channels"]) == (10, 22)
    for config in (ten, fifty, plain):
        assert config["scene"]["sampling"] == without["scene"]["sampling"]
        rates = config["phases"]["latent_supervision"]["module"]["init_args"]["learning_rates"]
        assert (rates["micro"], rates["head"]) == (0.4, 0.005)
    assert plain["phases"]["warm_up"] is None
    assert not any(plain["hand_over"].values())


def test_scenes_see_as_many_images_however_few_views_they_have():
    fits = planned(target="few-views")
    rows = {value(words, "--run_dir"): words for words in fits if "few_views" in value(words, "--run_dir")}
    assert len(rows) == 4 * (1 + 3 * 2)
    for run, words in rows.items():
        _, _, _, row, _ = run.split("/")
        way, _, rest = row.partition("-v")
        views = int(rest.partition("-n")[0])
        assert int(value(words, "--data.train_views")) == views
        phases = {"latent_supervision": 4, "rgb_alignment": 10} if "latent" in way else {"latent_supervision": 19}
        for phase, epochs in phases.items():
            images = int(value(words, f"--phases.{phase}.max_epochs")) * views
            assert images == pytest.approx(epochs * 36, abs=views / 2)
        if "-n" in rest:
            stage1 = f"runs/scale/cars/{way}-n{rest.partition('-n')[2]}/stage1"
            assert value(words, "--init_from") == stage1
            assert stage1 in {value(words, "--run_dir") for words in fits}


def test_no_scene_of_one_kind_is_in_the_other_stage():
    rows = {value(words, "--run_dir"): words for words in planned(target="held-out")}
    for run, words in rows.items():
        if "held_out" not in run:
            assert value(words, "--data.path") == "data/scale/cars"
            continue
        _, _, kind, row, part = run.split("/")
        learned = "data/vehicles" if (kind == "vehicles") != (part == "stage1") else "data/scale/cars"
        assert value(words, "--data.path") == learned
        assert value(words, "--data.stage1_scenes") == ("54" if part == "stage1" else "0")
        assert ("--init_from" in words) == (part != "stage1" and row != "plain")
    assert sum("/held_out/vehicles/" in run for run in rows) == 1 + 3 * 2
    assert sum("/held_out/cars/" in run for run in rows) == 3 * 2


def test_rows_side_by_side_share_the_cores():
    told = subprocess.run(["make", "-n", "-B", "-j2", "scale"], cwd=ROOT, capture_output=True, text=True, check=True)
    fits = [line for line in told.stdout.splitlines() if "scaled-ig fit" in line]
    assert fits
    for line in fits:
        share = re.match(r"OMP_NUM_THREADS=\$\{OMP_NUM_THREADS:-(.*)\} \S+scaled-ig fit", line)
        assert share
        cores = f"nproc() {{ echo 2; }}; echo {share[1]}"
        assert subprocess.run(["bash", "-c", cores], capture_output=True, text=True, check=True).stdout == "1\n"


def test_an_unknown_size_is_refused():
    told = subprocess.run(["make", "-n", "scale", "SIZE=huge"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode
    assert "SIZE=huge is neither full nor tiny" in told.stderr


@pytest.mark.timeout(600)
@pytest.mark.slow("five runs of a process each")
def test_the_tiny_one_goes_from_data_to_tables_and_is_not_trained_again(tmp_path):
    for name in ("Makefile", "experiments", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "ready").touch()
    program = tmp_path / "bin" / "scaled-ig"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m scaled_ig "$@"\n')
    program.chmod(0o755)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MAKEFLAGS": ""}

    def make(*options: str) -> list[str]:
        words = [
            "make",
            *options,
            "scale",
            "SIZE=tiny",
            "WAYS=fast-m10",
            "WITHOUT=plain",
            "LONG=fast-m10",
            f"BIN={program.parent}",
        ]
        told = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert told.returncode == 0, told.stderr[-3000:]
        return re.findall(r"--run_dir (\S+)", told.stdout)

    runs = make()
    assert len(runs) == 5
    folder = tmp_path / "runs" / "scale-tiny"
    rows = list(csv.DictReader((folder / "results" / "scale-tiny-cars.csv").open()))
    assert [(row[""], row["N1"], row["N2"], row["M"]) for row in rows] == [
        ("plain", "0", "4", "0"), ("fast-m10-n2", "2", "4", "10"), ("fast-m10-n4", "4", "8", "10"),
    ]  # fmt: skip
    assert (folder / "results" / "scale-tiny-cars-worst.png").is_file()
    assert (tmp_path / "data" / "scale-tiny" / "cars" / "contact_sheet.png").is_file()
    assert not list(folder.glob("**/last*.ckpt"))
    assert not make("-n")
    (folder / "cars" / "plain" / "seed0" / "finished").unlink()  # as if it had been cut
    assert make("-n") == ["runs/scale-tiny/cars/plain/seed0"]
