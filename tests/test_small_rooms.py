"""Little shared memory, few open files, no folder for temporary files: training works, or ends with one sentence."""

import os
import subprocess
import sys

import pytest

from tests.test_ddp import the_error

IN_A_SMALL_ROOM = """
import os, resource, sys
files, size = int(sys.argv[1]), sys.argv[2]
if size:
    if os.system(f"mount -t tmpfs -o size={size} tmpfs /dev/shm"):
        sys.exit(77)
resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
from scaled_ig.cli import main
main(sys.argv[3:])
"""


def may_mount() -> bool:
    return sys.platform == "linux" and not subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode


def train(config, run, files=256, shared="", **environment) -> tuple[int, str]:
    """Exit status and output of a run whose loader processes are two."""
    options = ["fit", "--config", config, "--run_dir", run, "--data.in_memory", "false", "--data.num_workers", "2"]
    words = [
        *(["unshare", "-m"] if shared else []),
        sys.executable,
        "-c",
        IN_A_SMALL_ROOM,
        str(files),
        shared,
        *options,
    ]
    done = subprocess.run(
        list(map(str, words)),
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} | environment,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow("runs in processes of their own")
@pytest.mark.parametrize("size", ["4k", "300k"])
def test_small_shared_memory_is_one_sentence(tiny_config, tmp_path, size):
    """Too small for what is read ahead, or, the last one, for all that is on its way."""
    if not may_mount():
        pytest.skip("file systems cannot be mounted here: call as root")
    status, output = train(tiny_config, tmp_path / "run", shared=size)
    assert status in (0, 2), output[-2000:]
    if status or size != "300k":
        assert status == 2
        assert "shared memory (/dev/shm)" in the_error(output)
        assert "--data.num_workers 0" in the_error(output)


@pytest.mark.slow("runs in processes of their own")
@pytest.mark.parametrize("files", [25, 64])
def test_few_open_files_are_one_sentence(tiny_config, tmp_path, files):
    status, output = train(tiny_config, tmp_path / "run", files=files)
    assert status in (0, 2), output[-2000:]
    if status:
        assert "open files" in the_error(output) or "files are open" in the_error(output)
    assert files < 64 or status == 0


@pytest.mark.slow("runs in processes of their own")
def test_no_folder_for_temporary_files_is_needed(tiny_config, tmp_path):
    status, output = train(tiny_config, tmp_path / "run", TMPDIR=str(tmp_path / "nowhere"))
    assert status == 0, output[-2000:]
