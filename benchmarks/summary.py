"""All ratios of docs/performance.md: python benchmarks/summary.py [--run runs/demo].

Rows that need the CPU are measured now, in turns with what they are compared with; those of ``make bench-gpu`` and
:mod:`benchmarks.stage2` are taken from what those have written, if they have. Result: runs/bench/summary.json.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: one thread's time does not depend on who else computes

import torch

from benchmarks import decoder, input, optimizer, step, storage
from benchmarks.contest import machine

FOLDER = Path("runs/bench")
MEASURED_ELSEWHERE = {"gpu.json": "make bench-gpu", "quality_rows.json": "python -m benchmarks.stage2"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="finished run, whose bank is measured (G8)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: dict[str, Any] = {}
    parts: list[Callable[[], dict[str, Any]]] = [step.measure, optimizer.measure, decoder.measure, input.measure]
    for part in parts:
        rows |= _say(part())
    if (options.run / "bank").is_dir():
        versions = storage.measure(options.run, most_bytes=25_000)
        rows |= _say({f"G8_{version}": row for version, row in versions.items()})
    else:
        print(f"G8 is left out: {options.run} has no bank (make demo)")
    for name, command in MEASURED_ELSEWHERE.items():
        if (FOLDER / name).is_file():
            rows |= _say(json.loads((FOLDER / name).read_text()))
        else:
            print(f"the rows of {command} are left out: it has not been run here")
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "summary.json").write_text(json.dumps({**rows, "measured": machine()}, indent=1) + "\n")
    print(f"{FOLDER / 'summary.json'}")


def _say(rows: dict[str, Any]) -> dict[str, Any]:
    for name, row in rows.items():
        verdict = "" if row.get("passed", True) else "  FAILED"
        print(f"{name:16s} {row['ratio']:8.2f} x  {row['work']}; {row['check']}{verdict}", flush=True)
    return rows


if __name__ == "__main__":
    main()
