"""Facts about datasets that come as files: names, formats, splits, damage, downloads."""

import gzip
import hashlib
import http.client
import http.server
import io
import os
import pickle
import shutil
import ssl
import struct
import subprocess
import sys
import tarfile
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets
from torchvision.transforms.v2 import functional as tv

from lgutils import data
from lgutils.data import Dataset, Split, archives, fetch, listing, settle
from lgutils.errors import UserError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty data folder."""
    monkeypatch.setenv("LGUTILS_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def md5(content):
    return hashlib.md5(content).hexdigest()


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("glyphs", ("glyphs", None, None)),
        ("glyphs@84", ("glyphs", None, 84)),
        ("cifar100:/sets@64", ("cifar100", "/sets", 64)),
        ("folder:birds", ("folder", "birds", None)),
        ("folder:a@b:c@9", ("folder", "a@b:c", 9)),
        ("folder:a@b", ("folder", "a@b", None)),
    ],
)
def test_a_name_has_up_to_three_parts(text, parts):
    found = Dataset.parse(text)
    assert ((found.name, found.path, found.pixels), str(found)) == (parts, text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cifar10", "Unknown dataset 'cifar10'. Nearest: 'cifar100'"),
        ("", "Unknown dataset ''"),
        ("folder", "names no folder"),
        ("cifar100:", "names no folder"),
        ("digits:here", "digits needs no files"),
        ("glyphs@7", "7 pixels .* 8 to 1024"),
        ("glyphs@big", "'glyphs@big' is no dataset"),
    ],
)
def test_a_wrong_name_is_refused(text, told):
    with pytest.raises(UserError, match=told):
        Dataset.parse(text)


def test_the_data_folder_is_in_the_cache_by_default(own_cache, monkeypatch):
    monkeypatch.delenv("LGUTILS_DATA")
    assert data.folder() == own_cache / "data"


def test_paths_are_relative_to_the_data_folder_or_absolute(folder):
    assert Dataset.parse("folder:a/b").root == folder / "a/b"
    assert Dataset.parse("folder:/a/b").root == Path("/a/b")


def test_a_path_that_is_not_in_the_data_folder_is_looked_for_here(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pics").mkdir()
    assert Dataset.parse("folder:pics").root == tmp_path / "pics"
    (folder / "pics").mkdir()
    assert Dataset.parse("folder:pics").root == folder / "pics"


@pytest.mark.parametrize("path", ["~nobody-of-this-name/x", "x" * 300, "a\0b"])
def test_a_path_that_no_file_can_have_is_not_found(path):
    with pytest.raises(UserError, match="was not found; it was looked for in"):
        data.load(f"folder:{path}")


@pytest.mark.parametrize("name", ["cifar100", "flowers102", "folder:x", "mini-imagenet"])
def test_a_missing_dataset_says_where_it_was_looked_for(name, folder):
    with pytest.raises(UserError, match=f"was not found; it was looked for in {folder}"):
        data.load(name)


@pytest.mark.parametrize("name", ["cifar100", "flowers102"])
def test_a_missing_dataset_says_which_command_fetches_it(name, folder):
    with pytest.raises(UserError, match=f"lgutils data {name} --download --data-dir {folder}`"):
        data.load(name)


# --- CIFAR-100 ------------------------------------------------------------------------------------


@pytest.fixture
def cifar(folder, monkeypatch):
    """The format of CIFAR-100 with 5 training and 2 test images a class; its arrays by part."""
    place, arrays = folder / "cifar-100-python", {}
    place.mkdir()
    for i, (part, count) in enumerate({"train": 5, "test": 2}.items()):
        labels = np.random.default_rng(i).permutation(np.repeat(np.arange(100), count)).tolist()
        arrays[part] = noise(100 * count, 3072, seed=i), labels
        content = {
            "data": arrays[part][0],
            "fine_labels": labels,
            "coarse_labels": [0] * len(labels),
        }
        (place / part).write_bytes(pickle.dumps(content, protocol=4))
    meta = {"fine_label_names": list(archives.CIFAR_CLASSES)}
    (place / "meta").write_bytes(pickle.dumps(meta))
    sums = {p.name: md5(p.read_bytes()) for p in place.iterdir()}
    monkeypatch.setattr(archives, "CIFAR_MD5", sums)
    return arrays


def test_cifar_images_are_rows_of_red_green_and_blue(cifar):
    found = data.load("cifar100")
    image = cifar["train"][0][3]
    planes = [image[:1024], image[1024:2048], image[2048:]]
    np.testing.assert_array_equal(found.images[3], np.stack(planes).reshape(3, 32, 32))


def test_cifar_labels_follow_their_images(cifar):
    found = data.load("cifar100")
    assert found.labels.tolist() == cifar["train"][1] + cifar["test"][1]


def test_the_official_test_images_of_cifar_are_held_out(cifar):
    found = data.load("cifar100")
    assert found.held_out.tolist() == [False] * 500 + [True] * 200


def test_cifar_has_a_hundred_classes_in_alphabetical_order():
    assert len(set(archives.CIFAR_CLASSES)) == 100
    assert archives.CIFAR_CLASSES[19] == "cattle"
    assert archives.CIFAR_CLASSES[::33] == ("apple", "forest", "raccoon", "worm")


@pytest.mark.parametrize("seed", [0, 5])
def test_the_classes_of_cifar_are_the_papers(seed):
    split = data.split("cifar100", seed)
    assert [len(part) for part in (split.base, split.open_world, split.novel)] == [64, 16, 20]
    names = [archives.CIFAR_CLASSES[c] for c in split.open_world + split.novel]
    assert " ".join(names) == (
        "beetle beaver butterfly camel cattle crab crocodile flatfish lamp maple_tree motorcycle otter "
        "sea shark television tractor baby bed bicycle chimpanzee fox leopard man pickup_truck plain "
        "poppy rocket rose snail sweet_pepper table telephone wardrobe whale woman worm"
    )


def test_quick_cifar_keeps_the_first_images_in_proportion(cifar, monkeypatch):
    full = data.load("cifar100", "full")
    monkeypatch.setattr(data.sources, "SIZES", {"quick": 4, "full": 600})
    quick = data.load("cifar100", "quick")
    for held, count in ((False, 3), (True, 1)):
        many, few = (s.images[(s.labels == 7) & (s.held_out == held)] for s in (full, quick))
        assert torch.equal(few, many[:count])


def test_a_changed_file_of_cifar_is_refused_before_it_is_read(cifar, folder):
    path = folder / "cifar-100-python" / "train"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(UserError, match="its md5 is"):
        data.load("cifar100")


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


@pytest.mark.parametrize("thing", [Evil(), Path("x"), np.array([Evil()], dtype=object)])
def test_only_arrays_and_plain_values_are_unpickled(thing, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps({"data": thing})
    (tmp_path / "train").write_bytes(content)
    with pytest.raises(UserError, match=r"it asks for (posix|pathlib)"):
        archives.read_pickle(tmp_path / "train", md5(content))
    assert not (tmp_path / "evil").exists()


def python2_pickle(array, labels):
    """What Python 2 wrote: strings for bytes, numpy's old module; spelled out opcode by opcode."""
    rows, columns = (b"J" + struct.pack("<i", n) for n in array.shape)
    return b"".join(
        [
            b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b",
            b"\x87R(K\x01"
            + rows
            + columns
            + b"\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|",
            b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T" + struct.pack("<i", array.size),
            array.tobytes() + b"tbU\x0bfine_labels](",
            b"".join(b"K" + bytes([label]) for label in labels) + b"eu.",
        ]
    )


