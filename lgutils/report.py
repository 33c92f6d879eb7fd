"""Rows to paired statistics, with an interval and a verdict for every claim."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from lgutils.errors import UserError


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval over n independent values, in the unit of the values."""

    mean: float
    low: float
    high: float
    n: int

    def points(self) -> str:
        """For accuracies in [0, 1]: in percentage points, e.g. "+12.3 [+9.1, +15.5]"."""
        return f"{100 * self.mean:+.1f} [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"

    @property
    def verdict(self) -> str:
        """For a difference claimed to be positive."""
        if self.low > 0:
            return "supported"
        return "contradicted" if self.high < 0 else "not supported"


def mean(values: Sequence[float]) -> Interval:
    """Mean and 95 % Student t interval.

    Raises:
        UserError: fewer than two values, of which no interval can be made.
    """
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        raise UserError(f"An interval needs at least 2 values, {len(values)} were given.")
    middle, width = float(values.mean()), float(stats.sem(values))
    if width == 0:
        return Interval(middle, middle, middle, len(values))
    low, high = stats.t.interval(0.95, len(values) - 1, loc=middle, scale=width)
    return Interval(middle, float(low), float(high), len(values))


def paired(a: Sequence[float], b: Sequence[float]) -> Interval:
    """Mean of a - b over the same tasks in the same order, with its 95 % t interval."""
    if len(a) != len(b):
        raise UserError(f"Paired values are needed: {len(a)} and {len(b)} were given.")
    return mean(np.asarray(a, dtype=float) - np.asarray(b, dtype=float))


@dataclass(frozen=True)
class Claim:
    """A sentence, the effect that was measured for it, and what follows."""

    sentence: str
    effect: Interval

    @property
    def verdict(self) -> str:
        return self.effect.verdict

    def __str__(self) -> str:
        return (
            f"{self.sentence}: {self.effect.points()} points, n = {self.effect.n}: {self.verdict}"
        )
