"""Sketches of a hand, as images of the ancestors' world, and two descendants that learn them.

A sketch is a list of strokes, a stroke a list of points (x, y) in any unit, y downwards. A book is a name for each
character with its sketches. The shipped book, `assets/sketches.json`, was made up by `example`: lines with a
random wobble. Nobody drew it.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from lgutils import files, glyphs, inherit, reading, train
from lgutils.data import Normalize
from lgutils.errors import UserError
from lgutils.learngene import Learngene
from lgutils.train import FitConfig

Sketch = Sequence[Sequence[Sequence[float]]]
Book = Mapping[str, Sequence[Sketch]]

STEPS = 40  # of the optimiser, as everywhere in the course
SIDE, REACH = 48, 36  # pixels a side of a glyph mask, and of the longer side of what it shows
PEN = 4.0  # pixels of such a mask, as thick as the stem of a letter
FINE = 4  # pixels of the drawing for one of the mask
SHIPPED = Path(__file__).parent / "assets" / "sketches.json"
LEARNED = 4  # sketches of each shipped character to learn from; the others are guessed


def mask(sketch: Sketch) -> np.ndarray:
    """The strokes, centred and scaled to fit, with the thickness of a letter's stem.

    Returns:
        (48, 48) uint8, 0 outside of the strokes and 255 inside, as `glyphs.glyph_mask` gives it.
    Raises:
        UserError: there is no point in it.
    """
    strokes = [np.asarray(stroke, dtype=float).reshape(-1, 2) for stroke in sketch if len(stroke)]
    if not strokes:
        raise UserError("The sketch is empty. Draw at least one stroke.")
    low, high = (end(np.concatenate(strokes), axis=0) for end in (np.min, np.max))
    zoom = (REACH - PEN) / max((high - low).max(), 1e-9)
    sheet = Image.new("L", (SIDE * FINE, SIDE * FINE))
    pen, thick = ImageDraw.Draw(sheet), PEN * FINE
    for stroke in strokes:
        points = ((stroke - (low + high) / 2) * zoom + SIDE / 2) * FINE
        pen.line([tuple(point) for point in points], fill=255, width=round(thick))
        for x, y in points:  # round ends and corners
            pen.ellipse((x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2), fill=255)
    return np.asarray(sheet.reduce(FINE))


def images(book: Book, seed: int = 0) -> tuple[Tensor, Tensor]:
    """One image of the glyphs' world for each sketch: colours, warp, clutter and noise come from the seed.

    Returns:
        Images (N, 3, 32, 32) uint8 and labels (N,) int64, the characters in the book's order.
    """
    drawn = [
        glyphs.around(mask(sketch), 1000 * seed + 100 * label + k)
        for label, sketches in enumerate(book.values())
        for k, sketch in enumerate(sketches)
    ]
    counts = torch.tensor([len(sketches) for sketches in book.values()])
    return torch.from_numpy(np.stack(drawn)), torch.arange(len(book)).repeat_interleave(counts)


@dataclass(frozen=True)
class Pupils:
    """Descendants by name that have learned the same book; made by `teach`."""

    trained: Mapping[str, tuple[nn.Module, Normalize]]

    def guess(self, pictures: Tensor) -> dict[str, np.ndarray]:
        """What each descendant takes images (N, 3, 32, 32) for: places in the book, (N,)."""
        return {
            name: np.asarray(train.predict(model, pictures, normalize))
            for name, (model, normalize) in self.trained.items()
        }


def teach(
    book: Book, genes: Mapping[str, Learngene], fits: Mapping[str, FitConfig], shape: Mapping
) -> Pupils:
    """Let one descendant of each learngene learn a book of sketches, in about `STEPS` steps.

    Args:
        book: characters, two or more, with one or more sketches each.
        genes, fits: by the descendant's name.
        shape: the descendants' arguments for timm.
    Raises:
        UserError: fewer than two characters, or one without a sketch.
    """
    if missing := [name for name, sketches in book.items() if not len(sketches)]:
        raise UserError(
            f"There is no sketch of {missing[0]} yet. Draw each character at least once."
        )
    if len(book) < 2:
        raise UserError("One character alone cannot be mistaken for another. Draw two or more.")
    seen, trained = images(book), {}
    for name, gene in genes.items():
        fit = fits[name]
        epochs = max(1, round(STEPS / math.ceil(len(seen[1]) / fit.batch_size)))
        heir = inherit.inherit(gene, num_classes=len(book), **shape)
        model = train.fit(heir.model, seen, heir.normalize, replace(fit, epochs=epochs)).model
        trained[name] = model, heir.normalize
    return Pupils(trained)


# --- the shipped book -----------------------------------------------------------------------------


def _ring(cx: float, cy: float, rx: float, ry: float, turns: float = 1.0) -> list:
    angle = np.linspace(0, 2 * np.pi * turns, int(24 * turns) + 1) - np.pi / 2
    return np.stack([cx + rx * np.cos(angle), cy + ry * np.sin(angle)], axis=1).tolist()


def _outlines() -> dict[str, list]:
    """The characters as straight and round lines in a unit square."""
    spiral = np.array(_ring(0, 0, 1, 1, turns=1.75))
    spiral *= np.linspace(0.05, 0.5, len(spiral))[:, None]
    tail = [[0.62, 0.5], [1, 0.22], [1, 0.78], [0.62, 0.5]]
    roof = [[0, 0.45], [0.5, 0], [1, 0.45]]
    return {
        "house": [[[0.1, 0.45], [0.1, 1], [0.9, 1], [0.9, 0.45], [0.1, 0.45]], roof],
        "fish": [_ring(0.33, 0.5, 0.33, 0.24), tail],
        "spiral": [(spiral + 0.5).tolist()],
        "bolt": [[[0.65, 0], [0.25, 0.55], [0.7, 0.45], [0.3, 1]]],
        "umbrella": [
            [[0, 0.5], [0.1, 0.2], [0.5, 0], [0.9, 0.2], [1, 0.5], [0, 0.5]],
            [[0.5, 0.5], [0.5, 0.9], [0.38, 1], [0.28, 0.88]],
        ],
    }


def _wobbled(outline: Sequence, random: np.random.Generator) -> list:
    """The lines as a hurried hand would draw them: slanted, in other proportions, never straight."""
    change = np.eye(2) + random.normal(0, 0.1, (2, 2))
    drawn = []
    for line in outline:
        corners = np.array(line) @ change.T + random.normal(0, 0.018, (len(line), 2))
        along = np.append(0, np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1)))
        at = np.linspace(0, along[-1], max(6, int(18 * along[-1])))
        points = np.stack([np.interp(at, along, corners[:, k]) for k in (0, 1)], axis=1)
        waves = random.normal(0, 0.012, (3, 2, 2))
        for k, (sine, cosine) in enumerate(waves, start=1):
            phase = np.pi * k * at[:, None]
            points = points + sine * np.sin(2 * phase) + cosine * np.cos(2 * phase)
        drawn.append(points.round(2).tolist())
    return drawn


def example(seed: int = 0, sketches: int = 10) -> dict[str, list]:
    """Made-up sketches of five characters that are none of the ancestors' (see the shipped book)."""
    random = np.random.default_rng(seed)
    return {
        name: [_wobbled(outline, random) for _ in range(sketches)]
        for name, outline in _outlines().items()
    }


def shipped() -> tuple[Book, Book]:
    """The shipped book: what to learn from, and what to guess."""
    book = reading.json_file(SHIPPED, dict[str, list], "Install lgutils again.")
    return tuple(
        {name: sketches[part] for name, sketches in book.items()}
        for part in (slice(LEARNED), slice(LEARNED, None))
    )


if __name__ == "__main__":  # makes the shipped book again
    files.write_text(SHIPPED, json.dumps(example(), separators=(",", ":")) + "\n")