def test_what_python_2_pickled_is_read(tmp_path):
    array, labels = noise(4, 300), [3, 1, 4, 1]
    content = python2_pickle(array, labels)
    (tmp_path / "train").write_bytes(content)
    found = archives.read_pickle(tmp_path / "train", md5(content))
    np.testing.assert_array_equal(found["data"], array)
    assert found["fine_labels"] == labels


def test_larger_pictures_are_asked_for_by_name(cifar):
    found, plain = data.load("cifar100@40"), data.load("cifar100")
    expected = tv.resize(plain.images[:9], [40, 40], antialias=True)
    assert found.images.shape == (700, 3, 40, 40)
    torch.testing.assert_close(found.images[:9], expected, atol=1, rtol=0)
    assert found.name == "cifar100@40"


# --- Fashion-MNIST --------------------------------------------------------------------------------


def idx(array):
    head = b"\0\0\x08" + bytes([array.ndim]) + b"".join(struct.pack(">I", n) for n in array.shape)
    return head + array.tobytes()


def write_fashion(place, wrap=lambda content: content, ending=""):
    arrays = [noise(30, 28, 28), np.arange(30, dtype=np.uint8) % 10]
    arrays += [noise(20, 28, 28, seed=1), np.arange(20, dtype=np.uint8) % 10]
    names = [
        f"{p}-{w}-ubyte{ending}" for p in ("train", "t10k") for w in ("images-idx3", "labels-idx1")
    ]
    place.mkdir(parents=True)
    for name, array in zip(names, arrays, strict=True):
        (place / name).write_bytes(wrap(idx(array)))
    return arrays


@pytest.mark.parametrize("place", ["FashionMNIST/raw", "fashion-mnist", "."])
@pytest.mark.parametrize(("wrap", "ending"), [(gzip.compress, ".gz"), (bytes, "")])
def test_fashion_is_found_zipped_or_not_in_all_its_places(folder, place, wrap, ending):
    folder.rmdir()
    arrays = write_fashion(folder / place, wrap, ending)
    found = data.load("fashion-mnist:.")
    np.testing.assert_array_equal(found.images[:30, 1, 2:-2, 2:-2], arrays[0])
    np.testing.assert_array_equal(found.images[30:, 2, 2:-2, 2:-2], arrays[2])
    assert found.labels.tolist() == (arrays[1].tolist() + arrays[3].tolist())


