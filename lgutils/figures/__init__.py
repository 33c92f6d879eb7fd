"""One figure style for the course, and every kind of figure it draws.

`arms` gives every arm its colour, `look` sets fonts and sizes for wide and narrow screens, `shown` hands a
finished figure on with its alternative text. `models` draws images and networks, `sweeps` accuracy along
steps, shots or settings, `comparisons` methods side by side, `forests` effects with their intervals,
`lifelong` what task after task did, `condensing` lambda and its two levels, `explore` what a budget buys and
what a descendant says about a task.
"""

from lgutils.figures.arms import looks
from lgutils.figures.comparisons import accuracies, components, pairs, ranking
from lgutils.figures.condensing import Moving, levels, moments, moving, plane
from lgutils.figures.explore import budgets, sketches, task
from lgutils.figures.forests import forest, verdicts
from lgutils.figures.lifelong import accuracy_matrices, first_task, worth
from lgutils.figures.look import style
from lgutils.figures.models import heat, learning_curves, mistakes, mosaic, network
from lgutils.figures.shown import show
from lgutils.figures.sweeps import curves, grid, shots, survival, traces

__all__ = [
    "Moving",
    "accuracies",
    "accuracy_matrices",
    "budgets",
    "components",
    "curves",
    "first_task",
    "forest",
    "grid",
    "heat",
    "learning_curves",
    "levels",
    "looks",
    "mistakes",
    "moments",
    "mosaic",
    "moving",
    "network",
    "pairs",
    "plane",
    "ranking",
    "shots",
    "show",
    "sketches",
    "style",
    "survival",
    "task",
    "traces",
    "verdicts",
    "worth",
]
