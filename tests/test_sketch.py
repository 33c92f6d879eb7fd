"""Sketches as images of the glyphs' world, descendants that learn them, and the canvas without a browser."""

import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from lgutils import data, explore, figures, glyphs, inherit, learngene, sketch
from lgutils.errors import UserError
from lgutils.train import FitConfig

SHAPE = {"stages": (1, 1, 1)}
FIT = FitConfig(batch_size=8, lr=1e-2)
UPRIGHT, FLAT = [[(3, 0), (3, 10)]], [[(0, 3), (10, 3)]]


@pytest.fixture
def genes(tiny_cnn):
    gene = learngene.extract(tiny_cnn, ("features.4",))
    return {"learngene": gene, "scratch": inherit.scratch(tiny_cnn, gene)}


def taught(book, genes):
    return sketch.teach(book, genes, dict.fromkeys(genes, FIT), SHAPE)


# --- strokes as images ----------------------------------------------------------------------------


def test_a_sketch_is_centred_and_its_longer_side_is_a_glyphs():
    mask = sketch.mask([[(500, 0), (500, 80), (530, 80)]])
    rows, columns = np.nonzero(mask)
    assert rows.max() - rows.min() + 1 == pytest.approx(36, abs=1)
    assert rows.min() + rows.max() == pytest.approx(47, abs=1)
    assert columns.min() + columns.max() == pytest.approx(47, abs=1)


def test_the_unit_of_the_points_does_not_matter():
    small = [[(0.1 * x, 0.1 * y) for x, y in stroke] for stroke in [[(0, 0), (7, 9), (20, 4)]]]
    assert (sketch.mask(small) == sketch.mask([[(0, 0), (7, 9), (20, 4)]])).all()


def test_y_runs_downwards():
    mask = sketch.mask([[(0, 0), (10, 0)], [(5, 0), (5, 10)]])  # a T
    assert mask[:24].sum() > 1.5 * mask[24:].sum()


def test_a_stroke_is_as_thick_as_a_letters_stem():
    upright = sketch.mask(UPRIGHT)[20:28]
    stem = glyphs.glyph_mask("DejaVuSans", "T")[24:32]
    assert upright.mean() == pytest.approx(stem.mean(), rel=0.35)


def test_a_dot_is_a_sketch():
    assert sketch.mask([[(5, 5)]]).max() == 255


@pytest.mark.parametrize("nothing", [[], [[]]])
def test_a_sketch_without_a_point_is_refused(nothing):
    with pytest.raises(UserError, match="empty"):
        sketch.mask(nothing)


def test_images_are_of_the_glyphs_world():
    learned, _ = sketch.shipped()
    drawn, _ = sketch.images(learned)
    known = data.load("glyphs").images
    assert drawn.shape[1:] == known.shape[1:]
    assert drawn.dtype == known.dtype
    assert drawn.float().mean().item() == pytest.approx(known[:2000].float().mean().item(), rel=0.1)
    assert drawn.float().std().item() == pytest.approx(known[:2000].float().std().item(), rel=0.2)


def test_a_mask_of_a_letter_gives_an_image_of_the_dataset_s_kind():
    mask = glyphs.glyph_mask("DejaVuSans", "K")
    image = glyphs.around(mask, 3)
    assert image.shape == (3, 32, 32)
    assert (image == glyphs.around(mask, 3)).all()
    assert (image != glyphs.around(mask, 4)).any()


def test_labels_follow_the_books_order():
    drawn, labels = sketch.images({"b": [UPRIGHT, FLAT], "a": [FLAT]})
    assert labels.tolist() == [0, 0, 1]
    assert len(drawn) == 3


# --- the shipped book -----------------------------------------------------------------------------


def test_the_shipped_book_is_what_the_program_makes_up():
    learned, guessed = sketch.shipped()
    made = sketch.example()
    assert {name: [*learned[name], *guessed[name]] for name in made} == made


def test_four_sketches_of_each_of_five_characters_are_to_learn_from():
    learned, guessed = sketch.shipped()
    assert [len(sketches) for sketches in learned.values()] == [4] * 5
    assert all(guessed.values())


# --- learning and guessing ------------------------------------------------------------------------


def test_descendants_learn_to_tell_an_upright_line_from_a_flat_one(genes):
    book = {"up": [UPRIGHT] * 12, "flat": [FLAT] * 12}
    said = taught(book, genes).guess(sketch.images(book, seed=5)[0])
    assert list(said) == ["learngene", "scratch"]
    assert (said["scratch"] == [0] * 12 + [1] * 12).mean() > 0.7


def test_the_number_of_steps_is_that_of_the_course(genes, monkeypatch):
    epochs, fit = [], sketch.train.fit
    monkeypatch.setattr(
        sketch.train, "fit", lambda *a: epochs.append(a[3].epochs) or fit(*a[:3], FIT)
    )
    taught({"up": [UPRIGHT] * 8, "flat": [FLAT] * 8}, genes)
    assert epochs == [20, 20]  # of two batches each


@pytest.mark.parametrize(
    ("book", "words"),
    [
        ({"A": [UPRIGHT], "B": []}, "no sketch of B"),
        ({"A": [UPRIGHT]}, "One character alone"),
    ],
)
def test_a_book_that_cannot_be_learned_is_refused(genes, book, words):
    with pytest.raises(UserError, match=words):
        taught(book, genes)


