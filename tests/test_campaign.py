"""A part of the campaign of faults, see ``tests/faults``; and its table in the docs."""

from contextlib import closing
from pathlib import Path

import pytest

from tests.faults.__main__ import ROWS, failures
from tests.faults.laboratory import Laboratory
from tests.faults.table import PAGE, PROMISES, read_campaign, table_in

SEED = 7


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory):
    with closing(Laboratory(Path(tmp_path_factory.mktemp("laboratory")))) as made:
        yield made


@pytest.mark.slow("a part of the campaign of faults")
@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.part])
def test_promises_hold(laboratory, name):
    tried, failed = failures(laboratory, name, ROWS[name].part, SEED)
    assert tried == ROWS[name].part
    assert not failed


def test_each_row_has_its_promise_and_the_page_has_the_last_campaign():
    assert PROMISES.keys() == ROWS.keys()
    assert table_in(PAGE.read_text()) == read_campaign()
