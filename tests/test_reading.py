"""Facts about files that were damaged or made by hand: one sentence, or the right content."""

import json
import os
from dataclasses import dataclass

import pytest

from lgutils import reading
from lgutils.errors import UserError


@dataclass(frozen=True)
class Size:
    side: reading.Count
    share: reading.Share = 0.5


@dataclass(frozen=True)
class Box:
    names: tuple[str, ...]
    size: Size


def saved(tmp_path, text):
    path = tmp_path / "box.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(path, kind=Box):
    with pytest.raises(UserError) as caught:
        reading.json_file(path, kind)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- the reader -----------------------------------------------------------------------------------


def test_json_becomes_the_type(tmp_path):
    path = saved(tmp_path, '{"names": ["a"], "size": {"side": 3}, "later": 1}')
    assert reading.json_file(path, Box) == Box(("a",), Size(3))


def test_whole_numbers_may_stand_for_shares(tmp_path):
    assert reading.json_file(saved(tmp_path, '{"side": 1, "share": 1}'), Size).share == 1.0


def test_the_place_of_a_wrong_value_is_told(tmp_path):
    path = saved(tmp_path, '{"names": ["a", null], "size": {"side": 3}}')
    assert refused(path) == (
        f"{path} is damaged or not such a file (expected `str`, got `null` at `$.names[1]`). "
        "Copy or make it again."
    )


def test_a_missing_entry_is_told(tmp_path):
    assert "missing required field `size`" in refused(saved(tmp_path, '{"names": []}'))


@pytest.mark.parametrize(
    "share", ["7.5", "-0.1", "NaN", "Infinity", "1e999", "true", '"0.5"', "null"]
)
def test_a_share_lies_between_0_and_1(tmp_path, share):
    path = saved(tmp_path, f'{{"side": 1, "share": {share}}}')
    assert "at `$.share`" in refused(path, Size)


@pytest.mark.parametrize("side", ["1.5", "-1", "1" * 30, "1" * 5000, "1" * 400, "[1]", "{}"])
def test_a_count_is_a_whole_number_that_can_be(tmp_path, side):
    refused(saved(tmp_path, f'{{"side": {side}}}'), Size)


ODD = {
    "empty": b"",
    "cut": b'{"names": ["a"',
    "nested lists": b"[" * 10_000 + b"]" * 10_000,
    "open lists": b"[" * 10_000,
    "nested objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "nested a little": b'{"names": ' + b"[" * 500 + b"]" * 500 + b"}",
    "not UTF-8": b'{"names": ["\xff"]}',
    "UTF-16": '{"names": []}'.encode("utf-16-le"),
    "null bytes": b"\0" * 100,
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(50),
}


@pytest.mark.parametrize("what", ODD)
def test_what_is_no_json_of_ours_is_one_sentence(tmp_path, what):
    assert "is damaged or not such a file" in refused(saved(tmp_path, ODD[what]))


def test_a_file_is_refused_by_its_size_before_it_is_read(tmp_path, monkeypatch):
    path = saved(tmp_path, "{}")
    os.truncate(path, 2**40)  # a hole: it takes no space
    monkeypatch.setattr(reading.json, "loads", None)
    assert "has 1,048,576.0 MiB; at most 32.0 are read" in refused(path)


def test_a_missing_file_is_named(tmp_path):
    assert refused(tmp_path / "nowhere") == (
        f"There is no file {tmp_path / 'nowhere'}. Check the name, or make it first."
    )


def test_a_folder_is_no_file(tmp_path):
    assert "is a folder, but a file is expected" in refused(tmp_path)


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "is a pipe or a device" in refused(tmp_path / "pipe")


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_a_name_that_no_file_can_have_is_one_sentence(tmp_path, name):
    assert "cannot be read" in refused(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_one_sentence(tmp_path):
    path = saved(tmp_path, "{}")
    path.chmod(0)
    assert "cannot be read (Permission denied)" in refused(path)


def test_a_file_whose_folder_tells_no_sizes_is_bounded():
    if not os.path.exists("/proc/self/maps"):
        pytest.skip("no /proc")
    with pytest.raises(UserError, match="at most"):
        reading.content("/proc/self/maps", 10)


def test_a_long_reason_is_cut():
    assert len(reading.reason(ValueError("a\n" * 1000))) == 300


def test_a_value_that_refuses_itself_says_why(tmp_path):
    from lgutils.data import Normalize

    path = saved(tmp_path, json.dumps({"mean": [0.5], "std": [0.0]}))
    assert "deviations above 0" in refused(path, Normalize)
