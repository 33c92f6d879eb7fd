"""The study of lifelong learning: what its ancestors remember, and what their learngenes are worth.

Ancestors that learned the same classes, with as many images seen, at once (joint) or task by task; the
same layers of each go into descendants for the same few-shot tasks. The unit is the ancestor: another
order of the classes with other seeds, not another task.

``run("lifelong.csv")`` makes it all (about 20 minutes on two cores) and goes on where it was stopped.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import as_completed
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from lgutils import data, files, fleet, inherit, learngene, reading, ship, train
from lgutils.ancestry import AncestryConfig, forgetting, sequence
from lgutils.ancestry.sequence import Life
from lgutils.ancestry.world import METHODS, LifeConfig
from lgutils.checks import Share, Whole
from lgutils.data import Task
from lgutils.errors import UserError
from lgutils.report.stats import Interval, mean, paired
from lgutils.train import FitConfig

MATRICES = {"seen": "among all classes seen", "own": "among the classes of its task"}
Matrix = list[list[float]]  # NaN above the diagonal
COLUMNS = {"key": str, "order": Whole, "method": str, "average accuracy (own)": Share}
LEARNGENES = {"shipped": "layers of the shipped learngene", "calm": "layers with calm gradients"}


@dataclass(frozen=True)
class StudyConfig:
    """What the study compares.

    Attributes:
        orders: seeds of the ancestors: order of the classes, initial weights, order of the images.
        methods: names in `ancestry.METHODS`; "joint" must be there, as the others are held against it.
        tasks: tasks in a life.
        epochs: passes over each task, in every method.
        memory: replay: images of each class; a tenth of them at quick scale, not tuned.
        strengths: EWC's candidates; the best on `tuning_order` by accuracy among the classes of a task
            is taken. Nothing else is tuned: learning rate and schedule are those of the shipped
            ancestor for every method.
        tuning_order: an order that is not reported.
        novel: seeds of the descendants' 5-way 10-shot tasks.
        base: the ancestor; its `fit.epochs` and seeds are laid over.
    """

    orders: tuple[int, ...] = (0, 1, 2, 3, 4)
    methods: tuple[str, ...] = METHODS
    tasks: int = 8
    epochs: int = 4
    memory: int = 20
    strengths: tuple[float, ...] = (1.0, 10.0, 100.0, 1000.0)
    tuning_order: int = 99
    novel: tuple[int, ...] = tuple(range(8))
    base: AncestryConfig = AncestryConfig.preset("cnn", "quick")

    def __post_init__(self):
        if "joint" not in self.methods or not self.orders or not self.novel:
            raise UserError("A study needs the method 'joint', an order and a novel task or more.")
        if self.tuning_order in self.orders:
            raise UserError(
                f"Order {self.tuning_order} is reported, so it must not tune. Choose another one."
            )


@dataclass(frozen=True)
class Trial:
    """One ancestor of the study; without novel tasks it has no descendants: a trial of a strength."""

    config: AncestryConfig
    life: LifeConfig
    novel: tuple[int, ...]

    @property
    def key(self) -> str:
        """Hex digest of everything that decides the row."""
        fits = {kind: _fit(kind).told() for kind in LEARNGENES} if self.novel else {}
        text = json.dumps([self.life.key(self.config), self.novel, fits, ship.chosen("cnn")])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _trial(study: StudyConfig, order: int, method: str, strength: float, novel: tuple) -> Trial:
    fit = replace(study.base.fit, epochs=study.epochs, seed=order, precision="float32")
    config = replace(study.base, fit=fit, seed=order)
    life = LifeConfig(method, study.tasks, order, study.memory)
    life = replace(life, strength=strength) if method == "ewc" else life
    return Trial(config, life, novel)


def tuning(study: StudyConfig) -> list[Trial]:
    """A life with each of EWC's strengths, in an order that is not reported."""
    strengths = study.strengths if "ewc" in study.methods and len(study.strengths) > 1 else ()
    return [_trial(study, study.tuning_order, "ewc", strength, ()) for strength in strengths]


def trials(study: StudyConfig, strength: float) -> list[Trial]:
    """Every method in every order; all of one order, then the next."""
    return [
        _trial(study, order, method, strength, study.novel)
        for order in study.orders
        for method in study.methods
    ]


def _fit(kind: str) -> FitConfig:
    """How descendants train: calm layers are mostly the last ones, so they get the rate tuned for these."""
    return fleet.tuned_fit("cnn", {"shipped": "learngene", "calm": "last layers"}[kind])


def _worth(
    life: Life, names: tuple[str, ...], fit: FitConfig, novel: tuple[int, ...]
) -> list[float]:
    """Accuracies of descendants with these layers on novel 5-way 10-shot tasks, as `fleet` trains them."""
    ancestor, accuracies = life.ancestor, []
    gene = learngene.extract(ancestor, names)
    card = ancestor.card
    images = data.load(card.dataset, card.size)
    classes = data.split(card.dataset, card.split_seed).novel
    for seed in novel:
        task = Task(5, 10, seed)
        episode = task.draw(images, classes)
        heir = inherit.inherit(gene, num_classes=task.n_way, seed=seed)
        try:
            fitted = train.fit(
                heir.model, episode.train, heir.normalize, fit, test=episode.test, log_at=()
            )
            accuracies.append(fitted.score.accuracy)
        except train.Diverged:
            accuracies.append(1 / task.n_way)
    return accuracies


