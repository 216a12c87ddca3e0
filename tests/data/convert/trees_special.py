"""Published layouts that are not just rows of images and labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tests.data.convert.trees import (
    GRID,
    SIZE,
    SPACING,
    Expected,
    Images,
    Tree,
    Volumes,
    boxes,
    nifti,
    pick,
    picture,
    rng_of,
    save,
)


def camus(root: Path) -> Tree:
    values = {"left_ventricle": (1,), "myocardium": (2,), "left_atrium": (3,)}
    rows = []
    for patient, split in (("patient0001", "train"), ("patient0002", "val"), ("patient0003", "test")):
        for part in ("2CH_ED", "4CH_ES"):
            stem = f"database_nifti/{patient}/{patient}_{part}"
            rows.append((f"{stem}.nii.gz", f"{stem}_gt.nii.gz", f"{patient}_{part}", patient, split))
    tree = Volumes(values, tuple(rows), grid=SIZE)(root)
    camus_lists(root)
    stem = root / "database_nifti/patient0001/patient0001_2CH_half_sequence"
    nifti(stem.with_name(stem.name + ".nii.gz"), np.zeros(GRID, np.uint8))
    nifti(stem.with_name(stem.name + "_gt.nii.gz"), boxes(GRID, 3, 0))
    return tree


def camus_lists(root: Path) -> None:
    lists = root / "database_split"
    lists.mkdir(parents=True, exist_ok=True)
    for number, split in enumerate(("training", "validation", "testing"), start=1):
        (lists / f"subgroup_{split}.txt").write_text(f"patient{number:04d}\n")


def camus_sequences(root: Path) -> Tree:
    values = {"left_ventricle": (1,), "myocardium": (2,), "left_atrium": (3,)}
    rows = []
    for patient, split in (("patient0001", "train"), ("patient0002", "val"), ("patient0003", "test")):
        stem = f"database_nifti/{patient}/{patient}_4CH_half_sequence"
        rows.append((f"{stem}.nii.gz", f"{stem}_gt.nii.gz", f"{patient}_4CH", patient, split))
    tree = Volumes(values, tuple(rows))(root)
    camus_lists(root)
    nifti(root / "database_nifti/patient0001/patient0001_4CH_ED.nii.gz", np.zeros(SIZE, np.uint8))
    return tree


def left_atrium(root: Path) -> Tree:
    import SimpleITK as sitk

    tree = Tree()
    for name in ("0RZDK210BSMWAA6467LU", "1D7CUD1955YZPGK8XHJX"):
        labels = boxes(GRID, 1, name)
        image = rng_of(name).integers(0, 255, GRID).astype(np.uint8)
        for file, array in (("lgemri", image), ("laendo", labels * 255)):
            path = root / name / f"{file}.nrrd"
            path.parent.mkdir(parents=True, exist_ok=True)
            made = sitk.GetImageFromArray(array)
            made.SetSpacing(SPACING[::-1])
            sitk.WriteImage(made, str(path))
        tree.cases.append(Expected(name, pick(labels, {"left_atrium": (1,)}), name, "", SPACING, image[0]))
    return tree


def busi(root: Path) -> Tree:
    def row(group: str, number: int, *endings: str):
        stem = f"{group}/{group} ({number})"
        files = tuple(f"{stem}_mask{ending}.png" for ending in endings)
        return f"{stem}.png", {"breast_lesion": files}, f"{group}_{number}", f"{group}_{number}", ""

    return Images((row("benign", 1, ""), row("benign", 100, "", "_1"), row("malignant", 2, "", "_1", "_2")))(root)


def refuge(root: Path) -> Tree:
    tree = Tree()
    for image, label, name, split in (
        ("Training400/Glaucoma/g0001", "Annotation-Training400/Disc_Cup_Masks/Glaucoma/g0001", "g0001", "train"),
        ("Training400/Non-Glaucoma/n01", "Annotation-Training400/Disc_Cup_Masks/Non-Glaucoma/n01", "n01", "train"),
        ("REFUGE-Validation400/V0001", "REFUGE-Validation400-GT/Disc_Cup_Masks/V0001", "V0001", "val"),
        ("Test400/T0001", "REFUGE-Test-GT/Disc_Cup_Masks/G/T0001", "T0001", "test"),
    ):
        picture(root / f"{image}.jpg")
        labels = boxes(SIZE, 2, label)  # 2 the cup, 1 the rim of the disc
        save(root / f"{label}.bmp", np.array([255, 128, 0], np.uint8)[labels])
        masks = pick(labels, {"optic_cup": (2,), "optic_disc": (1, 2)})
        tree.cases.append(Expected(name, masks, name, split))
    return tree


def drishti(root: Path) -> Tree:
    tree = Tree()
    for part, truth, name, split in (
        ("Training", "GT", "drishtiGS_002", "train"),
        ("Test", "Test_GT", "drishtiGS_001", "test"),
    ):
        picture(root / f"{part}/Images/{name}.png")
        masks = {}
        for one, file in (("optic_disc", "ODsegSoftmap"), ("optic_cup", "cupsegSoftmap")):
            votes = rng_of(name + one).integers(0, 5, SIZE)  # of four experts
            soft = np.array([0, 64, 128, 191, 255], np.uint8)[votes]
            save(root / f"{part}/{truth}/{name}/SoftMap/{name}_{file}.png", soft)
            masks[one] = (votes >= 3)[None]
        tree.cases.append(Expected(name, masks, name, split))
    return tree


def rim_one_r3(root: Path) -> Tree:
    tree = Tree()
    for group, name in (("Healthy", "N-1-L"), ("Glaucoma and suspects", "G-2-R")):
        both = np.zeros((1424, 2144), np.uint8)  # two views side by side
        both[:, :1072] = 50
        save(root / f"{group}/Stereo Images/{name}.jpg", both)
        masks = {}
        for one, word in (("optic_disc", "Disc"), ("optic_cup", "Cup")):
            mask = boxes((1424, 1072), 1, name + word) > 0
            drawn = mask if group == "Healthy" else np.pad(mask, ((0, 0), (0, 1072)))  # both widths are about
            save(root / f"{group}/Expert1_masks/{name}-1-{word}-exp1.png", drawn.astype(np.uint8) * np.uint8(255))
            masks[one] = mask[None]
        tree.cases.append(Expected(name, masks, name, "", None, np.full((1424, 1072), 50, np.uint8)))
    return tree


def neurips(root: Path) -> Tree:
    tree = Tree()
    for part, name, suffix, split in (
        ("Training-labeled", "cell_00001", ".bmp", "train"),
        ("Training-labeled", "cell_00002", ".tif", "train"),
        ("Tuning", "cell_00003", ".png", "val"),
    ):
        picture(root / f"{part}/images/{name}{suffix}", colour=suffix != ".tif")
        cells = boxes(SIZE, 4, name).astype(np.uint16) * 100  # one value a cell
        save(root / f"{part}/labels/{name}_label.tiff", cells)
        tree.cases.append(Expected(name, {"cell": (cells > 0)[None]}, name, split))
    return tree
