"""Intervals and baselines against values worked out by hand or by an outside formula."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eyespot.eval.statistics import best_constant, paired_difference, wilson


def test_wilson_matches_a_published_example():
    low, high = wilson(0.5, 100)  # Brown, Cai & DasGupta 2001: 0.404 to 0.596
    assert (round(low, 3), round(high, 3)) == (0.404, 0.596)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))))
def test_wilson_always_holds_the_share_and_stays_between_0_and_1(case):
    n, k = case
    low, high = wilson(k / n, n)
    assert 0 <= low <= k / n <= high <= 1


def test_paired_difference_is_narrower_than_unpaired_when_items_agree():
    a, b = [1.0, 1.0, 0.0, 1.0] * 25, [1.0, 0.0, 0.0, 1.0] * 25
    mean, low, high = paired_difference(a, b)
    assert mean == 0.25
    assert 0.16 < low < 0.17 and 0.33 < high < 0.34


def test_paired_difference_refuses_other_items():
    with pytest.raises(ValueError, match="same items"):
        paired_difference([1.0], [])


def test_best_constant_is_the_commonest_target():
    assert best_constant(["a", "b", "a"]) == ("a", pytest.approx(2 / 3))
    assert best_constant([]) == ("", 0.0)
