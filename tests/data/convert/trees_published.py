"""The tree of each entry of the catalogue."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.data.convert.trees import Images, Tree, Volumes, msd, simple
from tests.data.convert.trees_special import (
    busi,
    camus,
    camus_sequences,
    drishti,
    left_atrium,
    neurips,
    refuge,
    rim_one_r3,
)

ABDOMEN = ("spleen", "right_kidney", "left_kidney", "gallbladder", "oesophagus", "liver", "stomach", "aorta")
AMOS = (*ABDOMEN, "inferior_vena_cava", "pancreas", "right_adrenal_gland", "left_adrenal_gland", "duodenum", "bladder",
        "prostate_or_uterus")  # fmt: skip
BTCV = (*ABDOMEN, "inferior_vena_cava", "portal_and_splenic_vein", "pancreas", "right_adrenal_gland",
        "left_adrenal_gland")  # fmt: skip


def count_up(names: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    return {name: (value,) for value, name in enumerate(names, start=1)}


TREES: dict[str, Callable[[Path], Tree]] = {
    "acdc": Volumes(
        {"right_ventricle": (1,), "myocardium": (2,), "left_ventricle": (3,)},
        tuple(
            (f"{part}/{p}/{p}_frame{f}.nii.gz", f"{part}/{p}/{p}_frame{f}_gt.nii.gz", f"{p}_frame{f}", p, split)
            for part, p, split in (("testing", "patient101", "test"), ("training", "patient001", "train"))
            for f in ("01", "12")
        ),
        others=("training/patient001/patient001_4d.nii.gz", "training/patient001/Info.cfg", "training/MANDATORY.md"),
    ),
    "amos_ct": Volumes(
        count_up(AMOS),
        tuple(
            (f"images{part}/{n}.nii.gz", f"labels{part}/{n}.nii.gz", n, n, split)
            for part, n, split in (("Tr", "amos_0001", "train"), ("Va", "amos_0408", "val"))
        ),
        others=("imagesTs/amos_0002.nii.gz", "imagesTr/amos_0507.nii.gz", "labelsTr/amos_0600.nii.gz"),
    ),
    "amos_mr": Volumes(
        count_up(AMOS),
        tuple(
            (f"images{part}/{n}.nii.gz", f"labels{part}/{n}.nii.gz", n, n, split)
            for part, n, split in (("Tr", "amos_0507", "train"), ("Va", "amos_0600", "val"))
        ),
        others=("imagesTs/amos_0541.nii.gz", "imagesTr/amos_0001.nii.gz", "labelsTr/amos_0408.nii.gz"),
    ),
    "btcv": Volumes(
        count_up(BTCV),
        tuple((f"Training/img/img{n}.nii.gz", f"Training/label/label{n}.nii.gz", n, n, "") for n in ("0001", "0040")),
        others=("Testing/img/img0061.nii.gz",),
    ),
    "busi": busi,
    "camus": camus,
    "camus_sequences": camus_sequences,
    "covid_qu_ex": Images(
        tuple(
            (
                f"Lung Segmentation Data/Lung Segmentation Data/{part}/{group}/images/{n}.png",
                {"lungs": (f"Lung Segmentation Data/Lung Segmentation Data/{part}/{group}/lung masks/{n}.png",)},
                n,
                n,
                part.lower(),
            )
            for part, group, n in (
                ("Test", "Normal", "Normal (3)"),
                ("Train", "COVID-19", "covid_1"),
                ("Val", "Non-COVID", "non_COVID (2)"),
            )
        ),
        others=("Infection Segmentation Data/Infection Segmentation Data/Test/COVID-19/images/covid_1.png",),
    ),
    "cvc_clinicdb": Images(
        tuple(
            (f"Original/{n}.tif", {"polyp": (f"Ground Truth/{n}.tif",)}, str(n), patient, "")
            for n, patient in ((1, "1"), (25, "1"), (26, "26"), (612, "592"))
        )
    ),
    "cvc_colondb": simple("images/{n}.png", "masks/{n}.png", "polyp", ("1", "300")),
    "ddti": simple("image/{n}.PNG", "mask/{n}.PNG", "thyroid_nodule", ("1", "2")),
    "drishti_gs": drishti,
    "isic2018": Images(
        tuple(
            (
                f"ISIC2018_Task1-2_{part}_Input/{n}.jpg",
                {"skin_lesion": (f"ISIC2018_Task1_{part}_GroundTruth/{n}_segmentation.png",)},
                n,
                n,
                split,
            )
            for part, n, split in (
                ("Test", "ISIC_0012169", "test"),
                ("Training", "ISIC_0000000", "train"),
                ("Validation", "ISIC_0012255", "val"),
            )
        )
    ),
    "kits19": Volumes(
        {"kidney": (1, 2), "kidney_tumour": (2,)},
        tuple((f"{n}/imaging.nii.gz", f"{n}/segmentation.nii.gz", n, n, "") for n in ("case_00000", "case_00209")),
        axes=(0, 1, 2),
        unlabelled={"case_00210/imaging.nii.gz": "case_00210"},
    ),
    "kits23": Volumes(
        {"kidney": (1, 2, 3), "kidney_tumour": (2,), "kidney_cyst": (3,)},
        tuple((f"{n}/imaging.nii.gz", f"{n}/segmentation.nii.gz", n, n, "") for n in ("case_00000", "case_00588")),
        axes=(0, 1, 2),
        others=("case_00000/instances/kidney_instance-1_annotation-1.nii.gz", "kits23.json"),
    ),
    "kvasir_seg": simple("images/{n}.jpg", "masks/{n}.jpg", "polyp", ("cju0qkwl35piu0993l0dewei2", "cju1")),
    "left_atrium_2018": left_atrium,
    "lits": Volumes(
        {"liver": (1, 2), "liver_tumour": (2,)},
        tuple(
            (f"Training Batch {b}/volume-{n}.nii", f"Training Batch {b}/segmentation-{n}.nii", n, n, "")
            for b, n in ((1, "0"), (2, "28"), (2, "130"))
        ),
    ),
    "montgomery": Images(
        tuple(
            (
                f"CXR_png/{n}.png",
                {"lungs": (f"ManualMask/leftMask/{n}.png", f"ManualMask/rightMask/{n}.png")},
                n,
                n,
                "",
            )
            for n in ("MCUCXR_0001_0", "MCUCXR_0104_1")
        )
    ),
    "msd_brain_tumour": msd(
        "BRATS",
        {"brain_tumour": (1, 2, 3), "oedema": (1,), "non_enhancing_tumour": (2,), "enhancing_tumour": (3,)},
        channels=4,
    ),
    "msd_colon": msd("colon", {"colon_tumour": (1,)}),
    "msd_heart": msd("la", {"left_atrium": (1,)}),
    "msd_hepatic_vessel": msd("hepaticvessel", {"hepatic_vessel": (1,), "liver_tumour": (2,)}),
    "msd_hippocampus": msd(
        "hippocampus", {"hippocampus": (1, 2), "anterior_hippocampus": (1,), "posterior_hippocampus": (2,)}
    ),
    "msd_liver": msd("liver", {"liver": (1, 2), "liver_tumour": (2,)}, digits=1),
    "msd_lung": msd("lung", {"lung_tumour": (1,)}),
    "msd_pancreas": msd("pancreas", {"pancreas": (1, 2), "pancreas_tumour": (2,)}),
    "msd_prostate": msd(
        "prostate", {"prostate": (1, 2), "peripheral_zone": (1,), "transition_zone": (2,)}, digits=2, channels=2
    ),
    "msd_spleen": msd("spleen", {"spleen": (1,)}),
    "neurips_cellseg": neurips,
    "ph2": Images(
        tuple(
            (
                f"PH2 Dataset images/{n}/{n}_Dermoscopic_Image/{n}.bmp",
                {"skin_lesion": (f"PH2 Dataset images/{n}/{n}_lesion/{n}_lesion.bmp",)},
                n,
                n,
                "",
            )
            for n in ("IMD002", "IMD437")
        ),
    ),
    "refuge": refuge,
    "rim_one_dl": Images(
        tuple(
            (
                f"RIM-ONE_DL_images/partitioned_by_hospital/{part}/{group}/{n}.png",
                {
                    "optic_disc": (f"RIM-ONE_DL_reference_segmentations/{group}/{n}-1-Disc-T.png",),
                    "optic_cup": (f"RIM-ONE_DL_reference_segmentations/{group}/{n}-1-Cup-T.png",),
                },
                n,
                n,
                split,
            )
            for part, group, n, split in (
                ("test_set", "normal", "r2_Im003", "test"),
                ("training_set", "glaucoma", "r1_Im001", "train"),
            )
        ),
        others=("RIM-ONE_DL_images/partitioned_randomly/training_set/glaucoma/r1_Im001.png",),
    ),
    "rim_one_r3": rim_one_r3,
    "tg3k": simple("thyroid-image/{n}.jpg", "thyroid-mask/{n}.jpg", "thyroid_gland", ("0000", "3584")),
    "tn3k": Images(
        tuple(
            (
                f"{part}-image/0000.jpg",
                {"thyroid_nodule": (f"{part}-mask/0000.jpg",)},
                f"{part}_0000",
                f"{part}_0000",
                s,
            )
            for part, s in (("test", "test"), ("trainval", "train"))
        )
    ),
}
