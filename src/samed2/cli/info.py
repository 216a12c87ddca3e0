"""`samed2 info`: versions, devices and models with their licences, or what is known about one file."""

from __future__ import annotations

import json
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from samed2 import __version__
from samed2.cli.console import print_json, table
from samed2.cli.info_file import describe
from samed2.cli.segment_case import Reading
from samed2.errors import InputError

LIBRARIES = (
    "torch", "transformers", "safetensors", "huggingface_hub", "numpy", "scipy", "scikit-image",
    "nibabel", "pydicom", "tifffile", "Pillow", "imageio", "pydantic",
)  # fmt: skip
# checkpoints that load by name from the hub; licence as stated there
HUB = {
    f"facebook/sam2{version}-hiera-{size}": "Apache-2.0"
    for version in (".1", "")
    for size in ("tiny", "small", "base-plus", "large")
}
MODELS = Path(__file__).resolve().parents[1] / "models"


def info(
    file: Annotated[Path | None, typer.Argument(help="An image, volume, video or folder.")] = None,
    window: Annotated[str | None, typer.Option(help="The window to resolve for FILE, as in segment.")] = None,
    modality: Annotated[str | None, typer.Option(help="What FILE shows, where it does not say.")] = None,
    series: Annotated[str | None, typer.Option(help="Which DICOM series of FILE, by number or UID.")] = None,
    axis: Annotated[str | None, typer.Option(help="Slices along 0, 1, 2, or axial, coronal, sagittal.")] = None,
    time: Annotated[int | None, typer.Option(min=0, help="Which volume of a 4-D FILE, from 0.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show versions, devices and built-in models; or shape, place, modality, window and series of FILE."""
    if file is not None:
        facts = describe(file, window, Reading(modality, series, axis, time))
    elif any(value is not None for value in (window, modality, series, axis, time)):
        raise InputError("info: got an option without a FILE; name the file to describe")
    else:
        facts = _machine()
    if as_json:
        print_json(facts)
        return
    for section, values in facts.items():
        if isinstance(values, dict) and section != "window":
            print(f"{section}:")
            table((f"  {name}", _text(value)) for name, value in values.items())
        elif section in ("series", "even runs", "warnings") and isinstance(values, list):
            print(f"{section}:")
            print("\n".join(f"  {_text(value) if isinstance(value, dict) else value}" for value in values))
        else:
            table([(section, _text(values))])


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(inner)}" for name, inner in value.items() if inner is not None)
    if isinstance(value, list | tuple):
        return " x ".join(_text(inner) for inner in value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return "unknown" if value is None else str(value)


def _machine() -> dict[str, Any]:
    return {
        "versions": {
            "samed2": __version__,
            "python": f"{platform.python_version()} ({sys.platform}, {platform.machine()})",
            **{name: _version(name) for name in LIBRARIES},
        },
        "devices": _devices(),
        "built-in models": {folder.name: _model(folder) for folder in built_in()} or "none",
        "hub models": HUB,
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "missing"


def _devices() -> dict[str, str]:
    """Return each device that torch can use and what it is."""
    import torch

    found = {"cpu": f"{torch.get_num_threads()} threads"}
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        found[f"cuda:{index}"] = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    if torch.backends.mps.is_available():
        found["mps"] = "Apple GPU"
    return found


def built_in() -> list[Path]:
    """The folders of the models that come with the package."""
    return sorted(config.parent for config in MODELS.glob("*/config.json"))


def _model(folder: Path) -> dict[str, Any]:
    """Return size, parameters, input size and licence of a model folder, read from its files' headers."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    weights = folder / "model.safetensors"
    return {
        "parameters": _parameters(weights),
        "megabytes": round(weights.stat().st_size / 1e6, 1) if weights.is_file() else None,
        "input_px": config.get("image_size"),
        "licence": _licence(folder / "README.md"),
    }


def _parameters(weights: Path) -> int | None:
    """Count the parameters from the safetensors header: 8 bytes of its length, then JSON."""
    if not weights.is_file():
        return None
    with open(weights, "rb") as handle:
        header = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
    total = 0
    for name, entry in header.items():
        if name != "__metadata__":
            count = 1
            for side in entry["shape"]:
                count *= side
            total += count
    return total


def _licence(card: Path) -> str | None:
    """Return the `license` field of a model card's YAML front matter."""
    if not card.is_file():
        return None
    import yaml

    parts = card.read_text(encoding="utf-8").split("---\n", 2)
    front = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0].strip() else None
    return front.get("license") if isinstance(front, dict) else None
