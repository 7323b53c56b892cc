"""A row of the campaign that changes every setting of a run once, and goes on.

The change is refused, with the key and both values; or it is written into ``changes.jsonl`` and ``config.yaml`` and
the run ends. Settings that no run may have, or none of these phases, are refused by another sentence with the key.
"""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import yaml

from tests.faults.injection import Fault
from tests.faults.laboratory import Laboratory, Trial, require_sentence
from tests.faults.training import KILL
from tests.scaled_ig.runs.test_changes import keys_of

PLUGIN = "lightning.pytorch.plugins.environments.LightningEnvironment"
TRIPLANES = {"class_path": "TriPlanes", "init_args": {"channels": 10, "plane_resolution": 8, "extent": 0.5}}
SCHEDULE = {"class_path": "Exponential", "init_args": {"gamma": 0.9}}
OTHERS: dict[str, Any] = {
    "trainer.accelerator": "auto",
    "trainer.strategy": "ddp",
    "trainer.precision": "bf16-mixed",
    "trainer.logger": {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "/dev/null"}},
    "trainer.callbacks": [{"class_path": "ModelSummary"}],
    "trainer.max_time": "00:00:10:00",
    "trainer.gradient_clip_algorithm": "norm",
    "trainer.profiler": "simple",
    "trainer.plugins": [{"class_path": PLUGIN}],
    "trainer.model_registry": "elsewhere",
    "trainer.default_root_dir": "elsewhere",
    "scene.representation.class_path": TRIPLANES,
    "scene.representation.init_args.plane_axes": "xy-xz-zx",
    "scene.autoencoder.class_path": {"class_path": "IdentityAutoencoder"},
    "scene.autoencoder.init_args.patch_size": 8,
    "scene.autoencoder.init_args.network_patch_size": 8,
    "crop_size": 8,
    "scene.autoencoder.init_args.small_decoder_channels": 4,
    "scene.sampling.class_path": {"class_path": "InsideHull", "init_args": {"num_samples": 8}},
    "scene.kernel": "reference",
    "scene.table_precision": "bfloat16",
    "data.class_path": {"class_path": "BaselFaces"},
    "data.init_args.scenes": {"range": [0, 8]},
    "data.init_args.num_workers": 1,
    "data.init_args.in_memory": False,
    "data.init_args.split_seed": None,
    "data.init_args.train_views": 5,
    "data.init_args.val_fraction": 0.3,
    ".init_args.decoder": "small",
    "cache": "float16",
    "schedule": SCHEDULE,
    "warm_up.module.class_path": {"class_path": "Joint"},
    "module.class_path": {"class_path": "WarmUp"},
    "phases.distillation": {"module": "Distillation", "max_steps": 4},
    "run_dir": "elsewhere",
    "init_from": "elsewhere",
    "waves.scenes": 2,
    "waves.shared": "carry",
    "adam.clock": "per_scene",
    "adam.beta1": 0.8,
    "adam.beta2": 0.99,
    "scene.resolution": 64,
    "data.init_args.stage1_scenes": 3,
    "data.init_args.stage2_scenes": 3,
    "plateau": {"min_gain_decibels": 0.1, "patience": 3},
    "bank_encoding": "int8",
    "lpips": "auto",
    "lpips_weights": "elsewhere",
}
UNFIT = re.compile(
    r"phases\.\w+\.max_epochs|phases\.distillation|phases\.rgb_alignment\.module\.init_args\.decoder|plateau"
    r"|scene\.autoencoder\.class_path|init_from|data\.init_args\.path|data\.class_path|scene\.resolution"
    r"|hand_over\.scene_views"
)
"""Keys whose other value needs another setting or another folder beside it."""


def changed_settings(laboratory: Laboratory, random: Random, count: int) -> Iterator[Trial]:
    """A run that was killed goes on with another value of one key; every key has its turn."""
    killed = laboratory.folder / "killed"
    first = [kind == "step" and name == "joint" for kind, name in laboratory.operations].index(True) + 1
    status, _ = laboratory.fit(killed, faults=[Fault(first + 40, "signal", KILL)])
    assert status == -KILL
    config = yaml.safe_load((killed / "config.yaml").read_text())
    of_a_call = {"run_dir", "resume", "trainer.num_nodes"}  # another node would be waited for
    keys = [key for key in keys_of(config) if key not in of_a_call]
    for key in random.sample(keys, min(count, len(keys))):
        yield Trial(f"another {key}", partial(_change_and_go_on, laboratory, killed, config, key))


def _change_and_go_on(laboratory: Laboratory, killed: Path, config: dict[str, Any], key: str, folder: Path) -> None:
    run = Path(shutil.copytree(killed, folder / "run"))
    changed = copy.deepcopy(config) | {"run_dir": str(run)}
    *place, name = key.split(".")
    if name == "class_path":  # with its arguments
        *place, name = place
    part = changed
    for word in place:
        part = part[word]
    before = part[name]
    part[name] = _another(key, before)
    (folder / "changed.yaml").write_text(yaml.safe_dump(changed))
    saved = (run / "config.yaml").read_bytes()
    status, output = laboratory.call("fit", "--config", folder / "changed.yaml", "--resume", "true")
    if status:
        said = require_sentence(status, output)
        assert name in said, said
        assert "→" in said or "has no effect here" in said or UNFIT.fullmatch(key), said
        assert (run / "config.yaml").read_bytes() == saved, "config.yaml was changed by what was refused"
        assert not (run / "changes.jsonl").exists(), "what was refused was logged"
        return
    logged = [json.loads(line)["key"] for line in (run / "changes.jsonl").read_text().splitlines()]
    assert logged
    assert all(entry.startswith(".".join((*place, name))) for entry in logged), logged
    assert "→" in output, output[-600:]
    kept = yaml.safe_load((run / "config.yaml").read_text())
    for word in (*place, name):
        kept = kept[word]
    assert kept != before, "config.yaml has the old value"


def _another(key: str, value: Any) -> Any:
    for name, other in OTHERS.items():
        if key.endswith(name):
            return other
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return 1.5 * value or 0.1
    return {"trainer.enable_checkpointing": True, "trainer.deterministic": True, "trainer.benchmark": True}.get(key, 2)
