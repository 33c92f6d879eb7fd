"""Make what the package ships (ancestors, lambda scores, tuned learning rates) and results/.

``lgutils ship`` runs it all in order (one to two hours on two CPU cores); ``lgutils ship scores``
makes one part again. Later parts stand on earlier ones.
"""

from contextlib import suppress
from dataclasses import asdict, replace
from functools import lru_cache
from itertools import product
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from lgutils import ancestry, condense, files, fleet, home, inherit, learngene, replicate, scale
from lgutils import faults as module_faults
from lgutils.ancestry import AncestryConfig, shipped_path
from lgutils.condense import CondenseConfig
from lgutils.condense.criteria import Scores
from lgutils.data import Task
from lgutils.errors import UserError, unknown
from lgutils.faults import Faults

SEEDS = (0, 1, 2)
FASHION = "fashion-mnist"
BUDGET = 3  # layers of the quick learngenes
BEYOND = {min(fleet.LEARNING_RATES): 1e-4, max(fleet.LEARNING_RATES): 1e-1}  # edge -> next rate
ANCESTORS = {"cnn": (0, 1, 2), "vit": (0, 1)}  # seeds; a quick ViT takes ten times as long to train


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
        runs = condense.condense_seeds(ancestor, ancestor.open_world(), config, SEEDS)
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


def base_jobs() -> dict[str, fleet.Job]:
    """A job of each family with the quick learngene and the main descendant; `fleet.grid` varies it."""
    return {
        family: fleet.Job(
            family, "learngene", chosen(family), Task(), arch_kwargs=descendants(family)["main"]
        )
        for family in scale.FAMILIES
    }


def noise_scores(seed: int) -> Scores:
    """Condense the shipped CNN with noise, fresh for every image, in place of its last block's output."""
    ancestor = ancestry.Ancestor.load(shipped_path("cnn"))
    last = ancestor.model.get_submodule("features.23")  # the activation at the last block's end
    source = torch.Generator().manual_seed(seed)
    last.register_forward_hook(lambda *io: torch.randn(io[2].shape, generator=source).relu())
    config = replace(CondenseConfig.preset("cnn", "quick"), seed=seed)
    return condense.from_condensed([condense.condense(ancestor, ancestor.open_world(), config)])


def noise() -> None:
    """A control for lambda, used in assignment 3: what a block gets that knows nothing."""
    rows = [
        {"seed": seed, "block": block, "partner": partner, "lambda": round(float(value), 3)}
        for seed in SEEDS
        for found in [noise_scores(seed)]
        for block, line in enumerate(found.matrix, 1)
        for partner, value in enumerate(line, 1)
    ]
    text = pd.DataFrame(rows).to_csv(index=False)
    files.write_text(results_folder() / "noise-quick.csv", text)


def rates() -> None:
    """Tune every arm's learning rate on open-world classes."""
    table = fleet.tune(base_jobs(), fleet.tuned_path())
    for family, best in table["best"].items():
        print(family, best)


def edge_jobs() -> dict[str, list[fleet.Job]]:
    """Arms whose tuned rate ends the grid, by name: their tuning tasks at that rate and one beyond it."""
    found = {}
    for (family, base), arm in product(base_jobs().items(), fleet.tuning.FITS):
        fit = fleet.tuned_fit(family, arm)
        if fit.lr in BEYOND:
            job = replace(base, pool="open_world", method=fleet.tuning.method_of(arm), fit=fit)
            lrs = (fit.lr, BEYOND[fit.lr])
            found[f"{family}: {arm}"] = fleet.grid(job, lr=lrs, task=fleet.tuning.TUNING_TASKS)
    return found


def edges() -> None:
    """Train the arms whose tuned rate lies at an end of the grid at the next rate beyond it, too."""
    asked = edge_jobs()
    jobs = [job for group in asked.values() for job in group]
    names = [name.partition(": ")[2] for name, group in asked.items() for _ in group]
    found = fleet.table(fleet.run(jobs, progress="edges"))
    found.insert(1, "arm", names)
    files.write_text(results_folder() / "edges-quick.csv", found.to_csv(index=False))
    print(found.groupby(["family", "arm", "lr"])["accuracy"].mean())


