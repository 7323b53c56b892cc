"""``scaled-ig add``: further scenes for a finished run; ``scaled-ig bank refit``: scenes of its bank learned again.

Both are stage 2 once more, from where the run's own ended: as many steps a scene, new scenes starting where the run's
did. What scenes share stays frozen unless told otherwise, so that every scene learned before renders as it did, bit for
bit.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from lightning.pytorch.utilities import rank_zero_only

from data_modules.layout import PackIndex
from data_modules.streaming.choice import SceneChoice
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.bank.scene_records import Encoding
from scaled_ig.commands import counted, say_next
from scaled_ig.commands.training_cli import TrainingCLI
from scaled_ig.errors import UsageError
from scaled_ig.runs.bank_writers import BankWriter, ReplaceScenes, WriteAfterLastPhase, WriteVersion
from scaled_ig.runs.model_state import Source
from scaled_ig.runs.phase_runs import FINISHED
from scaled_ig.runs.plan import HandOver, stage_of
from scaled_ig.runs.run_folder import RunFolder
from scaled_ig.runs.training import Training

Shared = Literal["frozen", "own"]
"""What happens to what scenes share while further ones are learned."""


def add(training: TrainingCLI, *, run: str, pack: str, own_shared: bool = False) -> int:
    """Learns further scenes for a finished run; its own scenes stay as they are.

    Options of scaled-ig fit may follow, such as --trainer.devices 4.

    Examples:
        scaled-ig add --run runs/mine --pack data/more
        scaled-ig add --run runs/mine --pack data/more --own_shared --trainer.devices 4

    Args:
        training: what trains.
        run: folder of the run, whose bank gets the scenes.
        pack: folder of the pack; scenes that the bank has are left out.
        own_shared: train a copy of what scenes share, which the bank keeps for the new scenes beside the old one.

    Returns:
        Exit code 0.

    Raises:
        UsageError: There is no such run, or nothing new in the pack.
    """
    finished = _FinishedRun.open(run)
    index, folder = PackIndex.open(pack), finished.next_folder("added")
    begun = _begun(folder)
    if set(begun.values()) - set(index.digests):
        raise UsageError(f"{folder.path} was begun with another pack: finish it with that one, or remove the folder")
    shared: Shared = "own" if own_shared else "frozen"

    def make_bank_writer(encoding: Encoding) -> BankWriter:
        return WriteVersion(finished.folder.bank, encoding)

    new = _new_scenes(finished, index, begun)
    scenes = list(begun) or new
    status = _learn(training, _Settings(finished, folder, pack, scenes, folder.path.name, shared, make_bank_writer))
    left = set(new) - set(scenes)
    if left and _is_first():
        print(f"{counted(len(left), 'further scene')} of {pack} are new: call again to learn them", flush=True)
    return status


def refit_scenes(training: TrainingCLI, path: str, ids: list[str], pack: str | None) -> int:
    """What ``scaled-ig bank refit`` does; returns the exit status.

    Raises:
        UsageError: The bank or the pack has no such scene.
    """
    run = _FinishedRun.open(path)
    versions = {run.bank.record(name).version for name in ids}
    if len(versions) > 1:
        raise UsageError(f"these scenes are of versions {' and '.join(sorted(versions))}: refit those of one at a time")
    run = replace(run, version=versions.pop())
    folder = run.next_folder("refit")
    begun = _begun(folder)
    if begun and set(begun) != set(ids):
        raise UsageError(f"{folder.path} was begun with scenes {','.join(begun)}: finish it, or remove the folder")

    def make_bank_writer(encoding: Encoding) -> BankWriter:
        return ReplaceScenes(run.folder.bank)

    pack = pack or run.pack_of(run.version)
    return _learn(training, _Settings(run, folder, pack, ids, run.version, "frozen", make_bank_writer))


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
        bank = SceneBank.open(folder.bank)
        run = cls(folder, bank, version or "")
        newest = [name for name in bank.versions if re.fullmatch(r"stage2(-\d{4,})?", name)]
        if not newest or not run._is_finished():
            raise UsageError(f"{path} has not finished stage 2 yet: go on with scaled-ig fit --resume true")
        return run if version else replace(run, version=newest[-1])

    def _is_finished(self) -> bool:
        sizes = self.folder.read_json("scenes.json").get("waves", [0])
        waves = self.folder.path / "waves"
        if len(sizes) > 1:
            return all((waves / f"{wave:04d}" / FINISHED).is_file() for wave in range(len(sizes)))
        return bool(self.phases) and self.folder.checkpoint(self.phases[-1]).is_file()

    @property
    def phases(self) -> list[str]:
        """Phases of stage 2 that it ran."""
        asked = self.folder.read_config().get("phases") or {}
        return [name for name, phase in asked.items() if phase and stage_of(name) == 2]

    def pack_of(self, version: str) -> str:
        """Folder of the pack whose scenes a version of the bank has."""
        added = re.match(r"added-\d+", version)
        folder = RunFolder(self.folder.path / added[0]) if added else self.folder
        try:
            return str(folder.read_config()["data"]["init_args"]["path"])
        except (KeyError, TypeError):
            raise UsageError(f"{folder.path / 'config.yaml'} names no pack: give --pack") from None

    def stage1_digests(self) -> set[str]:
        """Digests of the scenes that its stage 1 has seen, in another run."""
        origin = self.folder.read_config().get("init_from")
        if not origin or not RunFolder(origin).bank.is_dir():
            return set()
        return {record.source_sha256 for record in SceneBank.open(RunFolder(origin).bank).scenes("stage1")}

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
    """What is learned, from what, and what writes it into the bank."""

    run: _FinishedRun
    folder: RunFolder
    pack: str
    scenes: list[str]
    version: str
    shared: Shared
    make_bank_writer: Callable[[Encoding], BankWriter]


def _learn(training: TrainingCLI, settings: _Settings) -> int:
    run, folder = settings.run, settings.folder
    training.config.run_dir = str(folder.path)
    training.config.data.init_args.path = settings.pack

    def adjust(made: Training) -> Training:
        if not made.plan.phases:
            raise UsageError("no phase of stage 2 is left: nothing would be learned")
        plan = replace(
            made.plan,
            hand_over=HandOver(scene_mean=True, scene_views=made.plan.hand_over.scene_views),
            version=settings.version,
            meant_for=run.num_scenes(),
            shared_frozen=settings.shared == "frozen",
            terms={"shared": settings.shared},
        )
        assert isinstance(made.bank_writer, WriteVersion)
        return replace(
            made,
            plan=plan,
            data=made.data.of(SceneChoice(ids=settings.scenes)),  # here, since a long list is slow to parse
            added_to=run.folder,
            bank_writer=WriteAfterLastPhase(settings.make_bank_writer(made.bank_writer.encoding), plan.last_phase),
        )

    training.train(Source(run.bank, run.version), adjust)
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
        f"{metrics['psnr']:.2f} dB on {counted(metrics['num_views'], 'unseen view')}; in {settings.run.folder.bank} as "
        f"{settings.version}",
        flush=True,
    )
    folder.write_json(FINISHED, {"version": settings.version})
    say_next("render", str(settings.run.folder.path))


def _is_first() -> bool:
    return getattr(rank_zero_only, "rank", 0) == 0
