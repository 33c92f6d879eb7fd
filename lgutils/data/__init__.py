"""Images, class-disjoint splits, few-shot tasks, and batches that live on the device.

The base classes train the ancestry model, the open-world classes train the pseudo-descendant, and the
novel classes give the descendants' tasks (64 / 16 / 20, as in arXiv 2305.02279 and 2106.06788).

`sets` holds images and splits, `sources` finds them, `tasks` draws few-shot tasks, `batches` feeds training.
"""

from lgutils.data.batches import Batches, checksum, flipped, placed, rotated, shifted
from lgutils.data.sets import ImageSet, Normalize, Split, describe, export
from lgutils.data.sources import DATASETS, SIZES, load, split
from lgutils.data.tasks import Episode, Task

__all__ = [
    "DATASETS",
    "SIZES",
    "Batches",
    "Episode",
    "ImageSet",
    "Normalize",
    "Split",
    "Task",
    "checksum",
    "describe",
    "export",
    "flipped",
    "load",
    "placed",
    "rotated",
    "shifted",
    "split",
]
