"""Facts about adopting: any timm model with weights can be an ancestor."""

import json
import sys
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from timm import create_model
from timm.layers import resample_abs_pos_embed

from lgutils import blocks, condense, inherit, learngene, models, train
from lgutils.ancestry import Ancestor, AncestryConfig, accumulate, adopt
from lgutils.ancestry.weights import Weights, in_order
from lgutils.condense import CondenseConfig
from lgutils.data import Normalize
from lgutils.errors import UserError

VIT = (
    "vit_tiny_patch16_224",
    {"depth": 3, "embed_dim": 24, "num_heads": 2, "img_size": 32, "patch_size": 8},
)
ZOO = {
    "convnext": ("convnext_atto", {"depths": [1, 1, 2, 1], "dims": [8, 16, 24, 32]}),
    "efficientnet": ("tinynet_e", {}),
    "vit": VIT,
    "hybrid": ("mobilevit_xxs", {}),
    "cnn and attention": (
        "coatnet_nano_rw_224",
        {"img_size": 64, "embed_dim": [32] * 4, "stem_width": 16, "depths": [1] * 4},
    ),
    "regnet": ("regnetx_002", {}),
}
VGG = ("vgg11", {"mlp_ratio": 1 / 512})  # filters of timm that take no model: VGG's and RegNet's
LEVIT = ("levit_128s", {"img_size": 64, "embed_dim": (16, 24, 32), "key_dim": 8})
MLP_HEAD = ("convformer_s18", {})
CONV_HEAD = ("dla46_c", {})
HEADS = {"norm, twice": LEVIT, "two layers": MLP_HEAD, "convolution": CONV_HEAD}


def weights(arch, kwargs, classes=7, seed=5):
    """Random weights, batch statistics too."""
    model = models.create(arch, classes, seed=seed, **kwargs)
    random = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            tensor.add_(torch.rand(tensor.shape, generator=random))
    return {name: t.clone() for name, t in model.state_dict().items()}


def stored(tensors, path, model=VIT):
    """The file, and the configuration that adopts it for glyphs of the size that the model wants."""
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    dataset = f"glyphs@{model[1].get('img_size', 64)}"
    return AncestryConfig("custom", *model, weights=str(path), dataset=dataset)


@pytest.fixture
def vit_file(tmp_path):
    return stored(weights(*VIT), tmp_path / "vit.safetensors")


@pytest.fixture
def module():
    return sys.modules["lgutils.ancestry.adopt"]  # the package has a function of this name


# --- what comes over --------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("kind", ZOO)
def test_the_weights_come_over_bit_for_bit(kind, suffix, tmp_path):
    arch, kwargs = ZOO[kind]
    tensors = weights(arch, kwargs)
    config = stored(tensors, tmp_path / f"w{suffix}", (arch, kwargs))
    found = adopt(config).model.state_dict()
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


def test_torchvisions_names_of_a_vgg_are_converted(tmp_path):
    tensors = weights(*VGG)
    theirs = {name.replace("head.fc", "classifier.6"): t for name, t in tensors.items()}
    found = adopt(stored(theirs, tmp_path / "w.pth", VGG)).model.state_dict()
    assert torch.equal(found["head.fc.weight"], tensors["head.fc.weight"])
    assert torch.equal(found["features.0.weight"], tensors["features.0.weight"])


@pytest.mark.parametrize("kind", HEADS)
def test_a_head_of_any_form_is_kept(kind, tmp_path):
    tensors = weights(*HEADS[kind], classes=5)
    ancestor = adopt(stored(tensors, tmp_path / "w.pth", HEADS[kind]))
    assert (ancestor.card.fresh_head, len(ancestor.card.classes)) == (False, 5)
    assert all(torch.equal(t, tensors[name]) for name, t in ancestor.model.state_dict().items())


def test_half_a_head_is_refused(tmp_path):
    tensors = weights(*VIT)
    del tensors["head.weight"]
    with pytest.raises(
        UserError, match=r"w.pth has 'head.bias' of a head, but not .*'head.weight'"
    ):
        adopt(stored(tensors, tmp_path / "w.pth"))


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "state_dict_ema"])
def test_a_wrapped_checkpoint_is_unwrapped(wrapper, tmp_path):
    tensors = weights(*VIT)
    parallel = {f"module.{name}": t for name, t in tensors.items()}
    config = stored({wrapper: parallel, "epoch": 3}, tmp_path / "w.pt")
    assert torch.equal(adopt(config).model.norm.weight, tensors["norm.weight"])
    assert torch.equal(adopt(config).model.head.weight, tensors["head.weight"])


