"""``scaled-ig fit``: LightningCLI, bent through its hooks; other verbs that train go through it too.

Short class names in a configuration, such as WarmUpCosine, resolve because the modules of the classes are imported.
"""

from __future__ import annotations

import argparse
import copy
import inspect
import json
import logging
import warnings
from argparse import Action
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.distributed as dist
import yaml
from jsonargparse import ActionConfigFile, Namespace, get_loader, set_loader
from lightning.pytorch import Callback
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import CheckpointIO, ClusterEnvironment, LayerSync, Precision
from lightning.pytorch.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.strategies import Strategy
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from data_modules import basel, shapenet  # noqa: F401 - see the head
from data_modules.base import MultiViewDataModule
from scaled_ig import autoencoders, presets
from scaled_ig.allowed import class_in
from scaled_ig.autoencoders import Autoencoder, IdentityAutoencoder
from scaled_ig.bank.scene_records import Encoding
from scaled_ig.callbacks import PhaseProgress, Plateau, RunLog
from scaled_ig.class_paths import allow, check_classes
from scaled_ig.commands import say_next
from scaled_ig.commands.fast_dev_run import try_out
from scaled_ig.commands.loggers import in_run_folder, why_not_made, with_places
from scaled_ig.commands.without_effect import settings_without_effect
from scaled_ig.distributed.watch import Silence, Watch
from scaled_ig.documents import parse_yaml
from scaled_ig.errors import FULL, UsageError
from scaled_ig.files import write_whole
from scaled_ig.metrics.images import LpipsChoice, load_lpips
from scaled_ig.optim.schedules import Schedule
from scaled_ig.parsing import VerbParser
from scaled_ig.phases import AdamSettings, Phase
from scaled_ig.ranges import Count, Place, Range, Seed, Steps, StepsOrNone, hints_of, value_out_of_range
from scaled_ig.rendering.sampling import SamplingPlan
from scaled_ig.representations import SceneRepresentation
from scaled_ig.runs.bank_writers import WriteVersion
from scaled_ig.runs.checks import check_stage1, finished_stage1
from scaled_ig.runs.launch import ours_to_stop
from scaled_ig.runs.model_state import Source
from scaled_ig.runs.plan import PHASES, STAGE1_PHASES, HandOver, PhaseConfig, TrainingPlan, Waves
from scaled_ig.runs.run_folder import RunFolder
from scaled_ig.runs.training import Monitoring, Training
from scaled_ig.scene_model import SceneModel

MOVED = {"scaled_ig.sampling.": "scaled_ig.rendering.sampling.", "scaled_ig.schedules.": "scaled_ig.optim.schedules."}
"""Modules of classes that configurations of runs name, where they were before 29 November 2026 and where they are."""


MODEL_KINDS = (SceneRepresentation, Autoencoder, SamplingPlan, MultiViewDataModule, Phase, Schedule)
PLUG_INS = (Precision, ClusterEnvironment, CheckpointIO, LayerSync)
TRAINER_KINDS = (Callback, Logger, Profiler, Strategy, Accelerator, *PLUG_INS)
"""Kinds of classes that a configuration may name."""


GROUPS = {"scene": SceneModel, "hand_over": HandOver, "waves": Waves, "adam": AdamSettings}
"""Classes whose arguments are keys of a configuration."""
LIBRARYS: dict[str, Any] = {
    "seed_everything": Seed,
    "trainer.devices": Annotated[int, Range(1, 1024), Range(-1, -1)] | list[Place],
    "trainer.num_nodes": Annotated[int, Range(1, 65536)],
    "trainer.fast_dev_run": Annotated[int, Range(0, 10_000)] | bool,
    "trainer.log_every_n_steps": StepsOrNone,
    "trainer.accumulate_grad_batches": Annotated[int, Range(1, 10_000)],
    "trainer.gradient_clip_val": Annotated[float, Range(0, 1e6)],
}
"""Ranges of arguments of the library, which has none."""


TALKERS = ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed")
"""Loggers that tell devices, tips and adverts at the start of every phase."""


def _load(text: str, load: Callable[[str], Any] = get_loader("yaml")) -> Any:  # noqa: B008 - the library's
    for old, new in MOVED.items():
        text = text.replace(f"class_path: {old}", f"class_path: {new}")
    return load(text)


