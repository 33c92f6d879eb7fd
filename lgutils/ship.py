"""Make what the package ships: ancestors, lambda scores and tuned learning rates.

``lgutils ship`` runs it all in order (about half an hour on two CPU cores); ``lgutils ship scores``
makes one part again. Later parts stand on earlier ones.
"""

from lgutils import ancestry, condense, data, fleet, inherit, learngene, scale
from lgutils.ancestry import AncestryConfig, shipped_path
from lgutils.condense import CondenseConfig
from lgutils.errors import unknown

SEEDS = (0, 1, 2)
BUDGET = 3  # layers of the quick learngenes


def ancestors() -> None:
    """Train the quick ancestors anew."""
    for family in scale.FAMILIES:
        ancestor = ancestry.accumulate(AncestryConfig.preset(family, "quick"), fresh=True)
        ancestor.save(shipped_path(family))
        print(ancestor.card)


def scores() -> None:
    """Condense each shipped ancestor with several seeds; keep lambda and its trace."""
    for family in scale.FAMILIES:
        ancestor = ancestry.Ancestor.load(shipped_path(family))
        config = CondenseConfig.preset(family, "quick")
        classes = data.split(ancestor.card.dataset, ancestor.card.split_seed).open_world
        images = data.load(ancestor.card.dataset, ancestor.card.size).of(classes, held_out=False)
        runs = condense.condense_seeds(ancestor, images, config, SEEDS)
        found = condense.from_condensed(runs)
        learngene.save_scores(
            found,
            shipped_path(family).with_name(f"scores-{family}.json"),
            pairs=runs[0].pairs,
            trace=[[[round(v, 3) for v in row] for row in run.trace.tolist()] for run in runs],
            objective=[[round(v, 3) for v in run.losses.tolist()] for run in runs],
            seconds=[round(run.seconds) for run in runs],
            config_key=config.key,
            ancestor=ancestor.card.weight_hash,
            versions=ancestry.versions(),
        )
        print(family, dict(zip(found.layers, found.mean.round(3).tolist(), strict=True)))


def chosen(family: str) -> tuple[str, ...]:
    """The blocks of the quick learngene of a family: the shipped scores' best, within the budget."""
    found, _ = learngene.shipped_scores(family)
    return learngene.choose(found, [1] * len(found.layers), BUDGET)


def rates() -> None:
    """Tune every arm's learning rate on open-world classes."""
    layers = {family: chosen(family) for family in scale.FAMILIES}
    table = fleet.tune(layers, tuple(inherit.METHODS), fleet.tuned_path())
    for family, best in table["best"].items():
        print(family, best)


PARTS = {"ancestors": ancestors, "scores": scores, "rates": rates}


def run(parts: list[str]) -> None:
    """Make the named parts, or all of them, in order."""
    for part in parts:
        if part not in PARTS:
            raise unknown("part", part, PARTS)
    for name, make in PARTS.items():
        if not parts or name in parts:
            make()
