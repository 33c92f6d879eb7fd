"""What people report of tools like this one, a row each: named by what the user did."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from lgutils import data, train
from lgutils.errors import UserError


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


# --- devices --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["meta", "hpu", "cuda:99"])
def test_a_device_was_named_that_is_not_there(name):
    with pytest.raises(UserError, match=f"Device '{name}' was asked for, but torch"):
        train.device(name)
