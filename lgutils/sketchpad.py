"""A canvas to sketch characters on, for notebooks: two descendants learn them and guess the next one."""

from collections.abc import Callable

import torch

from lgutils import figures, glyphs, sketch
from lgutils.errors import UserError
from lgutils.sketch import Pupils

SIZE = 240  # pixels a side of the canvas
NAMES = "ABCDE"
GUESSED = 999_999  # seed of what surrounds a sketch to guess; none of those to learn from


class Sketchpad:
    """Sketch, keep, learn, guess; `view` is the widget.

    Args:
        teach: from a book of sketches to the descendants that have learned it.
        image: from a figure and its alternative text to HTML.
    """

    def __init__(self, teach: Callable[[dict], Pupils], image: Callable[..., str]):
        import ipywidgets
        from ipycanvas import Canvas

        self.teach, self.image = teach, image
        self.book: dict[str, list] = {name: [] for name in NAMES}
        self.sketch: list[list[tuple[float, float]]] = []
        self.pupils: Pupils | None = None
        self.drawing = False
        size = {"width": f"{SIZE}px", "height": f"{SIZE}px"}
        self.canvas = Canvas(width=SIZE, height=SIZE, layout={"border": "1px solid gray", **size})
        self.canvas.line_width, self.canvas.line_cap = 12, "round"
        self.canvas.on_mouse_down(self.press)
        self.canvas.on_mouse_move(self.move)
        self.canvas.on_mouse_up(self.release)
        self.canvas.on_mouse_out(self.release)
        self.canvas.on_touch_start(lambda touches: self.press(*touches[0]))
        self.canvas.on_touch_move(lambda touches: self.move(*touches[0]))
        self.canvas.on_touch_end(lambda touches: self.release())
        self.name = ipywidgets.ToggleButtons(options=list(NAMES), style={"button_width": "3em"})
        self.said, self.picture = ipywidgets.Label(), ipywidgets.HTML()
        actions = (self.keep, self.clear, self.learn, self.guess)
        self.buttons = {
            action.__name__: ipywidgets.Button(description=action.__name__) for action in actions
        }
        for action in actions:
            self.buttons[action.__name__].on_click(self._telling(action))
        self.view = ipywidgets.VBox(
            [self.name, self.canvas, ipywidgets.HBox(list(self.buttons.values())), self.said,
             self.picture]
        )  # fmt: skip
        self._tell("Draw A, then press keep. Draw each of A to E about four times.")

    def press(self, x: float, y: float) -> None:
        """Begin a stroke; coordinates are the canvas's pixels, y downwards."""
        self.drawing = True
        self.sketch.append([(x, y)])
        self.canvas.fill_circle(x, y, self.canvas.line_width / 2)

    def move(self, x: float, y: float) -> None:
        """Go on with the stroke, if there is one."""
        if self.drawing:
            self.canvas.stroke_line(*self.sketch[-1][-1], x, y)
            self.sketch[-1].append((x, y))

    def release(self, *_: float) -> None:
        """End the stroke."""
        self.drawing = False

    def clear(self) -> None:
        """Wipe the canvas."""
        self.drawing, self.sketch = False, []
        self.canvas.clear()

    def keep(self) -> None:
        """Put the sketch into the book, under the chosen letter."""
        sketch.mask(self.sketch)  # an empty one says so
        self.book[self.name.value].append(self.sketch)
        self.clear()
        kept = ", ".join(f"{name}: {len(sketches)}" for name, sketches in self.book.items())
        self._tell(f"Kept. Sketches so far: {kept}.")

    def learn(self) -> None:
        """Let the descendants learn the book."""
        self._tell("Learning ...")
        self.pupils = self.teach(self.book)
        seen, labels = sketch.images(self.book)
        rows = {name: seen[labels == place] for place, name in enumerate(self.book)}
        self._picture(rows, "What the descendants learned from: your sketches as images.")
        self._tell("Learned. Now draw one of the five again and press guess.")

    def guess(self) -> None:
        """Ask what the sketch on the canvas is."""
        if self.pupils is None:
            raise UserError("Nobody has learned anything yet. Press learn first.")
        seen = torch.from_numpy(glyphs.around(sketch.mask(self.sketch), GUESSED))[None]
        said = {arm: NAMES[classes[0]] for arm, classes in self.pupils.guess(seen).items()}
        self._picture({"?": seen}, "The sketch as the descendants see it.")
        self._tell("; ".join(f"{arm} says {name}" for arm, name in said.items()) + ".")
        self.clear()

    def _picture(self, rows: dict[str, torch.Tensor], alt: str) -> None:
        self.picture.value = self.image(figures.mosaic(rows), alt)

    def _tell(self, text: str) -> None:
        self.said.value = text

    def _telling(self, action: Callable[[], None]) -> Callable[..., None]:
        """The action for a button: what it complains about is said below the canvas."""

        def act(_) -> None:
            try:
                action()
            except UserError as error:
                self._tell(str(error))

        return act
