"""Every key of a configuration and every option of a verb with 0, −1, a huge number, NaN and a wrong type."""

import types
import typing
from collections.abc import Callable, Iterator

import pytest
from jsonargparse import Namespace

from data_modules.shapenet import ShapeNetCars
from data_modules.streaming.choice import SceneChoice
from scaled_ig import autoencoders, phases, representations
from scaled_ig.callbacks import Plateau, RunLogger
from scaled_ig.cli import BANK_ACTIONS, VERBS, called
from scaled_ig.commands import fit as training_verb
from scaled_ig.commands.loggers import in_run_folder
from scaled_ig.commands.training_cli import TrainingCLI
from scaled_ig.commands.training_options import GROUPS
from scaled_ig.commands.without_effect import SETTINGS
from scaled_ig.errors import UsageError
from scaled_ig.optim import schedules
from scaled_ig.parsing import VerbParser
from scaled_ig.ranges import Range, Width, checked, hints_of
from scaled_ig.rendering import sampling
from scaled_ig.runs.phase_runs import list_phase_runs
from scaled_ig.runs.plan import PhaseConfig

VALUES = {"0": "0", "−1": "-1", "huge": "1000000000000", "not a number": ".nan", "wrong type": "{a: x}"}
PHASE_CLASSES = {
    "autoencoder": phases.AutoencoderTraining,
    "warm_up": phases.WarmUp,
    "joint": phases.Joint,
    "distillation": phases.Distillation,
    "latent_supervision": phases.LatentSupervision,
    "rgb_alignment": phases.RgbAlignment,
}
TOP = ("seed_everything", "eval_every_n_steps", "checkpoint_every_n_steps", "keep_checkpoints", "rank_timeout")
TOP += ("resume", "bank_encoding", "lpips")
TRAINER = [f"trainer.{name}" for name in SETTINGS if name != "default_root_dir"]
TRAINER += ["trainer.devices", "trainer.num_nodes", "trainer.log_every_n_steps", "trainer.accumulate_grad_batches"]
TRAINER += ["trainer.gradient_clip_val", "trainer.enable_progress_bar", "trainer.detect_anomaly"]
REPRESENTATIONS = [getattr(representations, name) for name in representations.__all__ if "Representation" not in name]


def takes_numbers(hint) -> bool:
    """Whether an annotation is of numbers, switches or a few words, and neither of free text nor of a class."""
    if typing.get_origin(hint) is typing.Annotated:
        return takes_numbers(hint.__origin__)
    if typing.get_origin(hint) is typing.Literal:
        return True
    if typing.get_origin(hint) in (typing.Union, types.UnionType, tuple):
        parts = [part for part in typing.get_args(hint) if part not in (type(None), ..., SceneChoice)]
        return bool(parts) and all(takes_numbers(part) for part in parts)
    return hint in (int, float, bool)


def keys_of(kind, place: str) -> Iterator[str]:
    for name, hint in hints_of(kind).items():
        if name not in ("return", "kind", "source") and takes_numbers(hint):
            yield f"{place}.{name}" if place else name


def keys() -> Iterator[tuple[tuple[str, ...], str]]:
    """Every key, and the options that bring about that there is one."""
    for place, kind in GROUPS.items():
        yield from (((), key) for key in keys_of(kind, place))
    yield from (((), key) for key in (*TOP, *TRAINER))
    for place, classes in {
        "scene.representation": [
            getattr(representations, name) for name in representations.__all__ if "Rep" not in name
        ],
        "scene.autoencoder": [autoencoders.SmallAutoencoder, autoencoders.KLAutoencoder],
        "scene.sampling": [sampling.FullRay, sampling.InsideBall, sampling.InsideHull],
        "data": [ShapeNetCars],
        "trainer.logger": [RunLogger],
    }.items():
        for kind in classes:
            yield from (((f"--{place}={kind.__name__}",), key) for key in keys_of(kind, place))
    yield from (((), key) for key in keys_of(SceneChoice, "data.scenes"))
    watched = ("--data.val_fraction=0.2", "--adam.clock=per_scene")
    yield from ((watched, key) for key in keys_of(Plateau, "plateau"))
    for name, kind in PHASE_CLASSES.items():
        there = (f"--phases.{name}.module={kind.__name__}", f"--phases.{name}.max_steps=2")
        there += ("--scene.autoencoder.small_decoder_channels=8",) if name == "distillation" else ()
        yield from ((there, key) for key in keys_of(PhaseConfig, f"phases.{name}"))
        module = f"phases.{name}.module"
        yield from ((there, key) for key in keys_of(kind, module))
        for argument in ("learning_rates", "weights"):
            inner = hints_of(kind).get(argument)
            if inner is not None:
                yield from ((there, key) for key in keys_of(inner, f"{module}.{argument}"))
        for schedule in (schedules.MultiStep, schedules.Exponential, schedules.WarmUpCosine):
            option = (*there, f"--{module}.schedule={schedule.__name__}")
            yield from ((option, key) for key in keys_of(schedule, f"{module}.schedule"))


