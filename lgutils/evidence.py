"""From rows to the paper's four claims, one function each, for one family on one dataset.

`frames` maps the studies of `replicate.plan` to tables of their rows. Everything is paired over tasks; the
threshold and the grid were fixed before the first run.
"""

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd

from lgutils import report
from lgutils.fleet.store import curves, select
from lgutils.fleet.tuning import LONG
from lgutils.report import Claim, Interval, Sensitivity
from lgutils.train import FitConfig

Frames = Mapping[str, pd.DataFrame]

THRESHOLD = 0.95  # of the reference's final accuracy on the same task
REFERENCE_SHOTS = 20
GENE, SCRATCH = "learngene", "scratch"


def arm(frames: Frames, name: str) -> pd.DataFrame:
    """The rows of an arm of the main comparison, ordered by task."""
    if name == LONG:
        frame = frames["long"]
        return select(frame[frame["k_shot"] != REFERENCE_SHOTS])
    return select(frames["arms"], method=name)


def _same_tasks(frame: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """The rows of `frame` on the tasks of `other`: to the bit the same images."""
    return frame[frame["task_key"].isin(other["task_key"])]


def _final(frame: pd.DataFrame) -> np.ndarray:
    return frame["accuracy"].to_numpy()


def times(frame: pd.DataFrame, threshold: np.ndarray, never: int | None = None):
    """Steps to a threshold (tasks,), and whether it was reached.

    Args:
        never: counted where it is never reached; None for the arm's own last step (censored there).
    """
    steps, values = curves(frame)
    time, reached = report.steps_to(steps, values, threshold)
    return np.where(reached, time, never or steps[-1]), reached


def converge(frames: Frames, family: str, dataset: str) -> list[Claim]:
    """Claim 1: fewer steps to 95 % of what scratch reaches, also of what it reaches in five times the steps."""
    about = {"number": 1, "family": family, "dataset": dataset}
    gene, scratch = arm(frames, GENE), arm(frames, SCRATCH)
    target = THRESHOLD * _final(scratch)
    ours, reached = times(gene, target)
    theirs, _ = times(scratch, target)
    found = [
        Claim(
            "steps to 95 % of scratch's final accuracy, scratch / learngene",
            report.geometric(theirs, ours), "times", null=1.0, **about,
            note=f"scratch ends at {_final(scratch).mean():.0%}; the learngene gets there in "
            f"{reached.sum()} of {len(reached)} tasks",
        )
    ]  # fmt: skip
    steps, ours = curves(gene)
    _, theirs = curves(scratch)
    chance = 1 / gene["n_way"].iloc[0]
    areas = [report.area(steps, curve, chance) for curve in (ours, theirs)]
    found.append(
        Claim("mean accuracy along the learning curve, learngene - scratch",
              report.paired(*areas), **about)
    )  # fmt: skip
    if "long" in frames:
        patient = arm(frames, LONG)
        theirs, ours, reached = _against(patient, gene)
        found.append(
            Claim(
                "steps to 95 % of what scratch reaches in 5x the steps, scratch / learngene",
                report.geometric(theirs, ours), "times", null=1.0, **about,
                note=f"that scratch ends at {_final(patient).mean():.0%}; the learngene gets there "
                f"within a fifth of the steps in {reached.sum()} of {len(reached)} tasks, and where "
                "it does not it is charged with all of them",
            )
        )  # fmt: skip
    return found


def _against(patient: pd.DataFrame, gene: pd.DataFrame) -> tuple[np.ndarray, ...]:
    """Steps of patient scratch and of the learngene to 95 % of where patient scratch ends.

    Returns:
        Both (tasks,), and whether the learngene gets there; if not, it is charged with all steps.
    """
    target = THRESHOLD * _final(patient)
    theirs, _ = times(patient, target)
    never = int(patient["steps"].iloc[0])
    return theirs, *times(_same_tasks(gene, patient), target, never=never)


def amortised(frames: Frames, invested: float, descendants: int) -> Interval:
    """How many times fewer images the learngene needs than patient scratch, its own making charged.

    Both need images until 95 % of what scratch ends with in five times the steps; a descendant that does
    not get there is charged with all of those steps.

    Args:
        invested: images that went forward and backward to accumulate and condense.
        descendants: that share the investment.
    """
    patient = arm(frames, LONG)
    theirs, ours, _ = _against(patient, arm(frames, GENE))
    batch = patient["batch_size"].iloc[0]
    return report.ratio(theirs * batch, ours * batch + invested / descendants)


def grid_table(frames: Frames, name: str) -> pd.DataFrame:
    """Accuracies of an arm over the grid: one line a task, one column a (learning rate, decay) pair."""
    frame = frames["grid"]
    frame = frame[frame["method"] == name]
    return frame.pivot(index="task", columns=["lr", "weight_decay"], values="accuracy")


def sensitivities(frames: Frames, tuned: Mapping[str, FitConfig]) -> dict[str, Sensitivity]:
    """Spread of both arms over the grid, and what a setting drawn blindly loses, for each task.

    The loss is measured from the arm's tuned setting, which was found on open-world classes: to take
    the best cell of these very tasks would flatter, and would leave no valid interval.
    """
    found = {}
    for name in (GENE, SCRATCH):
        table = grid_table(frames, name)
        best = table.columns.get_loc((tuned[name].lr, tuned[name].weight_decay))
        found[name] = report.sensitivity(table, best)
    return found


def sensitive(
    frames: Frames, family: str, dataset: str, tuned: Mapping[str, FitConfig]
) -> list[Claim]:
    """Claim 2: less is lost by a learning rate and weight decay taken at random from the grid."""
    about = {"family": family, "dataset": dataset}
    found = sensitivities(frames, tuned)
    gene, scratch = found[GENE], found[SCRATCH]
    note = (
        f"means over the grid: learngene {gene.mean.mean():.0%}, scratch {scratch.mean.mean():.0%}; "
        "an arm near chance or near 100 % cannot vary much"
    )
    best = report.sensitivity(grid_table(frames, SCRATCH)).best  # by the other tasks
    return [
        Claim("lost by a random setting against the tuned one, learngene - scratch",
              report.paired(gene.regret, scratch.regret), larger=False, number=2, note=note, **about),
        Claim("spread (SD) over the grid, learngene - scratch",
              report.paired(gene.sd, scratch.sd), larger=False, number=2, note=note, **about),
        Claim("share of settings within 2 points of the tuned one or above, learngene - scratch",
              report.paired(gene.near, scratch.near), number=2, note=note, **about),
        Claim("mean accuracy over the grid, learngene - scratch",
              report.paired(gene.mean, scratch.mean), **about),
        Claim("accuracy, learngene as tuned - scratch at its best setting of the grid",
              report.paired(gene.best, best), **about,
              note="scratch's setting is chosen on the other tasks of these very classes, the "
              "learngene's on open-world glyphs: this favours scratch"),
    ]  # fmt: skip


def perform(frames: Frames, family: str, dataset: str) -> list[Claim]:
    """Claim 3: higher last-epoch accuracy than scratch; and, as controls, than every other arm.

    The p-values are Holm's over all comparisons of the family and dataset.
    """
    gene = arm(frames, GENE)
    others = {m: arm(frames, m) for m in frames["arms"]["method"].unique() if m != GENE}
    if "long" in frames:
        others[LONG] = arm(frames, LONG)
    pairs = {m: (_final(_same_tasks(gene, frame)), _final(frame)) for m, frame in others.items()}
    p = report.holm({m: report.p_value(ours - theirs) for m, (ours, theirs) in pairs.items()})
    return [
        Claim(
            f"accuracy, learngene - {m}", report.paired(*pairs[m]), p=p[m],
            number=3 if m in (SCRATCH, LONG) else None, family=family, dataset=dataset,
        )
        for m in pairs
    ]  # fmt: skip


def sets(frames: Frames) -> tuple[pd.Series, pd.DataFrame]:
    """The chosen layers' accuracies by task, and those of the other sets (tasks, sets)."""
    frame = frames["sets"]
    chosen = select(arm(frames, GENE)).set_index("task")["accuracy"]
    others = frame.pivot(index="task", columns="layers", values="accuracy")
    return chosen.loc[others.index], others


def condensing(frames: Frames, family: str, dataset: str) -> list[Claim]:
    """Does condensing itself help: the chosen layers against random sets of the same budget."""
    chosen, others = sets(frames)
    rank = int((others.mean() >= chosen.mean()).sum()) + 1
    sign = 1 if chosen.mean() >= others.mean().mean() else -1
    return [
        Claim(
            "accuracy, layers chosen by lambda - random sets of the same budget",
            report.paired(chosen, others.mean(axis=1)),
            p=report.permutation_p(sign * chosen.mean(), sign * others.mean()),
            family=family, dataset=dataset,
            note=f"rank {rank} of {others.shape[1] + 1} sets; p is that of the rank, one-sided, and can "
            f"be {1 / (others.shape[1] + 1):.3f} at least",
        )
    ]  # fmt: skip


def shots_table(frames: Frames, name: str) -> pd.DataFrame:
    """Accuracies of an arm: one line a task, one column a number of shots (patient scratch: two)."""
    frame = frames["long"] if name == LONG else frames["shots"].query("method == @name")
    return frame.pivot(index="task", columns="k_shot", values="accuracy")


def samples(frames: Frames, family: str, dataset: str) -> list[Claim]:
    """Claim 4: the smallest number of shots at which the learngene equals scratch at 20 shots.

    The measurement that counts is against scratch with five times the steps: in 40 steps scratch makes
    little of more images, and beating that would prove little. That one is shown as a control.
    """
    about = {"unit": "shots", "null": float(REFERENCE_SHOTS), "larger": False}
    about |= {"family": family, "dataset": dataset}
    gene, scratch = shots_table(frames, GENE), shots_table(frames, SCRATCH)
    shots, targets = gene.columns.to_numpy(), {"scratch": scratch[REFERENCE_SHOTS]}
    if "long" in frames:
        targets[LONG] = shots_table(frames, LONG)[REFERENCE_SHOTS].dropna()
    found = []
    for name, target in targets.items():
        curve = gene.loc[target.index].to_numpy()
        effect = report.shots_to_match(shots, curve, target.to_numpy())
        note = f"{name} at {REFERENCE_SHOTS} shots: {target.mean():.0%}; learngene at {shots[0]} shot: "
        note += f"{curve[:, 0].mean():.0%}"
        if effect.mean <= shots[0]:
            note += f"; fewer than {shots[0]} was not tried: read it as at most {shots[0]}"
        sentence = f"shots at which the learngene equals {name} at {REFERENCE_SHOTS} shots"
        number = None if name == SCRATCH and len(targets) > 1 else 4
        found.append(Claim(sentence, effect, note=note, number=number, **about))
    return found


def all_claims(
    frames: Frames,
    family: str,
    dataset: str,
    tuned: Mapping[str, FitConfig],
    numbers: Collection[int] = (1, 2, 3, 4),
) -> list[Claim]:
    """What the studies say on the paper's claims of these numbers, each with its controls."""
    found = []
    if 1 in numbers:
        found += converge(frames, family, dataset)
    if 2 in numbers:
        found += sensitive(frames, family, dataset, tuned)
    if 3 in numbers:
        found += perform(frames, family, dataset) + condensing(frames, family, dataset)
    if 4 in numbers:
        found += samples(frames, family, dataset)
    return found
