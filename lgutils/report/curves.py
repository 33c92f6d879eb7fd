"""Learning curves and sample curves: when a threshold is reached, and what lies under the curve."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import integrate, stats

from lgutils.errors import UserError
from lgutils.report.stats import Interval, _array, bootstrap, mean


def _grid(grid: ArrayLike, curve: ArrayLike, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Ascending grid (S,) and the curves (S,) or (tasks, S) measured on it."""
    grid, curve = _array(grid, name, 1), _array(curve, "curve", 1, 2)
    if not len(grid) or grid[0] < 0 or (np.diff(grid) <= 0).any():
        raise UserError(f"{name} must ascend from 0 or more, but is {grid.tolist()}.")
    if curve.shape[-1] != len(grid):
        raise UserError(f"The curve has {curve.shape[-1]} values for {len(grid)} {name}.")
    return grid, curve


def _per_task(value: ArrayLike, curve: np.ndarray, name: str) -> np.ndarray:
    """A number, or one a task, as a column (1,) or (tasks, 1) that stands before the curves."""
    value = _array(value, name, 0, 1)
    if value.ndim and value.shape != curve.shape[:-1]:
        raise UserError(f"{name} has {value.size} values for curves of shape {curve.shape}.")
    return np.broadcast_to(value, curve.shape[:-1])[..., None]


def steps_to(
    steps: ArrayLike, curve: ArrayLike, threshold: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """First LOGGED step with an accuracy at or above the threshold, without interpolation.

    Args:
        steps: (S,) ascending.
        curve: (S,) or (tasks, S).
        threshold: a number, or one a task, (tasks,).
    Returns:
        Times in steps and whether the threshold was reached, each () or (tasks,). Where it was
        not, the time is the last logged step: right-censored at the horizon.
    """
    steps, curve = _grid(steps, curve, "steps")
    there = curve >= _per_task(threshold, curve, "threshold")
    reached = there.any(-1)
    return np.where(reached, steps[there.argmax(-1)], steps[-1]), reached


def _times(time: ArrayLike, reached: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    time, reached = _array(time, "time", 1), np.asarray(reached, dtype=bool)
    if reached.shape != time.shape or not len(time):
        raise UserError(f"{time.size} times and {reached.size} flags; give one flag a time.")
    if (time < 0).any() or (time[~reached] < time.max()).any():
        raise UserError("All runs must share one horizon: one stopped before the others.")
    return time, reached


def restricted(time: ArrayLike, reached: ArrayLike, horizon: float | None = None) -> Interval:
    """Restricted mean time, in steps: the mean of min(T, horizon), with its t interval.

    Every run is censored at one common horizon, so min(T, horizon) is known for each task, and
    the area under the Kaplan-Meier curve is simply its mean. For two arms with the same horizon use
    `paired(time_a, time_b)` or `ratio`. Source: Royston and Parmar (2013),
    https://doi.org/10.1186/1471-2288-13-152.

    Args:
        time, reached: (tasks,) each, from `steps_to`.
        horizon: in steps; the common last step where not given, and at most that.
    """
    time, reached = _times(time, reached)
    if horizon is not None and not (horizon > 0 and (reached | (time >= horizon)).all()):
        raise UserError(f"Horizon {horizon}: give one above 0, up to {time.max()}, the last step.")
    return mean(time if horizon is None else np.minimum(time, horizon))


def survival(time: ArrayLike, reached: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Kaplan-Meier: the share of tasks that are not yet there just after each step.

    Args:
        time, reached: (tasks,) each, from `steps_to`.
    Returns:
        Steps and shares in [0, 1], (M,) each, from (0, 1) on: to draw with `where="post"`.
    """
    time, reached = _times(time, reached)
    data = stats.CensoredData(uncensored=time[reached], right=time[~reached])
    curve = stats.ecdf(data).sf
    start = [] if curve.quantiles[0] == 0 else [0]
    return np.r_[start, curve.quantiles], np.r_[[1.0] * len(start), curve.probabilities]


def area(steps: ArrayLike, curve: ArrayLike, start: ArrayLike) -> np.ndarray:
    """Mean accuracy from step 0 to the last, by trapezoids; () or (tasks,).

    Args:
        steps: (S,) ascending; curve: (S,) or (tasks, S).
        start: accuracy at step 0, which is chance; unused where step 0 was logged.
    """
    steps, curve = _grid(steps, curve, "steps")
    if steps[-1] == 0:
        raise UserError("The only step is 0, which spans no area. Log later steps.")
    if steps[0] > 0:
        steps, curve = (
            np.r_[0, steps],
            np.concatenate([_per_task(start, curve, "start"), curve], -1),
        )
    return integrate.trapezoid(curve, steps, axis=-1) / steps[-1]


def shots_to_match(
    shots: ArrayLike, curve: ArrayLike, target: ArrayLike, seed: int = 0
) -> Interval:
    """Smallest number of images a class at which the mean curve reaches the mean target.

    Linear between grid points in the logarithm of the shots. Reached at the first: reported as the
    smallest shots (an upper bound). Never reached: inf. Tasks are redrawn, curve and target
    together; an interval may thus end at the smallest shots or at inf. A curve may cross more
    than once: the first crossing counts.

    Args:
        shots: (K,) ascending, above 0.
        curve: (tasks, K) accuracies of one arm; target: (tasks,) accuracies to reach.
    """
    shots, curve = _grid(shots, _array(curve, "curve", 2), "shots")
    if shots[0] == 0:
        raise UserError("Shots must be above 0: on a logarithmic axis 0 has no place.")

    def crossing(curves: np.ndarray, targets: np.ndarray, axis: int) -> np.ndarray:
        gap = np.round(curves.mean(axis) - targets.mean(axis), 12)  # (K, ...)
        there = gap >= 0
        after = there.argmax(0)
        before = np.maximum(after - 1, 0)
        low, high = (np.take_along_axis(gap, k[None], 0)[0] for k in (before, after))
        share = np.where(after > 0, low / np.where(after > 0, low - high, 1), 0)
        found = shots[before] * (shots[after] / shots[before]) ** share
        return np.where(there.any(0), found, np.inf)

    return bootstrap(curve, _array(target, "target", 1), statistic=crossing, seed=seed)
