"""What the recipes' models hold: parameter counts, beside those of the released models."""

import torch
from torch import nn

from lgutils import blocks, models
from lgutils.errors import UserError
from lgutils.recipes import RECIPES, Recipe, Shape

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


def markdown() -> str:
    """The paper's experiments as a Markdown table: millions of parameters, the released ones in brackets.

    Returns:
        One line a recipe; the reasons for differences stand below the table.
    """
    roles = ("ancestor", "pseudo", "learngene", "descendant")
    lines = [
        "| recipe | ancestor | pseudo-descendant | learngene | descendant | inherited | data |",
        "|---" * 7 + "|",
    ]
    why = []
    for (name, scale_name), recipe in RECIPES.items():
        if scale_name != "paper" or not recipe.layers:
            continue
        found = counts(recipe)
        cells = [_cell(found[role], recipe.published.get(role)) for role in roles]
        lines.append(
            f"| `{name}` | {' | '.join(cells)} | {found['share']:.0%} | {recipe.dataset} |"
        )
        why += [f"- `{name}`, {role}: {text}." for role, text in recipe.differs.items()]
    return "\n".join([*lines, "", *dict.fromkeys(why)])


def _cell(ours: float, published: float | None) -> str:
    text = f"{ours / 1e6:.2f}"
    return text if published is None or text == f"{published:.2f}" else f"{text} ({published:.2f})"
