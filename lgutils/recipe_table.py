"""What the recipes' models hold: parameter counts, beside those of the released models."""

import torch
from torch import nn

from lgutils import blocks, models
from lgutils.errors import UserError
from lgutils.recipes import Recipe, Shape

CLASSES = {"ancestor": 64, "pseudo": 16, "descendant": 5}  # base, open-world, and those of a task


def _built(shape: Shape, num_classes: int) -> nn.Module:
    with torch.device("meta"):  # shapes without numbers
        return models.create(shape.arch, num_classes, **shape.kwargs)


def counts(recipe: Recipe) -> dict[str, float]:
    """Parameters of a recipe's models; nothing is trained or loaded.

    Returns:
        "ancestor" (64 classes), "pseudo" (16 classes), "descendant" (5 classes): parameters, heads
        included, BatchNorm statistics not. Where the recipe names its layers also "learngene" (with what
        travels along) and "share", the part of the descendant's parameters that is inherited, 0 to 1.
    Raises:
        UserError: a recipe without an ancestor ("custom").
    """
    if recipe.ancestor is None:
        raise UserError(f"Recipe {recipe.name!r} names no ancestor, so there is nothing to count.")
    built = {role: _built(getattr(recipe, role), n) for role, n in CLASSES.items()}
    found: dict[str, float] = {
        role: sum(p.numel() for p in model.parameters()) for role, model in built.items()
    }
    if recipe.layers:
        every = blocks.layers(built["ancestor"])
        kept = {blocks.find(every, name).name for name in recipe.layers}
        found["learngene"] = sum(
            x.num_params for x in every if x.name in kept or x.role in recipe.travels
        )
        found["share"] = found["learngene"] / found["descendant"]
    return found


def table(recipe: Recipe) -> str:
    """The counts as lines of text: role, ours, the released one's, and why they differ."""
    lines, found = [], counts(recipe)
    for role in ("ancestor", "pseudo", "learngene", "descendant"):
        if role in found:
            theirs = (
                f"{recipe.published[role]:8.2f} M" if role in recipe.published else "   not told"
            )
            why = f"  ({recipe.differs[role]})" if role in recipe.differs else ""
            lines.append(f"{role:>10}  {found[role] / 1e6:8.2f} M  {theirs}{why}")
    if "share" in found:
        lines.append(f"{found['share']:.0%} of the descendant's parameters are inherited")
    return "\n".join(lines)
