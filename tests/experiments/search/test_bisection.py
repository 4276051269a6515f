"""The search on a log scale, against every step function; and the size over seeds, by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.search.bisection import Bracket, Crossing, crossing, over_seeds


def searched(bracket: Bracket, truth: float) -> tuple[Bracket, list[int]]:
    """The finished bracket where sizes from `truth` on reach, and the sizes measured."""
    sizes = []
    while (size := bracket.next()) is not None:
        sizes.append(size)
        bracket = bracket.told(size, size >= truth)
    return bracket, sizes


@given(
    st.integers(1, 3000), st.floats(1, 1e4), st.floats(1.1, 30), st.sampled_from([1.2, 2, 4]), st.floats(0.5, 2 * 10**7)
)
def test_any_threshold_is_bracketed(smallest, span, factor, resolution, truth):
    start = Bracket.over(smallest, round(smallest * span), factor, resolution)
    found, sizes = searched(start, truth)
    assert len(set(sizes)) == len(sizes) <= start.left()
    largest = start.grid[-1]
    if found.below is None:
        assert found.reaching == smallest >= truth
    elif found.reaching is None:
        assert found.below == largest < truth
    else:
        assert found.below < truth <= found.reaching
        assert found.reaching <= resolution * found.below or found.reaching == found.below + 1


def test_the_order_by_hand():
    """From the middle of 10, 100, 1000, 10000 outward, then halves on the log scale."""
    found, sizes = searched(Bracket.over(10, 10_000, 10, 2), 2000)
    assert sizes == [100, 1000, 10_000, 3162, 1778]
    assert (found.below, found.reaching) == (1778, 3162)


@given(st.floats(1, 1e5), st.floats(1, 1e5))
def test_another_search_gives_a_place_to_begin_and_no_answer(there, here):
    start = Bracket.over(10, 10_000, 10, 2)
    led, _ = searched(start, there)
    follower = start.beginning(led.below, led.reaching)
    found, sizes = searched(follower, here)
    assert sizes[0] == (led.reaching or led.below)
    assert found.below is None or found.below < here
    assert found.reaching is None or found.reaching >= here
    assert found.below is not None or found.reaching == 10
    assert found.reaching is not None or found.below == 10_000
    if found.below is not None and found.reaching is not None:
        assert found.reaching <= 2 * found.below or found.reaching == found.below + 1
    if (led.below or 0) < here <= (led.reaching or math.inf):
        assert len(sizes) <= 2


def test_a_place_to_begin_outside_the_range_is_left_out():
    assert Bracket.over(100, 1000, 10, 2).beginning(10, 50).next() == 100
    assert Bracket.over(100, 1000, 10, 2).beginning(50, 300).next() == 300
    assert Bracket.over(5, 5, 10, 2).beginning(50, 300).next() == 5


def test_a_grid_of_its_own_adds_no_size_beside_where_it_begins():
    follower = Bracket.over(287, 2_870_000, 10, 4).beginning(316_228, 1_000_000)
    assert follower.grid == (287, 2870, 28_700, 316_228, 1_000_000, 2_870_000)
    _, sizes = searched(follower, 200_000)
    assert sizes == [1_000_000, 316_228, 28_700, 95_267]


def test_the_most_that_is_left_falls_with_each_answer():
    bracket = Bracket.over(1, 64, 4, 2)
    assert bracket.left() == 4  # 4 fails, 16 fails, 64 reaches, 32
    while (size := bracket.next()) is not None:
        after = bracket.told(size, size > 20)
        assert after.left() < bracket.left()
        bracket = after


def test_a_crossing_is_linear_in_the_logarithm():
    bracket = Bracket((10, 1000), 2.0, below=10, reaching=1000)
    assert crossing(bracket, {10: 0.0, 1000: 1.0}, 0.5).size == pytest.approx(100)
    assert crossing(bracket, {10: 5.0, 1000: 1.0}, 2.0).size == pytest.approx(10 ** (1 + 2 * 0.75))  # lower is better
    assert crossing(bracket, {10: None, 1000: 1.0}, 0.5).size == 1000, "the run at 10 failed: nothing to interpolate"


def test_seeds_by_hand():
    # logs 4, 5, 6 (base 10): mean 5, standard error 1 / sqrt(3), t(0.975, 2) = 4.303
    result = over_seeds([Crossing(10.0**k, 1, 10**9) for k in (4, 5, 6)])
    assert result["value"] == pytest.approx(1e5)
    assert math.log10(result["high"]) == pytest.approx(5 + 4.3027 / math.sqrt(3), abs=1e-3)
    assert math.log10(result["low"]) == pytest.approx(5 - 4.3027 / math.sqrt(3), abs=1e-3)


def test_a_seed_beyond_the_range_opens_the_interval():
    above, under = Crossing(None, 64, None), Crossing(None, None, 10)
    inside = [Crossing(20.0, 16, 32), Crossing(30.0, 16, 32)]
    result = over_seeds([*inside, above])
    assert (result["value"], result["low"], result["high"]) == (30, 20, None)
    assert "1 lie above" in result["how"]
    assert over_seeds([under, *inside])["value"] == 20
    assert over_seeds([inside[0], above])["value"] is None
    assert over_seeds([above, above])["low"] is None


def test_one_seed_knows_its_bracket_only():
    result = over_seeds([Crossing(20.0, 16, 32)])
    assert (result["value"], result["low"], result["high"], result["how"]) == (20, 16, 32, "the bracket of one seed")
