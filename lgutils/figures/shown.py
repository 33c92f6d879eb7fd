"""A finished figure on its way out: PNGs for wide and narrow screens, a notebook's output, HTML."""

import base64
import html
import io

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

SHARP = (
    1.5  # pixels of a figure for each of the screen's, as most screens are finer than 100 an inch
)


def pngs(figure: Figure) -> tuple[bytes, bytes | None]:
    """The figure for a wide and, where it has such a form, for a narrow screen; closes both.

    Both hold `SHARP` pixels for each of the screen's.
    """
    redraw = getattr(figure, "narrow", None)
    return _png(figure), redraw and _png(redraw())


def _png(figure: Figure) -> bytes:
    """Without a margin, and with a palette: a third of the bytes, and no loss that can be seen."""
    with io.BytesIO() as drawn, io.BytesIO() as small:
        try:
            figure.savefig(drawn, format="png", dpi=SHARP * 100, bbox_inches="tight")
        finally:
            plt.close(figure)
        with Image.open(drawn) as image:
            image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
                small, "png", optimize=True
            )
        return small.getvalue()


def width(png: bytes) -> int:
    """Of a PNG from `pngs`, in the screen's pixels."""
    return round(int.from_bytes(png[16:20], "big") / SHARP)


def show(figure: Figure, alt: str) -> None:
    """Show a figure in a notebook with alternative text for readers who cannot see it; closes it.

    The output's metadata hold that text, the width, whether it is a `picture` of images or a `plot`, and
    its form for narrow screens, which the site and `lgutils course` show there.
    """
    from IPython.display import display

    about = {"alt": alt, "kind": _kind(figure)}
    wide, slim = pngs(figure)
    about["width"] = width(wide)
    if slim:
        about["narrow"] = _text(slim)
    data = {"image/png": _text(wide), "text/plain": "<Figure>"}
    display(data, metadata={"image/png": about}, raw=True)


def element(figure: Figure, alt: str) -> str:
    """A figure as HTML, see `markup`; closes it."""
    wide, slim = pngs(figure)
    return markup(_text(wide), slim and _text(slim), alt, width(wide))


def _text(png: bytes) -> str:
    return base64.b64encode(png).decode()


def markup(wide: str, slim: str | None, alt: str, width: int) -> str:
    """HTML of a figure that takes the form for the screen's width.

    Args:
        wide, slim: PNGs in base64; None where there is no form for a phone.
        width: of the wide one, in the screen's pixels.
    """
    png, phone = "data:image/png;base64,", "(max-width: 600px)"
    source = f'<source media="{phone}" srcset="{png}{slim}">' if slim else ""
    img = f'<img alt="{html.escape(alt)}" width="{width}" style="max-width:100%" src="{png}{wide}">'
    return f"<picture>{source}{img}</picture>"


def _kind(figure: Figure) -> str:
    """What holds images in colours of their own is a picture, all else a plot."""
    images = [image for axis in figure.axes for image in axis.images]
    return "picture" if any(image.get_array().ndim == 3 for image in images) else "plot"
