"""The layout of the released code, the older CAMUS release, and what every converter shares."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from tests.data.convert.trees import SIZE, boxes, pick, picture, save

from samed2.data.cases import Case, Dropped
from samed2.data.convert import CONVERTERS, Source, find_cases
from samed2.errors import InputError


def task(root, folder, names, value=255, lists=None):
    truth = {}
    for name in names:
        picture(root / folder / f"image/{name}.png")
        truth[name] = boxes(SIZE, 1, name) > 0
        save(root / folder / f"mask/{name}.png", truth[name].astype(np.uint8) * np.uint8(value))
    for split, lines in (lists or {}).items():
        (root / folder / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return truth


def search(root, **more):
    found = list(find_cases(Source(root, "released", "released", **more)))
    return [f for f in found if isinstance(f, Case)], {f.name: f.reason for f in found if isinstance(f, Dropped)}


def test_slices_of_a_case_are_one_volume_in_counting_order(tmp_path):
    names = [f"case_7_slice_{n:03d}" for n in (1, 2, 10)] + ["case_8_slice_001"]
    lists = {"train": [f"./Liver_CT_12/image/{n}.png" for n in names[:3]], "test": ["case_8_slice_001.png"]}
    truth = task(tmp_path, "Liver_CT_12", names, lists=lists)
    (seven, eight), dropped = search(tmp_path, licence="x")
    assert dropped == {}
    assert (seven.dataset, seven.name, seven.patient, seven.split, seven.kind) == (
        "liver_ct_12", "case_7", "case_7", "train", "volume",
    )  # fmt: skip
    assert (seven.modality, seven.objects, seven.licence) == ("ct", ("liver",), "x")
    assert (eight.name, eight.split) == ("case_8", "test")
    np.testing.assert_array_equal(seven.load().masks["liver"], np.stack([truth[n] for n in names[:3]]))


@pytest.mark.parametrize(
    ("folder", "dataset", "objects", "modality"),
    [
        ("OpticCup_Fundus_3", "optic_cup_fundus_3", "optic_cup", "fundus"),
        ("Optic_Cup_Fundus_REFUGE", "optic_cup_fundus_refuge", "optic_cup", "fundus"),
        ("Lung_X-ray_1", "lung_x_ray_1", "lung", "xray"),
        ("LVepi_Echo_2", "lvepi_echo_2", "lvepi", "ultrasound"),
        ("BrainTumor_MRI_5", "brain_tumor_mri_5", "brain_tumor", "mr"),
        ("something", "something", "something", "unknown"),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_folder_names_say_object_and_modality(tmp_path, folder, dataset, objects, modality, inside):
    truth = task(tmp_path, folder, ["img1"], value=1)
    cases, _ = search(tmp_path / folder if inside else tmp_path)
    assert [(c.dataset, c.objects, c.modality, c.kind, c.name) for c in cases] == [
        (dataset, (objects,), modality, "image", "img1")
    ]
    np.testing.assert_array_equal(cases[0].load().masks[objects][0], truth["img1"])  # masks of 0 and 1 count too


def test_what_does_not_fit_is_reported(tmp_path):
    names = ["a", "b", "c_slice_1", "c_slice_2", "d"]
    lists = {"train": ["a.png", "c_slice_1", "d"], "val": ["c_slice_2", "gone.png"], "test": ["d.png"]}
    task(tmp_path, "X_CT_1", names, lists=lists)
    (tmp_path / "X_CT_1/mask/b.png").unlink()
    picture(tmp_path / "X_CT_1/mask/e.png")
    picture(tmp_path / "X_CT_1/image/a.bmp")
    cases, dropped = search(tmp_path)
    assert [(c.name, c.split, c.patient) for c in cases] == [
        ("a", "train", "a"), ("c@train", "train", "c"), ("c@val", "val", "c"),
    ]  # fmt: skip
    assert dropped == {
        "a": "two images with one name",
        "b": "image without label",
        "e": "label without image",
        "gone": "listed but not found: val.txt",
        "d": "in two splits: train and test",
    }


def test_an_empty_slice_is_fine_and_an_empty_case_is_not(tmp_path):
    task(tmp_path, "X_CT_1", ["c_slice_1", "c_slice_2", "d_slice_1"])
    for name in ("c_slice_1", "d_slice_1"):
        save(tmp_path / f"X_CT_1/mask/{name}.png", np.zeros(SIZE, np.uint8))
    first, second = search(tmp_path)[0]
    assert not first.load().masks["x"][0].any() and first.load().masks["x"][1].any()
    with pytest.raises(InputError, match="all-empty"):
        second.load()


def test_a_folder_without_tasks_is_refused(tmp_path):
    with pytest.raises(InputError, match="has no folder Object_Modality_ID"):
        search(tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        search(tmp_path / "no")


def test_the_older_camus_release_in_metaimage_files(tmp_path):
    labels = boxes((1, *SIZE), 3, "camus")
    folder = tmp_path / "training/patient0001"
    folder.mkdir(parents=True)
    for ending, array in (("", labels * 50), ("_gt", labels)):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing((0.3, 0.15, 1))
        sitk.WriteImage(image, str(folder / f"patient0001_2CH_ED{ending}.mhd"))
    stem = "training/{patient}/{patient}_{view:2CH|4CH}_{time:ED|ES}"
    source = Source(
        tmp_path,
        "camus",
        "pairs",
        "ultrasound",
        "image",
        objects={"left_ventricle": 1, "myocardium": 2, "left_atrium": 3},
        layout={"image": f"{stem}.mhd", "label": "training/{patient}/{patient}_{view}_{time}_gt.mhd"},
    )
    (case,) = find_cases(source)
    assert case.name == "patient0001_2CH_ED"
    loaded = case.load()
    for name, mask in pick(labels, {"left_ventricle": (1,), "myocardium": (2,), "left_atrium": (3,)}).items():
        np.testing.assert_array_equal(loaded.masks[name], mask)
    assert loaded.scan.geometry.spacing == pytest.approx((1, 0.15, 0.3))


def test_all_converters_are_known_and_no_other(folder):
    assert {"pairs", "released", "dicom", "folder"} <= set(CONVERTERS)
    with pytest.raises(InputError, match="converter: got 'x', wanted one of dicom, folder, listed, pairs, released"):
        list(find_cases(Source(folder, "x", "x")))
    cases = list(find_cases(Source(folder, "folder", "folder")))
    assert {c.dataset for c in cases} == {"spots", "stack", "film"}


def test_importing_converters_loads_nothing_heavy():
    import subprocess
    import sys

    heavy = ("torch", "highdicom", "pydicom", "SimpleITK", "nibabel", "skimage", "scipy", "datasets")
    code = f"import sys, samed2.data.convert; print([m for m in {heavy!r} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
