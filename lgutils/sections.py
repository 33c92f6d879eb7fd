"""The replication report's sections: for each claim the question, the figure and the numbers."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lgutils import evidence, figures, report
from lgutils.evidence import GENE, REFERENCE_SHOTS, SCRATCH, Frames
from lgutils.fleet.store import curves
from lgutils.fleet.tuning import LONG
from lgutils.page import Section
from lgutils.replicate import Replication

FEW = (
    "All digits are novel classes, so there were none to tune on: every arm trains at the rate that was "
    "tuned on open-world glyphs. For scratch that rate is too high here. The control 'scratch at its best "
    "setting of the grid', under claim 2, says by how much."
)
SHARED = (
    "The tasks are drawn from 20 novel classes (digits: 10) and share them, so the intervals speak about "
    "more such tasks. One ancestor of each family stands behind all of it."
)


def learning(found: Mapping[str, Frames], names=(GENE, SCRATCH, LONG)) -> dict[str, dict]:
    """Learning curves for `figures.curves`: family -> arm -> (steps, accuracies (tasks, steps))."""
    return {
        family: {
            f"{name} (n = {len(rows)})": curves(rows)
            for name in names
            if name != LONG or "long" in frames
            for rows in [evidence.arm(frames, name)]
        }
        for family, frames in found.items()
    }


def heat(frames: Frames) -> tuple[dict[str, np.ndarray], list, list]:
    """For `figures.grid`: arm -> mean accuracies (decays, rates), the decays, and the rates."""
    tables = {name: evidence.grid_table(frames, name).mean().unstack(0) for name in (GENE, SCRATCH)}
    first = tables[GENE]
    return {n: t.to_numpy() for n, t in tables.items()}, list(first.index), list(first.columns)


def by_shots(found: Mapping[str, Frames]) -> dict[str, dict]:
    """For `figures.shots`: family -> arm -> (shots, accuracies (tasks, shots))."""
    return {
        family: {
            name: (table.columns.to_numpy(), table.to_numpy())
            for name in (GENE, SCRATCH, LONG)
            if name != LONG or "long" in frames
            for table in [evidence.shots_table(frames, name).dropna()]
        }
        for family, frames in found.items()
    }


def goals(found: Mapping[str, Frames]) -> dict[str, tuple[float, str]]:
    """For `figures.shots`: family -> the accuracy that claim 4 is held against, and what it is."""
    names = {family: LONG if "long" in frames else SCRATCH for family, frames in found.items()}
    return {
        family: (
            float(evidence.shots_table(found[family], name)[REFERENCE_SHOTS].mean()),
            f"{name} at {REFERENCE_SHOTS} shots",
        )
        for family, name in names.items()
    }


def differences(found: Mapping[str, Frames]) -> dict[str, dict[str, report.Interval]]:
    """For `figures.forest`: family -> other arm -> accuracy of the learngene minus that arm's."""
    return {
        family: {
            c.sentence.rsplit(" - ", 1)[1]: c.effect for c in evidence.perform(frames, family, "")
        }
        for family, frames in found.items()
    }


def all_sections(replication: Replication) -> list[Section]:
    """A section for each claim and dataset that was asked for."""
    numbers = [int(number) for number in replication.about["claims"].split()]
    datasets = list(dict.fromkeys(dataset for dataset, _ in replication.frames))
    makers = {1: _converge, 2: _sensitive, 3: _perform, 4: _samples}
    return [makers[n](replication.of(d), d) for n in sorted(numbers) for d in datasets]


