"""Loading by name or folder: strict about keys and shapes, one line when it fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.nn.tiny import images, sam2_settings, tiny_config, tiny_model
from transformers import Sam2Config, Sam2Model, Sam2VideoConfig, Sam2VideoModel

from samed2.errors import InputError
from samed2.nn import SAMed2Model, weights
from samed2.nn.weights import BUILTIN, BuiltIn, fingerprint, load, save


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save(tiny_model(), tmp_path / "model")


def equal(a: SAMed2Model, b: SAMed2Model) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def test_a_saved_folder_loads_the_same(folder: Path) -> None:
    model, again = tiny_model(), load(folder)
    assert equal(model, again)
    assert again.config.to_dict() == model.config.to_dict() | {"dtype": again.config.to_dict().get("dtype")}
    assert not again.training
    with torch.no_grad():
        torch.testing.assert_close(again.encode(images(2)).low, model.encode(images(2)).low, atol=0, rtol=0)
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_transformers_own_way_in_and_out_agrees(folder: Path, tmp_path: Path) -> None:
    assert equal(SAMed2Model.from_pretrained(folder), load(folder))
    load(folder).save_pretrained(tmp_path / "theirs")
    assert equal(load(tmp_path / "theirs"), load(folder))


def test_half_precision_files_load_as_float32(tmp_path: Path) -> None:
    model = tiny_model()
    again = load(save(model, tmp_path / "half", dtype=torch.float16))
    assert {p.dtype for p in again.parameters()} == {torch.float32}
    for got, wanted in zip(again.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(got, wanted.half().float(), atol=0, rtol=0)


def test_built_in_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUILTIN, "nano", BuiltIn(folder, "test", "none"))
    assert equal(load("nano"), tiny_model())
    monkeypatch.setitem(BUILTIN, "nano", BuiltIn(folder / "gone", "test", "none"))
    with pytest.raises(InputError, match="installation is incomplete"):
        load("nano")


@pytest.mark.parametrize("newer", [False, True], ids=["2.0", "2.1"])
def test_a_transformers_video_model_gets_identity_adapters(newer: bool, tmp_path: Path) -> None:
    config = tiny_config(
        enable_occlusion_spatial_embedding=newer, enable_temporal_pos_encoding_for_object_pointers=newer
    )
    plain = Sam2VideoModel(Sam2VideoConfig.from_dict(sam2_settings(config))).eval()
    plain.save_pretrained(tmp_path)
    model = load(tmp_path)
    assert model.config.adapter_dim == 32
    assert model.config.enable_occlusion_spatial_embedding == newer
    with torch.no_grad():
        wanted = plain.get_image_features(images(1)[0], return_dict=True).fpn_hidden_states[-1]
        torch.testing.assert_close(
            model.encode(images(1)).low.flatten(2).permute(2, 0, 1), wanted, atol=1e-5, rtol=1e-5
        )
    assert equal(model, load(tmp_path))  # new parts are the same each time
    assert float(model.vision_encoder.backbone.blocks[0].adapter.down.weight.detach().abs().sum()) > 0


def test_a_transformers_image_model_gets_new_memory_parts(tmp_path: Path) -> None:
    settings = tiny_config().to_dict()
    parts = {k: dict(settings[k]) for k in ("vision_config", "prompt_encoder_config", "mask_decoder_config")}
    for part in ("prompt_encoder_config", "mask_decoder_config"):
        parts[part].pop("model_type", None)
    plain = Sam2Model(Sam2Config(**parts)).eval()
    plain.save_pretrained(tmp_path)
    state = torch.random.get_rng_state()
    model = load(tmp_path)
    assert torch.equal(state, torch.random.get_rng_state())
    assert model.config.image_size == 64
    with torch.no_grad():
        wanted = plain.get_image_features(images(1)[0], return_dict=True).fpn_hidden_states[-1]
        torch.testing.assert_close(
            model.encode(images(1)).low.flatten(2).permute(2, 0, 1), wanted, atol=1e-5, rtol=1e-5
        )
        memory_map = model.encode_memory(model.encode(images(1)).low, torch.zeros(1, 1, 16, 16))
        assert torch.isfinite(model.condition(model.encode(images(1)).low, memory_map[:, None])).all()


def test_shards_are_read_by_their_index(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    names = sorted(state)
    halves = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, own in halves.items():
        save_file({n: state[n] for n in own}, folder / file)
    index = {"weight_map": {n: file for file, own in halves.items() for n in own}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()
    assert equal(load(folder), tiny_model())


def change_state(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        change(state)
        save_file(state, folder / "model.safetensors")

    return apply


def change_config(**values: object) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | values))

    return apply


def cut(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def swap(s: dict[str, torch.Tensor]) -> None:
    s["no_object_pointer"] = torch.zeros(1, 2)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing key": (change_state(lambda s: s.pop("no_memory_embedding")), "1 missing: no_memory_embedding"),
    "missing adapter": (
        change_state(lambda s: [s.pop(n) for n in list(s) if ".adapter." in n]),
        "missing: .* and .* more",
    ),
    "extra key": (change_state(lambda s: s.update(extra=torch.zeros(2))), "1 unexpected: extra"),
    "shape": (change_state(swap), "no_object_pointer .got 1x2, wanted 1x64"),
    "cut off": (cut, "may be cut off"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "has no model.safetensors"),
    "no config": (lambda f: (f / "config.json").unlink(), "has no config.json"),
    "config cut off": (lambda f: (f / "config.json").write_text('{"model_type": '), "cannot be read as JSON"),
    "config list": (lambda f: (f / "config.json").write_text("[]"), "holds a JSON list, wanted an object"),
    "other model": (change_config(model_type="bert"), "model_type: got 'bert'"),
    "bad value": (change_config(adapter_layout="rows"), "adapter_layout"),
    "bad type": (change_config(adapter_dim="many"), "config.json"),
}


@pytest.mark.parametrize("damage, message", BROKEN.values(), ids=BROKEN.keys())
def test_broken_folders_are_one_line(folder: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(folder)
    with pytest.raises(InputError, match=message) as error:
        load(folder)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gigantic", "./nowhere/model", str(tmp_path / "nothing"), "a/b/c"):
        with pytest.raises(InputError, match=r"unknown, wanted a built-in model \(nano\)"):
            load(name)
    (tmp_path / "file.pt").write_bytes(b"x")
    with pytest.raises(InputError, match=r"is a file.*samed2 convert"):
        load(tmp_path / "file.pt")

    def offline(*_: object, **__: object) -> str:
        raise OSError("no\nnetwork")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(InputError, match="cannot be fetched from the hub: no network"):
        load("owner/model")


def test_a_hub_name_is_a_folder_once_fetched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(folder))
    assert equal(load("owner/model"), tiny_model())


def test_saving_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file"):
        save(tiny_model(), tmp_path / "file")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights, "save_file", full)
    with pytest.raises(InputError, match="No space left"):
        save(tiny_model(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_fingerprint_ties_a_memory_to_its_model(folder: Path) -> None:
    model = tiny_model()
    mark = fingerprint(model)
    assert mark == fingerprint(load(folder)) == fingerprint(tiny_model().to(torch.bfloat16))
    with torch.no_grad():
        model.no_object_pointer[0, 0] += 1
    assert fingerprint(model) != mark


def test_the_memory_of_a_model_is_the_file_beside_its_weights(tmp_path):
    from samed2.nn.weights import MEMORY, memory_file

    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    assert memory_file(folder, None) is None
    assert memory_file("nano", "a/bank.safetensors") == Path("a/bank.safetensors")
    with pytest.raises(InputError, match="memory build"):
        memory_file(folder, "own")
    (folder / MEMORY).write_bytes(b"")
    assert memory_file(folder, "own") == folder / MEMORY
