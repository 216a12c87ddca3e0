"""Names of models: families, weights and settings."""

from __future__ import annotations

import subprocess
import sys

import pytest

from samed2.errors import InputError
from samed2.evaluate.models import FAMILIES, load_model
from samed2.evaluate.models.options import split_name


@pytest.mark.parametrize(
    "name, wanted",
    [
        ("nano", ("samed2", "nano", {})),
        ("samed2:nano", ("samed2", "nano", {})),
        ("owner/model", ("samed2", "owner/model", {})),
        ("sam2:facebook/sam2.1-hiera-tiny", ("sam2", "facebook/sam2.1-hiera-tiny", {})),
        ("unet:runs/a?in_box=1&window=50,400", ("unet", "runs/a", {"in_box": "1", "window": "50,400"})),
        ("nano?mirror=true", ("samed2", "nano", {"mirror": "true"})),
        ("medsam", ("medsam", "", {})),
        ("sam?", ("sam", "", {})),
    ],
)
def test_names(name, wanted):
    assert split_name(name, FAMILIES) == wanted


def test_a_folder_is_a_folder_whatever_it_is_called(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("sam", "sam2:x", "a?b=1"):
        (tmp_path / name).mkdir()
        assert split_name(name, FAMILIES) == ("samed2", name, {})


@pytest.mark.parametrize(
    "name, message",
    [
        ("sam3:x/y", "family 'sam3' is unknown, wanted one of samed2, sam2, sam, medsam, unet"),
        ("medsam", "names no weights, wanted medsam:FOLDER"),
        ("sam2:", "names no weights"),
        ("nano?mirror", "setting 'mirror' has no value"),
        ("nano?miror=1", "setting 'miror' is unknown; there are window"),
        ("nano?mirror=perhaps", "mirror: got 'perhaps'"),
        ("nano?margin=0.5", "margin: got 0.5, wanted at least 1"),
        ("nano?bank=/nowhere/x.bank", "nowhere"),
        ("sam2:nano", "model_type: got 'samed2', wanted sam2"),
        ("sam2:no-such-thing", "unknown"),
        ("sam2:nobody/nothing-of-the-kind", "cannot be fetched from the hub"),
        ("sam:nobody/nothing-of-the-kind", "cannot be fetched from the hub"),
        ("nobody/nothing-of-the-kind", "cannot be fetched from the hub"),
        ("unet:nobody/nothing-of-the-kind", "wanted a folder written by U-Net training"),
        ("sam2:x/y?in_box=1", "setting 'in_box' is unknown"),
        ("medsam:x/y?multimask=1", "setting 'multimask' is unknown"),
    ],
)
def test_names_that_mean_nothing(name, message):
    with pytest.raises(InputError, match=message) as caught:
        load_model(name, device="cpu")
    assert "\n" not in str(caught.value)


def test_settings_given_apart_win_over_those_in_the_name(folders):
    given = load_model(f"unet:{folders['unet']}?in_box=1", device="cpu")
    assert given.options.in_box
    assert not load_model(f"unet:{folders['unet']}?in_box=1", device="cpu", in_box=False).options.in_box
    with pytest.raises(InputError, match="device"):
        load_model(f"unet:{folders['unet']}", device="abacus")


def test_without_monai_a_unet_says_what_to_install(folders, monkeypatch):
    monkeypatch.setitem(sys.modules, "monai", None)
    with pytest.raises(InputError, match=r"MONAI.*pip install"):
        load_model(f"unet:{folders['unet']}", device="cpu")


def test_listing_the_families_loads_no_torch():
    code = "import sys, samed2.evaluate.models; print(sorted({'torch', 'monai', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
