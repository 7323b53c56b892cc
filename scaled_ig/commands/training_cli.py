"""LightningCLI, bent through its hooks: what all verbs that train go through."""

from __future__ import annotations

import copy
import inspect
import logging
import warnings
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from data_modules.base import MultiViewDataModule
from scaled_ig import autoencoders
from scaled_ig.allowed import class_in
from scaled_ig.autoencoders import Autoencoder, IdentityAutoencoder
from scaled_ig.callbacks import PhaseProgress, RunLog
from scaled_ig.commands.loggers import in_run_folder, why_not_made
from scaled_ig.commands.training_options import SET_BY_VERB, RunOption, TrainingParser, add_training_options
from scaled_ig.distributed.watch import Watch
from scaled_ig.documents import parse_yaml
from scaled_ig.errors import FULL, UsageError
from scaled_ig.files import write_whole
from scaled_ig.metrics.images import load_lpips
from scaled_ig.runs.bank_writers import WriteVersion
from scaled_ig.runs.checks import check_stage1, finished_stage1
from scaled_ig.runs.launch import ours_to_stop
from scaled_ig.runs.model_state import Source
from scaled_ig.runs.plan import PHASES, STAGE1_PHASES, TrainingPlan
from scaled_ig.runs.run_folder import RunFolder
from scaled_ig.runs.training import Monitoring, Training
from scaled_ig.scene_model import SceneModel

TALKERS = ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed")
"""Loggers that tell devices, tips and adverts at the start of every phase."""


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

    def __init__(self, arguments: Sequence[str], verb: Callable[..., int], name: str = "scaled-ig fit") -> None:
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
        add_training_options(parser)

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


def training_parser(verb: Callable[..., int], name: str = "scaled-ig fit") -> LightningArgumentParser:
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
