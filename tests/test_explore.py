"""What is explored: sliders redraw, figures show what is chosen, and all works without a browser."""

import io
import re
import sys
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle

from lgutils import exercises, explore, figures, inherit, learngene
from lgutils.condense.criteria import Scores
from lgutils.errors import UserError
from lgutils.report import Interval
from lgutils.train import FitConfig

FIT = FitConfig(epochs=1, batch_size=8)
SHAPE = {"stages": (1, 2, 2)}
BLOCKS = ("features.4", "features.7", "features.11", "features.14")
SCORES = Scores("lambda", BLOCKS, np.array([[1.0, 0.8, 1.3, 1.1], [1.1, 0.9, 1.2, 1.0]]))
RIVAL = Scores("cka", BLOCKS, np.array([[0.9, 0.2, 0.5, 0.6]]))


@pytest.fixture(autouse=True)
def nothing_stays_open():
    with plt.rc_context():
        figures.style()
        yield
    assert not plt.get_fignums()


@pytest.fixture
def browser(monkeypatch):
    monkeypatch.setenv("LGUTILS_WIDGETS", "1")


@pytest.fixture
def no_browser(monkeypatch):
    monkeypatch.setenv("LGUTILS_WIDGETS", "0")


def hatched(axis):
    boxes = [patch for patch in axis.patches if isinstance(patch, Rectangle)]
    return [bool(box.get_hatch()) for box in boxes]


def texts(figure):
    return [text.get_text() for text in figure.findobj(plt.Text)]


def few(**options):
    return {"ways": 3, "shots": (2,), "shape": SHAPE, "fit": FIT, **options}


@pytest.fixture
def gene(tiny_cnn):
    return learngene.extract(tiny_cnn, BLOCKS[:1])


@pytest.mark.parametrize("budget", [1, 2, 4])
def test_the_figure_hatches_the_layers_of_the_learngene_that_condense_to_gives(tiny_cnn, budget):
    gene = learngene.condense_to(tiny_cnn, SCORES, budget)
    figure, alt = explore.draw_budget(tiny_cnn, SCORES, [budget], RIVAL)
    assert hatched(figure.axes[0]) == [
        name in {layer.name for layer in gene.layers} for name in ("stem", *BLOCKS, "head.fc")
    ]
    numbers = ", ".join(str(BLOCKS.index(name) + 1) for name in gene.names)
    assert f"budget {budget}: blocks {numbers}, " in alt
    plt.close(figure)


def test_the_chosen_blocks_stand_at_their_scores(tiny_cnn):
    figure, _ = explore.draw_budget(tiny_cnn, SCORES, [2], RIVAL)
    chosen, left = figure.axes[1].get_lines()[0], figure.axes[1].get_lines()[3]
    assert chosen.get_xydata() == pytest.approx(np.array([[0.9, 1.05], [0.5, 1.25]]))
    assert left.get_xydata() == pytest.approx(np.array([[0.2, 0.85], [0.6, 1.05]]))
    plt.close(figure)


def test_without_a_rival_the_blocks_stand_in_network_order(tiny_cnn):
    figure, _ = explore.draw_budget(tiny_cnn, SCORES, [4])
    assert figure.axes[1].get_lines()[0].get_xdata().tolist() == [1, 2, 3, 4]
    plt.close(figure)


def test_the_bars_are_shares_of_parameters_of_ancestor_and_descendant(tiny_cnn):
    gene = learngene.condense_to(tiny_cnn, SCORES, 1)
    figure, _ = explore.draw_budget(tiny_cnn, SCORES, [1], shape=SHAPE)
    widths = [patch.get_width() for patch in figure.axes[2].patches]
    heir = inherit.inherit(gene, num_classes=5, **SHAPE)
    taken = {o.tensor for o in heir.provenance if o.source}
    own = {name: p.numel() for name, p in heir.model.named_parameters()}
    all_ = sum(p.numel() for p in tiny_cnn.model.parameters())
    assert widths[0] == pytest.approx(100 * gene.num_params / all_)
    assert widths[1] == pytest.approx(
        100 * sum(own[t] for t in taken & set(own)) / sum(own.values())
    )
    plt.close(figure)


