"""The paper's four claims in one call: run or resume the sweeps, judge, write the report, read it back."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from msgspec import Meta

from lgutils import data, evidence, files, fleet, reading, recipes, scale
from lgutils.checks import NotNegative, Positive, Share, Whole
from lgutils.data import Task
from lgutils.errors import UserError, unknown
from lgutils.evidence import REFERENCE_SHOTS, Frames
from lgutils.fleet import Job, Results
from lgutils.replicate.design import TASKS, Design, Sizes
from lgutils.replicate.plan import CLAIMS, plan
from lgutils.replicate.subjects import Subject, subjects
from lgutils.report import Claim, read_claims
from lgutils.scale import FAMILIES
from lgutils.train import FitConfig

CURVE = r"^(\d+:(0\.\d+|1\.0+)( |$))+$"  # steps and accuracies, as `fleet.table` writes them
COLUMNS = {  # of runs.csv: what is computed with
    "key": str, "method": str, "layers": str, "task": Whole, "k_shot": Whole, "lr": Positive,
    "weight_decay": NotNegative, "epochs": Whole, "steps": Whole, "accuracy": Share, "inherited": Share,
    "seconds": NotNegative, "curve": Annotated[str, Meta(pattern=CURVE)],
}  # fmt: skip
WRITTEN = ("runs.csv", "subjects.json", "claims.json", "report.html", "report.md")


@dataclass(frozen=True)
class Asked:
    """What a replication is about.

    Attributes:
        scale_name: see `scale`; "rehearsal" runs the path of "paper" in minutes and proves nothing else.
        families: "cnn", "vit", or at the scales "paper" and "rehearsal" a recipe's name (see `recipes`).
        datasets: where the tasks come from; empty for what each ancestor learnt from.
        ancestor_data: what the ancestors learn from; empty for the recipe's own.
        claims: of the paper's four.
        tasks: of the main comparison; the costlier studies take the first few of them (`Sizes`).
        shots: of the study of claim 4, with 10 and 20 among them; empty for the design's.
    Raises:
        UserError: nothing asked for, an unknown claim, family or dataset, too few tasks.
    """

    scale_name: str = "quick"
    families: tuple[str, ...] = FAMILIES
    datasets: tuple[str, ...] = ()
    ancestor_data: str = ""
    claims: tuple[int, ...] = tuple(CLAIMS)
    tasks: int = TASKS
    shots: tuple[int, ...] = ()

    def __post_init__(self):
        Sizes(self.tasks)
        if not (self.claims and self.families):
            raise UserError("No claim or no family was named. Name at least one of each.")
        for claim in self.claims:
            if claim not in CLAIMS:
                raise UserError(f"Claim {claim} was asked for; the paper has 1 to {len(CLAIMS)}.")
        for family in self.families:
            if recipes.find(family, self.scale_name).ancestor is None:
                raise UserError(
                    f"Family {family!r} names no architecture to replicate with. Choose 'cnn', 'vit' or a "
                    "recipe, see `lgutils recipes`."
                )
        if self.shots and not {Task().k_shot, REFERENCE_SHOTS} <= set(self.shots):
            raise UserError(
                f"Shots {self.shots} were asked for; {Task().k_shot} and {REFERENCE_SHOTS} must be among "
                "them, as the claims compare these."
            )
        for name in filter(None, (*self.datasets, self.ancestor_data)):
            data.Dataset.parse(name)
            if any(mark in name for mark in " ,"):
                raise UserError(
                    f"The dataset {name!r} has a space or comma in it. Rename the folder."
                )
        if self.ancestor_data and self.scale_name == "quick":
            raise UserError(
                "At quick scale the ancestors are the shipped ones, which learnt glyphs. Leave out "
                "ancestor_data, or use the scale 'paper'."
            )

    def plans(self, found: Mapping[str, Subject]) -> dict[tuple[str, str], dict[str, list[Job]]]:
        """(dataset, family) -> study -> jobs."""
        return {
            (dataset, family): plan(
                replace(found[family].base, dataset=dataset),
                _upright(found[family].fits, dataset),
                self.claims,
                self.tasks,
                self.design(family),
            )
            for family in self.families
            for dataset in self.datasets or (found[family].base.dataset,)
        }

    def design(self, family: str) -> Design:
        """What is varied for a family."""
        design = Design.preset(self.scale_name, family)
        return replace(design, shots=self.shots) if self.shots else design

    def to_json(self) -> dict[str, str]:
        """Plain values, for the report's provenance."""
        return {
            "scale": self.scale_name, "datasets": " ".join(self.datasets), "tasks": str(self.tasks),
            "claims": " ".join(map(str, self.claims)), "families": " ".join(self.families),
            "ancestor data": self.ancestor_data, "shots": " ".join(map(str, self.shots)),
        }  # fmt: skip

    @classmethod
    def from_json(cls, about: Mapping[str, str]) -> "Asked":
        """Read what `to_json` gave."""
        return cls(
            about["scale"], tuple(about["families"].split()), tuple(about["datasets"].split()),
            about.get("ancestor data", ""), tuple(map(int, about["claims"].split())),
            int(about["tasks"]), tuple(map(int, about.get("shots", "").split())),
        )  # fmt: skip


def _upright(fits: Mapping[str, FitConfig], dataset: str) -> dict[str, FitConfig]:
    """The same training, but characters are neither mirrored nor turned, whatever the ancestor learnt from."""
    if data.Dataset.parse(dataset).name not in recipes.CHARACTERS:
        return dict(fits)
    return {arm: replace(fit, **recipes.UPRIGHT) for arm, fit in fits.items()}


