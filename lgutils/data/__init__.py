"""Images, class-disjoint splits, few-shot tasks, and batches that live on the device.

The base classes train the ancestry model, the open-world classes train the pseudo-descendant, and the
novel classes give the descendants' tasks (64 / 16 / 20, as in arXiv 2305.02279 and 2106.06788).

`sets` holds images and splits, `sources` finds them, `tasks` draws few-shot tasks, `batches` feeds training.
Behind `sources` stand `names` (how datasets are called), `archives` and `listing` (what lies on the disk),
`decode` and `pictures` (files to bytes, when they are used), `settle` (memory or files); `fetch` downloads.
"""

from lgutils.data.batches import Batches, checksum, flipped, placed, rotated, shifted
from lgutils.data.entry import check_images, check_labels, check_pair, check_range
from lgutils.data.fetch import download
from lgutils.data.names import DATASETS, NAMES, Dataset, folder
from lgutils.data.pictures import Pictures, decoded
from lgutils.data.sets import ImageSet, Normalize, Split, describe, export
from lgutils.data.sources import SIZES, load, split
from lgutils.data.tasks import Episode, Task

__all__ = [
    "DATASETS",
    "NAMES",
    "SIZES",
    "Batches",
    "Dataset",
    "Episode",
    "ImageSet",
    "Normalize",
    "Pictures",
    "Split",
    "Task",
    "check_images",
    "check_labels",
    "check_pair",
    "check_range",
    "checksum",
    "decoded",
    "describe",
    "download",
    "export",
    "flipped",
    "folder",
    "load",
    "placed",
    "rotated",
    "shifted",
    "split",
]
