"""A sound pack of three scenes in two files, and copies of it to be spoilt."""

import shutil
from pathlib import Path

import pytest

from tests.data_modules.checking.packs import make_pack, sound_scenes


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return make_pack(tmp_path_factory.mktemp("pack") / "own", sound_scenes(), per_shard=2)


@pytest.fixture
def copy(written, tmp_path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "copy"))