def test_a_descendant_with_too_few_layers_is_said_not_to_fit(tiny_cnn):
    figure, alt = explore.draw_budget(tiny_cnn, SCORES, [1, 4], shape={"stages": (1, 1, 1)})
    assert texts(figure).count("does not fit") == 1
    assert alt.count("does not fit the descendant") == 1
    plt.close(figure)


def test_without_a_browser_first_middle_and_last_budget_stand_side_by_side(
    tiny_cnn, shown, no_browser
):
    explore.budget(tiny_cnn, SCORES)
    ((figure, alt),) = shown
    assert [axis.get_title() for axis in figure.axes[1:4]] == ["1 block", "2 blocks", "4 blocks"]
    assert "budget 4: blocks 1, 2, 3, 4" in alt


def test_a_single_budget_is_drawn_alone(tiny_cnn, shown, no_browser):
    explore.budget(tiny_cnn, SCORES, budgets=[3])
    assert [axis.get_title() for axis in shown[0][0].axes[1:-1]] == ["3 blocks"]


def test_moving_the_slider_draws_another_budget(tiny_cnn, shown, browser):
    explore.budget(tiny_cnn, SCORES, RIVAL)
    slider, picture = shown[0][0].children
    assert slider.options == (1, 2, 3, 4)
    before = picture.value
    slider.value = 3
    assert "budget 3: blocks 1, 3, 4" in picture.value
    assert picture.value != before
    assert re.search(
        r'<img alt="[^"]+" width="\d+" style="max-width:100%" src="data:image/png;', picture.value
    )


def test_no_widget_is_made_without_a_browser(tiny_cnn, shown, no_browser, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)  # importing it would raise
    explore.budget(tiny_cnn, SCORES)
    assert isinstance(shown[0][0], plt.Figure)


def test_a_browser_without_ipywidgets_gets_the_figure(tiny_cnn, shown, browser, monkeypatch):
    monkeypatch.setattr(exercises, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    explore.budget(tiny_cnn, SCORES)
    assert isinstance(shown[0][0], plt.Figure)


@pytest.mark.parametrize(
    ("budgets", "words"),
    [
        ([0], "budget of 0"),
        ([1, 5], "1 to 4"),
        ([0.5], "whole number"),
        ([], "No budget"),
        (3.0, "whole number"),
        ([True], "whole number"),
    ],
)
def test_a_budget_that_cannot_be_is_refused(tiny_cnn, budgets, words):
    with pytest.raises(UserError, match=words):
        explore.budget(tiny_cnn, SCORES, budgets=budgets)


def test_a_number_of_numpy_is_a_budget(tiny_cnn, shown, no_browser):
    explore.budget(tiny_cnn, SCORES, budgets=np.int64(3))
    assert len(shown) == 1


def test_a_wrong_shape_is_refused_and_not_drawn_as_one_that_does_not_fit(tiny_cnn, no_browser):
    with pytest.raises(UserError, match="dpeth"):
        explore.budget(tiny_cnn, SCORES, shape={"dpeth": 6})


def test_a_learngene_that_does_not_fit_is_refused_before_a_slider_is_shown(
    gene, tiny_cnn, coloured, shown, browser
):
    unfit = learngene.extract(tiny_cnn, BLOCKS)
    options = few(shape={"stages": (1, 1, 1), "widths": (4, 6, 8)})
    with pytest.raises(UserError, match=r"features\.7"):
        explore.tasks({"good": gene, "unfit": unfit}, coloured, tuple(range(10)), [0], **options)
    assert not shown


def test_a_rival_about_other_layers_is_refused(tiny_cnn):
    other = replace(RIVAL, layers=tuple(f"blocks.{i}" for i in range(4)))
    with pytest.raises(UserError, match="other layers"):
        explore.budget(tiny_cnn, SCORES, other)


def test_a_block_without_a_score_is_never_offered(tiny_cnn, shown, browser):
    runs = SCORES.runs.copy()
    runs[:, 0] = np.nan
    explore.budget(tiny_cnn, replace(SCORES, runs=runs))
    assert shown[0][0].children[0].options == (1, 2, 3)


def test_wrong_answers_have_a_cross_a_frame_and_the_named_class():
    x, y = torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 0, 1, 1])
    figure = figures.task((x, y), (x, y), torch.tensor([0, 1, 1, 1]), "made up")
    said = [text for text in texts(figure) if "→" in text and "truth" not in text]
    assert said == ["A → A ✓", "A → B ✗", "B → B ✓", "B → B ✓"]
    frames = [patch for patch in figure.axes[0].patches if not patch.get_fill()]
    assert len(frames) == 1
    plt.close(figure)


