"""Paired statistics against scipy and against values worked by hand."""

import numpy as np
import pytest
from scipy import stats

from lgutils import report
from lgutils.errors import UserError


def test_interval_of_a_mean_worked_by_hand():
    # 1, 2, 3: mean 2, s = 1, standard error 1/sqrt(3), t(0.975, 2) = 4.302653
    found = report.mean([1, 2, 3])
    assert (found.mean, found.n) == (2, 3)
    assert found.high - 2 == pytest.approx(4.302653 / 3**0.5, rel=1e-6)
    assert 2 - found.low == pytest.approx(4.302653 / 3**0.5, rel=1e-6)


def test_paired_equals_scipys_paired_test():
    a, b = np.random.default_rng(0).random((2, 12))
    theirs = stats.ttest_rel(a, b).confidence_interval(0.95)
    ours = report.paired(a, b)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


def test_the_interval_covers_the_truth_in_19_of_20_cases():
    draws = np.random.default_rng(1).normal(0.3, 1, (2000, 10))
    intervals = [report.mean(row) for row in draws]
    share = np.mean([i.low <= 0.3 <= i.high for i in intervals])
    assert 0.935 < share < 0.965


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([1, 2, 3, 2], "supported"),
        ([-1, -2, -3, -2], "contradicted"),
        ([-1, 1, 2, -2], "not supported"),
    ],
)
def test_verdict(values, verdict):
    assert report.mean(values).verdict == verdict


def test_equal_values_give_an_interval_without_width():
    assert report.mean([0.5, 0.5]) == report.Interval(0.5, 0.5, 0.5, 2)


def test_one_value_has_no_interval():
    with pytest.raises(UserError, match="at least 2"):
        report.mean([1.0])


def test_pairs_of_different_length_are_refused():
    with pytest.raises(UserError, match="3 and 2"):
        report.paired([1, 2, 3], [1, 2])


def test_a_claim_says_effect_n_and_verdict():
    claim = report.Claim("a above b", report.mean([0.1, 0.2, 0.3]))
    assert str(claim) == "a above b: +20.0 [-4.8, +44.8] points, n = 3: not supported"


def test_all_public_names_exist():
    assert [name for name in report.__all__ if not hasattr(report, name)] == []
