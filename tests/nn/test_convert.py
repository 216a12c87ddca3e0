"""Official checkpoints become our folders: every key accounted for, or an error that lists them."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.nn.official import official_shapes

from samed2.errors import InputError
from samed2.nn import SAMed2Model
from samed2.nn.builders import SAM2_SIZES
from samed2.nn.convert import convert, model_from, read_checkpoint
from samed2.nn.convert.infer import describe, infer_config
from samed2.nn.convert.names import UNUSED, new_name, translate
from samed2.nn.strict import check_shapes
from samed2.nn.weights import load


def official(size: str = "tiny", version: str = "2.0", adapter: int = 0) -> dict[str, torch.Tensor]:
    """Parameters of a published size, without numbers."""
    width, _, blocks, _, windows, background = SAM2_SIZES[size]
    shapes = official_shapes(width, blocks, background, window=windows[0], version=version, adapter=adapter)
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def shapes(tensors: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in tensors.items()}


@pytest.mark.parametrize("adapter", [0, 32], ids=["sam2", "samed2"])
@pytest.mark.parametrize("version", ["2.0", "2.1"])
@pytest.mark.parametrize("size", list(SAM2_SIZES))
def test_every_published_size_is_told_by_its_keys_and_fits(size: str, version: str, adapter: int) -> None:
    state = official(size, version, adapter)
    config = infer_config(state, "x.pt")
    layout = "released" if adapter else "frames"
    assert describe(config) == {"size": size, "version": version, "adapter_layout": layout, "adapter_dim": 32}
    assert config.box_tokens == ("corners" if adapter else "points")
    assert (config.pixel_mean == [0.0] * 3) == bool(adapter)
    with torch.device("meta"):
        wanted = shapes(SAMed2Model(config).state_dict())
        got = shapes(translate({n: v for n, v in state.items() if not UNUSED.fullmatch(n)}))
    if not adapter:
        wanted = {name: shape for name, shape in wanted.items() if ".adapter." not in name}
    check_shapes(got, wanted, "x.pt")


def test_two_names_never_become_one() -> None:
    names = [n for n in official("small", "2.1", 32) if not UNUSED.fullmatch(n) and "point_embeddings" not in n]
    assert len({new_name(n) for n in names}) == len(names)


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real file in Meta's layout: SAM 2.1 tiny, all zeros but one value."""
    path = tmp_path_factory.mktemp("meta") / "sam2.1_hiera_tiny.pt"
    state = {name: torch.zeros(value.shape) for name, value in official("tiny", "2.1").items()}
    state["no_mem_embed"].fill_(0.25)
    torch.save({"model": state}, path)
    return path


def test_a_meta_file_becomes_a_folder_that_loads(small_file: Path, tmp_path: Path) -> None:
    summary = convert(small_file, tmp_path / "out")
    assert summary["kind"] == "sam2"
    assert summary["size"] == "tiny"
    assert summary["version"] == "2.1"
    assert summary["dropped"] == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["config.json", "model.safetensors"]
    model = load(tmp_path / "out")
    assert float(model.no_memory_embedding.mean()) == 0.25
    block = model.vision_encoder.backbone.blocks[0]
    assert float(block.adapter.up.weight.abs().sum()) == 0  # new adapters are the identity
    assert float(block.adapter.down.weight.abs().sum()) > 0
    with pytest.raises(InputError, match=r"no samed2 checkpoint.*--kind sam2"):
        convert(small_file, tmp_path / "other", kind="samed2")


WRONG: list[tuple[str, Any, str]] = [
    ("missing", lambda s: s.pop("no_mem_embed"), "1 missing: no_memory_embedding"),
    ("unexpected", lambda s: s.update(extra=torch.zeros(1)), "1 unexpected: extra"),
    (
        "shape",
        lambda s: s.update(no_mem_embed=torch.zeros(1, 1, 8)),
        "no_memory_embedding .got 1x1x8, wanted 1x1x256",
    ),
    (
        "fusion",
        lambda s: s.pop("image_encoder.trunk.blocks.3.adapter.conv.bias"),
        "blocks.3.adapter.conv.bias",
    ),
]


@pytest.mark.parametrize("change, message", [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_keys_that_do_not_fit_are_listed(change: Any, message: str) -> None:
    state = official("tiny", "2.0", 32)
    config = infer_config(state, "w.pth")
    change(state)
    with torch.device("meta"), pytest.raises(InputError, match=message) as error:
        model_from(state, config, "w.pth")
    assert str(error.value).startswith("w.pth: ")
    assert "\n" not in str(error.value)


def test_fusion_weights_are_unexpected_in_plain_sam2() -> None:
    state = official("tiny")
    state["image_encoder.trunk.blocks.0.fancy_fusion_two.weight"] = torch.empty(1, device="meta")
    with torch.device("meta"), pytest.raises(InputError, match="unexpected"):
        model_from(state, infer_config(state, "w.pt"), "w.pt")


def test_unknown_sizes_are_named() -> None:
    state = official("tiny")
    state["image_encoder.trunk.pos_embed"] = torch.empty(1, 96, 9, 9, device="meta")
    with pytest.raises(InputError, match=r"grid \(9, 9\); wanted one of tiny"):
        infer_config(state, "w.pt")
    with pytest.raises(InputError, match="holds no SAM 2 weights"):
        infer_config({"fc.weight": torch.zeros(2, 2)}, "w.pt")


class Unsafe:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        import os

        return os.mkdir, ("ran",)


def saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


BAD_FILES = {
    "empty": b"",
    "text": b"not weights at all",
    "cut": saved({"a": torch.zeros(1000)})[:700],
    "list": saved([torch.zeros(1)]),
    "tensor": saved(torch.zeros(1)),
    "numbers": saved({"a": 1}),
    "code": saved({"model": {"a": Unsafe()}}),
}


@pytest.mark.parametrize("content", BAD_FILES.values(), ids=BAD_FILES.keys())
def test_bad_files_are_one_line(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.pt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"w\.pt") as error:
        convert(path, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["w.pt"]


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_checkpoint(tmp_path / "no.pt")
    with pytest.raises(InputError, match="is a folder"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("wrapper", ["model", "state_dict", None])
def test_wrappers_and_prefixes(wrapper: str | None, tmp_path: Path) -> None:
    state = {"module.a": torch.ones(2)}
    torch.save({wrapper: state} if wrapper else state, tmp_path / "w.pt")
    assert zipfile.is_zipfile(tmp_path / "w.pt")
    assert list(read_checkpoint(tmp_path / "w.pt")) == ["a"]
