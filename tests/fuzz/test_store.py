"""The results store against a dictionary: whatever happens, a stored row is there, once, unchanged."""

import contextlib
import shutil
import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from samples import row
from tiny import jobs
from yard import place, share, text

from lgutils.errors import UserError
from lgutils.fleet import Results

JOBS = jobs(8)
SOME = st.lists(st.integers(0, len(JOBS) - 1), max_size=4)
VALUES = st.sampled_from([0.0, 0.25, 0.75, 1.0])


class Died(Exception):
    """Stands for the end of a process."""


class Store(RuleBasedStateMachine):
    """Add, close, absorb, die half-way, write from two sides, damage; `model` says what must be there."""

    others = Bundle("others")

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path, self.model, self.made = self.folder / "rows.sqlite", {}, 0
        self.results = Results(self.path)

    def teardown(self):
        self.results.__exit__()
        shutil.rmtree(self.folder)

    def _rows(self, chosen, value):
        return [row(JOBS[i], value) for i in chosen]

    def _model(self, rows):
        for each in rows:
            self.model.setdefault(each.job.key, each)

    @rule(chosen=SOME, value=VALUES)
    def add(self, chosen, value):
        rows = self._rows(chosen, value)
        self.results.add(rows)
        self._model(rows)

    @rule()
    def reopen(self):
        self.results.__exit__()
        self.results = Results(self.path)

    @rule(target=others, chosen=SOME, value=VALUES)
    def another(self, chosen, value):
        self.made += 1
        path, rows = self.folder / f"other-{self.made}.sqlite", self._rows(chosen, value)
        with Results(path) as results:
            results.add(rows)
        return path, rows

    @rule(other=others)
    def absorb(self, other):
        path, rows = other
        before = path.read_bytes()
        new = len({each.job.key for each in rows} - set(self.model))
        assert self.results.absorb([path]) == new
        assert path.read_bytes() == before
        self._model(rows)

    @rule(chosen=SOME, value=VALUES)
    def second_writer(self, chosen, value):
        rows = self._rows(chosen, value)
        with Results(self.path) as beside:
            beside.add(rows)
        self._model(rows)

    @rule(chosen=SOME)
    def die_within_a_transaction(self, chosen):
        def dying():
            yield from self._rows(chosen, 0.5)
            raise Died

        try:
            self.results.add(dying())
        except Died:
            self.reopen()

    @rule(chosen=SOME)
    def die_before_the_commit(self, chosen):
        db = sqlite3.connect(self.path)
        db.executemany(
            "INSERT OR IGNORE INTO rows VALUES (?, ?)", [(JOBS[i].key, "{}") for i in chosen]
        )
        shutil.copytree(
            self.folder, self.folder.with_suffix(".dead")
        )  # as a killed process leaves it
        db.close()
        self.results.__exit__()
        shutil.rmtree(self.folder)
        self.folder.with_suffix(".dead").rename(self.folder)
        self.results = Results(self.path)

    @rule(junk=st.binary(min_size=1, max_size=2000))
    def absorb_what_is_no_results_file(self, junk):
        path = self.folder / "junk.sqlite"
        path.write_bytes(junk)
        with contextlib.suppress(UserError):
            self.results.absorb([path])
        assert path.read_bytes() == junk

    @precondition(lambda self: self.model)
    @rule(place=st.floats(0, 1, exclude_max=True), size=st.integers(1, 4096))
    def a_copy_is_damaged(self, place, size):
        content = bytearray(self.path.read_bytes())
        at = int(place * len(content))
        content[at : at + size] = bytes(255 - b for b in content[at : at + size])
        path = self.folder / "damaged.sqlite"
        path.write_bytes(content)
        with contextlib.suppress(UserError), Results(path) as damaged:
            damaged.find(JOBS)
        path.unlink()

    @invariant()
    def every_row_is_there(self):
        assert self.results.find(JOBS) == self.model
        assert len(self.results) == len(self.model)


def test_the_store_is_a_dictionary(figures):
    """Each step counts as a case that worked; the first that does not ends the test."""
    steps = 20
    counted = settings(max_examples=share(0.05 / steps) + 2, stateful_step_count=steps)
    figures.counts["tried"] += share(0.05)
    try:
        run_state_machine_as_test(Store, settings=counted)
    except Exception as error:
        figures.fallen(type(error).__name__, place(error), "the store", text(error))
    else:
        figures.counts["worked"] += share(0.05)


def test_a_file_of_one_byte_is_left_alone(tmp_path):
    (tmp_path / "x").write_bytes(b"x")
    with pytest.raises(UserError, match="not a results file"):
        Results(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"x"