set_loader("yaml", _load, (yaml.YAMLError,))


def fit(training: TrainingCLI, *, view: Annotated[int, Range(1, 65535)] | None = None) -> int:
    """Trains: runs the phases that a configuration names.

    Examples:
        scaled-ig fit --preset fast --data.path data/mine --run_dir runs/mine
        scaled-ig fit --preset fast --data.path data/mine --run_dir runs/mine --resume true
        scaled-ig fit --preset fast --config mine.yaml --preset ddp4 --data.path data/mine --run_dir runs/mine

    Args:
        view: Port of localhost, such as 8080, at which a browser shows scenes while they train.

    Returns:
        Exit code 0.

    Raises:
        UsageError: What is asked for cannot be trained.
    """
    if training.config.trainer.fast_dev_run:
        if view is not None:
            raise UsageError("--view has no effect beside --trainer.fast_dev_run, which keeps nothing: leave one out")
        return try_out(training)
    if view is None:
        status = training.train()
    else:
        from scaled_ig.viewer.live import LiveView

        with LiveView(view) as live:
            status = training.train(adjust=live.join)
    if getattr(rank_zero_only, "rank", 0) == 0:
        run = RunFolder(training.config.run_dir)
        print(f"{run.path}: scenes are in {run.bank}, what was measured in metrics.json")
        say_next("report", str(run.path))
    return status


SET_BY_VERB: dict[str, Any] = {
    "run_dir": "",
    "resume": True,
    "init_from": None,
    "data.init_args.path": "",
    "data.init_args.scenes": None,
    "data.init_args.stage1_scenes": 0,
    "data.init_args.stage2_scenes": None,
    "data.init_args.split_seed": None,
    **{f"phases.{name}": None for name in STAGE1_PHASES},
}
"""What a run that is gone on from has no say in, nor options: the verb sets it."""


class TrainingParser(VerbParser, LightningArgumentParser):
    """Options of a verb and of training."""

    before_keys = ""  # configurations have them, too

    def parse_args(self, *arguments: Any, **options: Any):
        """As the library does, ``--run`` first: the other options are laid over its configuration."""
        if self.is_inner:
            return super().parse_args(*arguments, **options)
        early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)  # no key that a file could have
        early.add_argument("--allow-package", "--allow_package", action="append", default=[], dest="packages")
        allowed, words = early.parse_known_args(list(arguments[0]))
        self.packages = allow(allowed.packages)
        place = next((place for place, word in enumerate(words) if word.partition("=")[0] == "--run"), 0)
        end = place + (1 if words and "=" in words[place] else 2)
        return super().parse_args([*words[place:end], *words[:place], *words[end:]], **options)

    def add_class_arguments(self, theclass: Any, *arguments: Any, **options: Any) -> list[str]:
        names = super().add_class_arguments(theclass, *arguments, **options)
        if isinstance(theclass, type) and issubclass(theclass, Logger):
            with_places(self, theclass)
        return names

    def hints(self) -> dict[str, Any]:
        """As above, with those of constructors that the library has taken the ranges from."""
        fields = {f"{key}.{name}": hint for key, kind in GROUPS.items() for name, hint in hints_of(kind).items()}
        return super().hints() | fields | LIBRARYS

    def wrong_values(self, config: Namespace) -> Iterator[str]:
        check_classes(config, MODEL_KINDS + TRAINER_KINDS, self.packages)
        yield from super().wrong_values(config)
        yield from settings_without_effect(self, config)
        if self.verb is not fit and config.get("trainer.fast_dev_run"):
            yield f"trainer.fast_dev_run {config.trainer.fast_dev_run} is for scaled-ig fit alone: leave it out"
        devices = config.get("trainer.devices")
        if isinstance(devices, str) and devices.lstrip("-").isdecimal():  # the library leaves numbers as text
            yield from value_out_of_range(LIBRARYS["trainer.devices"], int(devices), "trainer.devices")

    def _mistake(self, message: str) -> str:
        if "required: scene.representation" in message:
            return "nothing says what to train: give --preset NAME (scaled-ig presets lists them) or --config FILE"
        return super()._mistake(message)

    def _parse_optional(self, arg_string: str):
        """Where a run brings its own data module, ``--data`` is the pack, as it was called in versions before."""
        is_pack = arg_string == "--data" and "--pack" in self._option_string_actions
        return super()._parse_optional("--pack" if is_pack else arg_string)


