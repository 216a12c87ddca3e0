"""The one exception a user of the package is meant to read."""

from __future__ import annotations


class InputError(ValueError):
    """What the caller gave cannot be used.

    The message is one line that names the file or field, says what was got and what is wanted.
    The command line prints it without a traceback and ends with exit code 2.
    """
