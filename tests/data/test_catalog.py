from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from samed2.data import catalog, catalog_docs
from samed2.data.cases import Case, Dropped
from samed2.data.catalog import (
    GENERIC,
    check_layout,
    datasets,
    get_dataset,
    layout_warnings,
    named_sources,
    published_tasks,
    resolve_source,
)
from samed2.data.catalog_model import Dataset, read_yaml
from samed2.data.convert import find_cases
from samed2.errors import InputError

# Names of files as the sets publish them, written down here apart from the layouts of the catalogue:
# entry -> (files of one case, its name, patient and split; files to leave alone)
PUBLISHED: dict[str, tuple[list[str], tuple[str, str, str], list[str]]] = {
    "acdc": (
        ["training/patient001/patient001_frame01.nii.gz", "training/patient001/patient001_frame01_gt.nii.gz"],
        ("patient001_frame01", "patient001", "train"),
        ["training/patient001/patient001_4d.nii.gz", "training/patient001/Info.cfg"],
    ),
    "amos_ct": (
        ["imagesTr/amos_0410.nii.gz", "labelsTr/amos_0410.nii.gz"],
        ("amos_0410", "amos_0410", "train"),
        ["imagesTr/amos_0507.nii.gz", "labelsTr/amos_0507.nii.gz", "imagesTs/amos_0002.nii.gz"],
    ),
    "amos_mr": (
        ["imagesVa/amos_0541.nii.gz", "labelsVa/amos_0541.nii.gz"],
        ("amos_0541", "amos_0541", "val"),
        ["imagesVa/amos_0008.nii.gz", "labelsVa/amos_0008.nii.gz", "imagesTs/amos_0600.nii.gz"],
    ),
    "btcv": (
        ["Training/img/img0001.nii.gz", "Training/label/label0001.nii.gz"],
        ("0001", "0001", ""),
        ["Testing/img/img0061.nii.gz"],
    ),
    "busi": (
        ["benign/benign (4).png", "benign/benign (4)_mask.png", "benign/benign (4)_mask_1.png"],
        ("benign_4", "benign_4", ""),
        [],
    ),
    "camus": (
        [
            "database_nifti/patient0001/patient0001_2CH_ED.nii.gz",
            "database_nifti/patient0001/patient0001_2CH_ED_gt.nii.gz",
            "database_split/subgroup_training.txt",
            "database_split/subgroup_validation.txt",
            "database_split/subgroup_testing.txt",
        ],
        ("patient0001_2CH_ED", "patient0001", "val"),
        [
            "database_nifti/patient0001/patient0001_2CH_half_sequence.nii.gz",
            "database_nifti/patient0001/patient0001_2CH_half_sequence_gt.nii.gz",
        ],
    ),
    "camus_sequences": (
        [
            "database_nifti/patient0001/patient0001_4CH_half_sequence.nii.gz",
            "database_nifti/patient0001/patient0001_4CH_half_sequence_gt.nii.gz",
            "database_split/subgroup_training.txt",
            "database_split/subgroup_validation.txt",
            "database_split/subgroup_testing.txt",
        ],
        ("patient0001_4CH", "patient0001", "val"),
        [
            "database_nifti/patient0001/patient0001_4CH_ES.nii.gz",
            "database_nifti/patient0001/patient0001_4CH_ES_gt.nii.gz",
        ],
    ),
    "covid_qu_ex": (
        [
            "Lung Segmentation Data/Lung Segmentation Data/Test/Non-COVID/images/non_COVID (1).png",
            "Lung Segmentation Data/Lung Segmentation Data/Test/Non-COVID/lung masks/non_COVID (1).png",
        ],
        ("non_COVID (1)", "non_COVID (1)", "test"),
        ["Infection Segmentation Data/Infection Segmentation Data/Test/Normal/images/Normal (2).png"],
    ),
    "cvc_clinicdb": (["Original/53.tif", "Ground Truth/53.tif"], ("53", "", ""), []),
    "cvc_colondb": (["images/7.png", "masks/7.png"], ("7", "7", ""), []),
    "ddti": (["image/12.PNG", "mask/12.PNG"], ("12", "12", ""), []),
    "drishti_gs": (
        [
            "Test/Images/drishtiGS_001.png",
            "Test/Test_GT/drishtiGS_001/SoftMap/drishtiGS_001_cupsegSoftmap.png",
            "Test/Test_GT/drishtiGS_001/SoftMap/drishtiGS_001_ODsegSoftmap.png",
        ],
        ("drishtiGS_001", "drishtiGS_001", "test"),
        ["Test/Test_GT/drishtiGS_001/AvgBoundary/drishtiGS_001_ODAvgBoundary.txt"],
    ),
    "isic2018": (
        [
            "ISIC2018_Task1-2_Validation_Input/ISIC_0012255.jpg",
            "ISIC2018_Task1_Validation_GroundTruth/ISIC_0012255_segmentation.png",
        ],
        ("ISIC_0012255", "ISIC_0012255", "val"),
        ["ISIC2018_Task1-2_Validation_Input/LICENSE.txt"],
    ),
    "kits19": (
        ["case_00000/imaging.nii.gz", "case_00000/segmentation.nii.gz"],
        ("case_00000", "case_00000", ""),
        ["kits.json"],
    ),
    "kits23": (
        ["case_00300/imaging.nii.gz", "case_00300/segmentation.nii.gz"],
        ("case_00300", "case_00300", ""),
        ["case_00300/instances/kidney_instance-1_annotation-1.nii.gz"],
    ),
    "kvasir_seg": (
        ["images/cju0qkwl35piu0993l0dewei2.jpg", "masks/cju0qkwl35piu0993l0dewei2.jpg"],
        ("cju0qkwl35piu0993l0dewei2", "cju0qkwl35piu0993l0dewei2", ""),
        ["kavsir_bboxes.json"],
    ),
    "left_atrium_2018": (
        ["0RZDK210BSMWAA6467LU/lgemri.nrrd", "0RZDK210BSMWAA6467LU/laendo.nrrd"],
        ("0RZDK210BSMWAA6467LU", "0RZDK210BSMWAA6467LU", ""),
        [],
    ),
    "lits": (["Training Batch 2/volume-28.nii", "Training Batch 2/segmentation-28.nii"], ("28", "28", ""), []),
    "montgomery": (
        [
            "CXR_png/MCUCXR_0001_0.png",
            "ManualMask/leftMask/MCUCXR_0001_0.png",
            "ManualMask/rightMask/MCUCXR_0001_0.png",
        ],
        ("MCUCXR_0001_0", "MCUCXR_0001_0", ""),
        ["ClinicalReadings/MCUCXR_0001_0.txt"],
    ),
    "neurips_cellseg": (
        ["Training-labeled/images/cell_00001.bmp", "Training-labeled/labels/cell_00001_label.tiff"],
        ("cell_00001", "cell_00001", "train"),
        [],
    ),
    "ph2": (
        [
            "PH2 Dataset images/IMD002/IMD002_Dermoscopic_Image/IMD002.bmp",
            "PH2 Dataset images/IMD002/IMD002_lesion/IMD002_lesion.bmp",
        ],
        ("IMD002", "IMD002", ""),
        [],
    ),
    "refuge": (
        ["Training400/Non-Glaucoma/n0001.jpg", "Annotation-Training400/Disc_Cup_Masks/Non-Glaucoma/n0001.bmp"],
        ("n0001", "n0001", "train"),
        ["Annotation-Training400/Fovea_location.xlsx"],
    ),
    "rim_one_dl": (
        [
            "RIM-ONE_DL_images/partitioned_by_hospital/test_set/normal/r2_Im347.png",
            "RIM-ONE_DL_reference_segmentations/normal/r2_Im347-1-Cup-T.png",
            "RIM-ONE_DL_reference_segmentations/normal/r2_Im347-1-Disc-T.png",
        ],
        ("r2_Im347", "r2_Im347", "test"),
        ["RIM-ONE_DL_images/partitioned_randomly/training_set/normal/r2_Im347.png"],
    ),
    "rim_one_r3": (
        [
            "Healthy/Stereo Images/N-10-R.jpg",
            "Healthy/Expert1_masks/N-10-R-1-Cup-exp1.png",
            "Healthy/Expert1_masks/N-10-R-1-Disc-exp1.png",
        ],
        ("N-10-R", "N-10-R", ""),
        ["Healthy/Expert1_masks/N-10-R-1-Cup-exp1.txt"],
    ),
    "tg3k": (["thyroid-image/0003.jpg", "thyroid-mask/0003.jpg"], ("0003", "0003", ""), ["tg3k-trainval.json"]),
    "tn3k": (
        ["test-image/0000.jpg", "test-mask/0000.jpg"],
        ("test_0000", "test_0000", "test"),
        ["label4test.csv", "tn3k-trainval-fold0.json"],
    ),
}
DECATHLON = {
    "msd_brain_tumour": "BRATS_001", "msd_colon": "colon_001", "msd_heart": "la_003",
    "msd_hepatic_vessel": "hepaticvessel_001", "msd_hippocampus": "hippocampus_001", "msd_liver": "liver_0",
    "msd_lung": "lung_001", "msd_pancreas": "pancreas_001", "msd_prostate": "prostate_00", "msd_spleen": "spleen_2",
}  # fmt: skip
PUBLISHED |= {
    name: (
        [f"imagesTr/{case}.nii.gz", f"labelsTr/{case}.nii.gz"],
        (case, case, ""),
        [f"imagesTr/._{case}.nii.gz", f"imagesTs/{case}9.nii.gz", "dataset.json"],
    )
    for name, case in DECATHLON.items()
}


