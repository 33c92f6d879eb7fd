"""Statistics against small tables worked by hand, against scipy, and on data with known truth."""

from dataclasses import astuple

import numpy as np
import pytest
from scipy import stats

from lgutils import report
from lgutils.errors import UserError


def rate_is(hits: list[bool], rate: float) -> bool:
    """Whether a count is one that a binomial of this rate gives in 9999 of 10000 cases."""
    low, high = stats.binom.interval(0.9999, len(hits), rate)
    return low <= sum(hits) <= high


def covers(interval: report.Interval, truth: float) -> bool:
    return bool(interval.low <= truth <= interval.high)


# --- text -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ends", "unit", "text"),
    [
        ((0.1234, 0.0911, 0.155), "points", "+12.3 [+9.1, +15.5] points"),
        ((1.854, 1.42, 2.31), "times", "1.85 [1.42, 2.31] times"),
        ((340.4, 280, 410), "steps", "340 [280, 410] steps"),
        ((8.25, 6.1, np.inf), "shots", "8.25 [6.10, inf] shots"),
        ((0, 0, 0), "steps", "0.00 [0.00, 0.00] steps"),
    ],
)
def test_text_of_an_interval(ends, unit, text):
    assert report.Interval(*ends, 20).text(unit) == text


def test_digits_set_the_decimals_of_all_three_numbers():
    assert report.Interval(12.34, 9.87, 15.5, 20).text("steps", digits=2) == "12 [10, 16] steps"


# --- bootstrap ------------------------------------------------------------------------------------


def test_bootstrap_equals_scipys_paired_bca():
    a, b = np.random.default_rng(0).random((2, 12))

    def gap(x, y, axis):
        return np.median(x, axis) - y.mean(axis)

    theirs = stats.bootstrap((a, b), gap, paired=True, n_resamples=999, method="BCa", rng=3)
    ours = report.bootstrap(a, b, statistic=gap, seed=3, resamples=999)
    low, high = theirs.confidence_interval
    assert (ours.mean, ours.low, ours.high, ours.n) == (gap(a, b, -1), low, high, 12)


def test_bootstrap_shows_the_tasks_of_a_table_on_the_last_axis():
    table = np.random.default_rng(0).random((10, 3))
    first = report.bootstrap(table, statistic=lambda x, axis: x.mean(axis)[0])
    assert astuple(first) == pytest.approx(
        astuple(report.bootstrap(table[:, 0], statistic=np.mean))
    )


def test_bootstrap_covers_a_skewed_mean():
    # 500 resamples of 60 tasks; coverage at this size lies about one point below nominal
    draws = np.random.default_rng(2).exponential(1, (300, 60))
    found = [report.bootstrap(row, statistic=np.mean, resamples=500) for row in draws]
    assert rate_is([covers(i, 1) for i in found], 0.95)


def test_bootstrap_of_equal_values_has_no_width():
    assert report.bootstrap([0.5] * 4, statistic=np.mean) == report.Interval(0.5, 0.5, 0.5, 4)


def test_bootstrap_falls_back_to_percentiles_where_bca_is_degenerate():
    # No resample lies below the minimum, so its bias correction is infinite. A resample holds the
    # smallest of 8 values in 1 - (7/8)^8 = 66 % of cases, and so the interval begins there.
    values = np.arange(8.0)
    found = report.bootstrap(values, statistic=np.min)
    assert found.low == found.mean == 0
    assert 0 < found.high < 4


def test_bootstrap_is_defined_for_infinite_statistics():
    values = np.array([1.0, 2, 3, 4])

    def or_never(x, axis):
        return np.where(x.mean(axis) > 2, np.inf, x.mean(axis))

    found = report.bootstrap(values, statistic=or_never)
    assert (found.mean, found.high) == (np.inf, np.inf)
    assert 1 <= found.low <= 2


def test_bootstrap_refuses_a_statistic_that_is_nan():
    with pytest.raises(UserError, match="not a number"):
        report.bootstrap([1, 2, 3], statistic=lambda x, axis: x.mean(axis) * np.nan)


