"""Facts about ancestry models: those that ship, their cards, and how new ones are made."""

import importlib
import json
from dataclasses import asdict, fields, replace

import pytest
import torch

from lgutils import ancestry, data, files, reading, train
from lgutils.ancestry import Ancestor, AncestryCard, AncestryConfig, accumulate
from lgutils.data import Normalize
from lgutils.errors import UserError
from lgutils.train import FitConfig

SHIPPED = [f for f in ("cnn", "vit") if ancestry.shipped_path(f).is_file()]
LEAST = {"cnn": 0.90, "vit": 0.85}
KEYS = {"cnn": "8b2ed5438e5de73b", "vit": "439200b08c2ecdc8"}  # the shipped weights hang on them
TINY = AncestryConfig(
    "cnn",
    "learngene_vgg",
    {"stages": [1, 1], "widths": [4, 4]},
    fit=FitConfig(epochs=2, batch_size=64),
)


@pytest.fixture
def no_training(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("this must not train")

    monkeypatch.setattr(train, "fit", fail)


@pytest.fixture(scope="module", params=SHIPPED)
def shipped(request):
    return Ancestor.load(ancestry.shipped_path(request.param))


@pytest.fixture
def tiny_world(own_cache, little, monkeypatch):
    """Small random images instead of the glyphs, and an empty cache."""
    monkeypatch.setattr(data, "load", lambda *_, **__: little)
    return own_cache


# --- the ancestors that ship ----------------------------------------------------------------------


def test_the_cnn_ships():
    assert "cnn" in SHIPPED


@pytest.mark.parametrize("family", SHIPPED)
def test_a_shipped_ancestor_is_had_without_training(family, own_cache, no_training):
    ancestor = accumulate(AncestryConfig.preset(family))
    assert ancestor.card.family == family


@pytest.mark.parametrize("family", SHIPPED)
def test_a_shipped_ancestor_needs_no_cache(family, own_cache, no_training):
    accumulate(AncestryConfig.preset(family))
    assert not own_cache.exists()


def test_a_shipped_ancestor_reproduces_its_accuracy(shipped, quick_glyphs):
    held = quick_glyphs.of(data.split("glyphs").base, held_out=True)
    score = train.evaluate(shipped.model, *held, shipped.card.normalize)
    assert abs(score.accuracy - shipped.card.accuracy.accuracy) <= 1 / 500


def test_a_shipped_ancestor_was_measured_on_all_held_out_base_images(shipped):
    assert shipped.card.accuracy.n == 64 * 40


def test_a_shipped_ancestor_knows_its_classes_well(shipped):
    assert shipped.card.accuracy.accuracy >= LEAST[shipped.card.family]


def test_a_shipped_ancestor_knows_the_base_classes_only(shipped, quick_glyphs):
    base = data.split("glyphs").base
    assert shipped.card.classes == tuple(quick_glyphs.classes[c] for c in base)


def test_a_shipped_ancestor_was_normalised_by_its_training_images(shipped, quick_glyphs):
    images, _ = quick_glyphs.of(data.split("glyphs").base, held_out=False)
    assert data.Normalize.measured(images) == shipped.card.normalize


def test_a_shipped_ancestor_has_its_learning_curve(shipped):
    epochs = AncestryConfig.preset(shipped.card.family).fit.epochs
    assert [epoch for epoch, _ in shipped.curve] == list(range(1, epochs + 1))
    assert len(shipped.losses) == epochs


def test_a_shipped_ancestor_is_in_evaluation_mode(shipped):
    assert not any(m.training for m in shipped.model.modules())


def test_a_shipped_card_tells_no_path(shipped):
    assert "/" not in json.dumps(asdict(shipped.card)).replace("CPU threads", "")


def test_the_assets_take_less_than_8_mib():
    folder = ancestry.shipped_path("cnn").parent
    assert sum(path.stat().st_size for path in folder.iterdir()) < 8 * 2**20


# --- files ----------------------------------------------------------------------------------------


@pytest.fixture
def saved(tiny_cnn, tmp_path):
    return tiny_cnn.save(tmp_path / "a.safetensors")


def test_the_weights_come_back_bit_for_bit(tiny_cnn, saved):
    assert train.weight_hash(Ancestor.load(saved).model) == train.weight_hash(tiny_cnn.model)


def test_the_card_comes_back(tiny_cnn, saved):
    cards = (Ancestor.load(saved).card, tiny_cnn.card)
    found, wanted = (json.dumps(asdict(card), sort_keys=True) for card in cards)
    assert found == wanted


def test_a_card_is_the_same_after_json(shipped):
    stored = json.dumps(asdict(shipped.card))
    assert reading.parsed(stored, AncestryCard, "card") == shipped.card


def test_the_learning_curve_comes_back(tiny_cnn, saved):
    found = Ancestor.load(saved)
    assert (found.losses, found.curve) == (tiny_cnn.losses, tiny_cnn.curve)


def test_a_card_reads_well(tiny_cnn):
    text = str(tiny_cnn.card)
    assert "knows: 5 classes of glyphs: a b c d e" in text
    assert "20.0% [10.0%, 30.0%], n = 50" in text


def test_an_edited_weight_is_found(saved):
    tensors, meta = files.load_tensors(saved)
    tensors["features.0.weight"][0, 0, 0, 0] += 1e-3
    files.save_tensors(
        saved, "ancestor", tensors, {"card": meta["card"], "losses": [], "curve": []}
    )
    with pytest.raises(UserError, match="the weights are not those of its card"):
        Ancestor.load(saved)


def test_weights_of_another_architecture_are_refused(saved):
    tensors, meta = files.load_tensors(saved)
    card = meta["card"] | {"arch_kwargs": {"stages": [1, 1], "widths": [4, 6]}}
    files.save_tensors(saved, "ancestor", tensors, {"card": card, "losses": [], "curve": []})
    with pytest.raises(UserError, match="does not fit learngene_vgg"):
        Ancestor.load(saved)


def test_a_learngene_file_is_no_ancestor(tmp_path):
    path = files.save_tensors(tmp_path / "x", "learngene", {"w": torch.ones(1)}, {})
    with pytest.raises(UserError, match="'learngene', but 'ancestor' is expected"):
        Ancestor.load(path)


# --- configurations -------------------------------------------------------------------------------


@pytest.mark.parametrize("family", KEYS)
def test_the_key_of_a_quick_preset_never_changes(family):
    assert AncestryConfig.preset(family, "quick").key == KEYS[family]


OTHER = {
    "family": "vit",
    "arch": "learngene_vit",
    "arch_kwargs": {"stages": [1, 1], "widths": [4, 5]},
    "dataset": "digits",
    "size": "full",
    "split_seed": 1,
    "fit": FitConfig(epochs=3, batch_size=64),
    "seed": 1,
    "weights": "timm",
    "match": "order",
    "normalize": Normalize((0.5,) * 3, (0.5,) * 3),
}


@pytest.mark.parametrize("field", [f.name for f in fields(AncestryConfig)])
def test_the_key_changes_with_every_field(field):
    config = replace(TINY, weights="w.pth") if field in ("match", "normalize") else TINY
    assert replace(config, **{field: OTHER[field]}).key != config.key


OTHER_FIT = {
    "epochs": 3,
    "batch_size": 63,
    "optimizer": "sgd",
    "lr": 2e-3,
    "weight_decay": 0.1,
    "momentum": 0.8,
    "schedule": "constant",
    "warmup": 0.2,
    "label_smoothing": 0.1,
    "shift": 1,
    "flip": True,
    "clip": None,
    "precision": "bfloat16",
    "compile": True,
    "rotate": 15.0,
    "seed": 1,
}


@pytest.mark.parametrize("field", [f.name for f in fields(FitConfig) if f.name != "log_every"])
def test_the_key_changes_with_every_setting_of_the_training(field):
    fit = replace(TINY.fit, **{field: OTHER_FIT[field]})
    assert replace(TINY, fit=fit).key != TINY.key


def test_the_key_does_not_change_with_log_every():
    assert replace(TINY, fit=replace(TINY.fit, log_every=7)).key == TINY.key


@pytest.mark.parametrize("family", ["cnn", "vit"])
def test_the_scales_have_different_presets(family):
    quick, paper = (AncestryConfig.preset(family, scale) for scale in ("quick", "paper"))
    assert quick.key != paper.key


def test_the_seed_of_a_preset_is_the_seed_of_weights_and_training():
    config = AncestryConfig.preset("cnn", seed=5)
    assert (config.seed, config.fit.seed) == (5, 5)


def test_an_unknown_family_lists_the_nearest():
    with pytest.raises(UserError, match=r"Unknown family 'cnnn'. Nearest: 'cnn'"):
        AncestryConfig.preset("cnnn")


# --- accumulating ---------------------------------------------------------------------------------


def test_a_trained_ancestor_is_cached(tiny_world):
    accumulate(TINY, progress=False)
    assert [p.name for p in tiny_world.iterdir()] == [f"ancestor-cnn-{TINY.key}.safetensors"]


def test_a_stop_between_training_and_saving_costs_an_epoch_not_all(tiny_world, monkeypatch):
    unbroken = accumulate(TINY, fresh=True, progress=False)

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Ancestor, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            accumulate(TINY, fresh=True, progress=False)
    assert list(tiny_world.glob("*.ckpt"))
    epochs = []
    real = train.loop._epoch
    monkeypatch.setattr(
        train.loop, "_epoch", lambda *given: epochs.append(given[2]) or real(*given)
    )
    resumed = accumulate(TINY, fresh=True, progress=False)
    assert epochs == [2]
    assert train.weight_hash(resumed.model) == train.weight_hash(unbroken.model)


def test_the_second_call_loads(tiny_world, monkeypatch):
    first = accumulate(TINY, progress=False)
    monkeypatch.setattr(train, "fit", None)
    again = accumulate(TINY, progress=False)
    assert train.weight_hash(again.model) == train.weight_hash(first.model)


def test_fresh_trains_although_there_is_one(tiny_world, no_training):
    accumulated = files.cache_dir() / f"ancestor-cnn-{TINY.key}.safetensors"
    accumulated.parent.mkdir()
    accumulated.touch()
    with pytest.raises(AssertionError, match="must not train"):
        accumulate(TINY, fresh=True, progress=False)


def test_training_twice_gives_the_same_weights(tiny_world):
    hashes = {accumulate(TINY, fresh=True, progress=False).card.weight_hash for _ in range(2)}
    assert len(hashes) == 1


def test_another_configuration_is_not_taken_from_the_cache(tiny_world):
    one = accumulate(TINY, progress=False)
    other = accumulate(replace(TINY, seed=1), progress=False)
    assert one.card.weight_hash != other.card.weight_hash


def test_changed_pictures_of_an_own_folder_are_learned_anew(own_cache, little, monkeypatch):
    config = replace(TINY, dataset="folder:birds")
    monkeypatch.setattr(data, "split", lambda *_, **__: data.Split(base=tuple(range(5))))
    monkeypatch.setattr(data, "load", lambda *_, **__: little)
    first = accumulate(config, progress=False).card
    assert accumulate(config, progress=False).card == first
    other = replace(little, images=little.images.clamp(max=200))  # the same names and numbers
    monkeypatch.setattr(data, "load", lambda *_, **__: other)
    assert accumulate(config, progress=False).card.weight_hash != first.weight_hash


def test_an_ancestor_with_timms_weights_is_cached_for_the_other_nodes(
    own_cache, monkeypatch, tiny_cnn
):
    config = AncestryConfig.custom("learngene_vgg", weights="timm")
    adopted = replace(tiny_cnn, card=replace(tiny_cnn.card, config_key=config.key))
    asked = []
    module = importlib.import_module("lgutils.ancestry.pretrain")
    monkeypatch.setattr(module, "adopt", lambda c: asked.append(c) or adopted)
    for _ in range(2):
        assert accumulate(config, progress=False).card.weight_hash == adopted.card.weight_hash
    assert asked == [config]


def test_a_damaged_cached_ancestor_is_a_user_error(tiny_world):
    accumulate(TINY, progress=False)
    path = next(tiny_world.iterdir())
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match="is damaged"):
        accumulate(TINY, progress=False)


def test_the_card_of_a_trained_ancestor_tells_what_it_saw(tiny_world, little):
    card = accumulate(TINY, progress=False).card
    assert card.images_seen == 64 * 5 * TINY.fit.epochs
    assert card.classes == tuple(little.classes[c] for c in data.split("glyphs").base)
    assert (card.config_key, card.accuracy.n) == (TINY.key, 64)


def test_the_head_has_one_output_for_every_base_class(tiny_world):
    model = accumulate(TINY, progress=False).model
    assert model(torch.zeros(1, 3, 16, 16)).shape == (1, 64)


def test_a_dataset_without_base_classes_is_refused(own_cache):
    with pytest.raises(UserError, match="'digits' has no base classes"):
        accumulate(replace(TINY, dataset="digits"), progress=False)


def test_versions_name_what_decides_the_numbers():
    assert ancestry.versions().keys() == {"lgutils", "python", "torch", "timm"}
