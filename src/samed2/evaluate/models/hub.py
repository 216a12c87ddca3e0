"""Models of transformers from a folder or the hub, checked: safetensors only, every weight there."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from samed2.errors import InputError
from samed2.io.json_file import read_json
from samed2.nn.weights import CONFIG, INDEX, WEIGHTS, resolve

DAMAGED = "fetch the model again"
PREPROCESSOR = "preprocessor_config.json"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of SAM and SAM 2


def load_transformers(name: str, kind: Any, types: Sequence[str]) -> tuple[Any, Path]:
    """A model in evaluation mode and float32, and the folder it came from.

    Args:
        name: a folder, or owner/model of the hub.
        kind: the transformers class.
        types: what its config.json may say under model_type.

    Raises:
        InputError: no such folder or model, another kind of model, or weights that are missing or do not fit.
    """
    folder = resolve(name)
    said = read_json(folder / CONFIG, "a model's configuration", DAMAGED).get("model_type")
    if said not in types:
        raise InputError(f"{folder / CONFIG}: model_type: got {said!r}, wanted {' or '.join(types)}")
    if not ((folder / WEIGHTS).is_file() or (folder / INDEX).is_file()):
        raise InputError(f"{folder}: has no {WEIGHTS}; wanted weights in safetensors")
    try:
        with _quiet():
            model, info = kind.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
    except Exception as error:  # configuration, safetensors and shapes each have their own classes
        line = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{folder}: cannot be loaded as {kind.__name__}, it may be cut off: {line}") from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise InputError(f"{folder / WEIGHTS}: {len(missing)} weights are missing, the first is {missing[0]}")
    return model.float().eval(), folder


def image_statistics(folder: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel that a model was trained with, ImageNet's where it does not say.

    Raises:
        InputError: its preprocessor_config.json holds something else than three numbers each.
    """
    path = folder / PREPROCESSOR
    values = read_json(path, "a preprocessor's configuration", DAMAGED) if path.is_file() else {}
    found = []
    for key, usual in (("image_mean", IMAGENET_MEAN), ("image_std", IMAGENET_STD)):
        given = values.get(key) or usual
        try:
            numbers = tuple(float(v) for v in given)
        except (TypeError, ValueError):
            numbers = ()
        if len(numbers) != 3 or (key == "image_std" and min(numbers) <= 0):
            raise InputError(f"{path}: {key}: got {given!r}, wanted three numbers")
        found.append(numbers)
    return found[0], found[1]


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and remarks of transformers: what matters is checked above."""
    from transformers.utils import logging as remarks

    level, bars = remarks.get_verbosity(), remarks.is_progress_bar_enabled()
    remarks.set_verbosity(logging.CRITICAL)
    remarks.disable_progress_bar()
    try:
        yield
    finally:
        remarks.set_verbosity(level)
        if bars:
            remarks.enable_progress_bar()