def measure(trial: Trial) -> dict:
    """Train one ancestor and its descendants on one CPU thread or on the GPU; the row of it.

    A life that was stopped goes on from its last task.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        path = files.cache_dir() / f"life-{trial.life.key(trial.config)}.ckpt"
        life = sequence.lifelong(trial.config, trial.life, progress=False, checkpoint=path)
        began = time.perf_counter()
        chosen = ship.chosen("cnn")
        genes = {"shipped": chosen, "calm": sequence.calm_layers(life, len(chosen))}
        worth = {
            kind: _worth(life, layers, _fit(kind), trial.novel) for kind, layers in genes.items()
        }
    finally:
        torch.set_num_threads(threads)
    shown = trial.life
    row = {"key": trial.key, "order": shown.order, "method": shown.method}
    row |= {"strength": shown.strength if shown.method == "ewc" else np.nan}
    for name, matrix in (("seen", life.seen), ("own", life.own)):
        row |= {f"{measure} ({name})": v for measure, v in _measures(matrix).items()}
    for name, values in worth.items():
        row[f"learngene ({name})"] = np.mean(values) if values else np.nan
        row[f"layers ({name})"] = " ".join(genes[name])
        row[f"tasks ({name})"] = json.dumps(values)
    tables = {"seen": life.seen, "own": life.own, "calm": life.calm}
    row |= {f"matrix ({name})": json.dumps(t.round(4).tolist()) for name, t in tables.items()}
    row |= {"seconds": life.seconds, "seconds (descendants)": time.perf_counter() - began}
    return row | fleet.jobs.made_by("one at a time", trial.config.fit)


def _measures(matrix: np.ndarray) -> dict[str, float]:
    """All measures; a joint life, which has one row, only has its average accuracy."""
    if np.isnan(matrix[0, 0]):
        average = forgetting.average_accuracy(matrix)
        return dict.fromkeys(forgetting.MEASURES, np.nan) | {"average accuracy": average}
    return {name: of(matrix) for name, of in forgetting.MEASURES.items()}


def run(
    out_csv: Path | str,
    progress: bool = True,
    *,
    study: StudyConfig = StudyConfig(),
    workers: int | None = None,
) -> pd.DataFrame:
    """Make the study, or what is missing of it in `out_csv`; written after every ancestor.

    EWC's strength is tuned first, on an order of its own; its rows are kept in the same file.

    Args:
        out_csv: one row an ancestor; rows of other settings in it are kept, but not returned.
        workers: processes of one thread; None for one a core, 0 to stay in this process.
    Returns:
        The study's rows, order by order and method by method, see `measure`.
    """
    found = _made(tuning(study), Path(out_csv), "tuning" if progress else None, workers)
    strength = study.strengths[0]
    if len(found):
        strength = found.loc[found["average accuracy (own)"].idxmax(), "strength"]
    title = "lives" if progress else None
    return _made(trials(study, float(strength)), Path(out_csv), title, workers)


def _made(asked: list[Trial], path: Path, title: str | None, workers: int | None) -> pd.DataFrame:
    """The rows of these trials: those in the file, and the others made now and added to it."""
    kept = (
        reading.table(path, COLUMNS, dtype={"key": str}).to_dict("records") if path.exists() else []
    )
    done = {row["key"]: row for row in kept}
    missing = [trial for trial in asked if trial.key not in done]
    bar = tqdm(total=len(asked), initial=len(asked) - len(missing), desc=title, unit="ancestor",
               disable=title is None or not asked)  # fmt: skip
    with bar, closing(_rows(missing, workers)) as rows:
        for row in rows:
            done[row["key"]] = row
            files.write_text(path, pd.DataFrame(list(done.values())).to_csv(index=False))
            bar.update()
    return pd.DataFrame([done[trial.key] for trial in asked])


def _rows(missing: list[Trial], workers: int | None) -> Iterator[dict]:
    workers = fleet.backends.cores() if workers is None else workers
    if not workers or not missing:
        yield from map(measure, missing)
        return
    with fleet.backends.pool(min(workers, len(missing))) as processes:
        running = [processes.submit(measure, trial) for trial in missing]
        try:
            yield from (future.result() for future in as_completed(running))
        except BaseException:
            processes.shutdown(wait=False, cancel_futures=True)
            raise


def matrices(rows: pd.DataFrame, kind: str = "own") -> dict[str, np.ndarray]:
    """Method -> (orders, T, T) accuracy matrices of a kind in `MATRICES`, in the order of the rows."""
    column = f"matrix ({kind})"
    return {
        method: np.array([reading.parsed(text, Matrix, column) for text in part[column]])
        for method, part in rows.groupby("method", sort=False)
    }


def _by_order(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """(orders, methods) values; only orders that every method has finished."""
    return rows.pivot(index="order", columns="method", values=column).dropna()


def gains(rows: pd.DataFrame) -> dict[str, dict[str, Interval]]:
    """Accuracy of descendants, lifelong minus joint: kind of learngene -> method -> paired interval.

    Each pair is two ancestors of one order, each the mean over the same novel tasks; n counts orders.
    """
    found = {}
    for kind, title in LEARNGENES.items():
        table = _by_order(rows, f"learngene ({kind})")
        others = [method for method in rows["method"].unique() if method != "joint"]
        found[title] = {method: paired(table[method], table["joint"]) for method in others}
    return found


def remembered(rows: pd.DataFrame) -> pd.DataFrame:
    """The measures of forgetting as text: one row a method, mean and 95 % interval over orders."""
    columns = [f"{name} ({kind})" for kind in MATRICES for name in forgetting.MEASURES]
    table = {
        method: {
            column: "" if part[column].isna().any() else mean(part[column]).points()
            for column in columns
        }
        for method, part in rows.groupby("method", sort=False)
    }
    return pd.DataFrame.from_dict(table, orient="index")
