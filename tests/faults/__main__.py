"""Carries out the campaign, or rows of it; what failed is printed, and written beside the counts.

``summary.json`` has ``{row: {passed, tried}}``; ``campaign.json`` has commit, date, machine, and what failed.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import date
from pathlib import Path
from random import Random
from typing import NamedTuple

from tqdm import tqdm

from scaled_ig.files import write_json
from tests.faults import damage, hostile, packs, settings, training
from tests.faults.laboratory import Laboratory, Trial


class Row(NamedTuple):
    """One kind of fault.

    Args:
        draw: Gives trials.
        count: Of trials in the campaign.
        part: Of trials in ``make test-slow``; 0 where tests of their own are made of them.
    """

    draw: Callable[[Laboratory, Random, int], Iterator[Trial]]
    count: int
    part: int


ROWS = {
    "kills": Row(training.kills, 200, 15),
    "signals": Row(training.signals, 40, 6),
    "signals, two ranks": Row(training.signals_of_two_ranks, 20, 3),
    "lost ranks": Row(training.lost_ranks, 40, 4),
    "refused writes": Row(training.refused_writes, 40, 8),
    "races": Row(training.races, 20, 4),
    "flips in checkpoints": Row(damage.checkpoint_flips, 500, 40),
    "flips in banks": Row(damage.bank_flips, 1000, 60),
    "flips in latents": Row(damage.latent_flips, 300, 30),
    "flips in packs": Row(packs.pack_flips, 400, 0),
    "truncations": Row(damage.truncations, 40, 5),
    "hostile payloads": Row(hostile.payloads, 10_000, 0),
    "changed settings": Row(settings.changed_settings, 1000, 12),
}


def failures(laboratory: Laboratory, name: str, count: int, seed: int, jobs: int = 2) -> tuple[int, list[str]]:
    """Number of trials of a row, and a sentence for each that failed."""
    trials = list(ROWS[name].draw(laboratory, Random(f"{name} {seed}"), count))

    def attempt(trial: Trial) -> str | None:
        with tempfile.TemporaryDirectory(dir=laboratory.folder) as scratch:
            try:
                trial.work(Path(scratch))
            except Exception as error:
                return f"{trial.what}: {type(error).__name__}: {error}"
        return None

    with ThreadPoolExecutor(jobs) as pool:
        outcomes = tqdm(pool.map(attempt, trials), desc=name, total=len(trials), unit="trial", dynamic_ncols=True)
        return len(trials), [failure for failure in outcomes if failure is not None]


def main() -> int:
    """Exit code 1 where a trial failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/faults"))
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    start, summary, failed = time.monotonic(), {}, {}
    with tempfile.TemporaryDirectory() as scratch, closing(Laboratory(Path(scratch))) as laboratory:
        for name in arguments.rows:
            tried, failed[name] = failures(laboratory, name, ROWS[name].count, arguments.seed)
            summary[name] = {"passed": tried - len(failed[name]), "tried": tried}
            print("\n".join([f"{name}: {summary[name]['passed']} of {tried}", *failed[name]]), flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_json(arguments.out / "summary.json", summary)
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    about = {
        "commit": commit.stdout.strip(), "date": str(date.today()), "seed": arguments.seed,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "minutes": round((time.monotonic() - start) / 60, 1), "failed": failed,
    }  # fmt: skip
    write_json(arguments.out / "campaign.json", about)
    print(arguments.out / "summary.json")
    return 1 if any(failed.values()) else 0


if __name__ == "__main__":
    raise SystemExit(main())
