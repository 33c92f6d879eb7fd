"""Where the course lies: notebooks, stored results and docs, in a clone or as the wheel carries them."""

from pathlib import Path

from lgutils.errors import UserError

PACKAGE = Path(__file__).resolve().parent
CARRIED = PACKAGE / "carried"  # see setup.py


def folder() -> Path:
    """The folder that holds notebooks/, results/ and docs/: what the wheel carries, else the clone.

    Raises:
        UserError: the notebooks are at neither place.
    """
    for place in (CARRIED, PACKAGE.parent):  # beside a wheel lie the folders of other packages
        if any(place.glob("notebooks/[0-9][0-9]*.ipynb")):
            return place
    raise UserError(
        "The course's notebooks are missing from this installation of lgutils. Install it again, from its "
        "wheel or from a clone."
    )


def clone() -> Path:
    """The same folder, to write into.

    Raises:
        UserError: it is the one that an installed wheel carries, or the notebooks are missing.
    """
    if folder() == CARRIED:
        raise UserError(
            "Only in a clone can this be made again. Install from one: pip install -e ."
        )
    return folder()
