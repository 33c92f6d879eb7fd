"""Pictures on disk, of which every rank decodes its share only."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lgutils.data import placed
from lgutils.data.pictures import Pictures
from lgutils.train.ranks import Ranks


@dataclass(frozen=True, eq=False)
class SharedPictures(Pictures):
    """Pictures that come in whole batches, in which only this rank's share is decoded.

    The others are black: they are cut off after augmentation, which draws for the whole batch, so that
    it does not depend on the number of ranks.
    """

    together: Ranks = Ranks(torch.device("cpu"))

    def batches(self, parts: Sequence[Tensor]) -> Iterator[Tensor]:
        """See `Pictures.batches`."""
        mine = [self.together.share(part) for part in parts]
        for part, images in zip(parts, super().batches(mine), strict=True):
            whole = images.new_zeros(len(part), *images.shape[1:])
            whole[self.together.span(len(part))] = images
            yield whole


def training_images(images: Tensor | Pictures, together: Ranks) -> Tensor | Pictures:
    """Images where training wants them, see `data.placed`."""
    images = placed(images, together.device)
    if together.size == 1 or isinstance(images, Tensor):
        return images
    return SharedPictures(images.source, images.rows, images.device, together)
