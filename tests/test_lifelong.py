"""The study compares the same orders and tasks, tunes elsewhere, and goes on where it was stopped."""

import json
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lgutils import data, fleet, lifelong, report, ship
from lgutils.ancestry import AncestryConfig
from lgutils.errors import UserError
from lgutils.figures import lifelong as figures
from lgutils.figures import style
from lgutils.lifelong import StudyConfig
from lgutils.train import FitConfig

NARROW = {"stages": [1, 2, 2, 2], "widths": [4, 4, 4, 4]}
TINY = StudyConfig(
    orders=(0, 1),
    tasks=2,
    epochs=1,
    memory=2,
    strengths=(1.0, 100.0),
    novel=(0, 1),
    base=AncestryConfig("cnn", "learngene_vgg", NARROW, fit=FitConfig(batch_size=64)),
)


@pytest.fixture
def tiny_world(coloured, monkeypatch, own_cache):
    """Noisy tinted images, five base and five novel classes, and few-shot training in a blink."""
    more = replace(coloured, held_out=~coloured.held_out)  # 16 a class to train on, 4 held out
    monkeypatch.setattr(data, "load", lambda *_, **__: more)
    split = data.Split(base=tuple(range(5)), novel=tuple(range(5, 10)))
    monkeypatch.setattr(data, "split", lambda *_, **__: split)
    fit = FitConfig(epochs=1, batch_size=50)
    monkeypatch.setattr(fleet, "tuned_fit", lambda *_, **__: fit)


@pytest.fixture
def made(monkeypatch):
    """The trials that were measured, without measuring them."""
    asked = []

    def measure(trial):
        asked.append(trial)
        life = trial.life
        best = {1.0: 0.2, 10.0: 0.9, 100.0: 0.4, 1000.0: 0.5}
        return {
            "key": trial.key, "order": life.order, "method": life.method,
            "strength": life.strength, "average accuracy (own)": best[life.strength],
        }  # fmt: skip

    monkeypatch.setattr(lifelong, "measure", measure)
    return asked


# --- the plan -------------------------------------------------------------------------------------


def test_every_order_has_every_method_once():
    found = [(t.life.order, t.life.method) for t in lifelong.trials(StudyConfig(), 10.0)]
    assert len(set(found)) == len(found) == 25


def test_all_trials_see_as_many_images_and_the_same_novel_tasks():
    trials = lifelong.trials(StudyConfig(), 10.0)
    assert len({replace(t.config.fit, seed=0) for t in trials}) == 1
    assert {t.novel for t in trials} == {tuple(range(8))}


def test_an_order_seeds_weights_images_and_classes():
    for trial in lifelong.trials(StudyConfig(), 10.0):
        assert trial.life.order == trial.config.seed == trial.config.fit.seed


def test_no_reported_order_tunes():
    assert {t.life.order for t in lifelong.tuning(StudyConfig())} == {99}
    with pytest.raises(UserError, match="must not tune"):
        StudyConfig(orders=(1, 99))


def test_tuning_touches_no_novel_task():
    assert all(t.novel == () for t in lifelong.tuning(StudyConfig()))


def test_a_study_needs_something_to_compare_with():
    with pytest.raises(UserError, match="joint"):
        StudyConfig(methods=("replay",))


def test_the_best_strength_of_the_tuning_order_is_taken(made, tmp_path):
    rows = lifelong.run(tmp_path / "rows.csv", False, workers=0)
    assert len(rows) == 25
    assert {t.life.strength for t in made if t.novel and t.life.method == "ewc"} == {10.0}


def test_the_strength_changes_no_other_method():
    one, two = ({t.key for t in lifelong.trials(StudyConfig(), s)} for s in (1.0, 10.0))
    assert len(one & two) == 20


def test_one_strength_needs_no_tuning(made, tmp_path):
    study = StudyConfig(strengths=(10.0,))
    lifelong.run(tmp_path / "rows.csv", False, study=study, workers=0)
    assert len(made) == 25
    assert {t.life.strength for t in made if t.life.method == "ewc"} == {10.0}


# --- going on -------------------------------------------------------------------------------------


def test_nothing_is_made_twice(made, tmp_path):
    first = lifelong.run(tmp_path / "rows.csv", False, workers=0)
    count = len(made)
    again = lifelong.run(tmp_path / "rows.csv", False, workers=0)
    assert len(made) == count == 29
    pd.testing.assert_frame_equal(first, again)


def test_a_study_that_was_stopped_keeps_its_rows(made, tmp_path, monkeypatch):
    measure = lifelong.measure

    def stopped(trial):
        if len(made) == 12:
            raise KeyboardInterrupt
        return measure(trial)

    monkeypatch.setattr(lifelong, "measure", stopped)
    with pytest.raises(KeyboardInterrupt):
        lifelong.run(tmp_path / "rows.csv", False, workers=0)
    assert len(pd.read_csv(tmp_path / "rows.csv")) == 12
    monkeypatch.setattr(lifelong, "measure", measure)
    assert len(lifelong.run(tmp_path / "rows.csv", False, workers=0)) == 25
    assert len(made) == 29