def test_same_seed_same_interval_and_another_seed_another():
    values = np.random.default_rng(0).random(10)
    first, again, other = (report.bootstrap(values, statistic=np.mean, seed=s) for s in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ((), "at least one sample"),
        (([1, 2, 3], [1, 2]), "3 and 2"),
        (([1.0],), "at least 2"),
        (([1, np.nan],), "1 values are not finite"),
        ((np.ones((2, 2, 2)),), "1 or 2 axes"),
        (([[1, 2], [3]],), "full table"),
        ((["a", "b"],), "full table"),
    ],
)
def test_bootstrap_refuses_bad_samples(samples, message):
    with pytest.raises(UserError, match=message):
        report.bootstrap(*samples, statistic=np.mean)


# --- tasks and seeds ------------------------------------------------------------------------------


def test_hierarchical_with_one_seed_is_the_bootstrap_of_tasks():
    values = np.random.default_rng(0).normal(0, 1, (40, 1))
    ours = report.hierarchical(values)
    theirs = stats.bootstrap((values[:, 0],), np.mean, method="percentile", rng=1)
    assert ours.n == 40
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.02)


def test_hierarchical_has_the_variance_worked_by_hand():
    # Tasks (0, 2) and (10, 12). Redrawing tasks: variance of their means 1, 11 is 25. Redrawing
    # seeds: 1 within each task, over 2 seeds = 0.5. Mean of 2 tasks: (25 + 0.5) / 2 = 12.75. The 16
    # outcomes of 4 draws from 4 numbers run from 0 to 12; each end has 1/2^2 * 1/2^4 = 1.6 %, so
    # the 2.5 % quantiles are the next ones: 0.5 and 11.5.
    found = report.hierarchical([[0, 2], [10, 12]], resamples=20000)
    assert (found.mean, found.low, found.high) == (6, 0.5, 11.5)


def test_hierarchical_covers_the_mean():
    random = np.random.default_rng(3)
    draws = random.normal(0, 1, (300, 40, 1)) + random.normal(0, 0.5, (300, 40, 3))
    assert rate_is([covers(report.hierarchical(v, resamples=500), 0) for v in draws], 0.95)


def test_hierarchical_is_wider_than_seeds_taken_for_tasks():
    random = np.random.default_rng(4)
    values = random.normal(0, 1, (20, 1)) + random.normal(0, 0.1, (20, 5))
    ours, naive = report.hierarchical(values), report.mean(values.ravel())
    assert ours.high - ours.low > 1.5 * (naive.high - naive.low)


def test_hierarchical_refuses_a_table_without_seeds():
    with pytest.raises(UserError, match="at least one seed"):
        report.hierarchical(np.ones((3, 0)))


# --- ratios ---------------------------------------------------------------------------------------


def test_a_common_factor_is_a_ratio_without_width():
    b = np.arange(1.0, 9)
    found = report.ratio(2 * b, b)
    assert (found.mean, found.low, found.high, found.n) == (2, 2, 2, 8)


def test_ratio_is_one_of_means_not_a_mean_of_ratios():
    assert report.ratio([1, 3], [1, 1]).mean == 2
    assert report.ratio([1, 1], [1, 3]).mean == 0.5


def test_ratio_covers_the_truth():
    random = np.random.default_rng(5)
    b = random.gamma(8, 10, (200, 40))
    a = b * random.gamma(10, 0.05, (200, 40))
    assert rate_is([covers(report.ratio(*pair), 0.5) for pair in zip(a, b)], 0.95)


def test_a_ratio_with_zeros_below_is_bounded_by_infinity():
    # 1 of 4 resamples of 2 tasks has only zeros below, more than the 2.5 % beyond the interval
    found = report.ratio([1, 1], [0, 1])
    assert (found.mean, found.low, found.high) == (2, 1, np.inf)


@pytest.mark.parametrize(("a", "b"), [([1, 2], [0, 0]), ([-1, 2], [1, 1]), ([1, 2], [1, -1])])
def test_ratio_refuses_what_has_no_ratio(a, b):
    with pytest.raises(UserError, match="not all 0"):
        report.ratio(a, b)


# --- steps to an accuracy -------------------------------------------------------------------------


