"""Bisection on a log scale against arbitrary step functions, and the size over seeds by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.search.bisection import Bisection, Crossing, combine_seeds, interpolate


def finish(bisection: Bisection, truth: float) -> tuple[Bisection, list[int]]:
    """The finished bisection if sizes from `truth` upwards reach the goal, and the sizes measured."""
    sizes = []
    while (size := bisection.next_size()) is not None:
        sizes.append(size)
        bisection = bisection.with_result(size, size >= truth)
    return bisection, sizes


@given(
    st.integers(1, 3000), st.floats(1, 1e4), st.floats(1.1, 30), st.sampled_from([1.2, 2, 4]), st.floats(0.5, 2 * 10**7)
)
def test_any_threshold_is_enclosed(smallest, span, factor, resolution, truth):
    start = Bisection.over(smallest, round(smallest * span), factor, resolution)
    result, sizes = finish(start, truth)
    assert len(set(sizes)) == len(sizes) <= start.steps_left()
    largest = start.grid[-1]
    if result.below is None:
        assert result.reaching == smallest >= truth
    elif result.reaching is None:
        assert result.below == largest < truth
    else:
        assert result.below < truth <= result.reaching
        assert result.reaching <= resolution * result.below or result.reaching == result.below + 1


def test_order_of_sizes_by_hand():
    """From the middle of 10, 100, 1000, 10000 outward, then halves on the log scale."""
    result, sizes = finish(Bisection.over(10, 10_000, 10, 2), 2000)
    assert sizes == [100, 1000, 10_000, 3162, 1778]
    assert (result.below, result.reaching) == (1778, 3162)


@given(st.floats(1, 1e5), st.floats(1, 1e5))
def test_another_bisection_gives_a_starting_point_but_no_answer(other_truth, truth):
    start = Bisection.over(10, 10_000, 10, 2)
    leader, _ = finish(start, other_truth)
    follower = start.starting_from(leader.below, leader.reaching)
    result, sizes = finish(follower, truth)
    assert sizes[0] == (leader.reaching or leader.below)
    assert result.below is None or result.below < truth
    assert result.reaching is None or result.reaching >= truth
    assert result.below is not None or result.reaching == 10
    assert result.reaching is not None or result.below == 10_000
    if result.below is not None and result.reaching is not None:
        assert result.reaching <= 2 * result.below or result.reaching == result.below + 1
    if (leader.below or 0) < truth <= (leader.reaching or math.inf):
        assert len(sizes) <= 2


def test_a_starting_point_outside_the_range_is_ignored():
    assert Bisection.over(100, 1000, 10, 2).starting_from(10, 50).next_size() == 100
    assert Bisection.over(100, 1000, 10, 2).starting_from(50, 300).next_size() == 300
    assert Bisection.over(5, 5, 10, 2).starting_from(50, 300).next_size() == 5


def test_grid_sizes_close_to_the_starting_point_are_dropped():
    follower = Bisection.over(287, 2_870_000, 10, 4).starting_from(316_228, 1_000_000)
    assert follower.grid == (287, 2870, 28_700, 316_228, 1_000_000, 2_870_000)
    _, sizes = finish(follower, 200_000)
    assert sizes == [1_000_000, 316_228, 28_700, 95_267]


def test_the_upper_bound_of_steps_falls_with_every_result():
    bisection = Bisection.over(1, 64, 4, 2)
    assert bisection.steps_left() == 4  # 4 fails, 16 fails, 64 reaches, 32
    while (size := bisection.next_size()) is not None:
        after = bisection.with_result(size, size > 20)
        assert after.steps_left() < bisection.steps_left()
        bisection = after


def test_a_crossing_is_linear_in_the_logarithm():
    bisection = Bisection((10, 1000), 2.0, below=10, reaching=1000)
    assert interpolate(bisection, {10: 0.0, 1000: 1.0}, 0.5).size == pytest.approx(100)
    assert interpolate(bisection, {10: 5.0, 1000: 1.0}, 2.0).size == pytest.approx(
        10 ** (1 + 2 * 0.75)
    )  # lower is better
    assert interpolate(bisection, {10: None, 1000: 1.0}, 0.5).size == 1000, (
        "the run at 10 failed, so there is nothing to interpolate"
    )


def test_combining_seeds_by_hand():
    # logs 4, 5, 6 (base 10): mean 5, standard error 1 / sqrt(3), t(0.975, 2) = 4.303
    result = combine_seeds([Crossing(10.0**k, 1, 10**9) for k in (4, 5, 6)])
    assert result["value"] == pytest.approx(1e5)
    assert math.log10(result["high"]) == pytest.approx(5 + 4.3027 / math.sqrt(3), abs=1e-3)
    assert math.log10(result["low"]) == pytest.approx(5 - 4.3027 / math.sqrt(3), abs=1e-3)


def test_a_seed_outside_the_range_opens_the_interval():
    above, under = Crossing(None, 64, None), Crossing(None, None, 10)
    inside = [Crossing(20.0, 16, 32), Crossing(30.0, 16, 32)]
    result = combine_seeds([*inside, above])
    assert (result["value"], result["low"], result["high"]) == (30, 20, None)
    assert "1 never reach the target" in result["how"]
    assert combine_seeds([under, *inside])["value"] == 20
    assert combine_seeds([inside[0], above])["value"] is None
    assert combine_seeds([above, above])["low"] is None


def test_a_single_seed_has_the_enclosing_sizes():
    result = combine_seeds([Crossing(20.0, 16, 32)])
    assert (result["value"], result["low"], result["high"], result["how"]) == (
        20,
        16,
        32,
        "one seed, between the sizes that enclose its crossing",
    )
