"""Damage files of every format and read them: nothing but a valid scan or one clear line may come out, and soon.

    python benchmarks/fuzz_readers.py -n 10000 --seed 0

Inputs are truncated, get bits flipped, pieces overwritten, numbers in their headers replaced, parts repeated or left
out, or are noise behind a known beginning. Each is read in a child process, frames included, within a time limit; a
crash of the process and a hang are counted apart. Prints a table, and JSON as the last line.
"""

from __future__ import annotations

import argparse
import faulthandler
import gzip
import io
import json
import multiprocessing
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

OUTCOMES = ("scan", "refused", "bad scan", "error", "crash", "hang")
FINE = ("scan", "refused")
NUMBERS = (0, 1, 255, 256, 32767, 32768, 65535, 2**31 - 1, 2**31, 2**32 - 1)
WORDS = (b"nan", b"-1", b"0", b"99999999999", b"1e308", b"inf", b"", b"none", b"(1,2)", b"\xff\xfe", b"../x")


def good_files() -> dict[str, bytes]:
    """One good file per kind that readers treat differently, videos, and a folder of DICOM."""
    from tests.io.conftest import GOOD_FILES, MORE_FILES

    found = {name: make() for name, make in {**GOOD_FILES, **MORE_FILES}.items()}
    return {**found, "series.folder": found["series.zip"], **_segmentations()}


def _segmentations() -> dict[str, bytes]:
    """A DICOM SEG of each type and an RTSTRUCT, on the series of the converters' tests."""
    from tests.data.convert import dicom_files as made

    mask = np.zeros((4, made.ROWS, made.COLUMNS), bool)
    mask[1:3, 3:8, 4:9] = True
    square = [(2.5, 3.5), (2.5, 9.5), (8.5, 9.5), (8.5, 3.5)]
    found = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        images = made.series(folder / "ct")
        for kind in ("BINARY", "FRACTIONAL", "LABELMAP"):
            made.seg(folder / "a", images, {"One": mask, "Two": np.roll(mask, 12, 2)}, kind)
            found[f"{kind.lower()}.seg.dcm"] = (folder / "a").read_bytes()
        made.rtstruct(folder / "a", images, {"One": [(1, square), (2, square)], "Two": [(3, square)]})
        found["contours.rt.dcm"] = (folder / "a").read_bytes()
    return found


def _read_segments(path: Path) -> str:
    """As `read_all`, for masks on the grid that they were drawn on."""
    from tests.data.convert import dicom_files as made

    from samed2.io import Geometry, Scan, read_segments

    corners = np.array([made.lps(*voxel) for voxel in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))]) * (-1, -1, 1)
    affine = np.eye(4)
    affine[:3] = np.stack([*(corners[1:] - corners[0]), corners[0]], axis=1)
    scan = Scan.from_array(np.zeros((4, made.ROWS, made.COLUMNS)), kind="volume", geometry=Geometry(affine))
    masks = read_segments(path, scan)
    fine = all(mask.shape == scan.shape and mask.dtype == bool and name.isprintable() for name, mask in masks.items())
    return "scan" if fine else "bad scan: masks"


