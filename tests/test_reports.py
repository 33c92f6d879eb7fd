"""What people report of tools like this one, a row each: named by what the user did."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file, save_model
from timm.models import register_model
from typer.testing import CliRunner

from lgutils import blocks, cli, data, inherit, learngene, models, train
from lgutils.ancestry import Ancestor, AncestryConfig, accumulate
from lgutils.errors import UserError
from lgutils.learngene import Learngene


def shell(*arguments):
    """Run a command; its `UserError` is raised here."""
    return CliRunner().invoke(cli.app, list(arguments), catch_exceptions=False)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """The user's folder, which is the current one; the data folder is another and empty."""
    monkeypatch.setenv("LGUTILS_DATA", str(tmp_path / "data"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def save(path, seed, size=9):
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def birds(here):
    """Six classes of twelve pictures in the folder birds."""
    for c in range(6):
        for i in range(12):
            save(here / "birds" / "abcdef"[c] / f"{i:02d}.png", 100 * c + i)
    return here / "birds"


# --- own pictures ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [".ipynb_checkpoints", ".thumbnails", "@eaDir", "__MACOSX", "#recycle", ".@__thumb"]
)
def test_a_system_left_copies_of_pictures_inside_a_class(birds, name, capsys):
    for folder in (birds / "a", birds):
        (folder / name / "deep").mkdir(parents=True)
        shutil.copy(birds / "a" / "00.png", folder / name / "00-checkpoint.png")
        shutil.copy(birds / "a" / "01.png", folder / name / "deep" / "01.png")
    found = data.load("folder:birds")
    assert (len(found.classes), len(found.labels), capsys.readouterr().err) == (6, 72, "")


@pytest.mark.parametrize("name", ["Thumbs.db", "._00.png", ".DS_Store", "desktop.ini", "notes.txt"])
def test_a_system_left_files_beside_the_pictures(birds, name):
    for folder in (birds / "a", birds):
        (folder / name).write_bytes(b"no picture")
    assert len(data.load("folder:birds").labels) == 72


def test_a_picture_was_copied_within_its_class(birds, capsys):
    shutil.copy(birds / "a" / "05.png", birds / "a" / "05 (copy).png")
    found = data.load("folder:birds")
    a = found.images[found.labels == 0].flatten(1)
    assert found.held_out[found.labels == 0].nonzero()[:, 0].tolist() == [5, 6, 12]
    assert (a[5] == a[6]).all()
    told = "1 of 73 pictures are copies of others, byte for byte, and take their side of the split"
    assert told in capsys.readouterr().err


def test_a_picture_stands_in_two_classes(birds, capsys):
    shutil.copy(birds / "a" / "05.png", birds / "b" / "99.png")
    assert data.load("folder:birds").held_out.sum() == 13
    told = "the same as one of another class: one of the two labels is wrong: a/05.png, b/99.png"
    assert told in capsys.readouterr().err


def test_names_of_files_and_classes_are_not_utf8(here, birds, capsys):
    try:
        os.rename(b"birds/a", b"birds/caf\xe9")
    except OSError:
        pytest.skip("this file system wants UTF-8")
    os.rename(b"birds/b/00.png", b"birds/b/\xff.png")
    found = data.load("folder:birds")
    assert found.classes == ("b", "c", "caf\\xe9", "d", "e", "f")
    assert len(found.labels) == 72


def test_the_pictures_are_in_the_current_folder(birds):
    assert len(data.load("folder:birds").classes) == 6


def test_the_pictures_are_nowhere(here, tmp_path):
    with pytest.raises(UserError, match=f"looked for in {tmp_path}/data/cats and {here}/cats"):
        data.load("folder:cats")


def test_a_class_folder_is_empty(birds):
    (birds / "g").mkdir()
    with pytest.raises(UserError, match=r"The class folder .*birds/g holds no pictures"):
        data.load("folder:birds")


def test_pictures_have_many_modes(birds):
    for i, mode in enumerate(("L", "P", "RGBA", "CMYK", "1", "I;16")):
        picture = Image.open(birds / "a" / f"{i:02d}.png")
        ending = "tif" if mode == "CMYK" else "png"
        picture.convert("L" if ";" in mode else mode).convert(mode).save(
            birds / "a" / f"9{i}.{ending}"
        )
        picture.close()
    assert data.load("folder:birds").images.shape == (78, 3, 9, 9)


def test_pictures_have_many_sizes(birds):
    save(birds / "a" / "wide.png", 1, 12)
    with pytest.raises(UserError, match=r"different sizes .* Add the size .* @84"):
        data.load("folder:birds")
    assert data.load("folder:birds@16").images.shape == (73, 3, 16, 16)


def test_a_class_folder_is_a_link_with_a_name_of_spaces_and_greek(birds, tmp_path):
    shutil.move(birds / "a", tmp_path / "elsewhere")
    (birds / "\u03b1 \u03b2").symlink_to(tmp_path / "elsewhere")
    found = data.load("folder:birds")
    assert (found.classes[-1], len(found.labels)) == ("\u03b1 \u03b2", 72)


def test_links_lead_in_circles(birds, capsys):
    for c in "abc":
        (birds / c / "all").symlink_to(birds / "d")
        (birds / "d" / c).symlink_to(birds / c)
        (birds / c / "self").symlink_to(".")
    assert len(data.load("folder:birds").labels) == 4 * 48 + 2 * 12
    assert "are the same as one of another class" in capsys.readouterr().err


def test_a_photo_is_turned_by_its_camera(birds):
    tags = Image.Exif()
    tags[0x0112] = 6
    pixels = np.zeros((9, 9, 3), np.uint8)
    pixels[0] = 255
    Image.fromarray(pixels).save(birds / "a" / "00.png", exif=tags)
    assert (data.load("folder:birds").images[0, 0, :, -1] == 255).all()


@pytest.mark.parametrize("content", [b"", b"<html>", b"version https://git-lfs.github.com/spec/v1"])
def test_a_picture_was_not_fetched_whole(birds, content, capsys):
    for i in range(100):
        save(birds / "b" / f"more{i}.png", 1000 + i)
    (birds / "a" / "00.png").write_bytes(content)
    assert data.load("folder:birds").skipped == ("a/00.png",)
    assert "1 of 172 pictures of folder:birds cannot be read: a/00.png" in capsys.readouterr().err


def test_a_pipe_lies_among_the_pictures(birds):
    os.mkfifo(birds / "a" / "pipe.png")
    with pytest.raises(UserError, match=r"1 of 73 pictures .* cannot be read: a/pipe.png"):
        data.load("folder:birds")


def test_train_and_test_hold_the_same_classes(birds):
    for part in ("train", "val", "test"):
        shutil.copytree(birds, birds.parent / "parts" / part)
    with pytest.raises(
        UserError, match=r"is in more than one of its parts, but .* Name one part alone"
    ):
        data.load("folder:parts")
    assert len(data.load("folder:parts/train").classes) == 6


# --- devices --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["meta", "hpu", "cuda:99"])
def test_a_device_was_named_that_is_not_there(name):
    with pytest.raises(UserError, match=f"Device '{name}' was asked for, but torch"):
        train.device(name)


# --- scripts --------------------------------------------------------------------------------------

SCRIPTS = {
    "processes": "from lgutils.fleet import backends\n"
    "def main():\n"
    "    with backends.pool(1) as workers:\n"
    "        print('sum', sum(workers.map(abs, [-1, 2])))\n",
    "pictures": "from lgutils import data\n"
    "from lgutils.data import pictures\n"
    "from lgutils.data.decode import Files\n"
    "pictures.FEW = pictures.MOST_WORKERS = 1\n"
    "def main():\n"
    "    files = Files('birds', ('a/00.png', 'b/00.png'), (9, 9))\n"
    "    print('sum', len(data.decoded(data.Pictures.of(files))))\n",
}


@pytest.mark.parametrize("work", SCRIPTS)
def test_a_script_without_a_main_guard_starts_processes(birds, work):
    Path("mine.py").write_text(SCRIPTS[work] + "main()\n")
    done = subprocess.run(
        [sys.executable, "mine.py"], capture_output=True, text=True, timeout=300, check=False
    )
    told = "UserError: Worker processes import mine.py, which lacks a main guard"
    assert (done.returncode, done.stderr.count(told)) == (1, 1)
    assert "bootstrapping" not in done.stderr


# --- weights of others ----------------------------------------------------------------------------

VGG = ("learngene_vgg", {"stages": [1, 1], "widths": [4, 6]})


@pytest.fixture
def state():
    """A state dict of `VGG` with 7 classes and batch statistics of its own."""
    model = models.create(VGG[0], 7, seed=5, **VGG[1])
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for name, tensor in state.items():
        if "running" in name:
            tensor += torch.rand(tensor.shape, generator=torch.Generator().manual_seed(1))
    return state


def adopted(path, **options):
    options = {"weights": str(path), "dataset": "digits", **options}
    return accumulate(AncestryConfig.custom(*VGG, **options))


def equal(ancestor, state):
    found = ancestor.model.state_dict()
    return found.keys() == state.keys() and all(torch.equal(found[n], t) for n, t in state.items())


def renamed(state, change=lambda name: f"net.{name.replace('features', 'body')}"):
    return {change(name): tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    "name", ["model_best.pth.tar", "last.ckpt", "weights", "w.PTH", "w.safetensors"]
)
def test_weights_have_another_ending(state, name):
    torch.save(state, name)
    assert equal(adopted(name), state)


@pytest.mark.parametrize("name", ["w.pth", "w.st", "w"])
def test_a_safetensors_file_has_another_ending(state, name):
    save_file(state, name)
    assert equal(adopted(name), state)


def test_a_checkpoint_of_timms_training_script_is_given(state):
    found = {
        "epoch": 3, "arch": VGG[0], "state_dict": renamed(state, lambda name: f"module.{name}"),
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}, "version": 2,
        "args": argparse.Namespace(lr=0.1, data_dir="x"), "metric": 71.5,
    }  # fmt: skip
    torch.save(found, "model_best.pth.tar")
    assert equal(adopted("model_best.pth.tar"), state)


