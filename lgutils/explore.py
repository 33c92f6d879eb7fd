"""Looking instead of reading: a learngene's budget, a few-shot task and one's own sketches, to play with.

In Jupyter there are sliders and a canvas, elsewhere a figure with alternative text.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lgutils import ancestry, blocks, figures, fleet, inherit, learngene, ship, sketch, train
from lgutils.ancestry import Ancestor, AncestryConfig
from lgutils.condense.criteria import Scores
from lgutils.data import Episode, ImageSet, Task
from lgutils.errors import UserError
from lgutils.exercises import live
from lgutils.figures.shown import element
from lgutils.learngene import Learngene
from lgutils.recipes import FEW_SHOT
from lgutils.train import FitConfig

LABELS = {"lambda": "λ", "cka": "CKA (similarity, 0 to 1)"}

Drawn = tuple[Figure, str]  # a figure and its alternative text


def budget(
    ancestor: Ancestor,
    scores: Scores,
    rival: Scores | None = None,
    budgets: Sequence[int] | None = None,
    *,
    shape: Mapping[str, Any] | None = None,
) -> None:
    """Show what a learngene of some blocks is: which layers, how they score, how much is inherited.

    In Jupyter: a slider over the budget. Elsewhere: the smallest, middle and largest side by side.

    Args:
        scores: what the blocks are chosen by, see `learngene.condense_to`.
        rival: scores of another criterion, drawn against the first.
        budgets: numbers of blocks; None for all there are.
        shape: a descendant's arguments for timm, such as {"depth": 6}; None for the ancestor's shape.
    Raises:
        UserError: a budget below 1 or beyond the number of blocks, scores of another ancestor.
    """
    offered = _budgets(scores, budgets)
    shape = dict(shape or {})
    smallest, _ = (learngene.condense_to(ancestor, scores, k) for k in (offered[0], offered[-1]))
    if rival is not None and rival.layers != scores.layers:
        raise UserError("The rival's scores are about other layers. Score the same ancestor twice.")
    inherit.inherit(
        inherit.scratch(ancestor, smallest), num_classes=5, **shape
    )  # a wrong shape says so
    if live():
        _browse(
            {"blocks": (offered, offered[(len(offered) - 1) // 2])},
            lambda blocks: draw_budget(ancestor, scores, [blocks], rival, shape),
        )
    else:
        few = sorted({offered[0], offered[(len(offered) - 1) // 2], offered[-1]})
        figures.show(*draw_budget(ancestor, scores, few, rival, shape))


def _budgets(scores: Scores, budgets: Sequence[int] | None) -> list[int]:
    """The budgets in rising order; whole numbers only."""
    if budgets is None:
        return list(range(1, int(np.isfinite(scores.mean).sum()) + 1))
    if np.isscalar(budgets):
        budgets = [budgets]
    if odd := [k for k in budgets if isinstance(k, bool) or not isinstance(k, int | np.integer)]:
        raise UserError(f"A budget of {odd[0]!r} was given; here it is a whole number of blocks.")
    if not len(budgets):
        raise UserError("No budget was given. Name numbers of blocks, such as [1, 3].")
    return sorted({int(k) for k in budgets})


def draw_budget(
    ancestor: Ancestor,
    scores: Scores,
    budgets: Sequence[int],
    rival: Scores | None = None,
    shape: Mapping[str, Any] | None = None,
) -> Drawn:
    """The figure of `budget` for some budgets, and its alternative text."""
    layers = blocks.layers(ancestor.model)
    whole = sum(layer.num_params for layer in layers)
    genes = {k: learngene.condense_to(ancestor, scores, k) for k in budgets}
    shares = {
        "of the ancestor": [gene.num_params / whole for gene in genes.values()],
        "of the descendant": [_share(gene, shape or {}) for gene in genes.values()],
    }
    place = {name: i for i, name in enumerate(scores.layers)}
    rows = [place.get(layer.name) for layer in layers if layer.role == "block"]
    label = LABELS.get(scores.method, scores.method)
    if len(scores.runs) > 1:
        label += f", mean and SD of {len(scores.runs)} seeds"
    figure = figures.budgets(
        layers,
        {k: [layer.name for layer in gene.layers] for k, gene in genes.items()},
        (label, _taken(scores.mean, rows), _taken(scores.spread, rows)),
        shares,
        rival and (LABELS.get(rival.method, rival.method), _taken(rival.mean, rows)),
    )
    return figure, _budget_text(layers, genes, shares)


def _taken(values: np.ndarray, rows: Sequence[int | None]) -> np.ndarray:
    """The values in the order of the network's blocks; NaN for a block without a score."""
    return np.array([np.nan if row is None else values[row] for row in rows])


