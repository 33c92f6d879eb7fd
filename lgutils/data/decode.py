"""From picture files to bytes of one size."""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from lgutils import reading
from lgutils.data.names import shown
from lgutils.errors import UserError

LARGEST = 2**29  # bytes of a picture file; Pillow itself refuses more than 179 million pixels
ORIENTATION = 0x0112  # the EXIF tag; from 5 on height and width change places


def fitted(image: Tensor, pixels: int | None) -> Tensor:
    """Cut the square in the middle out of (C, H, W) uint8 and scale it, bilinear and antialiased.

    torchvision scales first and cuts then; cutting first needs less memory for long, thin pictures.
    """
    height, width = image.shape[1:]
    if pixels is None or (height, width) == (pixels, pixels):
        return image
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[None, :, top : top + side, left : left + side]
    return F.interpolate(square, size=(pixels, pixels), mode="bilinear", antialias=True)[0]


def decode(path: Path | str) -> Tensor:
    """Read a picture file as (3, H, W) uint8.

    The camera's orientation is applied, transparent parts become white, grey and palette pictures
    become RGB, and 16-bit grey is scaled to 8 bits. Of several frames the first is taken.

    Raises:
        Exception: whatever Pillow raises for a file that it cannot read to its end.
    """
    with _opened(path) as opened:
        image = ImageOps.exif_transpose(opened)
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.float64).clip(0, 65535) / 257
        image = Image.fromarray(levels.round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def _opened(path: Path | str) -> Image.Image:
    """A picture whose header was read; a pipe would be waited for, so only regular files are opened."""
    reading.regular(path, LARGEST)
    return Image.open(path)


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings of Pillow about odd metadata: the pixels are whole, or an error is raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def common_size(root: str, names: Sequence[str]) -> tuple[int, int]:
    """Height and width that all pictures share, from their headers alone.

    Raises:
        UserError: they differ, or no file is a picture.
    """
    first: dict[tuple[int, int], str] = {}
    for name in names:
        try:
            with quiet(), _opened(os.path.join(root, name)) as image:
                turned = image.getexif().get(ORIENTATION, 1) >= 5
                width, height = image.size[::-1] if turned else image.size
        except Exception:  # damaged: counted when it is decoded
            continue
        first.setdefault((height, width), name)
        if len(first) > 1:
            (a, b), (x, y) = first, first.values()
            raise UserError(
                f"The pictures in {root} have different sizes ({shown(x)}: {a[0]}x{a[1]}, "
                f"{shown(y)}: {b[0]}x{b[1]}). "
                "Add the size that they are to get, for example @84, to the dataset's name."
            )
    if not first:
        raise UserError(f"None of the {len(names)} files in {root} is a picture that can be read.")
    return next(iter(first))


@dataclass(frozen=True)
class Files:
    """Picture files of a folder, all brought to (height, width).

    Attributes:
        names: paths relative to `root`.
        pixels: what they are scaled to; None for files that have the size already.
    """

    root: str
    names: tuple[str, ...]
    size: tuple[int, int]
    pixels: int | None = None

    def read(self, row: int) -> Tensor:
        image = fitted(decode(os.path.join(self.root, self.names[row])), self.pixels)
        if image.shape[1:] != self.size:
            raise ValueError(f"it is {image.shape[1]}x{image.shape[2]} pixels")
        return image

    def name(self, row: int) -> str:
        return self.names[row]

    def told(self, row: int) -> str:
        return f"{self.names[row]} {os.stat(os.path.join(self.root, self.names[row])).st_size}"


@dataclass(frozen=True, eq=False)
class Scaled:
    """Pictures in memory (N, C, H, W) uint8, scaled when they are used."""

    images: Tensor
    pixels: int

    @property
    def size(self) -> tuple[int, int]:
        return self.pixels, self.pixels

    def read(self, row: int) -> Tensor:
        return fitted(self.images[row], self.pixels)

    def name(self, row: int) -> str:
        return f"number {row}"

    def told(self, row: int) -> str:
        return str(int(self.images[row].sum(dtype=torch.int64)))


@dataclass(frozen=True)
class Decoded:
    """Some rows of a source: (B, C, H, W) uint8, and why rows (positions in B) could not be read."""

    images: Tensor
    failed: dict[int, str]

    def pin_memory(self) -> "Decoded":
        """For torch's DataLoader."""
        return replace(self, images=self.images.pin_memory())


@dataclass(frozen=True)
class Decoder:
    """Reads rows of a source; what torch's DataLoader asks for the rows of a batch."""

    source: Files | Scaled

    def __getitems__(self, rows: list[int]) -> Decoded:
        """Decode some rows, without warnings."""
        with quiet():
            return self.read(rows)

    def read(self, rows: list[int]) -> Decoded:
        """Decode some rows; what cannot be read is black and told."""
        images = torch.zeros(len(rows), 3, *self.source.size, dtype=torch.uint8)
        failed = {}
        for i, row in enumerate(rows):
            try:
                images[i] = self.source.read(row)
            except Exception as error:  # Pillow raises many kinds for a damaged file
                failed[i] = str(error) or type(error).__name__
        return Decoded(images, failed)
