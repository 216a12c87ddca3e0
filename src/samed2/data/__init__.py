"""Data sets: catalogue, converters, the MedBank store, and samples drawn from them for training."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from samed2.data.cases import Case
from samed2.errors import InputError

__all__ = ["open_cases"]


def open_cases(path: Path | str, splits: Iterable[str] | None = None) -> list[Case]:
    """The cases of some splits (None: all) of a MedBank store, a folder with `items.csv`, or a `data.yaml`.

    Raises:
        InputError: none of these, or a split that it does not have.
    """
    root = Path(path)
    if root.suffix in (".yaml", ".yml"):
        from samed2.data.folders import described_cases

        return described_cases(root, splits)
    if (root / "manifest.json").is_file() or (root / "building.lock").exists():
        from samed2.data.store import Store

        return Store.open(root).cases(splits)
    if (root / "items.csv").is_file():
        from samed2.data.convert.folder import folder_cases

        return folder_cases(root, splits)
    raise InputError(f"{root}: is neither a MedBank store (manifest.json) nor a data folder (items.csv)")
