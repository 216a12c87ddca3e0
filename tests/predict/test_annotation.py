"""Annotating a folder: proposals from memory, corrections, confirmations, and what is kept between runs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from samed2.errors import InputError
from samed2.io import Scan, read
from samed2.memory import SelectiveMemory
from samed2.predict import Predictor
from samed2.predict.annotate import Annotation, How, correct, find_cases, propose, remember, uncertainty
from samed2.predict.annotate.cases import choose
from samed2.prompts import Prompts

HOW = How(looks=2)


def picture(path: Path, seed: int = 0, shape: tuple[int, int] = (48, 60)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)
    Image.fromarray(values).save(path)
    return path


def stack(path: Path, seed: int = 0) -> Path:
    values = np.random.default_rng(seed).normal(100, 30, (40, 44, 4)).astype(np.float32)
    affine = np.array([[-0.8, 0.1, 0, 5], [0, 0.9, 0.2, -7], [0, -0.1, 2.5, 3], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


def box(frame: int = 0) -> Prompts:
    return Prompts().add_box(1, frame, 8, 10, 30, 34)


@pytest.fixture
def own(predictor: Predictor) -> Predictor:
    return Predictor(predictor.model, "cpu", precision="fp32", name="tiny")


@pytest.fixture
def memory(own: Predictor) -> SelectiveMemory:
    return own.new_memory(20)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(3):
        picture(tmp_path / "cases" / f"p{number}.png", number)
    stack(tmp_path / "cases" / "v.nii.gz")
    return tmp_path / "cases"


@pytest.fixture
def start(own: Predictor, folder: Path, tmp_path: Path):
    """Return a function that opens the annotation anew, as another run would; the one before lets go of its folder."""
    opened: dict[str, Annotation] = {}

    def call(out: str = "out", **options) -> Annotation:
        given = {"how": HOW, "bank": tmp_path / "bank.safetensors", "task": "blob", "folder": folder, **options}
        if out in opened:
            opened[out].close()
        opened[out] = Annotation(own, out=tmp_path / out, **given)
        return opened[out]

    return call


def ok(steps) -> list[str]:
    found = list(steps)
    assert not [done for done in found if done.problem], found
    return [done.name for done in found]


def statuses(work: Annotation) -> dict[str, str]:
    return {name: entry.status for name, entry in work.cases.items()}


def filled(work: Annotation, name: str) -> None:
    """Draw a square into a case's mask file, as a person would."""
    path = work.out / work.cases[name].mask
    mask = np.zeros(read(path).shape, np.uint8)
    mask[:, 10:30, 12:36] = 1
    if path.suffix == ".png":
        Image.fromarray(mask[0]).save(path)
    else:
        nibabel.save(nibabel.Nifti1Image(mask.transpose(2, 1, 0), nibabel.load(path).affine), path)


# one case


def test_a_case_is_proposed_from_what_was_remembered(own, memory, scan, volume):
    own.memory = memory
    with pytest.raises(InputError, match="no entry of task"):
        propose(own, scan, "blob", HOW)
    mask = np.zeros(scan.shape, bool)
    mask[0, 20:60, 30:80] = True
    assert remember(own, scan, mask, "blob", "a.png", HOW) == 2
    assert {(e.origin, e.task, e.confidence) for e in memory.entries} == {("a.png", "blob", 1.0)}
    found = propose(own, scan, "blob", HOW)
    alone = own.recall(scan, 0, task="blob")
    np.testing.assert_array_equal(found.labels[0] == 1, alone.mask)
    assert found.objects[0].name == "blob" and found.provenance["proposal"] == "memory"
    assert uncertainty(found) == (pytest.approx(1 - alone.confidence, abs=1e-3) if alone.mask.any() else 1.0)
    whole = propose(own, volume, "blob", HOW)
    assert whole.shape == volume.shape and whole.provenance["surest"]["blob"] in (1, 3)
    assert 0 <= uncertainty(whole) <= 1


def test_remembering_again_replaces_and_a_volume_gives_few_frames(own, memory, volume):
    own.memory = memory
    masks = np.ones(volume.shape, bool)
    masks[2, :5] = False
    for _ in range(2):
        assert remember(own, volume, masks, "blob", "v", How(remembered=3)) == 6
    remember(own, volume, masks[:, :, :] & False, "blob", "empty", HOW)
    assert len(memory) == 6
    assert memory.forget("v", "other") == 0 and memory.forget("v", "blob") == 6 and len(memory) == 0


