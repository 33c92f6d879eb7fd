"""Exercises that check themselves, and predictions made before the number is shown.

Both work in any notebook; where a browser is attached, a prediction is typed into a box.
"""

import math
import os
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from numbers import Real

from lgutils.errors import UserError


def live() -> bool:
    """Whether widgets can be used: a browser is attached and ipywidgets is installed.

    Jupyter's server and Colab say so; a notebook that is executed by a program has no browser.
    `LGUTILS_WIDGETS=1` or `0` decides it by hand.
    """
    asked = os.environ.get("LGUTILS_WIDGETS", "")
    browser = "JPY_SESSION_NAME" in os.environ or "google.colab" in sys.modules
    return (asked == "1" or (browser and asked != "0")) and find_spec("ipywidgets") is not None


def answered(*answers: object) -> bool:
    """Whether an exercise has been filled in; says so in one line if not.

    Args:
        answers: what the student was to write; dots (`...`) or None mean: not yet.
    """
    if any(answer is ... or answer is None for answer in answers):
        print("Not answered yet: put your answer in place of the dots and run the cell again.")
        return False
    return True


@dataclass(frozen=True)
class Prediction:
    """A number that somebody commits to before it is shown; made by `predict`.

    Attributes:
        question: what was asked.
        guess: the number; None if there is none, or if it is in the box.
        unit: printed behind the numbers.
        box: the `ipywidgets.Text` to type the number into; None without a browser.
    """

    question: str
    guess: float | None
    unit: str = ""
    box: object = field(default=None, repr=False)

    def check(self, actual: float, digits: int = 1) -> None:
        """Print the number beside the guess.

        With a box that holds no number nothing is shown: commit first, then run the cell again.

        Args:
            actual: in the unit of the prediction.
            digits: decimals to print.
        """
        guess = self.guess if self.box is None else self._typed()
        if self.box is not None and guess is None:
            print("First write a number into the box above, such as 2.5, then run this cell again.")
            return
        told = f"measured: {self._text(actual, digits)}"
        if guess is not None:
            off = self._text(abs(actual - guess), digits)
            told = f"you: {self._text(guess, digits)}, {told}, off by {off}"
        print(told)

    def _typed(self) -> float | None:
        try:
            number = float(self.box.value.strip().removesuffix(self.unit))
        except ValueError:
            return None
        return number if math.isfinite(number) else None

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
        if not isinstance(guess, Real) or isinstance(guess, bool) or not math.isfinite(guess):
            raise UserError(f"The prediction {guess!r} is not a number. Write one, such as 40.")
        return Prediction(question, float(guess), unit)
    if live():
        return Prediction(question, None, unit, _box(question, unit))
    print(f"{question}\nCommit to a number: predict(..., guess=40).")
    return Prediction(question, None, unit)


def _box(question: str, unit: str) -> object:
    """A box to type a number into, with the question before and the unit behind it."""
    import ipywidgets
    from IPython.display import display

    box = ipywidgets.Text(placeholder="a number", layout={"width": "8em"})
    display(ipywidgets.HBox([ipywidgets.Label(question), box, ipywidgets.Label(unit)]))
    return box
