"""What a finished run wrote down, read back: configuration, numbers, costs, and the views that it was trained on."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from data_modules.base import MultiViewDataModule
from data_modules.basel import BaselFaces
from data_modules.shapenet import ShapeNetCars
from data_modules.streaming.choice import SceneChoice
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.errors import UsageError
from scaled_ig.metrics.evaluation import with_means
from scaled_ig.runs.run_folder import RunFolder

PHASE_NAMES = {
    "autoencoder": "autoencoder",
    "warm_up": "warm-up",
    "joint": "joint training",
    "distillation": "distillation",
    "latent_supervision": "latent supervision",
    "rgb_alignment": "RGB alignment",
}
"""Phases in their order, as the page calls them."""

DATA_MODULES = {"ShapeNetCars": ShapeNetCars, "BaselFaces": BaselFaces}


@dataclass(frozen=True)
class RunRecord:
    """A finished run.

    Args:
        folder: Its files.
        config: Content of ``config.yaml``, as given to ``fit``.
        metrics: Content of ``metrics.json``.
        costs: Content of ``costs.json``.
    """

    folder: RunFolder
    config: dict[str, Any]
    metrics: dict[str, Any]
    costs: dict[str, Any]
    _rows: list[dict[str, str]] = field(repr=False, default_factory=list)
    _waves: list[list[dict[str, str]]] = field(repr=False, default_factory=list)  # stage 2's, where it has several

    @classmethod
    def open(cls, path: str | Path, measured: bool = True) -> RunRecord:
        """Read a run folder.

        Args:
            path: The folder.
            measured: Whether its scenes must have been measured.

        Raises:
            UsageError: It is no run, or has not measured anything yet although it must.
        """
        folder = RunFolder(path)
        config = folder.read_config()
        metrics, costs = folder.read_json("metrics.json"), folder.read_json("costs.json")
        if measured and (not metrics.get("scenes") or not costs.get("phases")):
            raise UsageError(f"{folder.path} has not measured any scene yet: go on with scaled-ig fit --resume true")
        finished = costs.get("phases", {})
        missing = [name for name, phase in (config.get("phases") or {}).items() if phase and name not in finished]
        if measured and missing:
            raise UsageError(
                f"{folder.path} is not finished, {', '.join(missing)} is left: go on with scaled-ig fit --resume true"
            )
        waves = [RunFolder(wave).training.read() for wave in sorted(folder.path.glob("waves/*"))]
        record = cls(folder, config, metrics, costs, folder.training.read(), waves)
        return replace(record, metrics=_of_scenes(metrics, set(record.bank.ids))) if metrics.get("scenes") else record

    def __repr__(self) -> str:
        learned = ", ".join(self.costs.get("phases", {})) or "no phase"
        return f"RunRecord({str(self.folder.path)!r}: {learned})"

    @cached_property
    def bank(self) -> SceneBank:
        """The run's scenes."""
        return SceneBank.open(self.folder.bank)

    def versions(self, stage: int) -> list[str]:
        """Versions of the bank that hold scenes of a stage: one, or one a wave, in order."""
        name = re.compile(rf"stage{stage}(-\d{{4,}})?")
        versions = [version for version in self.bank.versions.values() if name.fullmatch(version.name)]
        return sorted((version.name for version in versions if version.num_scenes), key=lambda name: (len(name), name))

    def added_versions(self) -> list[str]:
        """Versions of the bank whose scenes were added after the run."""
        versions = self.bank.versions.items()
        return [name for name, version in versions if version.num_scenes and (self.folder.path / name).is_dir()]

    def learned_stages(self) -> list[int]:
        """Stages whose scenes the bank holds."""
        return [stage for stage in (1, 2) if self.versions(stage)]

    def stages(self) -> list[int]:
        """Stages whose scenes were measured."""
        return [stage for stage in (1, 2) if f"s{stage}" in self.metrics]

    def check_same_scenes(self, other: RunRecord) -> None:
        """Numbers of two runs stand beside each other only where stage 2 has the same scenes.

        Raises:
            UsageError: It has others.
        """
        ids, other_ids = (
            {record.id for version in run.versions(2) for record in run.bank.scenes(version)} for run in (self, other)
        )
        if ids != other_ids:
            raise UsageError(
                f"{other.folder.path} and {self.folder.path} differ in their stage-2 scenes: "
                "compare runs with the same data settings"
            )

    def scenes(self, stage: int) -> list[dict[str, Any]]:
        """Measured scenes of a stage, in the order of the scene table."""
        return [scene for scene in self.metrics["scenes"] if scene["stage"] == stage]

    def phases(self, stage: int | None = None) -> list[str]:
        """Finished phases in their order, of one stage or of both."""
        phases = self.costs["phases"]
        return [name for name in PHASE_NAMES if name in phases and stage in (None, phases[name]["stage"])]

    def seconds(self, stage: int) -> float:
        """Training seconds of a stage."""
        return sum(self.costs["phases"][name]["seconds"] for name in self.phases(stage))

    def processor_seconds(self, stage: int) -> float | None:
        """Seconds that processors worked for the first process in training a stage; None where a run is too old."""
        seconds = [self.costs["phases"][name].get("processor_seconds") for name in self.phases(stage)]
        return None if None in seconds else sum(seconds)

    def bytes_per_scene(self) -> int:
        """Bytes of a scene's own parameters as they are kept, float32; the mean over scenes where these differ."""
        return sum(self.costs["bytes_per_scene"].values())

    def row_bytes(self) -> dict[str, int]:
        """Bytes of a scene's rows in memory, by table."""
        return self.costs.get("row_bytes", self.costs["bytes_per_scene"])  # older runs kept all of them

    @property
    def model(self) -> dict[str, Any]:
        """Description of the model of the newest version of the newest stage."""
        versions = self.bank.versions
        return versions[(self.versions(1) + self.versions(2) or list(versions))[-1]].model

    @property
    def is_rgb(self) -> bool:
        """Whether scenes were trained on pixels, without an autoencoder."""
        return self.model["autoencoder"]["class"] == "IdentityAutoencoder"

    def representation(self) -> dict[str, Any]:
        """Constructor arguments of the scene representation."""
        return self.model["representation"]["arguments"]

    def feature_channels(self) -> int:
        """F, features of a point."""
        settings = self.representation()
        return (
            settings["channels"] if "channels" in settings else settings["micro_channels"] + settings["macro_channels"]
        )

    def rays_per_view(self) -> int | None:
        """Random rays of a view in a step of latent supervision; None for whole images."""
        phase = (self.config.get("phases") or {}).get("latent_supervision") or {}
        return ((phase.get("module") or {}).get("init_args") or {}).get("rays_per_view")

    @property
    def num_waves(self) -> int:
        """Waves in which stage 2 was learned; 1 where it was learned at once."""
        return max(1, len(self._waves))

    def first_wave(self) -> RunRecord:
        """This run with the log and the costs of the first wave as those of stage 2; itself where there is but one."""
        if not self._waves:
            return self
        phases = {
            name: phase | phase.get("waves", {}).get("0", {}) for name, phase in self.costs.get("phases", {}).items()
        }
        return replace(self, costs=self.costs | {"phases": phases}, _rows=self._rows + self._waves[0], _waves=[])

    def curve(self, phase: str, name: str) -> list[tuple[float, float]]:
        """A quantity over one phase: (training seconds in the phase, value); none of a phase that several waves had."""
        return _curve(self._rows, phase, name)

    def test_value(self, phase: str, name: str) -> float | None:
        """A mean over test views at the end of a phase; over the scenes of all waves."""
        waves = self.costs.get("phases", {}).get(phase, {}).get("waves", {})
        ends = [_curve(rows, phase, f"test/{name}") for rows in (self._rows, *self._waves)]
        if not waves or not any(ends[1:]):
            return ends[0][-1][1] if ends[0] else None
        weighted = [
            (end[-1][1], waves[str(wave)]["scenes"]) for wave, end in enumerate(ends[1:]) if end and str(wave) in waves
        ]
        return sum(value * scenes for value, scenes in weighted) / sum(scenes for _, scenes in weighted)

    def open_data(self, pack: str | None = None) -> MultiViewDataModule:
        """The views that the run was trained on.

        Args:
            pack: Folder of the pack, where it has been moved since.

        Raises:
            UsageError: The pack is gone, has changed, or is read by an unknown class.
        """
        data = _data_module(self.folder, self.config, pack)
        try:
            for stage in self.learned_stages():
                self._check_scenes(data, stage, self.versions(stage))
        except UsageError as error:
            raise UsageError(
                f"the views of {self.folder.path} are needed: {error} (--pack names another place)"
            ) from None
        return data

    def open_added_data(self, version: str) -> MultiViewDataModule:
        """The views of scenes that were added after the run; they are those of stage 2 there.

        Raises:
            UsageError: The pack is gone or has changed.
        """
        folder = RunFolder(self.folder.path / version)
        data = _data_module(folder, folder.read_config(), None)
        self._check_scenes(data, 2, [version])
        return data

    def _check_scenes(self, data: MultiViewDataModule, stage: int, versions: list[str]) -> None:
        """The pack must hold the very views that the scenes were learned from; some may have been removed since."""
        rows = enumerate(zip(data.scene_ids(stage), data.scene_digests(stage), strict=True))
        place_of, last = {name: (place, digest) for place, (name, digest) in rows}, -1
        for record in (record for version in versions for record in self.bank.scenes(version)):
            place, digest = place_of.get(record.id, (-1, ""))
            if digest != record.source_sha256 or place <= last:
                raise UsageError(f"{data.path} has changed since the run (scene {record.id}): restore the pack")
            last = place


