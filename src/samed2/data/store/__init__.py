"""The MedBank store: all data sets as one folder of mapped Arrow files. See docs/medbank-store.md."""

from __future__ import annotations

from samed2.errors import InputError

try:
    # each function takes the name of its module here, so these imports are not lazy
    from samed2.data.store.build import build
    from samed2.data.store.manifest import Manifest, is_store, load_manifest
    from samed2.data.store.reader import Store
    from samed2.data.store.verify import verify
except ModuleNotFoundError as error:
    if error.name not in ("pyarrow", "datasets"):
        raise
    raise InputError(f"the MedBank store needs {error.name}, which is missing: pip install 'samed2[bench]'") from error

__all__ = ["Manifest", "Store", "build", "is_store", "load_manifest", "verify"]
