"""Promptable segmentation of medical images, volumes and videos with SAMed-2.

The public names are imported on first use, so that `import samed2` stays quick and loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from samed2.errors import InputError

if TYPE_CHECKING:
    from samed2.io import Scan, Segmentation, read
    from samed2.memory import SelectiveMemory
    from samed2.nn import SAMed2Config, SAMed2Model
    from samed2.predict import Predictor
    from samed2.prompts import Prompts

__version__ = "0.1.0"

_LAZY = {
    "Predictor": "samed2.predict",
    "Prompts": "samed2.prompts",
    "SAMed2Config": "samed2.nn",
    "SAMed2Model": "samed2.nn",
    "Scan": "samed2.io",
    "Segmentation": "samed2.io",
    "SelectiveMemory": "samed2.memory",
    "read": "samed2.io",
}

__all__ = [
    "InputError",
    "Predictor",
    "Prompts",
    "SAMed2Config",
    "SAMed2Model",
    "Scan",
    "Segmentation",
    "SelectiveMemory",
    "__version__",
    "read",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its package when it is first asked for (PEP 562)."""
    if name not in _LAZY:
        raise AttributeError(f"module 'samed2' has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_LAZY))
