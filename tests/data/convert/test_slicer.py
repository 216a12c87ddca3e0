"""NRRD cases of one folder each, and the segmentations of 3D Slicer."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from tests.data.convert.trees import GRID, boxes, rng_of

from samed2.data.cases import Case, Dropped
from samed2.data.convert import Source, find_cases
from samed2.errors import InputError


def search(root, **more):
    found = list(find_cases(Source(root, "clinic", "dicom", **more)))
    return [f for f in found if isinstance(f, Case)], {f.name: f.reason for f in found if isinstance(f, Dropped)}


def nrrd(path, values, spacing=(0.7, 0.8, 2.5), origin=(0, 0, 0), vector=False, **fields):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(values, isVector=vector)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    for key, value in fields.items():
        image.SetMetaData(key, str(value))
    sitk.WriteImage(image, str(path))


def test_nrrd_cases_with_a_label_map(tmp_path):
    labels = boxes(GRID, 2, "n")
    for case in ("c1", "c2"):
        nrrd(tmp_path / case / "image.nrrd", rng_of(case).normal(size=GRID).astype(np.float32))
        nrrd(tmp_path / case / "label.nrrd", labels)
    nrrd(tmp_path / "c3/image.nrrd", labels)
    cases, dropped = search(tmp_path, objects={"liver": [1, 2], "tumour": 2}, modality="ct")
    assert [(c.name, c.patient, c.objects, c.modality) for c in cases] == [
        (name, name, ("liver", "tumour"), "ct") for name in ("c1", "c2")
    ]
    assert "image without label" in dropped["c3"]
    np.testing.assert_array_equal(cases[0].load().masks["liver"], labels > 0)
    (tmp_path / "c2/label.nrrd").write_bytes(b"NRRD0004\n")
    assert "c2/label.nrrd" in search(tmp_path)[1]["c2"]


def test_a_slicer_segmentation_names_its_segments_and_may_be_cropped(tmp_path):
    nrrd(tmp_path / "c1/ct.nrrd", rng_of("s").normal(size=GRID).astype(np.float32), origin=(5, 6, 7))
    part = boxes((3, 6, 9), 2, "part")  # begins at (1, 2, 3)
    names = {"Segment0_Name": "Liver", "Segment0_LabelValue": 1, "Segment0_Layer": 0,
             "Segment1_Name": "Left Kidney", "Segment1_LabelValue": 2, "Segment1_Layer": 0}  # fmt: skip
    origin = (5 + 3 * 0.7, 6 + 2 * 0.8, 7 + 1 * 2.5)
    nrrd(tmp_path / "c1/ct.seg.nrrd", part, origin=origin, **names)
    case = search(tmp_path)[0][0]
    assert case.objects == ("liver", "left_kidney")
    truth = np.zeros(GRID, np.uint8)
    truth[1:4, 2:8, 3:12] = part
    loaded = case.load()
    np.testing.assert_array_equal(loaded.masks["left_kidney"], truth == 2)
    np.testing.assert_array_equal(loaded.masks["liver"], truth == 1)
    nrrd(tmp_path / "c1/ct.seg.nrrd", part, origin=(5 + 0.3, 6, 7), **names)
    with pytest.raises(InputError, match="lie apart"):
        case.load()


def test_overlapping_segments_of_a_slicer_segmentation_lie_in_layers(tmp_path):
    nrrd(tmp_path / "c1/ct.nrrd", rng_of("s").normal(size=GRID).astype(np.float32))
    layers = np.stack([boxes(GRID, 1, "a"), boxes(GRID, 1, "b")], axis=-1)
    names = {"Segment0_Name": "A", "Segment0_LabelValue": 1, "Segment0_Layer": 0,
             "Segment1_Name": "B", "Segment1_LabelValue": 1, "Segment1_Layer": 1}  # fmt: skip
    nrrd(tmp_path / "c1/ct.seg.nrrd", layers, vector=True, **names)
    loaded = search(tmp_path)[0][0].load()
    for index, name in enumerate("ab"):
        np.testing.assert_array_equal(loaded.masks[name], layers[..., index] == 1)
