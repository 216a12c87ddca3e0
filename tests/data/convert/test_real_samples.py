"""Real cases of a set, laid out as the set was published, read through the catalogue's entry.

The samples keep their own size and file format: readers go by content, so a name may say .jpg where PNG is inside.
"""

from __future__ import annotations

import numpy as np
import pytest

from samed2.data.catalog import resolve_source
from samed2.data.convert import find_cases
from samed2.data.convert.folder import folder_cases

# entry -> sample, image, {object of the sample: label file}; {n} counts from 1
LAYOUTS = {
    "busi": ("us_busi", "benign/benign ({n}).png", {"breast_lesion": "benign/benign ({n})_mask.png"}),
    "cvc_clinicdb": ("endoscopy_cvcclinicdb", "Original/{n}.tif", {"polyp": "Ground Truth/{n}.tif"}),
    "drishti_gs": (
        "fundus_drishtigs",
        "Training/Images/drishtiGS_00{n}.png",
        {
            "optic_disc": "Training/GT/drishtiGS_00{n}/SoftMap/drishtiGS_00{n}_ODsegSoftmap.png",
            "optic_cup": "Training/GT/drishtiGS_00{n}/SoftMap/drishtiGS_00{n}_cupsegSoftmap.png",
        },
    ),
    "isic2018": (
        "dermoscopy_isic2018",
        "ISIC2018_Task1-2_Training_Input/ISIC_000000{n}.jpg",
        {"skin_lesion": "ISIC2018_Task1_Training_GroundTruth/ISIC_000000{n}_segmentation.png"},
    ),
    "kvasir_seg": ("endoscopy_kvasirseg", "images/k{n}.jpg", {"polyp": "masks/k{n}.jpg"}),
    "ph2": (
        "dermoscopy_ph2",
        "PH2 Dataset images/IMD00{n}/IMD00{n}_Dermoscopic_Image/IMD00{n}.bmp",
        {"skin_lesion": "PH2 Dataset images/IMD00{n}/IMD00{n}_lesion/IMD00{n}_lesion.bmp"},
    ),
    "acdc": (
        "mr_acdc",
        "training/patient00{n}/patient00{n}_frame01.nii.gz",
        dict.fromkeys(
            ("left_ventricle", "myocardium", "right_ventricle"),
            "training/patient00{n}/patient00{n}_frame01_gt.nii.gz",
        ),
    ),
    "msd_hippocampus": (
        "mr_hippocampus",
        "imagesTr/hippocampus_00{n}.nii.gz",
        dict.fromkeys(("anterior_hippocampus", "posterior_hippocampus"), "labelsTr/hippocampus_00{n}.nii.gz"),
    ),
}


@pytest.mark.needs_data
@pytest.mark.parametrize("name", LAYOUTS)
def test_real_cases_come_through_as_they_are(name, data_dir, tmp_path):
    sample, image, labels = LAYOUTS[name]
    samples = [case for case in folder_cases(data_dir) if case.dataset == sample][:2]
    assert len(samples) == 2
    for n, case in enumerate(samples, start=1):
        _link(tmp_path / image.format(n=n), case.files[0])
        for index, one in enumerate(case.objects):
            _link(tmp_path / labels[one].format(n=n), case.files[min(index + 1, len(case.files) - 1)])
    found = list(find_cases(resolve_source(f"{name}:{tmp_path}")))
    assert len(found) == 2
    for one, case in zip(found, samples, strict=True):
        loaded, wanted = one.load(), case.load()
        np.testing.assert_array_equal(loaded.frames, wanted.frames)
        np.testing.assert_allclose(loaded.scan.geometry.affine, wanted.scan.geometry.affine)
        for called in case.objects:
            np.testing.assert_array_equal(loaded.masks[called], wanted.masks[called], err_msg=called)


def _link(path, source):
    """`source` under another name; the sample's own suffix where it gives none."""
    if not source.is_file():
        source = next(source.parent.glob(f"{source.name}.*"))
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.symlink_to(source)
