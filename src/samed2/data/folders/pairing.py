"""Images and labels of a folder brought together by the words of their names."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from samed2.data.folders.words import Named, named

Key = tuple[str, ...]


@dataclass
class Pair:
    """An image and its label files by object ("" where the name says none)."""

    image: Named
    labels: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


@dataclass
class Pairing:
    """What was brought together, and (path, why) of the rest."""

    pairs: list[Pair]
    unused: list[tuple[str, str]]


def pair_files(paths: Iterable[str]) -> Pairing:
    """Find the image of every label. In this order a label belongs to the image

    1. with the same words (images/a.png, masks/a.png; a.png, a_mask.png; CASE/image.nii.gz, CASE/label.nii.gz);
    2. whose words its own begin with, the rest being the object (a.png, a_liver_mask.png; a.png, masks/a/liver.png);
    3. whose words begin with its own (a_0000.nii.gz, a.nii.gz; CASE/ct.nii.gz, CASE/seg.nii.gz); of several sequences
       one is taken for all labels;
    4. that is alone in its folder (CASE/ct.nii.gz, CASE/segmentations/liver.nii.gz).
    """
    paths = list(paths)
    found = [named(path) for path in paths]
    if not any(one.label for one in found):
        found = [named(path, by_name=True) for path in paths]
    images = [one for one in found if not one.label]
    labels = [one for one in found if one.label]
    index = _Index(images)
    pairs = {one.path: Pair(one) for one in images}
    unused: list[tuple[str, str]] = []
    chosen: set[str] = set()
    waiting: list[tuple[Named, list[Named]]] = []
    for label in labels:
        image, rest = index.find(label)
        if image is not None:
            _add(pairs[image.path], label, rest, chosen)
        elif several := index.longer(label):
            waiting.append((label, several))
        elif alone := index.alone(label):
            _add(pairs[alone.path], label, label.name, chosen)
        else:
            unused.append((label.path, "label without image"))
    unused += _sequences(waiting, pairs, chosen)
    others = {path for path, _ in unused}
    for image in images:
        if image.path not in chosen and image.path not in others:
            unused.append((image.path, "image without label"))
    return Pairing([pairs[one.path] for one in images if one.path in chosen], sorted(unused))


class _Index:
    """Images by their words."""

    def __init__(self, images: list[Named]) -> None:
        self._by_key: dict[tuple[str, Key], list[Named]] = defaultdict(list)
        self._by_start: dict[tuple[str, Key], list[Named]] = defaultdict(list)
        self._by_folder: dict[tuple[str, Key], list[Named]] = defaultdict(list)
        for image in images:
            self._by_key[image.split, image.key].append(image)
            self._by_folder[image.split, image.folder].append(image)
            for end in range(len(image.folder), len(image.key)):
                self._by_start[image.split, image.key[:end]].append(image)

    def find(self, label: Named) -> tuple[Named | None, Key]:
        """The image with the label's words, or with the first of them; and the words left over."""
        with_rest = (*label.rest, *label.key)
        if label.rest and (image := self._one(label.split, with_rest)):
            return image, ()
        for end in range(len(label.key), 0, -1):
            if image := self._one(label.split, label.key[:end]):
                return image, (*label.rest, *label.key[end:])
        return None, ()

    def longer(self, label: Named) -> list[Named]:
        """The images whose words begin with the label's."""
        return self._by_start.get((label.split, label.key), [])

    def alone(self, label: Named) -> Named | None:
        """The only image of the label's folder."""
        several = self._by_folder.get((label.split, label.folder), []) if label.folder else []
        return several[0] if len(several) == 1 else None

    def _one(self, split: str, key: Key) -> Named | None:
        several = self._by_key.get((split, key), [])
        return several[0] if len(several) == 1 else None


def _add(pair: Pair, label: Named, rest: Key, chosen: set[str]) -> None:
    several = "_".join(word for word in rest if not word.isdigit())  # numbers count masks of one object
    pair.labels[several].append(label.path)
    chosen.add(pair.image.path)


def _sequences(
    waiting: list[tuple[Named, list[Named]]], pairs: dict[str, Pair], chosen: set[str]
) -> list[tuple[str, str]]:
    """Give labels that fit several images the sequence that most labels have; (path, why) of what is left."""
    unused: list[tuple[str, str]] = []
    kinds = Counter(image.key[len(label.key) :] for label, several in waiting for image in several)
    order = sorted(kinds, key=lambda kind: (-kinds[kind], kind))
    for label, several in waiting:
        own = {image.key[len(label.key) :]: image for image in several if image.path not in chosen}
        kind = next((kind for kind in order if kind in own), None)
        if kind is None or (len(own) > 1 and kinds[kind] < len(waiting) / 2):
            unused.append((label.path, f"ambiguous: fits {len(several)} images, such as {several[0].path}"))
            continue
        _add(pairs[own[kind].path], label, label.rest, chosen)
        taken = own[kind].path.rpartition("/")[2]
        for other, image in own.items():
            if other != kind:
                unused.append((image.path, f"another sequence of the same case: {taken} is used"))
    return unused