def test_the_title_counts_all_test_images(gene, coloured, shown, no_browser):
    explore.tasks(gene, coloured, tuple(range(10)), [3], **few())
    ((_, alt),) = shown
    title = "learngene, task 3, 2 images of each class: "
    counted = re.search(rf"{title}(\d+) of 48 test images right", alt)
    wrong = re.findall(r"class .: (\d+) wrong", alt)
    assert int(counted[1]) + sum(map(int, wrong)) == 48


def test_without_a_browser_each_learngene_meets_the_same_first_task(
    gene, tiny_cnn, coloured, shown, no_browser
):
    genes = {"learngene": gene, "scratch": inherit.scratch(tiny_cnn, gene)}
    explore.tasks(genes, coloured, tuple(range(10)), [3, 4], **few(shots=(1, 2)))
    assert [re.search(r"answers\. (.+?):", alt)[1] for _, alt in shown] == [
        f"{name}, task 3, 2 images of each class" for name in genes
    ]


def test_the_task_slider_redraws_and_no_task_is_trained_twice(
    gene, coloured, shown, browser, monkeypatch
):
    trained, fit = [], explore.train.fit
    monkeypatch.setattr(
        explore.train, "fit", lambda *args, **kw: trained.append(1) or fit(*args, **kw)
    )
    explore.tasks(gene, coloured, tuple(range(10)), [3, 4], **few(shots=(1, 2)))
    task, shots, picture = shown[0][0].children
    first = picture.value
    task.value = 4
    assert "task 4, 2 images of each class" in picture.value
    shots.value = 1
    assert "task 4, 1 images of each class" in picture.value
    task.value, shots.value = 3, 2
    assert picture.value == first
    assert len(trained) == 4  # (3, 2), (4, 2), (4, 1), (3, 1); the last view was known


def test_each_descendant_trains_in_its_own_way(gene, coloured, shown, no_browser, monkeypatch):
    rates, fit = [], explore.train.fit

    def noted(model, images, normalize, config):
        rates.append(config.lr)
        return fit(model, images, normalize, config)

    monkeypatch.setattr(explore.train, "fit", noted)
    ways = {"a": replace(FIT, lr=0.1), "b": replace(FIT, lr=0.2)}
    genes = {"a": gene, "b": gene}
    explore.tasks(genes, coloured, tuple(range(10)), [0], **few(fit=ways))
    assert rates == [0.1, 0.2]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seeds": []}, "No seed"),
        ({"shots": ()}, "No number of shots"),
        ({"fit": {"other": FIT}}, "says nothing about 'learngene'"),
        ({"ways": 11}, "11-way"),
        ({"shots": (99,)}, "99 shots"),
        ({"shape": {"widths": (5, 6, 8)}}, "fits no layer"),
    ],
)
def test_a_task_that_cannot_be_is_refused(gene, coloured, no_browser, options, words):
    options = few(**options)
    with pytest.raises(UserError, match=words):
        explore.tasks(gene, coloured, tuple(range(10)), options.pop("seeds", [0]), **options)


def test_the_legend_of_a_forest_covers_no_interval():
    made = {f: {f"row {i}": Interval(i / 9, -0.5, 0.9, 20) for i in range(3)} for f in ("a", "b")}
    figure = figures.forest(made, "difference (percentage points)")
    figure.canvas.draw()
    assert not figure.axes[0].get_window_extent().overlaps(figure.legends[0].get_window_extent())
    plt.close(figure)


def test_figures_are_opaque_so_that_they_can_be_read_on_a_dark_page():
    plt.rcParams.update({"figure.facecolor": "none", "savefig.facecolor": "none"})
    figures.style()
    figure, _ = plt.subplots()
    with io.BytesIO() as file:
        figure.savefig(file, format="png")
        file.seek(0)
        assert (plt.imread(file)[..., 3] == 1).all()
    plt.close(figure)