def put(root: Path, files: list[str]) -> None:
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("patient0001\n" if path.name == "subgroup_validation.txt" else "")


def test_table_covers_catalogue() -> None:
    assert sorted(PUBLISHED) == sorted(datasets())


@pytest.mark.parametrize("name", sorted(datasets()))
def test_published_names_are_found(name: str, tmp_path: Path) -> None:
    files, (case, patient, split), others = PUBLISHED[name]
    put(tmp_path, files + others)
    found = list(find_cases(resolve_source(f"{name}:{tmp_path}")))
    cases = [one for one in found if isinstance(one, Case)]
    assert [(one.name, one.split) for one in cases] == [(case, split)], found
    assert not patient or cases[0].patient == patient
    assert not [one for one in found if isinstance(one, Dropped)]
    entry = get_dataset(name)
    assert cases[0].modality == entry.modality and cases[0].kind == entry.kind and cases[0].licence == entry.licence
    assert sorted(cases[0].objects) == sorted(entry.objects)
    read = [file for file in files if not file.endswith(".txt")]
    assert sorted(cases[0].files) == sorted(tmp_path / file for file in read)


def test_frames_of_one_sequence_are_one_patient(tmp_path: Path) -> None:
    numbers = (1, 25, 26, 50, 51, 205, 206, 612)
    put(tmp_path, [f"{folder}/{number}.tif" for number in numbers for folder in ("Original", "Ground Truth")])
    cases = {one.name: one for one in find_cases(resolve_source(f"cvc_clinicdb:{tmp_path}")) if isinstance(one, Case)}
    patient = {number: cases[str(number)].patient for number in numbers}
    assert patient[1] == patient[25] and patient[26] == patient[50]
    assert len(set(patient.values())) == 6  # 1-25, 26-50, 51.., ..205, 206.., 592-612


