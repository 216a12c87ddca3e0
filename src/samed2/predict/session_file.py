"""The file of a session."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from samed2.errors import InputError
from samed2.io import Scan, Window
from samed2.io import read as read_scan
from samed2.io.atomic import atomic_write
from samed2.io.json_file import read_json
from samed2.predict.held import Held
from samed2.predict.session_state import State
from samed2.predict.settings import fields_of
from samed2.predict.spans import checked_spans
from samed2.predict.tracking import Tracking
from samed2.prompts import Prompts

if TYPE_CHECKING:
    from samed2.predict.session import Session

FORMAT, FORMAT_VERSION = "samed2-session", 1


class Found(NamedTuple):
    """What a session file holds."""

    scan: Scan
    window: Window
    settings: dict[str, Any]
    tracking: Tracking
    state: State


def write(session: Session, state: State, path: str | PathLike[str]) -> Path:
    """Write a session with one state to a JSON file."""
    scan = session.scan
    data = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "scan": {"path": str(scan.path) if scan.path else None, "mark": scan.mark()},
        "model": {"name": session.predictor.name, "weights": session.predictor.fingerprint},
        "window": session.window.to_dict(),
        "settings": fields_of(session.settings),
        "tracking": fields_of(session.tracking),
        "prompts": state.prompts.to_json(),
        "answers": [{"frame": frame, **held.to_json()} for (frame, _), held in state.answers.items()],
        "confirmed": sorted(state.confirmed),
        "spans": {str(i): list(span) for i, span in state.spans.items()},
    }
    return atomic_write(path, json.dumps(data))


def read(path: str | PathLike[str], scan: Scan | None) -> Found:
    """Read a session file; `scan` None opens the scan it names.

    Raises:
        InputError: not a session, another scan, or a damaged file.
    """
    data = _load(Path(path))
    try:
        if scan is None and not data["scan"]["path"]:
            raise InputError(f"{path}: was made on a scan without a file; give that scan too")
        scan = scan or read_scan(data["scan"]["path"])
        if data["scan"]["mark"] != scan.mark():
            raise InputError(f"{path}: belongs to another scan than {scan.label}; open the one it was made with")
        answers = {(int(a["frame"]), int(a["id"])): Held.from_json(a) for a in data["answers"]}
        confirmed = frozenset((int(frame), int(i)) for frame, i in data["confirmed"])
        prompts = Prompts.from_json(data["prompts"]) if data["prompts"]["objects"] else Prompts()
        settings = {**data["settings"], "looks": tuple(data["settings"]["looks"])}
        spans = {int(i): (int(first), int(last)) for i, (first, last) in dict(data.get("spans", {})).items()}
        state = State(prompts, answers, confirmed, checked_spans(spans, prompts, scan))
        return Found(scan, Window(**data["window"]), settings, Tracking(**data["tracking"]), state)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: is not a whole session ({error!r}); open an older copy") from error


def _load(path: Path) -> dict[str, Any]:
    data = read_json(path, "a session", "open an older copy")
    if data.get("format") != FORMAT:
        raise InputError(f"{path}: is not a session, wanted a file with format {FORMAT!r}")
    if data.get("format_version") != FORMAT_VERSION:
        raise InputError(f"{path}: has format version {data.get('format_version')}, wanted {FORMAT_VERSION}")
    return data
