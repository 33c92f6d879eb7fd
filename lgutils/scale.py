"""The two scales: `quick` for two CPU cores, `paper` for a GPU. Presets differ, code paths do not."""

import os

from lgutils.errors import unknown

SCALES = ("quick", "paper")
FAMILIES = ("cnn", "vit")
TITLES = {"cnn": "CNN", "vit": "ViT"}  # for people


def current(name: str | None = None) -> str:
    """The scale named, else `$LGUTILS_SCALE`, else "quick"."""
    name = name or os.environ.get("LGUTILS_SCALE") or "quick"
    if name not in SCALES:
        raise unknown("scale", name, SCALES)
    return name


def family(name: str) -> str:
    """Check the name of a model family."""
    if name not in FAMILIES:
        raise unknown("family", name, FAMILIES)
    return name
