"""Accumulating: the ancestry model learns the base classes, and its card says what it knows.

`model` says what an ancestor is, `pretrain` trains one on all base classes at once, `adopt` takes a timm
model that was trained elsewhere, `sequence` lets one learn its classes task by task (`world`, `forgetting` and
`growing` are its parts).
"""

from lgutils.ancestry.adopt import adopt
from lgutils.ancestry.model import (
    Ancestor,
    AncestryCard,
    AncestryConfig,
    device_title,
    shipped_path,
    versions,
)
from lgutils.ancestry.pretrain import accumulate, pretrain
from lgutils.ancestry.sequence import Life, calm_layers, lifelong
from lgutils.ancestry.world import METHODS, LifeConfig

__all__ = [
    "METHODS",
    "Ancestor",
    "AncestryCard",
    "AncestryConfig",
    "Life",
    "LifeConfig",
    "accumulate",
    "adopt",
    "calm_layers",
    "device_title",
    "lifelong",
    "pretrain",
    "shipped_path",
    "versions",
]