@pytest.mark.parametrize("name", sorted(datasets()))
def test_file_patterns_fit_the_published_names(name: str, tmp_path: Path) -> None:
    put(tmp_path, PUBLISHED[name][0])
    entry = get_dataset(name)
    counts = {pattern: sum(1 for _ in tmp_path.glob(pattern)) for pattern in entry.files}
    assert any(counts.values()) and all(counts[pattern] <= wanted for pattern, wanted in entry.files.items())
    assert entry.tree.strip() and entry.verified.strip() and entry.terms.strip()


def test_every_published_task_has_a_source() -> None:
    tasks = published_tasks()
    assert [task.set for task in tasks] == ["internal"] * 21 + ["external"] * 10
    assert all(task.served_by for task in tasks)
    assert sum(not task.same_as for task in tasks) == 26
    internal = {task.task for task in tasks if task.set == "internal"}
    assert len(internal) == 21 and {task.same_as for task in tasks if task.same_as} <= internal
    known = {(task.task, task.set) for task in tasks}
    for entry in datasets().values():
        assert {(served.task, served.set) for served in entry.published} <= known, entry.name


def test_published_scores_are_the_papers() -> None:
    # macro means recomputed from arXiv:2507.03698v1, tables 3 and 2 (the paper's own averages are weighted)
    tasks = published_tasks()
    for which, mean in (("internal", 0.7490), ("external", 0.7795)):
        scores = [task.dice for task in tasks if task.set == which]
        assert round(sum(scores) / len(scores), 4) == mean
    assert {(task.task, task.set): task.dice for task in tasks}["Brain tumour", "external"] == 0.6726


