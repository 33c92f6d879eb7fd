"""Facts about the embedded dataset."""

import hashlib
from itertools import islice
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.ft2font import FT2Font
from scipy import ndimage

from lgutils import glyphs

# The first 4 images of every class, seed 0.
FIRST_IMAGES = "6a6dac6e4ab2cd3ba79aff0a1fafcd9a2fbaf95a8a01e04bec2015ccb949e5c9"


@pytest.fixture(scope="module")
def first_images() -> np.ndarray:
    return np.stack(list(glyphs.render(4)))


def first_class(per_class: int, seed: int = 0) -> np.ndarray:
    return next(glyphs.render(per_class, seed))


def test_the_first_images_are_the_known_bytes(first_images):
    assert hashlib.sha256(first_images.tobytes()).hexdigest() == FIRST_IMAGES


def test_the_quick_set_begins_with_the_known_bytes(quick_glyphs):
    first = quick_glyphs.images.unflatten(0, (100, 240))[:, :4].contiguous().numpy()
    assert hashlib.sha256(first.tobytes()).hexdigest() == FIRST_IMAGES


def test_there_are_a_hundred_distinct_characters():
    assert len(glyphs.CHARACTERS) == len(set(glyphs.CHARACTERS)) == 100


def test_class_names_are_the_characters_in_order():
    assert glyphs.class_names() == tuple(glyphs.CHARACTERS)


def test_the_faces_are_distinct():
    assert len(set(glyphs.FACES)) == len(glyphs.FACES) == 16


@pytest.mark.parametrize("face", glyphs.FACES)
def test_a_face_has_every_character(face):
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    charmap = FT2Font(str(folder / f"{face}.ttf")).get_charmap()
    assert {c for c in glyphs.CHARACTERS if ord(c) not in charmap} == set()


def test_a_class_is_drawn_as_uint8_rgb_of_32_pixels(first_images):
    assert (first_images.dtype, first_images.shape) == (np.uint8, (100, 4, 3, 32, 32))


def test_images_use_the_range_of_bytes(first_images):
    assert first_images.min() < 10
    assert first_images.max() > 245


def test_every_image_has_contrast(first_images):
    assert first_images.reshape(400, -1).std(1).min() > 10


def test_no_two_images_are_the_same(first_images):
    assert len(np.unique(first_images.reshape(400, -1), axis=0)) == 400


def test_an_image_does_not_depend_on_how_many_are_drawn():
    np.testing.assert_array_equal(first_class(3), first_class(40)[:3])


def test_another_seed_draws_other_images():
    assert (first_class(3) != first_class(3, seed=1)).mean() > 0.5


def test_classes_draw_their_own_random_numbers():
    # With shared numbers the background, outside the glyphs, would be the same.
    one, other = islice(glyphs.render(1), 2)
    assert (one[:, :, :2] != other[:, :, :2]).mean() > 0.5


def test_a_mask_is_centred():
    mask = glyphs.glyph_mask("DejaVuSans", "H")
    rows, columns = np.nonzero(mask > 127)
    assert abs(rows.min() + rows.max() - 47) <= 1
    assert abs(columns.min() + columns.max() - 47) <= 1


def test_no_two_characters_look_alike_when_turned():
    faces = [[glyphs.glyph_mask(face, c) for face in glyphs.FACES] for c in glyphs.CHARACTERS]
    blurred = ndimage.gaussian_filter(np.mean(faces, 1) / 255, (0, 1.5, 1.5))

    def unit(masks):
        rows = masks.reshape(100, -1) - masks.reshape(100, -1).mean(1, keepdims=True)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    alike = np.zeros((100, 100))
    for angle in range(0, 360, 15):
        turned = ndimage.rotate(blurred, angle, axes=(1, 2), reshape=False, order=1)
        alike = np.maximum(alike, unit(blurred) @ unit(turned).T)
    np.fill_diagonal(alike, 0)
    a, b = np.unravel_index(alike.argmax(), alike.shape)
    assert alike.max() < 0.95, f"{glyphs.CHARACTERS[a]} and {glyphs.CHARACTERS[b]}"
