"""A step of recipes/fast.yaml while others compute: python -m benchmarks.busy [--pack PACK] [--others 1].

Steps a second of wall time, of the whole program as ``make demo`` runs it, on a quiet machine and beside processes that
never rest: with the threads that the program chooses, with one, and with one a core, which sleep while they wait, or
spin as OpenMP has it otherwise. Every figure is the median of processes that take turns. A turn begins when nobody else
computes, and is taken again where somebody did. Where others keep k of n cores busy, the program should keep
(n - k) / n of its rate. Prints a table, and writes runs/bench/busy.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from scaled_ig.distributed import cores

CONFIGS = ("experiments/recipes/fast.yaml",)
PHASE = "latent_supervision"
BEFORE, STEPS = 30, 200  # steps of a process that are let pass, and that are timed
STRANGERS = 0.1  # cores that others than the benchmark may have used meanwhile
CHOICES = [name for policy in ("OMP", "MKL", "GOMP", "KMP") for name in os.environ if name.startswith(f"{policy}_")]
SPINNING = {"GOMP_SPINCOUNT": "300000", "KMP_BLOCKTIME": "200"}  # what OpenMP does where nobody says anything


def used_by(processes: list[int]) -> float:
    """CPU seconds of running ones."""
    columns = [Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split() for process in processes]
    return sum(int(own[11]) + int(own[12]) for own in columns) / os.sysconf("SC_CLK_TCK")


def train(pack: Path, beside: list[int]) -> None:
    """Print the threads that torch has, steps a second and cores that strangers used; does not return.

    Args:
        pack: Of the demo's cars.
        beside: Processes that are no strangers.
    """
    cores.begin()
    import torch
    from lightning.pytorch import Callback

    from scaled_ig.commands.fit import fit
    from scaled_ig.commands.training_cli import TrainingCLI
    from scaled_ig.runs.training import Monitoring, Training

    class Timed(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
            if pl_module.name != PHASE:
                return
            if trainer.global_step == BEFORE:
                self.begun, self.theirs = cores.Moment.now(), used_by(beside)
            elif trainer.global_step == BEFORE + STEPS:
                now = cores.Moment.now()
                seconds, ours = (
                    now.clock - self.begun.clock,
                    now.own_seconds - self.begun.own_seconds + used_by(beside) - self.theirs,
                )
                strangers = max(0.0, now.busy - self.begun.busy - ours) / seconds
                found = {"threads": torch.get_num_threads(), "rate": STEPS / seconds, "strangers": strangers}
                print(json.dumps(found), flush=True)
                os._exit(0)  # what a run measures at its end is none of this

    def adjust(made: Training) -> Training:
        usual, steps = made.make_trainer, {PHASE: BEFORE + STEPS}
        short = {name: replace(phase, max_steps=steps.get(name, 2)) for name, phase in made.plan.phases.items()}

        def make_trainer(callbacks: list[Callback], **arguments: Any):
            return usual([*callbacks, Timed()], **arguments)

        return replace(made, make_trainer=make_trainer, plan=replace(made.plan, phases=short), monitoring=Monitoring())

    with tempfile.TemporaryDirectory() as folder:
        given = [part for config in CONFIGS for part in ("--config", config)]
        quiet = ["--trainer.enable_progress_bar=false", "--lpips=off"]
        TrainingCLI([*given, f"--data.path={pack}", f"--run_dir={folder}/run", *quiet], fit).train(adjust=adjust)


@contextlib.contextmanager
def busy(others: int) -> Iterator[list[int]]:
    """So many processes that never rest."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(others)]
    try:
        yield [process.pid for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def is_quiet(seconds: float = 2.0) -> bool:
    """Whether nobody computes here."""
    before = cores.Moment.now()
    time.sleep(seconds)
    return cores.Moment.now().busy - before.busy < STRANGERS * seconds


def rate(pack: Path, chosen: dict[str, str], others: int, end: float) -> dict[str, float]:
    """Of a process of its own, beside others; an end to the patience with strangers."""
    clean = {name: value for name, value in os.environ.items() if name not in CHOICES}
    clean |= {"WANDB_MODE": "disabled", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "benchmarks.busy", "--pack", str(pack), "--beside"]
    while time.monotonic() < end:
        if not is_quiet():
            continue
        with busy(others) as beside, tempfile.TemporaryDirectory() as folder:  # which the child has no time to remove
            given, environment = [*command, json.dumps(beside)], clean | chosen | {"TMPDIR": folder}
            done = subprocess.run(given, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr[-2000:])
        found = json.loads(done.stdout.splitlines()[-1])
        print(f"{chosen}, beside {others}: {found}", file=sys.stderr)
        if found["strangers"] <= STRANGERS:
            return found
    sys.exit("somebody else computes here: measure when the machine is quiet")


def measure(pack: Path, others: int, rounds: int, end: float) -> dict[str, Any]:
    """Rates by contestant, and the contest's terms."""
    number = cores.usable_cores()
    contestants: dict[str, dict[str, str]] = {
        "as the program chooses": {},
        "1 thread": {"OMP_NUM_THREADS": "1"},
        f"{number} threads that sleep": {"OMP_NUM_THREADS": str(number)},
        f"{number} threads that spin": {"OMP_NUM_THREADS": str(number), **SPINNING},
    }
    found: dict[str, dict[int, list[dict[str, float]]]] = {name: {0: [], others: []} for name in contestants}
    for _ in range(rounds):
        for name, chosen in contestants.items():
            for beside, own in found[name].items():
                own.append(rate(pack, chosen, beside, end))
    rows = {}
    for name, by_others in found.items():
        alone, beside = (statistics.median(each["rate"] for each in own) for own in by_others.values())
        threads = [int(statistics.median(each["threads"] for each in own)) for own in by_others.values()]
        rows[name] = {"threads": threads, "quiet": alone, "beside": beside, "ratio": beside / alone}
    left = max(1, number - others) / number
    return {"others": others, "cores": number, "cores_left": left, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pack", type=Path, default=Path("data/demo/pack"), help="the cars of make demo")
    parser.add_argument("--others", type=int, default=1, help="processes that never rest")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each")
    parser.add_argument("--patience", type=float, default=30, help="minutes")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/busy.json"))
    parser.add_argument("--beside", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not (options.pack / "pack.json").is_file():
        sys.exit(f"{options.pack} is no pack: make demo makes it")
    if options.beside is not None:
        train(options.pack, options.beside)
    found = measure(options.pack, options.others, options.rounds, time.monotonic() + 60 * options.patience)
    left = f"{found['cores_left']:.2f} of the cores are left"
    print(f"| steps a second (threads) | quiet | beside {options.others} busy | ratio, where {left} |")
    print("|---" * 4 + "|")
    for name, row in found["rows"].items():
        alone, beside = row["threads"]
        print(f"| {name} | {row['quiet']:.1f} ({alone}) | {row['beside']:.1f} ({beside}) | {row['ratio']:.2f} |")
    from benchmarks.contest import machine

    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({**found, "measured": machine()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
