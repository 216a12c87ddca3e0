"""Which images come from one patient, as far as names tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from samed2.data.folders.words import Named

LEAST = 4  # patients, below which names are rather classes or sessions


def patients_of(images: Sequence[Named]) -> list[str]:
    """The patient of each image, "" for all where names tell nothing: the folder, or the words before a last number.

    A folder or beginning counts where there are at least four of them with two images each on average.
    """
    for level in (lambda one: "/".join(one.folder), _beginning):
        found = [level(one) for one in images]
        groups = Counter(found)
        if "" not in groups and len(groups) >= LEAST and len(images) >= 2 * len(groups):
            return found
    return [""] * len(images)


def _beginning(image: Named) -> str:
    """Words without the last one, where that ends with a number: patient03_slice12 is patient03."""
    *first, last = image.key
    return "_".join(first) if last[-1:].isdigit() else ""
