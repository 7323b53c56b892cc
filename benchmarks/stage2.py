"""G7: seconds a scene of the whole of stage 2, ours against the papers' plan done naively, to equal quality.

``python -m benchmarks.stage2 [--pack PACK]``. Both learn the same scenes from the same views, in latents of 16 × 16 of
a small autoencoder. The papers' plan (48 + 48 samples, noise as start, dense Adam, 30 + 50 epochs) is run by our
kernels, which compute the same, to see where it ends; its seconds are its steps times those of :mod:`benchmarks.naive`.
Ours is run with schedules of growing length until one ends within 0.1 dB of that. Steps are timed apart, in turns, on
one thread. What is finished is kept. Result: runs/bench/quality_rows.json.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import torch
import yaml
from torch.nn import functional as F

from benchmarks.contest import cpu_seconds, machine
from benchmarks.naive import NaiveScenes
from benchmarks.quality_costs import build, time_steps
from benchmarks.quality_scenes import synthesize
from scaled_ig.cameras import orbit
from scaled_ig.commands.fit import fit
from scaled_ig.commands.training_cli import TrainingCLI
from scaled_ig.runs.run_folder import RunFolder

FOLDER = Path("runs/bench/stage2")
STAGE1, STAGE2 = ("autoencoder", "warm_up", "joint"), ("latent_supervision", "rgb_alignment")
SCENES, BATCH, EPOCHS = 8, 32, (30, 50)  # of stage 2; of the papers
CLOSE = 0.1  # dB
LENGTHS = (0.05, 0.1, 0.2, 0.4, 0.8)  # of the schedules of recipes/latent.yaml, until one is good enough

COMMON: dict[str, Any] = {
    "scene": {"autoencoder": {"class_path": "SmallAutoencoder", "init_args": {"patch_size": 8, "latent_channels": 16}}},
    "data": {
        "class_path": "ShapeNetCars",
        "init_args": {"stage1_scenes": 8, "stage2_scenes": SCENES, "batch_size": 16},
    },
    "trainer": {"precision": "bf16-mixed", "enable_progress_bar": False, "logger": False},
    "lpips": "off",
    "eval_every_n_steps": 0,
}
WIDE = {"plane_resolution": 64, "extent": 1.0}
PAPERS: dict[str, Any] = {
    "scene": {
        "representation": {"class_path": "MicroMacro", "init_args": WIDE},
        "sampling": {"class_path": "FullRay"},
    },
    "hand_over": {"scene_mean": False},
    "adam": {"clock": "exact_dense", "beta2": 0.999, "eps": 1e-8},
}
EXPONENTIAL = {"class_path": "Exponential", "init_args": {"gamma": 0.941}}
PAPERS_PHASES: dict[str, Any] = {
    "latent_supervision": {
        "module": {
            "class_path": "LatentSupervision",
            "init_args": {
                "learning_rates": {"micro": 1e-2, "mixing": 1e-2, "bases": 1e-2, "head": 1e-2},
                "schedule": EXPONENTIAL,
            },
        },
    },
    "rgb_alignment": {
        "module": {
            "class_path": "RgbAlignment",
            "init_args": {
                "learning_rates": {"micro": 1e-3, "mixing": 1e-2, "bases": 1e-2, "head": 1e-3, "decoder": 1e-4},
                "schedule": EXPONENTIAL,
            },
        },
    },
}


def train(name: str, pack: Path, phases: tuple[str, ...], *deltas: dict[str, Any], start: str | None = None) -> Path:
    """A run of recipes/latent.yaml with differences laid over it, or what is left of one."""
    folder = FOLDER / name
    given = arguments(folder.with_suffix(".yaml"), pack, phases, *deltas)
    begin = [] if start is None else ["--init_from", str(FOLDER / start)]
    TrainingCLI([*given, *begin, f"--run_dir={folder}", "--resume=true"], fit).train()
    return folder


def arguments(path: Path, pack: Path, phases: tuple[str, ...], *deltas: dict[str, Any]) -> list[str]:
    """Of ``scaled-ig fit``; differences are written beside ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    given = ["--config", "experiments/recipes/latent.yaml"]
    for number, delta in enumerate((COMMON, *deltas)):
        file = path.with_stem(f"{path.stem}_{number}")
        file.write_text(yaml.safe_dump(delta))
        given += ["--config", str(file)]
    return [
        *given,
        *(f"--phases.{name}=null" for name in (*STAGE1, *STAGE2) if name not in phases),
        f"--data.path={pack}",
    ]


def quality(run: Path) -> float:
    """PSNR of never-seen views of stage 2, dB."""
    return RunFolder(run).read_json("metrics.json")["s2"]["psnr"]


