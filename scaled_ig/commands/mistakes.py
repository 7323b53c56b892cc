"""What the parser says of a mistake, in one sentence."""

from __future__ import annotations

import difflib
import inspect
import re

from lightning.pytorch import Trainer

from data_modules.basel import BaselFaces
from data_modules.choice import SceneChoice
from data_modules.shapenet import ShapeNetCars
from scaled_ig import autoencoders, phases, representations, sampling, schedules
from scaled_ig.callbacks import RunLogger
from scaled_ig.commands.plan import PHASES, HandOver, PhaseConfig
from scaled_ig.phases import AdamSettings
from scaled_ig.scene_model import SceneModel


def one_sentence(message: str) -> str:
    """One sentence for an unknown key, with the nearest known one; for anything else what the parser says."""
    found = re.search(
        r"[Kk]ey '([\w.]+)' is not|[Kk]ey '([\w.]+)' not|[Oo]ption '([\w.]+)'|arguments: --([\w.]+)", message
    )
    if not found:
        return _wrong_value(message)
    words = _vocabulary()
    path = next(name for name in found.groups() if name)
    key = next((part for part in path.split(".") if part not in words), path)
    where = re.findall(r"[Pp]arser key \"([\w.]+)\"", message)
    near = difflib.get_close_matches(key, words, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "scaled-ig fit --help lists the known ones"
    return f"unknown key {key!r}{f' in {where[0]}' if where else ''}: {hint}"


def _wrong_value(message: str) -> str:
    """The innermost complaint about a value, without all that the parser tried around it."""
    keys = re.findall(r'[Pp]arser key "([\w.]+)"', message)
    innermost = message.rpartition("arser key")[2]
    one = re.match(r"[^\n]*\n\s*Expected an? (.+?)\. Got value: (.+?)(?:\. Got value.*)?$", innermost, re.MULTILINE)
    given = one[2] if one else next(iter(re.findall(r"Given value: (.+)", innermost)), None)
    tried = innermost.partition("Given value")[0]
    wanted = [one[1]] if one else re.findall(r"Expected an? (.+?)(?:\. Got value.*)?$", tried, re.MULTILINE)
    if not (keys and given and wanted):
        return message
    # Where keys and values may be given, the parser has also looked for a file that holds them.
    wanted = [re.sub("^dot import path.*", "keys and values", name) for name in wanted if name[:8] != "path but"]
    names = [re.sub(r"<class '([\w.]+)'>|typing\.", r"\1", name).replace("NoneType", "null") for name in wanted]
    return f"{'.'.join(dict.fromkeys(keys))} must be {' or '.join(names)}, not {given}"


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
    }
    words |= set(inspect.signature(Trainer).parameters)
    modules = (autoencoders, phases, representations, sampling, schedules)
    own = [value for module in modules for value in vars(module).values() if inspect.isclass(value)]
    own = [value for value in own if value.__module__.startswith("scaled_ig")]
    settings = (SceneChoice, SceneModel, PhaseConfig, HandOver, AdamSettings, RunLogger)
    for described in (*own, ShapeNetCars, BaselFaces, *settings):
        words |= set(inspect.signature(described).parameters)
    return words
