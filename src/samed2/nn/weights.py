"""Weights in and out: built-in models, folders and hub names in safetensors, checked key by key."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import initialization

from samed2.errors import InputError
from samed2.io.json_file import read_json
from samed2.nn.config import SAMed2Config
from samed2.nn.model import SAMed2Model
from samed2.nn.strict import check_shapes

MODELS = Path(__file__).resolve().parents[1] / "models"
CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
MEMORY, OWN = "memory.safetensors", "own"  # a model's own memory: the file beside its weights, and what asks for it
_MEMORY_PARTS = (
    "memory_",
    "mask_downsample.",
    "object_pointer_proj.",
    "no_object_pointer",
    "no_memory_positional_encoding",
    "occlusion_spatial_embedding_parameter",
    "temporal_positional_encoding_projection_layer.",
)
_TRANSFORMERS_TYPES = ("sam2_video", "sam2")
_REPLACE = "replace it with the file that came with the weights"


@dataclass(frozen=True)
class BuiltIn:
    """A model that ships with the package: folder, one line about it, and the licence of its weights."""

    folder: Path
    summary: str
    licence: str


BUILTIN: dict[str, BuiltIn] = {
    "nano": BuiltIn(
        MODELS / "nano",
        "small SAMed-2, 128 px views, trained by this project's own recipe",
        "CC-BY-NC-SA-4.0 (research use, because of its training data)",
    ),
}


def load(
    name_or_path: str | os.PathLike[str],
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> SAMed2Model:
    """Load a model for inference.

    Args:
        name_or_path: a built-in name; a folder of ours, or of a transformers SAM 2 / 2.1 image or video model
            in safetensors (its adapters are new, the identity); or such a model's name on the hub.
        device: where to put it.
        dtype: of its parameters.

    Raises:
        InputError: no such model, or weights that are cut off or do not fit.
    """
    folder = resolve(name_or_path)
    settings = read_json(folder / CONFIG, "an object with a model's settings", _REPLACE)
    kind = settings.get("model_type")
    if kind != "samed2" and kind not in _TRANSFORMERS_TYPES:
        raise InputError(f"{folder / CONFIG}: model_type: got {kind!r}, wanted samed2, sam2_video or sam2")
    state = _read_state(folder)
    try:
        config = _config(settings, state)
        fresh: tuple[str, ...] = () if kind == "samed2" else (".adapter.",)
        if kind == "sam2":
            fresh += _MEMORY_PARTS
        model = build(config, state, str(folder), fresh)
    except InputError:
        raise
    except Exception as error:  # strict configuration classes answer with several kinds of error
        raise InputError(f"{folder / CONFIG}: is no usable configuration: {_line(error)}") from error
    return model.to(device=device, dtype=dtype).eval()


def build(config: SAMed2Config, state: Mapping[str, Tensor], source: str, fresh: tuple[str, ...] = ()) -> SAMed2Model:
    """Build a float32 model, in evaluation mode, from named tensors of any float dtype.

    Args:
        fresh: starts of names, or parts of names that start with a dot. All parameters of one of these may be
            missing together: they are initialised, the same way each time, adapters as the identity.

    Raises:
        InputError: see `samed2.nn.strict.check_shapes`.
    """
    with initialization.no_init_weights(), torch.random.fork_rng(devices=[]):
        model = SAMed2Model(config)
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    new = [part for part in fresh if not any(_belongs(name, part) for name in state)]
    given = {name: shape for name, shape in wanted.items() if not any(_belongs(name, part) for part in new)}
    check_shapes({name: tuple(value.shape) for name, value in state.items()}, given, source)
    model.load_state_dict(dict(state), strict=False)
    if len(given) < len(wanted):
        _initialise(model, given)
    return model.eval()


def save(model: SAMed2Model, folder: str | os.PathLike[str], dtype: torch.dtype = torch.float32) -> Path:
    """Write config.json and model.safetensors; each file appears whole or not at all. Returns the folder.

    Raises:
        InputError: the folder cannot be written.
    """
    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise InputError(f"{target}: is a file; give the name of a folder to write")
    made = not target.exists()
    part = target / f".{secrets.token_hex(4)}.part"
    try:
        part.mkdir(parents=True)
        model.config.save_pretrained(part)
        state = {name: value.detach().to("cpu", dtype).contiguous() for name, value in model.state_dict().items()}
        state = {name: value.clone() if value.is_floating_point() else value for name, value in state.items()}
        save_file(state, part / WEIGHTS, metadata={"format": "pt"})
        for file in (WEIGHTS, CONFIG):
            os.replace(part / file, target / file)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(part, ignore_errors=True)
        if made:
            shutil.rmtree(target, ignore_errors=True)
        raise InputError(f"{target}: cannot be written: {_line(error)}") from error
    shutil.rmtree(part, ignore_errors=True)
    return target


def fingerprint(model: torch.nn.Module) -> str:
    """Return a short sha256 of the weights: names, shapes and values rounded to bfloat16.

    The same whether the model is held in float32 or bfloat16, on whatever device; ties a memory file to its model.
    """
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        plain = value.detach().to("cpu", torch.bfloat16).contiguous()
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(plain.view(torch.int16).numpy().tobytes() if plain.dim() else str(float(plain)).encode())
    return digest.hexdigest()[:32]


def resolve(name_or_path: str | os.PathLike[str]) -> Path:
    """Return the folder with a model's config.json: built-in, local, or fetched from the hub.

    Raises:
        InputError: none of these.
    """
    name = os.fspath(name_or_path)
    if name in BUILTIN:
        folder = BUILTIN[name].folder
        if not (folder / CONFIG).is_file():
            raise InputError(f"model {name}: {folder} has no {CONFIG}; the installation is incomplete")
        return folder
    path = Path(name)
    if path.is_dir():
        if not (path / CONFIG).is_file():
            raise InputError(f"{path}: has no {CONFIG}, wanted a model folder; convert checkpoints with samed2 convert")
        return path
    if path.exists():
        raise InputError(f"{path}: is a file, wanted a model folder; convert checkpoints with samed2 convert")
    if name.count("/") != 1 or path.is_absolute() or name.startswith((".", "~")):
        raise InputError(
            f"model {name!r}: unknown, wanted a built-in model ({', '.join(BUILTIN)}), a folder, "
            "or owner/model of the hub"
        )
    return _fetch(name)


def memory_file(name_or_path: str | os.PathLike[str], memory: str | os.PathLike[str] | None) -> Path | None:
    """Return the memory file to read with a model: `memory`, or for the word "own" the file beside its weights.

    Raises:
        InputError: the model came without one.
    """
    if memory is None:
        return None
    if os.fspath(memory) != OWN:
        return Path(memory)
    path = resolve(name_or_path) / MEMORY
    if not path.is_file():
        raise InputError(f"{path.parent}: came without a memory of its own; make one with samed2 memory build")
    return path


def _fetch(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, allow_patterns=[CONFIG, "*.safetensors", INDEX]))
    except Exception as error:  # no network, no such model, no permission: many classes
        raise InputError(f"model {name}: is no folder and cannot be fetched from the hub: {_line(error)}") from error
    if not (folder / CONFIG).is_file():
        raise InputError(f"model {name}: has no {CONFIG} on the hub, wanted a SAM 2 or SAMed-2 model")
    return folder


def _config(settings: Mapping[str, Any], state: Mapping[str, Tensor]) -> SAMed2Config:
    """Our configuration, or one around transformers' SAM 2 settings; 2.0 or 2.1 is told by the keys."""
    values = dict(settings)
    kind = values.pop("model_type")
    if kind == "samed2":
        return SAMed2Config.from_dict(values)
    if kind == "sam2_video" or any(name.startswith("memory_encoder.") for name in state):
        values["enable_occlusion_spatial_embedding"] = "occlusion_spatial_embedding_parameter" in state
        values["enable_temporal_pos_encoding_for_object_pointers"] = (
            "temporal_positional_encoding_projection_layer.weight" in state
        )
    if kind == "sam2":
        values = _memory_settings(values) | values
    return SAMed2Config.from_dict(values)


