"""JSON files whose every byte is accounted for: one way to write a value, and its hash inside."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from samed2.errors import InputError


def to_text(value: dict[str, Any]) -> str:
    """The one text of a record, with `sha256` over all else in it."""
    bare = {key: item for key, item in value.items() if key != "sha256"}
    return _text({**bare, "sha256": hashlib.sha256(_text(bare).encode()).hexdigest()})


def from_file(path: Path) -> dict[str, Any]:
    """Read a record.

    Raises:
        InputError: missing, not such JSON, or any byte of it differs from what was written.
    """
    try:
        data = path.read_bytes()
        value = json.loads(data)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise InputError(f"{path}: is damaged, it is not JSON; build the store again to repair it") from error
    if not isinstance(value, dict) or to_text(value).encode() != data:
        raise InputError(f"{path}: is damaged or was edited, its checksum is wrong; build the store again to repair it")
    return value


def digest_of(value: Any) -> str:
    """SHA-256 (hex) of a JSON-able value."""
    return hashlib.sha256(_text(value).encode()).hexdigest()


def _text(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=True) + "\n"
