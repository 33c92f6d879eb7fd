"""One look for each arm in all figures: learngene orange, scratch blue, the rivals apart from both.

Colour says which arm it is and nothing else; families differ by panel or marker.
"""

from collections.abc import Iterable
from itertools import cycle
from typing import Any

MARKERS = "o^sDv"
LINES = ("-", "--", "-.", (0, (1, 1.2)))
HATCHES = ("", "///", "...", "xxx")

NEUTRAL = "0.25"  # of what is no arm: families, differences, the layers that are left out
_ORANGE, _BLUE = "#de8f05", "#0173b2"
ARMS = {  # colour, marker, line; the hues are seaborn's colour-blind ones and Paul Tol's muted ones
    "learngene": (_ORANGE, "s", "-"),
    "scratch": (_BLUE, "o", "--"),
    "scratch, 5x steps": (_BLUE, "D", "-."),
    "patient scratch": (_BLUE, "D", "-."),
    "full fine-tune": ("#029e73", "^", "--"),
    "distillation": ("#cc78bc", "v", "-."),
    "first layers": ("#882255", "<", "--"),
    "last layers": ("#999933", ">", "-."),
    "random layers": ("#7a7a7a", "P", (0, (1, 1.2))),
    "stem only": ("#44aa99", "d", (0, (1, 1.2))),
    "shuffled": ("#332288", "X", (0, (1, 1.2))),
    "joint": ("#4d4d4d", "D", "--"),
    "fine-tuning": ("#d55e00", "v", "--"),
    "replay": ("#029e73", "^", "-."),
    "ewc": ("#cc78bc", "X", (0, (1, 1.2))),
    "growing": ("#882255", "P", "-"),
}
OTHERS = ("#117733", "#aa4499", "#56b4e9", "#8c613c", "#d55e00", "#332288", "#44aa99", "#7a7a7a")


def looks(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Arm -> colour, marker and line style: for the course's arms the same in every figure.

    What follows a bracket is no part of an arm's name ("scratch (n = 40)"). Arms that the course does not
    know get other colours than its own, in the order given.
    """
    every = list(dict.fromkeys(names))
    spare = zip(cycle(OTHERS), cycle(MARKERS), cycle(LINES))
    found = {name: ARMS.get(name.split(" (")[0]) or next(spare) for name in every}
    return {n: {"color": c, "marker": m, "ls": line} for n, (c, m, line) in found.items()}


def colour(name: str) -> str:
    """The colour of one of the course's arms."""
    return ARMS[name][0]