def test_fashion_has_a_black_border_of_two_pixels(folder):
    write_fashion(folder / "FashionMNIST/raw")
    images = data.load("fashion-mnist").images.clone()
    assert images.shape == (50, 3, 32, 32)
    images[:, :, 2:-2, 2:-2] = 0
    assert int(images.sum()) == 0


def test_every_class_of_fashion_is_novel():
    assert data.split("fashion-mnist") == Split(novel=tuple(range(10)))


@pytest.mark.parametrize(
    "damage", [lambda c: c[:-1], lambda c: c + b"x", lambda c: b"", lambda c: b"\0\0\x0d" + c[3:]]
)
def test_a_damaged_idx_file_is_refused(tmp_path, damage):
    (tmp_path / "x").write_bytes(damage(idx(noise(3, 4, 4))))
    with pytest.raises(UserError, match="damaged or no idx file"):
        archives.read_idx(tmp_path / "x")


@pytest.mark.parametrize("cut", [-9, 5])
def test_a_truncated_gz_file_is_refused(tmp_path, cut):
    (tmp_path / "x.gz").write_bytes(gzip.compress(idx(noise(3, 4, 4)))[:cut])
    with pytest.raises(UserError, match="cannot be read"):
        archives.read_idx(tmp_path / "x.gz")


@pytest.mark.skipif(
    not archives.FASHION_SHARED.is_dir(), reason="Debian's dataset-fashion-mnist is not installed"
)
def test_the_real_fashion_images_are_read():
    found = data.load("fashion-mnist", "full")
    assert torch.bincount(found.labels[~found.held_out]).tolist() == [6000] * 10
    assert torch.bincount(found.labels[found.held_out]).tolist() == [1000] * 10
    assert found.labels[:5].tolist() == [9, 0, 0, 3, 0]  # as printed in many a tutorial
    mean = found.images[:60000, 0, 2:-2, 2:-2].double().mean() / 255
    assert abs(float(mean) - 0.2860) < 5e-5  # the well-known mean of the training images


# --- flowers --------------------------------------------------------------------------------------


@pytest.fixture
def flowers(folder, monkeypatch):
    """The format of Oxford's flowers with 6 pictures a class, numbered round robin."""
    from scipy.io import savemat

    place = folder / "flowers-102"
    (place / "jpg").mkdir(parents=True)
    labels = np.tile(np.arange(1, 103), 6)
    for i, label in enumerate(labels.tolist(), 1):
        colour = Image.new("RGB", (12, 10), (label, 2 * label, 0))
        colour.save(place / "jpg" / f"image_{i:05d}.jpg", quality=95)
    savemat(place / "imagelabels.mat", {"labels": labels[None].astype(np.uint8)})
    found = md5((place / "imagelabels.mat").read_bytes())
    monkeypatch.setattr(listing, "FLOWERS_MD5", found)
    return labels


def test_flowers_have_the_labels_of_their_numbers(flowers):
    found = data.load("flowers102@8")
    assert (found.labels + 1).tolist() == flowers.tolist()
    mean = found.images.double().mean((2, 3))
    torch.testing.assert_close(mean[:, 0], torch.from_numpy(flowers).double(), atol=4, rtol=0)


def test_every_sixth_flower_of_a_class_is_held_out(flowers):
    assert data.load("flowers102@8").held_out.nonzero()[:, 0].tolist() == list(range(510, 612))


def test_flowers_have_84_pixels_by_default(flowers):
    assert data.load("flowers102").images.shape[2:] == (84, 84)


def test_flowers_are_dealt_64_16_and_22():
    split = data.split("flowers102", 3)
    assert [len(part) for part in (split.base, split.open_world, split.novel)] == [64, 16, 22]
    assert sorted(split.base + split.open_world + split.novel) == list(range(102))
    assert split == data.split("flowers102", 3) != data.split("flowers102", 4)


def test_other_labels_of_flowers_are_refused(flowers, folder):
    (folder / "flowers-102" / "imagelabels.mat").write_bytes(b"other")
    with pytest.raises(UserError, match="its md5 is"):
        data.load("flowers102")


# --- folders --------------------------------------------------------------------------------------


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def write_folder(root, classes, count=6, size=(9, 9)):
    """PNGs of noise; returns them by class and number."""
    return {
        c: [save(root / c / f"{i:02d}.png", a) or a for i, a in enumerate(arrays)]
        for c, arrays in ((c, noise(count, *size, 3, seed=n)) for n, c in enumerate(classes))
    }


def test_a_folder_of_folders_is_a_dataset(folder):
    arrays = write_folder(folder / "birds", "fedcba", 7)
    found = data.load("folder:birds")
    assert found.classes == tuple("abcdef")
    for c, name in enumerate(found.classes):
        images = found.images[found.labels == c].permute(0, 2, 3, 1)
        np.testing.assert_array_equal(images, np.stack(arrays[name]))


def test_an_absolute_path_needs_no_data_folder(tmp_path):
    write_folder(tmp_path / "x", "abcdef")
    assert len(data.load(f"folder:{tmp_path / 'x'}").labels) == 36