def test_named_sources_are_seventeen() -> None:
    sources = named_sources()
    assert len(sources) == 17
    assert all(name in datasets() for one in sources for name in one.datasets)
    assert [one.source for one in sources if not one.datasets] == ["PlantDoc"] and sources[9].note
    listed = {name for one in sources for name in one.datasets}
    named = {entry.name for entry in datasets().values() if any(served.named for served in entry.published)}
    assert named <= listed


def test_names_do_not_hide_generic_sources() -> None:
    assert not set(GENERIC) & set(datasets())


@pytest.mark.parametrize(
    ("given", "close"), [("acdcc", "acdc"), ("amos", "amos_ct"), ("MSD_Liver", "msd_liver"), ("x", "medbank list")]
)
def test_unknown_name(given: str, close: str) -> None:
    with pytest.raises(InputError, match=close):
        get_dataset(given)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("acdc", "wanted NAME:PATH"),
        (":here", "wanted NAME:PATH"),
        ("acdc:", "wanted NAME:PATH"),
        ("nothing:/", "wanted a name of the catalogue"),
        ("acdc:{root}/missing", "does not exist, wanted the folder of ACDC"),
        ("folder:{root}/missing", "wanted a folder with items.csv"),
        ("released:{root}/file", "is a file"),
        ("pairs:{root}", "is a folder, wanted a YAML file"),
        ("pairs:{root}/missing.yaml", "cannot be read"),
    ],
)
def test_bad_source(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=said):
        resolve_source(text.format(root=tmp_path))


@pytest.mark.parametrize("name", ["folder", "released", "dicom"])
def test_generic_source(name: str, tmp_path: Path) -> None:
    source = resolve_source(f"{name}:{tmp_path}")
    assert (source.name, source.converter, source.root) == (name, name, tmp_path)


def test_path_may_hold_colons(tmp_path: Path) -> None:
    (tmp_path / "a:b").mkdir()
    assert resolve_source(f"folder:{tmp_path}/a:b").root == tmp_path / "a:b"


FOUR = 'name: mine\nmodality: CT\nimage: "im/{case}.png"\nlabel: "ma/{case}.png"\n'


def test_four_lines_make_a_source(tmp_path: Path) -> None:
    put(tmp_path, ["im/a.png", "ma/a.png"])
    (tmp_path / "set.yaml").write_text(FOUR)
    source = resolve_source(f"pairs:{tmp_path}/set.yaml")
    assert (source.name, source.modality, source.converter) == ("mine", "ct", "pairs")
    (case,) = find_cases(source)
    assert isinstance(case, Case) and (case.name, case.objects) == ("a", ("mine",))


def test_user_yaml_with_root_and_options(tmp_path: Path) -> None:
    put(tmp_path, ["data/Train/p1_a.png", "data/Train/p1_a_mask.png"])
    (tmp_path / "set.yaml").write_text(
        "name: mine\nmodality: mr\nroot: data\nobjects: {organ: [1, 2], tumour: 2}\n"
        'image: "{part}/{patient}_{n}.png"\nlabel: "{part}/{patient}_{n}_mask.png"\n'
        'patient: "{patient}"\nsplit: "{part}"\nsplits: {Train: train}\nlicence: ours\n'
    )
    (case,) = find_cases(resolve_source(f"pairs:{tmp_path}/set.yaml"))
    assert isinstance(case, Case)
    assert (case.patient, case.split, case.objects, case.licence) == ("p1", "train", ("organ", "tumour"), "ours")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (FOUR.replace("mine", "My Set"), r"set.yaml: name: got 'My Set'"),
        (FOUR.replace("name: mine\n", ""), "set.yaml: name: is missing"),
        (FOUR.replace("image:", "picture:"), "set.yaml: image: is missing"),
        (FOUR.replace("label:", "mask:"), "one of `label`"),
        (FOUR + "labels: {a: b}\n", "one of `label`"),
        (FOUR + "channnel: 1\n", "channnel"),
        (FOUR + "objects: {a: 1.5}\n", "set.yaml: objects.a"),
        (FOUR + "objects: {a: '>> 1'}\n", "object a"),
        (FOUR + "kind: picture\n", "set.yaml: kind"),
        (FOUR + "root: elsewhere\n", "root: .*elsewhere is not a folder"),
        (FOUR + "name: again\n", "line 5: .*'name' is given twice"),
        ("name: [", "is not YAML"),
        ("- a\n- b\n", "holds list"),
        ("", "holds NoneType"),
    ],
)
def test_bad_user_yaml(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "set.yaml").write_text(text)
    with pytest.raises(InputError, match=said) as error:
        resolve_source(f"pairs:{tmp_path}/set.yaml")
    assert "\n" not in str(error.value) and "set.yaml" in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("kind: volume", "kind: cube", "acdc.yaml: kind"),
        ("name: acdc", "nam: acdc", "acdc.yaml: (name: is missing|nam: is not a field)"),
        ("left_ventricle: 3", "left_ventricle: 3.5", "acdc.yaml: objects.left_ventricle"),
        ('"training/*/*_gt.nii.gz": 200', '"../x": 200', "acdc.yaml: files"),
        ('"training/*/*_gt.nii.gz": 200', '"training/*/*_gt.nii.gz": many', "acdc.yaml: files"),
        ("published: []", "published: [{task: a, set: internal, objects: [liver]}]", "no object 'liver'"),
        ("published: []", "published: []\nchecksums: {a.zip: 'md5:123'}", "acdc.yaml: checksums"),
        ("licence: CC BY-NC-SA 4.0", "licence: ''", "acdc.yaml: licence"),
    ],
)
def test_bad_entry(old: str, new: str, said: str, tmp_path: Path) -> None:
    text = (Path(catalog.__file__).parent / "catalog" / "acdc.yaml").read_text()
    assert old in text
    (tmp_path / "acdc.yaml").write_text(text.replace(old, new))
    with pytest.raises(InputError, match=said):
        read_yaml(tmp_path / "acdc.yaml", Dataset)


