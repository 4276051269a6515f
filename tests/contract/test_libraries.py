"""Methods of peft and LyCORIS against the committed table of what works where."""

import pytest

from tests.contract.libraries import KINDS, TABLE, methods, outcome

ROWS = {cells[1]: cells[2:5] for line in TABLE.read_text().splitlines() if (cells := line.split("|"))[2:]}
CELLS = {name.strip(): [cell.strip() for cell in cells] for name, cells in ROWS.items()}
METHODS = methods()


def test_every_method_of_the_installed_libraries_is_in_the_table():
    assert set(CELLS) - {"method", "---"} == set(METHODS)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", METHODS)
def test_the_table_is_what_happens(name, kind):
    cells = CELLS[name]
    expected = cells[0] if cells[1] == "the same" else cells[KINDS.index(kind)]
    assert outcome(METHODS[name], kind).replace("|", "/") == expected
