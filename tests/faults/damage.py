"""Rows of the campaign that damage files: single bits of checkpoints, banks and latents, files that end too early."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from safetensors import safe_open

from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.errors import UsageError
from scaled_ig.phases.checkpoint_files import content_of, newest_whole
from scaled_ig.phases.latent_cache import _find
from tests.faults.injection import Fault
from tests.faults.laboratory import Laboratory, Trial, require_equal, require_same, require_sentence
from tests.faults.training import KILL

RESUMED = 20  # checkpoints that a run goes on from after a flip; the others are opened alone


def checkpoint_flips(laboratory: Laboratory, random: Random, count: int) -> Iterator[Trial]:
    """A bit of a checkpoint flips: it is refused, or a run that goes on takes an older one, to the same end."""
    files = sorted(laboratory.whole.glob("checkpoints/*/*.ckpt"))
    for turn in range(count):
        if turn < min(RESUMED, count // 4):
            last = len(laboratory.operations) - 20  # before the run is done, and has nothing to go on from
            place, bit = random.randint(laboratory.saved + 20, last), random.random()
            what = f"a bit of the newest checkpoint at {laboratory.name(place)}"
            yield Trial(what, partial(_flip_newest_and_go_on, laboratory, place, bit))
        else:
            yield _flip_of(random.choice(files), random, _read_checkpoint)


def _flip_newest_and_go_on(laboratory: Laboratory, place: int, part: float, folder: Path) -> None:
    run = folder / "run"
    status, _ = laboratory.fit(run, faults=[Fault(place, "signal", KILL)])
    assert status == -KILL
    newest = max(run.glob("checkpoints/*/*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    _flip(newest, int(part * 8 * newest.stat().st_size))
    status, output = laboratory.fit(run, "--resume", "true")
    if status:  # the first checkpoint of a phase has no older one
        said = require_sentence(status, output)
        assert f"{newest} is damaged" in said, said
        shutil.rmtree(newest.parent)
        laboratory.go_on(run)
    else:
        assert f"{newest} is damaged" in output, output[-600:]
    require_same(run, laboratory.whole)


def _read_checkpoint(path: Path) -> Any:
    saved = newest_whole([path], path.parent.name)
    return saved and content_of(saved.path)


def bank_flips(laboratory: Laboratory, random: Random, count: int) -> Iterator[Trial]:
    """A bit of a bank flips: reading refuses what it has changed, and ``bank verify`` finds it."""
    files = sorted(path for path in (laboratory.whole / "bank").rglob("*") if path.is_file())
    bank = laboratory.whole / "bank"
    for _ in range(count):
        yield _flip_of(random.choice(files), random, lambda path: _read_bank(path, bank), bank)


def _read_bank(path: Path, bank: Path) -> Any:
    folder = path
    while folder.name != bank.name:
        folder = folder.parent
    opened = SceneBank.open(folder)
    scenes = [(record.id, record.version, record.source_sha256) for record in opened.scenes()]
    models = {version: opened.load_version(version).state_dict() for version in opened.versions}
    findings = opened.verify()
    if findings:
        raise UsageError(findings[0])
    return scenes, models


def latent_flips(laboratory: Laboratory, random: Random, count: int) -> Iterator[Trial]:
    """A bit of the latents flips: their views are encoded again."""
    files = sorted(laboratory.whole.glob("latents/*/*.safetensors"))
    for _ in range(count):
        yield _flip_of(random.choice(files), random, _latents_reader(files))


def _latents_reader(files: list[Path]) -> Callable[[Path], Any]:
    made_of = {}
    for file in files:
        with safe_open(file, "pt") as content:
            made_of[file.name, file.parent.name] = content.metadata()["stamp"].partition(" ")[0]

    def read(path: Path) -> Any:
        latents, fault = _find(path, made_of[path.name, path.parent.name])
        if latents is None:
            raise UsageError(fault)
        return latents

    return read


def _flip_of(file: Path, random: Random, read: Callable[[Path], Any], whole: Path | None = None) -> Trial:
    """One bit of a file, or of a file of a folder that is read as a whole."""
    place = random.randrange(8 * file.stat().st_size)

    def trial(folder: Path) -> None:
        if whole is None:
            damaged = folder / file.parent.name / file.name
            damaged.parent.mkdir()
            shutil.copy(file, damaged)
        else:
            damaged = Path(shutil.copytree(whole, folder / whole.name)) / file.relative_to(whole)
        _flip(damaged, place)
        try:
            values = read(damaged)
        except UsageError:
            return
        with torch.no_grad():
            require_equal(values, read(file), "what is read")  # a byte that holds nothing

    return Trial(f"bit {place} of {file.parent.name}/{file.name}", trial)


def _flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)


def truncations(laboratory: Laboratory, random: Random, count: int) -> Iterator[Trial]:
    """A file of a run that was killed ends too early: it is refused, or made again, to the same end."""
    last = len(laboratory.operations)

    def trial(place: int, kind: str, choice: float, part: float, folder: Path) -> None:
        run = folder / "run"
        status, _ = laboratory.fit(run, faults=[Fault(place, "signal", KILL)])
        assert status == -KILL
        files = sorted(path for path in run.glob(kind) if path.is_file() and path.stat().st_size)
        file = files[int(choice * len(files))]
        whole = file.read_bytes()
        file.write_bytes(whole[: int(part * len(whole))])
        status, output = laboratory.fit(run, "--resume", "true")
        if status:
            said = require_sentence(status, output)
            assert file.name in said or str(run / "bank") in said, said
            return
        if file.is_file() and file.match("final.ckpt") and file.stat().st_size < len(whole):
            with pytest.raises(UsageError, match="is damaged"):  # of a phase that others have followed: not read again
                _read_checkpoint(file)
            file.write_bytes(whole)
        try:
            require_same(run, laboratory.whole)
        except UsageError as refusal:  # scenes of an earlier phase, which are read when somebody asks for them
            if str(file) not in str(refusal):
                raise

    kinds = ("checkpoints/*/*.ckpt", "latents/*/*.safetensors", "bank/**/*", "*.json", "config.yaml")
    for turn in range(count):
        kind, place = kinds[turn % 5], random.randint(last // 2, last - 20)
        work = partial(trial, place, kind, random.random(), random.random())
        yield Trial(f"a file of {kind} at {laboratory.name(place)}", work)
