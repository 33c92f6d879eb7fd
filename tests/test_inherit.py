"""Facts about descendants: what they carry, from where, and what stays fresh."""

from dataclasses import replace
from itertools import combinations, product
from math import inf

import numpy as np
import pytest
import torch

from lgutils import blocks, inherit, models, train
from lgutils.blocks import Layer
from lgutils.data import Normalize
from lgutils.errors import UserError
from lgutils.inherit import METHODS, assign, descend
from lgutils.learngene import Learngene, extract

SWIN = {"img_size": 32, "patch_size": 2, "window_size": 4, "embed_dim": 24}
SWIN |= {"num_heads": (1, 2, 4, 8)}
# timm name -> the ancestor's depth, the option that sets it, other options, the learngene's blocks,
# and the depths of descendants, from shallower to deeper.
FAMILIES = {
    "learngene_vgg": (
        (1, 2, 3),
        "stages",
        {"widths": (4, 6, 8)},
        ("features.4", "features.11"),
        [(1, 1, 1), (1, 2, 3), (2, 3, 5)],
    ),
    "learngene_vit": (
        4,
        "depth",
        {"embed_dim": 12, "num_heads": 2},
        ("blocks.1", "blocks.2"),
        [2, 4, 6],
    ),
    "swin_tiny_patch4_window7_224": (
        (1, 1, 2, 1),
        "depths",
        SWIN,
        ("layers.1.blocks.0", "layers.2.downsample", "layers.2.blocks.1"),
        [(1, 1, 1, 1), (1, 1, 2, 1), (2, 2, 4, 2)],
    ),
    "resnet18": (
        (1, 2, 2, 2),
        "layers",
        {"channels": (4, 6, 8, 10)},
        ("layer2.1", "layer3.0"),
        [(1, 2, 1, 1), (1, 2, 2, 2), (2, 3, 4, 3)],
    ),
}
CASES = [(arch, depth) for arch, family in FAMILIES.items() for depth in family[-1]]


@pytest.fixture(scope="module")
def families(make_ancestor):
    """For each family: (ancestor, learngene, the option that sets the depth)."""
    made = {}
    for arch, (depth, option, others, names, _) in FAMILIES.items():
        ancestor = make_ancestor(arch, **{option: depth}, **others)
        made[arch] = (ancestor, extract(ancestor, names), option)
    return made


@pytest.fixture(
    scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[1]}".replace(" ", "")
)
def case(request, families):
    """(ancestor, learngene, descendant of 7 classes, the options it was made with); not to edit."""
    arch, depth = request.param
    ancestor, gene, option = families[arch]
    options = {option: depth}
    return ancestor, gene, inherit.inherit(gene, num_classes=7, seed=5, **options), options


def moved(gene, descendant):
    """(tensor of the descendant, tensor of the learngene) for every inherited tensor."""
    every = {layer.name: layer for layer in gene.layers}
    state, pairs, place = descendant.model.state_dict(), [], {}
    for origin in descendant.provenance:
        if origin.source:
            i = place[origin.layer] = place.get(origin.layer, -1) + 1
            pairs.append((state[origin.tensor], gene.tensors[every[origin.source].tensors[i]]))
    return pairs


# --- inheriting -----------------------------------------------------------------------------------


def test_inherited_tensors_equal_the_learngenes_bit_for_bit(case):
    _, gene, descendant, _ = case
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in moved(gene, descendant))


def test_every_tensor_of_the_learngene_arrives(case):
    _, gene, descendant, _ = case
    assert len(moved(gene, descendant)) == len(gene.tensors)


def test_inherited_tensors_equal_the_ancestors_bit_for_bit(case):
    ancestor, _, descendant, _ = case
    state = ancestor.model.state_dict()
    every = {layer.name: layer for layer in blocks.layers(ancestor.model)}
    new = descendant.model.state_dict()
    for layer in blocks.layers(descendant.model):
        sources = {o.source for o in descendant.provenance if o.layer == layer.name}
        assert len(sources) == 1
        if source := sources.pop():
            pairs = zip(layer.tensors, every[source].tensors, strict=True)
            assert all(torch.equal(new[a], state[b]) for a, b in pairs)


