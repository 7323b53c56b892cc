"""Banks that were written once, of scenes with hulls and without, a version an encoding: they open and render forever.

The file beside each has what its scenes rendered then, [2, 3, 8, 8] in [0, 1] of ``orbit(2)``.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from scaled_ig.bank.blocks import read_record
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.bank.scene_records import ENCODINGS, decode, encode
from scaled_ig.cameras import orbit

KEPT = Path(__file__).parent / "kept_banks"


@pytest.fixture(params=["without_hulls", "with_hulls"])
def bank(request) -> SceneBank:
    return SceneBank.open(KEPT / request.param)


def test_it_is_whole(bank):
    assert not bank.verify()
    assert list(bank.versions) == list(ENCODINGS)
    assert len(bank) == 8


def test_its_scenes_render_as_they_did(bank):
    with np.load(bank.path.with_suffix(".npz")) as renderings:
        assert sorted(renderings) == sorted(bank.ids)
        for name in bank.ids:
            np.testing.assert_allclose(bank[name].render(orbit(2)).numpy(), renderings[name], atol=1e-5)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_its_scenes_have_the_same_records_today(bank, encoding):
    """What is compressed may differ with the library that does it."""
    mean, texels = bank.mean(encoding), bank.load_version(encoding, []).representation.texels
    for exact, record in zip(bank.scenes("float32"), bank.scenes(encoding), strict=True):
        content = encode(bank[exact.id].rows, encoding, mean, texels)
        again, then = decode(content, encoding, mean, texels), bank[record.id].rows
        assert all(torch.equal(again[name], row) for name, row in then.items())
        assert "hull" in then or encoding == "int8_difference" or content == read_record(bank.path, record)
