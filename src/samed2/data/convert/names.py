"""What objects are called."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any


def slug(text: str) -> str:
    """A label as objects and data sets are called: "OpticCup" is optic_cup, "Lt Lung" lt_lung; never empty."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text)
    return re.sub(r"[^a-z0-9]+", "_", spaced.lower()).strip("_") or "object"


def wanted(objects: Mapping[str, Any], labels: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Object -> the labels of a case that are it; all labels under their slugs where no objects are named.

    Args:
        objects: name -> label or list of labels, compared as slugs; anything else stands for the name itself.
    """
    labels = list(dict.fromkeys(labels))
    found: dict[str, tuple[str, ...]] = {}
    if not objects:
        for label in labels:
            found[slug(label)] = (*found.get(slug(label), ()), label)
        return found
    for name, given in objects.items():
        accepted = [given] if isinstance(given, str) else given if isinstance(given, list | tuple) else [name]
        slugs = {slug(str(one)) for one in accepted}
        fits = tuple(label for label in labels if slug(label) in slugs)
        if fits:
            found[name] = fits
    return found
