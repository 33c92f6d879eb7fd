"""What the numbers say: `stats` and `curves` turn arrays into intervals, `claims` intervals into verdicts,
`ledgers` verdicts into tables."""

from lgutils.report.claims import VERDICTS, Claim, read_claims
from lgutils.report.curves import area, restricted, shots_to_match, steps_to, survival
from lgutils.report.ledgers import Ledger, chip, ledger, marked
from lgutils.report.stats import (
    Interval,
    Sensitivity,
    bootstrap,
    components,
    equivalent,
    geometric,
    hierarchical,
    holm,
    mean,
    p_value,
    paired,
    permutation_p,
    ratio,
    sensitivity,
    wilcoxon_p,
)

__all__ = [
    "VERDICTS",
    "Claim",
    "Interval",
    "Ledger",
    "Sensitivity",
    "area",
    "bootstrap",
    "chip",
    "components",
    "equivalent",
    "geometric",
    "hierarchical",
    "holm",
    "ledger",
    "marked",
    "mean",
    "p_value",
    "paired",
    "permutation_p",
    "ratio",
    "read_claims",
    "restricted",
    "sensitivity",
    "shots_to_match",
    "steps_to",
    "survival",
    "wilcoxon_p",
]
