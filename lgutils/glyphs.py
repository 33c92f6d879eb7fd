"""The embedded dataset: 100 characters, drawn from the fonts that ship inside matplotlib.

Every image is a pure function of (seed, class, index): a typeface, a random affine map with a smooth
warp, stroke clutter, a smooth background and noise. Glyph outlines are read in font units, without
hinting, and all arithmetic is float64 element by element, so the same seed gives the same bytes on
every machine. Image i of a class does not depend on how many images are drawn.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

# No two look alike when turned (tested), none repeats another alphabet's letter; some are cousins.
CHARACTERS = (
    "234579BCEFGHJKLMNPQRTUWXYaefgijkmqtyz"  # digits and Latin
    "ΓΔΘΛΞΣΦΩαβεζθλμξπρσφχψω"  # Greek
    "БДЖИЙШЩЪЫЭЮЯЂЋЉЏЇлцчђћњ"  # Cyrillic
    "ÆØÞÐßæŋþðŒ8&@?§€¶"  # more Latin, and signs
)
FACES = tuple(
    [f"DejaVu{family}{style}" for family in ("Sans", "SansMono") for style in
     ("", "-Bold", "-Oblique", "-BoldOblique")]
    + [f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")]
    + ["STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"]
)  # fmt: skip
SIZE = 32  # pixels a side
IMAGES_PER_CLASS = 600
_MASK = 48  # pixels a side of a glyph mask; the glyph's longer side takes 36 of them
_GRID = 5  # knots a side of the background texture and of the warp
_STROKES = 3
_NUMBERS = 7 + 2 * _GRID**2 + 5 * _STROKES + 6 + 3 * _GRID**2 + 3 * SIZE**2  # uniform, for an image


def class_names() -> tuple[str, ...]:
    """The 100 characters, in label order."""
    return tuple(CHARACTERS)


def _outline(face: str, character: str):
    """Outline of one character in font units, as a matplotlib `Path`."""
    import matplotlib
    from matplotlib.ft2font import FT2Font, LoadFlags
    from matplotlib.path import Path as Outline

    font = FT2Font(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{face}.ttf"))
    font.load_char(ord(character), flags=LoadFlags.NO_SCALE | LoadFlags.NO_HINTING)
    return Outline(*font.get_path())


def glyph_mask(face: str, character: str) -> np.ndarray:
    """Draw one character, centred and scaled to fit.

    Returns:
        (48, 48) uint8, 0 outside the glyph and 255 inside.
    """
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.transforms import Affine2D

    outline = _outline(face, character)
    box = outline.get_extents()
    place = (
        Affine2D()
        .translate(-(box.x0 + box.x1) / 2, -(box.y0 + box.y1) / 2)
        .scale(0.75 * _MASK / max(box.width, box.height))
        .translate(_MASK / 2, _MASK / 2)
    )
    canvas = RendererAgg(_MASK, _MASK, 72)
    pen = canvas.new_gc()
    pen.set_linewidth(0)
    pen.set_snap(False)
    canvas.draw_path(pen, outline, place, (1.0, 1.0, 1.0, 1.0))
    return np.asarray(canvas.buffer_rgba())[..., 3].copy()


def _columns(count: int) -> Callable[[int], slice]:
    """Hand out consecutive column ranges of a (n, count) table of uniform numbers."""
    taken = 0

    def take(width: int) -> slice:
        nonlocal taken
        taken += width
        assert taken <= count
        return slice(taken - width, taken)

    return take


def _upsample(knots: np.ndarray) -> np.ndarray:
    """Bilinear (n, 5, 5, c) -> (n, 32, 32, c)."""
    at = np.linspace(0, _GRID - 1, SIZE)
    low = np.minimum(at.astype(int), _GRID - 2)
    w = at - low
    rows = knots[:, low] * (1 - w)[None, :, None, None] + knots[:, low + 1] * w[None, :, None, None]
    return (
        rows[:, :, low] * (1 - w)[None, None, :, None]
        + rows[:, :, low + 1] * w[None, None, :, None]
    )


def _sample(masks: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear look-up of masks (n, 48, 48) at pixel coordinates (n, 32, 32); 0 outside."""
    n = np.arange(len(masks))[:, None, None]
    x, y = np.clip(x, 0, _MASK - 1.001), np.clip(y, 0, _MASK - 1.001)
    i, j = x.astype(int), y.astype(int)
    u, v = x - i, y - j
    top = masks[n, j, i] * (1 - u) + masks[n, j, i + 1] * u
    bottom = masks[n, j + 1, i] * (1 - u) + masks[n, j + 1, i + 1] * u
    return top * (1 - v) + bottom * v


