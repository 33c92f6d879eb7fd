"""Condensing: which of the ancestor's layers are the learngene?

`bilevel` holds the hypergradient, `matching` what is compared, `norm` a batch norm that is cheap to
differentiate twice, `run` the loop, `criteria` the rivals.
"""

from lgutils.condense.bilevel import SGD, Hypergradient, gradients, hypergradient
from lgutils.condense.criteria import CRITERIA, Scores, from_condensed, linear_cka, score
from lgutils.condense.matching import Matching, PairWeights, Targets, resized, standardised
from lgutils.condense.run import (
    CondenseConfig,
    Condensed,
    Condenser,
    condense,
    condense_seeds,
)

__all__ = [
    "CRITERIA",
    "SGD",
    "CondenseConfig",
    "Condensed",
    "Condenser",
    "Hypergradient",
    "Matching",
    "PairWeights",
    "Scores",
    "Targets",
    "condense",
    "condense_seeds",
    "from_condensed",
    "gradients",
    "hypergradient",
    "linear_cka",
    "resized",
    "score",
    "standardised",
]
