"""What a finished run wrote down, read back: configuration, numbers, costs, and the views that it was trained on."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

import yaml

from data_modules.base import MultiViewDataModule
from data_modules.basel import BaselFaces
from data_modules.choice import SceneChoice
from data_modules.shapenet import ShapeNetCars
from scaled_ig.errors import UsageError
from scaled_ig.run_folder import RunFolder
from scaled_ig.scene_bank import SceneBank

PHASE_NAMES = {
    "autoencoder": "autoencoder",
    "warm_up": "warm-up",
    "joint": "joint training",
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
        file = folder.path / "config.yaml"
        try:
            config = yaml.safe_load(file.read_text()) or {}
        except (OSError, yaml.YAMLError) as error:
            raise UsageError(f"{file} cannot be read ({error}): give the folder of a run of scaled-ig fit") from None
        metrics, costs = folder.read_json("metrics.json"), folder.read_json("costs.json")
        if measured and (not metrics.get("scenes") or not costs.get("phases")):
            raise UsageError(f"{folder.path} has not measured any scene yet: go on with scaled-ig fit --resume true")
        return cls(folder, config.get("fit", config), metrics, costs, folder.read_training())

    @cached_property
    def bank(self) -> SceneBank:
        """The run's scenes."""
        return SceneBank.open(self.folder.bank)

    def learned_stages(self) -> list[int]:
        """Stages whose scenes the bank holds."""
        return [stage for stage in (1, 2) if f"stage{stage}" in self.bank.index["versions"]]

    def stages(self) -> list[int]:
        """Stages whose scenes were measured."""
        return [stage for stage in (1, 2) if f"s{stage}" in self.metrics]

    def check_same_scenes(self, other: RunRecord) -> None:
        """Numbers of two runs stand beside each other only where stage 2 has the same scenes.

        Raises:
            UsageError: It has others.
        """
        ours, theirs = (
            {record["id"] for record in run.bank.index["scenes"] if record["version"] == "stage2"}
            for run in (self, other)
        )
        if ours != theirs:
            raise UsageError(
                f"{other.folder.path} and {self.folder.path} differ in their stage-2 scenes: "
                "compare runs with the same data settings"
            )

    def scenes(self, stage: int) -> list[dict[str, Any]]:
        """Measured scenes of a stage, in the order of the scene table."""
        return [scene for scene in self.metrics["scenes"] if scene["stage"] == stage]

    def phases(self, stage: int | None = None) -> list[str]:
        """Finished phases in their order, of one stage or of both."""
        done = self.costs["phases"]
        return [name for name in PHASE_NAMES if name in done and stage in (None, done[name]["stage"])]

    def seconds(self, stage: int) -> float:
        """Training seconds of a stage."""
        return sum(self.costs["phases"][name]["seconds"] for name in self.phases(stage))

    def bytes_per_scene(self) -> int:
        """Bytes of a scene's own parameters as they are stored, float32."""
        return sum(self.costs["bytes_per_scene"].values())

    @property
    def is_rgb(self) -> bool:
        """Whether scenes were trained on pixels, without an autoencoder."""
        versions = self.bank.index["versions"]
        return versions[max(versions)]["model"]["autoencoder"]["class"] == "IdentityAutoencoder"

    def representation(self) -> dict[str, Any]:
        """Constructor arguments of the scene representation."""
        versions = self.bank.index["versions"]
        return versions[max(versions)]["model"]["representation"]["arguments"]

    def feature_channels(self) -> int:
        """F, features of a point."""
        own = self.representation()
        return own["channels"] if "channels" in own else own["micro_channels"] + own["macro_channels"]

    def rays_per_view(self) -> int | None:
        """Random rays of a view in a step of latent supervision; None for whole images."""
        phase = (self.config.get("phases") or {}).get("latent_supervision") or {}
        return ((phase.get("module") or {}).get("init_args") or {}).get("rays_per_view")

    def curve(self, phase: str, name: str) -> list[tuple[float, float]]:
        """A quantity over one phase: (training seconds in the phase, value)."""
        chosen = [row for row in self._rows if row["phase"] == phase and row["name"] == name]
        return [(float(row["seconds"]), float(row["value"])) for row in chosen]

    def test_value(self, phase: str, name: str) -> float | None:
        """A mean over test views at the end of a phase."""
        found = self.curve(phase, f"test/{name}")
        return found[-1][1] if found else None

    def open_data(self, pack: str | None = None) -> MultiViewDataModule:
        """The views that the run was trained on.

        Args:
            pack: Folder of the pack, where it has been moved since.

        Raises:
            UsageError: The pack is gone, has changed, or is read by an unknown class.
        """
        file, described = self.folder.path / "config.yaml", self.config.get("data") or {}
        name = str(described.get("class_path", "")).rpartition(".")[2]
        if name not in DATA_MODULES:
            raise UsageError(f"{file}: data.class_path {name!r} is not known: use one of {', '.join(DATA_MODULES)}")
        arguments = dict(described.get("init_args") or {}) | {"in_memory": False}
        arguments |= {key: SceneChoice(**value) for key, value in arguments.items() if isinstance(value, dict)}
        data = DATA_MODULES[name](**arguments | ({"path": pack} if pack else {}))
        try:
            for stage in self.learned_stages():
                self._check_scenes(data, stage)
        except UsageError as error:
            raise UsageError(
                f"the views of {self.folder.path} are needed: {error} (--pack names another place)"
            ) from None
        return data

    def _check_scenes(self, data: MultiViewDataModule, stage: int) -> None:
        """The pack must hold the very views that the scenes were learned from."""
        records = [record for record in self.bank.index["scenes"] if record["version"] == f"stage{stage}"]
        learned = [(record["id"], record["source_sha256"]) for record in records]
        digests = data.scene_digests(stage)
        for now, then in zip_longest(zip(data.scene_ids(stage), digests, strict=True), learned):
            if now != then:
                scene = (then or now)[0]
                raise UsageError(f"{data.path} has changed since the run (scene {scene}): restore the pack")
