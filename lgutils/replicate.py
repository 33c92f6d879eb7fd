"""The paper's four claims in one call: declare the sweeps, run or resume them, judge, write the report."""

import itertools
import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from lgutils import (
    blocks,
    condense,
    data,
    evidence,
    files,
    fleet,
    inherit,
    learngene,
    models,
    scale,
    ship,
)  # fmt: skip
from lgutils.ancestry import AncestryConfig, accumulate
from lgutils.condense import CondenseConfig
from lgutils.data import Task
from lgutils.errors import UserError, unknown
from lgutils.evidence import GENE, REFERENCE_SHOTS, SCRATCH, Frames
from lgutils.fleet import FEW_SHOT, Job, Results
from lgutils.fleet.tuning import LONG
from lgutils.learngene import Learngene
from lgutils.report import Claim
from lgutils.scale import FAMILIES
from lgutils.train import FitConfig

CLAIMS = {
    1: "converge faster",
    2: "be less sensitive to hyper-parameters",
    3: "perform better",
    4: "need fewer samples",
}
STUDIES = {1: ("arms", "long"), 2: ("grid",), 3: ("arms", "long", "sets"), 4: ("shots", "long")}
SHOTS = (1, 2, 5, 10, 20, 50)
GRID = {"lr": fleet.LEARNING_RATES, "weight_decay": (0.05, 0.5)}
RANDOM_SETS = 20
TASKS = 20
BUDGETS = {"paper": {"cnn": 5, "vit": 4}}  # blocks of the learngene beside the stem
PAPER_CONVOLUTIONS = 8  # of the paper's VGG descendant
LOGGED = (1, 2, 3, 5, 7, 10, 14, 20)  # epochs of two steps
LOGGED_LONG = (*LOGGED, 28, 40, 60, 80, 100)


@dataclass(frozen=True)
class Sizes:
    """How many tasks each study uses; the first ones, so that a larger run extends a smaller one.

    Attributes:
        arms: tasks of the main comparison, at least 4.
    """

    arms: int = TASKS

    def __post_init__(self):
        if self.arms < 4:
            raise UserError(f"{self.arms} tasks were asked for; at least 4 are needed.")

    def of(self, study: str) -> int:
        """Tasks of a study: the costly ones use fewer."""
        share = {"arms": 1, "shots": 3 / 10, "long": 1 / 4, "grid": 1 / 5, "sets": 3 / 20}[study]
        return max(2, round(self.arms * share))