def test_steps_to_is_the_first_logged_step_at_or_above():
    time, reached = report.steps_to([10, 20, 30], [[0.2, 0.6, 0.5], [0.1, 0.2, 0.3]], 0.55)
    assert time.tolist() == [20, 30]
    assert reached.tolist() == [True, False]


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ([0.5, 0.4, 0.6], (10, True)),  # reached at the first step, and lost again
        ([0.1, 0.5, 0.6], (20, True)),  # equal to the threshold
        ([0.1, 0.4, 0.5], (30, True)),  # at the horizon, but reached
        ([0.1, 0.4, 0.49], (30, False)),  # never
    ],
)
def test_steps_of_one_curve(curve, expected):
    assert report.steps_to([10, 20, 30], curve, 0.5) == expected


def test_each_task_may_have_its_own_threshold():
    time, _ = report.steps_to([1, 2], [[0.3, 0.6], [0.3, 0.6]], [0.3, 0.5])
    assert time.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("steps", "curve", "threshold", "message"),
    [
        ([2, 1], [0.1, 0.2], 0.5, "ascend"),
        ([1, 1], [0.1, 0.2], 0.5, "ascend"),
        ([-1, 1], [0.1, 0.2], 0.5, "ascend"),
        ([], [], 0.5, "ascend"),
        ([1, 2, 3], [0.1, 0.2], 0.5, "2 values for 3 steps"),
        ([1, 2], [[0.1, 0.2]], [0.5, 0.5], "threshold has 2 values"),
        ([1, 2], [0.1, np.nan], 0.5, "not finite"),
    ],
)
def test_steps_to_refuses_bad_input(steps, curve, threshold, message):
    with pytest.raises(UserError, match=message):
        report.steps_to(steps, curve, threshold)


TIME, REACHED = [1, 2, 4, 4], [True, True, False, False]


def test_survival_worked_by_hand():
    # 4 tasks at risk: one gets there at 1, another at 2, two never
    steps, share = report.survival(TIME, REACHED)
    assert steps.tolist() == [0, 1, 2, 4]
    assert share.tolist() == [1, 0.75, 0.5, 0.5]


def test_a_task_that_gets_there_at_the_horizon_counts():
    _, share = report.survival([1, 2, 4, 4], [True, True, True, False])
    assert share.tolist() == [1, 0.75, 0.5, 0.25]


def test_survival_where_no_task_gets_there():
    steps, share = report.survival([4, 4], [False, False])
    assert (steps.tolist(), share.tolist()) == ([0, 4], [1, 1])


def test_survival_where_a_task_is_there_from_the_start():
    steps, share = report.survival([0, 4], [True, False])
    assert (steps.tolist(), share.tolist()) == ([0, 4], [0.5, 0.5])


@pytest.mark.parametrize("horizon", [4, 1.5])
def test_restricted_mean_is_the_area_under_the_survival_curve(horizon):
    # to 4: 1 * 1 + 1 * 0.75 + 2 * 0.5 = 2.75; to 1.5: 1 + 0.5 * 0.75 = 1.375
    steps, share = report.survival(TIME, REACHED)
    area = (np.diff(np.minimum(steps, horizon)) * share[:-1]).sum()
    assert area == {4: 2.75, 1.5: 1.375}[horizon]
    assert report.restricted(TIME, REACHED, horizon).mean == area


def test_restricted_time_has_the_interval_of_a_mean():
    assert report.restricted(TIME, REACHED) == report.mean(TIME)


@pytest.mark.parametrize("horizon", [5, 0, float("nan")])
def test_restricted_refuses_a_horizon_that_was_not_watched(horizon):
    with pytest.raises(UserError, match=r"up to 4\.0"):
        report.restricted(TIME, REACHED, horizon)


def test_different_horizons_are_refused():
    with pytest.raises(UserError, match="one horizon"):
        report.survival([2, 4], [False, False])


def test_times_and_flags_must_agree():
    with pytest.raises(UserError, match="3 flags"):
        report.restricted([2, 4], [True, True, False])


