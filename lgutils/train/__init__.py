"""One `fit` and one `evaluate`, for ancestry models, descendants and baselines alike.

`config` says how to train, `loop` does it, `scores` measures, `keys` tells trainings apart. `memory` splits
passes that do not fit; `ranks` lets several processes work on one model, `shared` deals out pictures to them.
"""

from lgutils.train.config import (
    LATER,
    MILESTONES,
    PRECISIONS,
    SCHEDULES,
    FitConfig,
    layout_on,
    optimizer_for,
)
from lgutils.train.keys import weight_hash
from lgutils.train.loop import Epochs, Fitted, Objective, arithmetic_on, batches, fit
from lgutils.train.ranks import Ranks, device, is_main, join
from lgutils.train.scores import Diverged, Score, evaluate, predict

__all__ = [
    "LATER",
    "MILESTONES",
    "PRECISIONS",
    "SCHEDULES",
    "Diverged",
    "Epochs",
    "FitConfig",
    "Fitted",
    "Objective",
    "Ranks",
    "Score",
    "arithmetic_on",
    "batches",
    "device",
    "evaluate",
    "fit",
    "is_main",
    "join",
    "layout_on",
    "optimizer_for",
    "predict",
    "weight_hash",
]
