"""Verifies a pack: every byte, every scene, and what scenes have in common. No damage may crash the check itself."""

from collections import deque
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from data_modules.checking.findings import RESTORE, RESTORE_FILE, Finding, SceneReport, ShardTask
from data_modules.checking.index import shared_findings, untested_findings
from data_modules.checking.shard import OPENED, check_shard
from data_modules.layout import PackIndex, Shard
from data_modules.processes import Lost, run_tasks
from scaled_ig.distributed.cores import usable_cpus
from scaled_ig.progress import Progress

JOINED = 3
SILENCE_SECONDS = 10.0


@dataclass(frozen=True)
class CheckResult:
    """What is to be said of a pack.

    Attributes:
        index: the pack.
        findings: in the order of files and scenes; those of the whole pack last.
        reasons: scenes that are not sound, by their number, and why.
        reports: on the scenes of all files that could be read, by their number.
    """

    index: PackIndex
    findings: tuple[Finding, ...]
    reasons: dict[int, str]
    reports: dict[int, SceneReport]

    @property
    def num_sound(self) -> int:
        """Scenes without findings."""
        return self.index.num_scenes - len(self.reasons)


def check_pack(
    index: PackIndex, shown: Iterable[int] = (), processes: int | None = None, quiet: bool = False
) -> CheckResult:
    """Reads every byte of a pack and compares it with what it should be.

    Args:
        index: of the pack.
        shown: scenes whose report shall have some views.
        processes: child processes; one a core unless given.
        quiet: no progress bar.
    """
    tasks = deque(_task(index, shard, frozenset(shown)) for shard in index.shards)
    of_files: dict[str, list[Finding]] = {}
    reports: dict[int, SceneReport] = {}
    opened: dict[Path, int] = {}  # the scene that is read now
    messages = run_tasks(check_shard, tasks, processes or usable_cpus(), SILENCE_SECONDS, disposable=True)
    with closing(messages), Progress(total=index.num_scenes, desc="checking", unit="scene", disable=quiet) as progress:
        for task, message in messages:
            shard = task.shard
            if message == OPENED:
                opened[shard.path] = task.start
            elif isinstance(message, Lost):
                message = _lost(task, opened.get(shard.path, shard.last_scene), message)
                if isinstance(message, SceneReport) and message.scene + 1 < shard.last_scene:
                    tasks.append(replace(task, start=message.scene + 1))
            if isinstance(message, Finding):
                of_files.setdefault(message.file, []).append(message)
            elif isinstance(message, SceneReport):
                reports[message.scene] = message
                opened[shard.path] = message.scene + 1
                progress.update()
    return _result(index, {file: _joined(findings) for file, findings in of_files.items()}, reports)


def _task(index: PackIndex, shard: Shard, shown: frozenset[int]) -> ShardTask:
    scenes = slice(shard.first_scene, shard.last_scene)
    return ShardTask(
        shard=shard,
        scene_ids=index.scene_ids[scenes],
        categories=index.categories[scenes],
        digests=index.digests[scenes],
        masked=tuple(index.masked[scenes].tolist()),
        num_views=tuple(index.num_views[scenes].tolist()),
        image_size=index.image_size,
        scene_radius=index.scene_radius,
        start=shard.first_scene,
        shown=shown & set(range(shard.first_scene, shard.last_scene)),
    )


def _lost(task: ShardTask, scene: int, lost: Lost) -> Finding | SceneReport:
    """The finding of a child that did not come back: of the scene that it read, or of the file."""
    name, what = task.shard.path.name, f"the HDF5 library {lost.reason} while it was read"
    if scene == task.shard.last_scene:
        return Finding(name, None, None, what, RESTORE_FILE)
    return SceneReport(scene, (Finding(name, task.scene_ids[scene - task.shard.first_scene], None, what, RESTORE),), {})


def _joined(findings: list[Finding]) -> Finding:
    """One line for a file: what one finds first explains the rest."""
    rest = f"; and {len(findings) - JOINED} more" if len(findings) > JOINED else ""
    return replace(findings[0], what="; ".join(finding.what for finding in findings[:JOINED]) + rest)


def _result(index: PackIndex, of_files: dict[str, Finding], reports: dict[int, SceneReport]) -> CheckResult:
    """Findings in order, with those that only the whole pack shows."""
    by_scene = {scene: list(reports[scene].findings) for scene in sorted(reports)}
    for scene, finding in shared_findings(index, {scene for scene, findings in by_scene.items() if not findings}):
        by_scene.setdefault(scene, []).append(finding)
    reasons = {scene: "; ".join(f.text for f in findings) for scene, findings in by_scene.items() if findings}
    ordered: list[Finding] = []
    for shard in index.shards:
        name, scenes = shard.path.name, range(shard.first_scene, shard.last_scene)
        ordered += [of_files[name]] if name in of_files else []
        ordered += [finding for scene in scenes for finding in by_scene.get(scene, [])]
        reasons |= {scene: f"{name} {of_files[name].what}" for scene in scenes if scene not in reports}
    return CheckResult(index, (*ordered, *untested_findings(index)), dict(sorted(reasons.items())), reports)