def damage(content: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """How, and the damaged bytes."""
    kind = str(
        rng.choice(["cut", "bits", "head bits", "overwrite", "numbers", "words", "leave out", "repeat", "noise"])
    )
    size, data = len(content), bytearray(content)
    head = min(size, int(rng.choice([64, 400, 2000])))
    if kind == "cut":
        return kind, content[: int(rng.integers(1, size))]
    if kind in ("bits", "head bits"):
        for _ in range(int(rng.integers(1, 12))):
            data[int(rng.integers(0, size if kind == "bits" else head))] ^= 1 << int(rng.integers(0, 8))
    elif kind == "overwrite":
        at, length = int(rng.integers(0, size)), int(rng.integers(1, 64))
        data[at : at + length] = (
            rng.bytes(length) if rng.random() < 0.5 else bytes([int(rng.choice([0, 255]))]) * length
        )
    elif kind == "numbers":
        for _ in range(int(rng.integers(1, 4))):
            width, value = int(rng.choice([2, 4])), int(rng.choice(NUMBERS))
            order = "little" if rng.random() < 0.8 else "big"
            at = int(rng.integers(0, head))
            data[at : at + width] = (value % 256**width).to_bytes(width, order)  # type: ignore[arg-type]
    elif kind == "words":
        lines = content[:head].split(b"\n")
        line = int(rng.integers(0, len(lines)))
        parts = lines[line].split(b" ")
        parts[int(rng.integers(0, len(parts)))] = WORDS[int(rng.integers(0, len(WORDS)))]
        lines[line] = b" ".join(parts)
        return kind, b"\n".join(lines) + content[head:]
    elif kind == "leave out":
        at = int(rng.integers(0, size))
        del data[at : at + int(rng.integers(1, 200))]
    elif kind == "repeat":
        at, length = int(rng.integers(0, size)), int(rng.integers(1, 200))
        data[at:at] = data[at : at + length] * int(rng.integers(1, 5))
    else:
        data = bytearray(content[: int(rng.integers(1, 64))] + rng.bytes(int(rng.integers(1, 600))))
    return kind, bytes(data) or b"\0"


def make_input(name: str, content: bytes, folder: Path, rng: np.random.Generator) -> tuple[str, Path, dict[str, Any]]:
    """Write one damaged input; how it was damaged, what to read, and with which options."""
    options: dict[str, Any] = {}
    if rng.random() < 0.3:
        options = {"time": int(rng.integers(0, 3))} if rng.random() < 0.5 else {"axis": int(rng.integers(0, 3))}
    if name.endswith(".nii.gz") and rng.random() < 0.6:  # damage what is packed, not only the packing
        kind, inner = damage(gzip.decompress(content), rng)
        damaged = gzip.compress(inner, 1, mtime=0)
    elif name.endswith(".folder"):  # a zip of a series, unpacked; one or two files damaged
        target = folder / f"series{int(rng.integers(0, 2**31))}"
        target.mkdir()
        kind = ""
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.namelist()
            hit = set(rng.choice(members, size=int(rng.integers(1, 3)), replace=False).tolist())
            for member in members:
                inner = archive.read(member)
                if member in hit:
                    kind, inner = damage(inner, rng)
                (target / Path(member).name).write_bytes(inner)
        return kind, target, options
    else:
        kind, damaged = damage(content, rng)
    path = folder / f"{int(rng.integers(0, 2**31))}-{name}"
    path.write_bytes(damaged)
    return kind, path, options


def read_all(path: Path, options: dict[str, Any]) -> str:
    """Outcome of one read: "scan" if all a scan promises holds, "refused" for an InputError as it should be."""
    from samed2.errors import InputError
    from samed2.io import read, resolve_window

    try:
        if path.name.endswith((".seg.dcm", ".rt.dcm")):
            return _read_segments(path)
        scan = read(path, **options)
        wrong = _promises(scan)
        if wrong:
            return f"bad scan: {wrong}"
        window = resolve_window(scan)
        for index in sorted({0, 1, scan.num_frames // 2, scan.num_frames - 1} & set(range(scan.num_frames))):
            frame = scan.frame(index)
            tail = (3,) if scan.channels == 3 else ()
            if frame.shape != (scan.height, scan.width, *tail) or frame.dtype != scan.dtype:
                return f"bad scan: frame {index} is {frame.shape} {frame.dtype}, promised {scan!r}"
            shown = window.apply(frame)
            if not (shown.min() >= 0 and shown.max() <= 1):
                return "bad scan: window"
    except InputError as error:
        text = str(error)
        if not text.isprintable() or str(path.parent) not in text or len(text) > 2500:
            return f"error: message {text[:300]!r}"
        return "refused"
    except Exception:
        return f"error: {traceback.format_exc(limit=-4)}"
    return "scan"


def _promises(scan: Any) -> str:
    if (
        not 1 <= scan.num_frames <= 10**6
        or scan.channels not in (1, 3)
        or scan.kind not in ("image", "volume", "video")
    ):
        return repr(scan)
    if not np.isfinite(scan.geometry.affine).all() or abs(np.linalg.det(scan.geometry.affine[:3, :3])) == 0:
        return f"affine {scan.geometry.affine.tolist()}"
    json.dumps(scan.properties, allow_nan=False)
    if not all(note.isprintable() for note in scan.warnings):
        return f"warnings {scan.warnings}"
    return ""


def _child(connection: Any, crash_log: str) -> None:
    with open(crash_log, "w") as log:
        faulthandler.enable(log)
        while True:
            try:
                job = connection.recv()
            except EOFError:
                return
            connection.send(read_all(*job))


class Worker:
    """A process that reads; started anew after a crash or a hang."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "crash.txt"
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_child, args=(theirs, str(self._log)), daemon=True)
        self._process.start()
        theirs.close()

    def run(self, path: Path, options: dict[str, Any], limit: float) -> str:
        """The outcome, "crash: ..." or "hang"."""
        self._ours.send((path, options))
        try:
            if self._ours.poll(limit):
                return str(self._ours.recv())
            outcome = "hang"
        except (EOFError, ConnectionResetError):
            outcome = "crash: " + (self._log.read_text()[-1500:] if self._log.exists() else "")
        self.close()
        self._start()
        return outcome

    def close(self) -> None:
        self._process.kill()
        self._process.join()
        self._ours.close()


def fuzz(count: int, seed: int, limit: float, keep: Path | None = None, only: str = "") -> dict[str, Any]:
    """Read `count` damaged inputs; outcomes by kind of file, and what is worth a look."""
    goods = {name: content for name, content in good_files().items() if only in name}
    names = list(goods)
    table: dict[str, Counter[str]] = {name: Counter() for name in names}
    found: list[dict[str, Any]] = []
    slowest = 0.0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        worker = Worker(folder)
        worker.run(folder, {}, 60)  # pays for the imports
        for index in range(count):
            rng = np.random.default_rng([seed, index])
            name = names[index % len(names)]
            kind, path, options = make_input(name, goods[name], folder, rng)
            start = time.perf_counter()
            outcome = worker.run(path, options, limit)
            seconds = time.perf_counter() - start
            slowest = max(slowest, seconds)
            short = outcome.partition(":")[0]
            table[name][short] += 1
            if short not in FINE:
                found.append({"index": index, "file": name, "damage": kind, "options": options, "outcome": outcome})
                if keep is not None and path.is_file():
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{index}-{name}").write_bytes(path.read_bytes())
            _remove(path)
        worker.close()
    return {"table": table, "found": found, "slowest_s": slowest}


def _remove(path: Path) -> None:
    if path.is_dir():
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    else:
        path.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("-n", "--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=20.0, help="seconds per input")
    parser.add_argument("--only", default="", help="kinds of file whose name contains this")
    parser.add_argument("--keep", type=Path, help="folder for the inputs that failed")
    args = parser.parse_args()
    start = time.perf_counter()
    result = fuzz(args.count, args.seed, args.limit, args.keep, args.only)
    print(f"{'file':22}" + "".join(f"{name:>10}" for name in OUTCOMES))
    totals: Counter[str] = Counter()
    for name, counts in result["table"].items():
        print(f"{name:22}" + "".join(f"{counts[outcome]:10}" for outcome in OUTCOMES))
        totals.update(counts)
    for one in result["found"][:40]:
        print(f"\n{one['index']} {one['file']} {one['damage']} {one['options']}\n{one['outcome']}")
    bad = sum(count for outcome, count in totals.items() if outcome not in FINE)
    summary = {
        "inputs": sum(totals.values()),
        "seed": args.seed,
        **{outcome: totals[outcome] for outcome in OUTCOMES},
        "slowest_s": round(result["slowest_s"], 2),
        "seconds": round(time.perf_counter() - start, 1),
        "ok": bad == 0,
    }
    print(json.dumps(summary))
    sys.exit(0 if bad == 0 else 1)


if __name__ == "__main__":
    main()
