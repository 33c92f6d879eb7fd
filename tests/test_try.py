"""`lgutils try`: one task learned twice, shown while it happens."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from lgutils import demo, fleet, report, ship
from lgutils.data import Task
from lgutils.demo import Tried
from lgutils.errors import UserError
from lgutils.fleet import jobs

EPOCHS = 4


def short(family="cnn", seed=3):
    """The jobs with a few epochs only."""
    return {
        arm: replace(job, fit=replace(job.fit, epochs=EPOCHS), log_at=tuple(range(1, EPOCHS + 1)))
        for arm, job in demo.wanted(family, seed).items()
    }


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    return demo.run(short())


def made(**curves):
    images = torch.zeros(10, 3, 4, 4, dtype=torch.uint8), torch.arange(10) % 5
    episode = type("Episode", (), {"train": images, "test": images})()
    return Tried("CNN", episode, tuple("abcde"), 40, curves)


def test_both_arms_learn_the_same_task_from_the_same_fresh_layers():
    jobs = demo.wanted("vit", 7)
    assert {(job.task, job.seed) for job in jobs.values()} == {(Task(seed=7), 7)}


def test_each_arm_has_its_own_tuned_rate():
    for arm, job in demo.wanted("cnn", 0).items():
        assert job.fit == fleet.tuned_fit("cnn", arm)


def test_every_epoch_of_both_arms_is_on_a_curve(tried):
    for curve in tried.curves.values():
        assert [step for step, _ in curve] == [2, 4, 6, 8]


def test_the_same_seed_gives_the_same_numbers(tried):
    assert demo.run(short()).curves == tried.curves


def test_the_whole_job_is_a_stored_row():
    job = demo.wanted("cnn", 0)["scratch"]
    stored = pd.read_csv(ship.results_folder() / "inherit-quick.csv")
    found = stored[
        (stored.family == "cnn") & (stored.method == "scratch") & (stored.dataset == "glyphs")
        & (stored.task == 0) & (stored.descendant == json.dumps(job.arch_kwargs, sort_keys=True))
    ]  # fmt: skip
    (row,) = found.itertuples()
    assert row.lr == job.fit.lr
    assert jobs.prepare(job).episode.key.startswith(row.task_key)


def test_the_number_of_threads_is_left_as_it_was(tried):
    torch.set_num_threads(2)
    try:
        demo.run(
            {
                arm: replace(job, fit=replace(job.fit, epochs=1), log_at=())
                for arm, job in short().items()
            }
        )
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_a_log_file_gets_plain_lines_and_one_picture(capsys):
    with demo.watched(shown := made(learngene=[], scratch=[])) as tick:
        for step in range(2, 41, 2):
            shown.curves["learngene"].append((step, step / 40))
            tick()
    lines = capsys.readouterr().out.splitlines()
    spoken = [line for line in lines if ", step " in line]
    assert 4 <= len(spoken) <= 7
    assert spoken[-1].endswith("step 40 of 40: 100 % right")
    assert sum(line.startswith("100 % |") for line in lines) == 1
    assert "\x1b" not in "".join(lines)


def test_a_terminal_gets_a_picture_that_moves(monkeypatch, capsys):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    with demo.watched(shown := made(learngene=[(20, 0.5)], scratch=[])) as tick:
        shown.curves["scratch"].append((40, 0.2))
        tick()
    text = capsys.readouterr().out
    assert "\x1b[1A" in text  # the cursor goes up
    assert text.count("100 % |") >= 2


@pytest.mark.parametrize(
    ("curves", "row", "letters"),
    [
        ({"learngene": [(40, 0.8)], "scratch": []}, " 80 % |", {"L": 59}),
        ({"learngene": [(20, 0.5)], "scratch": [(20, 0.52)]}, "      |", {"*": 29}),
        ({"learngene": [], "scratch": [(2, 0.2)]}, " 20 % |", {"s": 2}),
        ({"learngene": [(40, 1.0)], "scratch": [(40, 0.0)]}, "100 % |", {"L": 59}),
    ],
)
def test_a_letter_stands_at_its_step_and_accuracy(curves, row, letters):
    lines = demo.picture(made(**curves)).plain.splitlines()
    found = [line for line in lines if line.startswith(row)]
    for letter, place in letters.items():
        assert any(line[7:].find(letter) == place for line in found)


def test_the_picture_fits_80_columns():
    curves = {arm: [(step, 1.0) for step in range(2, 41, 2)] for arm in demo.ARMS}
    assert max(map(len, demo.picture(made(**curves)).plain.splitlines())) <= 80


def test_the_words_hold_both_accuracies_and_what_one_task_is_worth():
    words = demo.told(made(learngene=[(40, 0.855)], scratch=[(40, 0.72)]),
                      report.Interval(0.18, 0.15, 0.21, 20))  # fmt: skip
    for part in ("86 %", "72 %", "anecdote", "20 stored tasks", "18 points", "15 to 21"):
        assert part in words
    assert max(map(len, words.splitlines())) <= 80


@pytest.mark.parametrize("family", ["cnn", "vit"])
def test_the_evidence_is_over_all_stored_tasks(family):
    known = demo.evidence(family)
    assert known.n == 20
    assert known.low < known.mean < known.high


def test_the_picture_is_a_png_and_may_be_replaced_by_the_next(tried, tmp_path):
    for _ in range(2):
        out = demo.place(tmp_path / "try.png")
        demo.save(tried, out)
    with Image.open(out) as picture:
        assert picture.format == "PNG"
        assert len(np.unique(np.asarray(picture))) > 50


@pytest.mark.parametrize("kind", ["text", "picture"])
def test_a_foreign_file_is_not_replaced(kind, tmp_path):
    out = tmp_path / "try.png"
    if kind == "text":
        out.write_text("my notes")
    else:
        Image.new("RGB", (4, 4)).save(out)
    with pytest.raises(UserError, match="--force"):
        demo.place(out)
    assert demo.place(out, force=True) == out
