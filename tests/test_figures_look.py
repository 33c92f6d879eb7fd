"""Figures on wide and narrow screens, what `show` stores of them, and pictures of networks and images."""

import base64
import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation
from PIL import Image

from lgutils import blocks, figures, inherit, learngene
from lgutils.blocks import Layer
from lgutils.figures.arms import colour
from lgutils.figures.look import NARROW, wrapped
from lgutils.figures.shown import markup
from lgutils.report import Claim, Interval


@pytest.fixture(autouse=True)
def nothing_stays_open():
    with plt.rc_context():
        figures.style()
        yield
    plt.close("all")


def gains(**means):
    return {name: Interval(m, m - 0.05, m + 0.05, 20) for name, m in means.items()}


def images(number=4):
    return torch.randint(0, 255, (number, 3, 8, 8), dtype=torch.uint8)


FAMILIES = {"CNN": gains(first=-0.02, scratch=0.2), "ViT": gains(first=0.01, scratch=0.5)}


def made(names):
    """Figures whose form for a phone is not the wide one in little."""
    steps, accuracies = np.array([1, 5, 20]), np.random.default_rng(0).random((6, 3))
    yield figures.curves({name: {"scratch": (steps, accuracies)} for name in names}, "Curves")
    yield figures.grid(
        {n: np.eye(2) for n in names}, [1, 2], [3, 4], xlabel="a", ylabel="b", title="T"
    )
    yield figures.forest({name: FAMILIES["CNN"] for name in names}, "learngene - rival (points)")
    yield figures.accuracies(gains(learngene=0.9, scratch=0.5), "Accuracies", chance=0.2)
    yield figures.components({name: {"task": 0.05} for name in names}, "Spread")
    yield figures.verdicts([Claim("a sentence " * 6, gains(x=0.1)["x"], family="cnn")], "Verdicts")
    yield figures.accuracy_matrices({name: np.ones((2, 3, 3)) for name in names}, "Matrices")
    yield figures.traces({name: np.ones((2, 5)) for name in names}, "iteration", "value", "Traces")
    yield figures.mosaic({name: images(12) for name in names})
    yield figures.heat({name: np.eye(3) for name in names}, ["a", "b", "c"], ["x", "y", "z"])


def test_a_phone_gets_panels_below_each_other_and_all_inside_its_width():
    for figure in made(["CNN", "ViT"]):
        slim = figure.narrow()
        slim.canvas.draw()
        box = slim.get_tightbbox()
        assert slim.get_figwidth() == NARROW
        assert min(box.x0, box.y0) > -0.03
        assert (box.max < slim.get_size_inches() + 0.03).all()
        plt.close(slim)


def test_panels_of_curves_stand_below_each_other_on_a_phone():
    figure = next(made(["CNN", "ViT"]))
    places = [axis.get_position() for axis in figure.narrow().axes]
    assert places[0].x0 == pytest.approx(places[1].x0, abs=0.02)
    assert places[0].y0 > places[1].y1


def test_letters_are_as_large_on_a_phone_as_beside_it():
    for figure in made(["CNN", "ViT"]):
        texts = [t for t in figure.narrow().findobj(plt.Text) if t.get_text() and t.get_visible()]
        assert min(text.get_fontsize() for text in texts) >= 8.5


@pytest.fixture
def published(monkeypatch):
    """What `show` hands to Jupyter."""
    found = []
    monkeypatch.setattr(
        "IPython.display.display", lambda data, **about: found.append((data, about))
    )
    return found


def test_show_stores_text_width_kind_and_the_form_for_phones(published):
    figures.show(figures.forest(FAMILIES, "difference"), "A forest.")
    data, about = published[0]
    known = about["metadata"]["image/png"]
    assert data["text/plain"] == "<Figure>"  # the same on every computer
    assert (known["alt"], known["kind"]) == ("A forest.", "plot")
    with Image.open(io.BytesIO(base64.b64decode(data["image/png"]))) as wide:
        assert wide.width == pytest.approx(1.5 * known["width"], abs=1)
    with Image.open(io.BytesIO(base64.b64decode(known["narrow"]))) as slim:
        assert slim.width < 150 * (NARROW + 0.2)  # with a little margin
    assert not plt.get_fignums()


def test_images_are_a_picture_and_heat_maps_a_plot(published):
    figures.show(figures.mosaic({"row": images(3)}), "Images.")
    figures.show(figures.heat({"t": np.eye(2)}, ["a", "b"], ["c", "d"]), "Heat.")
    assert [about["metadata"]["image/png"]["kind"] for _, about in published] == ["picture", "plot"]


def test_a_figure_drawn_by_hand_has_one_form(published):
    figures.show(plt.subplots()[0], "By hand.")
    assert "narrow" not in published[0][1]["metadata"]["image/png"]


