"""Facts about the learngene: how its layers are chosen, kept and written down."""

import json
import math
import os
from dataclasses import asdict

import numpy as np
import pytest
import torch

from lgutils import blocks, files, learngene, train
from lgutils.condense import Scores
from lgutils.errors import UserError
from lgutils.learngene import Learngene, agreement, choose, condense_to, extract

NAMES = ("a", "b", "c", "d")


def scores(*runs, layers=NAMES):
    return Scores("lambda", layers, np.array(runs, dtype=float))


@pytest.fixture(scope="module")
def gene(tiny_cnn):
    return extract(tiny_cnn, ("features.7", "features.11"))


# --- choosing -------------------------------------------------------------------------------------

RANKED = scores([0.1, 0.4, 0.3, 0.2])  # best first: b, c, d, a


@pytest.mark.parametrize(
    ("budget", "chosen"), [(1, "b"), (2, "bc"), (3, "bcd"), (4, "abcd"), (np.int64(2), "bc")]
)
def test_a_number_of_layers_takes_the_best_in_network_order(budget, chosen):
    assert choose(RANKED, [1, 1, 1, 1], budget) == tuple(chosen)


def test_network_order_is_not_the_order_of_scores():
    assert choose(scores([0.1, 0.2, 0.9, 0.8]), [1] * 4, 3) == ("b", "c", "d")


def test_the_mean_over_seeds_decides():
    assert choose(scores([1, 0, 0, 0], [0, 3, 0, 0]), [1] * 4, 1) == ("b",)


def test_the_earlier_of_two_equal_layers_is_taken():
    assert choose(scores([0.5, 0.5, 0.5, 0.5]), [1] * 4, 2) == ("a", "b")


@pytest.mark.parametrize(
    ("share", "chosen"),
    [
        (1.0, "abcd"),
        (0.5, "bd"),  # b takes 40 of 50, c (50) does not fit, d (10) does
        (0.49, "b"),  # 9 left: neither d (10) nor a (20) fits
        (0.15, "d"),  # b and c do not fit, a (20) neither
    ],
)
def test_a_share_is_filled_by_score_with_what_fits(share, chosen):
    sizes = [20, 40, 50, 10]
    extra = {"a": 20, "b": 40, "c": 50, "d": 10}
    share = share * 100 / sum(sizes) if share < 1 else share
    assert choose(RANKED, sizes, share) == tuple(chosen)
    assert sum(extra[name] for name in chosen) <= share * sum(sizes)


@pytest.mark.parametrize("budget", [0, 5, -1])
def test_a_wrong_number_of_layers_is_refused(budget):
    with pytest.raises(UserError, match=f"budget of {budget} layers was given; 1 to 4"):
        choose(RANKED, [1] * 4, budget)


@pytest.mark.parametrize("budget", [0.0, 1.5, -0.5, math.nan])
def test_a_wrong_share_is_refused(budget):
    with pytest.raises(UserError, match="a share lies between 0 and 1"):
        choose(RANKED, [1] * 4, budget)


def test_a_share_too_small_for_any_layer_names_the_smallest():
    with pytest.raises(UserError, match=r"No layer fits into 5.0%.*smallest takes 10.0%"):
        choose(RANKED, [20, 30, 40, 10], 0.05)


# --- agreement ------------------------------------------------------------------------------------


def test_kendalls_tau_by_hand():
    # Of six pairs of layers, one stands in another order: (5 - 1) / 6.
    assert agreement(scores([1, 2, 3, 4], [1, 2, 4, 3]), 2)["kendall tau"] == pytest.approx(2 / 3)


def test_kendalls_tau_is_averaged_over_pairs_of_seeds():
    # 2/3 as above; the third ranking is the reverse of the first: -1, and -2/3 with the second.
    found = agreement(scores([1, 2, 3, 4], [1, 2, 4, 3], [4, 3, 2, 1]), 2)
    assert found["kendall tau"] == pytest.approx(-1 / 3)


@pytest.mark.parametrize(("k", "overlap"), [(1, 0.0), (2, 1 / 3), (3, 0.5), (4, 1.0)])
def test_jaccard_by_hand(k, overlap):
    # Tops: d / b; dc / bd; dcb / bda; all.
    assert agreement(scores([1, 2, 3, 4], [2, 4, 1, 3]), k)["jaccard"] == pytest.approx(overlap)


