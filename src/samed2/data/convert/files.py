"""The files of a case, opened: images as lazy scans, labels as arrays, and whether they fit each other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io import Geometry, Scan, read
from samed2.io.checks import check_claim, quiet, reading
from samed2.io.read_itk import is_itk, read_itk
from samed2.io.readers import stem
from samed2.io.scan import FrameSource

IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm",
)  # fmt: skip
VOLUME_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
NIFTI_AXES = (2, 1, 0)
TOLERANCE = 1e-3  # of spacing and of place, relative to the grid's size


@dataclass(frozen=True)
class HowToRead:
    """What a file alone does not say.

    Attributes:
        channel: which volume of a 4-D file.
        axes: the axes of a NIfTI array that are (frame, y, x); a few sets store slices along the first one.
    """

    channel: int | None = None
    axes: tuple[int, int, int] = NIFTI_AXES


@dataclass(frozen=True)
class LabelFile:
    """A label file that was read: values (T, H, W) and where its grid lies."""

    path: Path
    values: NDArray[Any]
    geometry: Geometry
    lossy: bool = False


def open_image(path: Path, how: HowToRead = HowToRead()) -> Scan:
    """A scan of any format that is read here.

    Raises:
        InputError: missing, empty, damaged, or without the channel that is asked for.
    """
    if is_itk(path):
        return read_itk(path, how.channel)
    nifti = path.name.lower().endswith((".nii", ".nii.gz"))
    if nifti and path.is_file() and path.stat().st_size and (how.channel is not None or how.axes != NIFTI_AXES):
        return _nifti_part(path, how)
    return read(path)


def open_labels(path: Path, how: HowToRead = HowToRead()) -> LabelFile:
    """All label values of a file; of a colour mask the largest of the channels, of a coloured palette the index.

    Raises:
        InputError: as `open_image`, and for pixels that cannot be decoded.
    """
    indices = _palette_indices(path)
    if indices is not None:
        return LabelFile(path, indices[None], Geometry.unknown())
    scan = open_image(path, how)
    values = scan.frames()
    if values.ndim == 4:
        values = values.max(axis=-1)
    return LabelFile(path, values, scan.geometry, lossy=scan.properties.get("reader") == "JPEG")


def check_fit(
    image: Path, shape: tuple[int, int, int], geometry: Geometry, label: LabelFile, ignore_geometry: bool = False
) -> None:
    """Refuse labels on another grid than the image's `shape` (T, H, W) and `geometry`.

    Raises:
        InputError: another size, or both say where they lie and differ by more than a thousandth of the grid.
    """
    if label.values.shape != shape:
        raise InputError(
            f"{image} has {'x'.join(map(str, shape))} voxels (frame, y, x), its labels "
            f"{label.path} {'x'.join(map(str, label.values.shape))}, wanted the same size"
        )
    if ignore_geometry or not (geometry.known and label.geometry.known):
        return
    ours, theirs = np.array(geometry.spacing), np.array(label.geometry.spacing)
    steps = np.array(np.meshgrid(*[(0, n) for n in shape])).reshape(3, -1).T
    apart = float(np.linalg.norm(geometry.to_mm(steps) - label.geometry.to_mm(steps), axis=1).max())
    if (np.abs(ours - theirs) > TOLERANCE * ours).any() or apart > TOLERANCE * np.linalg.norm(ours * shape):
        raise InputError(
            f"{image} and its labels {label.path} lie apart: spacing {_short(ours)} and {_short(theirs)} mm "
            f"(frame, y, x), corners up to {apart:.3g} mm; wanted one grid, or set ignore_geometry: true"
        )


def cropped(scan: Scan, crop: tuple[int, int, int, int]) -> Scan:
    """The part (y0, x0, y1, x1), half-open, of every frame.

    Raises:
        InputError: it reaches beyond the frames.
    """
    y0, x0, y1, x1 = crop
    if not (0 <= y0 < y1 <= scan.height and 0 <= x0 < x1 <= scan.width):
        raise InputError(f"{scan.label}: has {scan.height}x{scan.width} pixels, the crop {list(crop)} is not inside")
    affine = scan.geometry.affine.copy()
    affine[:3, 3] = scan.geometry.to_mm((0, y0, x0))
    geometry = Geometry(affine) if scan.geometry.known else scan.geometry
    return replace(scan, source=_Crop(scan.source, crop), geometry=geometry)


class _Crop:
    """A part of another source's frames."""

    def __init__(self, source: FrameSource, crop: tuple[int, int, int, int]) -> None:
        self._source, self._crop = source, crop
        self.dtype = source.dtype
        self.shape = (source.shape[0], crop[2] - crop[0], crop[3] - crop[1], source.shape[3])

    def read(self, index: int) -> NDArray[Any]:
        y0, x0, y1, x1 = self._crop
        return self._source.read(index)[y0:y1, x0:x1]


