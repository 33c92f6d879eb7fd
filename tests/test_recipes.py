"""Facts about the table of recipes, against the figures of the released code of arXiv 2305.02279."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from lgutils import (
    ancestry,
    blocks,
    condense,
    data,
    inherit,
    learngene,
    models,
    recipe_table,
    recipes,
    train,
)
from lgutils.ancestry import AncestryConfig
from lgutils.condense import CondenseConfig
from lgutils.data import Task, sources
from lgutils.errors import UserError
from lgutils.fleet import Job, jobs

PUBLISHED = ("vgg16", "resnet18", "swin-s", "vit-s", "vit-s-first")
TINY_SWIN = {"img_size": 64, "window_size": 2, "embed_dim": 12, "num_heads": [1, 2, 4, 8]}
TINY_VIT = {"img_size": 32, "embed_dim": 24, "num_heads": 2}
NARROW = {  # what makes a recipe's models small: pixels; kwargs of ancestor, pseudo, descendant
    "vgg16": (32, *[{"widths": [4, 8, 16, 32, 32], "hidden": [16, 16]}] * 3),
    "resnet18": (32, {}, {}, {}),
    "swin-s": (64, *[TINY_SWIN] * 3),
    "vit-s": (32, *[TINY_VIT] * 3),
    "vit-s-first": (32, *[TINY_VIT] * 3),
}
KEYS = {  # stored results hang on them: ancestors with seeds 0 and 3, condensing clean and paper
    ("cnn", "quick"): "8b2ed5438e5de73b 2be8f4112d558c28 03d1610cdb711c7c 90b862dcf823861b",
    ("vit", "quick"): "439200b08c2ecdc8 e48ca7d5bcc9f83e bbf41d473f909f8e 810aa4ce9ce16638",
    ("cnn", "paper"): "c14178cbef8d1a3c a7fbc1f057eeb2b7 d3b8ff0f42b98904 077e796c603cadfa",
    ("vit", "paper"): "b8240f51f9ed1117 d180848f80eb0bd3 e22802d2ef1271d3 25da51a9a6beecde",
}


def paper(name):
    return recipes.find(name, "paper")


def narrow(name, make_ancestor):
    """The recipe's ancestor in little, its layers as a learngene, and the descendant's arguments."""
    recipe, (_, wide, _, small) = paper(name), NARROW[name]
    ancestor = make_ancestor(recipe.ancestor.arch, **{**recipe.ancestor.kwargs, **wide})
    gene = learngene.extract(ancestor, recipe.layers, travels=recipe.travels)
    return ancestor, gene, {**recipe.descendant.kwargs, **small}


# --- sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "role", "millions"),
    [
        ("vgg16", "ancestor", 33.87),
        ("vgg16", "learngene", 5.68),
        ("vgg16", "descendant", 10.81),
        ("resnet18", "ancestor", 11.21),
        ("resnet18", "pseudo", 8.01),
        ("resnet18", "descendant", 8.00),
        ("resnet18", "learngene", 4.79),
        ("vit-s", "pseudo", 11.03),
    ],
)
def test_a_model_has_as_many_parameters_as_the_released_one(name, role, millions):
    assert round(recipe_table.counts(paper(name))[role] / 1e6, 2) == millions
    assert paper(name).published[role] == millions


def test_the_small_vgg_has_a_64_to_64_convolution_less_than_the_released_count():
    found = recipe_table.counts(paper("vgg16"))["pseudo"]
    assert round((found + 64 * 64 * 9 + 64 + 2 * 64) / 1e6, 2) == 9.27
    assert paper("vgg16").published["pseudo"] == 9.27


def test_the_released_vit_is_counted_without_a_head():
    found = recipe_table.counts(paper("vit-s"))["ancestor"]
    assert (
        round((found - (384 * 64 + 64)) / 1e6, 2) == 21.67 == paper("vit-s").published["ancestor"]
    )


@pytest.mark.parametrize(("name", "share"), [("vgg16", 0.53), ("resnet18", 0.60)])
def test_the_share_inherited_is_the_released_one(name, share):
    assert round(recipe_table.counts(paper(name))["share"], 2) == share


def test_swin_inherits_eight_blocks_of_swin_t():
    with torch.device("meta"):
        model = models.create("swin_tiny_patch4_window7_224", 5)
    third, fourth = model.layers[2].blocks, model.layers[3].blocks
    wanted = sum(p.numel() for part in (third, fourth) for p in part.parameters())
    assert recipe_table.counts(paper("swin-s"))["learngene"] == wanted


def test_a_recipe_that_chooses_by_score_has_no_learngene_to_count():
    assert recipe_table.counts(paper("vit")).keys() == {"ancestor", "pseudo", "descendant"}


def test_the_table_says_why_a_count_differs():
    shown = recipe_table.markdown()
    assert "| 9.23 (9.27) |" in shown
    assert "- `vgg16`, pseudo: 9.23 M: the configuration" in shown


def test_the_page_of_recipes_shows_the_table():
    table, _ = recipe_table.markdown().split("\n\n")
    assert table in (Path(__file__).parents[1] / "docs" / "recipes.md").read_text(encoding="utf-8")


def test_there_is_nothing_to_count_without_an_ancestor():
    with pytest.raises(UserError, match="'custom' names no ancestor"):
        recipe_table.counts(recipes.find("custom", "quick"))


# --- where the layers go ----------------------------------------------------------------------------

PLACES = {  # descendant's layer <- ancestor's, as the released code slices them
    "vgg16": {
        "stem": "stem",  # features[0:3]
        "features.4": "features.7",  # [7:10]
        "features.8": "features.14",  # [14:20]
        "features.11": "features.17",
        "features.22": "features.37",  # [37:44]
        "features.25": "features.40",
    },
    "resnet18": {"stages.0.body": "layer1.1", "stages.3.body": "layer4.1"},
    "swin-s": {f"layers.2.blocks.{i}": f"layers.2.blocks.{12 + i}" for i in range(6)}
    | {f"layers.3.blocks.{i}": f"layers.3.blocks.{i}" for i in (0, 1)},
    "vit-s": {"stem": "stem", "position": "position"}
    | {f"blocks.{i}": f"blocks.{j}" for i, j in enumerate((0, 1, 8, 9, 10, 11))},
    "vit-s-first": {"stem": "stem", "position": "position"}
    | {f"blocks.{i}": f"blocks.{i}" for i in range(6)},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_layer_goes_where_the_released_code_puts_it(name, make_ancestor):
    ancestor, gene, kwargs = narrow(name, make_ancestor)
    heir = inherit.inherit(gene, paper(name).descendant.arch, num_classes=5, **kwargs)
    assert {o.layer: o.source for o in heir.provenance if o.source} == PLACES[name]
    new, old = heir.model.state_dict(), ancestor.model.state_dict()
    there = {x.name: x.tensors for x in blocks.layers(ancestor.model)}
    here = {x.name: x.tensors for x in blocks.layers(heir.model)}
    for slot, source in PLACES[name].items():
        for a, b in zip(here[slot], there[source], strict=True):
            assert torch.equal(new[a], old[b]), (a, b)


def test_the_second_and_third_convolution_of_a_resnet12_stage_are_those_of_a_basic_block(
    make_ancestor,
):
    ancestor, gene, kwargs = narrow("resnet18", make_ancestor)
    heir = inherit.inherit(gene, "learngene_resnet12", num_classes=5, **kwargs).model
    for stage, block in (
        (heir.stages[0], ancestor.model.layer1[1]),
        (heir.stages[3], ancestor.model.layer4[1]),
    ):
        body = stage.body
        assert torch.equal(body.conv1.conv.weight, block.conv1.weight)
        assert torch.equal(body.conv1.bn.running_var, block.bn1.running_var)
        assert torch.equal(body.conv2.conv.weight, block.conv2.weight)
        assert torch.equal(body.conv2.bn.bias, block.bn2.bias)


@pytest.mark.parametrize("method", ["random layers", "first layers", "last layers"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_controls_find_layers_that_fit_the_descendant(name, method, make_ancestor):
    ancestor, gene, kwargs = narrow(name, make_ancestor)
    arch = paper(name).descendant.arch
    heir = inherit.descend(method, ancestor, gene, arch, num_classes=5, seed=2, **kwargs)
    assert heir.inherited_share > 0


# --- condensing -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "pairs"),
    [("vgg16", 25), ("resnet18", 20), ("swin-s", 24), ("vit-s", 18), ("vit-s-first", 18)],
)
def test_one_meta_iteration_runs_at_the_recipes_taps(name, pairs, make_ancestor):
    recipe, (pixels, wide, small, _) = paper(name), NARROW[name]
    ancestor = make_ancestor(recipe.ancestor.arch, **{**recipe.ancestor.kwargs, **wide})
    config = CondenseConfig.preset(name, "rehearsal", "paper")
    config = replace(
        config, iterations=1, batch_size=2, shift=2, arch_kwargs={**config.arch_kwargs, **small}
    )
    images = torch.randint(0, 256, (12, 3, pixels, pixels), dtype=torch.uint8)
    world = (images, torch.arange(12) % 4)
    found = condense.condense(ancestor, world, config, progress=False, device_name="cpu")
    assert (found.layers, found.slots) == (config.taps, config.slots)
    assert found.matrix().isfinite().sum() == len(found.pairs) == pairs


@pytest.mark.parametrize(
    ("name", "pixels", "ancestor", "pseudo"),
    [
        (
            "vgg16",
            32,
            [(64, 32), (128, 16), (256, 8), (512, 4), (512, 2)],
            [(64, 32), (128, 16), (256, 8), (512, 4), (512, 2)],
        ),
        (
            "resnet18",
            224,
            [(64, 112), (64, 56), (128, 28), (256, 14), (512, 7)],
            [(64, 112), (128, 56), (256, 28), (512, 14)],
        ),
        ("vit-s", 224, [(384, 14)] * 6, [(384, 14)] * 3),
    ],
)
def test_the_taps_have_the_released_codes_shapes(name, pixels, ancestor, pseudo):
    recipe = paper(name)
    with torch.device("meta"):
        images = torch.zeros(1, 3, pixels, pixels)
        for shape, names, wanted in (
            (recipe.ancestor, recipe.condensing["taps"], ancestor),
            (recipe.pseudo, recipe.condensing["slots"], pseudo),
        ):
            model = models.create(shape.arch, 16, **shape.kwargs)
            with blocks.tapped(model, names) as outputs:
                model(images)
            maps = [blocks.as_maps(outputs[n], model).shape[1:] for n in names]
            assert maps == [(c, side, side) for c, side in wanted]


def test_the_vit_taps_are_what_enters_the_odd_blocks():
    entered = {}
    model = models.create("vit_small_patch16_224", 5, depth=6, **TINY_VIT).eval()
    for i in (1, 3, 5):
        model.blocks[i].register_forward_pre_hook(lambda m, x, i=i: entered.update({i: x[0]}))
    with blocks.tapped(model, paper("vit-s").condensing["slots"]) as outputs:
        model(torch.rand(1, 3, 32, 32))
    assert all(torch.equal(outputs[f"blocks.{i - 1}"], entered[i]) for i in (1, 3, 5))


@pytest.mark.parametrize(
    ("name", "steps", "gamma", "distance", "adapter"),
    [
        ("vgg16", 5, 1.0, "l2", "conv"),
        ("resnet18", 5, 1.0, "l2", "conv"),
        ("vit-s", 2, 0.1, "l1", "identity"),
    ],
)
def test_the_bilevel_schedule_is_the_released_one(name, steps, gamma, distance, adapter):
    config = CondenseConfig.preset(name, "paper", "paper")
    assert (config.inner_steps, config.gamma) == (steps, gamma)
    assert (config.distance, config.adapter, config.batch_size) == (distance, adapter, 64)
    assert (config.lr, config.momentum, config.weight_decay) == (0.1, 0.9, 1e-4)
    assert (config.meta_lr, config.meta_weight_decay) == (1e-4, 1e-4)


def test_taps_and_augmentation_change_the_key():
    config, keys = CondenseConfig(), set()
    for change in (
        {},
        {"taps": ("a",)},
        {"slots": ("a",)},
        {"shift": 1},
        {"flip": True},
        {"rotate": 9.0},
    ):
        keys.add(replace(config, **change).key)
    assert len(keys) == 6


def test_only_the_lasting_steps_batches_are_augmented(tiny_cnn):
    world = (torch.randint(0, 256, (12, 3, 16, 16), dtype=torch.uint8), torch.arange(12) % 3)
    kwargs = {"stages": [1, 1, 1], "widths": [4, 4, 4]}
    plain = CondenseConfig(arch_kwargs=kwargs, batch_size=4)
    runs = [
        condense.Condenser(tiny_cnn, world, world, config, torch.device("cpu"))
        for config in (plain, replace(plain, flip=True, shift=2, rotate=15.0))
    ]
    assert torch.equal(*(run._batch(run.meta, 3)[0] for run in runs))
    one, other = (run._batch(run.training, 3, augment=True) for run in runs)
    assert torch.equal(one[1], other[1])
    assert not torch.equal(one[0], other[0])


def test_a_condenser_refuses_images_that_the_ancestor_does_not_take(tiny_vit):
    world = (torch.zeros(12, 3, 16, 16, dtype=torch.uint8), torch.arange(12) % 3)
    with pytest.raises(UserError, match="does not take images of 3x16x16"):
        condense.Condenser(tiny_vit, world, world, CondenseConfig(), torch.device("cpu"))


def test_a_condenser_refuses_images_that_the_pseudo_descendant_does_not_take(tiny_cnn):
    world = (torch.zeros(12, 3, 16, 16, dtype=torch.uint8), torch.arange(12) % 3)
    config = CondenseConfig("learngene_vit")
    with pytest.raises(UserError, match="VisionTransformer does not take images of 3x16x16"):
        condense.Condenser(tiny_cnn, world, world, config, torch.device("cpu"))


def test_a_condenser_refuses_a_number_of_classes(tiny_cnn):
    world = (torch.zeros(12, 3, 16, 16, dtype=torch.uint8), torch.arange(12) % 3)
    config = CondenseConfig(arch_kwargs={"num_classes": 3})
    with pytest.raises(UserError, match="num_classes is set by the task; leave it out"):
        condense.Condenser(tiny_cnn, world, world, config, torch.device("cpu"))


def test_a_meta_iteration_with_dropout_repeats_itself(make_ancestor):
    ancestor = make_ancestor("learngene_resnet12", widths=[4, 4, 4, 4])
    world = (torch.randint(0, 256, (12, 3, 16, 16), dtype=torch.uint8), torch.arange(12) % 3)
    config = CondenseConfig(
        "learngene_resnet12", {"widths": [4, 4, 4, 4], "drop_rate": 0.5}, batch_size=4, iterations=1
    )
    values = {
        condense.Condenser(ancestor, world, world, config, torch.device("cpu")).step()
        for _ in range(2)
    }
    assert len(values) == 1


# --- training ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vgg16", "resnet18"])
def test_the_ancestor_learns_as_in_the_released_code(name):
    fit = AncestryConfig.preset(name, "paper").fit
    assert (fit.optimizer, fit.lr, fit.momentum, fit.weight_decay) == ("sgd", 0.1, 0.9, 5e-4)
    assert (fit.batch_size, fit.epochs, fit.schedule) == (128, 200, "steps")
    assert fit.warmup * fit.epochs == pytest.approx(1)
    assert (fit.clip, fit.label_smoothing) == (None, 0)


@pytest.mark.parametrize("name", PUBLISHED)
def test_descendants_learn_as_in_the_released_code(name):
    fit = paper(name).few_shot
    assert (fit.optimizer, fit.lr, fit.momentum, fit.weight_decay) == ("sgd", 5e-4, 0.9, 5e-4)
    assert (fit.batch_size, fit.epochs, fit.schedule, fit.warmup) == (64, 100, "constant", 0)


def test_the_published_rates_fall_after_60_and_180_epochs():
    fit = paper("vgg16").fit
    optimizer, scheduler = train.optimizer_for(models.create("learngene_vgg", 2), fit, 200)
    rates = []
    for step in range(200):
        scheduler.step_update(step)
        rates.append(optimizer.param_groups[0]["lr"])
    drops = {10: 0.1, 59: 0.1, 61: 0.02, 179: 0.02, 181: 0.004}
    assert {step: round(rates[step], 6) for step in drops} == drops


def test_cifar_is_shifted_mirrored_and_turned():
    fit = paper("vgg16").fit
    assert (fit.shift, fit.flip, fit.rotate) == (4, True, 15)


@pytest.mark.parametrize("dataset", ["glyphs", "digits", "glyphs@64"])
def test_characters_are_neither_mirrored_nor_turned(dataset):
    recipe = recipes.find("vgg16", "paper", dataset)
    config = AncestryConfig.preset("vgg16", "paper", dataset=dataset)
    small = CondenseConfig.preset("vgg16", "paper", dataset=dataset)
    for settings in (recipe.few_shot, config.fit, small):
        assert (settings.flip, settings.rotate) == (False, 0)
    assert config.dataset == dataset


@pytest.mark.parametrize(
    ("name", "dataset", "shift"),
    [
        ("vgg16", "glyphs", 4),
        ("vgg16", "cifar100:there@64", 8),
        ("resnet18", "glyphs", 4),
        ("resnet18", "mini-imagenet", 10),
        ("resnet18", "mini-imagenet@224", 28),
        ("resnet18", "folder:birds@112", 14),
        ("resnet18", "fashion-mnist", 4),
        ("resnet18", "flowers102:there", 10),
        ("vgg16", "folder:birds", 4),
        ("cnn", "digits", 3),
    ],
)
def test_shifts_keep_their_share_of_the_side(name, dataset, shift):
    recipe = recipes.find(name, "paper", dataset)
    assert recipe.fit.shift == shift
    assert recipe.condensing.get("shift", shift) == shift


@pytest.mark.parametrize("scale", ["paper", "rehearsal"])
@pytest.mark.parametrize("name", ["resnet18", "swin-s", "vit-s", "vit-s-first"])
def test_a_large_shift_wants_to_know_the_side(name, scale):
    told = (
        rf"'folder:birds' does not tell .*'{name}' shifts .* by 28. .*for example folder:birds@224"
    )
    with pytest.raises(UserError, match=told):
        recipes.find(name, scale, "folder:birds")


def test_the_sides_are_those_of_the_loaded_pictures(quick_glyphs, digits):
    for images in (quick_glyphs, digits):
        assert recipes.side(images.name) == images.images.shape[-1]
    assert {name: recipes.SIDES[name] for name in sources.PIXELS} == sources.PIXELS
    assert set(recipes.SIDES) == set(data.NAMES) - {"folder"}


@pytest.mark.parametrize("family", ["cnn", "vit"])
def test_naming_the_recipes_own_dataset_changes_nothing(family):
    assert AncestryConfig.preset(family, dataset="glyphs") == AncestryConfig.preset(family)
    assert CondenseConfig.preset(family, dataset="glyphs") == CondenseConfig.preset(family)


def test_photographs_stay_mirrored():
    assert AncestryConfig.preset("vgg16", "paper", dataset="cifar100:somewhere").fit.flip


# --- the table --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "scale"), KEYS)
def test_no_key_of_the_course_changes(family, scale):
    keys = [AncestryConfig.preset(family, scale, seed=seed).key for seed in (0, 3)]
    keys += [CondenseConfig.preset(family, scale, protocol).key for protocol in ("clean", "paper")]
    assert " ".join(keys) == KEYS[family, scale]


@pytest.mark.parametrize(
    ("family", "layers", "shape", "key"),
    [
        ("cnn", ("features.4", "features.7", "features.21"), {"stages": [1, 2, 2, 2]}, "e1e7fe72"),
        ("vit", ("blocks.0", "blocks.1", "blocks.4"), {"depth": 6}, "202c7b42"),
    ],
)
def test_no_key_of_a_job_changes(family, layers, shape, key):
    assert Job(family, "learngene", layers, Task(), arch_kwargs=shape).key.startswith(key)


@pytest.mark.parametrize("change", [{"arch": "resnet18"}, {"ancestor_data": "digits"}])
def test_new_settings_change_a_jobs_key(change):
    job = Job("cnn", "learngene", ("features.4",), Task())
    assert replace(job, **change).key != job.key


def test_a_job_says_what_its_ancestor_learns():
    job = Job("cnn", "learngene", ("features.4",), Task(), ancestor_data="digits")
    assert job.ancestry.dataset == "digits"
    assert replace(job, ancestor_data="").ancestry.dataset == "glyphs"


def test_a_job_is_prepared_with_its_own_architecture(make_ancestor, coloured, monkeypatch):
    ancestor, asked = make_ancestor("resnet18"), []
    monkeypatch.setattr(
        jobs, "_images", lambda dataset, size: asked.append((dataset, size)) or coloured
    )
    monkeypatch.setattr(data, "split", lambda *_: data.Split(novel=tuple(range(10))))
    monkeypatch.setattr(
        ancestry, "accumulate", lambda config, **_: asked.append(config) or ancestor
    )
    job = Job(
        "resnet18", "learngene", paper("resnet18").layers, Task(5, 2), scale="rehearsal",
        arch="learngene_resnet12", ancestor_data="glyphs@32", ancestor_seed=77,
    )  # fmt: skip
    heir = jobs.prepare(job).descendant
    assert asked[0].dataset == "glyphs@32"
    assert asked[1] == ("glyphs", "rehearsal")
    body = heir.model.stages[3].body
    assert torch.equal(body.conv1.conv.weight, ancestor.model.layer4[1].conv1.weight)
    assert not any(o.source for o in heir.provenance if o.role == "stem")


@pytest.mark.parametrize("name", [*PUBLISHED, "cnn", "vit"])
def test_a_rehearsal_keeps_models_comparisons_and_data(name):
    here, there = (recipes.find(name, scale) for scale in ("rehearsal", "paper"))
    for part in ("ancestor", "pseudo", "descendant", "layers", "travels", "dataset", "weights"):
        assert getattr(here, part) == getattr(there, part)
    assert here.condensing.get("taps") == there.condensing.get("taps")
    assert (here.fit.epochs, here.fit.batch_size, here.fit.precision) == (1, 32, "float32")
    assert (here.size, here.fit.compile, here.condensing["iterations"]) == ("rehearsal", False, 2)
    small = here.few_shot
    assert (small.epochs, small.batch_size, small.precision, small.compile) == (
        2,
        25,
        "float32",
        False,
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_experiment_of_the_paper_has_no_quick_scale(name):
    with pytest.raises(UserError, match=f"'{name}' has no quick scale"):
        recipes.find(name, "quick")


def test_an_unknown_recipe_lists_the_nearest():
    with pytest.raises(UserError, match=r"Unknown family 'vgg19'. Nearest: 'vgg16'"):
        recipes.find("vgg19", "paper")


@pytest.mark.parametrize("name", [*PUBLISHED, "cnn", "vit"])
def test_a_preset_is_the_recipe(name):
    recipe, config = paper(name), AncestryConfig.preset(name, "paper", seed=4)
    assert (config.arch, config.arch_kwargs) == (recipe.ancestor.arch, recipe.ancestor.kwargs)
    assert asdict(config.fit) == asdict(replace(recipe.fit, seed=4))
    assert (config.dataset, config.size, config.weights) == (
        recipe.dataset,
        recipe.size,
        recipe.weights,
    )


def test_every_recipe_has_a_title():
    assert {r.title for r in recipes.RECIPES.values()} >= {"CNN", "VGG16", "Swin-S", "adopted"}