def test_the_head_of_the_file_is_kept_with_its_own_classes(vit_file):
    ancestor = adopt(vit_file)
    assert ancestor.card.classes == tuple("0123456")
    assert not ancestor.card.fresh_head
    assert ancestor.model(torch.zeros(1, 3, 32, 32)).shape == (1, 7)


def test_a_file_without_a_head_gets_a_fresh_one_for_the_base_classes(tmp_path):
    tensors = {k: t for k, t in weights(*VIT).items() if not k.startswith("head.")}
    ancestor = adopt(stored(tensors, tmp_path / "w.bin"))
    assert len(ancestor.card.classes) == 64
    assert ancestor.card.fresh_head
    assert "fresh head, random: 64 outputs" in str(ancestor.card)
    assert torch.equal(ancestor.model.norm.weight, tensors["norm.weight"])


def test_a_fresh_head_needs_base_classes(tmp_path):
    tensors = {k: t for k, t in weights(*VIT).items() if not k.startswith("head.")}
    config = replace(stored(tensors, tmp_path / "w.pth"), dataset="digits")
    with pytest.raises(UserError, match=r"w.pth has no head, and 'digits' has no base classes"):
        adopt(config)


def test_positions_of_another_size_are_resampled_as_timm_does(vit_file):
    larger = replace(vit_file, arch_kwargs={**VIT[1], "img_size": 64}, dataset="glyphs@64")
    found = adopt(larger).model.pos_embed
    wanted = resample_abs_pos_embed(
        weights(*VIT)["pos_embed"], new_size=[8, 8], num_prefix_tokens=1
    )
    assert torch.equal(found, wanted)
    assert adopt(larger).model(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


def test_the_models_own_normalisation_is_used(vit_file):
    told = models.create(*VIT[:1], 2, **VIT[1]).pretrained_cfg
    normalize = adopt(vit_file).card.normalize
    assert (normalize.mean, normalize.std) == (tuple(told["mean"]), tuple(told["std"]))


# --- the card, the file, and accumulate -------------------------------------------------------------


def test_the_card_says_that_nothing_was_measured(vit_file):
    card = adopt(vit_file).card
    assert (card.accuracy, card.images_seen, card.origin) == (None, 0, "vit.safetensors")
    assert "held-out accuracy: not measured here" in str(card)
    assert "adopted from: vit.safetensors" in str(card)


def test_an_adopted_ancestor_is_saved_and_loaded(vit_file, tmp_path):
    ancestor = adopt(vit_file)
    again = Ancestor.load(ancestor.save(tmp_path / "a.safetensors"))
    assert train.weight_hash(again.model) == ancestor.card.weight_hash
    cards = (json.dumps(asdict(a.card), sort_keys=True) for a in (again, ancestor))
    assert len(set(cards)) == 1


def test_no_folder_stands_in_the_card(vit_file, tmp_path):
    assert str(tmp_path) not in json.dumps(asdict(adopt(vit_file).card))


def test_accumulate_adopts_and_caches_nothing(vit_file, own_cache):
    assert accumulate(vit_file).card == adopt(vit_file).card
    assert not own_cache.exists()


def test_one_mean_for_three_channels_is_refused(vit_file):
    with pytest.raises(
        UserError, match=r"those that were given\) are 1 and 1 numbers, but .* 3 channels"
    ):
        adopt(replace(vit_file, normalize=Normalize((0.5,), (0.5,))))


@pytest.mark.parametrize(
    "field", [{"match": "order"}, {"normalize": Normalize((0.5,) * 3, (0.5,) * 3)}]
)
def test_what_belongs_to_weights_is_refused_without(field):
    with pytest.raises(UserError, match="belong to weights that exist"):
        AncestryConfig.custom("vgg11", **field)


def test_an_unknown_way_to_match_is_refused(vit_file):
    with pytest.raises(UserError, match=r"Unknown way to match 'ordr'. Nearest: 'order'"):
        replace(vit_file, match="ordr")


def test_the_weights_are_in_the_key(vit_file):
    keys = {replace(vit_file, weights=w).key for w in ("", "timm", "x.pth")}
    assert len(keys) == 3


def test_the_classes_it_is_condensed_on_are_the_datasets(vit_file, monkeypatch, little):
    monkeypatch.setattr("lgutils.data.load", lambda *_, **__: little)
    images, labels = adopt(vit_file).open_world()
    assert (len(images), int(labels.max())) == (16 * 5, 15)


# --- twins -----------------------------------------------------------------------------------------


# The twins that timm 1.0.31 has, except efficientnet_el_pruned and the like, whose layers are the same.
TWINS = {
    "tf_efficientnet_lite0": {"efficientnet_lite0": "layers and mean or deviation"},
    "efficientnet_b0": {"efficientnet_blur_b0": "layers", "tf_efficientnet_b0": "layers"},
    "resnet50d": {"resnetaa50d": "layers", "resnetblur50d": "layers"},
    "mobilenetv4_conv_large": {"mobilenetv4_conv_aa_large": "layers"},
    "nest_tiny_jx": {"nest_tiny": "layers"},
    "vit_tiny_patch16_224": {"deit_tiny_patch16_224": "mean or deviation"},
    "vit_base_patch32_clip_224": {"vit_base_patch32_clip_quickgelu_224": "layers"},
    "convnext_atto": {},
}


@pytest.mark.parametrize("arch", TWINS)
def test_twins_are_those_whose_tensors_are_the_same(arch, module):
    with torch.device("meta"):
        probe = models.create(arch, 2)
    told = " ".join(module._twins(AncestryConfig.custom(arch), probe, Weights({})))
    wanted = [f"the weights fit {n} too, which differs in {how}:" for n, how in TWINS[arch].items()]
    assert told.count("the weights fit") == len(wanted)
    assert all(text in told for text in wanted)


# --- by order --------------------------------------------------------------------------------------


def paired(given, wanted, ordered=True):
    """`in_order` of tensors that are told by their shapes; the head is called head."""
    given, wanted = ({n: torch.empty(shape) for n, shape in t.items()} for t in (given, wanted))
    return in_order(Weights(given, ordered), wanted, lambda name: name.startswith("head."))


NORM = dict.fromkeys(("n.weight", "n.bias", "n.running_mean", "n.running_var"), (4,))
COUNTED = {**NORM, "n.num_batches_tracked": (), "head.weight": (2, 4), "head.bias": (2,)}


def test_other_names_in_the_same_order_are_paired():
    theirs = {"0.gamma": (4,), "0.beta": (4,), "0.moving_mean": (4,), "0.moving_variance": (4,)}
    found = paired({**theirs, "fc.kernel": (9, 4), "fc.bias": (9,)}, COUNTED)
    assert found == dict(
        zip([*theirs, "fc.kernel", "fc.bias"], [*NORM, "head.weight", "head.bias"])
    )


def test_the_head_may_be_absent():
    found = paired({name.replace("n.", "x."): shape for name, shape in NORM.items()}, COUNTED)
    assert list(found.values()) == list(NORM)


@pytest.mark.parametrize("tails", [("bias", "weight"), ("weight", "gain")])
def test_other_kinds_in_the_same_shapes_are_not_paired(tails):
    wanted = {f"n.{i}.{tail}": (4,) for i in range(2) for tail in ("weight", "bias")}
    theirs = {f"x.{i}.{tail}": (4,) for i in range(2) for tail in tails}
    with pytest.raises(
        UserError, match=r"'x.0.\w+' \(4,\) stands where 'n.0.\w+' \(4,\) is expected"
    ):
        paired(theirs, wanted)


def test_one_of_each_kind_needs_no_order():
    found = paired({name.replace("n.", "x."): (4,) for name in reversed(NORM)}, NORM)
    assert found == {name.replace("n.", "x."): name for name in NORM}


@pytest.mark.parametrize("shape", [(4, 2), (5, 1)])
def test_other_shapes_are_not_paired(shape):
    with pytest.raises(
        UserError, match=r"'y.weight' .* stands where 'x.weight' \(4, 1\) is expected"
    ):
        paired({"y.weight": shape}, {"x.weight": (4, 1)})


def test_fewer_tensors_are_not_paired():
    with pytest.raises(UserError, match="1 tensors stand where 2 are expected"):
        paired({"a.weight": (4,)}, {"x.weight": (4,), "y.weight": (4,)})


def test_a_sorted_file_is_not_paired_by_order():
    blocks = {f"{i}.weight": (4, 4) for i in ("1", "10", "2")}
    wanted = {f"blocks.{i}.weight": (4, 4) for i in ("1", "2", "10")}
    with pytest.raises(UserError, match="a safetensors file sorts its tensors by name"):
        paired(blocks, wanted, ordered=False)


def test_a_sorted_file_may_call_its_head_otherwise():
    theirs = {"fc.bias": (9,), "fc.weight": (9, 4), **NORM}
    wanted = {**NORM, "head.weight": (2, 4), "head.bias": (2,)}
    found = paired(theirs, wanted, ordered=False)
    assert found == {name: name.replace("fc", "head") for name in theirs}


# --- the whole way ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ZOO)
def test_any_model_is_condensed_extracted_and_inherited(kind, tmp_path):
    arch, kwargs = ZOO[kind]
    ancestor = adopt(stored(weights(arch, kwargs), tmp_path / "w.pth", (arch, kwargs)))
    pixels = kwargs.get("img_size", 64)
    world = (
        torch.randint(0, 256, (12, 3, pixels, pixels), dtype=torch.uint8),
        torch.arange(12) % 4,
    )
    small = replace(CondenseConfig.preset("custom"), iterations=1, batch_size=2, inner_steps=1)
    scores = condense.score("lambda", ancestor, world, small, progress=False, device_name="cpu")
    assert scores.layers == tuple(blocks.block_names(ancestor.model))
    gene = learngene.condense_to(ancestor, scores, 2)
    heir = inherit.inherit(gene, num_classes=4, seed=1)
    assert heir.model.eval()(torch.zeros(1, 3, pixels, pixels)).shape == (1, 4)
    old, new = ancestor.model.state_dict(), heir.model.state_dict()
    for layer in gene.layers:
        assert all(torch.equal(new[name], old[name]) for name in layer.tensors)


# --- what is refused ----------------------------------------------------------------------------------


def test_images_that_the_model_does_not_take_are_refused(vit_file):
    with pytest.raises(UserError, match=r"does not take images of 3x64x64 \(Input height"):
        adopt(replace(vit_file, dataset="glyphs@64"))


def test_a_number_of_classes_among_the_arguments_is_refused(vit_file):
    config = replace(vit_file, arch_kwargs={**VIT[1], "num_classes": 7})
    with pytest.raises(UserError, match="num_classes is set by the task; leave it out"):
        adopt(config)


def test_a_missing_tensor_is_named(tmp_path):
    tensors = weights(*VIT)
    del tensors["blocks.1.mlp.fc1.weight"], tensors["norm.bias"]
    with pytest.raises(UserError, match=r"w.pth does not fit .*lacks 'blocks.1.mlp.fc1.weight'"):
        adopt(stored(tensors, tmp_path / "w.pth"))


def test_a_foreign_tensor_is_named(tmp_path):
    tensors = {**weights(*VIT), "blocks.3.norm1.weight": torch.ones(24)}
    with pytest.raises(UserError, match=r"'blocks.3.norm1.weight' is foreign"):
        adopt(stored(tensors, tmp_path / "w.pth"))


def test_another_width_is_named(vit_file):
    with pytest.raises(UserError, match=r"'cls_token' is \(1, 1, 24\), expected is \(1, 1, 32\)"):
        adopt(replace(vit_file, arch_kwargs={**VIT[1], "embed_dim": 32}))


def test_weights_of_another_family_are_refused(vit_file):
    with pytest.raises(UserError, match=r"does not fit 'resnet18': it lacks 'conv1.weight'"):
        adopt(replace(vit_file, arch="resnet18", arch_kwargs={}))


class Trap:
    """Would write a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_nothing_is_unpickled(tmp_path):
    torch.save({"state_dict": Trap(tmp_path / "sprung")}, tmp_path / "w.pth")
    with pytest.raises(
        UserError, match=r"w.pth holds no weights that can be read without unpickling"
    ):
        adopt(AncestryConfig("custom", *VIT, weights=str(tmp_path / "w.pth")))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_a_damaged_file_is_refused(name, tmp_path):
    (tmp_path / name).write_bytes(b"not weights at all")
    with pytest.raises(UserError, match=f"{name} holds no weights"):
        adopt(AncestryConfig("custom", *VIT, weights=str(tmp_path / name)))


def test_what_is_no_state_dict_is_refused(tmp_path):
    with pytest.raises(UserError, match="'epoch' is not a tensor"):
        adopt(stored({"epoch": 3, "teacher": {}}, tmp_path / "w.pth"))


ODD = {
    "sparse": (lambda t: t.to_sparse(), "'head.weight' is not a tensor of numbers"),
    "on no device": (lambda t: t.to("meta"), "'head.weight' is not a tensor of numbers"),
    "a number": (lambda t: torch.tensor(1.0), r"a head 'head.weight' of \(\), so without outputs"),
    "no rows": (lambda t: t[:0], r"a head 'head.weight' of \(0, 24\), so without outputs"),
    "yes and no": (lambda t: t > 0, r"'head.weight' holds torch.bool, expected is torch.float32"),
    "whole": (lambda t: t.long(), r"'head.weight' holds torch.int64, expected is torch.float32"),
    "complex": (lambda t: t + 0j, r"'head.weight' has the type torch.complex64, which no model"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, about sparse tensors
@pytest.mark.parametrize("kind", ODD)
def test_odd_tensors_are_refused(kind, tmp_path):
    change, told = ODD[kind]
    tensors = weights(*VIT)
    tensors["head.weight"] = change(tensors["head.weight"])
    with pytest.raises(UserError, match=told):
        adopt(stored(tensors, tmp_path / "w.pth"))


def test_a_packed_archive_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", bytes(10**6))
    with pytest.raises(UserError, match="a packed archive, which torch does not write"):
        adopt(AncestryConfig("custom", *VIT, weights=str(tmp_path / "w.pth")))


@pytest.mark.parametrize("name", ["timmm", "nowhere.pth", "weights.onnx"])
def test_weights_that_are_not_there_are_refused(name):
    with pytest.raises(UserError, match=f"Weights '{name}' are neither 'timm' nor a file"):
        adopt(AncestryConfig("custom", *VIT, weights=name))


# --- timm's own weights -------------------------------------------------------------------------------


def test_timms_weights_are_taken(monkeypatch, module):
    made = []

    def give(arch, pretrained=False, **kwargs):
        made.append((arch, pretrained))
        return models.create(arch, 7, seed=5, **kwargs)

    monkeypatch.setattr(module, "create_model", give)
    ancestor = adopt(AncestryConfig("custom", *VIT, weights="timm"))
    assert made == [(VIT[0], True)]
    wanted = models.create(VIT[0], 7, seed=5, **VIT[1])
    assert train.weight_hash(ancestor.model) == train.weight_hash(wanted)
    assert ancestor.card.origin == "vit_tiny_patch16_224 of timm"


def test_dinos_weights_have_no_head(monkeypatch, module):
    monkeypatch.setattr(module, "create_model", lambda a, **k: create_model(a, num_classes=0))
    arch, dataset = "vit_small_patch16_224.dino", "glyphs@224"
    config = AncestryConfig("vit-s", arch, weights="timm", dataset=dataset)
    with torch.device("cpu"):
        ancestor = adopt(config)
    assert (ancestor.card.fresh_head, len(ancestor.card.classes)) == (True, 64)


def test_no_network_is_a_user_error(monkeypatch, module):
    def give(*_, **__):
        raise OSError("we could not connect\nto the hub")

    monkeypatch.setattr(module, "create_model", give)
    with pytest.raises(
        UserError, match=r"could not get the weights .*connect to the hub\). Check the network"
    ):
        adopt(AncestryConfig("custom", *VIT, weights="timm"))


@pytest.mark.parametrize("arch", ["learngene_vgg", "resnet18.nonsense"])
def test_an_architecture_without_weights_is_refused(arch):
    with pytest.raises(UserError, match=f"timm has no weights for '{arch}'"):
        adopt(AncestryConfig("custom", arch, weights="timm"))


def test_a_custom_ancestor_must_be_named():
    with pytest.raises(UserError, match=r"'custom' names no architecture.*AncestryConfig.custom"):
        AncestryConfig.preset("custom")


def test_the_published_vit_is_dinos():
    config = AncestryConfig.preset("vit-s", "paper")
    assert (config.arch, config.weights) == ("vit_small_patch16_224.dino", "timm")


def test_weights_may_be_named_by_a_path():
    named = AncestryConfig.custom("vgg11", weights=Path("a/b.pth"))
    assert named == AncestryConfig.custom("vgg11", weights="a/b.pth")
