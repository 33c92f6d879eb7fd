"""Many descendants: each (dataset, task, architecture, method, seed, settings) is a job, a finished job a row.

`jobs` says what a job is and trains one, `store` keeps rows so that a killed sweep goes on where it was,
`stack` trains many jobs of one architecture in one go, `backends` spreads jobs over processes or stacks,
`cluster` over machines, `tuning` finds every arm's learning rate.
"""

from lgutils.fleet.backends import BACKENDS, run
from lgutils.fleet.cluster import part
from lgutils.fleet.jobs import (
    ARMS,
    FEW_SHOT,
    Job,
    Prepared,
    Row,
    ancestor_of,
    grid,
    prepare,
    run_job,
)
from lgutils.fleet.store import Results, accuracies, table
from lgutils.fleet.tuning import LEARNING_RATES, tune, tuned_fit, tuned_path

__all__ = [
    "ARMS",
    "BACKENDS",
    "FEW_SHOT",
    "LEARNING_RATES",
    "Job",
    "Prepared",
    "Results",
    "Row",
    "accuracies",
    "ancestor_of",
    "grid",
    "part",
    "prepare",
    "run",
    "run_job",
    "table",
    "tune",
    "tuned_fit",
    "tuned_path",
]