def _share(gene: Learngene, shape: Mapping[str, Any]) -> float:
    """Share of a 5-way descendant's parameters that are the learngene's; NaN if it does not fit."""
    try:
        heir = inherit.inherit(gene, num_classes=5, **shape)
    except UserError:
        return float("nan")
    return gene.num_params / sum(p.numel() for p in heir.model.parameters())


def _budget_text(layers, genes: Mapping[int, Learngene], shares: Mapping[str, list]) -> str:
    names = [layer.name for layer in layers if layer.role == "block"]
    parts = []
    for i, (k, gene) in enumerate(genes.items()):
        numbers = ", ".join(str(names.index(name) + 1) for name in gene.names)
        owned = [
            f"does not fit the {owner.split()[-1]}"
            if np.isnan(values[i])
            else f"{100 * values[i]:.0f} percent {owner}"
            for owner, values in shares.items()
        ]
        parts.append(f"budget {k}: blocks {numbers}, {', '.join(owned)}")
    return (
        f"The ancestor's {len(names)} blocks as boxes with the chosen ones hatched, their scores, and "
        f"the share of parameters inherited; {'; '.join(parts)}."
    )


def tasks(
    genes: Learngene | Mapping[str, Learngene],
    images: ImageSet,
    classes: tuple[int, ...],
    seeds: Sequence[int] = tuple(range(10)),
    *,
    shots: Sequence[int] = (10,),
    ways: int = 5,
    shape: Mapping[str, Any] | None = None,
    fit: FitConfig | Mapping[str, FitConfig] = FEW_SHOT,
) -> None:
    """Browse few-shot tasks: images to learn from, test images, and a trained descendant's answers.

    In Jupyter: sliders over descendants, tasks and shots. Elsewhere: the first task with the most
    shots, once for each learngene. A descendant is trained (about a second) when it is first shown.

    Args:
        genes: what the descendant inherits; several by name (`inherit.scratch` makes an empty one).
        images, classes: where the tasks come from, see `data.Task.draw`.
        seeds: one task each; also seeds the descendant's fresh layers.
        shots: training images of each class.
        ways: classes of a task.
        shape: the descendant's arguments for timm; None for the ancestor's shape.
        fit: how to train, for all or by name.
    Raises:
        UserError: no task, too few classes or images, a learngene that does not fit.
    """
    genes = genes if isinstance(genes, Mapping) else {"learngene": genes}
    for what, given in {"learngene": genes, "seed": seeds, "number of shots": shots}.items():
        if not len(given):
            raise UserError(f"No {what} was given: there is no task to show.")
    by_name = fit if isinstance(fit, Mapping) else dict.fromkeys(genes, fit)
    if missing := [name for name in genes if name not in by_name]:
        raise UserError(f"`fit` says nothing about {missing[0]!r}. Name every descendant.")

    for gene in genes.values():
        inherit.inherit(gene, num_classes=ways, **(shape or {}))  # what does not fit says so here

    @cache
    def answers(name: str, seed: int, k: int) -> tuple[Episode, np.ndarray]:
        episode = Task(ways, k, seed).draw(images, classes)
        heir = inherit.inherit(genes[name], num_classes=ways, seed=seed, **(shape or {}))
        model = train.fit(heir.model, episode.train, heir.normalize, by_name[name]).model
        return episode, train.predict(model, episode.test[0], heir.normalize)

    def draw(descendant: str, task: int, shots: int) -> Drawn:
        return draw_task(descendant, task, *answers(descendant, task, shots))

    if live():
        _browse(
            {
                "descendant": (list(genes), next(iter(genes))),
                "task": (list(seeds), seeds[0]),
                "shots": (sorted(shots), max(shots)),
            },
            draw,
        )
    else:
        for name in genes:
            figures.show(*draw(name, seeds[0], max(shots)))


