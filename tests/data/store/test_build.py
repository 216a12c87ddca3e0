from __future__ import annotations

import csv
import errno
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from tests.generated import disc, make_folder, save

from samed2.data.cases import Case, Dropped, LoadedCase, MaskArrays
from samed2.data.convert import registry
from samed2.data.convert.folder import convert_folder, folder_cases
from samed2.data.convert.registry import Source
from samed2.data.store import Store, build, plan, verify
from samed2.errors import InputError
from samed2.io import Scan, atomic
from samed2.io.lock import locked


def load_made(case: Case) -> LoadedCase:
    """A case that is made of its own name: "full", "empty", "mismatch", "broken" or good."""
    rng = np.random.default_rng(len(case.name))
    image = rng.integers(0, 255, (32, 32)).astype(np.uint8)
    mask = disc((32, 32), 15, 15, 6)[None]
    if case.name.startswith("broken"):
        raise ZeroDivisionError("decoder fell over")
    masks = {
        "full": {"a": np.ones_like(mask)},
        "empty": {"a": np.zeros_like(mask), "b": np.zeros_like(mask)},
        "mismatch": {"a": mask[:, :30]},
        "half": {"a": mask, "b": np.ones_like(mask)},
        "absent": {"a": mask, "b": np.zeros_like(mask)},
    }.get(case.name.split("-")[0], {"a": mask})
    return LoadedCase(case, Scan.from_array(image), MaskArrays(masks))


@pytest.fixture
def made(monkeypatch):
    """A converter whose source's layout lists the names of its cases."""

    def convert(source):
        for name in source.layout["names"]:
            if name.startswith("no label"):
                yield Dropped(source.name, name, "no label: nothing beside it")
            else:
                yield Case(source.name, "mr", name, "image", ("a",), reader=load_made)

    monkeypatch.setitem(registry.CONVERTERS, "made", convert)
    return lambda *names, name="made", **other: Source(Path("/nowhere"), name, "made", layout={"names": names}, **other)


def shas(root: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (root / "shards").iterdir()}


def test_all_is_kept_and_counted(built, folder):
    store = Store.open(built)
    cases = folder_cases(folder)
    assert store.manifest.cases == len(cases) == 16
    assert store.manifest.rows == sum(1 if case.kind == "image" else 6 for case in cases)
    assert [row[:5] for row in store.manifest.table()] == [
        ("film", 2, 2, 0, 12),
        ("spots", 12, 12, 0, 12),
        ("stack", 2, 2, 0, 12),
    ]
    assert store.manifest.datasets["spots"]["objects"] == {"disc": 12, "dot": 12}
    assert store.manifest.splits["film"] == {"train": ["ftrain"], "val": ["fval"]}
    assert verify(built) == [] and not list(built.glob("*.lock"))


def test_the_hash_is_of_the_content_only(built, source, folder, tmp_path):
    want = Store.open(built).manifest.content_hash
    moved = tmp_path / "elsewhere" / "moved"
    shutil.copytree(folder, moved)
    for path in moved.rglob("*"):
        os.utime(path, (1, 1))
    assert build([replace(source, root=moved)], tmp_path / "moved").content_hash == want
    assert build([source], tmp_path / "two", workers=2).content_hash == want
    assert shas(tmp_path / "two").keys() == shas(built).keys()
    assert build([source], tmp_path / "small", max_side=32).content_hash != want


def test_the_order_of_sources_does_not_matter(made, tmp_path):
    one, two = made("x", "y", name="one"), made("x", "z", name="two")
    again = made("y", "w", name="one", licence="other")
    hashes = {
        build(order, tmp_path / str(n)).content_hash
        for n, order in enumerate([(one, two, again), (again, two, one), (two, one, again)])
    }
    assert len(hashes) == 1
    manifest = Store.open(tmp_path / "0").manifest
    assert [(d["dataset"], d["name"], d["kind"]) for d in manifest.dropped] == [("one", "y", "two cases with one name")]
    assert manifest.datasets["one"]["kept"] == 3 and manifest.datasets["one"]["dropped"] == 1


def test_what_cannot_be_used_is_told_and_the_rest_is_built(made, tmp_path):
    names = ("good", "full", "empty", "mismatch", "broken", "half", "absent", "no label 7")
    manifest = build([made(*names)], tmp_path)
    assert {d["name"]: d["kind"] for d in manifest.dropped} == {
        "full": "full masks",
        "empty": "empty masks",
        "mismatch": "image and labels do not fit",
        "broken": "cannot be read",
        "no label 7": "no label",
    }
    assert "ZeroDivisionError: decoder fell over" in str(manifest.dropped)
    assert [(d["name"], d["kind"]) for d in manifest.left_out] == [("half", "full mask")]
    table = manifest.datasets["made"]
    assert (table["found"], table["kept"], table["dropped"]) == (8, 3, 5)
    objects = {case.name: case.objects for case in Store.open(tmp_path).cases()}
    assert objects == {"absent": ("a", "b"), "good": ("a",), "half": ("a",)}
    assert verify(tmp_path) == []