def test_every_sixth_picture_of_a_class_is_held_out(folder):
    write_folder(folder / "x", "abcdef", 13)
    held = data.load("folder:x").held_out.view(6, 13)
    assert held[2].nonzero()[:, 0].tolist() == [5, 11]
    assert (held == held[2]).all()


def test_a_class_of_five_pictures_is_refused(folder):
    write_folder(folder / "x", "abcdef", 5)
    with pytest.raises(UserError, match=r"Class 'a' .* has 5 different pictures; at least 6"):
        data.load("folder:x")


@pytest.mark.parametrize(("count", "sizes"), [(6, (2, 2, 2)), (10, (6, 2, 2)), (50, (32, 8, 10))])
def test_classes_of_a_folder_are_dealt_in_proportion(folder, count, sizes):
    for i in range(count):
        (folder / "x" / f"{i:02d}").mkdir(parents=True)
    split = data.split("folder:x", 1)
    assert tuple(map(len, (split.base, split.open_world, split.novel))) == sizes
    assert sorted(split.base + split.open_world + split.novel) == list(range(count))


def test_five_classes_are_too_few_to_deal(folder):
    for i in range(5):
        (folder / "x" / str(i)).mkdir(parents=True)
    with pytest.raises(UserError, match="5 classes; at least 6"):
        data.split("folder:x")


@pytest.mark.parametrize("names", [("train", "val", "test"), ("base", "open-world", "novel")])
@pytest.mark.parametrize("dataset", ["mini-imagenet:x", "folder:x"])
def test_three_parts_are_the_three_roles(folder, names, dataset):
    for part, classes in zip(names, ("zy", "b", "da"), strict=True):
        write_folder(folder / "x" / part, classes)
    assert data.load(dataset + "@9").classes == ("y", "z", "b", "a", "d")
    assert data.split(dataset, 9) == Split((0, 1), (2,), (3, 4))


def test_a_class_in_two_parts_is_refused(folder):
    for part in ("train", "val", "test"):
        write_folder(folder / "x" / part, part[0] + "s")
    with pytest.raises(UserError, match="'s' of folder:x is in more than one"):
        data.split("folder:x")


def test_train_and_val_alone_are_not_taken_for_classes(folder):
    for part in ("train", "val"):
        write_folder(folder / "x" / part, "abcdef")
    with pytest.raises(
        UserError, match=f"train and val, but .* Name one of them.*{folder}/x/train"
    ):
        data.load("folder:x")


def test_an_empty_class_is_refused_by_its_name(folder):
    write_folder(folder / "x", "abcdef")
    (folder / "x" / "nothing").mkdir()
    with pytest.raises(UserError, match=r"class folder .*nothing holds no pictures"):
        data.load("folder:x")


@pytest.mark.parametrize("dataset", ["folder:x", "mini-imagenet:x"])
def test_a_folder_without_pictures_is_refused(folder, dataset):
    (folder / "x").mkdir()
    with pytest.raises(UserError, match=r"neither train.csv"):
        data.load(dataset)


def test_parts_without_classes_are_refused(folder):
    for part in ("train", "val", "test"):
        (folder / "x" / part).mkdir(parents=True)
    with pytest.raises(UserError, match="x holds no class folders"):
        data.load("folder:x")


def test_hidden_and_other_files_are_passed_over(folder):
    write_folder(folder / "x", "abcdef")
    (folder / "x" / ".git").mkdir()
    for name in ("._00.png", ".hidden.jpg", "notes.txt", "Thumbs.db"):
        (folder / "x" / "a" / name).write_bytes(b"no picture")
    found = data.load("folder:x")
    assert (len(found.classes), len(found.labels), found.skipped) == (6, 36, ())


@pytest.mark.parametrize("denied", ["x", "x/b", "x/b/deep"])
def test_a_folder_that_may_not_be_read_is_not_called_empty(folder, denied, monkeypatch):
    write_folder(folder / "x", "abcdef")
    (folder / "x" / "b" / "deep").mkdir()
    scan = os.scandir

    def scandir(path):  # the tests may run as root, whom no permission stops
        if os.fspath(path) == str(folder / denied):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UserError, match=f"{folder / denied} cannot be read \\(Permission denied"):
        data.load("folder:x")


def test_copies_take_the_side_of_the_first(folder):
    write_folder(folder / "x", "abcdef", 12)
    for old, new in (("a/05", "a/12"), ("a/00", "a/13"), ("b/05", "c/12"), ("b/00", "c/13")):
        shutil.copy(folder / "x" / f"{old}.png", folder / "x" / f"{new}.png")
    found = data.load("folder:x")
    held = {
        name: found.held_out[found.labels == i].nonzero()[:, 0].tolist()
        for i, name in enumerate("abcdef")
    }
    assert held == {c: [5, 11, 12] if c in "ac" else [5, 11] for c in "abcdef"}


