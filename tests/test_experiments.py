"""Every configuration that is shipped can be parsed, and the two stages are the papers'."""

import re
from pathlib import Path

import pytest
import torch
import yaml

from scaled_ig import phases
from scaled_ig.autoencoders import KLAutoencoder
from scaled_ig.cli import main
from scaled_ig.optim import schedules

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def base_of(path: Path) -> Path | None:
    """The configuration that the first line of a delta names."""
    for name in re.findall(r"[\w./-]+\.yaml", path.read_text().splitlines()[0]):
        for folder in (path.parent, EXPERIMENTS, EXPERIMENTS.parent):
            if (folder / name).is_file() and (folder / name) != path:
                return folder / name
    return None


def is_experiment(path: Path) -> bool:
    content = yaml.safe_load(path.read_text()) or {}
    return "phases" in content or base_of(path) is not None


def parsed(capsys, *paths: Path) -> dict:
    """What ``--print_config`` shows."""
    with pytest.raises(SystemExit) as left:
        main(["fit", *(f"--config={path}" for path in paths), "--print_config"])
    captured = capsys.readouterr()
    assert not left.value.code, captured.err[-2000:]
    return yaml.safe_load(captured.out)


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(EXPERIMENTS.rglob("*.yaml")) if is_experiment(path)],
    ids=lambda path: str(path.relative_to(EXPERIMENTS)),
)
def test_a_shipped_configuration_is_understood(capsys, path):
    first_line = path.read_text().splitlines()[0]
    assert first_line.startswith("# "), "the first line says what it is"
    chain = [path]
    while (base := base_of(chain[0])) is not None and base not in chain:
        chain.insert(0, base)
    config = parsed(capsys, *chain)
    assert any(phase is not None for phase in config["phases"].values())


def module(config: dict, name: str) -> phases.Phase:
    """The phase that a configuration describes."""
    described = config["phases"][name]["module"]
    arguments = dict(described.get("init_args") or {})
    schedule = arguments.get("schedule")
    if schedule is not None:
        kind = getattr(schedules, schedule["class_path"].split(".")[-1])
        arguments["schedule"] = kind(**(schedule.get("init_args") or {}))
    for key, kind in (
        ("learning_rates", phases.LearningRates),
        ("weights", phases.JointWeights),
    ):
        if arguments.get(key) is not None:
            arguments[key] = kind(**arguments[key])
    return getattr(phases, described["class_path"].split(".")[-1])(torch.nn.Identity(), **arguments)


def steps(epoch: int) -> float:
    return 1.0 if epoch < 20 else 0.3 if epoch < 40 else 0.09


def decay(epoch: int) -> float:
    return 0.941**epoch


# method 5: epochs, global batch, rates, change of the rates.
TABLE = {
    "stage1.yaml": {
        "warm_up": (50, 512, {"micro": 1e-2, "head": 1e-2, "mixing": 1e-2, "bases": 1e-2}, steps),
        "joint": (
            50, 32,
            {"micro": 1e-4, "head": 1e-4, "mixing": 1e-2, "bases": 1e-2, "encoder": 1e-4, "decoder": 1e-4}, steps,
        ),
    },
    "stage2.yaml": {
        "latent_supervision": (30, 32, {"micro": 1e-2, "head": 1e-2, "mixing": 1e-2, "bases": 1e-2}, decay),
        "rgb_alignment": (
            50, 32, {"micro": 1e-3, "head": 1e-3, "mixing": 1e-2, "bases": 1e-2, "decoder": 1e-4}, decay,
        ),
    },
}  # fmt: skip


@pytest.mark.parametrize(("file", "name"), [(file, name) for file, table in TABLE.items() for name in table])
def test_the_papers_phases(capsys, file, name):
    if not (EXPERIMENTS / file).is_file():
        pytest.skip(f"experiments/{file} is not there yet")
    config = parsed(capsys, EXPERIMENTS / file)
    epochs, batch, rates, factor = TABLE[file][name]
    phase, own = config["phases"][name], module(config, name)
    assert own.name == name
    assert phase["max_epochs"] == epochs
    assert phase["max_steps"] is None
    assert (phase["batch_size"] or config["data"]["init_args"]["batch_size"]) == batch
    assert {part: getattr(own.learning_rates, part) for part in rates} == rates
    assert [own.schedule.factor(epoch, epoch / epochs) for epoch in range(epochs)] == pytest.approx(
        [factor(epoch) for epoch in range(epochs)]
    )
    adam = {"clock": "exact_dense", "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "scene_rate": 1.0}
    assert config["adam"] == adam
    if name == "joint":
        weights = {term: weight for term, weight in vars(own.weights).items() if weight != 0}
        assert weights == {"latent": 1.0, "rgb": 1.0, "reconstruction": 0.1}


@pytest.mark.parametrize("file", list(TABLE))
def test_the_papers_model(capsys, file):
    if not (EXPERIMENTS / file).is_file():
        pytest.skip(f"experiments/{file} is not there yet")
    config = parsed(capsys, EXPERIMENTS / file)
    assert {name for name, phase in config["phases"].items() if phase is not None} == set(TABLE[file])
    scene, data = config["scene"], config["data"]["init_args"]
    representation = scene["representation"]["init_args"]
    expected = {"micro_channels": 10, "macro_channels": 22, "num_bases": 50, "plane_resolution": 64, "extent": 1.0}
    expected |= {"plane_axes": "xy-xz-yz", "plane_std": 1.0, "mixing_std": 1.0}
    assert {name: representation[name] for name in expected} == expected
    assert scene["autoencoder"]["class_path"].split(".")[-1] == KLAutoencoder.__name__
    assert not scene["autoencoder"]["init_args"]["sample_posterior"]
    sampling = {"num_stratified": 48, "num_importance": 48, "t_near": 0.5, "t_far": 2.1}
    assert scene["sampling"]["class_path"].endswith("FullRay")
    assert {name: scene["sampling"]["init_args"][name] for name in sampling} == sampling
    assert (scene["resolution"], scene["hidden_channels"]) == (128, 64)
    assert (data["stage1_scenes"], data["stage2_scenes"]) == (500, 1500)
    assert config["hand_over"] == {"bases": True, "head": True, "scene_mean": False, "scene_views": False}
