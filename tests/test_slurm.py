"""The SLURM script: bash and the program understand it, and a job that is cut goes back to the queue."""

import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.test_docs import ROOT, parse  # noqa: F401 - a fixture

SCRIPT = ROOT / "experiments/slurm/stage2.sbatch"
COMMANDS = {
    "srun": 'printf "%s\\n" "$@" > "$FAKE/task"; echo "$MASTER_ADDR:$MASTER_PORT" > "$FAKE/address"\n'
    'trap "exit 138" USR1; for _ in $(seq 100); do [ -e "$FAKE/end" ] && exit "$(cat "$FAKE/end")"; sleep 0.05; done',
    "scontrol": 'if [ "$1" = show ]; then printf "gpu07\\ngpu08\\n"; else echo "$@" > "$FAKE/requeued"; fi',
}


@pytest.fixture
def job(tmp_path):
    """The script as a job of two nodes, with a task that runs until ``end`` holds its status."""
    for name, body in COMMANDS.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_JOB_ID": "1234567", "SLURM_JOB_NODELIST": "gpu[07-08]", "SLURM_JOB_NUM_NODES": "2"}
    environment = os.environ | slurm | {"FAKE": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    words = ["bash", SCRIPT, "runs/stage 2", "runs/stage1", "--data.stage2_scenes", "1000"]
    process = subprocess.Popen(words, env=environment, cwd=ROOT)
    wait_for(tmp_path / "address")
    yield process
    process.kill()
    process.wait()


def wait_for(file: Path) -> None:
    end = time.monotonic() + 10
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < end, f"there is no {file.name}"
        time.sleep(0.02)


def directives() -> dict[str, str]:
    lines = [line for line in SCRIPT.read_text().splitlines() if line.startswith("#SBATCH ")]
    words = [line.removeprefix("#SBATCH --").partition("=") for line in lines]
    return {name: value for name, _, value in words}


def test_bash_understands_it():
    subprocess.run(["bash", "-n", SCRIPT], check=True)


def test_the_program_understands_its_task(job, tmp_path, parse):  # noqa: F811
    words = (tmp_path / "task").read_text().splitlines()
    (tmp_path / "end").write_text("0")
    assert job.wait(10) == 0
    assert not (tmp_path / "requeued").exists()
    given = words[words.index("scaled-ig") :]
    parse(shlex.join(given))
    assert given[given.index("--run_dir") + 1] == "runs/stage 2"
    assert given[-2:] == ["--data.stage2_scenes", "1000"]
    # What Lightning requires of a job.
    assert given[given.index("--trainer.devices") + 1] == directives()["ntasks-per-node"]
    assert given[given.index("--trainer.num_nodes") + 1] == "2"
    assert directives()["job-name"] not in ("bash", "interactive")
    assert (tmp_path / "address").read_text().strip() == "gpu07:19567"


def test_a_job_at_the_end_of_its_time_queues_again(job, tmp_path):
    assert {"requeue", "signal"} <= set(directives())
    assert directives()["signal"].startswith("B:USR1@"), "to the script alone"
    job.send_signal(signal.SIGUSR1)
    wait_for(tmp_path / "requeued")
    assert (tmp_path / "requeued").read_text() == "requeue 1234567\n"
    assert job.wait(10) == 138, "as its tasks, which have saved"


def test_a_failure_is_the_failure_of_the_job(job, tmp_path):
    (tmp_path / "end").write_text("2")
    assert job.wait(10) == 2
    assert not (tmp_path / "requeued").exists()