def _converge(found: Mapping[str, Frames], dataset: str) -> Section:
    figure = figures.curves(learning(found), f"Claim 1 on {dataset}: learning curves", chance=0.2)
    return Section(
        f"1. Do they converge faster? ({dataset})",
        [
            "5-way 10-shot tasks. Each arm has its own learning rate, tuned on open-world classes. The "
            "threshold is 95 % of the accuracy that scratch ends with on the same task; it was fixed "
            f"before the first run. '{LONG}' is scratch with five times the training, tuned by itself, "
            "on fewer tasks. A run that never reaches the threshold counts with its last step; against "
            "the patient rival the learngene then counts with the rival's last step.",
            *([FEW] if dataset == "digits" else []),
            SHARED,
        ],
        [
            (
                figure,
                f"Accuracy against optimiser steps on {dataset} for learngene, scratch and scratch "
                "with five times the steps, means with 95 % bands, one panel a family.",
                "Accuracy on novel classes against optimiser steps (25 images each).",
            )
        ],
    )


def _sensitive(found: Mapping[str, Frames], dataset: str) -> Section:
    drawn = []
    for family, frames in found.items():
        tables, decays, rates = heat(frames)
        figure = figures.grid(
            tables, decays, rates, xlabel="learning rate", ylabel="weight decay",
            title=f"Claim 2 on {dataset}: {family}",
        )  # fmt: skip
        drawn.append(
            (figure, f"Mean accuracy of learngene and scratch ({family}, {dataset}) for each learning "
             "rate and weight decay, on one colour scale.", f"{family}: the best cell is framed.")
        )  # fmt: skip
    return Section(
        f"2. Are they less sensitive to hyper-parameters? ({dataset})",
        [
            "The same tasks at every learning rate and weight decay. What a random setting loses is "
            "measured from the arm's tuned setting, which was found on open-world classes. A spread "
            "shrinks near chance and near 100 %, so read it beside the means."
        ],
        drawn,
    )


def _perform(found: Mapping[str, Frames], dataset: str) -> Section:
    drawn = [
        (
            figures.forest(differences(found), "learngene minus arm (percentage points)"),
            f"Paired differences of accuracy between the learngene and every other arm on {dataset}.",
            "Mean over tasks with the paired 95 % interval; right of zero the learngene is better.",
        )
    ]
    ranked = {family: evidence.sets(frames) for family, frames in found.items() if "sets" in frames}
    if ranked:
        figure = figures.ranking(
            {family: chosen.mean() for family, (chosen, _) in ranked.items()},
            {family: others.mean().to_numpy() for family, (_, others) in ranked.items()},
            f"Chosen layers against random sets of the same budget ({dataset})",
        )
        drawn.append(
            (figure, f"Mean accuracies of random layer sets on {dataset}, the chosen set marked.",
             "Does condensing itself help? Every mark under the bars is one set of layers.")
        )  # fmt: skip
    means = pd.DataFrame(
        [
            {"family": family, "arm": name,
             "accuracy (%)": f"{100 * i.mean:.1f} [{100 * i.low:.1f}, {100 * i.high:.1f}]", "n": i.n}
            for family, frames in found.items()
            for name in [*frames["arms"]["method"].unique(), *([LONG] if "long" in frames else [])]
            for i in [report.mean(evidence.arm(frames, name)["accuracy"])]
        ]
    )  # fmt: skip
    return Section(
        f"3. Do they perform better? ({dataset})",
        [
            "Accuracy after the last epoch on 5-way 10-shot tasks, never the best of several. The "
            "p-values are Holm's over all arms."
        ],
        drawn,
        [("Accuracy of every arm, mean with 95 % interval", means)],
    )


def _samples(found: Mapping[str, Frames], dataset: str) -> Section:
    figure = figures.shots(by_shots(found), f"Claim 4 on {dataset}: samples", target=goals(found))
    return Section(
        f"4. Do they need fewer samples? ({dataset})",
        [
            "The shots are nested and the number of optimiser steps is the same at every number of "
            "shots, so that fewer samples do not also mean less training. Each arm's learning rate is "
            "the one tuned at 10 shots."
        ],
        [
            (
                figure,
                f"Accuracy against the number of training images of a class on {dataset}, for learngene, "
                "scratch and scratch with five times the steps, with 95 % bands.",
                f"Means over tasks; the dashed line is the accuracy to equal: that of {LONG} at "
                f"{REFERENCE_SHOTS} shots, where it was trained, else of scratch.",
            )
        ],
    )
