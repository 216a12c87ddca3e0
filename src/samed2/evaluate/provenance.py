"""What a run stood on: hashes of data and configuration, versions, memory."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from samed2.data.cases import Case
from samed2.errors import InputError

LIBRARIES = ("samed2", "numpy", "scipy", "torch", "transformers", "monai", "scikit-image", "pandas")
WHOLE_BYTES = 2**22  # files up to this size are hashed whole
SAMPLE_BYTES = 2**16  # of larger ones the beginning, the middle and the end


def data_hash(path: Path | str) -> str:
    """SHA-256 of a MedBank store (its manifest's content hash) or of a folder.

    Of a folder: relative names, sizes and contents of all files in order of names; of a file above 4 MiB only three
    samples of 64 KiB (beginning, middle, end). Hidden files are left out.

    Raises:
        InputError: no such folder, or a file that cannot be read.
    """
    root = Path(path)
    manifest = root / "manifest.json"
    try:
        if manifest.is_file():
            found = json.loads(manifest.read_text(encoding="utf-8")).get("content_hash")
            if isinstance(found, str):
                return found
            raise InputError(f"{manifest}: has no content_hash; build the store again")
        if not root.is_dir():
            raise InputError(f"{root}: not found, wanted a store or a folder of data")
        digest = hashlib.sha256()
        files = {p.relative_to(root).as_posix(): p for p in root.rglob("*") if p.is_file()}
        for name in sorted(n for n in files if not any(part.startswith(".") for part in n.split("/"))):
            digest.update(f"{name}\0{files[name].stat().st_size}\0{_file_hash(files[name])}\n".encode())
        return digest.hexdigest()
    except (OSError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{root}: cannot be read ({error})") from error


def _file_hash(path: Path) -> str:
    size = path.stat().st_size
    with open(path, "rb") as handle:
        if size <= WHOLE_BYTES:
            return hashlib.sha256(handle.read()).hexdigest()
        digest = hashlib.sha256()
        for start in (0, (size - SAMPLE_BYTES) // 2, size - SAMPLE_BYTES):
            handle.seek(start)
            digest.update(handle.read(SAMPLE_BYTES))
        return digest.hexdigest()


def cases_hash(cases: Iterable[Case]) -> str:
    """SHA-256 of the names, splits and objects of cases, whatever their order."""
    lines = sorted(f"{c.label}\0{c.patient}\0{c.split}\0{'|'.join(c.objects)}" for c in cases)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def config_hash(config: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON-able configuration."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Python and the libraries that numbers may depend on."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def peak_memory() -> dict[str, float]:
    """Most memory that this process held so far, in MB (2**20 bytes): `memory_mb`, and `gpu_mb` of a GPU."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    found = {"memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        found["gpu_mb"] = max(torch.cuda.max_memory_allocated(i) for i in range(torch.cuda.device_count())) / 2**20
    return found
