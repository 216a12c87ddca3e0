"""Our own JSON files, read with one kind of error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from samed2.errors import InputError


def read_json(path: Path, wanted: str, way_out: str) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        wanted: what the file should be, for the error, such as "a session".
        way_out: what to do when it is not.

    Raises:
        InputError: it cannot be opened, is damaged, or holds something else than an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror or error}); {way_out}") from error
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: cannot be read as JSON, it is damaged or cut off ({reason}); {way_out}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a JSON {type(content).__name__}, wanted {wanted}; {way_out}")
    return content
