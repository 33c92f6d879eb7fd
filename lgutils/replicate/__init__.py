"""The paper's four claims in one call.

`design` says how large the sweeps are, `plan` which jobs they are, `subjects` who is tested, `run` runs or
resumes them, judges and writes the report.
"""

from lgutils.replicate.design import TASKS, Design, Sizes
from lgutils.replicate.plan import CLAIMS, budget_gap, layer_sets, plan, steps_fixed
from lgutils.replicate.run import Asked, Replication, frames, load, report_again, run
from lgutils.replicate.subjects import Subject, subjects

__all__ = [
    "CLAIMS",
    "TASKS",
    "Asked",
    "Design",
    "Replication",
    "Sizes",
    "Subject",
    "budget_gap",
    "frames",
    "layer_sets",
    "load",
    "plan",
    "report_again",
    "run",
    "steps_fixed",
    "subjects",
]