def test_area_worked_by_hand():
    # (0.1 + 0.5) / 2 * 1 + (0.5 + 0.7) / 2 * 2 = 1.5, over 3 steps
    assert report.area([1, 3], [0.5, 0.7], 0.1) == pytest.approx(0.5)


def test_area_of_a_constant_is_the_constant_for_each_task():
    curves = [[0.2, 0.2, 0.2], [0.6, 0.6, 0.6]]
    np.testing.assert_allclose(report.area([5, 7, 20], curves, [0.2, 0.6]), [0.2, 0.6])


def test_area_uses_step_0_where_it_was_logged():
    assert report.area([0, 2], [0.4, 0.6], start=0.0) == pytest.approx(0.5)


def test_area_needs_one_start_a_task():
    with pytest.raises(UserError, match="start has 3 values"):
        report.area([1, 2], [[0.1, 0.2]] * 2, [0.1] * 3)


def test_area_needs_a_later_step():
    with pytest.raises(UserError, match="later steps"):
        report.area([0], [0.5], 0.2)


# --- sensitivity ----------------------------------------------------------------------------------

TABLE = np.array([[0.5, 0.6, 0.7], [0.6, 0.5, 0.8], [0.9, 0.7, 0.4]])


def test_the_best_cell_is_chosen_on_the_other_tasks():
    # sums over the other tasks: (1.5, 1.2, 1.2) first, (1.4, 1.3, 1.1) first, (1.1, 1.1, 1.5) last
    np.testing.assert_allclose(report.sensitivity(TABLE).best, [0.5, 0.6, 0.4])


def test_sensitivity_worked_by_hand():
    found = report.sensitivity(TABLE)
    np.testing.assert_allclose(found.mean, [0.6, 1.9 / 3, 2 / 3])
    np.testing.assert_allclose(found.regret, [-0.1, 0.6 - 1.9 / 3, 0.4 - 2 / 3])
    np.testing.assert_allclose(found.sd[0], 0.1)  # (0.01 + 0 + 0.01) / 2 = 0.1^2
    np.testing.assert_allclose(found.near, [1, 2 / 3, 1])  # above 0.48, 0.58 and 0.38


def test_a_cell_just_2_points_below_is_near():
    found = report.sensitivity([[0.5, 0.48, 0.47], [0.5, 0.48, 0.47]])
    np.testing.assert_allclose(found.near, [2 / 3, 2 / 3])


def test_choosing_among_equal_cells_does_not_flatter():
    # 400 experiments of 10 tasks and 9 cells that differ by chance only
    tables = np.random.default_rng(0).normal(0.5, 0.1, (400, 10, 9))
    regret = report.mean([report.sensitivity(table).regret.mean() for table in tables])
    assert covers(regret, 0)
    assert (tables.max(2) - tables.mean(2)).mean() > 0.1  # as a choice on the same task would


def test_sd_holds_its_level_between_equal_arms_and_regret_does_not():
    # the warning in the docstring of Sensitivity: 150 experiments, two arms, 20 tasks, 9 cells
    random = np.random.default_rng(1)

    def gaps():
        a, b = (report.sensitivity(random.normal(0.5, 0.04, (20, 9))) for _ in range(2))
        return report.p_value(a.sd - b.sd) < 0.05, report.p_value(a.regret - b.regret) < 0.05

    sd, regret = zip(*(gaps() for _ in range(150)))
    assert rate_is(sd, 0.05)
    assert np.mean(regret) > 0.2


def test_a_planted_good_cell_is_found():
    table = np.random.default_rng(0).normal(0.5, 0.02, (20, 9))
    table[:, 4] += 0.2
    found = report.sensitivity(table)
    np.testing.assert_array_equal(found.best, table[:, 4])
    np.testing.assert_allclose(found.near, 1 / 9)


@pytest.mark.parametrize("shape", [(1, 3), (3, 1)])
def test_sensitivity_needs_two_tasks_and_two_cells(shape):
    with pytest.raises(UserError, match="2 tasks and 2 cells"):
        report.sensitivity(np.ones(shape))


# --- shots ----------------------------------------------------------------------------------------

SHOTS, CURVE = [1, 4, 16], np.array([[0.2, 0.4, 0.6]] * 3)


