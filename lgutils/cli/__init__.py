"""The `lgutils` command: a thin shell over the functions. torch is imported when a command needs it.

`story`, `studies`, `site` and `teach` hold the commands, `options` what they share, `app` the command itself.
"""

from lgutils.cli import site, story, studies, teach
from lgutils.cli.app import ORDER, app, main

__all__ = ["ORDER", "app", "main", "site", "story", "studies", "teach"]