# --- in a notebook --------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def nothing_stays_open():
    open_before = plt.get_fignums()
    with plt.rc_context():
        figures.style()
        yield
    assert plt.get_fignums() == open_before


@pytest.fixture
def pad(genes, monkeypatch, shown):
    """The canvas that `explore.draw` shows in a browser."""
    pytest.importorskip("ipycanvas")
    from lgutils import sketchpad

    made = []

    class Seen(sketchpad.Sketchpad):
        def __init__(self, *given):
            super().__init__(*given)
            made.append(self)

    monkeypatch.setattr(sketchpad, "Sketchpad", Seen)
    monkeypatch.setenv("LGUTILS_WIDGETS", "1")
    explore.draw(genes, shape=SHAPE, fit=FIT)
    assert shown[0][0] is made[0].view
    return made[0]


def stroke(pad, *points):
    pad.press(*points[0])
    for point in points[1:]:
        pad.move(*point)
    pad.release()


def test_without_a_browser_the_stored_sketches_are_guessed(genes, monkeypatch, shown):
    monkeypatch.setenv("LGUTILS_WIDGETS", "0")
    explore.draw(genes, shape=SHAPE, fit=FIT)
    ((_, alt),) = shown
    assert "made up by a program" in alt
    assert "learngene" in alt
    assert "of 30 right" in alt


def test_strokes_on_the_canvas_become_a_sketch(pad):
    stroke(pad, (1, 2), (3, 4), (5, 6))
    pad.move(90, 90)  # the button is up
    stroke(pad, (7, 8))
    assert pad.sketch == [[(1, 2), (3, 4), (5, 6)], [(7, 8)]]


def test_a_kept_sketch_is_in_the_book_and_the_canvas_is_empty(pad):
    pad.name.value = "C"
    stroke(pad, (1, 2), (3, 4))
    pad.buttons["keep"].click()
    assert pad.book["C"] == [[[(1, 2), (3, 4)]]]
    assert pad.sketch == []
    assert "C: 1" in pad.said.value


def test_clear_forgets_the_strokes(pad):
    stroke(pad, (1, 2), (3, 4))
    pad.buttons["clear"].click()
    assert pad.sketch == []


@pytest.mark.parametrize(
    ("button", "words"),
    [("keep", "empty"), ("learn", "no sketch of A"), ("guess", "Press learn first")],
)
def test_a_button_pressed_too_early_says_what_is_missing(pad, button, words):
    pad.buttons[button].click()
    assert words in pad.said.value


def test_learn_and_guess_tell_what_each_descendant_says(pad):
    learned, guessed = sketch.shipped()
    pad.book.update(zip("ABCDE", learned.values()))
    pad.buttons["learn"].click()
    assert "your sketches as images" in pad.picture.value
    pad.sketch = guessed["spiral"][0]
    pad.buttons["guess"].click()
    assert pad.said.value.startswith("learngene says ")
    assert "scratch says " in pad.said.value
    assert pad.sketch == []


def test_browser_events_reach_the_pad(pad):
    for event in ("mouse_down", "mouse_move", "mouse_up"):
        pad.canvas._handle_frontend_event(None, {"event": event, "x": 3, "y": 4}, None)
    touches = [{"x": 5, "y": 6}]
    for event in ("touch_start", "touch_move", "touch_end"):
        pad.canvas._handle_frontend_event(None, {"event": event, "touches": touches}, None)
    assert pad.sketch == [[(3, 4), (3, 4)], [(5, 6), (5, 6)]]


@pytest.mark.parametrize("lacking", ["ipycanvas", "a server that shows it"])
def test_without_a_canvas_the_stored_sketches_are_shown(genes, monkeypatch, shown, lacking):
    monkeypatch.setenv("LGUTILS_WIDGETS", "1")
    if lacking == "ipycanvas":
        monkeypatch.setattr(explore, "find_spec", lambda name: None)
    else:
        monkeypatch.setitem(sys.modules, "google.colab", object())
    explore.draw(genes, shape=SHAPE, fit=FIT)
    assert "made up by a program" in shown[0][1]


def test_a_figure_of_sketches_marks_what_was_missed():
    x, y = torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 0, 1, 1])
    answers = {"learngene": [0, 0, 1, 1], "scratch": [0, 1, 1, 1]}
    figure = figures.sketches((x, y), (x, y), answers, ["up", "flat"], "made up")
    said = [t.get_text() for t in figure.findobj(plt.Text) if t.get_text()[:2] in ("L:", "S:")]
    assert sorted(said) == sorted(
        ["L: A ✓"] * 2 + ["L: B ✓"] * 2 + ["S: A ✓", "S: B ✗"] + ["S: B ✓"] * 2
    )
    plt.close(figure)


def test_a_line_of_a_pair_joins_the_arms_of_one_task():
    arms = {"CNN": {"scratch": np.array([0.2, 0.4]), "learngene": np.array([0.9, 0.5])}}
    figure = figures.pairs(arms, chance=0.2)
    lines = [line.get_ydata().tolist() for line in figure.axes[0].get_lines()[:2]]
    assert lines == [pytest.approx([20, 90]), pytest.approx([40, 50])]
    plt.close(figure)