def test_counts_that_differ_are_reported(tmp_path: Path) -> None:
    put(tmp_path, [*PUBLISHED["msd_spleen"][0], *PUBLISHED["msd_spleen"][2]])
    source = resolve_source(f"msd_spleen:{tmp_path}")
    problems = layout_warnings(source)
    assert problems == check_layout(get_dataset("msd_spleen"), tmp_path)
    assert problems == [
        "msd_spleen: imagesTr/*.nii.gz: 1 files, the published set has 41",
        "msd_spleen: labelsTr/*.nii.gz: 1 files, the published set has 41",
    ]
    put(tmp_path, [f"{folder}/spleen_{n}.nii.gz" for n in range(41) for folder in ("imagesTr", "labelsTr")])
    assert layout_warnings(source) == []


def test_wrong_folder_is_named(tmp_path: Path) -> None:
    (problem,) = check_layout(get_dataset("acdc"), tmp_path)
    assert "holds none of the files" in problem and "medbank show acdc" in problem
    put(tmp_path / "ACDC" / "database", PUBLISHED["acdc"][0])
    (problem,) = check_layout(get_dataset("acdc"), tmp_path)
    assert f"{tmp_path / 'ACDC' / 'database'} looks right" in problem


def test_checksum_of_an_archive_beside(tmp_path: Path) -> None:
    put(tmp_path / "set", ["images/1.png"])
    content = b"archive"
    (tmp_path / "set.zip").write_bytes(content)
    entry = get_dataset("acdc").model_copy(
        update={"files": {"images/*.png": 1}, "checksums": {"set.zip": f"md5:{hashlib.md5(content).hexdigest()}"}}
    )
    assert check_layout(entry, tmp_path / "set", hashes=True) == []
    (tmp_path / "set.zip").write_bytes(content[::-1])
    assert check_layout(entry, tmp_path / "set") == []
    (problem,) = check_layout(entry, tmp_path / "set", hashes=True)
    assert "has checksum md5:" in problem


def test_warnings_only_for_the_catalogue(tmp_path: Path) -> None:
    assert layout_warnings(resolve_source(f"folder:{tmp_path}")) == []
    (tmp_path / "set.yaml").write_text(FOUR.replace("mine", "acdc"))
    assert layout_warnings(resolve_source(f"pairs:{tmp_path}/set.yaml")) == []


def test_page_is_up_to_date() -> None:
    page = Path(__file__).parents[2] / "docs" / "medbank-catalog.md"
    assert page.read_text() == catalog_docs.page(), f"run `python -m samed2.data.catalog_docs {page.name}` in docs/"


def test_page_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    catalog_docs.main([str(tmp_path / "page.md")])
    catalog_docs.main([])
    assert (tmp_path / "page.md").read_text() == capsys.readouterr().out


@pytest.mark.needs_data
def test_samples_are_there(data_dir: Path) -> None:
    entries = [entry for entry in datasets().values() if entry.sample]
    assert entries
    for entry in entries:
        assert (data_dir / entry.sample).is_dir(), entry.name