def test_equal_seeds_agree_fully():
    assert agreement(scores([1, 2, 3, 4], [1, 2, 3, 4]), 2) == {"kendall tau": 1.0, "jaccard": 1.0}


def test_one_seed_cannot_agree_with_itself():
    assert all(math.isnan(value) for value in agreement(scores([1, 2, 3, 4]), 2).values())


@pytest.mark.parametrize("k", [0, 5])
def test_a_top_set_of_a_wrong_size_is_refused(k):
    with pytest.raises(UserError, match=f"{k} layers.*1 to 4"):
        agreement(scores([1, 2, 3, 4], [1, 2, 4, 3]), k)


# --- extracting -----------------------------------------------------------------------------------


def test_the_blocks_asked_for_are_kept_in_network_order(tiny_cnn):
    assert extract(tiny_cnn, ("features.11", "features.4")).names == ("features.4", "features.11")


def test_stem_and_position_travel_unless_told_otherwise(tiny_vit):
    kept = extract(tiny_vit, ("blocks.2",)).layers
    assert [layer.name for layer in kept] == ["stem", "position", "blocks.2"]


def test_nothing_travels_when_told_so(tiny_vit):
    kept = extract(tiny_vit, ("blocks.2",), travels=()).layers
    assert [layer.name for layer in kept] == ["blocks.2"]


def test_the_norm_travels_when_told_so(tiny_vit):
    kept = extract(tiny_vit, ("blocks.2",), travels=("norm",)).layers
    assert [layer.name for layer in kept] == ["blocks.2", "fc_norm"]


def test_depths_are_relative_to_the_ancestors_blocks(tiny_vit):
    gene = extract(tiny_vit, ("blocks.0", "blocks.2", "blocks.5"), travels=())
    assert gene.depths == (0.0, 0.4, 1.0)


def test_tensors_are_the_ancestors(tiny_cnn, gene):
    state = tiny_cnn.model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in gene.tensors.items())


def test_there_are_exactly_the_tensors_of_the_layers(gene):
    assert set(gene.tensors) == {name for layer in gene.layers for name in layer.tensors}


def test_batch_statistics_are_among_the_tensors(gene):
    assert "features.8.running_var" in gene.tensors


def test_parameters_are_counted_without_batch_statistics(tiny_cnn, gene):
    sizes = {name: p.numel() for name, p in tiny_cnn.model.named_parameters()}
    assert gene.num_params == sum(sizes.get(name, 0) for name in gene.tensors)


def test_editing_the_learngene_leaves_the_ancestor_alone(tiny_cnn):
    before = train.weight_hash(tiny_cnn.model)
    for tensor in extract(tiny_cnn, ("features.7",)).tensors.values():
        tensor.zero_()
    assert train.weight_hash(tiny_cnn.model) == before


def test_the_normalisation_travels(tiny_cnn, gene):
    assert gene.normalize == tiny_cnn.card.normalize


def test_an_unknown_layer_lists_the_nearest(tiny_cnn):
    with pytest.raises(UserError, match=r"Unknown layer 'features.77'. Nearest: 'features.7'"):
        extract(tiny_cnn, ("features.77",))


def test_the_head_cannot_be_extracted(tiny_cnn):
    with pytest.raises(UserError, match=r"'head.fc' is the head, which belongs to the old classes"):
        extract(tiny_cnn, ("features.7", "head.fc"))


@pytest.mark.parametrize("role", ["head", "block", "stm"])
def test_a_role_that_cannot_travel_is_refused(tiny_cnn, role):
    with pytest.raises(UserError, match=f"Role '{role}' cannot travel. Choose from 'stem'"):
        extract(tiny_cnn, ("features.7",), travels=(role,))


def test_condensing_chooses_and_extracts(tiny_cnn):
    names = [b.name for b in blocks.layers(tiny_cnn.model) if b.role == "block"]
    found = condense_to(tiny_cnn, scores([0.1, 0.4, 0.3, 0.2], layers=tuple(names)), 2)
    assert found.names == (names[1], names[2])


