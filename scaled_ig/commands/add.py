"""``scaled-ig add``: further scenes for a finished run; ``scaled-ig bank refit``: scenes of its bank learned again.

Both are stage 2 once more, from where the run's own ended: as many steps a scene, new scenes starting where the run's
did. What scenes share stays frozen unless told otherwise, so that every scene learned before renders as it did, bit for
bit.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn

import yaml
from lightning.pytorch.utilities import rank_zero_only

from data_modules.choice import SceneChoice
from data_modules.layout import PackIndex
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.bank.scene_records import Encoding
from scaled_ig.commands import counted
from scaled_ig.commands.fit import run_training
from scaled_ig.errors import UsageError
from scaled_ig.runs.bank_writers import AfterLastPhase, Keeper, KeepVersion, ReplaceScenes
from scaled_ig.runs.phase_runs import FINISHED
from scaled_ig.runs.plan import STAGE1_PHASES, HandOver, stage_of
from scaled_ig.runs.run_folder import RunFolder
from scaled_ig.runs.training import Fit, Source

Shared = Literal["frozen", "own"]
"""What happens to what scenes share while further ones are learned."""

OWN_SETTINGS = {"run_dir", "resume", "init_from"} | {
    f"data.{key}" for key in ("path", "scenes", "stage1_scenes", "stage2_scenes")
}


@dataclass(frozen=True)
class _FinishedRun:
    """A run to which scenes are added.

    Args:
        folder: Its files.
        bank: Its scenes.
        version: Version whose shared parts further scenes are learned with.
    """

    folder: RunFolder
    bank: SceneBank
    version: str

    @classmethod
    def open(cls, path: str, version: str | None = None) -> _FinishedRun:
        folder = RunFolder(path)
        if not (folder.path / "config.yaml").is_file():
            raise UsageError(f"{path} is no run: give the folder of a finished run of scaled-ig fit")
        bank = SceneBank.open(folder.bank)
        run = cls(folder, bank, version or "")
        newest = [name for name in bank.versions if re.fullmatch(r"stage2(-\d{4,})?", name)]
        if not newest or not run._is_finished():
            raise UsageError(f"{path} has not finished stage 2 yet: go on with scaled-ig fit --resume true")
        return run if version else dataclasses.replace(run, version=newest[-1])

    def _is_finished(self) -> bool:
        sizes = self.folder.read_json("scenes.json").get("waves", [0])
        waves = self.folder.path / "waves"
        if len(sizes) > 1:
            return all((waves / f"{wave:04d}" / FINISHED).is_file() for wave in range(len(sizes)))
        return bool(self.phases) and self.folder.checkpoint(self.phases[-1]).is_file()

    @property
    def phases(self) -> list[str]:
        """Phases of stage 2 that it ran."""
        asked = self._config()["phases"]
        return [name for name, phase in asked.items() if phase and stage_of(name) == 2]

    def pack_of(self, version: str) -> str:
        """Folder of the pack whose scenes a version of the bank has."""
        added = re.match(r"added-\d+", version)
        folder = self.folder.path / added[0] if added else self.folder.path
        return yaml.safe_load((folder / "config.yaml").read_text())["data"]["init_args"]["path"]

    def stage1_digests(self) -> set[str]:
        """Digests of the scenes that its stage 1 has seen, in another run."""
        origin = self._config().get("init_from")
        if not origin or not RunFolder(origin).bank.is_dir():
            return set()
        return {record.source_sha256 for record in SceneBank.open(RunFolder(origin).bank).scenes("stage1")}

    def _config(self) -> dict:
        return yaml.safe_load((self.folder.path / "config.yaml").read_text())

    def num_scenes(self) -> int:
        """Scenes of stage 2 that its numbers of steps were meant for."""
        return len(self.folder.read_json("scenes.json")["stage2"])

    def next_folder(self, kind: str) -> RunFolder:
        """``<kind>-1``, ``<kind>-2``, …: the first that is not finished, so that a call goes on where it was cut."""
        number = 1
        while (self.folder.path / f"{kind}-{number}" / FINISHED).is_file():
            number += 1
        return RunFolder(self.folder.path / f"{kind}-{number}")


def _begun(folder: RunFolder) -> dict[str, str]:
    """Ids and digests of the scenes with which a call was begun that goes on now; empty where there was none."""
    return folder.read_json("scenes.json").get("stage2", {})


def adding_parser() -> argparse.ArgumentParser:
    """Options of ``add`` beside those of ``fit``."""
    parser = _Parser("add", "Learn further scenes for a finished run; its own scenes stay as they are.")
    parser.add_argument("--run", required=True, help="folder of the run, whose bank gets the scenes")
    parser.add_argument("--data", required=True, help="folder of the pack; scenes that the bank has are left out")
    parser.add_argument(
        "--own_shared",
        action="store_true",
        help="train a copy of what scenes share, which the bank keeps for the new scenes beside the old one",
    )
    return parser


def refitting_parser() -> argparse.ArgumentParser:
    """Options of ``bank refit`` beside those of ``fit``."""
    parser = _Parser("bank refit", "Learn scenes of a bank again, with what they share as it is.")
    parser.add_argument("run", help="folder of the run")
    parser.add_argument("--scenes", required=True, help="ids with commas between, or a JSON list")
    parser.add_argument("--data", help="folder of the pack; the run's own unless given")
    return parser


def run_adding(arguments: list[str]) -> int:
    """Parse and run ``add``; returns the exit status.

    Raises:
        UsageError: There is no such run, or nothing new in the pack.
    """
    own, further = adding_parser().parse_known_args(arguments)
    run = _FinishedRun.open(own.run)
    index, folder = PackIndex.open(own.data), run.next_folder("added")
    begun = _begun(folder)
    if set(begun.values()) - set(index.digests):
        raise UsageError(f"{folder.path} was begun with another pack: finish it with that one, or remove the folder")
    shared: Shared = "own" if own.own_shared else "frozen"

    def keeper(encoding: Encoding) -> Keeper:
        return KeepVersion(run.folder.bank, encoding)

    new = _new_scenes(run, index, begun)
    scenes = list(begun) or new
    status = _learn(_Settings(run, folder, own.data, scenes, folder.path.name, shared, keeper), further)
    left = set(new) - set(scenes)
    if left and _is_first():
        print(f"{counted(len(left), 'further scene')} of {own.data} are new: call again to learn them", flush=True)
    return status


def run_refitting(arguments: list[str]) -> int:
    """Parse and run ``bank refit``; returns the exit status.

    Raises:
        UsageError: The bank or the pack has no such scene.
    """
    own, further = refitting_parser().parse_known_args(arguments)
    ids = [name.strip(" \"'") for name in own.scenes.strip("[]").split(",")]
    run = _FinishedRun.open(own.run)
    versions = {run.bank[name].record.version for name in ids}
    if len(versions) > 1:
        raise UsageError(f"these scenes are of versions {' and '.join(sorted(versions))}: refit those of one at a time")
    run = dataclasses.replace(run, version=versions.pop())
    folder = run.next_folder("refit")
    begun = _begun(folder)
    if begun and set(begun) != set(ids):
        raise UsageError(f"{folder.path} was begun with scenes {','.join(begun)}: finish it, or remove the folder")

    def keeper(encoding: Encoding) -> Keeper:
        return ReplaceScenes(run.folder.bank)

    return _learn(
        _Settings(run, folder, own.data or run.pack_of(run.version), ids, run.version, "frozen", keeper), further
    )


class _Parser(argparse.ArgumentParser):
    """Knows its own options; the others are those of ``fit``."""

    def __init__(self, verb: str, description: str) -> None:
        further = "Options of scaled-ig fit may follow, e.g. --trainer.devices 4."
        super().__init__(prog=f"scaled-ig {verb}", description=f"{description} {further}", allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}: {self.prog} --help says more")


def _new_scenes(run: _FinishedRun, index: PackIndex, begun: dict[str, str]) -> list[str]:
    """Ids of a pack's scenes that neither the bank nor stage 1 has seen; none is an error where none are begun."""
    learned = {record.source_sha256: record.id for record in run.bank.scenes()}
    names, seen = set(learned.values()), learned.keys() | run.stage1_digests()
    new = [name for name, sha256 in zip(index.scene_ids, index.digests, strict=True) if sha256 not in seen]
    if not new and not begun:
        raise UsageError(f"{run.bank.path} has all scenes of {index.path} already: bank refit learns scenes again")
    taken = [name for name in new if name in names]
    if taken:
        raise UsageError(
            f"{run.bank.path} has another scene {taken[0]!r}: pack it under another id, or remove the old one with "
            "scaled-ig bank remove"
        )
    return new


