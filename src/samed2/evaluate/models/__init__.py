"""Models that can be evaluated, by name: `load_model`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from samed2.errors import InputError
from samed2.evaluate.models.base import Segmenter
from samed2.evaluate.models.options import split_name

__all__ = ["FAMILIES", "load_model"]

Loader = Callable[[str, str, dict[str, Any], str], Segmenter]


def _samed2(weights: str, device: str, settings: dict[str, Any], name: str) -> Segmenter:
    from samed2.evaluate.models.samed2 import load_samed2

    return load_samed2(weights, device, settings, name)


def _sam2(weights: str, device: str, settings: dict[str, Any], name: str) -> Segmenter:
    from samed2.evaluate.models.sam2 import load_sam2

    return load_sam2(weights, device, settings, name)


def _sam(weights: str, device: str, settings: dict[str, Any], name: str) -> Segmenter:
    from samed2.evaluate.models.sam import load_sam

    return load_sam(weights, device, settings, name)


def _medsam(weights: str, device: str, settings: dict[str, Any], name: str) -> Segmenter:
    from samed2.evaluate.models.sam import load_medsam

    return load_medsam(weights, device, settings, name)


def _unet(weights: str, device: str, settings: dict[str, Any], name: str) -> Segmenter:
    from samed2.evaluate.models.unet import load_unet

    return load_unet(weights, device, settings, name)


FAMILIES: dict[str, Loader] = {"samed2": _samed2, "sam2": _sam2, "sam": _sam, "medsam": _medsam, "unet": _unet}


def load_model(name: str, device: str | None = "auto", **settings: Any) -> Segmenter:
    """Return a model under test by name.

    Args:
        name: "FAMILY:WEIGHTS" with a family of `FAMILIES`; without one it is ours. WEIGHTS is a folder, a name of
            the hub, or a built-in model. Settings may follow, as in "unet:FOLDER?in_box=1&window=percentiles".
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        settings: of the family, see docs/models.md; they win over those in the name.

    Raises:
        InputError: no such family, weights or setting, or a package that the family needs is missing.
    """
    family, weights, given = split_name(name, FAMILIES)
    if not weights:
        raise InputError(f"model {name!r}: names no weights, wanted {family}:FOLDER or {family}:OWNER/NAME")
    return FAMILIES[family](weights, device or "auto", {**given, **settings}, name)