KEYS = list(dict.fromkeys(keys()))


def options_of_verbs() -> Iterator[tuple[str, str]]:
    for verb in (*VERBS, *(f"bank {action}" for action in BANK_ACTIONS)):
        command = called(verb.split())
        if command is not None and verb not in ("fit", "add", "bank refit"):
            yield from ((verb, key) for key in keys_of(command[1], ""))


VERB_OPTIONS = list(options_of_verbs())
OPERANDS = {
    "synthesize": ["cars"],
    "pack": ["meshes", "FOLDER"],
    "bank export": ["BANK", "--format", "mesh", "--out", "FOLDER"],
    "bank read": ["BANK", "--checkpoint", "FILE"],
}


@pytest.fixture(scope="module")
def fit(tiny_config, tmp_path_factory):
    """Goes with options as far as the first step."""
    run = tmp_path_factory.mktemp("ranges") / "run"
    words = ["--config", str(tiny_config), "--run_dir", str(run)]
    cli = TrainingCLI(words, training_verb.fit)

    def call(options: list[str]) -> Namespace:
        config = cli.parser.parse_args([*words, *options])
        cli.config = config
        if "KLAutoencoder" not in str(options):  # whose weights are looked for
            cli.config_init = cli.parser.instantiate(config)
            training = cli._training(None)
            training._check()
            for phase_run in list_phase_runs(training.run, training.plan, training.data):
                training._data_of(phase_run).sampler()
        return config

    return call


def outcome(read: Callable[[list[str]], object], options: list[str], key: str) -> str:
    """What is said of a key; empty where it is in order. Anything but a mistake of the user comes through."""
    try:
        read(options)
    except UsageError as error:
        said = str(error)
        assert len(said.splitlines()) == 1, said
        assert len(said) < 500, said
        assert key.rpartition(".")[2] in said, said
        return said
    return ""


def read_all(fit, keys) -> list[list[str]]:
    """Options with which each key is in order; Lightning says what devices there are when a trainer is made of them."""
    keys = [(there, key) for there, key in keys if key != "trainer.devices"]
    tries = [[*there, f"--{key}={value}"] for there, key in keys for value in VALUES.values()]
    return [options for options in tries if not outcome(fit, options, options[-1][2:].partition("=")[0])]


def test_keys_have_ranges(fit):
    assert not any(".nan" in options[-1] or "{" in options[-1] for options in read_all(fit, KEYS[::36]))


@pytest.mark.slow("1,200 configurations in all")
@pytest.mark.parametrize("part", range(4))
def test_all_keys_have_ranges(fit, part):
    assert not any(".nan" in options[-1] or "{" in options[-1] for options in read_all(fit, KEYS[part::4]))


@pytest.mark.parametrize(("verb", "key"), VERB_OPTIONS)
def test_options_of_verbs_have_ranges(verb, key):
    command = called(verb.split())
    assert command is not None
    parser = VerbParser(command[1])
    takes_out = "out" in hints_of(command[1])
    for value in VALUES.values():
        options = [*OPERANDS.get(verb, ["FOLDER"]), *["--out=OUT"] * takes_out, f"--{key}={value}"]
        assert outcome(parser.parse_args, options, key) or value not in (".nan", "{a: x}")


ENDS = (
    "--scene.representation=VanillaNerf --scene.representation.depth=2 --scene.representation.width=8"
    " --scene.representation.skip=0 --scene.representation.frequencies=0",
    "--scene.representation=InstantNgp --scene.representation.levels=1 --scene.representation.log2_table_size=1"
    " --scene.representation.coarsest=1 --scene.representation.finest=1 --scene.representation.density_resolution=1",
    "--scene.representation=TensoRF --scene.representation.density_components=1 --scene.representation.resolution=1"
    " --scene.representation.appearance_components=1 --scene.representation.component_std=0",
    "--scene.representation=KPlanes --scene.representation.channels=1 --scene.representation.resolution=1",
    "--scene.representation.plane_resolution=1 --scene.representation.num_bases=1 --scene.hidden_channels=1",
    "--scene.representation.micro_channels=0 --scene.autoencoder.blocks=0 --scene.representation.extent=1000",
    "--scene.sampling=FullRay --scene.sampling.num_stratified=1 --scene.sampling.num_importance=1"
    " --scene.sampling.t_near=0",
    "--scene.sampling.num_samples=1 --adam.beta1=0 --adam.beta2=0 --trainer.log_every_n_steps=0",
)


@pytest.mark.slow("eight runs")
@pytest.mark.parametrize("options", ENDS)
def test_ends_of_ranges_train(run_scaled_ig, tiny_config, tmp_path, options):
    shorter = [f"--phases.{name}.max_steps=2" for name in PHASE_CLASSES if name != "distillation"]
    status, said = run_scaled_ig("fit", "--config", tiny_config, "--run_dir", tmp_path, *shorter, *options.split())
    assert status == 0, said[-1500:]