def test_a_checkpoint_holds_an_object(state):
    torch.save({"state_dict": state, "hyper_parameters": Path("x")}, "w.ckpt")
    told = r"w.ckpt holds no weights .* without unpickling \(it asks for pathlib\.[\w.]+\). Save the model's"
    with pytest.raises(UserError, match=told):
        adopted("w.ckpt")


def test_a_whole_model_was_pickled(state):
    torch.save(models.create(VGG[0], 7, **VGG[1]), "w.pth")
    with pytest.raises(
        UserError, match=r"without unpickling \(it asks for .*Save the model's state dict"
    ):
        adopted("w.pth")


def test_the_file_is_a_folder():
    with pytest.raises(UserError, match=r"Weights '\.' are neither 'timm' nor a file"):
        adopted(".")


def test_batch_counters_are_absent(state):
    torch.save({n: t for n, t in state.items() if "num_batches" not in n}, "w.pth")
    ancestor = adopted("w.pth")
    assert equal(ancestor, state)
    assert "2 counters num_batches_tracked are not in the file: set to 0" in ancestor.card.notes


def test_the_same_tensors_have_other_names(state, capsys):
    torch.save(renamed(state), "w.pth")
    with pytest.raises(
        UserError, match=r"lacks 'features.0.weight', and has 'net.body.0.weight' .*--match order"
    ):
        adopted("w.pth")
    ancestor = adopted("w.pth", match="order")
    assert equal(ancestor, state)
    assert "its 16 tensors were matched by order, not by name" in ancestor.card.notes
    assert "  net.body.0 -> features.0\n" in capsys.readouterr().err