def test_the_layers_keep_their_order(case):
    _, gene, descendant, _ = case
    order = [o.source for o in descendant.provenance if o.source]
    assert list(dict.fromkeys(order)) == [layer.name for layer in gene.layers]


def test_fresh_layers_equal_those_of_scratch_with_the_same_seed(case):
    ancestor, gene, descendant, options = case
    scratch = descend("scratch", ancestor, gene, num_classes=7, seed=5, **options)
    ours, theirs = descendant.model.state_dict(), scratch.model.state_dict()
    fresh = [o.tensor for o in descendant.provenance if o.source is None]
    assert fresh
    assert all(torch.equal(ours[name], theirs[name]) for name in fresh)


def test_scratch_is_the_new_model_itself(case):
    ancestor, gene, _, options = case
    scratch = descend("scratch", ancestor, gene, num_classes=7, seed=5, **options)
    plain = models.create(ancestor.card.arch, 7, seed=5, **{**ancestor.card.arch_kwargs, **options})
    assert train.weight_hash(scratch.model) == train.weight_hash(plain)


def test_another_seed_changes_fresh_layers_only(case):
    _, gene, descendant, options = case
    other = inherit.inherit(gene, num_classes=7, seed=6, **options).model.state_dict()
    state = descendant.model.state_dict()
    inherited = {o.tensor for o in descendant.provenance if o.source}
    same = {name for name in state if torch.equal(state[name], other[name])}
    assert inherited <= same
    assert "weight" in " ".join(set(state) - same)


def test_no_storage_is_shared(case):
    ancestor, gene, descendant, _ = case
    given = [*ancestor.model.state_dict().values(), *gene.tensors.values()]
    given = {t.untyped_storage().data_ptr() for t in given}
    ours = {t.untyped_storage().data_ptr() for t in descendant.model.state_dict().values()}
    assert not given & ours


def test_ancestor_and_learngene_are_not_touched(families):
    for ancestor, gene, option in families.values():
        before = train.weight_hash(ancestor.model), learngene_hash(gene)
        model = inherit.inherit(gene, num_classes=7, **{option: FAMILIES[gene.arch][0]}).model
        for tensor in model.state_dict().values():
            tensor.zero_()
        assert (train.weight_hash(ancestor.model), learngene_hash(gene)) == before


def learngene_hash(gene):
    return sum(float(t.double().abs().sum()) for t in gene.tensors.values())


def test_the_descendant_maps_images_to_its_classes(case):
    assert case[2].model.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


def test_provenance_covers_every_tensor_exactly_once(case):
    descendant = case[2]
    names = [origin.tensor for origin in descendant.provenance]
    assert sorted(names) == sorted(descendant.model.state_dict())


def test_provenance_counts_entries(case):
    descendant = case[2]
    total = sum(t.numel() for t in descendant.model.state_dict().values())
    assert sum(origin.numel for origin in descendant.provenance) == total


def test_the_inherited_share_is_counted_over_all_entries(case):
    _, gene, descendant, _ = case
    total = sum(t.numel() for t in descendant.model.state_dict().values())
    inherited = sum(t.numel() for t in gene.tensors.values())
    assert descendant.inherited_share == pytest.approx(inherited / total)


def test_the_report_names_every_layer(case):
    descendant = case[2]
    text = descendant.report()
    assert all(layer.name in text for layer in blocks.layers(descendant.model))


def test_the_normalisation_is_inherited(case):
    assert case[2].normalize == case[0].card.normalize


@pytest.mark.parametrize("arch", ["learngene_vgg", "resnet18"])
def test_batch_statistics_travel(families, arch):
    _, gene, option = families[arch]
    descendant = inherit.inherit(gene, num_classes=7, **{option: FAMILIES[arch][0]})
    statistics = [o for o in descendant.provenance if o.source and o.tensor.endswith("running_var")]
    state = descendant.model.state_dict()
    assert statistics
    assert not any(torch.equal(state[o.tensor], torch.ones(o.numel)) for o in statistics)


def test_the_same_depth_puts_layers_where_they_were(families):
    for _, gene, _ in families.values():
        descendant = inherit.inherit(gene, num_classes=7)
        assert all(o.layer == o.source for o in descendant.provenance if o.source)


