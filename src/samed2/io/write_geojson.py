"""GeoJSON: objects as polygons in pixels, as QuPath and others read annotations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from samed2.io.atomic import atomic_write
from samed2.io.outlines import parts
from samed2.io.scratch import walked
from samed2.io.segmentation import Segmentation, SegmentedObject, plain
from samed2.io.writers import Job, register_writer


@register_writer("geojson", (".geojson",))
def write_geojson(job: Job) -> list[Path]:
    """A FeatureCollection (RFC 7946) with one Polygon per connected part of an object and frame, holes as inner rings.

    Coordinates are [x, y] in pixels from the upper left corner of the image, y downwards, so the centre of the first
    pixel is [0.5, 0.5]. Edges run half-way between pixels inside and outside: filling the pixels whose centres a
    polygon encloses gives the mask back. Outer rings run counter-clockwise and holes clockwise in the sense of
    the RFC. Pixels that touch at a corner only are separate features. An object found nowhere is named
    in `objects` and has no feature.
    """
    segmentation = job.stored
    _, tall, wide = segmentation.geometry.spacing
    frames, height, width = segmentation.shape
    content = {
        "type": "FeatureCollection",
        "scan": segmentation.scan_name,
        "image_size": {"frames": frames, "height": height, "width": width},
        "coordinates": {
            "unit": "pixel",
            "order": "x,y",
            "origin": "upper left corner of the image; y runs down; the centre of the first pixel is 0.5,0.5",
            "pixel_size_mm": [wide, tall] if segmentation.geometry.known else None,
        },
        "objects": [{"id": entry.id, "name": entry.name} for entry in segmentation.objects],
        "provenance": plain(segmentation.provenance),
        "features": list(_features(segmentation)),
    }
    return [atomic_write(job.path, json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n")]


def _features(segmentation: Segmentation) -> Iterator[dict[str, Any]]:
    geometry = segmentation.geometry
    pixel = float(np.linalg.norm(np.cross(geometry.affine[:3, 1], geometry.affine[:3, 2]))) if geometry.known else None
    objects = {entry.id: entry for entry in segmentation.objects}
    for frame, labels in enumerate(walked(segmentation.labels)):
        for value in np.unique(labels):
            if not value:
                continue
            for rings, pixels in parts(labels == value):
                closed = [np.concatenate([ring, ring[:1]])[:, ::-1] + 0.5 for ring in rings]
                yield {
                    "type": "Feature",
                    "geometry": {"type": "Polygon", "coordinates": [ring.tolist() for ring in closed]},
                    "properties": {
                        **_named(objects[int(value)], frame),
                        "frame": frame,
                        "area_px": pixels,
                        "area_mm2": None if pixel is None else pixels * pixel,
                    },
                }


def _named(entry: SegmentedObject, frame: int) -> dict[str, Any]:
    color = [int(part) for part in entry.color or (255, 255, 255)]
    return {
        "objectType": "annotation",
        "object_id": entry.id,
        "name": entry.name,
        "classification": {"name": entry.label, "color": color},
        "confidence": plain(entry.confidence.get(frame)),
    }