def test_a_full_memory_says_what_it_kept(own, memory, scan):
    own.memory = memory
    memory.prune(capacity=2)
    mask = np.zeros(scan.shape, bool)
    mask[0, 20:60, 30:80] = True
    assert remember(own, scan, mask, "blob", "a", HOW) == 2
    assert remember(own, scan, mask, "blob", "b", HOW) == 0


def test_memory_is_asked_about_prompts_only_on_request(own, memory, scan):
    alone = correct(own, scan, box(), "blob", HOW)
    own.memory = memory
    mask = np.zeros(scan.shape, bool)
    mask[0, 20:60, 30:80] = True
    remember(own, scan, mask, "blob", "a", HOW)
    np.testing.assert_array_equal(correct(own, scan, box(), "blob", HOW).labels, alone.labels)
    conditioned = correct(own, scan, box(), "blob", How(condition=True))
    assert conditioned.provenance["settings"]["task"] == "blob" and conditioned.provenance["memory_entries"] == 2


def test_the_object_of_the_task_is_taken(own, scan):
    prompts = box()
    prompts.add_object(1, "liver")
    prompts.add_box(2, 0, 1, 1, 9, 9)
    assert [o.name for o in correct(own, scan, prompts, "data/liver", HOW).objects] == ["data/liver"]
    with pytest.raises(InputError, match="hold 2 objects"):
        correct(own, scan, prompts, "spleen", HOW)


# cases of a folder


def test_files_and_folders_that_are_cases(tmp_path):
    root = tmp_path / "root"
    for name in (
        "b10.png",
        "b9.png",
        "film/f1.png",
        "film/f2.png",
        "one/x.png",
        "deep/er/y.png",
        ".hid.png",
        "out/m.png",
    ):
        picture(root / name)
    stack(root / "deep" / "v.nii.gz")
    (root / "notes.txt").write_text("no image")
    (root / "broken.nii.gz").write_bytes(b"nothing")
    picture(root / "mixed" / "a.png")
    stack(root / "mixed" / "b.nii")
    names = ["b9.png", "b10.png", "broken.nii.gz", "deep/er/y.png", "deep/v.nii.gz", "film", "mixed/a.png"]
    assert list(find_cases(root, [root / "out"])) == [*names, "mixed/b.nii", "one/x.png"]
    with pytest.raises(InputError, match="is not a folder"):
        find_cases(root / "notes.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no image"):
        find_cases(tmp_path / "empty")


def test_cases_are_meant_by_their_path_name_or_stem():
    cases = ["a/x.nii.gz", "b/x.nii.gz", "y.png"]
    assert choose(["a/x.nii.gz", "y", "some/where/y.png"], cases, "here") == {
        "a/x.nii.gz": "a/x.nii.gz", "y": "y.png", "some/where/y.png": "y.png",
    }  # fmt: skip
    with pytest.raises(InputError, match="several cases"):
        choose(["x.nii.gz"], cases, "here")
    with pytest.raises(InputError, match="is no case"):
        choose(["z"], cases, "here")


# the whole way


def test_from_nothing_to_confirmed(start, own, tmp_path):
    work = start()
    assert work.known == 0 and ok(work.propose()) == ["p0.png", "p1.png", "p2.png", "v.nii.gz"]
    assert set(statuses(work).values()) == {"open"} and not work.to_propose()
    work = start()
    assert not work.to_propose()  # nothing new
    prompts = work.to_correct({"p0.png": box(), "v.nii.gz": box(2)})
    assert ok(work.correct(prompts)) == ["p0.png", "v.nii.gz"]
    assert not start().to_correct({"p0.png": box(), "v.nii.gz": box(2)})  # done already
    for name in ("p0.png", "v.nii.gz"):
        filled(work, name)
    assert ok(work.confirm(["p0.png", "v.nii.gz"])) == ["p0.png", "v.nii.gz"]
    assert work.cases["v.nii.gz"].box == [0, 12, 10, 36, 30] and work.cases["v.nii.gz"].area == 4 * 20 * 24
    bank = SelectiveMemory.load(tmp_path / "bank.safetensors", fingerprint=own.fingerprint)
    origins = [entry.origin for entry in bank.entries]
    assert origins == ["cases/p0.png"] * 2 + ["cases/v.nii.gz"] * 8
    work = start()
    assert ok(work.propose()) == ["p1.png", "p2.png"]
    assert statuses(work) == {
        "p0.png": "confirmed", "p1.png": "proposed", "p2.png": "proposed", "v.nii.gz": "confirmed",
    }  # fmt: skip
    assert not start().to_propose()
    filled(work, "p1.png")
    ok(work.confirm(["p1.png"]))
    assert start().to_propose() == ["p2.png"]  # the memory grew


