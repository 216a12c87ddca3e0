"""NIfTI-1 and NIfTI-2, 2-D to 4-D, `.nii` and `.nii.gz`; frames are slices along the third array axis."""

from __future__ import annotations

import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io.checks import check_claim, native_order, one_line, quiet, reading
from samed2.io.geometry import Geometry
from samed2.io.readers import register_reader, stem
from samed2.io.scan import Scan

_SKEW = 0.1  # degrees off the right angle that are told
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


@register_reader("NIfTI", (".nii", ".nii.gz"), _is_nifti, ("time",))
def read_nifti(path: Path, time: int | None = None) -> Scan:
    """A volume whose frames are (y, x) = (j, i) planes of voxel (i, j, k), read when asked for.

    Args:
        time: which volume of a 4-D file.
    """
    import nibabel as nib
    from nibabel.imageglobals import logger

    with quiet():
        logger.disabled = True  # else each oddity that it mends is printed on stderr
        try:
            image: Any = nib.load(path)
        finally:
            logger.disabled = False
    shape = tuple(int(n) for n in image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if min(shape, default=0) < 1:
        raise InputError(f"{path}: has no pixels, its header says {shape}")
    points = _time_points(path, shape, time)
    stored = image.get_data_dtype()
    packed = path.name.lower().endswith(".gz")
    total = int(np.prod(shape, dtype=object)) * stored.itemsize
    check_claim(path, shape[1], shape[0], total, compressed=packed)
    source = NiftiSource(path, image, shape[:3], time or 0)
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
            **({"time": time or 0, "time_points": points} if points > 1 else {}),
            "description": bytes(header["descrip"]).rstrip(b"\0").decode("latin-1"),
        },
        warnings=notes,
    )


def _time_points(path: Path, shape: tuple[int, ...], time: int | None) -> int:
    """How many volumes the file holds; one of them must be chosen."""
    points = shape[3] if len(shape) > 3 else 1
    if len(shape) not in (2, 3, 4):
        raise InputError(f"{path}: has {len(shape)} dimensions {shape}, wanted 2 to 4; split it into volumes first")
    if time is None and points > 1:
        raise InputError(
            f"{path}: has 4 dimensions {shape}, a volume has 3; choose one of its {points} volumes with time 0 to "
            f"{points - 1}"
        )
    if time is not None and time >= points:
        raise InputError(f"{path}: has {points} time points, got time {time}; wanted 0 to {points - 1}")
    return points


class NiftiSource:
    """Slices of a NIfTI image: from disk for `.nii`, from one unpacking for `.nii.gz`."""

    def __init__(self, path: Path, image: Any, shape: tuple[int, ...], time: int) -> None:
        self._path = path
        self._proxy = image.dataobj
        self._spatial, self._time = shape, time
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
                volumes = np.asarray(self._proxy.get_unscaled()).reshape((*self._spatial, -1), order="F")
                self._kept = np.asfortranarray(volumes[..., self._time])
        if self._kept is not None:
            return self._kept if len(self._spatial) == 2 else self._kept[:, :, index]
        if len(self._spatial) == 2:
            return np.asarray(self._proxy.get_unscaled()).reshape(self._spatial, order="F")
        return self._unscaled_plane(index)

    def _unscaled_plane(self, index: int) -> NDArray[Any]:
        from nibabel.fileslice import fileslice

        more = len(self._proxy.shape) - 3
        rest = (self._time, *[0] * (more - 1)) if more else ()
        with self._proxy._get_fileobj() as handle:
            slicer = (slice(None), slice(None), index, *rest)
            return np.asarray(
                fileslice(handle, slicer, self._proxy.shape, self._proxy.dtype, self._proxy.offset, order="F")
            )


def _qform(image: Any) -> NDArray[np.float64]:
    """The qform; nibabel replaces voxel sizes of 0 by 1 when it loads a header, so they are looked up in the file."""
    wide = image.header["sizeof_hdr"] == 540  # NIfTI-2
    with image.dataobj._get_fileobj() as handle:
        handle.seek(104 if wide else 76)
        raw = np.frombuffer(handle.read(64 if wide else 32), image.header.endianness + ("f8" if wide else "f4"))
    if len(raw) < 4 or not (np.abs(raw[1:4]) > 0).all():
        raise InputError(f"its voxel sizes are {raw[1:4].tolist()}, wanted numbers above 0")
    return np.asarray(image.header.get_qform())


def _geometry(path: Path, image: Any, notes: list[str]) -> Geometry:
    """The sform, else the qform, told if the first is not usable; the voxel sizes where neither is said to be set."""
    header = image.header
    sform, qform = int(header["sform_code"]) > 0, int(header["qform_code"]) > 0
    zooms = np.abs(np.asarray(header["pixdim"][1:4], dtype=np.float64))
    if not sform and not qform and np.allclose(zooms[: min(3, len(image.shape))], 1):
        return Geometry.unknown()
    ways = [("sform", header.get_sform)] if sform else []
    ways += [("qform", partial(_qform, image))] if qform else []
    ways = ways or [("voxel sizes", header.get_base_affine)]
    for name, affine in ways:
        try:
            if name == "voxel sizes" and len(image.shape) == 2 and zooms[2] == 0:
                raise InputError("it has no third one")
            geometry = Geometry.from_xyz(affine())
        except Exception as error:  # nibabel raises its own for quaternions that are none
            notes.append(f"{path}: its {name} gives no usable geometry and is left out ({one_line(error)})")
            continue
        if notes:
            notes[-1] += f"; its {name} is taken instead"
        if geometry.skew > _SKEW:
            notes.append(f"{path}: its axes are not at right angles ({geometry.skew:.3g} degrees off)")
        return geometry
    return Geometry.unknown()
