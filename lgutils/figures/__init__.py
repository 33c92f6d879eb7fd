"""One figure style for the course, and every kind of figure it draws.

`look` sets it and shows a figure with alternative text, `arms` gives every arm its colour, `models` draws images and networks, `sweeps`
accuracy along steps, shots or settings, `comparisons` methods side by side, `lifelong` what task after task did,
`condensing` lambda and its two levels, `explore` what a budget buys and what a descendant says about a
task.
"""

from lgutils.figures.arms import looks
from lgutils.figures.comparisons import accuracies, components, forest, pairs, ranking, verdicts
from lgutils.figures.condensing import Moving, levels, moments, moving, plane
from lgutils.figures.explore import budgets, sketches, task
from lgutils.figures.lifelong import accuracy_matrices, first_task, worth
from lgutils.figures.look import pngs, show, style
from lgutils.figures.models import heat, learning_curves, mistakes, mosaic, network
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
    "pngs",
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
