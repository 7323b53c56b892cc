"""Settings of Lightning's Trainer that this program would override, or leave without an effect: each is a mistake."""

from __future__ import annotations

from collections.abc import Iterator

from jsonargparse import ArgumentParser, Namespace

_LENGTH = "phases have lengths of their own: give --phases.NAME.max_steps or --phases.NAME.max_epochs"
_BATCHES = (
    "a phase trains on all of its views: give fewer scenes (--data.stage1_scenes) or --phases.NAME.max_steps, "
    "or try all phases with --trainer.fast_dev_run 3"
)
_VALIDATION = "views are watched by --eval_every_n_steps and --data.val_fraction"
_ORDER = "every phase has its own order of views, which goes with the scenes of each rank"
_OWN = "--checkpoint_every_n_steps and --keep_checkpoints say what is kept"
_ROWS = "rows of scenes are brought up to date when they are read, which averages and masks of weights do not know"
_PHASES = "the phases say what is trained: give --phases.NAME.module"
_BAR = "phases have a bar of their own, which --trainer.enable_progress_bar false turns off"
SETTINGS = {
    **dict.fromkeys(("max_steps", "max_epochs", "min_steps", "min_epochs", "max_time"), _LENGTH),
    **dict.fromkeys(("overfit_batches", "limit_train_batches"), _BATCHES),
    **dict.fromkeys(("limit_val_batches", "limit_test_batches", "limit_predict_batches"), _VALIDATION),
    **dict.fromkeys(("val_check_interval", "check_val_every_n_epoch", "num_sanity_val_steps"), _VALIDATION),
    "inference_mode": _VALIDATION,
    **dict.fromkeys(("reload_dataloaders_every_n_epochs", "use_distributed_sampler"), _ORDER),
    "default_root_dir": "all files are written below --run_dir",
    "enable_checkpointing": _OWN,
    "model_registry": _OWN,
    "enable_autolog_hparams": "config.yaml has all settings",
    "sync_batchnorm": "no network here normalises batches",
    "barebones": "training needs its checkpoints and its table",
}
CALLBACKS = {
    "Checkpoint": _OWN,
    "ModelCheckpoint": _OWN,
    "OnExceptionCheckpoint": _OWN,
    "EarlyStopping": f"{_LENGTH}; --plateau.patience leaves scenes out that are learned",
    "Timer": _LENGTH,
    "BatchSizeFinder": "give --data.batch_size",
    "LearningRateFinder": "give --phases.NAME.module.learning_rates",
    **dict.fromkeys(("StochasticWeightAveraging", "WeightAveraging", "EMAWeightAveraging", "ModelPruning"), _ROWS),
    **dict.fromkeys(("BackboneFinetuning", "BaseFinetuning", "LambdaCallback"), _PHASES),
    **dict.fromkeys(("ProgressBar", "TQDMProgressBar", "RichProgressBar"), _BAR),
}


LOGGERS = {
    "True": "name one: RunLogger (Weights & Biases), TensorBoardLogger or CSVLogger",
    "WandbLogger": "give RunLogger, which is one run over all phases and never prompts for a key",
}


def settings_without_effect(parser: ArgumentParser, config: Namespace) -> Iterator[str]:
    """What is said of each of them that differs from its default.

    Args:
        parser: Of a configuration that has ``trainer``.
        config: As parsed.
    """
    trainer = config.get("trainer") or Namespace()
    for name, instead in SETTINGS.items():
        value = trainer.get(name)
        if value is not None and value != parser.get_default(f"trainer.{name}"):
            yield f"trainer.{name} {value} has no effect here: {instead}"
    for name, reasons in (("callbacks", CALLBACKS), ("logger", LOGGERS)):
        values = trainer.get(name)
        for value in values if isinstance(values, list) else [values]:
            if _class(value) in reasons:
                yield f"trainer.{name} {_class(value)} has no effect here: {reasons[_class(value)]}"


def _class(value: object) -> str:
    """Name of the class that a value names, or the value."""
    return str(value.get("class_path", value)).rpartition(".")[2] if isinstance(value, Namespace) else str(value)