def test_copies_are_not_counted_where_six_are_needed(folder):
    write_folder(folder / "x", "abcdef")
    shutil.copy(folder / "x/b/00.png", folder / "x/b/05.png")
    with pytest.raises(UserError, match=r"Class 'b' .* has 5 different pictures"):
        data.load("folder:x")


def test_files_of_one_size_and_end_are_told_apart_by_their_bytes(folder):
    contents = [b"a" * 9000, b"b" + b"a" * 8999, b"a" * 9000, b"", b"", b"a" * 8999 + b"b"]
    for i, content in enumerate(contents):
        (folder / str(i)).write_bytes(content)
    paths = [folder / str(i) for i in range(7)]  # the last is not there
    assert data.copies.alike(paths) == [[0, 2]]


def test_official_sets_keep_their_copies(flowers, capsys):
    data.load("flowers102@8")  # its pictures are six times the same
    assert capsys.readouterr().err == ""


def test_endings_may_be_in_capitals_and_folders_nested(folder):
    write_folder(folder / "x", "abcdef")
    (folder / "x" / "a" / "00.png").rename(folder / "x" / "a" / "00.PNG")
    save(folder / "x" / "a" / "deep" / "er.png", noise(9, 9, 3))
    assert torch.bincount(data.load("folder:x").labels).tolist() == [7, 6, 6, 6, 6, 6]


def test_of_links_to_one_folder_the_first_by_name_counts(folder, tmp_path):
    write_folder(folder / "x", "abcdef")
    save(tmp_path / "real" / "er.png", noise(9, 9, 3))
    for name in ("m", "b", "z", "k"):
        (folder / "x" / "a" / name).symlink_to(tmp_path / "real")
    found = data.listing.listing(data.Dataset.parse("folder:x")).names
    assert [name for name in found if "er.png" in name] == ["a/b/er.png"]


def test_pictures_of_different_sizes_need_a_size(folder):
    write_folder(folder / "x", "abcdef")
    save(folder / "x" / "c" / "wide.png", noise(9, 14, 3))
    with pytest.raises(UserError, match=r"different sizes .*9x9, c/wide.png: 9x14.*@84"):
        data.load("folder:x")
    assert data.load("folder:x@12").images.shape == (37, 3, 12, 12)


def write_csv(root, part, lines, head="filename,label"):
    (root / f"{part}.csv").write_text("\n".join([head, *lines]) + "\n")


def test_csv_files_name_pictures_and_classes(folder):
    root = folder / "mini-imagenet"
    arrays = write_folder(root / "images", ["all"], 18, (84, 84))["all"]
    for n, (part, label) in enumerate({"train": "n02", "val": "n03", "test": "n01"}.items()):
        write_csv(root, part, [f"all/{i:02d}.png,{label}" for i in range(6 * n, 6 * n + 6)])
    found = data.load("mini-imagenet")
    assert found.classes == ("n02", "n03", "n01")
    np.testing.assert_array_equal(found.images.permute(0, 2, 3, 1), np.stack(arrays))
    assert found.held_out.nonzero()[:, 0].tolist() == [5, 11, 17]
    assert data.split("mini-imagenet") == Split((0,), (1,), (2,))


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/passwd", "a/../../x.png", "C:/x.png", "..\\x.png"]
)
def test_a_csv_cannot_name_files_elsewhere(folder, name):
    root = folder / "x"
    root.mkdir()
    for part in ("train", "val", "test"):
        write_csv(root, part, [f"{name},{part}"])
    with pytest.raises(UserError, match="outside"):
        data.load("folder:x")


@pytest.mark.parametrize(("head", "line"), [("file,label", "a,b"), ("filename,label", "a")])
def test_a_csv_of_another_form_is_refused(folder, head, line):
    (folder / "x").mkdir()
    for part in ("train", "val", "test"):
        write_csv(folder / "x", part, [line], head)
    with pytest.raises(UserError, match="'filename,label' under a first line"):
        data.split("folder:x")


def test_describe_and_tasks_work_for_folders(folder):
    write_folder(folder / "x", map(str, range(10)), 12)
    found, split = data.load("folder:x"), data.split("folder:x")
    assert list(data.describe(found, split).values()) == [120, 20, 6, 2, 2]
    episode = data.Task(2, 5).draw(found, split.novel)
    assert (len(episode.train[1]), len(episode.test[1])) == (10, 4)


DOCS = Path(__file__).parent.parent / "docs" / "data.md"


@pytest.mark.parametrize(("classes", "role"), [(23, "novel"), (29, "open_world")])
def test_the_documents_say_how_many_classes_5_way_tasks_need(folder, classes, role):
    for count in (classes - 1, classes):
        for i in range(count):
            (folder / str(count) / f"{i:02d}").mkdir(parents=True)
        split = data.split(f"folder:{count}")
        assert (len(getattr(split, role)) >= 5) == (count == classes)
    assert f"{classes}\nclasses" in DOCS.read_text() or f"{classes} classes" in DOCS.read_text()


def test_too_many_ways_are_told_with_the_classes_that_there_are(folder):
    told = (
        "A 5-way task was asked for, but there are 2 classes to draw from. Use fewer ways, or bring"
    )
    with pytest.raises(UserError, match=told):
        data.Task().draw(data.load("digits"), (3, 4))