def test_other_names_in_a_safetensors_file(state):
    save_file(renamed(state), "w.safetensors")
    with pytest.raises(UserError, match=r"lacks 'features.0.weight', .* Check architecture"):
        adopted("w.safetensors")
    with pytest.raises(UserError, match="a safetensors file sorts its tensors by name"):
        adopted("w.safetensors", match="order")


def test_other_names_and_another_order(state):
    shuffled = dict(sorted(renamed(state).items(), reverse=True))
    torch.save(shuffled, "w.pth")
    with pytest.raises(UserError, match=r"is not 'learngene_vgg' by other names: .* stands where"):
        adopted("w.pth", match="order")


@pytest.mark.parametrize("save", [torch.save, save_file])
def test_only_the_head_has_another_name(state, save):
    save(renamed(state, lambda name: name.replace("head.fc", "linear")), "w.pth")
    with pytest.raises(
        UserError, match=r"lacks 'head.fc.weight', and has 'linear.\w+' .*--match order"
    ):
        adopted("w.pth")
    assert equal(adopted("w.pth", match="order"), state)


def test_weights_are_not_finite(state):
    state["head.fc.bias"][2] = torch.nan
    torch.save(state, "w.pth")
    with pytest.raises(UserError, match=r"w.pth cannot be adopted: .*'head.fc.bias' .*not finite"):
        adopted("w.pth")