@pytest.mark.parametrize("name", sorted({*SETTINGS} - {"barebones", "use_distributed_sampler"}))
def test_settings_of_the_trainer_without_effect_are_refused(fit, name):
    value = {"default_root_dir": "x", "max_time": "00:01:00:00", "model_registry": "x"}.get(name)
    switched = {"inference_mode": "false", "enable_checkpointing": "true", "enable_autolog_hparams": "false"}.get(name)
    value = value or switched or ("true" if name == "sync_batchnorm" else "7")
    assert outcome(fit, [f"--trainer.{name}={value}"], name).startswith(f"trainer.{name} ")


@pytest.mark.parametrize(
    "option",
    [
        "logger=true",
        "logger=WandbLogger",
        "callbacks+=ModelCheckpoint",
        "callbacks+=EarlyStopping",
        "callbacks+=RichProgressBar",
        "callbacks+=EMAWeightAveraging",
    ],
)
def test_callbacks_and_loggers_without_effect_are_refused(fit, option):
    extra = ["--trainer.callbacks.monitor=x"] if option.endswith("EarlyStopping") else []
    assert "has no effect here" in outcome(fit, [f"--trainer.{option}", *extra], "trainer")


@pytest.mark.parametrize("kind", ["CSVLogger", "TensorBoardLogger", "RunLogger"])
def test_loggers_have_short_names_and_write_into_the_run_folder(fit, kind):
    for option in (f"--trainer.logger={kind}", f"--trainer.logger+={kind}", f"--trainer.logger=[{kind}]"):
        loggers = in_run_folder(fit([option, "--run_dir", "runs/x"])).trainer.logger
        (logger,) = loggers if isinstance(loggers, list) else [loggers]
        assert logger.class_path.endswith(f".{kind}")
        assert logger.init_args.save_dir == "runs/x"
    below = fit([f"--trainer.logger={kind}", "--trainer.logger.save_dir=logs", "--run_dir", "runs/x"])
    assert in_run_folder(below).trainer.logger.init_args.save_dir == "runs/x/logs"
    assert below.trainer.logger.init_args.save_dir == "logs", "config.yaml has what was given"


@pytest.mark.slow("five runs")
@pytest.mark.parametrize("value", ["{a: x}", ".nan", "-1", "0", "abc"])
def test_devices_that_there_are_not(run_scaled_ig, tiny_config, tmp_path, value):
    call = ("fit", "--config", tiny_config, "--run_dir", tmp_path / "run", f"--trainer.devices={value}")
    status, output = run_scaled_ig(*call)
    assert status == 2, output[-3000:]
    assert "devices" in output.splitlines()[-1]
    assert "Traceback" not in output


def test_all_that_is_wrong_is_said_at_once(fit):
    wrong = ["--adam.eps=0", "--data.batch_size=0", "--trainer.max_steps=5", "--phases.joint.module.weights.rgb=-1"]
    said = outcome(fit, wrong, "batch_size")
    for key in ("adam.eps 0", "data.batch_size 0", "trainer.max_steps 5", "phases.joint.module.weights.rgb -1"):
        assert key in said


def test_scenes_have_to_fit_into_memory(fit):
    wide = ["--scene.representation=TriPlanes", "--scene.representation.plane_resolution=4096"]
    said = outcome(fit, [*wide, "--scene.representation.channels=4096"], "representation")
    assert said.startswith("4 scenes of stage 1 take 3298.5 GB, and "), said


def test_lists_need_no_brackets(fit):
    fit(["--data.stage1_scenes.range", "0,4"])
    fit(["--phases.warm_up.module.schedule=MultiStep", "--phases.warm_up.module.schedule.milestones=3,4"])


def test_constructors_know_their_ranges():
    with pytest.raises(UsageError, match=r"^FullRay.num_stratified 0 must be 1 to 4,096; FullRay.t_far nan "):
        sampling.FullRay(num_stratified=0, t_far=float("nan"))
    with pytest.raises(UsageError, match="t_far 2 must be more than t_near 3"):
        sampling.FullRay(t_near=3, t_far=2)

    @checked
    class Own:
        def __init__(self, size: Width, pair: tuple[Width, Width] | None = None) -> None:
            self.size = size

    assert Own(3, (1, 2)).size == 3
    with pytest.raises(UsageError, match=r"^Own.pair 5000 must be 1 to 4,096$"):
        Own(1, (1, 5000))


def test_ranges_have_ends():
    assert str(Range(0, 1)) == "0 to 1"
    assert str(Range(0, 1, without_high=True)) == "at least 0 and less than 1"
    ends = [(value in Range(0, 1, without_low=True), value in Range(0, 1, without_high=True)) for value in (0, 0.5, 1)]
    assert ends == [(False, True), (True, True), (True, False)]
    assert float("nan") not in Range(-1, 1)