@dataclass(frozen=True)
class _Settings:
    """What is learned, from what, and where it is kept."""

    run: _FinishedRun
    folder: RunFolder
    pack: str
    scenes: list[str]
    version: str
    shared: Shared
    keeper: Callable[[Encoding], Keeper]


def _learn(settings: _Settings, further: Sequence[str]) -> int:
    run, folder = settings.run, settings.folder
    for option in further:
        name = option.partition("=")[0].removeprefix("--").replace("data.init_args.", "data.")
        if name in OWN_SETTINGS:
            raise UsageError(f"--{name} is not for this command, which sets it: leave it out")
    of_run = {"run_dir": str(folder.path), "resume": "true", "init_from": "null"}
    of_data = {"path": settings.pack, "stage1_scenes": "0", "stage2_scenes": "null", "split_seed": "null"}
    of_data |= {"scenes": "null"}  # chosen where the data module is made: a long list is slow to parse
    options = of_run | {f"data.{name}": value for name, value in of_data.items()}
    options |= {f"phases.{name}": "null" for name in STAGE1_PHASES}
    config = ["fit", "--config", str(run.folder.path / "config.yaml")]

    def adjust(fit: Fit) -> Fit:
        fit.data.choice = SceneChoice(ids=settings.scenes)
        if not fit.phases:
            raise UsageError("no phase of stage 2 is left: nothing would be learned")
        assert isinstance(fit.keep, KeepVersion)
        return dataclasses.replace(
            fit,
            meant_for=run.num_scenes(),
            hand_over=HandOver(scene_mean=True),
            keep=AfterLastPhase(settings.keeper(fit.keep.encoding), fit.last_phase),
            version=settings.version,
            shared_frozen=settings.shared == "frozen",
            terms={"shared": settings.shared},
        )

    arguments = [*config, *(f"--{name}={value}" for name, value in options.items()), *further]
    run_training(arguments, Source(run.bank, run.version), adjust)
    _conclude(settings)
    return 0


def _conclude(settings: _Settings) -> None:
    """Say what it cost, on the first rank, and mark it as done."""
    folder = settings.folder
    if not _is_first() or not folder.read_json("costs.json"):  # a dry run leaves nothing
        return
    costs, metrics = folder.read_json("costs.json")["phases"], folder.read_json("metrics.json")["s2"]
    scenes, seconds = metrics["num_scenes"], sum(phase["seconds"] for phase in costs.values())
    print(
        f"{counted(scenes, 'scene')} learned in {seconds:.1f} s, {seconds / scenes:.2f} s a scene, "
        f"{metrics['psnr']:.2f} dB on {metrics['num_views']} unseen views; in {settings.run.folder.bank} as "
        f"{settings.version}",
        flush=True,
    )
    folder.write_json(FINISHED, {"version": settings.version})


def _is_first() -> bool:
    return getattr(rank_zero_only, "rank", 0) == 0
