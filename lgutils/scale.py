"""The scales: `quick` for two CPU cores, `paper` for a GPU, `rehearsal` for the paper's path in little.

Presets differ, code paths do not: `recipes` holds them all.
"""

import os

from lgutils.errors import unknown

SCALES = ("quick", "paper", "rehearsal")
FAMILIES = ("cnn", "vit")  # those of the course, at every scale
TITLES = {  # for people
    "cnn": "CNN",
    "vit": "ViT",
    "vgg16": "VGG16",
    "resnet18": "ResNet-18",
    "swin-s": "Swin-S",
    "vit-s": "ViT-S, six blocks",
    "vit-s-first": "ViT-S, first blocks",
    "custom": "adopted",
}


def current(name: str | None = None) -> str:
    """The scale named, else `$LGUTILS_SCALE`, else "quick"."""
    name = name or os.environ.get("LGUTILS_SCALE") or "quick"
    if name not in SCALES:
        raise unknown("scale", name, SCALES)
    return name


def family(name: str) -> str:
    """Check the name of a model family."""
    if name not in TITLES:
        raise unknown("family", name, TITLES)
    return name