def draw_task(name: str, seed: int, episode: Episode, predicted) -> Drawn:
    """The figure of `tasks` for one task, and its alternative text.

    Args:
        name: the descendant's.
        predicted: (N,) classes that it names for the test images.
    """
    labels = episode.test[1]
    right, shots = int((predicted == labels).sum()), int((episode.train[1] == 0).sum())
    said = f"{right} of {len(labels)} test images right"
    title = f"{name}, task {seed}, {shots} images of each class: {said}"
    figure = figures.task(episode.train, episode.test, predicted, title)
    most = "; ".join(
        f"class {chr(65 + c)}: {int((predicted[labels == c] != c).sum())} wrong"
        for c in range(len(episode.classes))
    )
    return figure, f"Images of a {len(episode.classes)}-way task with answers. {title}; {most}."


def draw(
    genes: Mapping[str, Learngene] | None = None,
    *,
    shape: Mapping[str, Any] | None = None,
    fit: FitConfig | Mapping[str, FitConfig] = FEW_SHOT,
) -> None:
    """Sketch five characters, let descendants learn them, and see what they take the next sketch for.

    In Jupyter: a canvas, if `ipycanvas` is installed. Elsewhere, Colab too: the shipped sketches, which were made up by a
    program (see `sketch`), with what each descendant takes those for that it did not learn from. It is a
    demonstration: one choice of characters and one seed are no evidence for any method.

    Args:
        genes: what the descendants inherit, by name; None for the shipped CNN's learngene beside
            scratch, in the main descendant's shape and at their tuned learning rates.
        shape: the descendants' arguments for timm; None for the ancestor's shape.
        fit: how to train, for all or by name.
    Raises:
        UserError: a learngene that does not fit.
    """
    if genes is None:
        genes, shape, fit = _quick("cnn")
    fits = fit if isinstance(fit, Mapping) else dict.fromkeys(genes, fit)
    teach = partial(sketch.teach, genes=genes, fits=fits, shape=shape or {})
    if live() and find_spec("ipycanvas") and "google.colab" not in sys.modules:
        from IPython.display import display

        from lgutils.sketchpad import Sketchpad

        display(Sketchpad(teach, element).view)
    else:
        learned, guessed = sketch.shipped()
        figures.show(*draw_sketches(teach(learned), learned, guessed))


def _quick(family: str) -> tuple[dict[str, Learngene], dict, dict[str, FitConfig]]:
    """Learngene and scratch of the shipped ancestor, the main descendant's shape, and their tuned fits."""
    ancestor = ancestry.accumulate(AncestryConfig.preset(family, "quick"), progress=False)
    scores, _ = learngene.shipped_scores(family)
    gene = learngene.condense_to(ancestor, scores, ship.BUDGET)
    genes = {"learngene": gene, "scratch": inherit.scratch(ancestor, gene)}
    fits = {name: fleet.tuned_fit(family, name) for name in genes}
    return genes, ship.descendants(family)["main"], fits


def draw_sketches(pupils: sketch.Pupils, learned: sketch.Book, guessed: sketch.Book) -> Drawn:
    """The figure of `draw` for two books of the same characters, and its alternative text."""
    seen, new = sketch.images(learned), sketch.images(guessed, seed=1)
    answers = pupils.guess(new[0])
    said = ", ".join(
        f"{name} {int((classes == new[1].numpy()).sum())} of {len(classes)} right"
        for name, classes in answers.items()
    )
    title = f"Sketches made up by a program: {said}"
    figure = figures.sketches(seen, new, answers, list(learned), title)
    return figure, f"Sketches of {', '.join(learned)} with the answers under them. {title}."


def _browse(controls: Mapping[str, tuple[list, Any]], draw: Callable[..., Drawn]) -> None:
    """One slider a control with several values (options, start), and the picture that they draw."""
    import ipywidgets
    from IPython.display import display

    sliders = {
        name: ipywidgets.SelectionSlider(
            options=options, value=start, description=name, continuous_update=False
        )
        for name, (options, start) in controls.items()
        if len(options) > 1
    }
    fixed = {n: start for n, (_, start) in controls.items() if n not in sliders}
    picture = ipywidgets.HTML()

    def redraw(*_) -> None:
        picture.value = element(*draw(**fixed, **{n: s.value for n, s in sliders.items()}))

    for slider in sliders.values():
        slider.observe(redraw, "value")
    redraw()
    display(ipywidgets.VBox([*sliders.values(), picture]))
