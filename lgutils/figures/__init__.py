"""One figure style for the course, and every kind of figure it draws.

`look` sets it and shows a figure with alternative text, `models` draws images and networks, `sweeps`
accuracy along steps, shots or settings, `comparisons` methods side by side.
"""

from lgutils.figures.comparisons import accuracies, components, forest, ranking, verdicts
from lgutils.figures.look import show, style
from lgutils.figures.models import heat, learning_curves, mosaic, network
from lgutils.figures.sweeps import curves, grid, shots, survival

__all__ = [
    "accuracies",
    "components",
    "curves",
    "forest",
    "grid",
    "heat",
    "learning_curves",
    "mosaic",
    "network",
    "ranking",
    "shots",
    "show",
    "style",
    "survival",
    "verdicts",
]
