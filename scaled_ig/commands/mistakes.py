"""What the parser says of a mistake in a configuration, in one sentence."""

from __future__ import annotations

import inspect
import re

from lightning.pytorch import Trainer

from data_modules.basel import BaselFaces
from data_modules.choice import SceneChoice
from data_modules.shapenet import ShapeNetCars
from scaled_ig import autoencoders, phases, representations
from scaled_ig.callbacks import RunLogger
from scaled_ig.commands.sentences import did_you_mean, wrong_value
from scaled_ig.optim import schedules
from scaled_ig.phases import AdamSettings
from scaled_ig.rendering import sampling
from scaled_ig.runs.plan import PHASES, HandOver, PhaseConfig, Waves
from scaled_ig.scene_model import SceneModel


def one_sentence(message: str) -> str:
    """One sentence for an unknown key, with the nearest known one; for anything else what the parser says."""
    found = re.search(
        r"[Kk]ey '([\w.]+)' is not|[Kk]ey '([\w.]+)' not|[Oo]ption '([\w.]+)'|arguments: --([\w.]+)", message
    )
    if not found:
        return wrong_value(message)
    words = _vocabulary()
    path = next(name for name in found.groups() if name)
    key = next((part for part in path.split(".") if part not in words), path)
    where = re.findall(r"[Pp]arser key \"([\w.]+)\"", message)
    return f"unknown key {key!r}{f' in {where[0]}' if where else ''}: {did_you_mean(key, words, 'fit')}"


def _vocabulary() -> set[str]:
    """Every name that a configuration may use."""
    words = {
        "trainer",
        "scene",
        "data",
        "phases",
        "hand_over",
        "adam",
        "init_args",
        "class_path",
        "module",
        "config",
        *PHASES,
    }
    words |= {
        "run_dir",
        "resume",
        "init_from",
        "eval_every_n_steps",
        "checkpoint_every_n_steps",
        "lpips",
        "lpips_weights",
        "waves",
        "bank_encoding",
    }
    words |= set(inspect.signature(Trainer).parameters)
    modules = (autoencoders, phases, representations, sampling, schedules)
    own = [value for module in modules for value in vars(module).values() if inspect.isclass(value)]
    own = [value for value in own if value.__module__.startswith("scaled_ig")]
    settings = (SceneChoice, SceneModel, PhaseConfig, HandOver, Waves, AdamSettings, RunLogger)
    for described in (*own, ShapeNetCars, BaselFaces, *settings):
        words |= set(inspect.signature(described).parameters)
    return words
