"""Figures hold what they say: units, intervals, one scale, the best cell, and nothing stays open."""

import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from lgutils import ancestry, figures, fleet, report
from lgutils.errors import UserError
from lgutils.fleet.tuning import LONG
from lgutils.report import Claim, Interval

STEPS = np.array([1, 5, 20, 80])
SHOTS = np.array([1, 3, 10])


@pytest.fixture(autouse=True)
def nothing_stays_open():
    with plt.rc_context():
        figures.style()
        yield
    plt.close("all")


def accuracies(columns, tasks=6, seed=0):
    return np.random.default_rng(seed).random((tasks, len(columns)))


def arms(columns, tasks=6):
    names = ("learngene", "scratch")
    return {name: (columns, accuracies(columns, tasks, k)) for k, name in enumerate(names)}


def names_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def panels(figure):
    return [axis for axis in figure.axes if axis.get_title() and axis.get_visible()]


def draw(figure):
    """A warning or an error of the layout shows only when the figure is drawn."""
    figure.canvas.draw()
    return figure


@pytest.fixture
def claims():
    rows = [("supported", 0.1), ("contradicted", -0.1), ("not supported", 0.0)]
    made = [
        Claim(f"{verdict} $x^", Interval(m, m - 0.05, m + 0.05, 20), family=f, dataset="glyphs")
        for f in ("cnn", "vit")
        for verdict, m in rows
    ]
    return [*made, Claim("fewer steps", Interval(2, 1.5, 3, 20), unit="times", null=1.0)]


GRID = {"xlabel": "learning rate", "ylabel": "epochs", "title": "Sensitivity"}


def tables():
    return {"learngene": np.array([[0.5, 0.7], [0.9, 0.6]]), "scratch": np.eye(2) * 0.4}


def every(claims, names):
    """One figure of each kind."""
    groups = {name: arms(STEPS) for name in names}
    yield figures.curves(groups, "Curves", threshold=0.7, chance=0.2)
    yield figures.shots({n: arms(SHOTS) for n in names}, "Shots", target={names[0]: (0.5, "goal")})
    falls = {name: {"scratch": (np.array([0, 10, 50]), np.array([1, 0.5, 0]))} for name in names}
    yield figures.survival(falls, "Survival")
    yield figures.grid({n: np.eye(2) for n in names}, [10, 20], [1e-4, 1e-3], **GRID)
    others = {name: np.random.default_rng(0).random(20) for name in names}
    yield figures.ranking(dict.fromkeys(names, 0.9), others, "Ranking")
    yield figures.components({name: {"task": 0.05, "rest": 0.01} for name in names}, "Spread")
    yield figures.verdicts(claims, "Verdicts")


@pytest.mark.parametrize("names", [["CNN"], ["CNN", "ViT"]], ids=["one", "two"])
def test_every_figure_has_units_and_can_be_drawn(claims, names):
    for figure in every(claims, names):
        draw(figure)
        texts = [t.get_text() for t in figure.findobj(plt.Text)]
        assert any("%" in text or "percentage points" in text for text in texts)
        plt.close(figure)


def test_nothing_is_cut_off_at_the_edge(claims):
    for figure in every(claims, ["CNN", "ViT"]):
        box = draw(figure).get_tightbbox()
        assert min(box.x0, box.y0) > -0.02
        assert (box.max < figure.get_size_inches() + 0.02).all()
        plt.close(figure)


def test_the_band_is_the_t_interval():
    groups = {"CNN": arms(STEPS)}
    axis = panels(figures.curves(groups, "Curves"))[0]
    for band, line, (_, values) in zip(
        axis.collections, axis.lines, groups["CNN"].values(), strict=True
    ):
        found = [report.mean(column) for column in values.T]
        assert line.get_ydata() == pytest.approx([100 * i.mean for i in found])
        corners = band.get_paths()[0].vertices
        for step, interval in zip(STEPS, found, strict=True):
            heights = corners[corners[:, 0] == step, 1]
            assert heights.min() == pytest.approx(100 * interval.low)
            assert heights.max() == pytest.approx(100 * interval.high)