def test_reopened_cases_leave_the_memory(start):
    work = start()
    ok(work.correct(work.to_correct({"p0": box(), "p1": box()})))
    for name in ("p0.png", "p1.png"):
        filled(work, name)
    ok(work.confirm(["p0.png", "p1.png"]))
    assert work.reopen(["p0.png", "p2.png"]) == ["p0.png"]
    work = start()
    assert [entry.origin for entry in work.memory.entries] == ["cases/p1.png"] * 2
    assert work.cases["p0.png"].status == "corrected"


def test_confirmed_cases_are_not_corrected(start):
    work = start()
    ok(work.correct({"p0.png": box()}))
    filled(work, "p0.png")
    ok(work.confirm(["p0.png"]))
    other = Prompts().add_box(1, 0, 1, 1, 20, 20)
    (done,) = work.correct(work.to_correct({"p0.png": other}))
    assert "confirmed already" in done.note and work.cases["p0.png"].status == "confirmed"
    assert work.to_correct({"p0.png": box()}) == {}


def test_masks_lie_on_the_scans_own_grid(start, folder):
    work = start()
    ok(work.correct({"v.nii.gz": box(1)}))
    mask, image = nibabel.load(work.out / work.cases["v.nii.gz"].mask), nibabel.load(folder / "v.nii.gz")
    assert mask.shape == image.shape
    np.testing.assert_allclose(mask.affine, image.affine, atol=1e-5)


def test_open_cases_come_by_uncertainty(start):
    work = start()
    for name, value in {"p0.png": 0.2, "p1.png": None, "p2.png": 0.7, "v.nii.gz": 0.5}.items():
        work.cases[name].uncertainty = value
        work.cases[name].status = "open" if value is None else "proposed"
    assert work.ranking() == ["p1.png", "p2.png", "v.nii.gz", "p0.png"]
    assert work.ranking("sure") == ["p1.png", "p0.png", "v.nii.gz", "p2.png"]
    assert work.sure(0.5) == ["p0.png", "v.nii.gz"]
    work.cases["p2.png"].status = "confirmed"
    assert work.ranking() == ["p1.png", "v.nii.gz", "p0.png"]


def test_a_failed_case_is_told_and_the_others_go_on(start, folder):
    (folder / "p1.png").write_bytes((folder / "p1.png").read_bytes()[:60])
    work = start()
    done = {d.name: d.problem for d in work.propose()}
    assert "p1.png" in done["p1.png"] and not done["p2.png"]
    picture(folder / "p1.png", 1)
    assert ok(start().propose()) == ["p1.png"]
    bad = Prompts().add_box(1, 7, 1, 1, 20, 20)
    done = list(work.correct({"p0.png": bad, "p2.png": box()}))
    assert "frame 7" in done[0].problem and not done[1].problem
    assert next(work.confirm(["p0.png"])).problem.endswith("correct it with --prompts first")


def test_an_interrupt_keeps_what_was_done(start):
    work = start()
    ok(work.correct({"p0.png": box(), "p1.png": box()}))
    for name in ("p0.png", "p1.png"):
        filled(work, name)
    steps = work.confirm(["p0.png", "p1.png"])
    next(steps)
    with pytest.raises(KeyboardInterrupt):
        steps.throw(KeyboardInterrupt)
    again = start()
    assert statuses(again)["p0.png"] == "confirmed" and statuses(again)["p1.png"] == "corrected" and again.known == 2
    ok(again.confirm(["p0.png", "p1.png"]))
    assert start().known == 4


def test_what_changed_is_proposed_again(start, folder):
    work = start()
    ok(work.propose())
    picture(folder / "p2.png", 9)
    (work.out / work.cases["p0.png"].files[0]).unlink()
    assert start().to_propose() == ["p0.png", "p2.png"]
    assert len(start(how=How(window="full", looks=2)).to_propose()) == 4


def test_a_memory_changed_by_others_is_not_written_over(start, tmp_path, own):
    work, other = start(), start("out2")
    for one in (work, other):
        ok(one.correct({"p0.png": box()}))
        filled(one, "p0.png")
    ok(other.confirm(["p0.png"]))
    with pytest.raises(InputError, match="changed by something else"):
        list(work.confirm(["p0.png"]))
    assert statuses(start())["p0.png"] == "corrected" and start().known == 2


