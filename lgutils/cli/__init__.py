"""The `lgutils` command: a thin shell over the functions. torch is imported when a command needs it.

`story` and `studies` hold the commands, `options` what they share, `app` the command itself.
"""

from lgutils.cli import story, studies
from lgutils.cli.app import app, main

__all__ = ["app", "main", "story", "studies"]