def test_the_scores_are_kept(tiny_cnn):
    names = tuple(b.name for b in blocks.layers(tiny_cnn.model) if b.role == "block")
    given = scores([0.1, 0.4, 0.3, 0.2], [0.3, 0.4, 0.3, 0.2], layers=names)
    kept = condense_to(tiny_cnn, given, 2).scores
    assert (kept["method"], kept["seeds"], kept["layers"]) == ("lambda", 2, list(names))
    assert kept["mean"] == pytest.approx([0.2, 0.4, 0.3, 0.2])


# --- its file -------------------------------------------------------------------------------------


@pytest.fixture
def saved(gene, tmp_path):
    return gene.save(tmp_path / "gene.safetensors")


def as_json(gene):
    plain = {k: v for k, v in vars(gene).items() if k not in ("tensors", "layers", "normalize")}
    parts = [plain, [asdict(layer) for layer in gene.layers], asdict(gene.normalize)]
    return json.dumps(parts, sort_keys=True)


def test_tensors_come_back_bit_for_bit(gene, saved):
    found = Learngene.load(saved).tensors
    assert {k: (t.dtype, t.tolist()) for k, t in found.items()} == {
        k: (t.dtype, t.tolist()) for k, t in gene.tensors.items()
    }


def test_everything_else_comes_back(gene, saved):
    assert as_json(Learngene.load(saved)) == as_json(gene)


def test_layers_come_back_equal(gene, saved):
    assert Learngene.load(saved).layers == gene.layers


def test_the_scores_come_back(tiny_cnn, tmp_path):
    names = tuple(b.name for b in blocks.layers(tiny_cnn.model) if b.role == "block")
    table = Scores("lambda", names, np.eye(4), np.ones((4, 2)), ("x", "y"))
    gene = extract(tiny_cnn, names[:1], scores=table)
    assert Learngene.load(gene.save(tmp_path / "x")).scores == gene.scores


def test_saving_again_gives_the_same_bytes(saved, tmp_path):
    assert Learngene.load(saved).save(tmp_path / "x").read_bytes() == saved.read_bytes()


def test_a_truncated_file_is_refused(saved):
    os.truncate(saved, saved.stat().st_size - 20)
    with pytest.raises(UserError, match="is damaged"):
        Learngene.load(saved)


def test_a_file_that_lacks_a_tensor_names_it_and_its_layer(saved):
    tensors, meta = files.load_tensors(saved)
    del tensors["features.8.bias"]
    meta = {k: v for k, v in meta.items() if k not in ("kind", "format", "sha256")}
    files.save_tensors(saved, "learngene", tensors, meta)
    with pytest.raises(UserError, match=r"lacks 'features.8.bias' of layer 'features.7'"):
        Learngene.load(saved)


def test_an_ancestor_file_is_no_learngene(tiny_cnn, tmp_path):
    with pytest.raises(UserError, match="'ancestor', but 'learngene' is expected"):
        Learngene.load(tiny_cnn.save(tmp_path / "x"))


# --- as text --------------------------------------------------------------------------------------


def test_the_text_names_every_layer(gene):
    assert all(layer.name in str(gene) for layer in gene.layers)


def test_the_text_tells_where_it_comes_from(gene):
    first = str(gene).splitlines()[0]
    assert first.startswith("learngene from learngene_vgg, which knows 5 classes: ")
    assert first.endswith(f" {gene.num_params:,} parameters")


def test_the_text_tells_the_scores(tiny_cnn):
    names = tuple(b.name for b in blocks.layers(tiny_cnn.model) if b.role == "block")
    text = str(condense_to(tiny_cnn, scores([0.1, 0.4, 0.3, 0.2], layers=names), 1))
    assert "score 0.400" in text
    assert text.endswith("chosen by lambda over 1 seed(s)")


def test_a_learngene_without_a_card_can_be_read_too(gene):
    bare = Learngene(gene.arch, {}, gene.layers, gene.depths, gene.tensors, gene.normalize)
    assert str(bare).startswith("learngene from learngene_vgg: ")


def test_roles_that_travel_by_default_are_stem_and_position():
    assert learngene.TRAVEL == ("stem", "position")