@lru_cache(maxsize=2)
def descendants(family: str) -> dict[str, dict]:
    """Three descendants of a family, by name: arguments for timm.

    "shallower" has fewer layers than "main" (for the CNN the fewest that the quick learngene fits
    into), "main" is the one of the main comparison, "deeper" is deeper than the ancestor.
    """
    if family == "vit":
        return {"shallower": {"depth": 4}, "main": {"depth": 6}, "deeper": {"depth": 10}}
    gene = learngene.extract(ancestry.Ancestor.load(shipped_path(family)), chosen(family))
    shapes = sorted(product((1,), (1, 2), (1, 2), (1, 2)), key=lambda s: (sum(s), s))
    for stages in shapes:
        with suppress(UserError):
            inherit.inherit(gene, num_classes=5, stages=stages)
            break
    return {
        "shallower": {"stages": list(stages)},
        "main": {"stages": [1, 2, 2, 2]},
        "deeper": {"stages": [1, 3, 3, 3]},
    }


def sweep_jobs(tasks: int = 20) -> list[fleet.Job]:
    """The jobs behind chapters 03 and 04: all methods on the main descendant, other depths, and digits."""
    jobs = []
    for family, base in base_jobs().items():
        shapes = descendants(family)
        plan = [("glyphs", "main", tuple(inherit.METHODS))]
        plan += [("glyphs", depth, ("learngene", "scratch")) for depth in ("shallower", "deeper")]
        plan += [("digits", "main", ("learngene", "scratch", "stem only", "full fine-tune"))]
        for dataset, depth, methods in plan:
            for method in methods:
                job = replace(
                    base, method=method, dataset=dataset, arch_kwargs=shapes[depth],
                    fit=fleet.tuned_fit(family, method),
                )  # fmt: skip
                jobs += fleet.grid(job, task=range(tasks))
    return jobs


def sweep() -> None:
    """Train the descendants behind chapters 03 and 04 (640 of them) and keep a line of each."""
    rows = fleet.run(sweep_jobs(), progress="descendants")
    path = results_folder() / "inherit-quick.csv"
    files.write_text(path, fleet.table(rows).to_csv(index=False))
    print(f"{len(rows)} rows in {path}")


def fashion_jobs(tasks: int = 20) -> list[fleet.Job]:
    """Glyph learngenes in Fashion-MNIST tasks, beside scratch, the stem alone and a full fine-tune."""
    return [
        job
        for family, base in base_jobs().items()
        for method in ("learngene", "scratch", "stem only", "full fine-tune")
        for job in fleet.grid(
            replace(base, method=method, dataset=FASHION, fit=fleet.tuned_fit(family, method)),
            task=range(tasks),
        )
    ]


def fashion() -> None:
    """Train the descendants behind chapter 04's clothes; needs the Fashion-MNIST files."""
    rows = fleet.run(fashion_jobs(), progress="fashion")
    path = results_folder() / "fashion-quick.csv"
    files.write_text(path, fleet.table(rows).to_csv(index=False))
    print(f"{len(rows)} rows in {path}")


def variance_scores(family: str) -> list[Scores]:
    """The scores of ancestors that differ in their seed, two condensing seeds each.

    The first ancestor is the shipped one with its shipped scores; the others are trained (and kept in
    the cache) where they are not at hand.
    """
    found = [learngene.shipped_scores(family)[0]]
    for seed in ANCESTORS[family][1:]:
        ancestor = ancestry.accumulate(AncestryConfig.preset(family, "quick", seed=seed))
        config = CondenseConfig.preset(family, "quick")
        path = files.cache_dir() / f"scores-{family}-{ancestor.card.config_key}-{config.key}.json"
        if not path.is_file():
            runs = condense.condense_seeds(ancestor, ancestor.open_world(), config, SEEDS[:2])
            learngene.save_scores(condense.from_condensed(runs), path)
        found.append(learngene.load_scores(path)[0])
    return [replace(scores, runs=scores.runs[:2]) for scores in found]