@pytest.mark.parametrize(
    ("target", "shots"),
    [
        (0.5, 8),  # half-way from log 4 to log 16
        (0.4, 4),
        (0.6, 16),
        (0.1, 1),  # below the smallest
        (0.7, np.inf),  # above the largest
    ],
)
def test_shots_worked_by_hand(target, shots):
    found = report.shots_to_match(SHOTS, CURVE, [target] * 3)
    ends = (found.mean, found.low, found.high)
    assert ends == pytest.approx((shots,) * 3)
    assert found.n == 3


def test_the_first_crossing_counts():
    # mean curve 0.5, 0.7, 0.4, 0.8 and target 0.6: half-way from 1 to 4
    curve = [[0.5, 0.7, 0.4, 0.8]] * 2
    assert report.shots_to_match([1, 4, 16, 64], curve, [0.6, 0.6]).mean == pytest.approx(2)


def test_shots_near_the_largest_end_at_infinity():
    random = np.random.default_rng(0)
    curve = CURVE[0] + random.normal(0, 0.05, (20, 3))
    found = report.shots_to_match(SHOTS, curve, curve[:, 2] + random.normal(0, 0.05, 20))
    assert 4 < found.low < 16
    assert found.high == np.inf


def test_shots_near_the_smallest_begin_there():
    random = np.random.default_rng(0)
    curve = CURVE[0] + random.normal(0, 0.05, (20, 3))
    found = report.shots_to_match(SHOTS, curve, curve[:, 0] + random.normal(0, 0.05, 20))
    assert found.low == 1
    assert 1 < found.high < 4


def test_shots_cover_the_truth():
    # log-linear truth 0.2, 0.4, 0.6 and target 0.5: 8 shots; tasks differ, alike in both arms
    random = np.random.default_rng(6)
    task = random.normal(0, 0.1, (100, 40, 1))
    curves = CURVE[0] + task + random.normal(0, 0.04, (100, 40, 3))
    targets = 0.5 + task[..., 0] + random.normal(0, 0.04, (100, 40))
    found = [report.shots_to_match(SHOTS, c, t) for c, t in zip(curves, targets)]
    assert rate_is([covers(i, 8) for i in found], 0.95)


@pytest.mark.parametrize(
    ("shots", "curve", "target", "message"),
    [
        ([0, 1, 2], CURVE, [0.5] * 3, "above 0"),
        ([1, 2], CURVE, [0.5] * 3, "3 values for 2 shots"),
        (SHOTS, CURVE, [0.5] * 2, "3 and 2"),
        (SHOTS, CURVE[0], [0.5] * 3, "2 axes"),
    ],
)
def test_shots_refuse_bad_input(shots, curve, target, message):
    with pytest.raises(UserError, match=message):
        report.shots_to_match(shots, curve, target)


# --- tests ----------------------------------------------------------------------------------------


def test_permutation_p_worked_by_hand():
    # 0.7 and 0.9 are as good or better: (1 + 2) / (1 + 4)
    assert report.permutation_p(0.7, [0.7, 0.9, 0.1, 0.2]) == 0.6


def test_permutation_p_counts_equals_up_to_rounding():
    assert report.permutation_p(0.1 + 0.2, [0.3, 0.1, 0.1]) == 0.5


def test_permutation_p_holds_its_level():
    draws = np.random.default_rng(7).random((2000, 20))
    assert rate_is([report.permutation_p(row[0], row[1:]) <= 0.05 for row in draws], 0.05)


def test_permutation_p_needs_others():
    with pytest.raises(UserError, match="empty"):
        report.permutation_p(0.5, [])


def test_holm_worked_by_hand():
    # sorted 0.005 * 4 = 0.02, 0.01 * 3 = 0.03, 0.03 * 2 = 0.06, and 0.04 * 1 no less than 0.06
    found = report.holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert list(found) == ["a", "b", "c", "d"]
    assert found == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})


def test_holm_stops_at_one_and_leaves_a_single_p_alone():
    assert report.holm({"a": 0.6, "b": 0.9}) == {"a": 1, "b": 1}
    assert report.holm({"a": 0.04}) == {"a": 0.04}
    assert report.holm({}) == {}


