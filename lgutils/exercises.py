"""Exercises that check themselves, and predictions made before the number is shown.

Both work in any notebook; where a browser is attached, a prediction is typed into a box. A check
reads answers through `number`, `numbers` and `called`, so that a wrong one meets a sentence.
"""

import dis
import math
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from numbers import Real

import numpy as np

from lgutils.errors import UserError

IDLE = {
    "RESUME",
    "NOP",
    "LOAD_CONST",
    "RETURN_CONST",
    "RETURN_VALUE",
}  # what a body of dots becomes


def live() -> bool:
    """Whether widgets can be used: a browser is attached and ipywidgets is installed.

    Jupyter's server and Colab say so; a notebook that is executed by a program has no browser.
    `LGUTILS_WIDGETS=1` or `0` decides it by hand.
    """
    asked = os.environ.get("LGUTILS_WIDGETS", "")
    browser = "JPY_SESSION_NAME" in os.environ or "google.colab" in sys.modules
    return (asked == "1" or (browser and asked != "0")) and find_spec("ipywidgets") is not None


class WrongAnswer(AssertionError):
    """What a check says to an answer; Jupyter shows the sentence without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def answered(*answers: object) -> bool:
    """Whether an exercise has been filled in; says so in one line if not.

    Args:
        answers: what the student was to write; dots (`...`) or None, also inside a list or a
            tuple, mean: not yet.
    """
    if _open(answers):
        print("Not answered yet: put your answer in place of the dots and run the cell again.")
        return False
    return True


def _open(answer: object) -> bool:
    """Whether there are dots or None in an answer."""
    if isinstance(answer, list | tuple):
        return any(map(_open, answer))
    return answer is ... or answer is None


def numbers(answer: object, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """The numbers of an answer as a float64 array, whatever they came in.

    Args:
        answer: a number, a list or tuple of numbers, a NumPy array, a tensor or a pandas column.
        shape: what the check needs; None if any will do.
    Raises:
        WrongAnswer: there is something else inside, or the shape is another.
    """
    try:
        array = np.asarray(_plain(answer))
    except (TypeError, ValueError):  # such as lists of different lengths
        array = np.array(None)
    if array.dtype.kind not in "biuf":
        raise WrongAnswer(f"Numbers are asked for, but the answer is {_short(answer)}.")
    if shape not in (None, array.shape):
        raise WrongAnswer(
            f"The shape {shape} is asked for, but the answer has {array.shape}: {_short(answer)}."
        )
    return array.astype(np.float64)


def number(answer: object, whole: bool = False) -> float | int:
    """The one finite number of an answer; a NumPy number or a tensor of one element will do.

    Args:
        whole: give an int, and refuse a fraction.
    Raises:
        WrongAnswer: it is no number, or not just one, or not finite, or not whole.
    """
    found = numbers(answer)
    if found.size != 1 or not np.isfinite(found).all():
        raise WrongAnswer(f"One finite number is asked for, but the answer is {_short(answer)}.")
    value = found.item()
    if whole and not value.is_integer():
        raise WrongAnswer(f"A whole number is asked for, but the answer is {value}.")
    return int(value) if whole else value


def called(function: Callable, *arguments: object) -> object:
    """What the student's function gives, with one sentence instead of a traceback if it fails.

    Raises:
        WrongAnswer: it is no function, it stopped with an error, or it has a body but no result. An AssertionError that
            comes out of it, such as one of the check's own, is passed on as it is.
    """
    if not callable(function):
        raise WrongAnswer(f"A function is asked for, but the answer is {_short(function)}.")
    name = getattr(function, "__name__", "your function")
    try:
        result = function(*arguments)
    except AssertionError:
        raise
    except Exception as error:
        steps = traceback.extract_tb(error.__traceback__)[1:2]  # the line of the function itself
        where = f" at `{steps[0].line}`" if steps and steps[0].line else ""
        told = f"{name} stopped{where} with {type(error).__name__}: {error}"
    else:
        if result is not None or _stub(function):
            return result
        told = f"{name} gives nothing back. Does it lack a `return`?"
    raise WrongAnswer(told)


def _stub(function: Callable) -> bool:
    """Whether a function does nothing, as one whose body is dots, or has dots left in its body."""
    code = getattr(function, "__code__", None)
    if code is None:
        return False
    return ... in code.co_consts or {step.opname for step in dis.get_instructions(code)} <= IDLE


def _plain(answer: object) -> object:
    """The answer with every tensor in it as a list; torch need not be loaded for that."""
    if isinstance(answer, list | tuple):
        return [_plain(part) for part in answer]
    return answer.detach().tolist() if hasattr(answer, "detach") else answer


def _short(answer: object) -> str:
    """The answer and its type in at most about 60 characters."""
    text = " ".join(repr(answer).split())
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(answer).__name__})"


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

        With an empty box nothing is shown until a number is written into it.

        Args:
            actual: in the unit of the prediction.
            digits: decimals to print.
        """
        guess = self.guess if self.box is None else self._typed()
        if self.box is None or guess is not None:
            print(self._told(guess, actual, digits))
        else:
            self._wait(actual, digits)

    def _told(self, guess: float | None, actual: float, digits: int) -> str:
        told = f"measured: {self._text(actual, digits)}"
        if guess is None:
            return told
        off = self._text(abs(actual - guess), digits)
        return f"you: {self._text(guess, digits)}, {told}, off by {off}"

    def _wait(self, actual: float, digits: int) -> None:
        """Put a line here that fills when a number stands in the box, and says if it holds something else."""
        import ipywidgets
        from IPython.display import display

        answer = ipywidgets.Label()

        def fill(*_) -> None:
            guess = self._typed()
            answer.value = self._refused() if guess is None else self._told(guess, actual, digits)

        fill()
        self.box.observe(fill, names="value")
        display(answer)

    def _refused(self) -> str:
        """What is wrong with the box; nothing if it is empty."""
        text = self.box.value.strip()
        unit = f" in {self.unit}" if self.unit else ""
        return (
            text and f"{text!r} is no number: write one{unit}, such as 12.5, with a decimal point."
        )

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

    box = ipywidgets.Text(
        placeholder="a number, then Enter", continuous_update=False, layout={"width": "12em"}
    )
    display(ipywidgets.HBox([ipywidgets.Label(question), box, ipywidgets.Label(unit)]))
    return box
