"""Facts about the replication: what is planned, what is judged from the rows, what is written."""

import importlib
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from lgutils import (
    blocks,
    cli,
    compare,
    evidence,
    fleet,
    models,
    recipes,
    replicate,
    sections,
    ship,
)
from lgutils.ancestry import shipped_path
from lgutils.condense.criteria import Scores
from lgutils.data import Task
from lgutils.errors import UserError
from lgutils.evidence import GENE, SCRATCH
from lgutils.fleet import Job, Row
from lgutils.fleet.tuning import LONG
from lgutils.scale import FAMILIES

EVERY = tuple(replicate.CLAIMS)


@pytest.fixture(scope="module")
def subjects(tmp_path_factory):
    return replicate.subjects("quick", FAMILIES, tmp_path_factory.mktemp("none"))


@pytest.fixture(scope="module", params=FAMILIES)
def subject(request, subjects):
    return subjects[request.param]


def planned(subject, claims=EVERY, tasks=20):
    return replicate.plan(subject.base, subject.fits, claims, tasks)


# --- the plan -------------------------------------------------------------------------------------


def test_the_main_comparison_has_every_arm_on_twenty_tasks(subject):
    arms = planned(subject)["arms"]
    assert {job.method for job in arms} == set(fleet.ARMS)
    for method in fleet.ARMS:
        assert [job.task.seed for job in arms if job.method == method] == list(range(20))


def test_every_arm_trains_at_its_own_tuned_rate(subject):
    for job in planned(subject)["arms"]:
        assert job.fit == fleet.tuned_fit(job.family, job.method)


def test_only_novel_classes_are_reported(subject):
    assert {j.pool for jobs in planned(subject).values() for j in jobs} == {"novel"}


def test_all_arms_meet_the_same_tasks_with_the_same_seeds(subject):
    for jobs in planned(subject).values():
        assert all(job.seed == job.task.seed for job in jobs)


def test_the_grid_is_full_and_the_same_for_both_arms(subject):
    cells = {}
    for job in planned(subject)["grid"]:
        cells.setdefault(job.method, []).append((job.fit.lr, job.fit.weight_decay, job.task.seed))
    assert cells[GENE] == cells[SCRATCH]
    assert len(set(cells[GENE])) == 5 * 2 * 4


def test_the_tuned_setting_is_a_cell_of_the_grid(subject):
    for method in (GENE, SCRATCH):
        fit = subject.fits[method]
        assert fit.lr in replicate.Design().rates
        assert fit.weight_decay in replicate.Design().weight_decays


def test_every_number_of_shots_takes_the_same_steps(subject):
    for job in planned(subject)["shots"]:
        assert job.fit.epochs * job.steps_per_epoch == 40


def test_patient_scratch_takes_five_times_the_steps_at_ten_and_at_twenty_shots(subject):
    jobs = planned(subject)["long"]
    assert {job.task.k_shot for job in jobs} == {10, 20}
    assert {job.fit.epochs * job.steps_per_epoch for job in jobs} == {200}
    assert {job.method for job in jobs} == {"scratch"}


def test_a_larger_plan_contains_the_smaller_one(subject):
    small, large = planned(subject, tasks=20), planned(subject, tasks=40)
    for study, jobs in small.items():
        assert {job.key for job in jobs} <= {job.key for job in large[study]}


@pytest.mark.parametrize(
    ("claims", "studies"),
    [((1,), {"arms", "long"}), ((2,), {"grid"}), ((4,), {"shots", "long"}),
     ((3,), {"arms", "long", "sets"})],
)  # fmt: skip
def test_a_claim_runs_the_studies_it_needs(subject, claims, studies):
    assert set(planned(subject, claims)) == studies


def test_claim_one_needs_no_controls(subject):
    assert {job.method for job in planned(subject, (1,))["arms"]} == {GENE, SCRATCH}


