"""Where the course lies: notebooks, stored results and docs, in a clone or as the wheel carries them."""

from pathlib import Path

from lgutils.errors import UserError

PACKAGE = Path(__file__).resolve().parent
CARRIED = PACKAGE / "carried"  # see setup.py


def folder() -> Path:
    """The folder that holds notebooks/, results/ and docs/: the clone, else what the wheel carries.

    Raises:
        UserError: the notebooks are at neither place.
    """
    for place in (PACKAGE.parent, CARRIED):
        if any(place.glob("notebooks/[0-9][0-9]*.ipynb")):
            return place
    raise UserError(
        "The course's notebooks are missing from this installation of lgutils. Install it again, from its "
        "wheel or from a clone."
    )
