"""What a row of a MedBank store is: one frame of one case, with everything needed to use it alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from samed2.data.store.codec import LOSSY, decode_frame, decode_mask

FORMAT = "samed2-medbank"
VERSION = 1
# what the digest takes as it is; pixels follow by value, and the way they are packed does not count
PLAIN = (
    "dataset",
    "case",
    "patient",
    "modality",
    "kind",
    "split",
    "licence",
    "frame",
    "frames",
    "height",
    "width",
    "spacing",
    "affine",
    "dtype",
    "channels",
    "objects",
    "file_window",
)


@lru_cache(maxsize=1)
def arrow_schema() -> pa.Schema:
    """The columns of every shard, in order."""
    texts = ("dataset", "case", "patient", "modality", "kind", "split", "licence")
    mask = pa.struct([("object", pa.string()), ("pixels", pa.int64()), ("png", pa.binary())])
    return pa.schema(
        [
            *((name, pa.string()) for name in texts),
            *((name, pa.int32()) for name in ("frame", "frames", "height", "width")),
            ("spacing", pa.list_(pa.float64())),
            ("affine", pa.list_(pa.float64())),
            ("codec", pa.string()),
            ("dtype", pa.string()),
            ("channels", pa.int32()),
            ("slope", pa.float64()),
            ("intercept", pa.float64()),
            ("image", pa.binary()),
            ("objects", pa.list_(pa.string())),
            ("masks", pa.list_(mask)),
            ("file_window", pa.list_(pa.float64())),
            ("digest", pa.string()),
        ]
    )


def row_digest(row: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of the content of a row: its fields, pixel values and masks.

    Losslessly packed pixels count by value, so that another version of a compressor changes nothing; JPEG and WebP
    count by their bytes, because decoders may round differently. The row's own `digest` is not looked at.

    Raises:
        InputError: the image or a mask cannot be decoded.
    """
    digest = hashlib.sha256()
    fields = [[name, row[name]] for name in PLAIN]
    if row["codec"] in LOSSY:
        fields += [[name, row[name]] for name in ("codec", "slope", "intercept")]
    digest.update(json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode())
    digest.update(bytes(row["image"]) if row["codec"] in LOSSY else _little(decode_frame(row)))
    for mask in row["masks"]:
        bits = decode_mask(mask["png"], (row["height"], row["width"]))
        digest.update(json.dumps([mask["object"], mask["pixels"]], ensure_ascii=False).encode())
        digest.update(np.packbits(bits).tobytes())
    return digest.hexdigest()


def _little(pixels: np.ndarray[Any, Any]) -> bytes:
    return np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<")).tobytes()
