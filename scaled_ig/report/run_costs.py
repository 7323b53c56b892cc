"""What the scenes of a finished run cost: t1, τ, m1, μ and their items, for the page and for ``scaled-ig costs``."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from scaled_ig.allowed import class_in
from scaled_ig.bank.blocks import START
from scaled_ig.bank.changes import files_of
from scaled_ig.errors import UsageError
from scaled_ig.metrics.accounting import Growth
from scaled_ig.metrics.costs import BESIDE, bank_bytes, shared_file_bytes, versions_by_file
from scaled_ig.runs.record import RunRecord

FLOAT_BYTES = 4


@dataclass(frozen=True)
class RunCosts:
    """Costs of a run.

    Args:
        label: What tables and charts call it.
        run: Its record.
        stage1: The run whose stage 1 it has: itself, the one that it began from, or None where scenes need no other.
    """

    label: str
    run: RunRecord
    stage1: RunRecord | None

    @classmethod
    def of(cls, run: RunRecord, label: str = "", stage1: str | None = None) -> RunCosts:
        """Costs of a run.

        Args:
            run: Its record.
            label: What to call it.
            stage1: Folder of the run that its stage 1 is in, where that of ``init_from`` is gone.

        Raises:
            UsageError: That run is not where it was, or has no stage 1.
        """
        if run.phases(1):
            return cls(label, run, run)
        source = run.config.get("init_from")
        if not source:
            return cls(label, run, None)
        if stage1 and not Path(source).is_dir():
            source = stage1
        try:
            first = RunRecord.open(source)
        except UsageError as error:
            raise UsageError(f"the costs of {run.folder.path} need its stage 1: {error} (--stage1 names it)") from None
        if not first.phases(1):
            raise UsageError(f"{source} has no stage 1: --stage1 names the run that {run.folder.path} began from")
        return cls(label, run, first)

    def _learned(self, stage: int) -> RunRecord | None:
        """The run that has a stage."""
        return self.stage1 if stage == 1 else self.run

    def num_scenes(self, stage: int) -> int:
        """N1 or N2: scenes that a stage trained, some of which may have been removed since."""
        record = self._learned(stage)
        return (
            max((record.costs["phases"][name]["scenes"] for name in record.phases(stage)), default=0) if record else 0
        )

    def gpus(self, stage: int) -> int:
        """GPUs that trained a stage; 0 where the processor did."""
        record = self._learned(stage)
        machine = record.costs.get("machine", {}) if record else {}
        return machine.get("ranks", 1) if str(machine.get("device", "")).startswith("cuda") else 0

    @property
    def minutes(self) -> Growth:
        """t(N), wall minutes (equation 10); a run without stage 2 has τ = 0."""
        once = self.stage1.seconds(1) / 60 if self.stage1 else 0.0
        per_scene = self.run.seconds(2) / 60 / max(1, self.num_scenes(2))
        return Growth(once, per_scene, self.num_scenes(1))

    @property
    def processor_minutes(self) -> Growth | None:
        """The same in minutes that processors worked, which other work of the machine leaves as they are.

        None where a GPU or several processes trained, or a run is too old to know.
        """
        machines = [record.costs["machine"] for record in self._records()]
        once = self.stage1.processor_seconds(1) if self.stage1 else 0.0
        each = self.run.processor_seconds(2)
        if once is None or each is None or self.gpus(1) or self.gpus(2) or any(m.get("ranks", 1) > 1 for m in machines):
            return None
        return Growth(once / 60, each / 60 / max(1, self.num_scenes(2)), self.num_scenes(1))

    @property
    def gpu_minutes(self) -> Growth:
        """The same times the GPUs that were busy."""
        wall = self.minutes
        return Growth(wall.once * self.gpus(1), wall.each * self.gpus(2), wall.first)

    @property
    def bytes(self) -> Growth:
        """m(N), raw float32 bytes (equation 12). m1 counts every version of the shared parts that is kept."""
        shared = sum(sum(items.values()) for items in self.shared_items().values())
        stage2_bytes, first = self.run.bytes_per_scene(), self.num_scenes(1)
        stage1_bytes = self.stage1.bytes_per_scene() if self.stage1 else stage2_bytes
        return Growth(shared + first * stage1_bytes, stage2_bytes, first)

    def shared_items(self) -> dict[str, dict[str, int]]:
        """Raw bytes of what scenes share, by version and part; equal versions once, under all of their names."""
        items: dict[str, dict[str, int]] = {}
        digests: set[str] = set()
        for record in self._records():
            for names in versions_by_file(record.bank.versions):
                version = record.bank.versions[names[0]]
                sizes, digest = dict(record.costs["shared_bytes"]), version.shared_sha256
                if sum(sizes.values()) > sizes.get("buffers", 0):  # independent scenes do not start from their mean
                    sizes["mean scene"] = sum(record.row_bytes().values())
                start = BESIDE[START]
                sizes[start] = shared_file_bytes(record.folder.bank, version).get(start, 0)
                is_needed = record is self.run or set(names) & set(record.versions(1))
                if is_needed and digest not in digests:
                    digests.add(digest)
                    items[", ".join(names)] = {part: size for part, size in sizes.items() if size}
        return items

    def trainable_floats(self) -> int:
        """Floats of a scene that some phase may train: all but what it only remembers of itself."""
        from scaled_ig.phases import LearningRates  # takes seconds to import

        rates = {field.name for field in fields(LearningRates)}
        return sum(size for name, size in self.run.costs["bytes_per_scene"].items() if name in rates) // FLOAT_BYTES

    def moment_items(self, stage: int) -> dict[str, int]:
        """Bytes of Adam's two moments in the phase of a stage that has most of them, by part; in training alone."""
        record = self._learned(stage)
        phases = [_moments(record, name) for name in record.phases(stage)] if record else []
        return max(phases, key=lambda items: sum(items.values()), default={})

    def _records(self) -> list[RunRecord]:
        """Runs whose banks hold the scenes."""
        return [self.run] if self.stage1 is None or self.stage1 is self.run else [self.stage1, self.run]

    def psnr(self) -> float | None:
        """On test views of the newest stage, dB."""
        stages = self.run.stages()
        return self.run.metrics[f"s{stages[-1]}"]["psnr"] if stages else None

    def table(self) -> dict[str, Any]:
        """All of it, as it stands in ``cost_table.json``."""
        stages = (1, 2)
        disk = {str(folder): bank_bytes(folder) for folder in (record.folder.bank for record in self._records())}
        return {
            "label": self.label,
            "run": str(self.run.folder.path),
            "stage1_run": str(self.stage1.folder.path) if self.stage1 else None,
            "psnr_db": self.psnr(),
            "machine": self.run.costs["machine"],
            "stage1_machine": self.stage1.costs["machine"] if self.stage1 else None,
            "num_gpus": {f"stage{stage}": self.gpus(stage) for stage in stages},
            "num_scenes": {"n1": self.num_scenes(1), "n2": self.num_scenes(2)},
            "trainable_floats_per_scene": self.trainable_floats(),
            "wall_minutes": self._of(self.minutes, "t1", "tau", "t_eff"),
            "gpu_minutes": self._of(self.gpu_minutes, "t1", "tau", "t_eff") if self.gpus(1) or self.gpus(2) else None,
            "bytes": self._of(self.bytes, "m1", "mu", "m_eff"),
            "bytes_per_scene": self.run.costs["bytes_per_scene"],
            "shared_bytes": self.shared_items(),
            "stage1_scene_bytes": self.num_scenes(1) * (self.stage1 or self.run).bytes_per_scene(),
            "adam_moment_bytes": {f"stage{stage}": self.moment_items(stage) for stage in stages},
            "disk_bytes": disk,
            "disk_sums": {
                folder: {
                    "items": sum(sum(items.values()) for items in groups.values()),
                    "files": sum((Path(folder) / name).stat().st_size for name in files_of(Path(folder))),
                }
                for folder, groups in disk.items()
            },
            "milliseconds_per_image": self.run.costs.get("milliseconds_per_image", {}),
        }

    def _of(self, growth: Growth, once: str, each: str, effective: str) -> dict[str, float | None]:
        scenes = self.num_scenes(2)
        if not scenes:
            return {once: growth.once, each: None, effective: None}
        return {once: growth.once, each: growth.each, effective: growth.effective(scenes)}