def _short(values: NDArray[Any]) -> str:
    return "x".join(f"{value:.4g}" for value in values)


def _palette_indices(path: Path) -> NDArray[Any] | None:
    """The (H, W) indices of a PNG, BMP or TIFF whose palette has colours; None for all else."""
    if path.suffix.lower() not in (".png", ".bmp", ".tif", ".tiff") or not path.is_file():
        return None
    from PIL import Image

    try:
        with quiet(), Image.open(path) as image:
            if image.mode != "P" or getattr(image, "n_frames", 1) != 1:
                return None
            colours = np.asarray(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
            check_claim(path, image.height, image.width, image.height * image.width // 8)
            indices = np.asarray(image)
    except InputError:
        raise
    except Exception:  # damaged or too odd for Pillow: the usual reader reports it
        return None
    used = colours[: int(indices.max()) + 1] if indices.size else colours
    return None if (used == used[:, :1]).all() else indices


def _nifti_part(path: Path, how: HowToRead) -> Scan:
    import nibabel as nib
    from nibabel.imageglobals import LoggingOutputSuppressor

    if sorted(how.axes) != [0, 1, 2]:
        raise InputError(f"axes: got {list(how.axes)}, wanted 0, 1 and 2 in the order frame, y, x")
    with reading(path, "NIfTI"), LoggingOutputSuppressor():
        image: Any = nib.load(path)
        source = _NiftiPart(path, image, how)
        header = image.header
        coded = int(header["qform_code"]) > 0 or int(header["sform_code"]) > 0
        plain = not coded and np.allclose(header.get_zooms()[:3], 1)
        affine = np.asarray(image.affine, dtype=float)[:, [*how.axes, 3]]
    return Scan(
        source,
        name=stem(path),
        path=path,
        kind="volume" if source.shape[0] > 1 else "image",
        geometry=Geometry.unknown() if plain else Geometry(affine),
        properties={"reader": "NIfTI"},
    )


class _NiftiPart:
    """One volume of a 4-D NIfTI file, or one with other axes; kept after the first frame is asked for."""

    def __init__(self, path: Path, image: Any, how: HowToRead) -> None:
        shape = tuple(int(n) for n in image.shape)
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        many = shape[3] if len(shape) == 4 else 1
        if len(shape) not in (3, 4):
            raise InputError(f"{path}: has {len(shape)} dimensions {shape}, wanted 3 or 4")
        if how.channel is None and many > 1:
            raise InputError(f"{path}: has {many} channels, wanted one; say which with `channel:`")
        if not 0 <= (how.channel or 0) < many:
            raise InputError(f"{path}: has no channel {how.channel}, it has {many}")
        stored = image.get_data_dtype()
        if stored.kind not in "uif":
            raise InputError(f"{path}: holds values of type {stored}, wanted whole or real numbers")
        packed = path.name.lower().endswith(".gz")
        total = int(np.prod(shape, dtype=object)) * stored.itemsize
        frame, y, x = (shape[axis] for axis in how.axes)
        check_claim(path, y, x, total, compressed=packed)
        self._path, self._proxy, self._how, self._many = path, image.dataobj, how, many
        scaled = (float(self._proxy.slope), float(self._proxy.inter)) != (1.0, 0.0)
        self.dtype: np.dtype[Any] = np.dtype(np.float32) if scaled else stored.newbyteorder("=")
        self.shape = (frame, y, x, 1)
        self._kept: NDArray[Any] | None = None

    def read(self, index: int) -> NDArray[Any]:
        if self._kept is None:
            with reading(self._path, "NIfTI"):
                spatial = tuple(self.shape[self._how.axes.index(axis)] for axis in range(3))
                rest = len(self._proxy.shape) - 3
                pick = (slice(None),) * 3 + ((self._how.channel or 0,) + (0,) * (rest - 1) if rest else ())
                volume = np.asarray(self._proxy[pick]).reshape(spatial, order="F")
                self._kept = volume.transpose(self._how.axes).astype(self.dtype, copy=False)
        return np.ascontiguousarray(self._kept[index])
