"""Puts the counts of a campaign into docs/reliability.md: ``python -m tests.faults.table`` after ``make faults``."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGE, KEPT = ROOT / "docs/reliability.md", ROOT / "docs/results/faults"
BEGIN, END = "<!-- campaign: python -m tests.faults.table -->\n", "<!-- end of campaign -->\n"


class Promise(NamedTuple):
    """What is promised where a fault happens, where it is tested, and what others say of it."""

    fault: str
    promise: str
    test: str
    others: str


PROMISES = {
    "kills": Promise(
        "the process is killed (KILL), at any step and any operation on its files, a fifth of them twice",
        "`--resume true` ends with the same weights, moments, counters, bank, `metrics.json` and `training.csv`, "
        "to the bit",
        "training.py",
        "Composer compares resumed runs with atol = rtol = 0, Megatron the second half of a run; "
        "Lightning 2.6 does not restore random states",
    ),
    "signals": Promise(
        "TERM, USR1 or INT, at any step and operation",
        "the step is finished and saved, exit code 143, 138 or 130 within 10 s, then as above",
        "training.py",
        "Lightning queues a SLURM job again, Megatron and HF Trainer save on a signal",
    ),
    "signals, two ranks": Promise(
        "the same, to either or both of two ranks",
        "both stop after the same step; going on ends where one process does, to rounding",
        "training.py",
        "as above",
    ),
    "lost ranks": Promise(
        "one of two ranks is killed, stopped or told to end",
        "the other one ends within 60 s with a sentence; going on ends where one process does, to rounding",
        "training.py",
        "torchft goes on without the replica, from step to step; Megatron has a heartbeat",
    ),
    "refused writes": Promise(
        "the system refuses a write (full, quota, read-only, I/O), or lets files grow no further",
        "one sentence, exit code 2, no draft left; going on ends with the same, to the bit",
        "training.py",
        "Orbax commits by renaming; Lightning once lost a refused save in silence",
    ),
    "races": Promise(
        "two processes want one run folder or bank, or one reads what the other changes",
        "one has it, the other is told who; readers see old or new",
        "training.py",
        "–",
    ),
    "flips in checkpoints": Promise(
        "a bit of a checkpoint flips",
        "it is refused, or the run goes on from an older one, to the same end",
        "damage.py",
        "Megatron has a manifest of digests; `torch.load` reads every flip of data",
    ),
    "flips in banks": Promise(
        "a bit of a bank flips",
        "reading refuses what it has changed, `bank verify` finds it",
        "damage.py",
        "safetensors has no digests",
    ),
    "flips in latents": Promise(
        "a bit of the latents flips",
        "their views are encoded again",
        "damage.py",
        "Streaming has digests of shards, where one asks for them",
    ),
    "flips in packs": Promise(
        "a bit of a pack flips",
        "`check` reports it, training refuses it",
        "packs.py",
        "as above",
    ),
    "truncations": Promise(
        "a file of a run that was killed ends too early",
        "it is refused by name, or made again, to the same end",
        "damage.py",
        "HF Trainer and Megatron keep several checkpoints; one chooses by hand",
    ),
    "hostile payloads": Promise(
        "configurations, runs, banks, packs, meshes, images and archives made to run code or to fill memory",
        "refused in one sentence within 5 s of the processor and 1 GB; nothing of them is run",
        "hostile.py",
        "Composer and Megatron restrict what is unpickled; Hydra has a list of what a configuration may not call",
    ),
    "changed settings": Promise(
        "a run goes on with another value of a setting; each has its turn",
        "refused with the difference, or written into `changes.jsonl` and in force",
        "settings.py",
        "Megatron and HF Trainer compare some arguments",
    ),
}


def read_campaign(folder: Path = KEPT) -> str:
    """The table of a campaign, in Markdown."""
    summary, about = (json.loads((folder / f"{name}.json").read_text()) for name in ("summary", "campaign"))
    lines = ["| what happens | promise | held / tried | trials in | elsewhere |", "|---|---|---|---|---|"]
    for name, counts in summary.items():
        row = PROMISES[name]
        source = f"[{row.test}](../tests/faults/{row.test})"
        lines.append(
            f"| {row.fault} | {row.promise} | {counts['passed']:,} / {counts['tried']:,} | {source} | {row.others} |"
        )
    source = (
        f"`make faults`, commit {about['commit']}, {about['date']}, {about['machine']}: {about['minutes']} minutes."
    )
    return "\n".join([*lines, "", source, ""])


def table_in(page: str) -> str:
    """The table that a page has."""
    return page.partition(BEGIN)[2].partition(END)[0]


def main() -> None:
    """Keeps the counts, and writes the table into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--campaign", type=Path, default=Path("runs/faults"))
    KEPT.mkdir(exist_ok=True)
    for name in ("summary.json", "campaign.json"):
        shutil.copy(parser.parse_args().campaign / name, KEPT / name)
    page = PAGE.read_text()
    PAGE.write_text(page.replace(BEGIN + table_in(page), BEGIN + read_campaign()))


if __name__ == "__main__":
    main()