def _strokes(u: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Straight clutter strokes: u (n, 3, 5) uniform -> coverage (n, 32, 32) in [0, 1]."""
    cover = np.zeros((len(u), SIZE, SIZE))
    for k in range(_STROKES):
        cx, cy, dx, dy, half = (u[:, k, p, None, None] * 2 - 1 for p in range(5))
        length = np.sqrt(dx * dx + dy * dy) + 1e-3
        along = ((x - cx) * dx + (y - cy) * dy) / length
        across = np.abs((x - cx) * dy - (y - cy) * dx) / length
        inside = (np.abs(along) < 0.35 + 0.25 * half) * np.clip((0.09 - across) / 0.06, 0, 1)
        cover = np.maximum(cover, inside)
    return cover


def _draw(masks: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Compose images from glyph masks (16, 48, 48) in [0, 1] and a table of uniform numbers."""
    n = len(u)
    take = _columns(u.shape[1])
    face = (u[:, take(1)] * len(masks)).astype(int)[:, 0]
    angle, shear, scale, ratio, right, down = (
        (u[:, take(1)] * 2 - 1)[..., None] for _ in range(6)
    )  # each (n, 1, 1) in [-1, 1]
    warp = _upsample((u[:, take(2 * _GRID**2)] * 2 - 1).reshape(n, _GRID, _GRID, 2)) * 0.16
    axis = (np.arange(SIZE) + 0.5) / SIZE * 2 - 1
    x0, y0 = np.broadcast_to(axis, (n, SIZE, SIZE)), np.broadcast_to(axis[:, None], (n, SIZE, SIZE))
    x, y = x0 - 0.16 * right + warp[..., 0], y0 - 0.16 * down + warp[..., 1]
    turn = angle * np.pi / 9
    cos, sin = np.cos(turn), np.sin(turn)
    x, y = cos * x + sin * y, cos * y - sin * x
    size = 1.0 + 0.2 * scale
    x, y = (x + 0.25 * shear * y) / (size * (1 + 0.15 * ratio)), y / size
    glyph = _sample(masks[face], (x + 1) * _MASK / 2 - 0.5, (y + 1) * _MASK / 2 - 0.5)

    clutter = _strokes(u[:, take(5 * _STROKES)].reshape(n, _STROKES, 5), x0, y0)
    ink, other = (0.55 + 0.45 * u[:, take(3)].reshape(n, 1, 1, 3) for _ in range(2))
    paper = 0.45 * _upsample(u[:, take(3 * _GRID**2)].reshape(n, _GRID, _GRID, 3))
    image = paper + (other - paper) * 0.7 * clutter[..., None]
    image = image + (ink - image) * glyph[..., None]
    image = image + 0.3 * (u[:, take(3 * SIZE**2)].reshape(n, SIZE, SIZE, 3) - 0.5)
    image = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(image.transpose(0, 3, 1, 2))


def render(per_class: int = IMAGES_PER_CLASS, seed: int = 0) -> Iterator[np.ndarray]:
    """Draw the dataset, one class at a time.

    Args:
        per_class: images of each class, 1 to 600 (the first ones of the full set).
        seed: another seed is another dataset of the same kind.
    Yields:
        (per_class, 3, 32, 32) uint8, for the 100 classes in label order.
    """
    for label, character in enumerate(CHARACTERS):
        masks = np.stack([glyph_mask(face, character) for face in FACES]) / 255.0
        random = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, label])))
        yield _draw(masks, random.random((per_class, _NUMBERS)))


def around(mask: np.ndarray, seed: int) -> np.ndarray:
    """Draw one image of this world around a character of one's own.

    Args:
        mask: (48, 48) uint8 like `glyph_mask`'s, its longer side 36 pixels.
        seed: of colours, warp, clutter and noise.
    Returns:
        (3, 32, 32) uint8.
    """
    random = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    return _draw(mask[None] / 255.0, random.random((1, _NUMBERS)))[0]