def test_the_global_generator_is_left_alone(families):
    before = torch.get_rng_state()
    inherit.inherit(families["learngene_vit"][1], num_classes=7)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_learngene_can_grow_in_another_architecture(make_ancestor):
    small = {"embed_dim": 12, "num_heads": 2, "img_size": 32}
    ancestor = make_ancestor("vit_tiny_patch16_224", depth=3, patch_size=8, **small)
    gene = extract(ancestor, ("blocks.1",), travels=())
    found = inherit.inherit(gene, "deit_tiny_patch16_224", num_classes=7, depth=2, **small)
    assert {o.source for o in found.provenance} == {None, "blocks.1"}


def test_an_inherited_model_can_be_trained(families):
    _, gene, option = families["learngene_vgg"]
    descendant = inherit.inherit(gene, num_classes=2, **{option: (1, 1, 1)})
    data = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8), torch.tensor([0, 1, 0, 1])
    fitted = train.fit(descendant.model, data, descendant.normalize, train.FitConfig(epochs=1))
    assert np.isfinite(fitted.losses).all()


# --- what does not fit ----------------------------------------------------------------------------


def test_a_layer_that_fits_nowhere_is_named_with_both_shapes(families):
    gene = extract(families["learngene_vit"][0], ("blocks.1",), travels=())
    shapes = r"blocks.1.norm1.weight \(12,\) against blocks.\d.norm1.weight \(24,\)"
    with pytest.raises(UserError, match=f"Layer 'blocks.1' of the learngene fits no.*{shapes}"):
        inherit.inherit(gene, num_classes=7, embed_dim=24)


def test_a_stem_that_does_not_fit_is_named_with_both_shapes(families):
    stem = extract(families["learngene_vgg"][0], ())
    with pytest.raises(UserError, match=r"Layer 'stem'.* \(4, 3, 3, 3\) against .* \(5, 3, 3, 3\)"):
        inherit.inherit(stem, num_classes=7, widths=(5, 6, 8))


def test_a_missing_role_is_named(families):
    gene = extract(families["learngene_vit"][0], (), travels=("position",))
    with pytest.raises(UserError, match="no position to take 'position'"):
        inherit.inherit(gene, "learngene_vgg", num_classes=7)


def test_more_layers_than_slots_are_refused(families):
    gene = families["learngene_vit"][1]
    with pytest.raises(
        UserError, match=r"2 layers \(blocks.1, blocks.2\) do not fit in order into"
    ):
        inherit.inherit(gene, num_classes=7, depth=1)


def test_an_unknown_architecture_lists_the_nearest(families):
    gene = families["learngene_vit"][1]
    with pytest.raises(UserError, match=r"Unknown architecture 'learngen_vit'.*'learngene_vit'"):
        inherit.inherit(gene, "learngen_vit", num_classes=7)


def test_a_misspelt_option_is_refused(families):
    with pytest.raises(UserError, match="depht"):
        inherit.inherit(families["learngene_vit"][1], num_classes=7, depht=3)


def test_an_unknown_method_lists_the_nearest(vit):
    with pytest.raises(UserError, match=r"Unknown method 'shufled'. Nearest: 'shuffled'"):
        descend("shufled", vit, None, num_classes=7)


# --- assigning ------------------------------------------------------------------------------------


def made_up(random, layers, slots, shapes=2):
    """A learngene and slots, each with one tensor of a random shape."""

    def units(prefix, n):
        names = [f"{prefix}{i}" for i in range(n)]
        state = {f"{name}.w": torch.zeros(2 + random.integers(shapes)) for name in names}
        return tuple(Layer(name, "block", (f"{name}.w",), 1, None) for name in names), state

    blocks, tensors = units("b", layers)
    depths = tuple(np.sort(random.random(layers)).tolist())
    gene = Learngene("arch", {}, blocks, depths, tensors, Normalize((0.0,), (1.0,)))
    return gene, *units("s", slots)


def cost(gene, slots, chosen):
    """Sum of squared moves; infinite if a layer does not fit."""
    gene, state = gene
    total = 0.0
    for layer, depth, j in zip(gene.layers, gene.depths, chosen, strict=True):
        if gene.tensors[f"{layer.name}.w"].shape != state[f"{slots[j].name}.w"].shape:
            return inf
        total += (depth - j / max(len(slots) - 1, 1)) ** 2
    return total


