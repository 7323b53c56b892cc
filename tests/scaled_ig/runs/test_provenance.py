"""What the numbers of a run depend on beside its configuration."""

import json
import subprocess

import pytest
import torch

from data_modules.shapenet import ShapeNetCars
from scaled_ig.errors import UsageError
from scaled_ig.runs.provenance import commit, provenance, read_provenance, write_provenance
from scaled_ig.runs.run_folder import RunFolder


@pytest.fixture
def checkout(tmp_path):
    """A repository that holds a package: its folder, and a function that calls git in it."""

    def git(*words):
        names = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(["git", "-C", tmp_path, *names, *words], check=True, capture_output=True, text=True)

    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    git("init", "-q")
    return package, git


def test_the_commit_is_that_of_the_package(checkout):
    package, git = checkout
    assert commit(package) == "unknown", "an installed package in somebody else's checkout"
    git("add", ".")
    git("commit", "-qm", "a package")
    head = git("rev-parse", "HEAD").stdout.strip()
    assert commit(package) == head
    (package / "new.py").write_text("not added")
    assert commit(package) == head
    (package / "__init__.py").write_text("changed")
    assert commit(package) == f"{head}+changes"


def test_without_git_the_commit_is_unknown(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert commit(checkout[0]) == "unknown"


def test_a_run_says_what_it_was_trained_by_and_on(tiny_run, tiny_pack):
    (line,) = read_provenance(RunFolder(tiny_run))
    assert line["pack"] == str(tiny_pack)
    assert line["pack_sha256"] == json.loads((tiny_pack / "pack.json").read_text())["sha256"]
    assert line["versions"]["torch"] == torch.__version__
    assert line["seed"] == 3
    assert line.items() >= {**provenance(ShapeNetCars(str(tiny_pack)), 3), "directory": line["directory"]}.items()


def test_each_start_is_a_line(tmp_path):
    run = RunFolder(tmp_path)
    assert read_provenance(run) == []
    for seed in (1, 2):
        write_provenance(run, {"seed": seed})
    assert [line["seed"] for line in read_provenance(run)] == [1, 2]


@pytest.mark.parametrize("content", ["[1]", "{"])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "provenance.jsonl").write_text(content)
    with pytest.raises(UsageError, match=r"provenance.jsonl is damaged"):
        read_provenance(RunFolder(tmp_path))
