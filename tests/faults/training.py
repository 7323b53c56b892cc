"""Rows of the campaign that disturb runs: kills, signals, writes that are refused, ranks that are lost, races."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from random import Random

from scaled_ig.bank.scene_bank import SceneBank
from tests.faults.injection import Fault, operations
from tests.faults.laboratory import Laboratory, Trial, require_same, require_sentence
from tests.rounding import assert_same_training

KILL, STOP, TERM, USR1, INT = signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGUSR1, signal.SIGINT
SIGNAL_SECONDS, RANK_SECONDS, RANK_TIMEOUT = 10.0, 60.0, 10
ERRORS = (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO, errno.EMFILE)


def kills(laboratory: Laboratory, random: Random, count: int) -> Iterator[Trial]:
    """A process is killed at any operation, and goes on: every fifth twice, three of four after a first checkpoint."""
    last = len(laboratory.operations)
    for turn in range(count):
        place = random.randint(laboratory.saved + 1, last)
        if turn % 5 == 4:
            place = random.randint(laboratory.saved + 1, last - 20)
            places = [place, random.randint(1, (last - place) // 2)]
            what = f"killed at {laboratory.name(place)} and, going on, at operation {places[1]}"
        else:
            places = [random.randint(1, laboratory.saved) if turn % 5 == 3 else place]
            what = f"killed at {laboratory.name(places[0])}"
        yield Trial(what, partial(_kill_and_go_on, laboratory, places))


def _kill_and_go_on(laboratory: Laboratory, places: list[int], folder: Path) -> None:
    run = folder / "run"
    for number, place in enumerate(places):
        resume = ("--resume", "true") if number else ()
        status, output = laboratory.fit(run, *resume, faults=[Fault(place, "signal", KILL)])
        assert status == -KILL, f"operation {place}: exit code {status}: {output[-600:]}"
    laboratory.go_on(run)
    require_same(run, laboratory.whole)


def signals(laboratory: Laboratory, random: Random, count: int) -> Iterator[Trial]:
    """TERM, USR1 or INT at any operation: the program saves, says so and leaves, and goes on."""

    def trial(number: int, place: int, folder: Path) -> None:
        run = folder / "run"
        status, output = laboratory.fit(run, faults=[Fault(place, "signal", number)])
        ended = time.time()
        assert status == 128 + number, f"operation {place}: exit code {status}: {output[-600:]}"
        assert ended - _moment(laboratory, run, place) < SIGNAL_SECONDS
        _require_words(output, signal.Signals(number).name)
        laboratory.go_on(run)
        require_same(run, laboratory.whole)

    for turn in range(count):
        number, place = (TERM, USR1, INT)[turn % 3], random.randint(1, len(laboratory.operations) - 1)
        yield Trial(f"{signal.Signals(number).name} at {laboratory.name(place)}", partial(trial, number, place))


def signals_of_two_ranks(laboratory: Laboratory, random: Random, count: int) -> Iterator[Trial]:
    """The same of two ranks, one of which gets the signal, or both at different operations."""
    logs = _two_ranks(laboratory)

    def trial(number: int, places: dict[int, int], folder: Path) -> None:
        run = folder / "run"
        faults = {rank: Fault(place, "signal", number) for rank, place in places.items()}
        ends = laboratory.fit_on_two(run, faults=faults)
        ended = time.time()
        assert [status for status, _ in ends] == [128 + number] * 2, f"{places}: {[(s, o[-600:]) for s, o in ends]}"
        begun = max(_moment(laboratory, run, place, rank) for rank, place in places.items())
        assert ended - begun < SIGNAL_SECONDS
        _require_words(ends[0][1], signal.Signals(number).name)
        assert "Traceback" not in ends[1][1], ends[1][1][-1500:]
        laboratory.go_on(run)
        assert_same_training(laboratory.whole, run)

    for turn in range(count):
        number = (TERM, USR1, INT)[turn % 3]
        places = {rank: random.randint(1, _last_step(logs[rank])) for rank in ((0,), (1,), (0, 1))[turn // 3 % 3]}
        yield Trial(f"{signal.Signals(number).name} at operations {places} of ranks", partial(trial, number, places))


def lost_ranks(laboratory: Laboratory, random: Random, count: int) -> Iterator[Trial]:
    """One of two ranks is killed, stopped or told to end while it trains: the other one ends soon, with a sentence."""
    logs = _two_ranks(laboratory)

    def trial(number: int, rank: int, place: int, folder: Path) -> None:
        run = folder / "run"
        ended: dict[int, float] = {}

        def note(other: int) -> None:
            ended[other] = time.time()
            if other != rank and number == STOP and (moment := _find_moment(laboratory, run, place, rank)):
                os.kill(moment[1], KILL)

        ends = laboratory.fit_on_two(
            run, "--rank_timeout", RANK_TIMEOUT, faults={rank: Fault(place, "signal", number)}, when_ended=note
        )
        status, output = ends[1 - rank]
        seconds = ended[1 - rank] - _moment(laboratory, run, place, rank)
        assert seconds < RANK_SECONDS, f"rank {1 - rank} ended after {seconds:.0f} s"
        assert status == (128 + TERM if number == TERM else 1), f"exit code {status}: {output[-600:]}"
        both = ends[0][1] + ends[1][1]
        assert not {"Traceback", "gloo"} & set(re.findall(r"\w+", both)), both[-1500:]
        if number == TERM:
            _require_words(ends[0][1], "SIGTERM")
        else:
            how = "has ended" if number == KILL else f"has not answered for {RANK_TIMEOUT} s"
            assert f"rank {rank} {how} in phase " in output, output[-600:]
        laboratory.go_on(run)
        assert_same_training(laboratory.whole, run)

    for turn in range(count):
        rank, number = turn % 2, (KILL, STOP, TERM, KILL)[turn // 2 % 4]
        steps = [place for place, (kind, _) in enumerate(logs[rank], 1) if kind == "step"]
        place = random.choice(steps)
        what = f"{signal.Signals(number).name} to rank {rank} at its operation {place}"
        yield Trial(what, partial(trial, number, rank, place))


def refused_writes(laboratory: Laboratory, random: Random, count: int) -> Iterator[Trial]:
    """The system refuses a write, or lets no file grow: one sentence, and the run goes on when there is room."""
    places = [
        place
        for place, (kind, name) in enumerate(laboratory.operations, 1)
        if kind in ("open", "sync", "replace", "truncate")
        or (kind == "mkdir" and (kind, name) not in laboratory.operations[: place - 1])  # else it is there
    ]

    def trial(fault: Fault, folder: Path) -> None:
        run = folder / "run"
        status, output = laboratory.fit(run, faults=[fault])
        if fault.act == "room" and status == 0:
            raise AssertionError("there was room")
        assert str(run) in require_sentence(status, output), output[-600:]
        assert not list(run.rglob("*.part")), "a draft is left behind"
        laboratory.go_on(run)
        require_same(run, laboratory.whole)

    for turn in range(count):
        fault = Fault(random.choice(places), "error", random.choice(ERRORS))
        if turn % 4 == 3:  # a checkpoint or a bank needs more
            fault = Fault(random.randint(1, len(laboratory.operations) - 20), "room", random.choice((200, 4096)))
        yield Trial(f"{fault} at {laboratory.name(fault.number)}", partial(trial, fault))


def races(laboratory: Laboratory, random: Random, count: int) -> Iterator[Trial]:
    """Two processes want the same folder: one has it, the other one is told by whom; readers see old or new."""

    def two(first: tuple, second: tuple, wait: float) -> list[tuple[int, str]]:
        def start(number: int) -> tuple[int, str]:
            time.sleep(number * wait)
            return laboratory.call(*(first, second)[number])

        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(start, range(2)))

    def one_is_told(ends: list[tuple[int, str]], folder: Path) -> None:
        assert sorted(status for status, _ in ends) == [0, 2], [(status, output[-600:]) for status, output in ends]
        said = require_sentence(*next(end for end in ends if end[0] == 2))
        assert re.search(rf"{folder} is being \w+ by process \d+ on host \S+ since ", said), said

    def fits(wait: float, folder: Path) -> None:
        run = folder / "run"
        words = ("fit", "--config", laboratory.config, "--run_dir", run, "--eval_every_n_steps", 6)
        words += ("--data.val_fraction", 0.2, "--resume", "true")
        one_is_told(two(words, words, wait), run)
        require_same(run, laboratory.whole)

    def additions(wait: float, folder: Path) -> None:
        run = Path(shutil.copytree(laboratory.whole, folder / "run"))
        scene = SceneBank.open(run / "bank").scenes("stage2")[0].id
        status, output = laboratory.call("bank", "remove", run, "--scenes", scene)
        assert status == 0, output[-600:]
        words = ("bank", "refit", run, "--scenes", SceneBank.open(run / "bank").scenes("stage2")[0].id)
        one_is_told(two(words, words, wait), run)
        _require_sound(laboratory, run)

    def removals(wait: float, folder: Path) -> None:
        """Both may have their turn, for a removal is short."""
        bank = Path(shutil.copytree(laboratory.whole / "bank", folder / "bank"))
        one, two_, *_ = SceneBank.open(bank).ids
        ends = two(("bank", "remove", bank, "--scenes", one), ("bank", "remove", bank, "--scenes", two_), wait)
        for status, output in ends:
            assert status == 0 or f"{bank} is being " in require_sentence(status, output), output[-600:]
        gone = {name for name, (status, _) in zip((one, two_), ends, strict=True) if status == 0}
        assert gone
        assert not gone & set(SceneBank.open(bank).ids)
        _require_sound(laboratory, bank)

    def reading(wait: float, folder: Path) -> None:
        bank = Path(shutil.copytree(laboratory.whole / "bank", folder / "bank"))
        scene = SceneBank.open(bank).ids[0]
        ends = two(("bank", "remove", bank, "--scenes", scene), ("bank", "verify", bank), wait)
        assert ends[0][0] == 0, ends[0][1][-600:]
        if ends[1][0]:
            assert "open it again" in require_sentence(*ends[1]), ends[1][1][-600:]
        _require_sound(laboratory, bank)

    for turn in range(count):
        work, wait = (fits, additions, removals, reading)[turn % 4], random.uniform(0, 0.2)
        yield Trial(f"{work.__name__}, {wait:.2f} s apart", partial(work, wait))


def _two_ranks(laboratory: Laboratory) -> list[list[tuple[str, str]]]:
    """Operations of two ranks that nothing disturbs."""
    run = laboratory.folder / "two-ranks"
    if not run.exists():
        ends = laboratory.fit_on_two(run)
        assert [status for status, _ in ends] == [0, 0], [output[-1500:] for _, output in ends]
        assert_same_training(laboratory.whole, run)
    return [operations(laboratory.log(run, rank)) for rank in range(2)]


def _last_step(log: list[tuple[str, str]]) -> int:
    return max(place for place, (kind, _) in enumerate(log, 1) if kind == "step")


def _find_moment(laboratory: Laboratory, run: Path, place: int, rank: int) -> tuple[float, int] | None:
    """When an operation began, and in which process; None where it has not begun."""
    log = laboratory.log(run, rank)
    lines = log.read_text().splitlines() if log.exists() else []
    if len(lines) < place:
        return None
    moment, process, *_ = lines[place - 1].split()
    return float(moment), int(process)


def _moment(laboratory: Laboratory, run: Path, place: int, rank: int = 0) -> float:
    moment = _find_moment(laboratory, run, place, rank)
    assert moment, f"rank {rank} never came to operation {place}"
    return moment[0]


def _require_words(output: str, name: str) -> None:
    """The last line says that the run was stopped; there is no traceback."""
    assert "Traceback" not in output, output[-1500:]
    line = output.splitlines()[-1]
    assert re.fullmatch(rf"stopped by {name} .*; go on with --resume true", line), line


def _require_sound(laboratory: Laboratory, bank: Path) -> None:
    status, output = laboratory.call("bank", "verify", bank)
    assert status == 0, output[-600:]
