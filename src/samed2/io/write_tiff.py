"""A label map as one TIFF file, a page per frame."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.io.atomic import atomic_path
from samed2.io.segmentation import Segmentation
from samed2.io.writers import Job, register_writer

_CLASSIC = 2**31  # a larger label map gets the 64-bit offsets of BigTIFF


@register_writer("label-tiff", (".tif", ".tiff"))
def write_label_tiff(job: Job) -> list[Path]:
    """Grey pages of 8 bits, or of 16 above id 255, packed without loss; pixel value = object id.

    The resolution is written in pixels per centimetre where the geometry is known.
    """
    import tifffile

    labels = job.stored.labels
    top = max([1, *(entry.id for entry in job.segmentation.objects)])
    kind = np.dtype(np.uint8 if top <= 255 else np.uint16)

    def pages() -> Iterator[NDArray[Any]]:
        for frame in labels:
            yield np.ascontiguousarray(frame, dtype=kind)

    with atomic_path(job.path) as temporary:
        tifffile.imwrite(
            temporary,
            pages(),
            shape=labels.shape,
            dtype=kind,
            bigtiff=labels.size * kind.itemsize > _CLASSIC,
            photometric="minisblack",
            compression="zlib",
            metadata={"axes": "ZYX" if len(labels) > 1 else "QYX"},
            software="SAMed-2",
            **_resolution(job.stored),
        )
    return [job.path]


def _resolution(segmentation: Segmentation) -> dict[str, Any]:
    if not segmentation.geometry.known:
        return {}
    _, tall, wide = segmentation.geometry.spacing
    return {"resolution": (10 / wide, 10 / tall), "resolutionunit": "CENTIMETER"}
