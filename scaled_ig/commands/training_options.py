"""What a configuration of training may hold, and the parser that reads it.

Short class names in a configuration, such as WarmUpCosine, resolve because the modules of the classes are imported.
"""

from __future__ import annotations

import argparse
import inspect
import json
from argparse import Action
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import yaml
from jsonargparse import ActionConfigFile, Namespace, get_loader, set_loader
from lightning.pytorch import Callback
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import CheckpointIO, ClusterEnvironment, LayerSync, Precision
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.strategies import Strategy

from data_modules import basel, shapenet  # noqa: F401 - see the head
from data_modules.base import MultiViewDataModule
from scaled_ig import presets
from scaled_ig.autoencoders import Autoencoder
from scaled_ig.bank.scene_records import Encoding
from scaled_ig.callbacks import Plateau
from scaled_ig.class_paths import allow, check_classes
from scaled_ig.commands.loggers import with_places
from scaled_ig.commands.without_effect import settings_without_effect
from scaled_ig.distributed.watch import Silence
from scaled_ig.errors import UsageError
from scaled_ig.metrics.images import LpipsChoice
from scaled_ig.optim.schedules import Schedule
from scaled_ig.parsing import VerbParser
from scaled_ig.phases import AdamSettings, Phase
from scaled_ig.ranges import Count, Place, Range, Seed, Steps, StepsOrNone, hints_of, value_out_of_range
from scaled_ig.rendering.sampling import SamplingPlan
from scaled_ig.representations import SceneRepresentation
from scaled_ig.runs.plan import PHASES, STAGE1_PHASES, HandOver, PhaseConfig, Waves
from scaled_ig.runs.run_folder import RunFolder
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


def _load(text: str, load: Callable[[str], Any] = get_loader("yaml")) -> Any:  # noqa: B008 - the library's
    for old, new in MOVED.items():
        text = text.replace(f"class_path: {old}", f"class_path: {new}")
    return load(text)


set_loader("yaml", _load, (yaml.YAMLError,))


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
        if self.verb and "run" in inspect.signature(self.verb).parameters and config.get("trainer.fast_dev_run"):
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


def add_training_options(parser: LightningArgumentParser) -> None:
    """Add what is asked for beside the model, the data and the trainer."""
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
