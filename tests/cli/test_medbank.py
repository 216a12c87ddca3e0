"""`samed2 medbank list|show|build|verify|stats|doubts|noise` on a small folder of data sets."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.generated import make_folder, save

from samed2.data.frames import frame_table, open_table
from samed2.data.noise import Change, apply_change
from samed2.data.store import Store, verify


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def store(folder: Path) -> Path:
    from samed2.cli.main import main

    out = folder.parent / "store"
    assert main(["medbank", "build", "--source", f"folder:{folder}", "--out", str(out), "--json"]) == 0
    return out


def test_list(run: Any) -> None:
    code, out, err = run("medbank", "list")
    assert (code, err) == (0, "") and "acdc" in out and "skin_lesion" in out
    every = json.loads(run("medbank", "list", "--json").out)
    some = json.loads(run("medbank", "list", "--modality", "ct", "--json").out)
    assert {d["modality"] for d in some} == {"ct"} and len(some) < len(every)


def test_list_of_an_unknown_modality(fails: Any) -> None:
    assert "wanted one of" in fails("medbank", "list", "--modality", "smell")


def test_show(run: Any, fails: Any) -> None:
    out = run("medbank", "show", "acdc").out
    assert "training/patient001" in out and "--source acdc:FOLDER" in out
    assert json.loads(run("medbank", "show", "acdc", "--json").out)["objects"]["myocardium"] == 2
    assert "'acdcc'" in fails("medbank", "show", "acdcc")


def test_build_ends_with_table_and_hash(run: Any, folder: Path, tmp_path: Path) -> None:
    code, out, err = run("medbank", "build", "--source", f"folder:{folder}", "--out", tmp_path / "a")
    assert code == 0, err
    lines = {line.split()[0]: line.split() for line in out.splitlines() if line}
    assert lines["spots"][1:5] == ["8", "8", "0", "8"]
    assert lines["stack"][1:5] == ["2", "2", "0", "12"]
    assert lines["content"][1] == Store.open(tmp_path / "a").manifest.content_hash


def test_building_twice_gives_one_hash(run: Any, folder: Path, store: Path, tmp_path: Path) -> None:
    found = json.loads(run("medbank", "build", "--source", f"folder:{folder}", "--out", tmp_path / "b", "--json").out)
    assert found["content_hash"] == Store.open(store).manifest.content_hash and found["cases"] == 12


def test_what_cannot_be_used_is_told(run: Any, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data", items=2)
    save(folder / "spots" / "masks_disc" / "train0.png", np.zeros((10, 10), np.uint8))
    (folder / "spots" / "images" / "val1.png").write_bytes(b"no picture")
    code, out, _ = run("medbank", "build", "--source", f"folder:{folder}", "--out", tmp_path / "store")
    assert code == 0
    assert "spots/train0: " in out and "spots/val1: " in out and "dropped: 2" in out


def test_a_small_copy(run: Any, folder: Path, tmp_path: Path) -> None:
    options = ("--max-side", 32, "--seed", 3, "--out", tmp_path / "s")
    found = json.loads(run("medbank", "build", "--source", f"folder:{folder}", *options, "--json").out)
    assert found["settings"]["max_side"] == 32 and found["settings"]["seed"] == 3
    assert open_table(tmp_path / "s").shapes[:, 1:].max() == 32


def test_wrong_sources(fails: Any, tmp_path: Path) -> None:
    out = tmp_path / "store"
    for text, said in (("folder", "NAME:PATH"), ("nothing:x", "nothing"), ("folder:/no/such", "does not exist")):
        assert said in fails("medbank", "build", "--source", text, "--out", out)
    (tmp_path / "empty").mkdir()
    assert "items.csv" in fails("medbank", "build", "--source", f"folder:{tmp_path / 'empty'}", "--out", out)
    assert not out.exists()


def test_verify(run: Any, store: Path, tmp_path: Path) -> None:
    import shutil

    assert run("medbank", "verify", store).code == 0
    copy = shutil.copytree(store, tmp_path / "copy")
    shard = next((copy / "shards").glob("spots*.arrow"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    code, out, _ = run("medbank", "verify", copy)
    assert code == 1 and shard.name in out
    assert json.loads(run("medbank", "verify", copy, "--fast", "--json").out)["problems"]


@pytest.mark.parametrize("command", ["verify", "stats", "doubts", "noise"])
def test_no_store(fails: Any, command: str, tmp_path: Path) -> None:
    more = ("--out", tmp_path / "o", "--protocol", "drop") if command == "noise" else ()
    assert "is not a MedBank store" in fails("medbank", command, tmp_path, *more)


def test_stats_prints_tables(run: Any, store: Path, folder: Path) -> None:
    code, out, err = run("medbank", "stats", store)
    assert (code, err) == (0, "")
    assert "3 data sets, 4 tasks, 12 cases, 32 frames" in out and "spots/dot" in out
    assert run("medbank", "stats", folder).out == out
    some = json.loads(run("medbank", "stats", store, "--split", "val", "--json").out)
    assert {tuple(d["splits"]) for d in some["datasets"]} == {("val",)}


def test_stats_draws(run: Any, store: Path, tmp_path: Path) -> None:
    code, out, _ = run("medbank", "stats", store, "--out", tmp_path / "s", "--examples", 3)
    assert code == 0 and str(tmp_path / "s" / "index.html") in out
    assert (tmp_path / "s" / "sheets" / "spots-disc.png").is_file()


def test_stats_refuses(fails: Any, store: Path, tmp_path: Path) -> None:
    assert "'tset'" in fails("medbank", "stats", store, "--split", "tset")
    (tmp_path / "file").write_text("")
    assert "is a file" in fails("medbank", "stats", store, "--out", tmp_path / "file")


def test_doubts_are_told(run: Any, fails: Any, store: Path, folder: Path, tmp_path: Path) -> None:
    code, out, err = run("medbank", "doubts", store, "--out", tmp_path / "d")
    assert (code, err) == (0, "") and "0 of 20 masks hardly follow the image" in out and "spots/dot" in out
    assert (tmp_path / "d" / "doubts.csv").read_text() == "task,case,split,frame,contrast,usual\n"
    said = json.loads(run("medbank", "doubts", folder, "--json").out)
    assert sum(t["masks"] for t in said["tasks"]) == 20 and not any(t["doubtful"] for t in said["tasks"])
    assert said["written"] == []
    (tmp_path / "file").write_text("")
    assert "is a file" in fails("medbank", "doubts", store, "--out", tmp_path / "file")


def noisy(run: Any, store: Path, out: Path, *more: object) -> dict[str, Any]:
    code, text, err = run("medbank", "noise", store, "--out", out, "--protocol", "markov:T=40", "--json", *more)
    assert code == 0, err
    return json.loads(text)


def test_noise_writes_a_whole_store(run: Any, store: Path, tmp_path: Path) -> None:
    out = tmp_path / "noisy"
    found = noisy(run, store, out, "--fraction", 0.5, "--seed", 1)
    assert verify(out) == []
    clean, worse = Store.open(store), Store.open(out)
    assert worse.manifest.content_hash == found["content_hash"] != clean.manifest.content_hash
    assert worse.manifest.splits == clean.manifest.splits
    said = worse.manifest.settings["noise"]
    assert said["record_sha256"] == hashlib.sha256((out / "noise" / "record.json").read_bytes()).hexdigest()
    record = json.loads((out / "noise" / "record.json").read_text())
    entries = {(e["dataset"], e["case"], e["object"]): e for e in record["entries"]}
    assert {(d, c) for d, c, _ in entries} and all("train" in case for _, case, _ in entries)
    assert sum(d == "spots" for d, _, o in entries if o == "disc") == 2
    for before, after in zip(clean.cases(), worse.cases(), strict=True):
        a, b = before.load(), after.load()
        np.testing.assert_array_equal(a.frames, b.frames)
        for name in before.objects:
            entry = entries.get((before.dataset, before.name, name))
            for frame in range(len(a.frames)):
                one, two = a.masks.on_frame(name, frame), b.masks.on_frame(name, frame)
                if entry is None or not one.any():
                    np.testing.assert_array_equal(one, two)
                    continue
                values = dict(entry["change"])
                kind, relative, seed = (values.pop(k) for k in ("kind", "relative", "seed"))
                np.testing.assert_array_equal(two, apply_change(one, Change(kind, values, relative, seed), frame))
                dice = 2 * (one & two).sum() / (one.sum() + two.sum())
                assert entry["frames"][str(frame)]["dice"] == pytest.approx(dice, abs=1e-6)


def test_noise_is_the_same_again_and_other_for_another_seed(run: Any, store: Path, tmp_path: Path) -> None:
    hashes = [noisy(run, store, tmp_path / str(i), "--seed", s)["content_hash"] for i, s in enumerate((1, 1, 2))]
    assert hashes[0] == hashes[1] != hashes[2]


def test_dropped_objects_are_looked_for_still(run: Any, store: Path, tmp_path: Path) -> None:
    out = tmp_path / "d"
    assert run("medbank", "noise", store, "--out", out, "--protocol", "drop", "--split", "val").code == 0
    assert verify(out) == []
    for case in Store.open(out).cases("val"):
        assert not any(mask.any() for mask in case.load().masks.values()) and case.objects
    assert set(open_table(out).tasks) == set(open_table(store).tasks)
    assert Store.open(out).manifest.datasets["spots"]["objects"] == {"disc": 4, "dot": 4}


def test_noise_refuses(fails: Any, run: Any, store: Path, tmp_path: Path) -> None:
    out = tmp_path / "n"

    def refused(*more: object, protocol: str = "drop") -> str:
        return fails("medbank", "noise", store, "--out", out, "--protocol", protocol, *more)

    assert "wanted one of dilate" in refused(protocol="blur")
    assert "between 0 and 1" in refused("--fraction", 2)
    assert "'trian'" in refused("--split", "trian")
    assert "take a larger one" in refused("--fraction", 0.01)
    assert not out.exists() and not list(tmp_path.glob(".*part*"))
    noisy(run, store, out)
    assert "is not empty" in refused()
    assert "has noise already" in fails("medbank", "noise", out, "--out", tmp_path / "m", "--protocol", "drop")


def test_a_full_disk_leaves_nothing(fails: Any, store: Path, tmp_path: Path, monkeypatch: Any) -> None:
    import errno

    from samed2.data import noise_store

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(noise_store, "encode_mask", full)
    assert "no space left" in fails("medbank", "noise", store, "--out", tmp_path / "n", "--protocol", "dilate").lower()
    assert list(tmp_path.iterdir()) == []


def test_tables_of_store_and_folder_agree(folder: Path, store: Path) -> None:
    one, two = open_table(store, ["train"]), open_table(folder, ["train"])
    rows = [
        sorted(
            (t.cases[c].label, t.tasks[k], f, p) for c, k, f, p in zip(t.case, t.task, t.frame, t.pixels, strict=True)
        )
        for t in (one, two)
    ]
    assert rows[0] == rows[1] and one.tasks == two.tasks
    shapes = [{c.label: (*s, *m) for c, s, m in zip(t.cases, t.shapes, t.spacings, strict=True)} for t in (one, two)]
    assert str(shapes[0].items()) == str({k: shapes[1][k] for k in shapes[0]}.items())
    kept = Store.open(store).cases(tasks="spots/dot")
    assert frame_table(kept).tasks == ["spots/dot"]


def test_help_is_quick() -> None:
    heavy = ("torch", "pyarrow", "pydantic")
    code = f"import sys; import samed2.cli.medbank; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