def test_more_orders_add_to_the_file(made, tmp_path):
    lifelong.run(tmp_path / "rows.csv", False, workers=0)
    more = StudyConfig(orders=(0, 1, 2, 3, 4, 5))
    rows = lifelong.run(tmp_path / "rows.csv", False, study=more, workers=0)
    assert len(made) == 34
    assert rows["order"].tolist() == [order for order in range(6) for _ in range(5)]


# --- a whole small study --------------------------------------------------------------------------


@pytest.fixture
def rows(tiny_world, tmp_path):
    return lifelong.run(tmp_path / "rows.csv", False, study=TINY, workers=0)


def test_a_small_study_runs_to_the_end(rows):
    assert rows["order"].tolist() == [0] * 5 + [1] * 5
    for name, chosen in (("shipped", " ".join(ship.chosen("cnn"))), ("calm", None)):
        assert rows[f"learngene ({name})"].between(0, 1).all()
        for values, mean in zip(rows[f"tasks ({name})"], rows[f"learngene ({name})"]):
            assert np.mean(json.loads(values)) == pytest.approx(mean)
        if chosen:
            assert set(rows[f"layers ({name})"]) == {chosen}
    assert rows["average accuracy (seen)"].notna().all()
    without = rows["forgetting (own)"].isna()
    assert (without == (rows["method"] == "joint")).all()
    tables = lifelong.matrices(rows, "seen")
    assert {name: table.shape for name, table in tables.items()} == dict.fromkeys(tables, (2, 2, 2))
    gains = lifelong.gains(rows)
    assert {i.n for methods in gains.values() for i in methods.values()} == {2}
    text = lifelong.remembered(rows)
    assert text.loc["joint", "forgetting (own)"] == "" != text.loc["replay", "forgetting (own)"]


# --- what is made of the rows ---------------------------------------------------------------------


def table(shift=0.0):
    lines = [
        {"order": o, "method": m, "learngene (shipped)": v + shift, "learngene (calm)": 0.5}
        for o, joint in enumerate((0.5, 0.6, 0.7))
        for m, v in (("joint", joint), ("ewc", joint - 0.1 * o))
    ]
    return pd.DataFrame(lines)


def test_a_gain_is_the_paired_difference_over_orders():
    found = lifelong.gains(table())
    shipped = found[lifelong.LEARNGENES["shipped"]]
    assert list(shipped) == ["ewc"]
    expected = report.mean([0.0, -0.1, -0.2])
    for name in ("mean", "low", "high", "n"):
        assert getattr(shipped["ewc"], name) == pytest.approx(getattr(expected, name))


def test_an_order_that_is_not_finished_does_not_count():
    assert lifelong.gains(table().iloc[:-1])[lifelong.LEARNGENES["shipped"]]["ewc"].n == 2


# --- figures --------------------------------------------------------------------------------------


@pytest.fixture
def lives():
    random = np.random.default_rng(0)
    lower = np.where(np.tri(4, dtype=bool), random.random((5, 4, 4)), np.nan)
    joint = np.where(np.arange(4)[:, None] == 3, random.random((5, 4, 4)), np.nan)
    return {"joint": joint, "fine-tuning": lower, "replay": lower**0.5, "growing": lower}


@pytest.fixture(autouse=True)
def nothing_stays_open():
    with plt.rc_context():
        style()
        yield
    plt.close("all")


def test_matrices_are_drawn_on_one_scale_with_the_mean_in_each_cell(lives):
    figure = figures.accuracy_matrices(lives, "Accuracy")
    figure.canvas.draw()
    shown = [axis for axis in figure.axes if axis.get_title() and axis.get_visible()]
    assert [axis.get_title() for axis in shown] == list(lives)
    texts = [text.get_text() for text in shown[1].texts]
    mean = 100 * lives["fine-tuning"].mean(0)
    assert texts == [f"{mean[i, j]:.0f}" for i in range(4) for j in range(i + 1)]
    assert {axis.collections[0].get_clim() for axis in shown} == {(0, 100)}


def test_the_first_task_is_followed_with_intervals(lives):
    figure = figures.first_task(lives, "The first task", chance=0.25)
    figure.canvas.draw()
    (axis,) = figure.axes
    lines = {c.get_label(): c.lines[0] for c in axis.containers}
    assert lines["fine-tuning"].get_xdata().round().tolist() == [1, 2, 3, 4]
    assert lines["joint"].get_xdata().round().tolist() == [4]
    np.testing.assert_allclose(lines["replay"].get_ydata(), 100 * lives["replay"][:, :, 0].mean(0))


def test_the_worth_of_learngenes_is_drawn_for_every_method():
    figure = figures.worth(lifelong.gains(table()))
    figure.canvas.draw()
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["ewc"]
    assert len(axis.containers) == 2
    assert "lifelong - joint" in axis.get_xlabel()


@pytest.mark.parametrize("bad", [{}, {"joint": np.zeros((4, 4))}])
def test_what_cannot_be_drawn_is_refused(bad):
    with pytest.raises(UserError):
        figures.accuracy_matrices(bad, "nothing")
