"""What a U-Net folder says about itself, and the network it describes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from samed2.errors import InputError
from samed2.evaluate.models.options import first_problem
from samed2.io.atomic import atomic_path, atomic_write, make_folder
from samed2.io.json_file import read_json
from samed2.nn.strict import check_shapes
from samed2.nn.weights import CONFIG, WEIGHTS

LEAST_SIDE = 32  # below that nothing is left to normalise at the bottom of the net


class UNetConfig(BaseModel):
    """A 2-D U-Net with one sigmoid channel per task.

    Attributes:
        network: a name of `NETWORKS`.
        width: channels of its first level.
        size: side in pixels of the square that holds the whole frame, a multiple of 16.
        tasks: "DATASET/OBJECT" of each channel, in order; one for a specialist.
        training: how it was trained; for people.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_type: Literal["samed2-unet"] = "samed2-unet"
    network: str = "basic"
    width: int = Field(32, ge=4, le=1024)
    size: int = Field(256, ge=LEAST_SIDE, multiple_of=16)
    tasks: tuple[str, ...] = Field(min_length=1)
    training: dict[str, Any] = Field(default_factory=dict)

    @field_validator("network")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in NETWORKS:
            raise ValueError(f"one of {', '.join(NETWORKS)}")
        return value

    @field_validator("tasks")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("each task once")
        return value


def _basic(width: int, channels: int) -> torch.nn.Module:
    from monai.networks.nets import BasicUNet

    features = (width, width, 2 * width, 4 * width, 8 * width, width)
    return BasicUNet(spatial_dims=2, in_channels=3, out_channels=channels, features=features)


def _residual(width: int, channels: int) -> torch.nn.Module:
    from monai.networks.nets import UNet

    levels = tuple(width * 2**i for i in range(5))
    return UNet(2, in_channels=3, out_channels=channels, channels=levels, strides=(2,) * 4, num_res_units=2)


def _dynamic(width: int, channels: int) -> torch.nn.Module:
    from monai.networks.nets import DynUNet

    return DynUNet(
        spatial_dims=2,
        in_channels=3,
        out_channels=channels,
        kernel_size=[3] * 5,
        strides=[1, 2, 2, 2, 2],
        upsample_kernel_size=[2] * 4,
        filters=[width * 2**i for i in range(5)],
        norm_name="instance",
    )


NETWORKS: dict[str, Callable[[int, int], torch.nn.Module]] = {
    "basic": _basic,
    "residual": _residual,
    "dynamic": _dynamic,
}


def make_config(**values: Any) -> UNetConfig:
    """A configuration from its fields.

    Raises:
        InputError: a field is unknown or unusable.
    """
    try:
        return UNetConfig(**values)
    except ValidationError as error:
        raise InputError(f"U-Net: {first_problem(error)}") from error


def build_unet(config: UNetConfig, seed: int = 0) -> torch.nn.Module:
    """The network of a configuration with weights drawn from a seed, the same ones each time.

    Instance norm throughout: an image's answer does not depend on its batch.

    Raises:
        InputError: MONAI is not installed.
    """
    try:
        import monai  # noqa: F401
    except ImportError as error:
        raise InputError("U-Nets need MONAI, which is not installed: pip install 'samed2[bench]'") from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[config.network](config.width, len(config.tasks))


def save_unet(network: torch.nn.Module, config: UNetConfig, folder: str | Path) -> Path:
    """Write config.json and model.safetensors into a folder, made if need be; return it.

    Raises:
        InputError: it cannot be written.
    """
    from safetensors.torch import save_file

    target = make_folder(folder)
    state = {name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()}
    with atomic_path(target / WEIGHTS) as part:
        save_file(state, part, metadata={"format": "pt"})
    atomic_write(target / CONFIG, config.model_dump_json(indent=2) + "\n")
    return target


def has_unet(folder: str | Path) -> bool:
    """Whether a folder holds a U-Net, as `save_unet` writes it last."""
    return (Path(folder) / CONFIG).is_file()


def unet_folders(folder: str | Path) -> list[Path]:
    """The folders of U-Nets in a folder: itself, or those in it."""
    root = Path(folder)
    inner = [] if has_unet(root) else sorted(path.parent for path in root.glob(f"*/{CONFIG}"))
    return inner or [root]


def read_config(folder: str | Path) -> UNetConfig:
    """The configuration in a folder that `save_unet` wrote.

    Raises:
        InputError: no such folder, or another kind of model.
    """
    root = Path(folder)
    if not has_unet(root):
        raise InputError(f"{root}: has no {CONFIG}, wanted a folder written by U-Net training")
    try:
        return UNetConfig(**read_json(root / CONFIG, "the configuration of a U-Net", "train it again"))
    except ValidationError as error:
        raise InputError(f"{root / CONFIG}: {first_problem(error)}") from error


def load_network(folder: str | Path) -> tuple[torch.nn.Module, UNetConfig]:
    """A network and its configuration from a folder that `save_unet` wrote.

    Raises:
        InputError: no such folder, another kind of model, or weights that are cut off or do not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    root, config = Path(folder), read_config(folder)
    network = build_unet(config)
    try:
        state = load_file(root / WEIGHTS)
    except (OSError, SafetensorError) as error:
        line = " ".join(str(error).split())[:200]
        raise InputError(f"{root / WEIGHTS}: cannot be read as safetensors, it may be cut off: {line}") from error
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    check_shapes({name: tuple(value.shape) for name, value in state.items()}, wanted, str(root / WEIGHTS))
    network.load_state_dict(state)
    return network.eval(), config