def steps(run: Path) -> dict[str, int]:
    """Steps of each phase."""
    return {name: phase["steps"] for name, phase in RunFolder(run).read_json("costs.json")["phases"].items()}


def shortened(length: float) -> dict[str, Any]:
    """Stage 2 of recipes/latent.yaml, of another length."""
    usual = yaml.safe_load(Path("experiments/recipes/latent.yaml").read_text())["phases"]
    return {"phases": {name: {"max_steps": round(length * usual[name]["max_steps"])} for name in STAGE2}}


def naive_steps(given: list[str]) -> dict[str, Any]:
    """A naive step of either phase, to be timed: everything in float32, one dense Adam for all."""
    model, generator = build(given).model, torch.Generator().manual_seed(0)
    model.representation.new_scenes(SCENES)
    scenes = NaiveScenes(model)
    size, channels = model.latent_size[0], model.autoencoder.latent_channels
    index, cameras = torch.arange(BATCH) % SCENES, orbit(BATCH)
    rays = cameras.rays(size)
    u = tuple(torch.rand(BATCH, size**2, 48, generator=generator) for _ in range(2))
    latents, images = torch.zeros(BATCH, size**2, channels), torch.zeros(BATCH, 3, *model.image_size)
    shared = torch.optim.Adam([*scenes.parameters()], lr=1e-2)
    everything = torch.optim.Adam([*scenes.parameters(), *model.autoencoder.decoder_parameters()], lr=1e-2)

    def supervise() -> None:
        shared.zero_grad()
        scenes.loss(index, rays, u, latents).backward()
        shared.step()

    def align() -> None:
        everything.zero_grad()
        rendered = scenes(index, rays, u).transpose(1, 2).unflatten(2, (size, size))
        F.mse_loss(model.decode(rendered).clamp(-1, 1), images).backward()
        everything.step()

    return {"latent_supervision": supervise, "rgb_alignment": align}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pack", type=Path, help="a pack of 16 scenes or more; procedural cars unless given")
    options = parser.parse_args()
    torch.set_num_threads(1)
    pack = options.pack or synthesize("cars", FOLDER)
    papers_phases = {
        "phases": {
            name: {**phase, "max_steps": None, "max_epochs": epochs, "batch_size": BATCH, "views_per_scene": 1}
            for (name, phase), epochs in zip(PAPERS_PHASES.items(), EPOCHS, strict=True)
        }
    }
    train("stage1_papers", pack, STAGE1, {"scene": {"representation": PAPERS["scene"]["representation"]}})
    train("stage1_ours", pack, STAGE1)
    theirs = train("papers", pack, STAGE2, PAPERS, papers_phases, start="stage1_papers")
    goal = quality(theirs) - CLOSE
    reached = {}
    for length in LENGTHS:
        ours = train(f"ours_{length:g}", pack, STAGE2, shortened(length), start="stage1_ours")
        reached[length] = quality(ours)
        print(f"{length:g} of the recipe's steps: {reached[length]:.2f} dB, goal {goal:.2f} dB", flush=True)
        if reached[length] >= goal:
            break
    naive = cpu_seconds(naive_steps(arguments(FOLDER / "naive.yaml", pack, STAGE2 + STAGE1, PAPERS)), 5, "naive steps")
    with tempfile.TemporaryDirectory() as folder:
        training = build([*arguments(FOLDER / "steps.yaml", pack, STAGE1 + STAGE2)])
        own = {name: median(b - a for a, b in pairwise(time_steps(training, name, folder).ends)) for name in STAGE2}
    seconds = [
        sum(each[name] * count for name, count in steps(run).items() if name in STAGE2) / SCENES
        for each, run in ((naive, theirs), (own, ours))
    ]
    row = {
        "work": f"stage 2 of {SCENES} scenes, to the end of the papers' plan less {CLOSE} dB",
        "ratio": seconds[0] / seconds[1],
        "check": f"{reached[length]:.2f} dB, {seconds[1]:.2f} s; {goal + CLOSE:.2f} dB, {seconds[0]:.1f} s",
        "passed": reached[length] >= goal,
        "steps": {"papers": steps(theirs), "ours": steps(ours)},
        "step_milliseconds": {
            "naive": {k: 1e3 * v for k, v in naive.items()},
            "ours": {k: 1e3 * v for k, v in own.items()},
        },
        "by_length": reached,
        "measured": machine(),
    }
    (FOLDER.parent / "quality_rows.json").write_text(json.dumps({"G7": row}, indent=1) + "\n")
    print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
