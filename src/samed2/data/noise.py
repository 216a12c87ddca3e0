"""Label noise for training masks: what happens to a mask is drawn first, then applied by a pure function.

Protocols, as text: `KIND`, `KIND:PRESET`, `KIND:VALUE,...` or `KIND:NAME=VALUE,...`.

- `dilate:LOW,HIGH`, `erode:LOW,HIGH`, `dilate-or-erode:LOW,HIGH` (a coin per object): by a Euclidean radius drawn
  uniformly; pixels, or with `%` a share of the diameter of a disc as large as the object on that frame.
- `markov:T,theta1,theta2`: in each of T steps the outer rim (probability theta1) or the inner one is taken and each of
  its pixels flipped with probability theta2; then a 5 x 5 Gaussian blur of sigma 2, cut at one half. Presets `S_R`
  (grows), `S_E` (shrinks) and `brats`, as in SpatialCorrection (ICLR 2023) and GSD-Net (arXiv 2509.02419).
- `shift:LOW,HIGH`: moved by a distance drawn uniformly, in any direction; pixels or `%`.
- `drop:P`: the object is missing from the whole case with probability P.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError

Mask = NDArray[np.bool_]
STEPS_PER_CROP = 16  # a rim moves at most one pixel per step, so this many steps need that much room


@dataclass(frozen=True)
class Change:
    """What is done to one object of one case: numbers for `apply_change`, and a seed for what it draws per pixel."""

    kind: str
    values: Mapping[str, float]
    relative: bool = False  # lengths are shares of the object's diameter on the frame, not pixels
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"kind": self.kind, **self.values, "relative": self.relative, "seed": self.seed}


@dataclass(frozen=True)
class Noise:
    """A protocol with its options, made by `parse_noise`."""

    kind: str
    options: Mapping[str, float]
    relative: bool = False

    def __str__(self) -> str:
        scale, unit = (100, "%") if self.relative else (1, "")
        return f"{self.kind}:" + ",".join(f"{name}={value * scale:g}{unit}" for name, value in self.options.items())


@dataclass(frozen=True)
class Kind:
    """One family of noise: its options and their usual values, how it is drawn, and how it is applied."""

    defaults: Mapping[str, float]
    draw: Callable[[Mapping[str, float], np.random.Generator], tuple[str, dict[str, float]]]
    apply: Callable[[Mask, Change, float, np.random.Generator], Mask] | None  # None: draws give other kinds
    presets: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    lengths: tuple[str, ...] = ()  # options in pixels, which may be given in %
    shares: tuple[str, ...] = ()  # options between 0 and 1


def parse_noise(text: str) -> Noise:
    """Read a protocol such as `dilate:2,4`, `erode:5%,10%`, `markov:S_R` or `markov:T=50,theta1=0.4`.

    Raises:
        InputError: an unknown kind, option or preset, or a value out of range.
    """
    name, _, rest = text.strip().partition(":")
    if name not in KINDS:
        raise InputError(f"noise {text!r}: kind is {name!r}, wanted one of {', '.join(KINDS)}")
    kind = KINDS[name]
    options = dict(kind.defaults)
    units = set()
    if rest in kind.presets:
        options.update(kind.presets[rest])
    elif rest:
        words = rest.split(",")
        if len(words) > len(options):
            raise InputError(f"noise {text!r}: got {len(words)} values, wanted at most {', '.join(options)}")
        for word, usual in zip(words, kind.defaults, strict=False):
            key, _, value = word.rpartition("=")
            key = key.strip() or usual
            options[key], percent = _number(text, kind, key, value)
            units |= {percent} if key in kind.lengths else set()
    if len(units) > 1 or (True in units and not _given_all(rest, kind)):
        raise InputError(f"noise {text!r}: mixes pixels and %, wanted both limits in one unit")
    _check(text, kind, options)
    return Noise(name, options, relative=True in units)


def draw_change(noise: Noise, rng: np.random.Generator) -> Change:
    """Draw what happens to one object; the same numbers are used up whatever the options, so protocols compare."""
    kind, values = KINDS[noise.kind].draw(noise.options, rng)
    return Change(kind, values, noise.relative, int(rng.integers(2**31)))


def apply_change(mask: Mask, change: Change, frame: int = 0) -> Mask:
    """Return the worse copy of a (H, W) mask; the same for the same arguments. An empty mask stays empty.

    The image's border is no border of the object: what is cut off by it does not shrink from there.
    """
    if not mask.any():
        return mask.copy()
    apply = KINDS[change.kind].apply
    assert apply is not None, f"{change.kind} is drawn as another kind"
    unit = 2 * math.sqrt(np.count_nonzero(mask) / math.pi) if change.relative else 1.0
    return apply(mask.astype(bool, copy=False), change, unit, np.random.default_rng([change.seed, frame]))


def dilate(mask: Mask, radius: float) -> Mask:
    """All pixels within `radius` pixels (Euclidean, centre to centre) of a mask that is not empty."""
    from scipy import ndimage

    grown = mask.copy()
    part = _around(mask, math.ceil(radius) + 1)
    grown[part] = ndimage.distance_transform_edt(~mask[part]) <= radius
    return grown


def erode(mask: Mask, radius: float) -> Mask:
    """The pixels of a mask that are more than `radius` pixels away from every pixel outside it."""
    from scipy import ndimage

    kept = mask.copy()
    part = _around(mask, 1)  # holds the nearest outside pixel of every mask pixel
    if not mask[part].all():
        kept[part] = ndimage.distance_transform_edt(mask[part]) > radius
    return kept


def shift(mask: Mask, dy: int, dx: int) -> Mask:
    """The mask moved by whole pixels, down and right when positive; empty where nothing moved in."""
    height, width = mask.shape
    moved = np.zeros_like(mask)
    if abs(dy) < height and abs(dx) < width:
        target = moved[max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)]
        target[:] = mask[max(-dy, 0) : height + min(-dy, 0), max(-dx, 0) : width + min(-dx, 0)]
    return moved


def walk_rim(mask: Mask, steps: int, outward: float, flip: float, rng: np.random.Generator) -> Mask:
    """Spatially correlated noise: `steps` times flip each pixel of the outer (or inner) rim with probability `flip`.

    Rims are the pixels outside (inside) with one of their four neighbours inside (outside).
    """
    from scipy import ndimage

    mask = mask.copy()
    for begin in range(0, steps, STEPS_PER_CROP):
        if not mask.any():
            return mask
        seen = mask[_around(mask, STEPS_PER_CROP + 1)]  # a view: what is flipped is flipped in the mask
        for _ in range(min(STEPS_PER_CROP, steps - begin)):
            outer = rng.random() < outward
            rim = _beside(seen) & ~seen if outer else _beside(~seen) & seen
            places = np.flatnonzero(rim)
            chosen = places[rng.random(len(places)) < flip]
            seen[np.unravel_index(chosen, seen.shape)] = outer
    soft = ndimage.gaussian_filter(mask.astype(np.float32), sigma=2, truncate=1, mode="nearest")  # 5 x 5
    return np.asarray(soft >= 0.5)


def mask_dice(first: Mask, second: Mask) -> float:
    """2 |A and B| / (|A| + |B|); 1 where both are empty."""
    total = np.count_nonzero(first) + np.count_nonzero(second)
    return 2 * float(np.count_nonzero(first & second)) / total if total else 1.0


def _around(mask: Mask, room: int) -> tuple[slice, slice]:
    """The part of the image around a mask, `room` pixels wider on each side."""
    found = [np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0)]
    y, x = (slice(max(int(f[0]) - room, 0), int(f[-1]) + 1 + room) for f in found)
    return y, x


def _beside(mask: Mask) -> Mask:
    """Pixels with one of their four neighbours (within the image) in the mask."""
    near = np.zeros_like(mask)
    near[1:] |= mask[:-1]
    near[:-1] |= mask[1:]
    near[:, 1:] |= mask[:, :-1]
    near[:, :-1] |= mask[:, 1:]
    return near


def _draw_radius(kind: str) -> Callable[[Mapping[str, float], np.random.Generator], tuple[str, dict[str, float]]]:
    def draw(options: Mapping[str, float], rng: np.random.Generator) -> tuple[str, dict[str, float]]:
        amount, coin = rng.random(2)
        drawn = ("dilate" if coin < 0.5 else "erode") if kind == "dilate-or-erode" else kind
        return drawn, {"radius": options["low"] + float(amount) * (options["high"] - options["low"])}

    return draw


def _draw_shift(options: Mapping[str, float], rng: np.random.Generator) -> tuple[str, dict[str, float]]:
    amount, turn = rng.random(2)
    distance = options["low"] + float(amount) * (options["high"] - options["low"])
    return "shift", {"dy": distance * math.sin(2 * math.pi * turn), "dx": distance * math.cos(2 * math.pi * turn)}


def _draw_drop(options: Mapping[str, float], rng: np.random.Generator) -> tuple[str, dict[str, float]]:
    return "drop", {"dropped": float(rng.random(2)[0] < options["p"])}


def _draw_markov(options: Mapping[str, float], rng: np.random.Generator) -> tuple[str, dict[str, float]]:
    rng.random(2)
    return "markov", dict(options)


def _number(text: str, kind: Kind, key: str, value: str) -> tuple[float, bool]:
    if key not in kind.defaults:
        raise InputError(f"noise {text!r}: has no option or preset {key!r}, wanted {_choices(kind)}")
    percent = value.endswith("%")
    if percent and key not in kind.lengths:
        raise InputError(f"noise {text!r}: {key} cannot be in %, wanted a number")
    try:
        number = float(value.rstrip("%"))
    except ValueError:
        raise InputError(f"noise {text!r}: {key} is {value!r}, wanted a number; {_choices(kind)}") from None
    return number / 100 if percent else number, percent


def _choices(kind: Kind) -> str:
    presets = f" or a preset ({', '.join(kind.presets)})" if kind.presets else ""
    return f"options {', '.join(kind.defaults)}{presets}"


def _given_all(rest: str, kind: Kind) -> bool:
    return rest.count("%") == len(kind.lengths)


def _check(text: str, kind: Kind, options: Mapping[str, float]) -> None:
    for key, value in options.items():
        if not (math.isfinite(value) and 0 <= value <= (1 if key in kind.shares else math.inf)):
            wanted = "between 0 and 1" if key in kind.shares else "0 or more"
            raise InputError(f"noise {text!r}: {key} is {value:g}, wanted {wanted}")
    if "low" in options and options["low"] > options["high"]:
        raise InputError(f"noise {text!r}: low is {options['low']:g}, wanted at most high, {options['high']:g}")
    if options.get("T", 0) != int(options.get("T", 0)):
        raise InputError(f"noise {text!r}: T is {options['T']:g}, wanted a whole number of steps")


_RADIUS = {"low": 9.0, "high": 11.0}
_BRATS = {"brats": {"low": 2.0, "high": 4.0}}
_LENGTHS = ("low", "high")
KINDS: dict[str, Kind] = {
    "dilate": Kind(
        _RADIUS, _draw_radius("dilate"), lambda m, c, unit, _: dilate(m, c.values["radius"] * unit), _BRATS, _LENGTHS
    ),
    "erode": Kind(
        _RADIUS, _draw_radius("erode"), lambda m, c, unit, _: erode(m, c.values["radius"] * unit), _BRATS, _LENGTHS
    ),
    "dilate-or-erode": Kind(_RADIUS, _draw_radius("dilate-or-erode"), None, _BRATS, _LENGTHS),
    "markov": Kind(
        {"T": 200.0, "theta1": 0.8, "theta2": 0.05},
        _draw_markov,
        lambda m, c, _, rng: walk_rim(m, int(c.values["T"]), c.values["theta1"], c.values["theta2"], rng),
        {
            "S_R": {"T": 200.0, "theta1": 0.8, "theta2": 0.05},
            "S_E": {"T": 200.0, "theta1": 0.2, "theta2": 0.05},
            "brats": {"T": 50.0, "theta1": 0.4, "theta2": 0.05},
        },
        shares=("theta1", "theta2"),
    ),
    "shift": Kind(
        {"low": 5.0, "high": 10.0},
        _draw_shift,
        lambda m, c, unit, _: shift(m, round(c.values["dy"] * unit), round(c.values["dx"] * unit)),
        lengths=_LENGTHS,
    ),
    "drop": Kind(
        {"p": 1.0},
        _draw_drop,
        lambda m, c, *_: np.zeros_like(m) if c.values["dropped"] else m.copy(),
        shares=("p",),
    ),
}