def test_random_sets_have_the_learngenes_budget_and_are_not_the_learngene(subject):
    sets = replicate.layer_sets(subject.base, 20)
    assert len(set(sets)) == 20
    assert subject.base.layers not in sets
    model = fleet.ancestor_of(subject.base).model
    sizes = {layer.name: layer.num_params for layer in blocks.layers(model)}
    budget = sum(sizes[name] for name in subject.base.layers)
    gap = replicate.budget_gap(subject.base)
    assert gap < 0.3
    for names in sets:
        assert abs(sum(sizes[n] for n in names) - budget) <= (gap + 1e-6) * budget


def test_a_vits_random_sets_have_exactly_its_budget(subjects):
    assert replicate.budget_gap(subjects["vit"].base) == 0


def test_random_sets_are_the_same_every_time(subject):
    first, second = (replicate.layer_sets(subject.base, 20) for _ in range(2))
    assert first == second


def test_the_same_declaration_runs_at_paper_scale(subject):
    job = replace(subject.base, scale="paper")
    paper = replicate.plan(job, subject.fits, (1, 2, 4), 4)
    quick = replicate.plan(subject.base, subject.fits, (1, 2, 4), 4)
    assert {s: len(jobs) for s, jobs in paper.items()} == {s: len(j) for s, j in quick.items()}
    assert {j.ancestry.size for jobs in paper.values() for j in jobs} == {"full"}


@pytest.fixture
def paper(monkeypatch, make_ancestor):
    """Paper scale with small random ancestors; gives the list of what was condensed."""
    stages = {"stages": [2, 2, 3, 3, 3], "widths": [4, 4, 6, 6, 6]}
    ancestors = {
        "cnn": make_ancestor("learngene_vgg", **stages),
        "vit": make_ancestor("learngene_vit", depth=12, embed_dim=12, num_heads=2),
    }
    condensed = []

    def score(criterion, ancestor, images, config, **options):
        condensed.append(config)
        names = blocks.block_names(ancestor.model)
        return Scores("lambda", tuple(names), np.arange(len(names), dtype=float)[None])

    def tune(bases, path, **_):
        best = {f: dict.fromkeys(fleet.tuning.FITS, 0.003) for f in bases}
        path.write_text(json.dumps({"best": best}))

    module = importlib.import_module("lgutils.replicate.subjects")
    monkeypatch.setattr(module, "accumulate", lambda config: ancestors[config.family])
    monkeypatch.setattr(module.condense, "score", score)
    monkeypatch.setattr(module.fleet, "tune", tune)
    return condensed


def test_paper_scale_condenses_and_tunes_once_and_keeps_both(paper, tmp_path):
    first = replicate.subjects("paper", FAMILIES, tmp_path)
    again = replicate.subjects("paper", FAMILIES, tmp_path)
    assert len(paper) == len(FAMILIES)
    assert {f: s.base for f, s in first.items()} == {f: s.base for f, s in again.items()}
    assert {s.base.scale for s in first.values()} == {"paper"}


def test_paper_scale_descendants_have_half_the_depth_and_take_the_learngene(paper, tmp_path):
    found = replicate.subjects("paper", FAMILIES, tmp_path)
    assert found["vit"].base.arch_kwargs == {"depth": 6}
    assert len(found["vit"].base.layers) == 4
    assert sum(found["cnn"].base.arch_kwargs["stages"]) >= 8
    assert len(found["cnn"].base.layers) == 5


def test_too_few_tasks_are_refused():
    with pytest.raises(UserError, match="3 tasks were asked for"):
        replicate.Sizes(3)


# --- from rows to claims --------------------------------------------------------------------------