def test_holm_holds_the_level_of_the_family():
    draws = np.random.default_rng(8).random((2000, 5))
    rejected = [min(report.holm(dict(zip("abcde", row))).values()) < 0.05 for row in draws]
    assert rate_is(rejected, 1 - 0.99**5)  # any of five below 0.05 / 5


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_holm_refuses_what_is_no_p(p):
    with pytest.raises(UserError):
        report.holm({"a": p})


def test_p_value_equals_scipys_paired_test():
    a, b = np.random.default_rng(0).random((2, 12))
    assert report.p_value(a - b) == pytest.approx(stats.ttest_rel(a, b).pvalue)


def test_p_value_agrees_with_the_interval():
    draws = np.random.default_rng(9).normal(0.5, 1, (200, 12))
    outside = [not covers(report.mean(row), 0) for row in draws]
    assert outside == [report.p_value(row) < 0.05 for row in draws]


@pytest.mark.parametrize("test", [report.p_value, report.wilcoxon_p])
def test_a_null_effect_is_found_in_1_of_20_cases(test):
    draws = np.random.default_rng(10).normal(0, 1, (600, 15))
    assert rate_is([test(row) < 0.05 for row in draws], 0.05)


@pytest.mark.parametrize("test", [report.p_value, report.wilcoxon_p])
def test_a_planted_effect_is_found(test):
    draws = np.random.default_rng(11).normal(1.5, 1, (100, 15))
    assert np.mean([test(row) < 0.05 for row in draws]) > 0.95


def test_p_of_equal_differences():
    assert report.p_value([0, 0, 0]) == 1
    assert report.p_value([0.1, 0.1, 0.3 - 0.2]) == 0  # equal but for rounding
    assert report.wilcoxon_p([0, 0, 0]) == 1


def test_wilcoxon_worked_by_hand():
    # five differences of one sign: 2 of the 2^5 patterns of signs are as extreme
    assert report.wilcoxon_p([0.1, 0.2, 0.3, 0.4, 0.5]) == 2 / 32


def test_wilcoxon_ties_what_is_equal_but_for_rounding():
    assert report.wilcoxon_p([0.3 - 0.2, 0.1, -0.1, 0.4]) == report.wilcoxon_p([1, 1, -1, 4])


@pytest.mark.parametrize("test", [report.p_value, report.wilcoxon_p])
def test_one_difference_has_no_p(test):
    with pytest.raises(UserError, match="at least 2"):
        test([0.1])


def test_equivalent_is_the_larger_of_two_one_sided_tests():
    a, b = np.random.default_rng(0).normal(0, 0.02, (2, 15))
    lower = stats.ttest_rel(a + 0.02, b, alternative="greater").pvalue
    upper = stats.ttest_rel(a - 0.02, b, alternative="less").pvalue
    assert report.equivalent(a, b, 0.02) == pytest.approx(max(lower, upper))


def test_equivalence_at_the_margin_is_found_in_1_of_20_cases():
    a, b = np.random.default_rng(12).normal(0, 0.01, (2, 500, 15))
    assert rate_is([report.equivalent(x + 0.03, y, 0.03) < 0.05 for x, y in zip(a, b)], 0.05)


def test_equivalence_of_equal_arms_is_found():
    a, b = np.random.default_rng(13).normal(0, 0.01, (2, 100, 15))
    assert np.mean([report.equivalent(x, y, 0.03) < 0.05 for x, y in zip(a, b)]) > 0.95


@pytest.mark.parametrize(("gap", "p"), [(0, 0), (0.01, 0), (0.03, 1), (-0.03, 1), (0.02, 1)])
def test_equivalence_of_a_constant_difference(gap, p):
    assert report.equivalent(np.full(4, gap), np.zeros(4), 0.02) == p


@pytest.mark.parametrize("margin", [0, -1, float("nan"), float("inf")])
def test_equivalence_needs_a_margin(margin):
    with pytest.raises(UserError, match="margin"):
        report.equivalent([1, 2], [1, 2], margin)


# --- variance components --------------------------------------------------------------------------