def test_weights_are_half_precision(state):
    torch.save({n: t.half() if t.is_floating_point() else t for n, t in state.items()}, "w.pth")
    found = adopted("w.pth").model
    assert {p.dtype for p in found.parameters()} == {torch.float32}
    torch.testing.assert_close(found.head.fc.weight, state["head.fc.weight"], atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid",
            "it is a pointer of git LFS: fetch the file",
        ),
        (b"<!DOCTYPE html>", "it is a web page: fetch the file itself"),
        (b'{"metadata": {}, "weight_map": {}}', "it is JSON: name the file of weights"),
        (b"\x89HDF\r\n\x1a\n", "it is HDF5, of another framework"),
        (b"", "EOFError"),
    ],
)
def test_the_file_is_no_weights(content, told):
    Path("w.safetensors").write_bytes(content)
    with pytest.raises(
        UserError, match=rf"w.safetensors holds no weights .* \({told}.*\)\. Save the"
    ):
        adopted("w.safetensors")


@pytest.mark.parametrize("save", [torch.save, save_file])
def test_the_download_was_cut(state, save):
    save(state, "w.pth")
    Path("w.pth").write_bytes(Path("w.pth").read_bytes()[:-500])
    with pytest.raises(UserError, match=r"w.pth holds no weights that can be read"):
        adopted("w.pth")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module."])
def test_the_model_was_wrapped_when_it_was_saved(state, prefix):
    torch.save({"model": {f"{prefix}{name}": t for name, t in state.items()}}, "w.pth")
    assert equal(adopted("w.pth"), state)


def test_the_head_has_the_classes_of_the_user(state):
    torch.save(state, "w.pth")
    assert len(adopted("w.pth").card.classes) == 7


def test_the_number_of_classes_is_set(state):
    torch.save(state, "w.pth")
    with pytest.raises(UserError, match="--set num_classes is not possible"):
        shell("accumulate", "--arch", VGG[0], "--weights", "w.pth", "--set", "num_classes=7")


def test_the_architecture_is_another(state):
    torch.save(state, "w.pth")
    config = AncestryConfig.custom("resnet18", weights="w.pth", dataset="digits")
    with pytest.raises(
        UserError, match=r"w.pth does not fit 'resnet18': it lacks .* Check architecture"
    ):
        accumulate(config)


def test_the_architecture_is_misspelt():
    with pytest.raises(UserError, match="Nearest: 'efficientnet_lite0'"):
        accumulate(AncestryConfig.custom("efficientnet_light0", dataset="glyphs"))


# --- tensors that are used twice ------------------------------------------------------------------


@register_model
def reports_tied_vit(pretrained=False, **options):
    """A ViT of four blocks, two of which are used twice."""
    model = models.learngene_vit(depth=4, embed_dim=12, num_heads=2, **options)
    model.blocks[2], model.blocks[3] = model.blocks[0], model.blocks[1]
    return model


