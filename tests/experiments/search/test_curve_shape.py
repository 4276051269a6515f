"""Shapes of quality over size: a plateau, a curve that never crosses, a crossing by chance, an ordinary one."""

import pytest

from experiments.search.bisection import Crossing
from experiments.search.curve_shape import shape

# sd-pokemon at aa86512: rank 8, 16 and 64 reach 89.7, 89.0 and 89.6 % of full's gain; the target was 90 %
PLATEAU = {1: 0.55, 4: 0.8, 8: 0.897, 16: 0.890, 64: 0.896}
RISING = {1: 0.1, 4: 0.3, 16: 0.5, 64: 0.7}


@pytest.mark.parametrize(
    ("gained", "crossing", "words"),
    [
        (
            PLATEAU,
            Crossing(None, 64, None),
            "the target is never reached: a plateau, 89.0% to 89.7% of the gain from 8 to 64",
        ),
        (
            RISING,
            Crossing(None, 64, None),
            "the target is never reached: 70.0% of the gain at 64, without a plateau",
        ),
        ({}, Crossing(None, 64, None), "the target is never reached: every run failed"),
        (
            PLATEAU | {64: 0.902},
            Crossing(60.0, 16, 64),
            "the target lies on a plateau (89.0% to 90.2% of the gain from 16 to 64), where noise decides the crossing",
        ),
        (RISING | {64: 0.93}, Crossing(60.0, 16, 64), None),
        ({16: 0.89, 18: 0.905}, Crossing(17.0, 16, 18), None),  # steep: .015 for an eighth more
        ({64: 0.95}, Crossing(64.0, 16, 64), None),  # the run at 16 failed
        ({1: 0.95}, Crossing(None, None, 1), None),
    ],
)
def test_shape(gained, crossing, words):
    assert shape(gained, crossing) == words
