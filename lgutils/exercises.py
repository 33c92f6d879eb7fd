"""Exercises that check themselves, and predictions made before the number is shown.

Both work in any notebook; where a browser is attached, a prediction is typed into a box.
"""

import math
import os
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec

from lgutils.errors import UserError


def live() -> bool:
    """Whether widgets can be used: a browser is attached and ipywidgets is installed.

    Jupyter's server and Colab say so; a notebook that is executed by a program has no browser.
    `LGUTILS_WIDGETS=1` or `0` decides it by hand.
    """
    if (asked := os.environ.get("LGUTILS_WIDGETS", "")) in ("0", "1"):
        return asked == "1" and find_spec("ipywidgets") is not None
    browser = "JPY_SESSION_NAME" in os.environ or "google.colab" in sys.modules
    return browser and find_spec("ipywidgets") is not None


def answered(*answers: object) -> bool:
    """Whether an exercise has been filled in; says so in one line if not.

    Args:
        answers: what the student was to write; dots (`...`) or None mean: not yet.
    """
    if any(answer is ... or answer is None for answer in answers):
        print("Not answered yet: put your answer in place of the dots and run the cell again.")
        return False
    return True


@dataclass
class Prediction:
    """A number that somebody commits to before it is shown; made by `predict`."""

    question: str
    guess: float | None
    unit: str
    box: object = field(default=None, repr=False)

    def check(self, actual: float, digits: int = 1) -> None:
        """Print the number beside the guess.

        With a box that was left empty nothing is shown: commit first, then run the cell again.
        """
        if self.box is not None:
            self.guess = self.box.value
            if self.guess is None:
                print("First write your prediction into the box above, then run this cell again.")
                return
        told = f"measured: {self._text(actual, digits)}"
        if self.guess is not None:
            told = f"you: {self._text(self.guess, digits)}, {told}, off by "
            told += self._text(abs(actual - self.guess), digits)
        print(told)

    def _text(self, value: float, digits: int) -> str:
        return f"{value:.{digits}f} {self.unit}".rstrip()


def predict(question: str, guess: object = ..., unit: str = "") -> Prediction:
    """Ask for a number before a cell shows it.

    Args:
        question: one sentence.
        guess: a finite number; `...` where none was made, or where a box is to ask for it.
        unit: printed behind the numbers, e.g. "%".
    Raises:
        UserError: the guess is not a finite number.
    """
    if guess is not ...:
        number = isinstance(guess, int | float) and not isinstance(guess, bool)
        if not number or not math.isfinite(guess):
            raise UserError(f"The prediction {guess!r} is not a number. Write one, such as 40.")
        return Prediction(question, float(guess), unit)
    if not live():
        print(f"{question} Your guess goes in place of the dots: predict(..., guess=40).")
        return Prediction(question, None, unit)
    return Prediction(question, None, unit, _box(question, unit))


def _box(question: str, unit: str) -> object:
    """A box to type a number into; its value is None until something was typed."""
    import ipywidgets
    from IPython.display import display

    box = ipywidgets.Text(placeholder="a number", layout={"width": "8em"})
    box = _Numbers(box)
    display(ipywidgets.HBox([ipywidgets.Label(question), box.text, ipywidgets.Label(unit)]))
    return box


@dataclass
class _Numbers:
    text: object

    @property
    def value(self) -> float | None:
        try:
            return float(self.text.value.replace(",", "."))
        except ValueError:
            return None