class RunOption(Action):
    """A run, whose configuration lies beneath the options that follow."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        if option_string is None and parser.args[0] != values:
            raise UsageError(f"{values} comes first: other options are laid over its configuration")
        config = RunFolder(values).path / "config.yaml"
        if not config.is_file():
            raise UsageError(f"{values} is no run: give the folder of a finished run of scaled-ig fit")
        RunFolder(values).read_config()  # for what it says of a file that is none
        ActionConfigFile.apply_config(parser, namespace, "config", str(config))
        namespace.update(Namespace(SET_BY_VERB))
        setattr(namespace, self.dest, values)


class PresetOption(Action):
    """A configuration that is shipped: the same as its file given by ``--config``, or by ``--trainer`` and the like."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        preset = presets.find(values)
        path = str(preset.path)
        ActionConfigFile.apply_config(
            parser, namespace, "config", json.dumps({preset.group: path}) if preset.group else path
        )


class TrainingCLI(LightningCLI):
    """LightningCLI with a scene model, a data module and optional, typed phases.

    Args:
        arguments: Of the command line.
        verb: Function whose options are understood beside those of training. One named ``run`` is a run whose
            configuration lies beneath the options.
        name: Of the program, with the verb.

    Attributes:
        options: Of the verb.

    Raises:
        UsageError: Options are not understood, or set what the verb sets.
    """

    def __init__(self, arguments: Sequence[str], verb: Callable[..., int] = fit, name: str = "scaled-ig fit") -> None:
        for talker in TALKERS:
            logging.getLogger(talker).setLevel(logging.WARNING)
        warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*deprecated")
        warnings.filterwarnings("ignore", message=".*does not have many workers")
        warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")  # resumed runs
        warnings.filterwarnings("ignore", message="The dirpath has changed")  # resumed runs that were moved
        warnings.filterwarnings("ignore", message="To get the last learning rate computed")  # of resumed schedules
        warnings.filterwarnings("ignore", message=".*smaller than the logging interval")
        torch.set_flush_denormal(True)  # squares of tiny gradients: a processor is a hundred times slower on them
        self.parameters = inspect.signature(verb).parameters
        super().__init__(
            args=list(arguments),
            run=False,
            auto_configure_optimizers=False,
            seed_everything_default=0,
            save_config_callback=None,
            load_from_checkpoint_support=False,
            trainer_defaults={"use_distributed_sampler": False, "logger": False, "enable_model_summary": False},
            parser_class=TrainingParser,
            parser_kwargs={"verb": verb, "skip": ("training", "run"), "prog": name},
        )
        for name, value in SET_BY_VERB.items() if "run" in self.parameters else ():
            if self.config.get(name) != value:
                raise UsageError(
                    f"--{name.replace('init_args.', '')} is not for this command, which sets it: leave it out"
                )
        self.options = {name: self.config.pop(name) for name in self.parameters if name != "training"}

    def init_parser(self, **options: Any) -> LightningArgumentParser:
        parser = super().init_parser(**options)
        parser.epilog = (
            "--allow-package NAME: let the configuration name classes of a further package, whose code you trust. "
            "It may be given several times, on the command line alone."
        )
        run = self.parameters.get("run")
        begin = "[--preset NAME | --config FILE] --data.path PACK --run_dir RUN " if run is None else ""
        parser.usage = f"%(prog)s {begin}[options]"
        if run is not None and run.kind is run.KEYWORD_ONLY:
            parser.add_argument("--run", action=RunOption, required=True, help="folder of the run")
        elif run is not None:
            parser.add_argument("run", action=RunOption, help="folder of the run")
        return parser

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(self.trainer_class, "trainer")
        parser.set_defaults({f"trainer.{name}": value for name, value in self.trainer_defaults.items()})
        parser.add_class_arguments(SceneModel, "scene")
        parser.add_subclass_arguments(MultiViewDataModule, "data", required="run" not in self.parameters)
        if "run" in self.parameters:  # which has all that training needs
            for action in parser._actions:
                action.required = action.required and action.dest in self.parameters

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--preset",
            action=PresetOption,
            metavar="NAME",
            default=argparse.SUPPRESS,
            help="configuration that is shipped; scaled-ig presets lists them",
        )
        for name in PHASES:
            parser.add_argument(f"--phases.{name}", type=PhaseConfig | None, default=None, help=f"the {name} phase")
        parser.add_argument("--run_dir", type=str, default="runs/default", help="where this run writes everything")
        parser.add_argument("--resume", type=bool, default=False, help="go on from what run_dir holds")
        parser.add_argument("--init_from", type=str | None, default=None, help="folder of a finished stage-1 run")
        parser.add_class_arguments(HandOver, "hand_over")
        parser.add_class_arguments(Waves, "waves")
        parser.add_class_arguments(AdamSettings, "adam")
        parser.add_argument(
            "--eval_every_n_steps", type=StepsOrNone, default=0, help="steps between looks at val views; 0: none"
        )
        parser.add_argument("--plateau", type=Plateau | None, default=None, help="leave scenes out that are learned")
        parser.add_argument("--checkpoint_every_n_steps", type=Steps | None, default=None, help="default: every epoch")
        parser.add_argument("--keep_checkpoints", type=Count, default=2, help="so many last.ckpt of a phase are kept")
        parser.add_argument(
            "--rank_timeout",
            type=Silence,
            default=60.0,
            help="seconds of silence after which a rank is given up",
        )
        parser.add_argument("--bank_encoding", type=Encoding, default="float32", help="form of the scenes in the bank")
        parser.add_argument("--lpips", type=LpipsChoice, default="auto", help="what to do without its weights")
        parser.add_argument("--lpips_weights", type=str | None, default=None, help="file of the AlexNet backbone")

        _arrange(parser)

    def instantiate_classes(self) -> None:
        """They are made by :meth:`train`, after the verb has had its say."""

    def train(self, source: Source | None = None, adjust: Callable[[Training], Training] = lambda made: made) -> int:
        """Train what the configuration says; returns the exit status.

        Args:
            source: What stage 2 starts from, where it is no run of stage 1.
            adjust: Last word on what runs.
        """
        config = self.config
        if config.init_from is not None:
            config.init_from = str(Path(config.init_from).resolve())  # whoever reads config.yaml may stand elsewhere
            source = Source(finished_stage1(RunFolder(config.init_from)), "stage1")
        self._choose_autoencoder(source)
        try:
            self.config_init = self.parser.instantiate(in_run_folder(config))
        except ValueError as error:  # the library tries alternatives, and lists what was wrong with each
            raise _mistake_behind(error) or why_not_made(str(error)) or error from None
        training = adjust(self._training(source))
        with training.watch as watch:
            try:
                training(config.resume, self.settings, self._saved_settings, lambda: self._begin(training))
            except UsageError:
                raise
            except OSError as error:
                if error.filename is None and error.errno in FULL:  # what is written is there
                    error.filename = str(training.run.path)
                watch.explain(error)
                raise
            except Exception as error:
                watch.explain(error)
                if isinstance(error, MisconfigurationException):
                    raise UsageError(f"the trainer cannot do that: {str(error).splitlines()[0]}") from None
                raise
            finally:
                if dist.is_available() and dist.is_initialized():
                    dist.destroy_process_group()
        return 0

    @property
    def settings(self) -> dict[str, Any]:
        """The configuration as plain values."""
        return parse_yaml(self.parser.dump(self.config, skip_validation=True, skip_unset=False))

    def _saved_settings(self) -> dict[str, Any] | None:
        """Those of the run that goes on; None where there is none."""
        run = RunFolder(self.config.run_dir)
        return run.read_config() if self.config.resume and (run.path / "config.yaml").is_file() else None

    def _choose_autoencoder(self, source: Source | None) -> None:
        """The one of the source; without a source, the configuration must need none."""
        config = self.config
        names = [name for name in PHASES if config.phases[name] is not None]
        if source is not None:
            described = source.bank.versions[source.version].model["autoencoder"]
            kind = class_in(autoencoders, described["class"], Autoencoder)
            config.scene.autoencoder = Namespace(
                class_path=f"scaled_ig.autoencoders.{kind.__name__}", init_args=Namespace(**described["arguments"])
            )
        elif names and not set(names) & set(STAGE1_PHASES) and not _is_independent(config):
            raise UsageError(
                "this configuration has phases of stage 2 alone, which need a finished stage 1: give --init_from RUN, "
                "made by scaled-ig fit --config experiments/stage1.yaml --run_dir RUN"
            )

    def _training(self, source: Source | None) -> Training:
        config, made = self.config, self.config_init
        run = RunFolder(config.run_dir)
        loggers = made.trainer.logger if isinstance(made.trainer.logger, list) else [made.trainer.logger]
        log = RunLog(loggers, run.path) if made.trainer.logger else None
        base_callbacks = made.trainer.callbacks or []

        def make_trainer(callbacks: list, **arguments: Any):
            bar = [] if made.trainer.enable_progress_bar is False else [PhaseProgress()]
            made.trainer.callbacks = [copy.deepcopy(callback) for callback in base_callbacks] + callbacks + bar
            made.trainer.logger = log or False
            arguments["plugins"] = [*arguments.get("plugins", ()), *_cluster()]
            try:
                return ours_to_stop(self.instantiate_trainer(**arguments))
            except (MisconfigurationException, ModuleNotFoundError, TypeError, ValueError) as error:
                raise UsageError(f"there is no such trainer: {str(error).splitlines()[0]}") from None

        phases = {name: made.phases[name] for name in PHASES if made.phases[name] is not None}
        stage1 = RunFolder(config.init_from) if config.init_from else None
        return Training(
            run=run,
            model=made.scene,
            data=made.data,
            plan=TrainingPlan(phases, made.hand_over, made.adam, config.seed_everything, made.waves),
            make_trainer=make_trainer,
            bank_writer=WriteVersion(run.bank, config.bank_encoding),
            monitoring=Monitoring(
                eval_every_n_steps=config.eval_every_n_steps,
                checkpoint_every_n_steps=config.checkpoint_every_n_steps,
                keep_checkpoints=config.keep_checkpoints,
                plateau=made.plateau,
                lpips=cache(partial(load_lpips, config.lpips, config.lpips_weights, min(made.scene.image_size))),
                log=log,
            ),
            source=source,
            watch=Watch(config.rank_timeout),
            check=partial(check_stage1, stage1, phases, made.scene, made.data) if stage1 else lambda: None,
        )

    def _begin(self, training: Training) -> None:
        config = training.run.path / "config.yaml"
        text = self.parser.dump(self.config, skip_validation=True, skip_unset=False)  # null is a choice, too
        write_whole(config, text)


