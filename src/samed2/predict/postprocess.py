"""Optional clean-up of masks; nothing here changes a mask unless asked to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def clean(mask: Mask, fill_holes: int = 0, min_area: int = 0) -> Mask:
    """Fill holes of at most `fill_holes` pixels, then drop 8-connected parts below `min_area` pixels.

    A hole is background that does not reach the image's border (4-connected). The largest part always stays.
    """
    from scipy import ndimage

    if fill_holes > 0 and mask.any():
        holes, count = ndimage.label(~mask)
        rim = np.unique(np.concatenate([holes[0], holes[-1], holes[:, 0], holes[:, -1]]))
        sizes = np.bincount(holes.ravel(), minlength=count + 1)
        small = (sizes <= fill_holes) & (np.arange(count + 1) > 0)
        small[rim] = False
        mask = mask | small[holes]
    if min_area > 0 and mask.any():
        parts, count = ndimage.label(mask, structure=np.ones((3, 3), dtype=int))
        sizes = np.bincount(parts.ravel(), minlength=count + 1)
        kept = sizes >= min_area
        kept[1 + int(sizes[1:].argmax())] = True
        kept[0] = False
        mask = kept[parts]
    return mask