def _moments(record: RunRecord, phase: str) -> dict[str, int]:
    """Two moments of every part that a phase trains; of the largest wave, for waves are trained one after another."""
    from scaled_ig import phases  # takes seconds to import

    module = record.config["phases"][phase]["module"]
    options = module["init_args"]
    trained = {*class_in(phases, str(module["class_path"]).rpartition(".")[2], phases.Phase).trains}
    if options.get("encoder_follows"):
        trained.add("encoder")
    if options.get("decoder") == "small":
        trained.discard("decoder")
    rates = options["learning_rates"]
    costs = record.costs["phases"][phase]
    scenes = max((wave["scenes"] for wave in costs.get("waves", {}).values()), default=costs["scenes"])
    row_sizes = {name: scenes * size for name, size in record.row_bytes().items()}
    parts = record.costs["shared_bytes"] | row_sizes
    return {name: 2 * size for name, size in parts.items() if size and name in trained and rates.get(name, 1)}


def break_even(run: RunCosts, baseline: RunCosts) -> dict[str, Any]:
    """From how many scenes on a run costs no more than a baseline, and how many of the baseline's scenes t1 and m1 buy.

    ``scenes`` is None where no number is enough; it is N1 where the run is cheaper from there on.
    """
    pairs = {"wall_minutes": (run.minutes, baseline.minutes), "bytes": (run.bytes, baseline.bytes)}
    return {"baseline": baseline.label} | {
        name: {"scenes": growth.break_even(baseline_growth), "once_worth_scenes": growth.worth(baseline_growth)}
        for name, (growth, baseline_growth) in pairs.items()
    }