def test_arms_differ_in_more_than_colour_and_look_alike_in_all_panels():
    many = {str(k): (STEPS, accuracies(STEPS, seed=k)) for k in range(8)}
    figure = figures.curves({"CNN": many, "ViT": dict(reversed(many.items()))}, "Curves")
    looks = [
        {line.get_label(): (line.get_marker(), line.get_linestyle(), to_hex(line.get_color()))
         for line in axis.lines}
        for axis in panels(figure)
    ]  # fmt: skip
    assert looks[0] == looks[1]
    assert len({look[0] + look[1] for look in looks[0].values()}) == 8


def test_every_arm_of_the_course_has_a_look_of_its_own():
    names = [*fleet.ARMS, LONG, *ancestry.METHODS]
    found = figures.looks(names)
    assert found == {n: figures.looks([n])[n] for n in names}  # whatever else is drawn
    for group in ([*fleet.ARMS, LONG], ["learngene", "scratch", *ancestry.METHODS]):
        drawn = {(found[name]["marker"], to_hex(found[name]["color"])) for name in group}
        assert len(drawn) == len(group)


def test_what_the_course_does_not_know_borrows_no_colour_of_learngene_or_scratch():
    own = {look["color"] for look in figures.looks(["learngene", "scratch"]).values()}
    strange = figures.looks(str(k) for k in range(20))
    assert own.isdisjoint(look["color"] for look in strange.values())


def test_patient_scratch_has_the_hue_of_scratch_and_another_line():
    scratch, patient = figures.looks(["scratch", f"{LONG} (n = 20)"]).values()
    assert scratch["color"] == patient["color"]
    assert scratch["ls"] != patient["ls"]
    assert scratch["marker"] != patient["marker"]


def test_traces_are_a_panel_a_block_with_a_band_over_seeds():
    curves = {"block 1": np.array([[1.0, 2, 3], [1, 4, 5]]), "block 2": np.zeros((2, 3))}
    figure = draw(figures.traces(curves, "iteration", "lambda", "Traces", chosen=["block 1"]))
    assert [axis.get_title() for axis in panels(figure)] == ["block 1, chosen", "block 2"]
    axis = panels(figure)[0]
    assert list(axis.lines[-1].get_ydata()) == [1, 3, 4]
    (band,) = axis.collections
    corners = band.get_paths()[0].vertices
    assert sorted(set(corners[corners[:, 0] == 2, 1])) == [3, 5]
    gene = figures.looks(["learngene"])["learngene"]["color"]
    assert to_hex(axis.lines[-1].get_color()) == gene


def test_panels_share_the_accuracy_axis_and_one_legend():
    figure = figures.curves(
        {"CNN": arms(STEPS), "ViT": arms(STEPS)}, "C", threshold=0.7, chance=0.2
    )
    left, right = panels(figure)
    assert left.get_ylim() == right.get_ylim()
    assert left.get_ylabel() == "accuracy (%)"
    assert left.get_xlabel() == "optimiser steps"
    assert names_of(figure) == ["learngene", "scratch", "threshold, 70 %", "chance, 20 %"]


@pytest.mark.parametrize(
    ("steps", "scale"), [([5, 10, 50], "linear"), ([1, 10, 50], "log"), ([0, 1, 50], "symlog")]
)
def test_steps_are_on_a_log_scale_when_they_span_more_than_a_factor_10(steps, scale):
    axis = panels(figures.curves({"CNN": arms(np.array(steps))}, "Curves"))[0]
    assert axis.get_xscale() == scale