def test_components_worked_by_hand():
    # Condensings 0, 2 of one ancestor and 6, 8 of the other; tasks -1, +1; nothing else.
    # condensing: variance of (0, 2) = 2. ancestor: of (1, 7) = 18, less 2 / 2 for the condensings
    # averaged in it = 17. task: of (-1, 1) = 2.
    values = np.array([[0.0, 2], [6, 8]])[:, :, None, None] + np.array([-1.0, 1])[:, None]
    found = report.components(values)
    assert found == pytest.approx({"ancestor": 17, "condensing": 2, "task": 2, "rest": 0})


def test_components_recover_planted_variances():
    # sd 3, 2, 2, 1; the mean over 400 experiments within 4 standard errors
    random = np.random.default_rng(14)

    def experiment():
        parts = [(3, (5, 1, 1, 1)), (2, (5, 4, 1, 1)), (2, (1, 1, 6, 1)), (1, (5, 4, 6, 2))]
        return list(report.components(sum(random.normal(0, *p) for p in parts)).values())

    found = np.array([experiment() for _ in range(400)])
    error = stats.sem(found)
    assert (abs(found.mean(0) - [9, 4, 4, 1]) < 4 * error).all()


def test_components_equal_a_one_way_analysis_where_tasks_do_not_matter():
    # with tasks and seeds pooled, the mean squares of condensings are those of scipy's F test
    values = np.random.default_rng(0).normal(0, 1, (2, 2, 2, 200))
    values += np.array([[0, 2], [5, 6]])[:, :, None, None]
    within = (stats.f_oneway(*values[0].reshape(2, -1)), stats.f_oneway(*values[1].reshape(2, -1)))
    found = report.components(values)
    ratio = 1 + 400 * found["condensing"] / found["rest"]
    assert ratio == pytest.approx(np.mean([f.statistic for f in within]), rel=0.05)


def test_components_are_never_negative():
    draws = np.random.default_rng(15).normal(0, 1, (50, 2, 2, 3, 1))
    found = [report.components(values) for values in draws]
    assert min(min(f.values()) for f in found) == 0


@pytest.mark.parametrize("shape", [(1, 2, 2, 2), (2, 1, 2, 2), (2, 2, 1, 2), (2, 2, 2, 0)])
def test_components_need_two_of_each(shape):
    with pytest.raises(UserError, match="2 ancestors"):
        report.components(np.ones(shape))


def test_components_need_four_axes():
    with pytest.raises(UserError, match="4 axes"):
        report.components(np.ones((2, 2, 2)))


def test_the_geometric_ratio_is_that_of_the_logarithms():
    found = report.geometric([2.0, 8.0, 4.0], [1.0, 1.0, 2.0])  # ratios 2, 8, 2: mean log2 = 5/3
    logs = stats.ttest_1samp(np.log([2.0, 8.0, 2.0]), 0).confidence_interval()
    assert found.mean == pytest.approx(2 ** (5 / 3))
    assert (found.low, found.high) == pytest.approx(tuple(np.exp(logs)))


def test_the_geometric_ratio_of_equal_times_is_one():
    assert report.geometric([3, 4], [3, 4]).mean == pytest.approx(1)


def test_the_geometric_ratio_keeps_its_level_with_five_tasks():
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(1000):
        found = report.geometric(np.exp(rng.normal(0.7, 0.5, 5)), np.ones(5))
        covered += found.low <= np.exp(0.7) <= found.high
    assert 925 <= covered <= 972


def test_a_geometric_ratio_of_nothing_is_refused():
    with pytest.raises(UserError, match="positive values"):
        report.geometric([1.0, 0.0], [1.0, 1.0])


def test_a_best_cell_named_beforehand_is_used():
    table = [[0.2, 0.6, 0.4], [0.3, 0.5, 0.1]]
    found = report.sensitivity(table, best=2)
    assert found.best.tolist() == [0.4, 0.1]
    assert found.regret == pytest.approx([0.0, -0.2])  # 0.4 - 0.4 and 0.1 - 0.3
    with pytest.raises(UserError, match="cells 0 to 2"):
        report.sensitivity(table, best=3)
