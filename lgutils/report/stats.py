"""Statistics on plain arrays: intervals, sensitivity, tests, variance shares.

Unless said otherwise values are accuracies in [0, 1], n counts tasks, and intervals are 95 %.
"""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from lgutils.checks import Count, Seed, Whole, checked, expect
from lgutils.errors import UserError

TAILS = (0.025, 0.975)
NEAR = 0.02  # a cell within 2 points of the best counts as good


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval over n independent values, in the unit of the values."""

    mean: float
    low: float
    high: float
    n: Whole

    def points(self) -> str:
        """For accuracies in [0, 1]: in percentage points, e.g. "+12.3 [+9.1, +15.5]"."""
        return "{} [{}, {}]".format(*self.numbers())

    def text(self, unit: str = "points", digits: int = 3) -> str:
        """With its unit: "points" as in `points`, others plain, as in "1.85 [1.42, 2.31] times"."""
        return "{} [{}, {}] {}".format(*self.numbers(unit, digits), unit)

    def numbers(self, unit: str = "points", digits: int = 3) -> tuple[str, str, str]:
        """Mean, low and high as texts: percentage points with a sign, other units plain.

        digits: significant digits of the largest finite number; all three share its decimals.
        """
        values = self.mean, self.low, self.high
        if unit == "points":
            texts = (f"{100 * value:+.1f}" for value in values)
            return tuple("0.0" if text == "-0.0" else text for text in texts)
        size = max((abs(v) for v in values if 0 < abs(v) < math.inf), default=1)
        places = max(0, digits - 1 - math.floor(math.log10(size)))
        return tuple(f"{value:.{places}f}" for value in values)

    @property
    def verdict(self) -> str:
        """For a difference claimed to be positive."""
        if self.low > 0:
            return "supported"
        return "contradicted" if self.high < 0 else "not supported"


def _array(values: ArrayLike, name: str, *ndims: int) -> np.ndarray:
    """Finite float array with one of the allowed numbers of axes."""
    try:
        if np.asarray(values).dtype.kind in "USc":  # numpy would read text, and cut complex numbers
            raise ValueError
        values = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise UserError(f"{name} must be a full table of numbers; fill or drop its gaps.") from None
    if values.ndim not in ndims:
        wanted = " or ".join(map(str, ndims))
        raise UserError(f"{name} must have {wanted} axes, but its shape is {values.shape}.")
    if not np.isfinite(values).all():
        bad = np.count_nonzero(~np.isfinite(values))
        raise UserError(f"{name}: {bad} values are not finite. Drop their tasks from every arm.")
    return values


def _same_tasks(*arrays: np.ndarray) -> int:
    """The number of tasks (first axis), which must agree and be at least 2."""
    counts = [len(a) for a in arrays]
    if len(set(counts)) > 1:
        raise UserError(f"Paired values are needed: {' and '.join(map(str, counts))} were given.")
    if counts[0] < 2:
        raise UserError(f"An interval needs at least 2 values, {counts[0]} were given.")
    return counts[0]


def mean(values: ArrayLike) -> Interval:
    """Mean and 95 % Student t interval of `values` (n,).

    Raises:
        UserError: fewer than two values, of which no interval can be made.
    """
    values = _array(values, "values", 1)
    n = _same_tasks(values)
    middle, width = float(values.mean()), float(stats.sem(values))
    if width == 0:
        return Interval(middle, middle, middle, n)
    low, high = stats.t.interval(0.95, n - 1, loc=middle, scale=width)
    return Interval(middle, float(low), float(high), n)


def paired(a: ArrayLike, b: ArrayLike) -> Interval:
    """Mean of a - b, both (tasks,) in the same order, with its 95 % t interval."""
    a, b = _array(a, "a", 1), _array(b, "b", 1)
    _same_tasks(a, b)
    return mean(a - b)


def _percentile(middle: float, draws: np.ndarray, n: int) -> Interval:
    """Interval between two of the draws; unlike interpolated quantiles it allows infinite ones."""
    low, high = np.quantile(draws, TAILS, method="inverted_cdf")
    return Interval(float(middle), float(low), float(high), n)


def bootstrap(
    *samples: ArrayLike, statistic: Callable[..., ArrayLike], seed: int = 0, resamples: int = 5000
) -> Interval:
    """Interval of any statistic when whole tasks are redrawn, the same in all samples.

    BCa (Efron 1987, https://doi.org/10.2307/2289144); where BCa does not exist or leaves out the
    estimate itself (constant or infinite values, statistics such as a minimum): percentiles.
    With few tasks it is too narrow: 20 skewed values gave 90 to 92 % coverage in simulations.

    Args:
        samples: (tasks,) or (tasks, K) each, the same tasks in the same order.
        statistic: called as statistic(*samples, axis=-1), such as `np.mean`; sees the tasks on the
            LAST axis, (..., tasks) or (K, ..., tasks), and returns (...). May be infinite, not nan.
    Raises:
        UserError: fewer than two tasks, samples of different length, or a statistic that is nan.
    """
    if not samples:
        raise UserError("A bootstrap needs at least one sample; none was given.")
    if not callable(statistic):
        raise UserError(f"The statistic {statistic!r} is no function. Give one, such as np.mean.")
    seed, resamples = checked("seed", seed, Seed), checked("resamples", resamples, Count)
    arrays = [_array(sample, "sample", 1, 2) for sample in samples]
    n = _same_tasks(*arrays)
    tasks_last = [np.moveaxis(a, 0, -1) for a in arrays]

    def of(index: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.asarray(statistic(*(s[..., index] for s in tasks_last), axis=axis), dtype=float)

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # scipy warns where BCa is degenerate; handled below
        middle = float(of(np.arange(n)))
        found = stats.bootstrap(
            (np.arange(n),), of, n_resamples=resamples, vectorized=True, method="BCa", rng=seed
        )
    draws, (low, high) = found.bootstrap_distribution, found.confidence_interval
    if np.isnan(middle) or np.isnan(draws).any():
        raise UserError("The statistic is not a number on some resamples; define it there.")
    if low <= middle <= high:
        return Interval(middle, float(low), float(high), n)
    return _percentile(middle, draws, n)


def hierarchical(values: ArrayLike, seed: int = 0, resamples: int = 5000) -> Interval:
    """Mean of `values` (tasks, seeds) when tasks are redrawn, then seeds within each drawn task.

    Percentile interval, n = tasks. Where seeds vary more than tasks it is too wide: the means of
    the tasks hold the chance of the seeds already, and redrawing the seeds adds it once more.
    Source: Davison and Hinkley (1997), Bootstrap Methods and their Application, section 3.8.
    """
    seed, resamples = checked("seed", seed, Seed), checked("resamples", resamples, Count)
    values = _array(values, "values", 2)
    n, seeds = _same_tasks(values), values.shape[1]
    if not seeds:
        raise UserError("Each task needs at least one seed; the table has no columns.")
    random = np.random.default_rng(seed)
    task = random.integers(n, size=(resamples, n, 1))
    draws = values[task, random.integers(seeds, size=(resamples, n, seeds))].mean((1, 2))
    return _percentile(values.mean(), draws, n)


def ratio(a: ArrayLike, b: ArrayLike, seed: int = 0) -> Interval:
    """mean(a) / mean(b) with a paired bootstrap interval; both (tasks,), of numbers >= 0.

    No effect is 1. A resample in which all of b is 0 counts as infinite.
    """
    a, b = _array(a, "a", 1), _array(b, "b", 1)
    if min(a.min(initial=0), b.min(initial=0)) < 0 or not b.any():
        raise UserError("A ratio needs numbers >= 0, and a b that is not all 0. Use `paired`.")

    def quotient(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        top, bottom = x.mean(axis), y.mean(axis)
        return np.where(bottom > 0, top / bottom, np.inf)

    return bootstrap(a, b, statistic=quotient, seed=seed)


def geometric(a: ArrayLike, b: ArrayLike) -> Interval:
    """Geometric mean of a / b over tasks, with the t interval of the logarithms.

    For positive values such as steps; with few tasks it keeps its level where a bootstrap does not.
    """
    a, b = _array(a, "a", 1), _array(b, "b", 1)
    _same_tasks(a, b)
    if min(a.min(), b.min()) <= 0:
        raise UserError("Ratios need positive values; 0 or less was given.")
    logs = paired(np.log(a), np.log(b))
    return Interval(*np.exp([logs.mean, logs.low, logs.high]).tolist(), logs.n)


@dataclass(frozen=True)
class Sensitivity:
    """One arm over a grid of hyper-parameters; every field is (tasks,), in accuracy or a share.

    mean, sd: over the cells (sd with ddof 1; it shrinks near 0 and 1, so look at regret too).
    best: accuracy of the cell named beforehand, else of the cell that is best on the OTHER tasks.
    regret: best - mean, the loss of a cell drawn blindly; may be negative.
    near: share of cells at most 0.02 below best, or above it.

    Where the best cell was not named beforehand, test differences between arms on `mean` and `sd`
    only: the tasks then share one choice of `best`, and where cells are nearly equal it flips from
    task to task. Between equal arms, paired t tests of regret or near found a difference in 12 to
    39 % of simulated cases instead of 5 %.
    """

    mean: np.ndarray
    sd: np.ndarray
    best: np.ndarray
    regret: np.ndarray
    near: np.ndarray


def sensitivity(table: ArrayLike, best: int | None = None) -> Sensitivity:
    """How much the choice of hyper-parameters matters, per task.

    Without `best`, the best cell of a task is chosen by the mean over the other tasks (the first of
    equals): a choice on the task itself would flatter, the more so the noisier the arm.

    Args:
        best: position of the cell that was found best elsewhere, for example on open-world classes.
        table: (tasks, cells) accuracies of one arm; at least 2 by 2. A diverged run counts too,
            with the accuracy that it ended with.
    """
    table = _array(table, "table", 2)
    if min(table.shape) < 2:
        raise UserError(f"Sensitivity needs 2 tasks and 2 cells or more, got {table.shape}.")
    best = checked("best", best, int | None)
    if best is None:
        others = table.sum(0) - table
        chosen = np.round(others, 9).argmax(1)  # rounded: equal sums must tie
    elif 0 <= best < table.shape[1]:
        chosen = np.full(len(table), best)
    else:
        raise UserError(f"best is cell {best}; the table has cells 0 to {table.shape[1] - 1}.")
    best, middle = table[np.arange(len(table)), chosen], table.mean(1)
    near = (table >= best[:, None] - NEAR - 1e-9).mean(1)  # 1e-9: 0.02 itself is near
    return Sensitivity(middle, table.std(1, ddof=1), best, best - middle, near)


def permutation_p(chosen: float, others: ArrayLike) -> float:
    """One-sided p that `chosen` is one of `others` (n,): (1 + #{others >= chosen}) / (1 + n).

    Phipson and Smyth (2010), https://doi.org/10.2202/1544-6115.1585. Never below 1 / (1 + n): 19
    others at least are needed for 0.05. Values equal up to rounding count as >=.
    """
    chosen, others = float(_array(chosen, "chosen", 0)), _array(others, "others", 1)
    if not len(others):
        raise UserError("There is nothing to compare with: `others` is empty. Draw 19 or more.")
    above = np.count_nonzero(others >= chosen - 1e-9 * abs(chosen))
    return (1 + above) / (1 + len(others))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down adjusted p-values, in the order given.

    The i-th smallest of m, times m - i + 1, but no less than those before it and at most 1.
    Source: Holm (1979), https://www.jstor.org/stable/4615733.
    """
    expect(p_values, Mapping, "p_values", "Give each p a name: {'a': 0.01}.")
    values = _array(list(p_values.values()), "p_values", 1)
    if ((values < 0) | (values > 1)).any():
        raise UserError(f"p-values lie in [0, 1], but these were given: {values.tolist()}.")
    order = np.argsort(values, kind="stable")
    raised = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(raised, 1)
    return dict(zip(p_values, adjusted.tolist(), strict=True))


def _t_test(differences: np.ndarray, at: float = 0.0, alternative: str = "two-sided") -> float:
    """scipy's t test; where all values are equal (up to rounding) its limit, 0 or 1."""
    _same_tasks(differences)
    first = differences[0]
    if np.allclose(differences, first, rtol=1e-9, atol=1e-15):
        sign = {"two-sided": abs(first - at), "greater": first - at, "less": at - first}
        return 0.0 if sign[alternative] > 1e-15 else 1.0
    return float(stats.ttest_1samp(differences, at, alternative=alternative).pvalue)


def p_value(differences: ArrayLike) -> float:
    """Two-sided p of the paired t test of `differences` (tasks,); all equal: 1 if zero, else 0."""
    return _t_test(_array(differences, "differences", 1))


def wilcoxon_p(differences: ArrayLike) -> float:
    """Two-sided p of Wilcoxon's signed-rank test of `differences` (tasks,); zeros are left out."""
    differences = np.round(_array(differences, "differences", 1), 12)  # so that equals tie
    _same_tasks(differences)
    return float(stats.wilcoxon(differences).pvalue) if differences.any() else 1.0


def equivalent(a: ArrayLike, b: ArrayLike, margin: float) -> float:
    """p that a and b (tasks,) differ by `margin` or more on average: small means equivalent.

    Paired TOST: the larger p of two one-sided t tests, of a - b > -margin and a - b < margin.
    Source: Schuirmann (1987), https://doi.org/10.1007/BF01068419.
    """
    if isinstance(margin, str) or not 0 < margin < math.inf:
        raise UserError(f"The margin must be a number above 0, in the unit of a; got {margin!r}.")
    a, b = _array(a, "a", 1), _array(b, "b", 1)
    _same_tasks(a, b)
    return max(_t_test(a - b, -margin, "greater"), _t_test(a - b, margin, "less"))


def components(values: ArrayLike) -> dict[str, float]:
    """Variance components by the method of moments, each >= 0, in squared accuracy.

    Model: ancestor i + condensing j nested in i + task k + the rest (seed and interactions). A mean
    over m values has rest / m, and each effect adds its variance times the values per level:
    E MS(rest) = rest; E MS(condensing) = rest + T S condensing; E MS(task) = rest + A C S task;
    E MS(ancestor) = rest + T S condensing + C T S ancestor. Solved, and cut off at 0.
    Source: Searle, Casella and McCulloch (1992), chapter 4.

    Args:
        values: (A ancestors, C condensings, T tasks, S seeds), balanced; A, C and T at least 2.
    Returns:
        Variances of "ancestor", "condensing", "task" and "rest".
    """
    values = _array(values, "values", 4)
    a, c, t, s = values.shape
    if min(a, c, t) < 2 or s < 1:
        raise UserError(f"Needs 2 ancestors, condensings and tasks or more; got {values.shape}.")
    total = values.mean()
    by_ancestor, by_task = values.mean((1, 2, 3)), values.mean((0, 1, 3))
    by_condensing = values.mean((2, 3))  # (A, C)
    fitted = by_condensing[:, :, None, None] + by_task[:, None] - total
    ms_ancestor = c * t * s * ((by_ancestor - total) ** 2).sum() / (a - 1)
    ms_condensing = t * s * ((by_condensing - by_ancestor[:, None]) ** 2).sum() / (a * (c - 1))
    ms_task = a * c * s * ((by_task - total) ** 2).sum() / (t - 1)
    rest = ((values - fitted) ** 2).sum() / (a * c * t * s - a * c - t + 1)
    found = {
        "ancestor": (ms_ancestor - ms_condensing) / (c * t * s),
        "condensing": (ms_condensing - rest) / (t * s),
        "task": (ms_task - rest) / (a * c * s),
        "rest": rest,
    }
    return {name: max(0.0, float(variance)) for name, variance in found.items()}
