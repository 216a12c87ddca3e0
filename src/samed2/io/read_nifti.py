"""NIfTI-1 and NIfTI-2, 2-D and 3-D, `.nii` and `.nii.gz`; frames are slices along the last array axis."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io.checks import check_claim, native_order, reading
from samed2.io.geometry import Geometry
from samed2.io.readers import register_reader, stem
from samed2.io.scan import Scan

_KEEP_BYTES = 2**31  # a packed volume up to this size is unpacked once and kept; seeking in gzip starts over


def _is_nifti(path: Path, head: bytes) -> bool:
    if head.startswith(b"\x1f\x8b") and path.name.lower().endswith(".gz"):
        try:
            head = zlib.decompressobj(31).decompress(head, 600)
        except zlib.error:
            return path.name.lower().endswith(".nii.gz")
        if path.name.lower().endswith(".nii.gz") and len(head) < 348:
            return True  # cut off inside the header: the reader says so
    return head[344:347] == b"n+1" or head[4:7] == b"n+2"


@register_reader("NIfTI", (".nii", ".nii.gz"), _is_nifti)
def read_nifti(path: Path) -> Scan:
    """A volume whose frames are (y, x) = (j, i) planes of voxel (i, j, k), read when asked for."""
    import nibabel as nib
    from nibabel.imageglobals import LoggingOutputSuppressor

    with LoggingOutputSuppressor():
        image: Any = nib.load(path)
    shape = tuple(int(n) for n in image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (2, 3):
        raise InputError(
            f"{path}: has {len(shape)} dimensions {shape}, wanted a volume of 3; split it into volumes first"
        )
    if min(shape) < 1:
        raise InputError(f"{path}: has no pixels, its header says {shape}")
    stored = image.get_data_dtype()
    packed = path.name.lower().endswith(".gz")
    total = int(np.prod(shape, dtype=object)) * stored.itemsize
    check_claim(path, shape[1], shape[0], total, compressed=packed)
    source = NiftiSource(path, image, shape)
    header = image.header
    notes: list[str] = []
    return Scan(
        source,
        name=stem(path),
        path=path,
        modality="rgb" if source.shape[3] == 3 else "unknown",
        kind="volume" if source.shape[0] > 1 else "image",
        geometry=_geometry(path, image, notes),
        properties={
            "reader": "NIfTI",
            "stored_dtype": str(stored),
            "qform_code": int(header["qform_code"]),
            "sform_code": int(header["sform_code"]),
            "description": bytes(header["descrip"]).rstrip(b"\0").decode("latin-1"),
        },
        warnings=notes,
    )


class NiftiSource:
    """Slices of a NIfTI image: from disk for `.nii`, from one unpacking for `.nii.gz`."""

    def __init__(self, path: Path, image: Any, shape: tuple[int, ...]) -> None:
        self._path = path
        self._proxy = image.dataobj
        self._spatial = shape
        self._packed = path.name.lower().endswith(".gz")
        self._kept: NDArray[Any] | None = None
        stored = image.get_data_dtype()
        if stored.kind == "c" or (stored.names and stored.names[:3] != ("R", "G", "B")) or stored.kind not in "uifV":
            raise InputError(f"{path}: holds values of type {stored}, wanted whole or real numbers or RGB")
        self._slope, self._inter = float(self._proxy.slope), float(self._proxy.inter)
        self._scaled = not stored.names and (self._slope, self._inter) != (1.0, 0.0)
        self.shape = (shape[2] if len(shape) == 3 else 1, shape[1], shape[0], 3 if stored.names else 1)
        if stored.names:
            self.dtype: np.dtype[Any] = np.dtype(np.uint8)
        else:
            self.dtype = np.dtype(np.float32) if self._scaled else stored.newbyteorder("=")

    def read(self, index: int) -> NDArray[Any]:
        with reading(self._path, "NIfTI"):
            plane = np.asarray(self._raw(index)).T  # (j, i) = (y, x)
            if plane.dtype.names:
                return np.stack([plane[name] for name in plane.dtype.names[:3]], axis=-1)
            if self._scaled:
                with np.errstate(over="ignore", invalid="ignore"):
                    return (plane * np.float64(self._slope) + self._inter).astype(np.float32)
            return native_order(np.ascontiguousarray(plane))

    def _raw(self, index: int) -> NDArray[Any]:
        """The unscaled plane (i, j) number `index`."""
        if self._kept is None and self._packed:
            size = int(np.prod(self._proxy.shape, dtype=object)) * self._proxy.dtype.itemsize
            if size <= _KEEP_BYTES:
                self._kept = np.asarray(self._proxy.get_unscaled()).reshape(self._spatial, order="F")
        if self._kept is not None:
            return self._kept if len(self._spatial) == 2 else self._kept[:, :, index]
        if len(self._spatial) == 2:
            return np.asarray(self._proxy.get_unscaled()).reshape(self._spatial, order="F")
        return self._unscaled_plane(index)

    def _unscaled_plane(self, index: int) -> NDArray[Any]:
        from nibabel.fileslice import fileslice

        rest = (0,) * (len(self._proxy.shape) - 3)
        with self._proxy._get_fileobj() as handle:
            slicer = (slice(None), slice(None), index, *rest)
            return np.asarray(
                fileslice(handle, slicer, self._proxy.shape, self._proxy.dtype, self._proxy.offset, order="F")
            )


def _geometry(path: Path, image: Any, notes: list[str]) -> Geometry:
    header = image.header
    coded = int(header["qform_code"]) > 0 or int(header["sform_code"]) > 0
    zooms = np.asarray(header.get_zooms()[:3], dtype=np.float64)
    if not coded and np.allclose(zooms, 1):
        return Geometry.unknown()
    try:
        return Geometry.from_xyz(image.affine)
    except InputError as error:
        notes.append(f"{path}: its geometry is not usable and is left out ({error})")
        return Geometry.unknown()
