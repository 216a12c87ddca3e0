"""The demo's boxes fit the images that the dependencies bring along."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from samed2.cli.demo import CASES, Case, _locate
from samed2.io import read, resolve_window
from samed2.prompts import Prompts


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_boxes_fit(case: Case) -> None:
    path = _locate(case)
    assert path is not None, f"the installed {case.package} has no {case.file}"
    scan = read(path, modality=case.modality)
    assert scan.modality != "unknown"
    window = resolve_window(scan, case.window)
    assert window.apply(scan.frame(0)).std() > 0.05
    for boxes in case.objects.values():
        for x0, y0, x1, y1 in boxes:
            Prompts().add_box(1, 0, y0, x0, y1, x1).validate(scan)
            assert 0 <= x0 < x1 <= scan.width
            assert 0 <= y0 < y1 <= scan.height


def test_missing_package_is_left_out() -> None:
    assert _locate(Case("x", "no_such_package_here", "a.dcm", {})) is None
    assert _locate(Case("x", "pydicom", "no/such/file.dcm", {})) is None


def test_writes_overlays_masks_and_json(run: Any, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "demo"
    code, text, _ = run("demo", "--out", out, "--model", tiny_model, "--device", "cpu", "--quiet")
    assert code == 0
    assert "ct_spine: aorta: " in text
    for case in CASES:
        with Image.open(out / f"{case.name}_overlay.png") as picture:
            assert min(picture.size) > 60
        assert (out / f"{case.name}_mask.png").is_file()
        assert (out / f"{case.name}.json").is_file()