def test_shots_have_ticks_at_the_shots_and_a_target():
    figure = figures.shots(
        {"CNN": arms(SHOTS)}, "Shots", target={"CNN": (0.5, "20 shots, scratch")}
    )
    axis = panels(draw(figure))[0]
    assert axis.get_xscale() == "log"
    assert [t.get_text() for t in axis.get_xticklabels()] == ["1", "3", "10"]
    assert names_of(figure)[-1] == "20 shots, scratch"
    assert list(axis.lines[-1].get_ydata()) == [50, 50]


def test_survival_falls_in_steps():
    figure = figures.survival({"CNN": {"scratch": ([0, 10, 50], [1, 0.5, 0])}}, "Survival")
    (line,) = panels(figure)[0].lines
    assert line.get_drawstyle() == "steps-post"
    assert list(line.get_ydata()) == [100, 50, 0]


def test_heat_maps_share_one_scale_and_one_bar():
    figure = figures.grid(tables(), [10, 20], [1e-4, 1e-3], **GRID)
    images = [axis.images[0] for axis in panels(figure)]
    assert {image.get_clim() for image in images} == {(0, 90)}
    assert {image.get_cmap().name for image in images} == {"cividis"}
    assert [a.get_ylabel() for a in figure.axes if a not in panels(figure)] == ["mean accuracy (%)"]


def test_the_frame_is_around_the_best_cell_and_each_cell_has_its_value():
    for table, axis in zip(
        tables().values(), panels(figures.grid(tables(), [1, 2], [3, 4], **GRID)), strict=True
    ):
        (frame,) = [patch for patch in axis.patches if isinstance(patch, Rectangle)]
        x, y = (round(c) for c in frame.get_center())
        assert table[y, x] == table.max()
        assert [t.get_text() for t in axis.texts] == [f"{100 * v:.0f}" for v in table.flat]


def test_a_cell_that_was_not_run_is_neither_best_nor_a_number():
    axis = panels(figures.grid({"a": np.array([[np.nan, 0.3]])}, [1], ["x", "y"], **GRID))[0]
    assert [t.get_text() for t in axis.texts] == ["–", "30"]
    assert round(axis.patches[0].get_center()[0]) == 1


def test_the_chosen_set_is_ranked_among_the_others():
    figure = figures.ranking({"CNN": 0.8}, {"CNN": np.array([0.5, 0.6, 0.9])}, "Ranking")
    axis = panels(figure)[0]
    assert axis.get_title() == "CNN: above 2 of 3 random sets"
    assert sum(patch.get_height() for patch in axis.patches) == 3
    assert 80 in [line.get_xdata()[0] for line in axis.lines]


def test_components_are_in_points_and_hatched_by_family():
    figure = figures.components({"CNN": {"task": 0.05}, "ViT": {"task": 0.02, "rest": 0.01}}, "S")
    (axis,) = figure.axes
    assert sorted(p.get_width() for p in axis.patches) == pytest.approx([1, 2, 5])
    assert len({p.get_hatch() for p in axis.patches}) == 2
    assert "percentage points" in axis.get_xlabel()


def test_verdicts_differ_in_marker_and_colour_and_are_grouped(claims):
    figure = figures.verdicts(claims, "Verdicts")
    (axis,) = figure.axes
    looks = {(m.lines[0].get_marker(), to_hex(m.lines[0].get_color())) for m in axis.containers}
    assert len({shape for shape, _ in looks}) == len({colour for _, colour in looks}) == 3
    labels = [t.get_text() for t in axis.get_yticklabels()]
    assert [label for label in labels if label.endswith("glyphs")] == ["CNN, glyphs", "ViT, glyphs"]
    assert "in other units: 1" in axis.get_xlabel()