def test_nothing_usable(made, tmp_path):
    with pytest.raises(InputError, match="none of 2 cases can be used"):
        build([made("empty", "full")], tmp_path / "a")
    with pytest.raises(InputError, match="no case was found"):
        build([made()], tmp_path / "b")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    "options, says",
    [({"workers": 0}, "workers"), ({"max_side": 3}, "max_side"), ({"fractions": (1, 1, 1)}, "fractions")],
)
def test_bad_settings(source, tmp_path, options, says):
    with pytest.raises(InputError, match=says):
        build([source], tmp_path / "x", **options)
    with pytest.raises(InputError, match="sources"):
        build([], tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_other_folders_are_left_alone(source, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="not empty"):
        build([source], tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_is_no_folder_for_a_store(source, tmp_path):
    (tmp_path / "taken").write_text("a file")
    for out in (tmp_path / "taken", tmp_path / "taken" / "below"):
        with pytest.raises(InputError, match="cannot be made"):
            build([source], out)


def test_finished_shards_are_trusted_only_if_sound_and_their_sources_unchanged(tmp_path, monkeypatch):
    folder = make_folder(tmp_path / "data", items=2)
    source, out = Source(folder, "folder", "folder"), tmp_path / "bank"
    want = build([source], out).content_hash
    calls = []
    module = sys.modules["samed2.data.store.build"]
    original = module.write_shard
    monkeypatch.setattr(module, "write_shard", lambda job, *rest: calls.append(job.stem) or original(job, *rest))

    def rebuilt() -> list[str]:
        calls.clear()
        manifest = build([source], out)
        assert verify(out) == []
        return [*calls, *([] if manifest.content_hash == want else ["changed"])]

    assert rebuilt() == []
    shard = out / "shards" / "spots-00000.arrow"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    assert rebuilt() == ["spots-00000"]
    (out / "shards" / "film-00000.json").unlink()
    assert rebuilt() == ["film-00000"]
    (out / "shards" / "film-00000.json").write_text("{")
    assert rebuilt() == ["film-00000"]
    (out / "shards" / "gone-00000.arrow").write_text("from an earlier set of sources")
    assert rebuilt() == []
    os.utime(folder / "stack" / "vval_label.nii.gz", (5, 5))
    assert rebuilt() == ["stack-00000"]
    save(folder / "spots" / "masks_dot" / "val0.png", np.eye(64, 80, dtype=np.uint8) * 255)
    assert rebuilt() == ["spots-00000", "changed"]


def test_frozen_splits_survive_growth(made, tmp_path):
    names = [f"n{i}" for i in range(30)]
    before = build([made(*names[:20])], tmp_path / "a").case_splits()["made"]
    after = build([made(*names)], tmp_path / "a").case_splits()["made"]
    assert {name: after[name] for name in before} == before
    assert set(after) == set(names)


def test_one_builder_at_a_time_and_no_reader_meanwhile(source, tmp_path):
    (tmp_path / "bank").mkdir()
    with locked(tmp_path / "bank" / "building.lock"):
        for action in (lambda: build([source], tmp_path / "bank"), lambda: Store.open(tmp_path / "bank")):
            with pytest.raises(InputError, match=f"is being written by process {os.getpid()}"):
                action()
    (tmp_path / "bank" / "building.lock").write_text("left by a dead process")
    with pytest.raises(InputError, match="interrupted"):
        Store.open(tmp_path / "bank")
    with pytest.raises(InputError, match="interrupted"):
        verify(tmp_path / "bank")
    build([source], tmp_path / "bank")
    assert verify(tmp_path / "bank") == []


def test_a_full_disk_is_one_line_and_leaves_no_half_file(source, tmp_path, monkeypatch):
    flush, written = atomic._flush_to_disk, []

    def full(path):
        written.append(path)
        if len(written) > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(path)

    monkeypatch.setattr(atomic, "_flush_to_disk", full)
    with pytest.raises(InputError, match="no space left") as caught:
        build([source], tmp_path / "bank")
    assert "\n" not in str(caught.value)
    left = sorted(p.name for p in (tmp_path / "bank" / "shards").iterdir())
    assert left == ["film-00000.arrow", "film-00000.json", "spots-00000.arrow"]
    with pytest.raises(InputError, match="interrupted"):
        Store.open(tmp_path / "bank")
    monkeypatch.undo()
    build([source], tmp_path / "bank")
    assert verify(tmp_path / "bank") == []


def test_ctrl_c_leaves_a_state_to_go_on_from(source, built, tmp_path):
    def stop(done, total, text):
        if text.startswith("stack"):
            raise KeyboardInterrupt

    for workers in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            build([source], tmp_path / "bank", workers=workers, progress=stop)
        assert not list((tmp_path / "bank").rglob(".*part*"))
    manifest = build([source], tmp_path / "bank")
    assert manifest.content_hash == Store.open(built).manifest.content_hash


def test_progress_counts_cases(source, tmp_path):
    seen = []
    build([source], tmp_path / "bank", progress=lambda *args: seen.append(args[:2]))
    assert seen == [(n, 16) for n in range(1, 17)]


def test_folder_converter_checks_what_it_reads(tmp_path):
    folder = make_folder(tmp_path / "data", items=1)
    source = Source(folder, "folder", "folder")
    (folder / "spots" / "masks_dot" / "train0.png").unlink()
    found = list(convert_folder(source))
    assert [f.name for f in found if isinstance(f, Dropped)] == ["train0"]
    cases = {case.name: case for case in found if isinstance(case, Case)}
    assert all(path.exists() for case in cases.values() for path in case.files)
    label = folder / "stack" / "vtrain_label.nii.gz"
    values = np.asarray(nibabel.load(label).dataobj).copy()
    values[0, 0, 0] = 9
    nibabel.save(nibabel.Nifti1Image(values, np.diag([1, 1, 2, 1])), label)
    with pytest.raises(InputError, match="image and labels do not fit"):
        cases["vtrain"].load()
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), label)
    assert "label values outside the list" in cases["vtrain"].load().scan.warnings[0]
    save(folder / "film" / "fval" / "frames" / "003.png", np.zeros((9, 9), np.uint8))
    with pytest.raises(InputError, match=r"003\.png"):
        _ = cases["fval"].load().frames


