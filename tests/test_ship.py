"""What is shipped belongs together: ancestors, scores, learning rates, stored results."""

import ast
import json
import re
from concurrent.futures import Future
from contextlib import nullcontext
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import torch

from lgutils import fleet, inherit, learngene, ship
from lgutils.ancestry import Ancestor, shipped_path
from lgutils.errors import UserError
from lgutils.scale import FAMILIES

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def rates():
    return json.loads(fleet.tuned_path().read_text())


@pytest.fixture(scope="module")
def stored():
    return pd.read_csv(ship.results_folder() / "inherit-quick.csv")


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_about_the_shipped_ancestor(family):
    _, about = learngene.shipped_scores(family)
    assert about["ancestor"] == Ancestor.load(shipped_path(family)).card.weight_hash


@pytest.mark.parametrize("family", FAMILIES)
def test_the_trace_of_lambda_leads_to_the_scores(family):
    scores, about = learngene.shipped_scores(family)
    last = round(0.25 * len(about["trace"][0]))
    for run, trace in zip(scores.runs, about["trace"], strict=True):
        means = pd.DataFrame(trace[-last:]).mean()
        best = means.groupby([m for m, _ in about["pairs"]]).max()
        assert best.to_numpy() == pytest.approx(run, abs=2e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_rates_were_tuned_for_the_shipped_learngene_and_descendant(family, rates):
    assert tuple(rates["layers"][family]) == ship.chosen(family)
    assert rates["shapes"][family] == ship.descendants(family)["main"]
    assert set(rates["best"][family]) == set(fleet.tuning.FITS)


def test_every_arm_was_tuned_on_the_same_grid(rates):
    for arms in rates["means"].values():
        for arm in arms.values():
            assert sorted(map(float, arm)) == sorted(fleet.LEARNING_RATES)


def test_tuning_tasks_are_never_reported(rates, stored):
    assert not {task["seed"] for task in rates["tasks"]} & set(stored["task"])
    assert set(stored["pool"]) == {"novel"}


def test_stored_results_are_the_declared_sweep(stored):
    jobs = ship.sweep_jobs()
    assert len(stored) == len(jobs) == 640
    lines = zip(jobs, stored.itertuples(), strict=True)
    for job, line in lines:
        assert (job.family, job.method, job.dataset, job.task.seed) == (
            line.family, line.method, line.dataset, line.task,
        )  # fmt: skip
        assert " ".join(job.layers) == line.layers
        assert job.fit.lr == line.lr


def test_a_stored_row_comes_out_again_when_run():
    stored = pd.read_csv(ship.results_folder() / "inherit-quick.csv")
    (job,) = [
        j for j in ship.sweep_jobs(tasks=1)
        if (j.family, j.method, j.dataset) == ("cnn", "full fine-tune", "glyphs")
    ]  # fmt: skip
    row = fleet.run_job(job)
    again = fleet.accuracies(
        stored, family="cnn", method="full fine-tune", dataset="glyphs", task=0
    )
    assert row.accuracy == pytest.approx(again[0], abs=0.03)


def test_a_method_without_a_tuned_rate_is_refused(tmp_path):
    with pytest.raises(UserError, match="No learning rate"):
        fleet.tuned_fit("cnn", "prayer")
    with pytest.raises(UserError, match="No learning rate"):
        fleet.tuned_fit("cnn", "scratch", path=tmp_path / "missing.json")


def test_an_unknown_part_is_refused():
    with pytest.raises(UserError, match="scores"):
        ship.run(["score"])


@pytest.mark.parametrize("family", FAMILIES)
def test_three_depths_take_the_learngene(family):
    gene = learngene.extract(Ancestor.load(shipped_path(family)), ship.chosen(family))
    for shape in ship.descendants(family).values():
        heir = inherit.inherit(gene, num_classes=5, **shape)
        assert {o.source for o in heir.provenance if o.source} == {x.name for x in gene.layers}


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted(ROOT.glob("notebooks/*.ipynb"))])
def test_no_blank_is_left_to_fill_in(path):
    assert not re.findall(r"@[A-Z]{2,}", path.read_text(encoding="utf-8"))