def _check_tasks(asked: Asked) -> None:
    """Draw the tasks once, before hours are spent: there may be too few images of a class, or classes."""
    shots = asked.tasks if 4 not in asked.claims else Sizes(asked.tasks).of("shots")
    for family in asked.families:
        recipe = recipes.find(family, asked.scale_name, asked.ancestor_data or None)
        design = asked.design(family)
        most = max(design.shots) if 4 in asked.claims else REFERENCE_SHOTS
        for dataset in asked.datasets or (recipe.dataset,):
            images, split = data.load(dataset, recipe.size), data.split(dataset)
            for seed in range(asked.tasks):
                k_shot = most if seed < shots else Task().k_shot
                Task(k_shot=k_shot, seed=seed).draw(images, split.novel)
        if asked.scale_name != "quick":
            images, split = data.load(recipe.dataset, recipe.size), data.split(recipe.dataset)
            for seed in design.tuning_tasks:
                Task(seed=seed).draw(images, split.open_world)


def run(
    out: Path | str,
    *,
    scale_name: str | None = None,
    datasets: Collection[str] = (),
    ancestor_data: str = "",
    claims: Collection[int] = tuple(CLAIMS),
    families: Collection[str] = FAMILIES,
    tasks: int = TASKS,
    shots: Collection[int] = (),
    part: tuple[int, int] | None = None,
    prepare: bool = False,
    backend: str = "auto",
    workers: int | None = None,
    progress: bool = True,
) -> list[Claim]:
    """Run or resume the sweeps, judge the claims, and write report.html, report.md, claims.json, runs.csv.

    Args:
        out: results folder; runs.sqlite in it keeps finished rows, so the same call goes on after a stop,
            and one with more tasks, claims or datasets trains only what is new. The report is always
            about what this call asked for.
        scale_name, datasets, ancestor_data, claims, families, tasks, shots: see `Asked`.
        part: (k, n) runs the k-th of n shares of the jobs into a file of its own and judges nothing; a
            call without it takes all such files in first.
        prepare: only make the ancestors, learngenes and learning rates, which all parts need.
        backend, workers, progress: see `fleet.run`.
    Returns:
        The claims; none with `part` or `prepare`.
    Raises:
        UserError: see `Asked`; a part before its preparation; a folder that cannot be written.
    """
    asked = Asked(
        scale.current(scale_name),
        tuple(families),
        tuple(datasets),
        ancestor_data,
        tuple(claims),
        tasks,
        tuple(shots),
    )
    if backend not in fleet.BACKENDS:
        raise unknown("backend", backend, fleet.BACKENDS)
    if part is not None:
        fleet.part([], *part)  # refuses a share that does not exist
    out = files.target_folder(out, WRITTEN, ("runs*.sqlite", "subjects.json"))
    _check_tasks(asked)
    how = {"backend": backend, "workers": workers}
    name = "runs.sqlite" if part is None else f"runs-{part[0]}-of-{part[1]}.sqlite"
    with Results(out / name) as results:
        if part is None:
            results.absorb(sorted(out.glob("runs-*-of-*.sqlite")))
        found = subjects(asked.scale_name, asked.families, out, results, ancestor_data=ancestor_data,
                         make=part is None, **how)  # fmt: skip
        if prepare:
            return []
        plans = asked.plans(found)
        jobs = [job for studies in plans.values() for study in studies.values() for job in study]
        if part is not None:
            jobs = fleet.part(jobs, *part)
        rows = fleet.run(jobs, results=results, progress="descendants" if progress else None, **how)
    if part is not None:
        return []
    table = fleet.table(list({row.job.key: row for row in rows}.values()))
    by = {where: frames(table, studies) for where, studies in plans.items()}
    done = Replication(by, found, asked.to_json())
    write(out, table, done)
    return done.claims


def frames(table: pd.DataFrame, plans: Mapping[str, Sequence[Job]]) -> Frames:
    """The rows of each study of one family and dataset.

    Raises:
        UserError: rows are missing: the table was made with other settings, or by an unfinished run.
    """
    known = table.set_index("key", drop=False)
    if (twice := known.index[known.index.duplicated()]).size:
        raise UserError(f"The table holds the row {twice[0]!r} twice. {reading.AGAIN}")
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


def report_again(folder: Path | str) -> None:
    """Judge the stored rows of a results folder and write its report again.

    Raises:
        UserError: see `load`.
    """
    folder = Path(folder)
    replication = load(folder)
    write(folder, reading.table(folder / "runs.csv", COLUMNS), replication)


def load(folder: Path | str) -> Replication:
    """Read a results folder back.

    Raises:
        UserError: a missing or damaged folder, or one made with other settings.
    """
    folder = Path(folder)
    try:
        _, about = read_claims(folder / "claims.json")
        table = reading.table(folder / "runs.csv", COLUMNS)
        asked = Asked.from_json(about)
        if asked.tasks > len(table):
            raise UserError(f"{asked.tasks} tasks were asked for, {len(table)} rows are there.")
        stored = reading.json_file(folder / "subjects.json", dict[str, dict[str, Any]])
        found = {family: Subject.from_json(stored[family]) for family in asked.families}
    except (ValueError, KeyError) as error:  # UserErrors too
        raise UserError(
            f"{folder} is not a results folder that can be read ({reading.reason(error)}). Make one "
            f"with `lgutils replicate --out {folder}`."
        ) from error
    by = {where: frames(table, studies) for where, studies in asked.plans(found).items()}
    return Replication(by, found, about)