def test_markup_chooses_by_width_and_escapes():
    text = markup("AAAA", "BBBB", 'a "b" <c>', 650)
    assert '<source media="(max-width: 600px)" srcset="data:image/png;base64,BBBB">' in text
    assert '<img alt="a &quot;b&quot; &lt;c&gt;" width="650"' in text
    assert "<source" not in markup("AAAA", None, "a", 650)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("learngene minus rival (percentage points)", ["learngene minus rival", "(percentage points)"]),
        ("one two three four five six seven eight nine", ["one two three four five", "six seven eight nine"]),
        ("mean over all tasks, 95 % interval", ["mean over all tasks,", "95 % interval"]),
        ("short", ["short"]),
    ],
)  # fmt: skip
def test_lines_are_of_about_one_length_and_never_one_left_over_word(text, lines):
    assert wrapped(text, 34 if len(text) > 40 else 24).splitlines() == lines


# --- forests --------------------------------------------------------------------------------------


def test_a_forest_is_sorted_by_the_mean_over_families_and_says_what_is_at_the_right():
    (axis,) = figures.forest(FAMILIES, "difference").axes
    names = [t.get_text() for t in axis.get_yticklabels()]
    assert names == ["scratch", "first"]
    assert axis.yaxis_inverted()  # the first row is at the top
    notes = [a.get_text() for a in axis.get_children() if isinstance(a, Annotation)]
    assert notes == ["learngene better →"]


def test_families_differ_by_marker_and_not_by_colour():
    (axis,) = figures.forest(FAMILIES, "difference").axes
    looks = {c.get_label(): c.lines[0] for c in axis.containers}
    assert len({line.get_marker() for line in looks.values()}) == 2
    assert len({to_hex(line.get_color()) for line in looks.values()}) == 1


def test_an_effect_that_is_good_when_small_is_turned_and_says_so():
    claims = [
        Claim("spread", Interval(-0.3, -0.4, -0.2, 20), larger=False),
        Claim("accuracy", Interval(0.1, 0.05, 0.15, 20)),
    ]
    (axis,) = figures.verdicts(claims, "Verdicts").axes
    said = [t.get_text() for t in axis.get_yticklabels()]
    assert said == ["spread (turned: less is better)", "accuracy"]
    drawn = [c.lines[0].get_xdata()[0] for c in axis.containers]
    assert drawn == pytest.approx([30, 10])


# --- networks and images --------------------------------------------------------------------------


def network(roles):
    """Layers of these roles, as `blocks.layers` gives them."""
    return [Layer(f"{role}{k}", role, (), 1, None) for k, role in enumerate(roles)]


ANCESTOR = network(["stem", "block", "block", "block", "head"])
HEIR = network(["stem", "block", "block", "head"])
ORIGINS = {"stem0": "stem0", "block1": "block3"}


def drawn(figure):
    """Texts of the boxes, the filled boxes' number, and the arrows."""
    (axis,) = figure.axes
    arrows = [a for a in axis.get_children() if isinstance(a, Annotation)]
    filled = [p for p in axis.patches if isinstance(p, Rectangle) and p.get_hatch()]
    return [t.get_text() for t in axis.texts if t not in arrows], filled, arrows


def test_an_inherited_block_keeps_its_number_and_has_an_arrow_from_the_ancestor():
    figure = figures.network({"ancestor": ANCESTOR, "heir": HEIR}, {}, {"heir": ORIGINS})
    texts, filled, arrows = drawn(figure)
    assert texts == ["ancestor", "stem", "1", "2", "3", "head", "heir", "stem", "3", "head"]
    assert len(filled) == 2
    assert {to_hex(box.get_facecolor()) for box in filled} == {colour("learngene")}
    places = sorted((a.xyann[0], a.xy[0]) for a in arrows)  # from, to
    assert np.floor(places).astype(int).tolist() == [[0, 0], [3, 1]]


def test_an_imitated_layer_has_a_dashed_arrow_and_nothing_is_inherited():
    imitated = {"block1": ["block1", "block2", "block3"]}
    figure = figures.network({"ancestor": ANCESTOR, "small": HEIR}, {}, {"small": imitated})
    texts, filled, arrows = drawn(figure)
    assert filled == []
    assert texts[-4:] == ["stem", "1", "2", "head"]
    assert {a.arrow_patch.get_linestyle() for a in arrows} == {"--"}
    assert len(arrows) == 3


def test_without_origins_the_marked_layers_are_filled_and_there_are_no_arrows():
    texts, filled, arrows = drawn(figures.network({"a": ANCESTOR}, {"a": ["block2"]}))
    assert (len(filled), arrows) == (1, [])
    assert texts == ["a", "stem", "1", "2", "3", "head"]


def test_origins_of_a_descendant_name_the_ancestors_layers(tiny_cnn):
    gene = learngene.extract(tiny_cnn, blocks.block_names(tiny_cnn.model)[:1])
    heir = inherit.inherit(gene, num_classes=3)
    assert set(heir.origins.values()) == {layer.name for layer in gene.layers}
    assert set(heir.origins) <= {layer.name for layer in blocks.layers(heir.model)}


def test_mistakes_tell_what_is_seen_and_what_it_was_taken_for():
    (axis,) = figures.mistakes(images(2), ["O", "l"], ["0", "1"]).axes
    assert [t.get_text() for t in axis.texts] == ["is O", "taken for 0", "is l", "taken for 1"]
    assert len(axis.images) == 2
