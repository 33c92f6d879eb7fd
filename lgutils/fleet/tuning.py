"""Every arm's own best learning rate, from the same grid and the same open-world tasks.

The open-world classes are never those of a reported task.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from lgutils import ancestry, files, reading
from lgutils.checks import Positive, Share
from lgutils.errors import UserError
from lgutils.fleet.backends import run
from lgutils.fleet.jobs import ARMS, FEW_SHOT, Job, grid
from lgutils.fleet.store import Results
from lgutils.train import FitConfig

LEARNING_RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
TUNING_TASKS = tuple(range(1000, 1006))  # open-world tasks; never the tasks that are reported
Rates = Annotated[dict[str, Share], Meta(min_length=1)]
LONG = "scratch, 5x steps"  # the arm that a sceptic asks for


def fits(fit: FitConfig = FEW_SHOT) -> dict[str, FitConfig]:
    """How each arm trains before its learning rate is tuned: alike, but for the one with five times the steps."""
    return {**dict.fromkeys(ARMS, fit), LONG: replace(fit, epochs=5 * fit.epochs)}


FITS = fits()


def method_of(arm: str) -> str:
    """The method of an arm: all but one are named after it."""
    return "scratch" if arm == LONG else arm


def tuned_path(scale_name: str = "quick") -> Path:
    """Where the tuned learning rates of a scale stand."""
    return ancestry.shipped_path("cnn").with_name(f"learning-rates-{scale_name}.json")


def tuned_fit(
    family: str, arm: str, *, path: Path | None = None, untuned: Mapping[str, FitConfig] = FITS
) -> FitConfig:
    """The few-shot configuration with the arm's own learning rate, tuned on open-world classes.

    Args:
        path: what `tune` wrote; None for the shipped file.
        untuned: see `fits`.
    Raises:
        UserError: not tuned, an arm that is not among `untuned`, or a damaged file.
    """
    path = path or tuned_path()
    best = _read(path).best if path.exists() else {}
    if arm not in best.get(family, {}) or arm not in untuned:
        raise UserError(
            f"No learning rate was tuned for {arm!r} of {family!r}. Use fleet.tune first."
        )
    return replace(untuned[arm], lr=best[family][arm])


class _Tuned(msgspec.Struct):
    """What a file of learning rates holds; means: family -> arm -> rate as text -> mean accuracy."""

    best: dict[str, dict[str, Positive]]
    means: dict[str, dict[str, Rates]] = msgspec.field(default_factory=dict)
    layers: dict[str, list[str]] = msgspec.field(default_factory=dict)
    shapes: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)

    def __post_init__(self):
        for arms in self.means.values():
            for name in (name for rates in arms.values() for name in rates):
                reading.checked(float(name), Positive, f"The rate {name!r}")


def _read(path: Path) -> _Tuned:
    return reading.json_file(path, _Tuned, "Delete it, and tune again.")


def tune(
    bases: Mapping[str, Job],
    path: Path,
    *,
    arms: Collection[str] = tuple(FITS),
    untuned: Mapping[str, FitConfig] = FITS,
    rates: Sequence[float] = LEARNING_RATES,
    tasks: Sequence[int] = TUNING_TASKS,
    results: Results | None = None,
    progress: bool = True,
    **options: Any,
) -> dict:
    """Give every arm of every family its best learning rate on open-world tasks.

    Args:
        bases: a job of each family, which says the learngene's layers and the descendant.
        path: JSON file to write: the grid, every mean accuracy, and the best rate of each arm.
        arms: those to tune; what the file says of other arms and families is kept.
        untuned: see `fits`.
        rates: learning rates to choose from.
        tasks: seeds of open-world tasks.
        results, options: see `run`.
    """
    kept = _read(path) if path.exists() else _Tuned({})
    jobs = {
        (family, arm): grid(
            replace(base, pool="open_world", method=method_of(arm), fit=fit),
            lr=rates, task=tasks,
        )
        for family, base in bases.items()
        for arm, fit in untuned.items()
        if arm in arms
    }  # fmt: skip
    every = [job for group in jobs.values() for job in group]
    rows = run(every, results=results, progress="tuning" if progress else None, **options)
    accuracy = {row.job.key: row.accuracy for row in rows}
    means: dict[str, dict] = kept.means
    for (family, arm), group in jobs.items():
        means.setdefault(family, {})[arm] = {
            str(lr): round(fmean(accuracy[job.key] for job in group if job.fit.lr == lr), 4)
            for lr in rates
        }
    best = {f: {a: float(max(t, key=t.get)) for a, t in arms.items()} for f, arms in means.items()}
    limits = (min(rates), max(rates))
    table = {
        "best": best,
        "means": means,
        "tasks": [asdict(job.task) for job in grid(every[0], task=tasks)],
        "layers": kept.layers | {f: list(base.layers) for f, base in bases.items()},
        "shapes": kept.shapes | {f: base.arch_kwargs for f, base in bases.items()},
        "at the edge of the grid": [
            f"{f}: {a}" for f, arms in best.items() for a, lr in arms.items() if lr in limits
        ],
        "fits": {arm: asdict(fit) for arm, fit in untuned.items()},
        "versions": ancestry.versions(),
    }
    files.write_text(path, json.dumps(table, indent=1, ensure_ascii=False) + "\n")
    return table