@pytest.mark.parametrize("call", [figures.curves, figures.shots])
def test_one_task_has_no_interval_and_leaves_no_open_figure(call):
    with pytest.raises(UserError, match="at least 2"):
        call({"CNN": arms(STEPS, tasks=1)}, "One task")
    assert not plt.get_fignums()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: figures.curves({}, "t"), "nothing to draw"),
        (lambda: figures.curves({"CNN": {"a": (STEPS, np.ones((3, 2)))}}, "t"), "'a' have shape"),
        (lambda: figures.grid({"a": np.ones((2, 3))}, [1], [2], **GRID), "'a' has shape"),
        (lambda: figures.ranking({"CNN": 1.0}, {}, "t"), "'CNN' needs"),
        (lambda: figures.verdicts([], "t"), "no claim"),
    ],
)
def test_bad_input_is_named_and_leaves_no_open_figure(call, match):
    with pytest.raises(UserError, match=match):
        call()
    assert not plt.get_fignums()


def test_a_shown_figure_is_closed(capsys):
    figures.show(figures.components({"CNN": {"task": 0.05}}, "Spread"), "bars")
    assert not plt.get_fignums()


# --- condensing -----------------------------------------------------------------------------------

PAIRS = ((0, 0), (1, 0), (0, 1), (1, 1))
TRACE = np.array([[1, 1, 1, 1], [1.1, 0.9, 1, 1], [1.2, 0.9, 1.1, 0.8]])


def test_moments_show_lambda_at_the_iterations_asked_for():
    figure = draw(figures.moments(TRACE, PAIRS, (0, 2), "λ"))
    first, last = figure.axes
    assert [axis.get_title() for axis in figure.axes] == ["iteration 1", "iteration 3"]
    assert {text.get_text() for text in first.texts} == {"1.00"}
    assert [text.get_text() for text in last.texts] == ["1.20", "1.10", "0.90", "0.80"]


def test_a_moving_picture_ends_at_the_last_lambda_on_the_scale_of_the_largest_move():
    markup = figures.moving(TRACE, PAIRS, "λ & more")._repr_html_()
    ends = re.findall(r"@keyframes lgm-\w+-\d+{.*?100%{transform:scaleY\(([-.\d]+)\)}}", markup)
    assert [float(end) for end in ends] == [1, -0.5, 0.5, -1]
    assert markup.count('class="lgm"') == len(PAIRS) + 1  # and the bar of time


def test_moving_pictures_of_other_content_share_no_names_on_a_page():
    found = [
        set(
            re.findall(
                r'id="([^"]+)"|@keyframes ([\w-]+)', figures.moving(t, PAIRS, "")._repr_html_()
            )
        )
        for t in (TRACE, TRACE[::-1], TRACE)
    ]
    assert not found[0] & found[1]
    assert found[0] == found[2]


def test_a_moving_picture_needs_no_script_and_says_what_it_shows():
    picture = figures.moving(TRACE, PAIRS, "λ & more")
    assert repr(picture) == "λ & more"
    assert 'role="img" aria-label="λ &amp; more"' in picture._repr_html_()
    assert not re.search(r"<script|https?:| on\w+=", picture._repr_html_())


@pytest.mark.parametrize(("trace", "pairs"), [(TRACE[:1], PAIRS), (TRACE, PAIRS[:3])])
def test_a_trace_that_cannot_move_is_refused(trace, pairs):
    with pytest.raises(UserError, match="two iterations or more"):
        figures.moving(trace, pairs, "")


def test_the_levels_name_the_steps_of_a_rollout():
    texts = [text.get_text() for text in draw(figures.levels(5)).axes[0].texts]
    assert any(text.startswith("5 steps of") for text in texts)


def test_the_plane_holds_every_path_teacher_and_the_goal():
    paths = {"λ = 1": [[0, 1], [0.5, 0.5]], "λ = 2": [[0, 1], [0.8, 0.3]]}
    figure = draw(figures.plane(paths, {"a₁": (1, 0)}, (0.8, 0.2)))
    axis = figure.axes[0]
    assert [line.get_xydata().tolist() for line in axis.lines[:2]] == list(paths.values())
    assert {text.get_text() for text in axis.texts} == {"a₁", "b"}
    assert names_of(figure) == list(paths)