def steps_fixed(job: Job) -> Job:
    """The job with as many optimiser steps as a 5-way 10-shot task has, whatever its shots.

    Otherwise fewer samples would also mean less training, and the two could not be told apart.
    """
    steps = FEW_SHOT.epochs * replace(job, task=Task()).steps_per_epoch
    return replace(job, fit=replace(job.fit, epochs=steps // job.steps_per_epoch))


def layer_sets(base: Job, count: int) -> list[tuple[str, ...]]:
    """Random other sets of blocks with the learngene's budget of parameters.

    The number of blocks is free. Parameters may differ by as little as leaves at least `count` sets to
    draw from: nothing in a ViT, whose blocks are equal; in a CNN, whose blocks are not, by a share that
    `budget_gap` tells.
    """
    every, gaps = _other_sets(base)
    near = [names for names, gap in zip(every, gaps, strict=True) if gap <= sorted(gaps)[count - 1]]
    order = np.random.default_rng(13).permutation(len(near))[:count]
    return [near[i] for i in sorted(order)]


def budget_gap(base: Job, count: int = RANDOM_SETS) -> float:
    """By what share the parameters of the sets of `layer_sets` may differ from the learngene's."""
    return sorted(_other_sets(base)[1])[count - 1]


@lru_cache(maxsize=4)
def _sizes(arch: str, kwargs: str) -> dict[str, int]:
    model = models.create(arch, 2, **json.loads(kwargs))
    names = blocks.block_names(model)
    return {x.name: x.num_params for x in blocks.layers(model) if x.name in names}


def _other_sets(base: Job) -> tuple[list[tuple[str, ...]], list[float]]:
    """All sets of the ancestor's blocks but the learngene, and how far each is from its budget."""
    sizes = _sizes(base.ancestry.arch, json.dumps(base.ancestry.arch_kwargs))
    budget = sum(sizes[name] for name in base.layers)
    every = [
        picked
        for n in range(1, len(sizes) + 1)
        for picked in itertools.combinations(sizes, n)
        if picked != tuple(base.layers)
    ]
    return every, [round(abs(sum(sizes[x] for x in p) - budget) / budget, 6) for p in every]


def plan(base: Job, fits: Mapping, claims: Collection[int], tasks: int = TASKS) -> dict:
    """The jobs of one family on one dataset, by study.

    Args:
        base: a job with the learngene's layers, the descendant's shape, the dataset and the scale.
        fits: how each arm trains (its own learning rate): arm -> `FitConfig`.
        claims: which of the paper's claims; a study that two claims need is there once.
        tasks: of the main comparison.
    Returns:
        study -> jobs. "arms": every method. "long": scratch with five times the steps, at 10 and at 20
        shots. "grid": learngene and scratch over learning rate x weight decay. "sets": learngenes of
        random layers. "shots": learngene and scratch at several shots, equal steps.
    """
    size = Sizes(tasks)
    methods = fleet.ARMS if 3 in claims else (GENE, SCRATCH)
    arms = {m: replace(base, method=m, fit=fits[m]) for m in methods}
    arms |= {m: replace(arms[m], log_at=LOGGED) for m in (GENE, SCRATCH)}
    patient = replace(base, method=SCRATCH, fit=fits[LONG], log_at=LOGGED_LONG)
    pair = [arms[GENE], arms[SCRATCH]]

    def vary(jobs: Sequence[Job], study: str, **axes) -> list[Job]:
        return [j for job in jobs for j in fleet.grid(job, **axes, task=range(size.of(study)))]

    makers = {
        "arms": lambda: vary(list(arms.values()), "arms"),
        "long": lambda: _long(vary([patient], "long")),
        "grid": lambda: vary([replace(j, log_at=()) for j in pair], "grid", **GRID),
        "sets": lambda: vary(
            [replace(arms[GENE], log_at=())],
            "sets",
            layers=layer_sets(base, RANDOM_SETS),
        ),
        "shots": lambda: [
            job if job.task.k_shot == Task().k_shot else steps_fixed(replace(job, log_at=()))
            for job in vary(pair, "shots", k_shot=SHOTS)
        ],
    }
    wanted = dict.fromkeys(study for claim in sorted(claims) for study in STUDIES[claim])
    return {study: makers[study]() for study in wanted}


def _long(jobs: list[Job]) -> list[Job]:
    """The patient scratch arm at 10 shots and, with as many steps, at 20."""
    twenty = [
        replace(
            job,
            task=replace(job.task, k_shot=REFERENCE_SHOTS),
            fit=replace(job.fit, epochs=job.fit.epochs // 2),
            log_at=(),
        )
        for job in jobs
    ]
    return jobs + twenty


@dataclass(frozen=True)
class Subject:
    """What is tested in a family: the learngene and descendant (as a job), and how each arm trains."""

    base: Job
    fits: Mapping[str, FitConfig]

    def to_json(self) -> dict:
        """Plain values, for a results folder that must speak for itself."""
        base = {
            name: getattr(self.base, name) for name in ("family", "layers", "arch_kwargs", "scale")
        }
        return {**base, "fits": {arm: asdict(fit) for arm, fit in self.fits.items()}}

    @classmethod
    def from_json(cls, stored: dict) -> "Subject":
        """Read what `to_json` gave."""
        base = Job(
            stored["family"], GENE, tuple(stored["layers"]), Task(),
            arch_kwargs=stored["arch_kwargs"], scale=stored["scale"],
        )  # fmt: skip
        return cls(base, {arm: FitConfig(**fit) for arm, fit in stored["fits"].items()})


def subjects(
    scale_name: str, families: Collection[str], folder: Path, results: Results | None = None
) -> dict[str, Subject]:
    """The shipped learngenes and learning rates at quick scale; at paper scale they are made first.

    Making them is accumulating, condensing with one seed, and tuning every arm on open-world classes; each
    is kept in `folder` or in the cache, and taken from there the next time.
    """
    if scale_name == "quick":
        bases, path = ship.base_jobs(), fleet.tuned_path()
    else:
        bases = {family: _condensed(family, scale_name, folder) for family in families}
        path = folder / f"learning-rates-{scale_name}.json"
        known = json.loads(path.read_text())["best"] if path.is_file() else {}
        if new := {family: base for family, base in bases.items() if family not in known}:
            fleet.tune(new, path, results=results)
    return {
        family: Subject(
            bases[family],
            {arm: fleet.tuned_fit(family, arm, path=path) for arm in fleet.tuning.FITS},
        )
        for family in families
    }


def _condensed(family: str, scale_name: str, folder: Path) -> Job:
    """Accumulate and condense at a scale; the scores stay in the folder."""
    ancestor = accumulate(AncestryConfig.preset(family, scale_name))
    config = CondenseConfig.preset(family, scale_name)
    path = folder / f"scores-{family}-{ancestor.card.weight_hash[:8]}-{config.key}.json"
    if not path.is_file():
        scores = condense.score(
            "lambda", ancestor, ancestor.open_world(), config, checkpoint=path.with_suffix(".ckpt")
        )
        learngene.save_scores(scores, path, ancestor=ancestor.card.weight_hash)
    scores, _ = learngene.load_scores(path)
    budget = BUDGETS[scale_name][family]
    names = learngene.choose(scores, [1] * len(scores.layers), budget)
    gene = learngene.extract(ancestor, names)
    return Job(family, GENE, names, Task(), arch_kwargs=_shape(gene, family), scale=scale_name)


def _shape(gene: Learngene, family: str) -> dict:
    """A descendant with half the ancestor's depth that the learngene fits into."""
    if family == "vit":
        return {"depth": 6}
    stages = gene.arch_kwargs["stages"]
    shapes = itertools.product(*(range(1, n + 1) for n in stages))
    for shape in sorted(shapes, key=lambda s: (sum(s), s)):
        if sum(shape) >= PAPER_CONVOLUTIONS:
            with suppress(UserError):
                inherit.inherit(gene, num_classes=5, stages=list(shape))
                return {"stages": list(shape)}
    return {"stages": list(stages)}


def run(
    out: Path | str,
    *,
    scale_name: str = "quick",
    datasets: Collection[str] = ("glyphs",),
    claims: Collection[int] = tuple(CLAIMS),
    families: Collection[str] = FAMILIES,
    tasks: int = TASKS,
    backend: str = "auto",
    workers: int | None = None,
    progress: bool = True,
) -> list[Claim]:
    """Run or resume the sweeps, judge the claims, and write report.html, report.md, claims.json, runs.csv.

    Args:
        out: results folder; runs.sqlite in it keeps finished rows, so the same call goes on after a stop,
            and one with more tasks, claims or datasets trains only what is new. The report is always
            about what this call asked for.
        scale_name, datasets, claims, families: what to test.
        tasks: of the main comparison; the costlier studies take the first few of them (`Sizes`).
        backend, workers, progress: see `fleet.run`.
    Raises:
        UserError: unknown dataset or claim, too few tasks, a folder that cannot be written.
    """
    Sizes(tasks)
    if not (claims and datasets and families):
        raise UserError("No claim, dataset or family was named. Name at least one of each.")
    for claim in claims:
        if claim not in CLAIMS:
            raise UserError(f"Claim {claim} was asked for; the paper has 1 to {len(CLAIMS)}.")
    if backend not in fleet.BACKENDS:
        raise unknown("backend", backend, fleet.BACKENDS)
    for name in datasets:
        if name not in data.DATASETS:
            raise unknown("dataset", name, data.DATASETS)
    out = Path(out)
    with Results(out / "runs.sqlite") as results:
        found = subjects(scale.current(scale_name), families, out, results)
        studies = _studies(found, datasets, claims, tasks)
        jobs = [job for plans in studies.values() for part in plans.values() for job in part]
        rows = fleet.run(
            jobs, results=results, backend=backend, workers=workers,
            progress="descendants" if progress else None,
        )  # fmt: skip
    table = fleet.table(list({row.job.key: row for row in rows}.values()))
    asked = {"scale": scale_name, "datasets": " ".join(datasets), "tasks": str(tasks),
             "claims": " ".join(map(str, claims)), "families": " ".join(families)}  # fmt: skip
    by = {where: frames(table, plans) for where, plans in studies.items()}
    done = Replication(by, found, asked)
    write(out, table, done)
    return done.claims


def _studies(found: Mapping[str, Subject], datasets, claims, tasks: int) -> dict:
    return {
        (dataset, family): plan(replace(s.base, dataset=dataset), s.fits, claims, tasks)
        for dataset in datasets
        for family, s in found.items()
    }


def frames(table: pd.DataFrame, plans: Mapping[str, Sequence[Job]]) -> Frames:
    """The rows of each study of one family and dataset.

    Raises:
        UserError: rows are missing: the table was made with other settings, or by an unfinished run.
    """
    known = table.set_index("key", drop=False)
    found = {}
    for study, jobs in plans.items():
        keys = list(dict.fromkeys(job.key for job in jobs))
        if missing := [key for key in keys if key not in known.index]:
            raise UserError(
                f"{len(missing)} of {len(keys)} rows of the study {study!r} are not in the table: it was "
                "made with other settings or is unfinished. Run `lgutils replicate` again."
            )
        found[study] = known.loc[keys].reset_index(drop=True)
    return found


@dataclass(frozen=True)
class Replication:
    """Finished sweeps.

    Attributes:
        frames: (dataset, family) -> study -> rows.
        subjects: what was tested in each family.
        about: scale, datasets, families, claims and tasks, as they were asked for, and where they were
            read from a folder, versions and devices.
    """

    frames: Mapping[tuple[str, str], Frames]
    subjects: Mapping[str, Subject]
    about: Mapping[str, str]

    @property
    def claims(self) -> list[Claim]:
        """All claims asked for with their controls, dataset by dataset and family by family."""
        numbers = [int(number) for number in self.about["claims"].split()]
        return [
            claim
            for (dataset, family), found in self.frames.items()
            for claim in evidence.all_claims(
                found, family, dataset, self.subjects[family].fits, numbers
            )
        ]

    def of(self, dataset: str) -> dict[str, Frames]:
        """The frames of one dataset, by the title of the family ("CNN")."""
        return {scale.TITLES[f]: found for (d, f), found in self.frames.items() if d == dataset}


def write(out: Path, table: pd.DataFrame, replication: Replication) -> None:
    """Judge a finished table and write everything that a results folder holds but the SQLite file."""
    from lgutils import figures, page, sections

    figures.style()
    files.write_text(out / "runs.csv", table.to_csv(index=False))
    tested = {family: subject.to_json() for family, subject in replication.subjects.items()}
    files.write_text(out / "subjects.json", json.dumps(tested, indent=1) + "\n")
    kinds = ("device", "backend", "lgutils", "code", "torch", "timm", "python")
    about = {kind: ", ".join(sorted(table[kind].astype(str).unique())) for kind in kinds}
    about = {**replication.about, "descendants": f"{len(table):,}", **about,
             "training time": f"{table['seconds'].sum() / 60:.0f} minutes of one worker"}  # fmt: skip
    page.write(
        out, "Do descendants with a learngene do what the paper says?",
        sections.all_sections(replication), replication.claims, about,
    )  # fmt: skip


def load(folder: Path | str) -> Replication:
    """Read a results folder back.

    Raises:
        UserError: a missing or damaged folder, or one made with other settings.
    """
    folder = Path(folder)
    try:
        about = json.loads((folder / "claims.json").read_text(encoding="utf-8"))["provenance"]
        table = pd.read_csv(folder / "runs.csv")
        datasets, families = about["datasets"].split(), about["families"].split()
        claims, tasks = [int(number) for number in about["claims"].split()], int(about["tasks"])
        stored = json.loads((folder / "subjects.json").read_text(encoding="utf-8"))
        found = {family: Subject.from_json(stored[family]) for family in families}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder} is not a results folder that can be read ({error}). Make one with "
            f"`lgutils replicate --out {folder}`."
        ) from error
    studies = _studies(found, datasets, claims, tasks)
    return Replication({w: frames(table, plans) for w, plans in studies.items()}, found, about)