SMALL = [(n, m, s, seed) for n, m, s, seed in product((1, 2, 3), (1, 3, 5, 6), (1, 2), range(4))]


@pytest.mark.parametrize(("layers", "count", "shapes", "seed"), SMALL)
def test_the_assignment_is_the_best_of_all(layers, count, shapes, seed):
    gene, slots, state = made_up(np.random.default_rng(seed), layers, count, shapes)
    every = combinations(range(count), layers)
    best = min((cost((gene, state), slots, chosen) for chosen in every), default=inf)
    if best == inf:
        with pytest.raises(UserError, match="fit"):
            assign(gene, slots, state)
    else:
        found = assign(gene, slots, state)
        places = {slot.name: j for j, slot in enumerate(slots)}
        chosen = [places[slot] for slot, _ in sorted(found.items(), key=lambda x: x[1].name)]
        assert cost((gene, state), slots, chosen) == pytest.approx(best)


@pytest.mark.parametrize("seed", range(5))
def test_the_assignment_keeps_the_order(seed):
    gene, slots, state = made_up(np.random.default_rng(seed), 3, 7, shapes=1)
    found = assign(gene, slots, state)
    assert [found[s.name].name for s in slots if s.name in found] == ["b0", "b1", "b2"]


def test_two_moderate_moves_are_better_than_a_long_one():
    # Slots 0.1 apart. b0 fits slots 2 and 5, b1 fits 4 and 10; they come from 0.5 and 0.6.
    # (2, 4) moves 0.3 and 0.2: squares 0.13. (5, 10) moves 0 and 0.4: squares 0.16.
    gene, slots, state = made_up(np.random.default_rng(0), 2, 11, shapes=1)
    gene = replace(gene, depths=(0.5, 0.6), tensors={"b0.w": torch.ones(3), "b1.w": torch.ones(4)})
    state |= {f"s{j}.w": torch.zeros(n) for j, n in {2: 3, 5: 3, 4: 4, 10: 4}.items()}
    found = {slot: layer.name for slot, layer in assign(gene, slots, state).items()}
    assert found == {"s2": "b0", "s4": "b1"}


def test_as_many_slots_as_layers_take_one_each():
    gene, slots, state = made_up(np.random.default_rng(0), 4, 4, shapes=1)
    assert list(assign(gene, slots, state)) == ["s3", "s2", "s1", "s0"]


def test_no_layers_take_no_slots():
    gene, slots, state = made_up(np.random.default_rng(0), 0, 4)
    assert assign(gene, slots, state) == {}


def test_layers_without_any_slot_are_refused():
    gene, _, _ = made_up(np.random.default_rng(0), 2, 0)
    with pytest.raises(UserError, match="do not fit in order"):
        assign(gene, (), {})


# --- the methods ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vit(families):
    """A random ViT with four blocks."""
    return families["learngene_vit"][0]


@pytest.fixture(scope="module")
def vit_gene(families):
    return families["learngene_vit"][1]


INHERITED = {
    "learngene": {"stem", "position", "blocks.1", "blocks.2"},
    "scratch": set(),
    "full fine-tune": {"stem", "position", "fc_norm", *(f"blocks.{i}" for i in range(4))},
    "first layers": {"stem", "position", "blocks.0", "blocks.1"},
    "last layers": {"stem", "position", "blocks.2", "blocks.3"},
    "stem only": {"stem", "position"},
    "shuffled": {"stem", "position", "blocks.1", "blocks.2"},
}


def sources(descendant):
    return {o.source for o in descendant.provenance} - {None}


def test_the_methods_are_those_known():
    assert set(METHODS) == {*INHERITED, "random layers"}


@pytest.mark.parametrize("depth", [3, 5])
@pytest.mark.parametrize("method", INHERITED)
def test_a_method_inherits_what_its_name_says(vit, vit_gene, method, depth):
    descendant = descend(method, vit, vit_gene, num_classes=7, depth=depth)
    assert sources(descendant) == INHERITED[method]


@pytest.mark.parametrize("seed", range(3))
def test_random_layers_are_as_many_as_the_learngenes(vit, vit_gene, seed):
    found = sources(descend("random layers", vit, vit_gene, num_classes=7, seed=seed))
    assert found >= {"stem", "position"}
    assert len(found - {"stem", "position"}) == 2


