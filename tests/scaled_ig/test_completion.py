"""A shell completes verbs, options, choices and files."""

import os
import shutil
import subprocess

import pytest

from scaled_ig.cli import BANK_ACTIONS, VERBS

COMPLETE = """
source "$1"
cd "$2"
while read -r -a words; do
  COMP_WORDS=("${words[@]}") COMP_CWORD=$(( ${#words[@]} - 1 )) COMPREPLY=()
  [ "${COMP_WORDS[COMP_CWORD]}" = _ ] && COMP_WORDS[COMP_CWORD]=""
  _shtab_scaled_ig
  echo "${COMPREPLY[@]}"
done
"""
EXPECTED = {
    "scaled-ig sy": "synthesize",
    "scaled-ig bank _": " ".join(BANK_ACTIONS),
    "scaled-ig pack col": "colmap",
    "scaled-ig pack meshes --up _": "y z",
    "scaled-ig check mi": "mine.yaml",
    "scaled-ig bank merge x --encoding int8_": "int8_difference",
    "scaled-ig fit --preset fa": "fast faces/stage1 faces/stage2 fast_bases fast_epochs fast_short",
    "scaled-ig fit --config mi": "mine.yaml",
    "scaled-ig fit --init": "--init_from",
    "scaled-ig fit --trainer.accu": "--trainer.accumulate_grad_batches",
}


@pytest.fixture(scope="module")
def script(tmp_path_factory, run_scaled_ig):
    def write(shell: str):
        status, said = run_scaled_ig("--print_completion", shell)
        assert status == 0, said[-2000:]
        path = tmp_path_factory.mktemp("shell") / shell
        path.write_text(said)
        return path

    return write


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_bash_completes(tmp_path, script):
    (tmp_path / "mine.yaml").touch()
    call = ["bash", "-c", COMPLETE, "bash", script("bash"), tmp_path]
    done = subprocess.run(call, input="\n".join(EXPECTED) + "\nscaled-ig _\n", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *answers, verbs = done.stdout.splitlines()
    assert dict(zip(EXPECTED, answers, strict=True)) == EXPECTED
    assert set(VERBS) <= set(verbs.split())


def test_zsh_gets_a_script(script):
    text = script("zsh").read_text()
    assert text.startswith("#compdef scaled-ig" + os.linesep)
    assert "--encoding" in text