def _memory_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings a video model has and an image model lacks, for its width and input size."""
    width = settings["vision_config"].get("fpn_hidden_size", 256)
    size = settings["prompt_encoder_config"].get("image_size", 1024)
    side = size[0] if isinstance(size, list) else size
    return {
        "image_size": side,
        "memory_attention_hidden_size": width,
        "memory_attention_feed_forward_hidden_size": 8 * width,
        "memory_attention_rope_feat_sizes": [side // 16, side // 16],
        "memory_encoder_hidden_size": width,
        "mask_downsampler_embed_dim": width,
        "memory_fuser_embed_dim": width,
        "memory_fuser_intermediate_dim": 4 * width,
    }


def _belongs(name: str, part: str) -> bool:
    return part in name if part.startswith(".") else name.startswith(part)


def _initialise(model: SAMed2Model, loaded: Iterable[str]) -> None:
    """Initialise all tensors but the loaded ones, from a fixed seed, leaving the global generator alone."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    kept = [tensors[name] for name in loaded]
    for tensor in kept:
        tensor._is_hf_initialized = True  # type: ignore[attr-defined]  # transformers' mark: leave it alone
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model.initialize_weights()
    for tensor in kept:
        del tensor._is_hf_initialized  # type: ignore[attr-defined]


def _read_state(folder: Path) -> dict[str, Tensor]:
    """Read all tensors of a model folder, from one file or from the shards its index names."""
    if (folder / WEIGHTS).is_file():
        files = [folder / WEIGHTS]
    elif (folder / INDEX).is_file():
        shards = read_json(folder / INDEX, "an object with weight_map", _REPLACE).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise InputError(f"{folder / INDEX}: weight_map: got {shards!r}, wanted names and their files")
        files = [folder / Path(str(file)).name for file in sorted(set(shards.values()))]
    else:
        raise InputError(
            f"{folder}: has no {WEIGHTS}; wanted weights in safetensors, convert others with samed2 convert"
        )
    state: dict[str, Tensor] = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as opened:
                state.update({name: opened.get_tensor(name) for name in opened.keys()})  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise InputError(f"{file}: cannot be read as safetensors, it may be cut off: {_line(error)}") from error
    return state


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