def test_random_layers_follow_the_seed(vit, vit_gene):
    drawn = [inherit.random_layers(vit, vit_gene, seed).names for seed in (0, 0, 1, 2, 3)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1


@pytest.mark.parametrize("method", METHODS)
def test_a_method_may_start_from_a_learngene_without_blocks(vit, method):
    bare = extract(vit, ())
    found = sources(descend(method, vit, bare, num_classes=7))
    wanted = {"scratch": set(), "full fine-tune": INHERITED["full fine-tune"]}
    assert found == wanted.get(method, {"stem", "position"})


@pytest.mark.parametrize("method", ["first layers", "last layers", "random layers", "stem only"])
def test_a_baseline_travels_as_the_learngene_does(vit, method):
    alone = extract(vit, ("blocks.2",), travels=())
    found = sources(descend(method, vit, alone, num_classes=7))
    assert not found & {"stem", "position"}


@pytest.mark.parametrize("method", ["learngene", "scratch", "random layers", "shuffled"])
def test_a_method_is_a_function_of_its_seed(vit, vit_gene, method):
    one, same = (descend(method, vit, vit_gene, num_classes=7, seed=4) for _ in range(2))
    assert train.weight_hash(one.model) == train.weight_hash(same.model)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_leaves_the_ancestor_and_the_learngene_alone(vit, vit_gene, method):
    before = train.weight_hash(vit.model), learngene_hash(vit_gene)
    descend(method, vit, vit_gene, num_classes=7)
    assert (train.weight_hash(vit.model), learngene_hash(vit_gene)) == before


def test_shuffling_keeps_the_values_of_every_tensor(tiny_cnn):
    gene = extract(tiny_cnn, ("features.4", "features.11"))
    mixed = inherit.shuffled(tiny_cnn, gene)
    for name, tensor in gene.tensors.items():
        found = mixed.tensors[name]
        assert torch.equal(found.flatten().sort().values, tensor.flatten().sort().values)
        assert found.shape == tensor.shape


def test_shuffling_moves_the_weights_of_blocks(tiny_cnn):
    gene = extract(tiny_cnn, ("features.4", "features.11"))
    mixed = inherit.shuffled(tiny_cnn, gene)
    for name in ("features.4.weight", "features.11.weight"):
        assert (mixed.tensors[name] != gene.tensors[name]).float().mean() > 0.8


def test_shuffling_leaves_the_stem_whole(tiny_cnn):
    gene = extract(tiny_cnn, ("features.4",))
    mixed = inherit.shuffled(tiny_cnn, gene)
    stem = gene.layers[0]
    assert stem.role == "stem"
    assert all(torch.equal(mixed.tensors[name], gene.tensors[name]) for name in stem.tensors)


def test_shuffling_follows_the_seed(tiny_cnn):
    gene = extract(tiny_cnn, ("features.4",))
    one, other = (inherit.shuffled(tiny_cnn, gene, s).tensors["features.4.weight"] for s in (0, 1))
    assert not torch.equal(one, other)


def test_a_full_fine_tune_differs_from_the_ancestor_in_the_head_only(vit, vit_gene):
    model = descend("full fine-tune", vit, vit_gene, num_classes=5, seed=9).model
    new, old = model.state_dict(), vit.model.state_dict()
    assert {name for name in old if not torch.equal(new[name], old[name])} == {
        "head.weight",
        "head.bias",
    }


def test_a_full_fine_tune_keeps_the_ancestors_architecture(vit, vit_gene):
    model = descend("full fine-tune", vit, vit_gene, num_classes=7, depth=3).model
    assert len(model.blocks) == 4


def test_a_full_fine_tune_with_the_ancestors_head_answers_like_it(vit, vit_gene):
    model = descend("full fine-tune", vit, vit_gene, num_classes=5).model.eval()
    model.head.load_state_dict(vit.model.head.state_dict())
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model(x), vit.model(x))


def test_the_shipped_ancestor_gives_descendants(shipped_cnn):
    gene = extract(shipped_cnn, ("features.7", "features.14"))
    descendant = descend("learngene", shipped_cnn, gene, num_classes=5, stages=(1, 2, 2, 1))
    assert sources(descendant) == {"stem", "features.7", "features.14"}