@pytest.fixture
def tied(here):
    """A file of safetensors' `save_model`, which keeps one name of each; its ancestor."""
    model = models.create("reports_tied_vit", 7, seed=5)
    save_model(model, "tied.safetensors")
    config = AncestryConfig.custom("reports_tied_vit", weights="tied.safetensors")
    return model, accumulate(config)


def test_shared_tensors_were_saved_with_save_model(tied):
    model, ancestor = tied
    assert equal(ancestor, model.state_dict())
    assert "24 tensors that the model uses twice stand in the file once" in ancestor.card.notes
    again = Ancestor.load(ancestor.save("a.safetensors"))
    assert train.weight_hash(again.model) == train.weight_hash(model)


def test_a_model_uses_blocks_twice(tied):
    layers = {layer.name: layer for layer in blocks.layers(tied[1].model)}
    assert [layer.name for layer in layers.values() if layer.role == "block"] == [
        "blocks.0",
        "blocks.1",
    ]
    assert not any("blocks" in name for name in layers["position"].tensors)
    assert {name[:9] for name in layers["blocks.0"].tensors} == {"blocks.0.", "blocks.2."}
    assert layers["blocks.0"].num_params == sum(p.numel() for p in tied[0].blocks[0].parameters())


def test_a_block_that_is_used_twice_is_inherited(tied):
    model, ancestor = tied
    gene = learngene.extract(ancestor, ["blocks.1"])
    heir = inherit.inherit(gene, num_classes=3, seed=1).model
    assert heir.blocks[3] is heir.blocks[1]
    assert torch.equal(heir.blocks[1].mlp.fc1.weight, model.blocks[1].mlp.fc1.weight)
    assert not torch.equal(heir.blocks[0].mlp.fc1.weight, model.blocks[0].mlp.fc1.weight)


# --- what stands beside weights -------------------------------------------------------------------

INPUT = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}