def test_a_task_of_one_way_is_refused():
    with pytest.raises(UserError, match=r"n_way 1 .*2 ways are the least"):
        data.Task(n_way=1).draw(data.load("digits"), (3, 4))


def test_what_is_exported_can_be_loaded_again(folder):
    digits = data.load("digits")
    data.export(digits, folder / "x", tuple(range(10)), per_class=6)
    again = data.load("folder:x")
    first = (digits.labels == 4).nonzero()[:6, 0]
    assert torch.equal(again.images[again.labels == 4], digits.images[first])


# --- decoding -------------------------------------------------------------------------------------


def rgb(tmp_path, image, name="x.png", **options):
    image.save(tmp_path / name, **options)
    return data.decode.decode(tmp_path / name).permute(1, 2, 0).numpy()


def test_grey_pictures_get_three_equal_channels(tmp_path):
    grey = noise(5, 7)
    np.testing.assert_array_equal(rgb(tmp_path, Image.fromarray(grey)), np.stack([grey] * 3, 2))


def test_16_bit_grey_is_scaled_to_8(tmp_path):
    levels = np.array([[0, 257, 65535], [128, 129, 32896]], np.uint16)
    found = rgb(tmp_path, Image.fromarray(levels))[:, :, 0]
    assert found.tolist() == [[0, 1, 255], [0, 1, 128]]


def test_palette_pictures_get_their_colours(tmp_path):
    image = Image.new("P", (3, 2))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    found = rgb(tmp_path, image)
    assert (found[0, 1].tolist(), found[1, 2].tolist()) == ([40, 50, 60], [10, 20, 30])


@pytest.mark.parametrize(
    ("alpha", "seen"), [(255, [10, 20, 30]), (0, [255] * 3), (51, [206, 208, 210])]
)
def test_transparent_parts_become_white(tmp_path, alpha, seen):
    found = rgb(tmp_path, Image.new("RGBA", (2, 2), (10, 20, 30, alpha)))
    assert found[1, 1].tolist() == seen