def training_parser(verb: Callable[..., int], name: str) -> LightningArgumentParser:
    """The parser of a verb that trains, for what describes it."""

    class Describing(TrainingCLI):
        def parse_arguments(self, parser, args) -> None:
            raise _Described(parser)

    try:
        Describing([], verb, name)
    except _Described as described:
        return described.args[0]
    raise AssertionError("a command line is parsed where it is made")


class _Described(Exception):  # noqa: N818 - no error
    """Carries a parser."""


NEEDED = ("run", "pack", "scenes", "preset", "config", "data", "run_dir", "resume", "init_from")


def _arrange(parser: LightningArgumentParser) -> None:
    """Let the help begin with what is needed, and end with the library's options."""
    begin = parser.add_argument_group("To begin")
    others = [group for group in parser._action_groups if group is not begin]
    for name in NEEDED:
        for group in others:
            for action in [action for action in group._group_actions if action.dest == name]:
                group._group_actions.remove(action)
                begin._group_actions.append(action)
    trainers = [group for group in others if any(a.dest.startswith("trainer.") for a in group._group_actions)]
    for group in trainers:
        group.title = "Lightning's Trainer"
    parser._action_groups = [begin, *(group for group in others if group not in trainers), *trainers]


def _mistake_behind(error: BaseException | None) -> UsageError | None:
    """The user's mistake that an error was raised for."""
    while error is not None and not isinstance(error, UsageError):
        error = error.__cause__ or error.__context__
    return error


def _is_independent(config: Namespace) -> bool:
    """Whether scenes are trained on pixels and take nothing from others: they need no stage 1."""
    is_rgb = config.scene.autoencoder.class_path.endswith(IdentityAutoencoder.__name__)
    return is_rgb and (config.scene.own_heads or not any(vars(config.hand_over).values()))


def _cluster() -> list[SLURMEnvironment]:
    """SLURM without Lightning's own requeueing, whose checkpoint the next phase would take for its own."""
    if SLURMEnvironment.detect() and not TorchElasticEnvironment.detect():
        return [SLURMEnvironment(auto_requeue=False)]
    return []
