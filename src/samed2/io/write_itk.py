"""NRRD and MetaImage label maps through SimpleITK, with the names and colours that 3D Slicer reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from samed2.errors import InputError
from samed2.io.atomic import atomic_path
from samed2.io.checks import one_line
from samed2.io.geometry import Geometry
from samed2.io.segmentation import Segmentation
from samed2.io.writers import Job, register_writer

_TO_LPS = np.diag([-1.0, -1.0, 1.0])


@register_writer("nrrd", (".nrrd",))
def write_nrrd(job: Job) -> list[Path]:
    """One gzip-packed label map in LPS; its fields are those of a 3D Slicer segmentation (`.seg.nrrd`)."""
    image = itk_image(job.stored)
    for key, value in _slicer_fields(job.segmentation).items():
        image.SetMetaData(key, value)
    return _save(image, job.path)


@register_writer("mha", (".mha",))
def write_mha(job: Job) -> list[Path]:
    """One zlib-packed MetaImage in LPS."""
    return _save(itk_image(job.stored), job.path)


def itk_image(segmentation: Segmentation) -> Any:
    """The label map as a SimpleITK image of (x, y, frame) voxels.

    Without known geometry one unit is one pixel and the axes are those of ITK, as for NIfTI.
    """
    import SimpleITK

    geometry = segmentation.geometry if segmentation.geometry.known else Geometry.from_xyz(np.diag([-1, -1, 1, 1]))
    image = SimpleITK.GetImageFromArray(segmentation.labels)
    spacing = geometry.spacing[::-1]
    axes = _TO_LPS @ geometry.to_xyz()[:3, :3] / np.array(spacing)
    image.SetSpacing(spacing)
    image.SetDirection([float(value) for value in axes.ravel()])
    image.SetOrigin([float(value) for value in _TO_LPS @ geometry.affine[:3, 3]])
    return image


def _slicer_fields(segmentation: Segmentation) -> dict[str, str]:
    fields = {"Segmentation_MasterRepresentation": "Binary labelmap"}
    for index, entry in enumerate(segmentation.objects):
        color = " ".join(f"{part / 255:.6g}" for part in entry.color or (255, 255, 255))
        name = " ".join("".join(c if c.isprintable() else " " for c in entry.label).split())
        fields |= {
            f"Segment{index}_ID": f"object_{entry.id}",
            f"Segment{index}_Name": name,
            f"Segment{index}_Color": color,
            f"Segment{index}_LabelValue": str(entry.id),
            f"Segment{index}_Layer": "0",
        }
    return fields


def _save(image: Any, path: Path) -> list[Path]:
    import SimpleITK

    with atomic_path(path) as temporary:
        temporary.touch()  # the system's own reason when the folder refuses
        try:
            SimpleITK.WriteImage(image, str(temporary), useCompression=True)
        except RuntimeError as error:
            raise InputError(f"{path}: cannot be written ({one_line(error)}); check the disk and the name") from error
    return [path]