def variance() -> None:
    """How much ancestor, condensing seed, task and descendant seed each move the accuracy."""
    jobs = []
    for family, base in base_jobs().items():
        base = replace(base, fit=fleet.tuned_fit(family, "learngene"))
        for seed, scores in zip(ANCESTORS[family], variance_scores(family), strict=True):
            for i in range(2):
                one = replace(scores, runs=scores.runs[i : i + 1])
                names = learngene.choose(one, [1] * len(one.layers), BUDGET)
                heir = replace(base, layers=names, ancestor_seed=seed)
                rows = fleet.grid(heir, task=range(8), seed=(0, 1))
                jobs += [(i, job) for job in rows]
    rows = fleet.run([job for _, job in jobs], progress="descendants")
    table = fleet.table(rows)
    table.insert(0, "condensing_seed", [i for i, _ in jobs])
    path = results_folder() / "variance-quick.csv"
    files.write_text(path, table.to_csv(index=False))
    print(f"{len(rows)} rows in {path}")


def faults_jobs(tasks: int = 20) -> dict[tuple[str, str, str], tuple[list[fleet.Job], Faults]]:
    """Learngene and scratch of both families under each fault of the reference code, and under none."""
    switches = {"none": {}, **{name: {name: True} for name in asdict(Faults())}}
    return {
        (family, method, fault): (
            fleet.grid(
                replace(base, method=method, fit=fleet.tuned_fit(family, method)), task=range(tasks)
            ),
            Faults(**switches[fault]),
        )
        for family, base in base_jobs().items()
        for method in ("learngene", "scratch")
        for fault in switches
    }


def faults() -> None:
    """Train the main comparison again with the reference code's faults switched on one at a time."""
    asked = faults_jobs()
    with fleet.backends.pool(fleet.backends.cores()) as processes:
        running = [processes.submit(module_faults.run, *one) for one in asked.values()]
        found = [future.result() for future in tqdm(running, desc="faults", unit="arm")]
    lines = [
        {"family": family, "method": method, "fault": fault, "task": job.task.seed,
         "lr": job.fit.lr, "accuracy": round(value, 4),
         **fleet.jobs.made_by("one at a time", job.fit)}
        for ((family, method, fault), (jobs, _)), values in zip(asked.items(), found, strict=True)
        for job, value in zip(jobs, values, strict=True)
    ]  # fmt: skip
    path = results_folder() / "faults-quick.csv"
    files.write_text(path, pd.DataFrame(lines).to_csv(index=False))
    print(f"{len(lines)} rows in {path}")


def lifelong() -> None:
    """Ancestors that learn task by task, in several orders, and what their learngenes are worth."""
    from lgutils import lifelong as study  # which stands on this module

    study.run(results_folder() / "lifelong-quick.csv")


def results_folder() -> Path:
    """The stored results, see `home.folder`."""
    return home.folder() / "results"


def reports() -> None:
    """Write the reports of the stored replications again from their rows, as after a change of the page."""
    for path in sorted(results_folder().glob("*/runs.csv")):
        replicate.report_again(path.parent)
        print(f"{path.parent}: report.html, report.md")


def pictures() -> None:
    """Draw the pictures of README, site and docs; the thumbnails show what the notebooks store."""
    from lgutils import pictures as module

    module.draw(results_folder().parent)


def pages() -> None:
    """Fill the tables of README and docs from the stored replications."""
    from lgutils import summary

    summary.fill(results_folder().parent)


PARTS = {
    "ancestors": ancestors,
    "scores": scores,
    "noise": noise,
    "rates": rates,
    "edges": edges,
    "sweep": sweep,
    "fashion": fashion,
    "variance": variance,
    "faults": faults,
    "lifelong": lifelong,
    "reports": reports,
    "pictures": pictures,
    "pages": pages,
}


def run(parts: list[str]) -> None:
    """Make the named parts, or all of them, in order.

    Raises:
        UserError: an unknown part, or there is no clone to write to.
    """
    home.clone()
    for part in parts:
        if part not in PARTS:
            raise unknown("part", part, PARTS)
    for name, make in PARTS.items():
        if not parts or name in parts:
            make()
