"""What a run starts from: the model, and the data as a table of frames."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from samed2.data import open_cases
from samed2.data.cases import Case
from samed2.data.frames import FrameTable, frame_table, open_table
from samed2.data.noise import parse_noise
from samed2.data.noise_cases import NoisePlan, choose_cases, noisy_cases
from samed2.errors import InputError
from samed2.nn import SAMed2Config, SAMed2Model, weights
from samed2.nn.builders import micro_config, nano_config, small_config
from samed2.nn.init import init_from_scratch
from samed2.train.recipe import ModelRecipe, NoiseRecipe, Recipe

PRESETS = {"nano": nano_config, "micro": micro_config}
# fields that may differ from the weights' own configuration
CHANGEABLE = ("streaming", "carried", "details", "box_prior", "box_tokens", "pixel_mean", "pixel_std", "adapter_dim")


def build_model(recipe: Recipe) -> SAMed2Model:
    """The model a recipe starts from.

    Raises:
        InputError: unknown weights or settings.
    """
    loaded = None if recipe.model.init is None else _mean([recipe.model.init, *recipe.model.average])
    config = _configured(recipe.model) if loaded is None else _changed(loaded.config, recipe.model.settings)
    # plain matrix products: the fused CPU attention is several times slower in the backward pass
    model = SAMed2Model._from_config(config, attn_implementation="eager")
    if loaded is None:
        init_from_scratch(model, recipe.seed)
    else:
        given, wanted = loaded.state_dict(), model.state_dict()
        model.load_state_dict({name: value for name, value in given.items() if name in wanted})
    return model


def _mean(names: list[str]) -> SAMed2Model:
    """The first of some models, with the mean of the weights of all; of adapters, the mean of those that have them."""
    model, *others = [weights.load(name) for name in names]
    given = [other.state_dict() for other in others]
    mean = model.state_dict()
    for name, other, state in zip(names[1:], others, given, strict=True):
        without = not other.config.adapter_dim
        wanted = {key for key in mean if not (without and ".adapter." in key)}
        if state.keys() != wanted or any(state[key].shape != mean[key].shape for key in state):
            raise InputError(
                f"model.average: {name} has not the weights of {names[0]}; wanted the same configuration, "
                "with the same adapters or none"
            )
    with torch.no_grad():
        for key, value in mean.items():
            value.copy_(torch.stack([value, *(state[key] for state in given if key in state)]).mean(dim=0))
    return model


def _changed(config: SAMed2Config, settings: dict[str, Any]) -> SAMed2Config:
    for name, value in settings.items():
        if name not in CHANGEABLE:
            raise InputError(f"model.settings.{name}: cannot change with init; wanted one of {', '.join(CHANGEABLE)}")
        if name == "adapter_dim" and value not in (0, config.adapter_dim):
            raise InputError(
                f"model.settings.adapter_dim: got {value!r}, the weights have {config.adapter_dim}; "
                "wanted that, or 0 to leave the adapters out"
            )
        try:
            setattr(config, name, value)
        except (TypeError, ValueError) as error:
            raise InputError(f"model.settings.{name}: {error}") from error
    return config


def _configured(recipe: ModelRecipe) -> SAMed2Config:
    if recipe.preset is None:
        raise InputError("model: wanted a preset or init, got neither")
    known = {*inspect.signature(small_config).parameters, *SAMed2Config.__dataclass_fields__} - {"settings"}
    if unknown := sorted(set(recipe.settings) - known):
        raise InputError(f"model.settings.{unknown[0]}: is unknown; wanted fields such as adapter_dim, image_size")
    try:
        return PRESETS[recipe.preset](**recipe.settings)
    except (TypeError, ValueError) as error:
        raise InputError(f"model.settings: {error}") from error


def read_table(root: Path, splits: list[str], console: Console, noise: NoiseRecipe | None = None) -> FrameTable:
    """Which object is on which frame of some splits, with a progress bar where files have to be read.

    Raises:
        InputError: no such data, split or noise.
    """
    shown = bar(f"read {', '.join(splits)}", console)
    return open_table(root, splits, shown) if noise is None else frame_table(shown(given_cases(root, splits, noise)))


def bar(label: str, console: Console) -> Callable[[list[Case]], Iterable[Case]]:
    """What shows progress over cases on a terminal."""
    return lambda cases: track(cases, label, console=console, disable=not console.is_terminal)


def given_cases(root: Path, splits: list[str], noise: NoiseRecipe | None) -> list[Case]:
    """The cases of some splits with the masks that training is given.

    Raises:
        InputError: no such data, split or noise.
    """
    cases = open_cases(root, splits)
    if noise is None:
        return cases
    wrong = wrong_cases(cases, noise)
    worse = [case for case in cases if case.label in wrong]
    for number, kind in enumerate(noise.kinds):
        worse = noisy_cases(worse, NoisePlan(parse_noise(kind), 1.0, noise.seed + number, None))
    changed = {case.label: case for case in worse}
    return [changed.get(case.label, case) for case in cases]


def wrong_cases(cases: list[Case], noise: NoiseRecipe | None) -> set[str]:
    """Labels of the cases whose masks are made worse: the same share of every data set."""
    if noise is None:
        return set()
    plan = NoisePlan(parse_noise(noise.kinds[0]), noise.fraction, noise.seed, None)
    return {case.label for case in choose_cases(cases, plan)}


def table_hash(table: FrameTable) -> str:
    """Changes when cases, objects, frames or masks' areas do."""
    digest = hashlib.sha256("\n".join([case.label for case in table.cases] + table.tasks).encode())
    for column in (table.shapes, table.case, table.task, table.frame, table.pixels):
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()[:16]


def source_stamp(root: Path) -> str:
    """Changes when the list of what a folder or store holds is written anew; cheap enough for every checkpoint."""
    for name in ("manifest.json", "items.csv", ""):
        try:
            return hashlib.sha256((root / name).read_bytes()).hexdigest()[:16]
        except OSError:
            continue  # a description is a file itself
    return ""
