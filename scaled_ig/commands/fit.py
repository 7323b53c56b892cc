"""``scaled-ig fit``: LightningCLI, bent through its hooks.

Short class names in a configuration resolve to classes that are imported, here by
:mod:`scaled_ig.commands.mistakes`, which knows every name.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from jsonargparse import ArgumentError, Namespace
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException

from data_modules.base import MultiViewDataModule
from scaled_ig.autoencoders import IdentityAutoencoder
from scaled_ig.bank.scene_records import Encoding
from scaled_ig.callbacks import PhaseProgress, Plateau, RunLogger
from scaled_ig.commands.mistakes import one_sentence
from scaled_ig.errors import UsageError
from scaled_ig.metrics.images import load_lpips
from scaled_ig.phases import AdamSettings
from scaled_ig.runs.bank_writers import KeepVersion
from scaled_ig.runs.checks import check_stage1, finished_stage1
from scaled_ig.runs.plan import PHASES, STAGE1_PHASES, HandOver, PhaseConfig, Waves
from scaled_ig.runs.run_folder import RunFolder
from scaled_ig.runs.training import Fit, Source
from scaled_ig.scene_model import SceneModel


class TrainingCLI(LightningCLI):
    """LightningCLI with a scene model, a data module and optional, typed phases.

    Args:
        arguments: Of the command line.
        source: What stage 2 starts from, where it is no run of stage 1.
        adjust: Last word on what runs.
    """

    def __init__(
        self, arguments: list[str], source: Source | None = None, adjust: Callable[[Fit], Fit] = lambda fit: fit
    ) -> None:
        self.source, self.adjust = source, adjust
        super().__init__(
            args=arguments,
            auto_configure_optimizers=False,
            seed_everything_default=0,
            save_config_callback=None,
            trainer_defaults={"use_distributed_sampler": False, "logger": False, "enable_model_summary": False},
            parser_kwargs={
                "description": "Learn thousands of 3D scenes from posed images.",
                "prog": "scaled-ig",
                "exit_on_error": False,
                "allow_abbrev": False,
                "fit": {"exit_on_error": False, "allow_abbrev": False},
            },
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        return {"fit": {"model", "train_dataloaders", "val_dataloaders", "datamodule"}}

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(self.trainer_class, "trainer")
        parser.set_defaults({f"trainer.{name}": value for name, value in self.trainer_defaults.items()})
        parser.add_class_arguments(SceneModel, "scene")
        parser.add_subclass_arguments(MultiViewDataModule, "data", required=True)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        for name in PHASES:
            parser.add_argument(f"--phases.{name}", type=PhaseConfig | None, default=None, help=f"the {name} phase")
        parser.add_argument("--run_dir", type=str, default="runs/default", help="where this run writes everything")
        parser.add_argument("--resume", type=bool, default=False, help="go on from what run_dir holds")
        parser.add_argument("--init_from", type=str | None, default=None, help="folder of a finished stage-1 run")
        parser.add_class_arguments(HandOver, "hand_over")
        parser.add_class_arguments(Waves, "waves")
        parser.add_class_arguments(AdamSettings, "adam")
        parser.add_argument(
            "--eval_every_n_steps", type=int, default=0, help="steps between looks at val views; 0: none"
        )
        parser.add_argument("--plateau", type=Plateau | None, default=None, help="leave scenes out that are learned")
        parser.add_argument("--checkpoint_every_n_steps", type=int | None, default=None, help="default: every epoch")
        parser.add_argument("--bank_encoding", type=Encoding, default="float32", help="form of the scenes in the bank")
        parser.add_argument(
            "--lpips", type=Literal["auto", "require", "off"], default="auto", help="what to do without its weights"
        )
        parser.add_argument("--lpips_weights", type=str | None, default=None, help="file of the AlexNet backbone")

    def _parse_ckpt_path(self) -> None:
        """Lightning would merge hyper-parameters stored in a checkpoint over the configuration."""

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        names = [name for name in PHASES if config.phases[name] is not None]
        if config.init_from is not None:
            config.init_from = str(Path(config.init_from).resolve())  # whoever reads config.yaml may stand elsewhere
            self.source = Source(finished_stage1(RunFolder(config.init_from)), "stage1")
        if self.source is not None:
            described = self.source.bank.versions[self.source.version].model["autoencoder"]
            config.scene.autoencoder = Namespace(
                class_path=f"scaled_ig.autoencoders.{described['class']}", init_args=Namespace(**described["arguments"])
            )
        elif names and not set(names) & set(STAGE1_PHASES) and not _is_independent(config):
            raise UsageError(
                "this configuration has phases of stage 2 alone, which need a finished stage 1: give --init_from RUN, "
                "made by scaled-ig fit --config experiments/stage1.yaml --run_dir RUN"
            )

    def instantiate_classes(self) -> None:
        self.config_init = self.parser.instantiate_classes(self.config)
        self.trainer = None  # type: ignore[assignment]

    def _run_subcommand(self, subcommand: str) -> None:
        config, made = self.config[subcommand], self.config_init[subcommand]
        run = RunFolder(config.run_dir)
        logger = made.trainer.logger if isinstance(made.trainer.logger, RunLogger) else None
        base_callbacks = made.trainer.callbacks or []

        def make_trainer(callbacks: list, **arguments: Any):
            bar = [] if made.trainer.enable_progress_bar is False else [PhaseProgress()]
            made.trainer.callbacks = [copy.deepcopy(callback) for callback in base_callbacks] + callbacks + bar
            made.trainer.logger = logger or False
            arguments["plugins"] = [*arguments.get("plugins", ()), *_cluster()]
            try:
                return self.instantiate_trainer(**arguments)
            except (MisconfigurationException, ModuleNotFoundError, ValueError) as error:
                raise UsageError(f"there is no such trainer: {str(error).splitlines()[0]}") from None

        phases = {name: made.phases[name] for name in PHASES if made.phases[name] is not None}
        stage1 = RunFolder(config.init_from) if config.init_from else None
        fit = Fit(
            run=run,
            scene=made.scene,
            data=made.data,
            phases=phases,
            make_trainer=make_trainer,
            hand_over=made.hand_over,
            adam=made.adam,
            keep=KeepVersion(run.bank, config.bank_encoding),
            check=partial(check_stage1, stage1, phases, made.scene, made.data) if stage1 else lambda: None,
            source=self.source,
            waves=made.waves,
            seed=config.seed_everything,
            eval_every_n_steps=config.eval_every_n_steps,
            plateau=made.plateau,
            lpips=load_lpips(config.lpips, config.lpips_weights),
            logger=logger,
            checkpoint_every_n_steps=config.checkpoint_every_n_steps,
        )
        plan = {name: str(value) for name, value in vars(config.as_flat()).items()}
        try:
            self.adjust(fit)(config.resume, plan, before=lambda: self._begin(run, logger))
        except SIGTERMException:
            raise SystemExit(143) from None
        finally:
            if dist.is_available() and dist.is_initialized():
                dist.destroy_process_group()

    def _begin(self, run: RunFolder, logger: RunLogger | None) -> None:
        run.path.mkdir(parents=True, exist_ok=True)
        if logger is not None:
            logger.belong_to(run.path)
        subparser = self._parser(self.subcommand)
        subparser.save(self.config[self.subcommand], run.path / "config.yaml", overwrite=True, multifile=False)


def _is_independent(config: Namespace) -> bool:
    """Whether scenes are trained on pixels and take nothing from others: they need no stage 1."""
    is_rgb = config.scene.autoencoder.class_path.endswith(IdentityAutoencoder.__name__)
    return is_rgb and (config.scene.own_heads or not any(vars(config.hand_over).values()))


def _cluster() -> list[SLURMEnvironment]:
    """SLURM without Lightning's own requeueing, whose checkpoint the next phase would take for its own."""
    if SLURMEnvironment.detect() and not TorchElasticEnvironment.detect():
        return [SLURMEnvironment(auto_requeue=False)]
    return []


def run_training(
    arguments: list[str], source: Source | None = None, adjust: Callable[[Fit], Fit] = lambda fit: fit
) -> int:
    """Parse and run ``fit``; returns the exit status. See :class:`TrainingCLI`."""
    for talker in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed"):
        logging.getLogger(talker).setLevel(logging.WARNING)  # devices, tips and adverts at the start of every phase
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*deprecated")
    warnings.filterwarnings("ignore", message=".*does not have many workers")
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval")
    torch.set_flush_denormal(True)  # squares of tiny gradients: a processor is a hundred times slower on them
    try:
        TrainingCLI(arguments, source, adjust)
    except ArgumentError as error:
        raise UsageError(one_sentence(str(error))) from None
    return 0