def _data_module(folder: RunFolder, config: dict[str, Any], pack: str | None) -> MultiViewDataModule:
    described = config.get("data") or {}
    name = str(described.get("class_path", "")).rpartition(".")[2]
    if name not in DATA_MODULES:
        file = folder.path / "config.yaml"
        raise UsageError(f"{file}: data.class_path {name!r} is not known: use one of {', '.join(DATA_MODULES)}")
    try:
        arguments = dict(described.get("init_args") or {}) | {"in_memory": False}
        arguments |= {key: SceneChoice(**value) for key, value in arguments.items() if isinstance(value, dict)}
        return DATA_MODULES[name](**arguments | ({"path": pack} if pack else {}))
    except TypeError as error:
        file = folder.path / "config.yaml"
        raise UsageError(f"{file}: data.init_args are not those of {name} ({error}): restore the file") from None


def _curve(rows: list[dict[str, str]], phase: str, name: str) -> list[tuple[float, float]]:
    phase_rows = [row for row in rows if row["phase"] == phase and row["name"] == name]
    return [(float(row["seconds"]), float(row["value"])) for row in phase_rows]


def _of_scenes(metrics: dict[str, Any], ids: set[str]) -> dict[str, Any]:
    """Content of ``metrics.json`` without scenes that have been removed from the bank."""
    scenes = [scene for scene in metrics["scenes"] if scene["id"] in ids]
    return metrics if len(scenes) == len(metrics["scenes"]) else with_means(metrics | {"scenes": scenes})