def build_and_vanish(source: Source, out: Path) -> None:
    """In a child process: build as the head of a process group that can be killed as a whole."""
    os.setsid()
    build([source], out)


def test_killed_at_ten_random_moments_it_ends_with_the_same_hash(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "SHARD_WEIGHT", 4)
    source, out = Source(make_folder(tmp_path / "data", items=20), "folder", "folder"), tmp_path / "bank"
    began = time.monotonic()
    want = build([source], tmp_path / "whole").content_hash
    whole = time.monotonic() - began
    context = multiprocessing.get_context("fork")  # the imports are there already: every moment is one of the build
    rng, deaths = np.random.default_rng(0), 0
    for _ in range(10):
        child = context.Process(target=build_and_vanish, args=(source, out))
        child.start()
        child.join(rng.uniform(0, whole / 3))
        if child.is_alive() and os.getpgid(child.pid) == child.pid:
            os.killpg(child.pid, signal.SIGKILL)
            child.join()
        else:
            child.kill()
            child.join()
        deaths += child.exitcode == -signal.SIGKILL
        if not (out / "manifest.json").exists() and out.exists():
            with pytest.raises(InputError, match=r"interrupted|not a MedBank store"):
                Store.open(out)
    assert deaths >= 3
    assert build([source], out).content_hash == want
    assert verify(out) == []
    assert sorted(shas(out)) == sorted(shas(tmp_path / "whole"))


KILLED = """
import sys
from pathlib import Path
from samed2.data.convert.registry import Source
from samed2.data.store import build

if __name__ == "__main__":
    print("ready", flush=True)
    build([Source(Path(sys.argv[1]), "folder", "folder")], sys.argv[2], workers=2)
"""


def test_killed_with_its_workers(tmp_path, source, folder, built):
    (tmp_path / "killed.py").write_text(KILLED)
    out = tmp_path / "bank"
    command = [sys.executable, str(tmp_path / "killed.py"), str(folder), str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    while not list(out.glob("shards/*")) and process.poll() is None:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert build([source], out).content_hash == Store.open(built).manifest.content_hash
    assert verify(out) == []


def test_pictures_in_two_splits_are_reported(tmp_path):
    folder = make_folder(tmp_path / "data", items=2)
    for item, file in (("val0", "train0"), ("val1", "train1")):
        shutil.copy(folder / "spots" / "images" / f"{file}.png", folder / "spots" / "images" / f"{item}.png")
    image = Image.open(folder / "spots" / "images" / "val1.png").convert("L")
    image.save(folder / "spots" / "images" / "val1.jpg", quality=60)
    (folder / "spots" / "images" / "val1.png").unlink()
    manifest = build([Source(folder, "folder", "folder")], tmp_path / "bank")
    found = {kind: [(e["a"], e["b"]) for e in manifest.duplicates[kind]] for kind in ("exact", "near")}
    assert found["exact"] == [("spots/train0", "spots/val0")]
    assert ("spots/train1", "spots/val1") in found["near"]
    assert manifest.datasets["spots"]["duplicates"]["exact"] == 1


def test_manifest_is_readable_json(built):
    value = json.loads((built / "manifest.json").read_text())
    assert value["format"] == "samed2-medbank" and value["settings"]["seed"] == 0
    assert {"found", "kept", "dropped", "frames", "objects", "reasons", "splits"} <= set(value["datasets"]["spots"])


def test_a_patient_in_two_splits_is_a_warning(tmp_path):
    folder = make_folder(tmp_path / "data", items=1)
    rows = list(csv.reader((folder / "items.csv").read_text().splitlines()))
    for row in rows[1:]:
        row[4] = "same" if row[0] == "spots" else row[4]
    with open(folder / "items.csv", "w", newline="") as handle:
        csv.writer(handle).writerows(rows)
    manifest = build([Source(folder, "folder", "folder")], tmp_path / "bank")
    assert manifest.warnings == ["spots: patient same is in splits train, val, as the source says"]