def pretend(job) -> Row:
    """A world in which the learngene is 30 points better, five times as fast, and robust."""
    rng = np.random.default_rng(int(job.key[:8], 16))
    lift = {GENE: 0.3, "full fine-tune": 0.35, "random layers": 0.2}.get(job.method, 0.0)
    if job.fit.epochs * job.steps_per_epoch > 40:
        lift += 0.1
    lift += 0.05 * np.log(job.task.k_shot / 10)
    lift += 0.02 * (job.task.seed % 5)
    if job.method == SCRATCH:
        lift -= 0.05 * abs(np.log10(job.fit.lr / 3e-2))
    final = 0.4 + lift + 0.01 * rng.standard_normal()
    early = 0.9 if job.method == GENE else 0.3
    points = [epoch * job.steps_per_epoch for epoch in (*job.log_at, job.fit.epochs)]
    points = sorted(set(points))
    curve = tuple(
        (p, final if p == points[-1] else final * min(1, early + p / 200)) for p in points
    )
    about = dict.fromkeys(("device", "backend", "lgutils", "code", "torch", "timm", "python"), "x")
    return Row(
        job, final, curve, 0.5, 1.0, f"{job.dataset}-{job.task.seed}-{job.task.k_shot}", about
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A results folder of the pretended world."""
    out = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fleet.backends, "run_job", pretend)
        claims = replicate.run(out, tasks=20, backend="serial", progress=False)
    return out, claims


def claim(claims, start, family="cnn"):
    (found,) = [c for c in claims if c.sentence.startswith(start) and c.family == family]
    return found


def test_a_planted_world_is_found(finished):
    claims = finished[1]
    for start in ("steps to 95 % of scratch", "mean accuracy along", "lost by a random setting",
                  "accuracy, learngene - shuffled"):  # fmt: skip
        assert claim(claims, start).verdict == "supported", start
    assert claim(claims, "shots at which the learngene equals scratch, 5x").verdict == "supported"
    assert claim(claims, "accuracy, learngene - full fine-tune").verdict == "contradicted"


def test_the_planted_effect_is_measured(finished):
    effect = claim(finished[1], "accuracy, learngene - random layers").effect
    assert effect.mean == pytest.approx(0.1, abs=0.01)
    assert effect.n == 20


def test_layers_that_matter_not_are_not_found_to_matter(finished):
    assert claim(finished[1], "accuracy, layers chosen by lambda").verdict == "not supported"


def test_a_results_folder_holds_the_report_and_its_data(finished):
    out, _ = finished
    held = {path.name for path in out.iterdir()}
    assert held == {
        "report.html", "report.md", "runs.csv", "claims.json", "subjects.json", "runs.sqlite",
    }  # fmt: skip


def test_what_was_written_is_read_back_with_the_same_claims(finished):
    out, claims = finished
    assert list(map(str, replicate.load(out).claims)) == list(map(str, claims))


def test_a_second_call_trains_nothing_and_finds_the_same(finished, monkeypatch):
    out, claims = finished

    def never(job):
        raise AssertionError("ran again")

    monkeypatch.setattr(fleet.backends, "run_job", never)
    again = replicate.run(out, tasks=20, backend="serial", progress=False)
    assert list(map(str, again)) == list(map(str, claims))


def test_compare_finds_no_difference_between_a_folder_and_itself(finished):
    out, _ = finished
    assert "0 of" in compare.compare(out, out)


def test_every_claim_has_its_number_of_tasks(finished):
    for found in finished[1]:
        assert found.effect.n in {20, 6, 5, 4, 3}


def test_one_claim_alone_is_judged_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(fleet.backends, "run_job", pretend)
    options = {"claims": (2,), "families": ("cnn",), "tasks": 10, "backend": "serial"}
    claims = replicate.run(tmp_path, **options, progress=False)
    assert {c.number for c in claims} == {2, None}
    assert "Are they less sensitive" in (tmp_path / "report.html").read_text()


def test_steps_not_taken_are_charged(finished):
    """A learngene that never gets there counts with all steps of the patient rival."""
    frame = pd.DataFrame({"curve": ["2:0.3 40:0.5", "2:0.9 40:0.9"]})
    time, reached = evidence.times(frame, np.array([0.8, 0.8]), never=200)
    assert time.tolist() == [200, 2]
    assert reached.tolist() == [False, True]


def test_charging_the_investment_makes_few_descendants_expensive(finished):
    frames = replicate.load(finished[0]).of("glyphs")["CNN"]
    alone, many = (evidence.amortised(frames, 1e6, n).mean for n in (1, 10**6))
    assert alone < 0.1 < 1 < many


def test_rows_of_another_plan_are_refused(finished):
    out, _ = finished
    table = pd.read_csv(out / "runs.csv")
    subject = replicate.subjects("quick", ("cnn",), out)["cnn"]
    other = replicate.plan(replace(subject.base, seed=5, task=Task(4)), subject.fits, (2,), 20)
    with pytest.raises(UserError, match="rows of the study 'grid' are not in the table"):
        replicate.frames(table, other)


@pytest.mark.parametrize("damage", ["missing", "not json", "no rows"])
def test_a_damaged_folder_is_refused(finished, tmp_path, damage):
    if damage != "missing":
        text = (finished[0] / "claims.json").read_text()
        (tmp_path / "claims.json").write_text("{" if damage == "not json" else text)
    with pytest.raises(UserError, match="not a results folder that can be read"):
        replicate.load(tmp_path)


def test_plain_scratch_at_twenty_shots_is_a_control_only(finished):
    found = [c for c in finished[1] if c.sentence.startswith("shots at which")]
    assert {c.number for c in found if c.sentence.endswith("equals scratch at 20 shots")} == {None}
    assert {c.number for c in found if "5x steps" in c.sentence} == {4}


def test_layers_that_rank_last_are_contradicted():
    tasks, names = range(6), [f"b{i}" for i in range(20)]
    rows = [
        {"task": t, "layers": n, "accuracy": 0.8 + 0.01 * (t % 3)} for t in tasks for n in names
    ]
    arms = [{"method": GENE, "task": t, "accuracy": 0.5 + 0.01 * (t % 2)} for t in tasks]
    frames = {"sets": pd.DataFrame(rows), "arms": pd.DataFrame(arms)}
    (found,) = evidence.condensing(frames, "cnn", "glyphs")
    assert found.p == pytest.approx(1 / 21)
    assert found.verdict == "contradicted"


def test_nothing_named_is_refused(tmp_path):
    for nothing in ("claims", "families"):
        with pytest.raises(UserError, match="Name at least one"):
            replicate.run(tmp_path, **{nothing: ()})


def test_a_results_folder_speaks_for_itself(finished, monkeypatch):
    """It is read without the shipped learning rates and without an ancestor."""
    out, claims = finished
    monkeypatch.setattr(importlib.import_module("lgutils.replicate.run"), "subjects", None)
    monkeypatch.setattr(fleet.jobs, "_ancestor", None)
    assert list(map(str, replicate.load(out).claims)) == list(map(str, claims))


def test_an_unknown_claim_or_dataset_is_refused(tmp_path):
    with pytest.raises(UserError, match="Claim 5"):
        replicate.run(tmp_path, claims=(5,))
    with pytest.raises(UserError, match="dataset 'mnist'"):
        replicate.run(tmp_path, datasets=("mnist",))


def test_the_command_line_replicates_and_compares(tmp_path, monkeypatch):
    monkeypatch.setattr(fleet.backends, "run_job", pretend)
    options = ["--claims", "2", "--families", "cnn", "--tasks", "20", "--backend", "serial"]
    for name in ("a", "b"):
        done = CliRunner().invoke(cli.app, ["replicate", "--out", str(tmp_path / name), *options])
        assert done.exit_code == 0, done.output
        assert "3 supported, 0 not supported, 0 contradicted" in done.stdout
    done = CliRunner().invoke(cli.app, ["compare", str(tmp_path / "a"), str(tmp_path / "b")])
    assert done.exit_code == 0
    assert "0 of 5 verdicts changed" in done.stdout


# --- the paper's recipes, and many machines ---------------------------------------------------------


def recipe_job(family):
    recipe = recipes.find(family, "paper")
    shape = recipe.descendant
    return Job(family, GENE, recipe.layers, Task(), arch=shape.arch,
               arch_kwargs=dict(shape.kwargs), scale="paper")  # fmt: skip


@pytest.mark.parametrize("family", ["vgg16", "resnet18"])
def test_rival_sets_fit_the_descendant(family):
    base = recipe_job(family)
    kwargs = base.arch_kwargs if base.arch != base.ancestry.arch else {
        **base.ancestry.arch_kwargs, **base.arch_kwargs}  # fmt: skip
    descendant = models.create(base.arch, 5, **kwargs)
    slots = [layer for layer in blocks.layers(descendant) if layer.role == "block"]
    ancestor = models.create(base.ancestry.arch, 5, **base.ancestry.arch_kwargs)
    every = {layer.name: layer for layer in blocks.layers(ancestor)}
    for names in replicate.layer_sets(base, 3):
        shapes = [[tuple(ancestor.state_dict()[t].shape) for t in every[n].tensors] for n in names]
        places = [[tuple(descendant.state_dict()[t].shape) for t in x.tensors] for x in slots]
        position = -1
        for shape in shapes:  # in order, each at a place of its own
            position = next(i for i in range(position + 1, len(places)) if places[i] == shape)


def test_many_blocks_have_a_fixed_sample_of_sets():
    base = recipe_job("vit-s-first")
    assert replicate.layer_sets(base, 20) == replicate.layer_sets(base, 20)
    assert replicate.budget_gap(base) == 0


def test_a_rehearsal_is_designed_in_little():
    little, whole = replicate.Design.preset("rehearsal"), replicate.Design.preset("paper")
    assert whole == replicate.Design.preset("quick")
    for name in ("shots", "rates", "weight_decays", "tuning_tasks"):
        assert len(getattr(little, name)) < len(getattr(whole, name))
    assert max(little.logged(LONG)) <= little.fits[LONG].epochs == 10


def test_a_recipes_descendants_train_as_the_paper_says():
    design = replicate.Design.preset("paper", "vgg16")
    fit = design.fits[SCRATCH]
    assert (fit.optimizer, fit.schedule, fit.epochs, fit.batch_size) == ("sgd", "constant", 100, 64)
    assert fit.flip
    assert design.weight_decays == (5e-4, 5e-3)
    assert design.logged(GENE)[-1] == 100


def test_the_courses_design_is_what_it_was():
    assert replicate.Design.preset("quick") == replicate.Design()


def test_characters_are_not_mirrored_whatever_the_ancestor_learnt(finished):
    base = recipe_job("vgg16")
    fits = replicate.Design.preset("paper", "vgg16").fits
    asked = replicate.Asked("paper", ("vgg16",), ("cifar100", "glyphs"), claims=(4,), tasks=4)
    plans = asked.plans({"vgg16": replicate.Subject(base, fits)})
    for dataset, mirrored in (("cifar100", True), ("glyphs", False)):
        jobs = [j for study in plans[dataset, "vgg16"].values() for j in study]
        assert {j.fit.flip for j in jobs} == {mirrored}


def test_the_shots_can_be_chosen_but_not_without_those_compared(tmp_path):
    with pytest.raises(UserError, match="10 and 20 must be among them"):
        replicate.run(tmp_path, shots=(1, 10))


def test_tasks_that_cannot_be_drawn_are_refused_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(fleet.backends, "run_job", None)
    with pytest.raises(UserError, match="too few for 500 shots"):
        replicate.run(tmp_path, claims=(4,), shots=(10, 20, 500), progress=False)


def test_learning_rates_belong_to_an_ancestor(paper, tmp_path):
    replicate.subjects("paper", ("cnn",), tmp_path)
    replicate.subjects("paper", ("cnn",), tmp_path, ancestor_data="glyphs@64")
    assert len(list(tmp_path.glob("learning-rates-cnn-*.json"))) == 2


def test_parts_and_a_last_run_give_what_one_run_gives(finished, tmp_path, monkeypatch):
    options = {"claims": (2,), "families": ("cnn",), "backend": "serial", "progress": False}
    monkeypatch.setattr(fleet.backends, "run_job", pretend)
    for k in (1, 2, 3):
        assert replicate.run(tmp_path, **options, part=(k, 3)) == []
    assert not (tmp_path / "claims.json").exists()
    monkeypatch.setattr(fleet.backends, "run_job", None)  # all is there
    claims = replicate.run(tmp_path, **options)
    wanted = [str(c) for c in finished[1] if c.family == "cnn" and str(c) in map(str, claims)]
    assert list(map(str, claims)) == wanted != []


def test_a_part_before_its_preparation_is_refused(tmp_path):
    with pytest.raises(UserError, match="--prepare instead of --part"):
        replicate.run(tmp_path, scale_name="rehearsal", part=(1, 2), progress=False)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"families": ("vgg16",)}, "no quick scale"),
        ({"ancestor_data": "cifar100"}, "shipped ones"),
        ({"scale_name": "paper", "datasets": ("folder:my birds",)}, "space or comma"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_written(options, words, tmp_path):
    with pytest.raises(UserError, match=words):
        replicate.run(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_the_papers_path_is_rehearsed_from_ancestor_to_claims(tmp_path, monkeypatch):
    """VGG16 with its 33.9 million parameters, tuned and judged; only the schedule is short."""
    monkeypatch.setenv("LGUTILS_CACHE", str(tmp_path / "cache"))
    claims = replicate.run(
        tmp_path / "out", scale_name="rehearsal", families=("vgg16",), ancestor_data="glyphs",
        claims=(4,), tasks=4, progress=False,
    )  # fmt: skip
    assert {(c.family, c.dataset) for c in claims} == {("vgg16", "glyphs")}
    table = pd.read_csv(tmp_path / "out" / "runs.csv")
    assert set(table["scale"]) == {"rehearsal"}
    assert set(table["k_shot"]) == {5, 10, 20}
    again = replicate.load(tmp_path / "out")
    assert list(map(str, again.claims)) == list(map(str, claims))


# --- what the repository holds --------------------------------------------------------------------


@pytest.fixture(scope="module", params=["glyphs-quick", "digits-quick"])
def stored(request):
    return ship.results_folder() / request.param


def test_the_stored_claims_follow_from_the_stored_rows(stored):
    written = json.loads((stored / "claims.json").read_text())["claims"]
    again = [c.to_json() for c in replicate.load(stored).claims]
    assert len(written) == len(again)
    for a, b in zip(written, again, strict=True):
        assert (a["sentence"], a["verdict"], a["effect"]["n"]) == (
            b["sentence"], b["verdict"], b["effect"]["n"],
        )  # fmt: skip


def test_a_stored_row_of_the_replication_comes_out_again(stored):
    table = pd.read_csv(stored / "runs.csv")
    subject = replicate.load(stored).subjects["cnn"]
    base = replace(subject.base, dataset=stored.name.split("-")[0])
    job = replicate.plan(base, subject.fits, (1,), 20)["arms"][0]
    assert fleet.run_job(job).accuracy == pytest.approx(
        table.set_index("key").loc[job.key, "accuracy"], abs=0.08
    )


def test_the_stored_subjects_are_the_shipped_ones(stored, subjects):
    assert replicate.load(stored).subjects == subjects


def test_the_main_comparison_rests_on_at_least_twenty_tasks(stored):
    for (_, _), frames in replicate.load(stored).frames.items():
        for name in (GENE, SCRATCH):
            assert len(evidence.arm(frames, name)) >= 20
        assert LONG not in frames["arms"]["method"].unique()


def test_the_figure_of_claim_four_shows_the_rival_that_its_verdict_is_about(stored):
    runs = replicate.load(stored)
    found = runs.of(stored.name.split("-")[0])
    for family, (accuracy, name) in sections.goals(found).items():
        assert name == f"{LONG} at 20 shots"
        shots, values = sections.by_shots(found)[family][LONG]
        assert values[:, list(shots).index(20)].mean() == pytest.approx(accuracy)


def test_the_shipped_ancestor_is_behind_the_stored_rows(stored):
    table = pd.read_csv(stored / "runs.csv")
    assert set(table["ancestor_seed"]) == {0}
    assert shipped_path("cnn").is_file()