def test_the_orientation_of_the_camera_is_applied(tmp_path):
    pixels = noise(4, 6, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to see it upright
    found = rgb(tmp_path, Image.fromarray(pixels), exif=exif)
    np.testing.assert_array_equal(found, np.rot90(pixels, -1))


def test_turned_pictures_have_a_common_size(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    write_folder(folder / "x", "abcdef", 6, (8, 10))
    Image.fromarray(noise(10, 8, 3)).save(folder / "x" / "a" / "turned.png", exif=exif)
    assert data.load("folder:x").images.shape == (37, 3, 8, 10)


@pytest.mark.parametrize(("height", "width"), [(40, 40), (60, 40), (40, 70), (12, 90)])
def test_scaling_equals_torchvisions_resize_of_the_middle(height, width):
    image = torch.from_numpy(noise(3, height, width))
    side = min(height, width)
    expected = tv.resize(tv.center_crop(image, [side, side]), [24, 24], antialias=True)
    torch.testing.assert_close(data.decode.fitted(image, 24), expected, atol=1, rtol=0)


# --- damage ---------------------------------------------------------------------------------------


def truncate(path):
    path.write_bytes(path.read_bytes()[:-40])


DAMAGE = {
    "truncated": truncate,
    "empty": lambda path: path.write_bytes(b""),
    "no picture": lambda path: path.write_bytes(b"hello"),
    "header only": lambda path: path.write_bytes(path.read_bytes()[:30]),
    "absent": lambda path: path.unlink() or path.symlink_to("nowhere"),
}


@pytest.fixture
def hundreds(folder):
    """210 pictures in six classes, in the folder x."""
    return write_folder(folder / "x", "abcdef", 35)


@pytest.mark.parametrize("damage", DAMAGE)
def test_an_unreadable_picture_is_left_out_and_named(hundreds, folder, damage, capsys):
    DAMAGE[damage](folder / "x" / "b" / "03.png")
    found = data.load("folder:x")
    assert (found.skipped, len(found.images), len(found.labels)) == (("b/03.png",), 209, 209)
    assert "1 of 210 pictures of folder:x cannot be read: b/03.png" in capsys.readouterr().err


def test_the_others_keep_their_roles(hundreds, folder):
    whole = data.load("folder:x")
    truncate(folder / "x" / "b" / "03.png")
    found, keep = data.load("folder:x"), torch.arange(210) != 38
    for part in ("images", "labels", "held_out"):
        assert torch.equal(getattr(found, part), getattr(whole, part)[keep])


def test_more_than_one_percent_of_unreadable_pictures_is_an_error(hundreds, folder):
    for i in range(3):
        truncate(folder / "x" / "b" / f"{i:02d}.png")
    with pytest.raises(UserError, match=r"3 of 210 .*b/00.png .*b/01.png .*more than 1%"):
        data.load("folder:x")


def test_odd_metadata_is_no_damage(hundreds, folder, capsys):
    path = folder / "x" / "a" / "00.png"
    Image.open(path).save(path, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x09nonsense")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert data.load("folder:x").skipped == ()
    assert capsys.readouterr().err == ""


# --- downloads ------------------------------------------------------------------------------------


class Site(http.server.ThreadingHTTPServer):
    """A server of some files that can refuse ranges and cut connections."""

    daemon_threads = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.content, self.ranges, self.cuts, self.asked = {}, True, [], []

    def remote(self, name, content, unpack=None, **options):
        self.content["/" + name] = content
        options = {"md5": md5(content), "path": name, "unpack": unpack, **options}
        return fetch.Remote(f"http://127.0.0.1:{self.server_port}/{name}", **options)


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        content, wanted = self.server.content.get(self.path), self.headers.get("Range")
        self.server.asked.append(wanted)
        if content is None:
            self.send_error(404)
            return
        start = int(wanted[6:-1]) if wanted and self.server.ranges else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:]
        self.wfile.write(body[: self.server.cuts.pop(0)] if self.server.cuts else body)

    def log_message(self, *args):
        pass


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


CONTENT = bytes(noise(50_000))


def test_a_file_is_fetched_into_its_place(site, folder):
    path = fetch.fetch(site.remote("a.bin", CONTENT, path="deep/er.bin"), folder, False)
    assert path == folder / "deep" / "er.bin"
    assert path.read_bytes() == CONTENT
    assert os.listdir(path.parent) == ["er.bin"]


def test_a_file_that_is_there_is_not_fetched_again(site, folder):
    (folder / "a.bin").write_bytes(CONTENT)
    fetch.fetch(site.remote("a.bin", CONTENT), folder, False)
    assert site.asked == []


def test_a_wrong_file_that_is_there_is_fetched_again(site, folder):
    (folder / "a.bin").write_bytes(b"wrong")
    assert fetch.fetch(site.remote("a.bin", CONTENT), folder, False).read_bytes() == CONTENT


def test_a_download_goes_on_where_it_stopped(site, folder):
    (folder / "a.bin.part").write_bytes(CONTENT[:20_000])
    assert fetch.fetch(site.remote("a.bin", CONTENT), folder, False).read_bytes() == CONTENT
    assert site.asked == ["bytes=20000-"]


def test_a_complete_part_is_taken_as_it_is(site, folder):
    (folder / "a.bin.part").write_bytes(CONTENT)
    assert fetch.fetch(site.remote("a.bin", CONTENT), folder, False).read_bytes() == CONTENT


def test_a_cut_connection_is_taken_up_again(site, folder):
    site.cuts = [10_000, 5_000]
    assert fetch.fetch(site.remote("a.bin", CONTENT), folder, False).read_bytes() == CONTENT
    assert site.asked == [None, "bytes=10000-", "bytes=15000-"]


class Line(io.BytesIO):
    """A response that breaks once, after some bytes; without a length it must be believed when it ends."""

    status = 200

    def __init__(self, content, error, length):
        super().__init__(content)
        self.error = error
        self.headers = {"Content-Length": str(length)} if length else {}

    def read(self, size=-1):
        block = super().read(10_000)
        if not block and self.error:
            raise self.error
        return block


CUTS = {
    "reset": ConnectionResetError(104, "Connection reset by peer"),
    "silence": TimeoutError("The read operation timed out"),
    "tls": ssl.SSLEOFError(8, "EOF occurred in violation of protocol"),
    "route": OSError(113, "No route to host"),
    "chunk": http.client.IncompleteRead(b""),
    "header": http.client.LineTooLong("chunk size"),
}


@pytest.mark.parametrize("told", [True, False], ids=["length", "no length"])
@pytest.mark.parametrize("cut", CUTS)
def test_whatever_cuts_a_connection_it_is_taken_up_again(folder, monkeypatch, cut, told):
    asked, length = [], len(CONTENT) if told else None

    def urlopen(request, timeout):
        asked.append(request.get_header("Range"))
        whole = len(asked) > 1
        return Line(CONTENT if whole else CONTENT[:20_000], None if whole else CUTS[cut], length)

    monkeypatch.setattr(fetch.urllib.request, "urlopen", urlopen)
    remote = fetch.Remote("https://nowhere.org/a.bin", md5(CONTENT), "a.bin")
    assert fetch.fetch(remote, folder, False).read_bytes() == CONTENT
    assert asked == [None, "bytes=20000-"]


def test_without_ranges_it_starts_from_the_beginning(site, folder):
    site.ranges, site.cuts = False, [10_000]
    assert fetch.fetch(site.remote("a.bin", CONTENT), folder, False).read_bytes() == CONTENT


def test_a_line_that_is_always_cut_is_told_and_its_part_kept(site, folder):
    site.cuts = [1000] * fetch.TRIES
    remote = site.remote("a.bin", CONTENT)
    with pytest.raises(UserError, match=r"cut 4 times; 4,000 bytes are here"):
        fetch.fetch(remote, folder, False)
    assert not (folder / "a.bin").exists()
    assert fetch.fetch(remote, folder, False).read_bytes() == CONTENT


def test_wrong_bytes_never_get_their_name(site, folder):
    remote = site.remote("a.bin", CONTENT, md5=md5(b"other"))
    with pytest.raises(UserError, match=f"md5 {md5(CONTENT)}, {md5(b'other')} is expected"):
        fetch.fetch(remote, folder, False)
    assert os.listdir(folder) == []


def test_a_missing_address_is_told_with_its_number(site, folder):
    remote = site.remote("a.bin", CONTENT)
    site.content.clear()
    with pytest.raises(UserError, match=r"a.bin answered 404 \(Not Found\)"):
        fetch.fetch(remote, folder, False)


def test_no_network_is_told(folder, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    remote = fetch.Remote("http://127.0.0.1:1/a.bin", "", "a.bin")
    with pytest.raises(UserError, match=r"a.bin cannot be reached .*Is there a network"):
        fetch.fetch(remote, folder, False)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_told(site, folder):
    (folder / "a.bin.part").symlink_to("/dev/full")
    with pytest.raises(UserError, match="The disk is full"):
        fetch.fetch(site.remote("a.bin", CONTENT), folder, False)


def tar(**members):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def test_an_archive_is_unpacked_beside_itself(site, folder):
    remote = site.remote("a.tgz", tar(**{"in/a": b"1", "in/deep/b": b"2", "c": b"3"}), "set")
    fetch.fetch(remote, folder, False)
    found = {p.relative_to(folder / "set").as_posix() for p in (folder / "set").rglob("*")}
    assert found == {"in", "in/a", "in/deep", "in/deep/b", "c"}
    assert (folder / "set" / "in" / "deep" / "b").read_bytes() == b"2"


@pytest.mark.parametrize("name", ["../evil", "in/../../evil"])
def test_no_path_of_an_archive_leaves_the_folder(site, folder, name):
    with pytest.raises(UserError, match="outside"):
        fetch.fetch(site.remote("a.tgz", tar(**{"good": b"1", name: b"2"}), "set"), folder, False)
    assert {p.name for p in folder.parent.rglob("*")} == {"data", "a.tgz", "set"}


@pytest.mark.parametrize("damage", [lambda c: c[:-30], lambda c: b"no archive"])
def test_a_damaged_archive_is_refused_whole(tmp_path, damage):
    (tmp_path / "a.tgz").write_bytes(damage(tar(a=bytes(noise(5000)), b=b"2")))
    with pytest.raises(UserError, match="was not unpacked"):
        fetch.unpack(tmp_path / "a.tgz", tmp_path / "set")
    assert os.listdir(tmp_path / "set") == []


def test_cifar_is_fetched_unpacked_and_read(cifar, site, folder, monkeypatch):
    before = data.load("cifar100")
    parts = {f"cifar-100-python/{p.name}": p.read_bytes() for p in folder.glob("cifar*/*")}
    shutil.rmtree(folder)
    remote = site.remote("cifar.tar.gz", tar(**parts), ".")
    monkeypatch.setattr(fetch, "remotes", lambda name: (remote,))
    assert data.download("cifar100", progress=False) == folder
    assert torch.equal(data.load("cifar100").images, before.images)


@pytest.mark.parametrize("name", data.NAMES)
def test_what_cannot_be_fetched_says_so(name, monkeypatch):
    monkeypatch.setattr(fetch, "fetch", lambda *args: None)
    if name in ("cifar100", "fashion-mnist", "flowers102"):
        data.download(name)
    else:
        with pytest.raises(UserError, match=r"cannot be fetched; cifar100, fashion-mnist"):
            data.download("folder:x" if name == "folder" else name)


def test_every_official_file_has_a_checksum_and_stays_in_its_folder():
    for name in ("cifar100", "fashion-mnist", "flowers102"):
        for remote in fetch.remotes(name):
            assert len(bytes.fromhex(remote.md5)) == 16
            assert remote.url.startswith("http")
            assert ".." not in remote.path
            assert remote.url.rsplit("/", 1)[1] == Path(remote.path).name


def test_the_checksums_of_unpacked_files_are_torchvisions():
    cifar, flowers = datasets.CIFAR100, datasets.Flowers102
    known = dict(cifar.train_list + cifar.test_list) | {"meta": cifar.meta["md5"]}
    assert (known, cifar.base_folder) == (archives.CIFAR_MD5, archives.CIFAR_FOLDER)
    assert flowers._file_dict["label"] == (listing.FLOWERS_LABELS, listing.FLOWERS_MD5)


def test_torchvision_is_imported_only_when_it_is_needed():
    code = "import sys, lgutils.data; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_large_sets_stay_files(hundreds, monkeypatch):
    monkeypatch.setattr(settle, "LIMIT", 210 * 3 * 81 - 1)
    assert isinstance(data.load("folder:x").images, data.Pictures)
    monkeypatch.setattr(settle, "LIMIT", 210 * 3 * 81)
    assert isinstance(data.load("folder:x").images, torch.Tensor)
