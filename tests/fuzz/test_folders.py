"""Folders of pictures as people have them: odd names, odd files, cut pictures, tables that name others."""

import io
import os
import shutil
import struct
import zlib

import numpy as np
import pytest
from damage import bytes_damage, changes, dumped
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from yard import share

from lgutils import data
from lgutils.data import settle

NAMES = st.one_of(
    st.sampled_from(
        [".hidden", "@eaDir", "__MACOSX", ".ipynb_checkpoints", "Ω", "a b", "\udcff", "x" * 250, "-", "a@64", "1,2",
         "base", "train", "con", "a\nb", "%s", "0.png.png", "picture.PNG", "x.webp", "x.npy", "x.txt"]
    ),
    st.text(st.characters(exclude_characters="/\x00", exclude_categories=()), min_size=1, max_size=9),
)  # fmt: skip
FORMS = (
    "picture", "grey", "palette", "16 bit", "float", "cmyk", "transparent", "gif", "jpeg", "empty", "text", "bomb", "tiny",
    "thin", "folder", "link", "loop", "dangling", "fifo", "big chunk", "exif",
)  # fmt: skip


def _saved(image: Image.Image, form: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _bomb(width: int, height: int) -> bytes:
    """A PNG whose header promises very much."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99)))


def picture(name: str) -> bytes:
    """A PNG of 8x8 pixels; every name has its own."""
    random = np.random.default_rng(list(name.encode()))
    return _saved(Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)))


@pytest.fixture(scope="session")
def odd_pictures():
    """Form -> bytes."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    deep = Image.fromarray(pixels[:, :, 0].astype(np.int32) * 256)
    exif = Image.Exif()
    exif[0x0112] = 6
    found = {
        "picture": _saved(image), "grey": _saved(image.convert("L")), "palette": _saved(image.convert("P")),
        "16 bit": _saved(deep.convert("I;16")), "float": _saved(image.convert("F"), "TIFF"),
        "cmyk": _saved(image.convert("CMYK"), "JPEG"), "transparent": _saved(image.convert("RGBA")),
        "gif": _saved(image, "GIF", save_all=True, append_images=[image]), "jpeg": _saved(image, "JPEG"),
        "empty": b"", "text": b"no picture", "bomb": _bomb(60000, 60000), "tiny": _saved(image.crop((0, 0, 1, 1))),
        "thin": _bomb(2**31 - 1, 1), "big chunk": _saved(image)[:30] + b"\xff" * 9,
        "exif": _saved(image, "JPEG", exif=exif),
    }  # fmt: skip
    return Silent(found)


class Silent(dict):
    def __repr__(self) -> str:
        return "..."


@pytest.fixture(scope="session")
def album(tmp_path_factory, odd_pictures):
    """Six classes of six pictures, to copy."""
    whole = tmp_path_factory.mktemp("album") / "whole"
    for c in "abcdef":
        (whole / c).mkdir(parents=True)
        for i in range(6):
            (whole / c / f"{i}.png").write_bytes(picture(f"{c}{i}"))
    return whole


def fresh(whole):
    place = whole.with_name("case")
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(whole, place)
    return place


def put(place, where, name, form, odd_pictures, damage):
    """Lay something odd into a folder; what the file system does not take is left out."""
    path = place / where / name
    try:
        if os.path.lexists(path):  # a pipe would be waited for
            return
        if form == "folder":
            path.mkdir()
            (path / "0.png").write_bytes(odd_pictures["picture"])
        elif form in ("link", "loop", "dangling"):
            path.symlink_to(
                {"link": place / "a" / "0.png", "loop": place, "dangling": "nowhere"}[form]
            )
        elif form == "fifo":
            os.mkfifo(path)
        else:
            content = odd_pictures[form]
            path.write_bytes(damage(content) if damage else content)
    except OSError:
        pass


def load(place, pixels, size="full"):
    name = f"folder:{place}" + (f"@{pixels}" if pixels else "")
    found, split = data.load(name, size), data.split(name)
    assert len(found.images) == len(found.labels) == len(found.held_out)
    assert sum(map(len, (split.base, split.open_world, split.novel))) == len(found.classes)
    data.describe(found, split)
    return found


ODD = st.tuples(
    st.sampled_from(["", "a", "b", "c"]), NAMES, st.sampled_from(FORMS), st.one_of(st.none(), bytes_damage())
)  # fmt: skip


@settings(max_examples=share(0.1))
@given(
    things=st.lists(ODD, min_size=1, max_size=3),
    pixels=st.sampled_from([None, 8, 16]),
    lazy=st.booleans(),
)
@example(things=[("a", "x.png", "fifo", None)], pixels=None, lazy=False).via("a pipe")
@example(things=[("b", "x", "loop", None), ("b", "y", "loop", None)], pixels=None, lazy=False).via(
    "circles"
)
def test_odd_things_in_folders(album, odd_pictures, figures, own_limit, things, pixels, lazy):
    place = fresh(album)
    for where, name, form, damage in things:
        put(place, where, name, form, odd_pictures, damage)
    own_limit(0 if lazy else settle.LIMIT)
    before = sorted(os.listdir(place))
    figures.reader(lambda: load(place, pixels), (things, pixels, lazy))
    assert sorted(os.listdir(place)) == before


@pytest.fixture(scope="module")
def own_limit(tmp_path_factory):
    """Sets from how many bytes on pictures stay files; with a cache of its own."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("LGUTILS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield lambda limit: monkeypatch.setattr(settle, "LIMIT", limit)


@settings(max_examples=share(0.03))
@given(form=st.sampled_from(["picture", "jpeg", "gif", "palette", "16 bit"]), damage=bytes_damage(),
       pixels=st.sampled_from([None, 8]), every=st.booleans())  # fmt: skip
def test_damaged_pictures(album, odd_pictures, figures, form, damage, pixels, every):
    place, content = fresh(album), damage(odd_pictures[form])
    for c in "abcdef" if every else "a":
        (place / c / "0.png").write_bytes(content)
    figures.reader(lambda: load(place, pixels), (form, damage, pixels, every))


@settings(max_examples=share(0.03))
@given(change=changes(), damage=st.one_of(st.none(), bytes_damage()))
def test_odd_notes_about_unreadable_pictures(
    album, figures, own_limit, tmp_path_factory, change, damage
):
    place, case = fresh(album), (change, damage)
    (place / "a" / "0.png").write_bytes(b"")
    for i in range(70):
        shutil.copy(place / "a" / "1.png", place / "b" / f"more {i}.png")
    own_limit(0)
    first = load(place, 8)
    cache = data.names.files.cache_dir()
    notes = sorted(cache.glob("unreadable-*.json"), key=os.path.getmtime)
    content = dumped(change({"0": "why", "1": "because"}))
    notes[-1].write_bytes(damage(content) if damage else content)
    figures.reader(lambda: load(place, 8), case)
    notes[-1].unlink(missing_ok=True)
    assert len(first.images)


TABLE = "filename,label\n" + "".join(f"{c}{i}.png,{c}\n" for c in "abc" for i in range(6))


@settings(max_examples=share(0.03))
@given(
    line=st.one_of(
        st.none(), st.sampled_from(["../a.png,a", "/etc/passwd,a", "a0.png", ",", "a0.png,a,b", '"', "a0.png,\x00", "x" * 200000 + ",a",
                                    "C:\\x.png,a", "nowhere.png,a", "a0.png,b", "Ω.png,\udcff"]), st.text(max_size=20),
    ),
    damage=st.one_of(st.none(), bytes_damage()),
)  # fmt: skip
def test_odd_tables_of_pictures(album, figures, line, damage):
    place = fresh(album)
    (place / "images").mkdir()
    for part, shift in (("train", 0), ("val", 3), ("test", 6)):
        letters = str.maketrans("abc", "abcdefghi"[shift : shift + 3])
        table = "".join(
            x.translate(letters) if "," in x and ".png" in x else x for x in TABLE.splitlines(True)
        )
        for name, _ in (x.split(",") for x in table.splitlines()[1:]):
            (place / "images" / name).write_bytes(picture(name))
        content = (table + (f"{line}\n" if line is not None and part == "val" else "")).encode(
            "utf-8", "surrogatepass"
        )
        (place / f"{part}.csv").write_bytes(
            damage(content) if damage and part == "val" else content
        )
    figures.reader(lambda: load(place, 8), (line, damage))
