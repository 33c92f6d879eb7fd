"""Accumulating: the ancestry model learns the base classes, and its card says what it knows.

`model` says what an ancestor is, `pretrain` trains one on all base classes at once, `adopt` takes a timm
model that was trained elsewhere.
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

__all__ = [
    "Ancestor",
    "AncestryCard",
    "AncestryConfig",
    "accumulate",
    "adopt",
    "device_title",
    "pretrain",
    "shipped_path",
    "versions",
]
