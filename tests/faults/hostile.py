"""A row of the campaign that opens files made to do harm: a trial is a test of such files."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random

from tests.faults.laboratory import Laboratory, Trial

ROOT = Path(__file__).parents[2]
FILES = (
    "tests/test_hostile_configs.py",
    "tests/data_modules/test_hostile_files.py",
    "tests/scaled_ig/bank/test_hostile_banks.py",
)


def payloads(laboratory: Laboratory, random: Random, count: int) -> Iterator[Trial]:
    """A file of a stranger is refused: nothing of it is run, and it takes less than 5 s and 1 GB."""

    def pytest(*words: str) -> str:
        command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-q", *words]
        environment = laboratory.environment
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False).stdout

    def trial(failure: str | None, folder: Path) -> None:
        assert failure is None, failure

    tests = [line for line in pytest("--collect-only", *FILES).splitlines() if "::" in line]
    results = laboratory.folder / "payloads.xml"
    output = pytest(f"--junitxml={results}", *random.sample(tests, min(count, len(tests))))
    assert results.exists(), output[-1500:]
    for case in ElementTree.parse(results).iter("testcase"):
        bad = next((child for child in case if child.tag in ("failure", "error", "skipped")), None)
        failure = None if bad is None else f"{bad.tag}: {bad.get('message')}"
        yield Trial(f"{case.get('classname')}, {case.get('name')}", partial(trial, failure))