@pytest.mark.parametrize(
    "told",
    [
        {
            "architecture": "learngene_vgg",
            "num_classes": 7,
            "pretrained_cfg": {**INPUT, "tag": "x"},
        },
        {"architecture": "learngene_vgg", "num_classes": 7, **INPUT},
    ],
    ids=["now", "older"],
)
def test_timm_saved_the_weights_for_the_hub(here, state, told):
    save_file(state, "model.safetensors")
    (here / "config.json").write_text(json.dumps(told))
    card = adopted("model.safetensors").card
    assert (card.normalize.mean, card.normalize.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert card.notes == ("mean and deviation are those of config.json beside the weights",)
    assert "input: mean 0.1 0.2 0.3, deviation 0.4 0.5 0.6" in str(card)


def test_config_json_is_of_other_weights(here, state):
    save_file(state, "model.safetensors")
    (here / "config.json").write_text(
        json.dumps({"architecture": "resnet18", "num_classes": 5, **INPUT})
    )
    notes = " ".join(adopted("model.safetensors").card.notes)
    assert "which tells 5 classes and so may belong to other weights" in notes
    assert "config.json says that they are weights of resnet18, not of learngene_vgg" in notes


@pytest.mark.parametrize(
    "told",
    ["{", "[]", '{"architecture": 3}', '{"architecture": "x", "std": [0, 1, 1]}', "[" * 10_000],
)
def test_config_json_is_damaged(here, state, told):
    save_file(state, "model.safetensors")
    (here / "config.json").write_text(told)
    with pytest.raises(UserError, match=r"config.json is damaged .* Repair or remove it"):
        adopted("model.safetensors")


def test_config_json_is_of_another_library(here, state):
    save_file(state, "model.safetensors")
    (here / "config.json").write_text('{"model_type": "bert", "mean": 3}')
    assert (
        adopted("model.safetensors").card.notes[0].startswith("mean and deviation are ImageNet's")
    )


def test_mean_and_deviation_are_given(state, here):
    (here / "config.json").write_text(json.dumps({"architecture": "learngene_vgg", **INPUT}))
    torch.save(state, "w.pth")
    result = shell(
        "accumulate", "--arch", VGG[0], "--set", "stages=1,1", "--set", "widths=4,6", "--weights",
        "w.pth", "--mean", "0.5,0.5,0.4", "--std", "1,1,1", "--out", "a.safetensors",
    )  # fmt: skip
    assert "input: mean 0.5 0.5 0.4, deviation 1 1 1" in result.output
    assert "mean and deviation are those that were given" in result.output


@pytest.mark.parametrize(
    "option", [["--mean", "0.5,0.5,0.5"], ["--mean", "a,b,c", "--std", "1,1,1"]]
)
def test_mean_and_deviation_are_given_wrongly(state, option):
    torch.save(state, "w.pth")
    with pytest.raises(
        UserError, match=r"--mean (and --std belong together|'a,b,c' is not a number)"
    ):
        shell("accumulate", "--arch", VGG[0], "--weights", "w.pth", *option)


def test_the_weights_fit_two_architectures():
    with torch.device("meta"):
        names = models.create("efficientnet_lite0", 3).state_dict()
    torch.save({n: torch.ones(t.shape, dtype=t.dtype) for n, t in names.items()}, "w.pth")
    config = AncestryConfig.custom("efficientnet_lite0", weights="w.pth", dataset="digits")
    assert accumulate(config).card.notes[-1].startswith("the weights fit tf_efficientnet_lite0 too")
    Path("config.json").write_text('{"architecture": "tf_efficientnet_lite0"}')
    told = (
        "config.json says that they are weights of tf_efficientnet_lite0, not of efficientnet_lite0"
    )
    assert accumulate(config).card.notes[-1].startswith(told)
    Path("config.json").write_text('{"architecture": "efficientnet_lite0"}')
    assert accumulate(config).card.notes == (
        "mean and deviation are timm's for efficientnet_lite0",
    )


# --- condensing -----------------------------------------------------------------------------------


@pytest.fixture
def of_digits(state):
    """An ancestor for the digits, which have novel classes only; what `accumulate` printed."""
    torch.save(state, "w.pth")
    return shell(
        "accumulate", "--arch", VGG[0], "--set", "stages=1,1", "--set", "widths=4,6", "--weights",
        "w.pth", "--dataset", "digits", "--out", "a.safetensors",
    ).output  # fmt: skip


def test_the_next_step_of_a_dataset_without_open_world_classes(of_digits):
    assert "Next: lgutils condense a.safetensors --open-world glyphs\n" in of_digits


def test_an_ancestor_is_condensed_on_a_dataset_without_open_world_classes(of_digits):
    with pytest.raises(
        UserError, match=r"'digits' has no open-world classes .*--open-world glyphs"
    ):
        shell("condense", "a.safetensors")


def test_layers_are_named_and_an_open_world_too(of_digits):
    with pytest.raises(UserError, match="Leave one of them out"):
        shell("condense", "a.safetensors", "--layers", "features.4", "--open-world", "glyphs")


@pytest.mark.parametrize(("world", "name"), [("glyphs", "glyphs"), ("glyphs@40", "glyphs@40")])
def test_an_ancestor_is_condensed_on_another_datasets_open_world(of_digits, world, name):
    output = shell(
        "condense", "a.safetensors", "--open-world", world, "--criterion", "gradient-stability",
        "--budget", "1", "--scale", "rehearsal", "--out", "g.safetensors",
    ).output  # fmt: skip
    assert f"chosen by gradient stability on {name} over 1 seed(s)" in output
    assert Learngene.load("g.safetensors").scores["open_world"] == name


def test_another_datasets_pictures_get_the_ancestors_size(birds, make_ancestor):
    ancestor = make_ancestor("learngene_vgg", stages=(1, 1), widths=(4, 6))
    assert ancestor.sized("digits") == "digits"
    assert ancestor.sized("folder:birds") == "folder:birds@32"
    assert ancestor.sized("folder:birds@16") == "folder:birds@16"
    images, labels = ancestor.open_world("folder:birds")
    assert (images.shape, len(labels.unique())) == ((20, 3, 32, 32), 2)
