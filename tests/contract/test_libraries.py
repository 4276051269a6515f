"""Methods of peft and LyCORIS against the committed table of what works where."""

import pytest

from tests.contract.libraries import methods, read_rows, row

ROWS = read_rows()
METHODS = methods()


def test_every_method_of_the_installed_libraries_is_in_the_table():
    assert ROWS.keys() == METHODS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_the_table_is_what_happens(name):
    assert row(name, METHODS[name]) == ROWS[name]
