"""A bank that was written before scenes had hulls, a version an encoding: it opens and renders forever as it did then.

``old_bank_renderings.npz`` has what its scenes rendered when they were written, [2, 3, 8, 8] in [0, 1] of ``orbit(2)``.
"""

from pathlib import Path

import numpy as np
import pytest

from scaled_ig.bank_files.blocks import read_record
from scaled_ig.cameras import orbit
from scaled_ig.scene_bank import SceneBank
from scaled_ig.scene_records import ENCODINGS, encode

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def bank() -> SceneBank:
    return SceneBank.open(HERE / "old_bank")


def test_it_is_whole(bank):
    assert not bank.verify()
    assert list(bank.versions) == list(ENCODINGS)
    assert len(bank) == 8


def test_its_scenes_render_as_they_did(bank):
    with np.load(HERE / "old_bank_renderings.npz") as renderings:
        assert sorted(renderings) == sorted(bank.ids)
        for name in bank.ids:
            np.testing.assert_allclose(bank[name].render(orbit(2)).numpy(), renderings[name], atol=1e-5)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_same_scenes_have_the_same_records_today(bank, encoding):
    mean = bank.mean(encoding)
    for exact, record in zip(bank.scenes("float32"), bank.scenes(encoding), strict=True):
        assert encode(bank[exact.id].rows, encoding, mean) == read_record(bank.path, record)
