"""Twenty pairs of masks whose scores were worked out by hand.

Surface voxels have a face neighbour outside the mask or outside the image. A percentile of n sorted distances
d[0] <= ... <= d[n-1] lies at index 0.95 (n - 1), interpolated linearly. "a->b" lists the distances of A's surface
voxels to B's surface. A mask is given as a list of boxes ((low, high), ...) per axis, half-open; a number is one row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Range = int | tuple[int, int]


@dataclass(frozen=True)
class HandPair:
    name: str
    shape: tuple[int, ...]
    a: Sequence[tuple[Range, ...]]
    b: Sequence[tuple[Range, ...]]
    dice: float
    iou: float
    nsd: float
    hd95: float
    tolerance: float = 2.0
    spacing: tuple[float, ...] | None = None
    cut: Sequence[tuple[Range, ...]] = ()  # taken out of B

    def masks(self) -> tuple[np.ndarray, np.ndarray]:
        first, second = draw(self.shape, self.a), draw(self.shape, self.b)
        return first, second & ~draw(self.shape, self.cut)


def draw(shape: tuple[int, ...], boxes: Sequence[tuple[Range, ...]]) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    for box in boxes:
        mask[tuple(slice(r, r + 1) if isinstance(r, int) else slice(*r) for r in box)] = True
    return mask


PAIRS = [
    # |A| = |B| = |A and B|; every distance is 0
    HandPair("identical squares", (8, 8), [((2, 5), (2, 5))], [((2, 5), (2, 5))], 1, 1, 1, 0),
    # nothing was there and nothing was said to be: right by definition
    HandPair("both empty", (5, 6), [], [], 1, 1, 1, 0),
    # one surface voxel in all, nothing within reach; no distance is defined
    HandPair("nothing found of one pixel", (5, 5), [], [(2, 3)], 0, 0, 0, math.nan),
    HandPair("everything marked, nothing there", (4, 5), [((0, 4), (0, 5))], [], 0, 0, 0, math.nan),
    # A 16 px, B its middle 2 x 2: Dice 2*4/20, IoU 4/16. A's surface: the 12 px of the image's rim (touching the
    # border); a->b: 8 times 1 (beside B), 4 corners sqrt(2). B's surface: its 4 px, b->a: 4 times 1.
    # NSD at 1: (8 + 4) / 16. Index .95 * 11 = 10.45 lies among the corners d[8..11]: sqrt(2).
    HandPair(
        "full against its middle", (4, 4), [((0, 4), (0, 4))], [((1, 3), (1, 3))],
        0.4, 0.25, 0.75, math.sqrt(2), tolerance=1,
    ),
    # 3 down and 4 right: 5 px, exactly the tolerance
    HandPair("two pixels, 3-4-5", (6, 7), [(1, 1)], [(4, 5)], 0, 0, 1, 5, tolerance=5),
    # the same in mm: 3 * 2 down and 4 * 0.5 right: sqrt(36 + 4) > 5
    HandPair(
        "two pixels, anisotropic", (6, 7), [(1, 1)], [(4, 5)], 0, 0, 0, math.sqrt(40), tolerance=5, spacing=(2, 0.5)
    ),
    # A 9 px, B 8: Dice 16/17, IoU 8/9. Both middles have all face neighbours: surfaces 8 and 7.
    # a->b: 7 times 0 and the corner 1; index .95 * 7 = 6.65 between d[6] = 0 and d[7] = 1. b->a: 0. NSD (7 + 7) / 15.
    HandPair(
        "full image less a corner", (3, 3), [((0, 3), (0, 3))], [((0, 3), (0, 3))],
        16 / 17, 8 / 9, 14 / 15, 0.65, tolerance=0.5, cut=[(0, 0)],
    ),
    # 3 x 3 moved by a column: Dice 2*6/18, IoU 6/12. Surfaces: the 8 rim px each. a->b: A's first column 3 times 1; its
    # last column's middle is B's centre, no surface: 1; the other 4 lie on B's rim: 0. b->a the mirror image.
    # NSD at .5: 8/16; index 6.65 of (0 0 0 0 1 1 1 1): 1.
    HandPair(
        "square moved by a pixel", (6, 6), [((1, 4), (1, 4))], [((1, 4), (2, 5))],
        2 / 3, 0.5, 0.5, 1, tolerance=0.5,
    ),
    # the same moved by a row of 3 mm with columns of .5 mm: A's first row 3 times 3; its last row's middle has a rim
    # pixel of B beside it, at .5; else 0. NSD at 2: 10/16; index 6.65 of (0 0 0 0 .5 3 3 3): 3.
    HandPair(
        "square moved by a thick row", (6, 6), [((1, 4), (1, 4))], [((2, 5), (1, 4))],
        2 / 3, 0.5, 0.625, 3, spacing=(3, 0.5),
    ),
    # 21 px against 20 of them: Dice 40/41, IoU 20/21. a->b: 20 times 0, once 1; index .95 * 20 = 19 exactly: d[19] = 0:
    # the percentile forgives what the maximum would not. NSD at .5: (20 + 20) / 41.
    HandPair("line, one end missing", (2, 21), [(0, (0, 21))], [(0, (0, 20))], 40 / 41, 20 / 21, 40 / 41, 0, 0.5),
    # 11 px against 10, 4 mm apart: a->b: 10 times 0, once 4; index 9.5: halfway from d[9] = 0 to d[10] = 4.
    # NSD at 2 mm: (10 + 10) / 21.
    HandPair(
        "short line, 4 mm columns", (3, 11), [(1, (0, 11))], [(1, (0, 10))],
        20 / 21, 10 / 11, 20 / 21, 2, spacing=(1, 4),
    ),
    # two specks against the first: Dice 2/3, IoU 1/2. a->b: 0 and 9; index .95 * 1: .95 * 9 = 8.55. b->a: 0.
    # NSD (1 + 1) / 3.
    HandPair("disconnected, a part too much", (4, 12), [(0, 0), (0, 9)], [(0, 0)], 2 / 3, 0.5, 2 / 3, 8.55),
    # columns 0, 1 against 5, 6: a->b: 5, 5, 4, 4, b->a the same. NSD at 4: 4/8. Index 2.85 of (4 4 5 5): 5.
    HandPair("disjoint squares", (3, 8), [((0, 2), (0, 2))], [((0, 2), (5, 7))], 0, 0, 0.5, 5, tolerance=4),
    # 25 px against 24: Dice 48/49, IoU 24/25. Surfaces: A's rim, 16; B's rim and the 4 face neighbours of the hole (its
    # diagonal neighbours are none), 20. a->b: 0. b->a: 16 times 0, 4 times 1; index .95 * 19 = 18.05: 1.
    # NSD at .5: (16 + 16) / 36.
    HandPair(
        "square against ring", (7, 7), [((1, 6), (1, 6))], [((1, 6), (1, 6))],
        48 / 49, 24 / 25, 8 / 9, 1, tolerance=0.5, cut=[(3, 3)],
    ),
    # .7 mm down, 2.4 mm right: sqrt(.49 + 5.76) = 2.5, exactly the tolerance
    HandPair("corner to corner", (2, 2), [(0, 0)], [(1, 1)], 0, 0, 1, 2.5, tolerance=2.5, spacing=(0.7, 2.4)),
    # 27 voxels against the middle one: Dice 2/28, IoU 1/27. A's surface: the other 26. a->b: 6 faces 1, 12 edges
    # sqrt(2), 8 corners sqrt(3). b->a: 1. NSD at 1: (6 + 1) / 27. Index .95 * 25 = 23.75 among d[18..25]: sqrt(3).
    HandPair(
        "cube against its middle", (5, 5, 5), [((1, 4), (1, 4), (1, 4))], [(2, 2, 2)],
        1 / 14, 1 / 27, 7 / 27, math.sqrt(3), tolerance=1,
    ),
    # the same with frames 5 mm apart: the middle frame's 8 are at 1 or sqrt(2); above and below 2 at 5, 8 at sqrt(26),
    # 8 at sqrt(27). NSD at 2: (8 + 1) / 27. Index 23.75 among the last 8: sqrt(27).
    HandPair(
        "cube against its middle, thick slices", (3, 3, 3), [((0, 3), (0, 3), (0, 3))], [(1, 1, 1)],
        1 / 14, 1 / 27, 1 / 3, math.sqrt(27), spacing=(5, 1, 1),
    ),
    # frames 0, 1 against 1, 2, all 2 x 2: Dice 2*4/16, IoU 4/12; each voxel is at the image's border and so surface.
    # a->b: 4 times 2.5, 4 times 0; b->a the same. NSD at 2: 8/16. Index 6.65: 2.5.
    HandPair(
        "one slice too early", (4, 2, 2), [((0, 2), (0, 2), (0, 2))], [((1, 3), (0, 2), (0, 2))],
        0.5, 1 / 3, 0.5, 2.5, spacing=(2.5, 1, 1),
    ),
    # 1 frame, 2 rows, 2 columns apart: (3, 2, 4) mm: sqrt(29) = 5.385
    HandPair(
        "two voxels, all axes differ", (3, 4, 4), [(0, 0, 1)], [(1, 2, 3)], 0, 0, 0, math.sqrt(29), spacing=(3, 1, 2)
    ),
]  # fmt: skip
