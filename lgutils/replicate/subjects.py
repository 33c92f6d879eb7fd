"""Who is tested: the learngene and descendant of each family, and how each arm trains."""

import itertools
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lgutils import condense, fleet, inherit, learngene, reading, recipes, ship
from lgutils.ancestry import Ancestor, AncestryConfig, accumulate
from lgutils.condense import CondenseConfig
from lgutils.data import Task
from lgutils.errors import UserError
from lgutils.evidence import GENE
from lgutils.fleet import Job, Results
from lgutils.fleet.tuning import FITS
from lgutils.learngene import Learngene
from lgutils.recipes import Recipe
from lgutils.replicate.design import Design
from lgutils.train import FitConfig

TOLD = ("family", "layers", "arch", "arch_kwargs", "dataset", "scale", "ancestor_data")  # of a job
CONVOLUTIONS = 8  # of the paper's VGG descendant


@dataclass(frozen=True)
class Subject:
    """What is tested in a family: the learngene and descendant (as a job), and how each arm trains."""

    base: Job
    fits: Mapping[str, FitConfig]

    def to_json(self) -> dict:
        """Plain values, for a results folder that must speak for itself."""
        base = {name: getattr(self.base, name) for name in TOLD}
        return {**base, "fits": {arm: asdict(fit) for arm, fit in self.fits.items()}}

    @classmethod
    def from_json(cls, stored: dict) -> "Subject":
        """Read what `to_json` gave; raises `UserError` where it is of another shape."""
        told = {name: stored[name] for name in TOLD if name in stored}
        base = reading.checked({**told, "method": GENE, "task": {}}, Job, "A subject")
        fits = reading.checked(stored.get("fits"), dict[str, FitConfig], "A subject's training")
        if lacking := FITS.keys() - fits.keys():
            raise UserError(f"A subject does not tell how {min(lacking)!r} trains. {reading.AGAIN}")
        return cls(base, fits)


def subjects(
    scale_name: str,
    families: Collection[str],
    folder: Path,
    results: Results | None = None,
    *,
    ancestor_data: str = "",
    make: bool = True,
    **options: Any,
) -> dict[str, Subject]:
    """The shipped learngenes and learning rates at quick scale; at the others they are made first.

    Making them is accumulating, condensing with one seed (unless the recipe names the layers), and tuning
    every arm on open-world classes; each is kept in `folder` or in the cache, and taken from there the next
    time. Learning rates belong to an ancestor, its learngene and the descendant: another one is tuned anew.

    Args:
        ancestor_data: what the ancestors learn from; empty for the recipe's own.
        make: False to refuse what is not yet made: the parts of an array must not all make it.
        options: for `fleet.run`.
    """
    if scale_name == "quick":
        bases = ship.base_jobs()
        path, design = fleet.tuned_path(), Design.preset("quick")
        return {f: Subject(bases[f], _fits(f, path, design)) for f in families}
    found = {}
    for family in families:
        if not make and not list(folder.glob(f"learning-rates-{family}-*.json")):
            raise _unprepared(family, folder)
        base = _base(family, scale_name, ancestor_data, folder)
        path = folder / f"learning-rates-{family}-{base.key[:8]}.json"
        design = Design.preset(scale_name, family, base.dataset)
        if not path.is_file():
            if not make:
                raise _unprepared(family, folder)
            fleet.tune(
                {family: base}, path, untuned=design.fits, rates=design.rates,
                tasks=design.tuning_tasks, results=results, **options,
            )  # fmt: skip
        found[family] = Subject(base, _fits(family, path, design))
    return found


def _unprepared(family: str, folder: Path) -> UserError:
    return UserError(
        f"Nothing is prepared for {family!r} in {folder}. Run the same command once with --prepare "
        "instead of --part."
    )


def _fits(family: str, path: Path, design: Design) -> dict[str, FitConfig]:
    return {
        arm: fleet.tuned_fit(family, arm, path=path, untuned=design.fits) for arm in design.fits
    }


def _base(family: str, scale_name: str, ancestor_data: str, folder: Path) -> Job:
    """Accumulate, choose layers, and give the job of the learngene's descendant."""
    recipe = recipes.find(family, scale_name)
    config = AncestryConfig.preset(family, scale_name, dataset=ancestor_data or None)
    ancestor = accumulate(config)
    base = Job(
        family, GENE, recipe.layers, Task(), dataset=config.dataset, scale=scale_name,
        ancestor_data=ancestor_data,
    )  # fmt: skip
    if recipe.layers:
        return replace(
            base, arch=recipe.descendant.arch, arch_kwargs=dict(recipe.descendant.kwargs)
        )
    names = _chosen(ancestor, recipe, scale_name, folder)
    gene = learngene.extract(ancestor, names)
    return replace(base, layers=names, arch_kwargs=_shape(gene, family))


def _chosen(ancestor: Ancestor, recipe: Recipe, scale_name: str, folder: Path) -> tuple[str, ...]:
    """The blocks with the largest lambda; the scores stay in the folder."""
    config = CondenseConfig.preset(recipe.name, scale_name, dataset=ancestor.card.dataset)
    path = folder / f"scores-{recipe.name}-{ancestor.card.weight_hash[:8]}-{config.key}.json"
    if not path.is_file():
        scores = condense.score(
            "lambda", ancestor, ancestor.open_world(), config, checkpoint=path.with_suffix(".ckpt")
        )
        learngene.save_scores(scores, path, ancestor=ancestor.card.weight_hash)
    scores, _ = learngene.load_scores(path)
    return learngene.choose(scores, [1] * len(scores.layers), recipe.budget)


def _shape(gene: Learngene, family: str) -> dict:
    """A descendant with half the ancestor's depth that the learngene fits into."""
    if family == "vit":
        return {"depth": 6}
    stages = gene.arch_kwargs["stages"]
    shapes = itertools.product(*(range(1, n + 1) for n in stages))
    for shape in sorted(shapes, key=lambda s: (sum(s), s)):
        if sum(shape) >= CONVOLUTIONS:
            with suppress(UserError):
                inherit.inherit(gene, num_classes=5, stages=list(shape))
                return {"stages": list(shape)}
    return {"stages": list(stages)}