def test_files_that_the_readme_links_to_exist():
    for target in re.findall(r"\]\((?!http)([^)]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target


def test_the_faults_part_writes_a_row_for_every_task_of_every_arm(monkeypatch, tmp_path):
    class Here:
        """A pool that works in this process."""

        def submit(self, work, *arguments):
            done = Future()
            done.set_result(work(*arguments))
            return done

    monkeypatch.setattr(ship.fleet.backends, "pool", lambda _: nullcontext(Here()))
    monkeypatch.setattr(ship.module_faults, "run", lambda jobs, faults: [0.5] * len(jobs))
    monkeypatch.setattr(ship, "results_folder", lambda: tmp_path)
    ship.faults()
    written, kept = (
        pd.read_csv(folder / "faults-quick.csv")
        for folder in (tmp_path, ROOT / "results")
    )  # fmt: skip
    arms = ["family", "method", "fault", "task", "lr"]
    pd.testing.assert_frame_equal(written[arms], kept[arms])
    assert set(written["device"]) == {"1 CPU thread"}


def test_the_variance_part_crosses_its_four_factors(monkeypatch, tmp_path):
    def run(jobs, **_):
        about = fleet.jobs.made_by("one at a time", jobs[0].fit)
        return [fleet.Row(job, 0.5, ((40, 0.5),), 0.3, 1.0, "key", about) for job in jobs]

    scores = {family: learngene.shipped_scores(family)[0] for family in FAMILIES}
    monkeypatch.setattr(ship, "variance_scores", lambda f: [scores[f]] * len(ship.ANCESTORS[f]))
    monkeypatch.setattr(ship.fleet, "run", run)
    monkeypatch.setattr(ship, "results_folder", lambda: tmp_path)
    ship.variance()
    written, kept = (
        pd.read_csv(folder / "variance-quick.csv")
        for folder in (tmp_path, ROOT / "results")
    )  # fmt: skip
    factors = ["condensing_seed", "family", "ancestor_seed", "task", "seed"]
    pd.testing.assert_frame_equal(written[factors], kept[factors])


def test_the_noise_control_of_assignment_3_is_that_of_the_results():
    book = nbformat.read(
        ROOT / "notebooks" / "assignments" / "a3_choosing" / "a3_choosing.ipynb", as_version=4
    )
    (cell,) = [c for c in book.cells if c.source.startswith("noise_pairs = ")]
    found = ast.literal_eval(re.search(r"np\.array\((\[.*?\])\)", cell.source, re.DOTALL)[1])
    rows = pd.read_csv(ship.results_folder() / "noise-quick.csv").query("block == 6")
    assert found == rows.pivot(index="seed", columns="partner", values="lambda").to_numpy().tolist()


def test_the_noise_control_replaces_the_last_block_and_leaves_the_shipped_model_alone(monkeypatch):
    seen = []
    monkeypatch.setattr(
        ship.condense, "condense", lambda ancestor, images, config: seen.append((ancestor, config))
    )
    monkeypatch.setattr(ship.condense, "from_condensed", lambda runs: None)
    ship.noise_scores(1)
    (ancestor, config), images = seen[0], torch.rand(2, 3, 32, 32)
    taps = []
    ancestor.model.features[23].register_forward_hook(lambda *io: taps.append(io[2]))
    ancestor.model(images), ancestor.model(images)
    assert config.seed == 1
    assert not torch.equal(*taps)
    assert min(tap.min() for tap in taps) == 0


def test_every_rate_at_an_edge_of_the_grid_was_held_against_the_one_beyond(rates):
    stored = pd.read_csv(ship.results_folder() / "edges-quick.csv")
    arms = {f"{family}: {arm}" for family, arm in zip(stored["family"], stored["arm"])}
    assert arms == set(rates["at the edge of the grid"]) == set(ship.edge_jobs())
    jobs = [job for group in ship.edge_jobs().values() for job in group]
    assert stored["key"].tolist() == [job.key for job in jobs]
    assert set(stored["pool"]) == {"open_world"}