def test_two_do_not_work_in_one_folder(start, own, folder, tmp_path):
    def other() -> Annotation:
        return Annotation(own, folder, "blob", tmp_path / "bank.safetensors", tmp_path / "out", HOW)

    with start() as work:
        with pytest.raises(InputError, match=f"out: is being written by process {os.getpid()}"):
            other()
        ok(work.correct({"p0.png": box()}))
    (tmp_path / "out" / ".annotate.lock").write_text('{"pid": 1, "host": "of a dead process"}')
    half = tmp_path / "out" / "cases" / ".1a2b3c4d.part"
    half.mkdir()
    (half / "p0_mask.png").write_text("half")
    (tmp_path / "out" / ".1a2b3c4d.part-annotate.json").write_text("half")
    with other() as taken:
        assert not list((tmp_path / "out").rglob(".*.part*"))
        assert statuses(taken)["p0.png"] == "corrected"
    assert not (tmp_path / "out" / ".annotate.lock").exists()


def test_an_annotation_that_does_not_open_lets_go(start):
    with start() as work:
        ok(work.propose())
    with pytest.raises(InputError, match="belongs to task"):
        start(task="liver")
    assert start().cases


def test_the_memory_is_saved_on_the_way(start, tmp_path, monkeypatch):
    monkeypatch.setattr("samed2.predict.annotate.work.SAVE_SECONDS", 0.0)
    work = start()
    ok(work.correct({"p0.png": box(), "p1.png": box()}))
    for name in ("p0.png", "p1.png"):
        filled(work, name)
    steps = work.confirm(["p0.png", "p1.png"])
    next(steps)
    later = start()  # the first one was killed here
    assert statuses(later)["p0.png"] == "confirmed" and later.known == 2
    ok(later.confirm(["p1.png"]))
    assert start().known == 4


def test_names_that_differ_only_in_suffix_keep_files_of_their_own(start, folder):
    picture(folder / "p0.bmp", 5)
    work = start()
    ok(work.correct({"p0.png": box(), "p0.bmp": box()}))
    masks = {work.cases[name].mask for name in ("p0.png", "p0.bmp")}
    assert len(masks) == 2


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda t: t[: len(t) // 2], "is damaged"),
        (lambda t: json.dumps({**json.loads(t), "format": "x"}), "no state"),
        (lambda t: json.dumps({**json.loads(t), "task": "liver"}), "belongs to task 'liver'"),
        (lambda t: json.dumps({**json.loads(t), "folder": "else"}), "belongs to folder 'else'"),
        (lambda t: json.dumps({**json.loads(t), "cases": 3}), "'cases' is damaged"),
        (lambda t: json.dumps({**json.loads(t), "cases": {"p0.png": {"status": "odd"}}}), "wanted a status"),
        (lambda t: json.dumps({**json.loads(t), "cases": {"p0.png": {"status": "open", "area": "x"}}}), "area"),
    ],
)
def test_damaged_states_are_named(start, spoil, words):
    work = start()
    ok(work.propose())
    path = work.out / "annotate.json"
    path.write_text(spoil(path.read_text()))
    with pytest.raises(InputError, match=words):
        start()


def test_bad_values_are_refused(start, tmp_path):
    with pytest.raises(InputError, match="task"):
        start(task=" ")
    with pytest.raises(InputError, match="create it first"):
        start(bank=tmp_path / "none" / "bank.safetensors")
    with pytest.raises(InputError, match="looks"):
        How(looks=0)
    (tmp_path / "bank.safetensors").write_text("no memory")
    with pytest.raises(InputError, match=r"bank\.safetensors"):
        start()


# the page


def test_the_page_shows_every_case_without_network(start):
    work = start()
    ok(work.propose())
    ok(work.correct({"p1.png": box()}))
    work.cases["p2.png"].error = "<b>bad</b>"
    text = work.write_page().read_text()
    assert text.count('class="case is-') == 4 and text.count("data:image/jpeg;base64,") == 4
    assert "<b>" not in text and "&lt;b&gt;bad" in text
    assert "http" not in text and "<script" not in text
    assert text.index("p0.png") < text.index("p1.png")


def test_a_scan_of_colour_or_one_slice_goes_round(own, memory, tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    own.memory = memory
    colour = Scan.from_array(values, kind="image")
    assert correct(own, colour, box(), "blob", HOW).shape == (1, 40, 50)
