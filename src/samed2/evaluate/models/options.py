"""Names of models with their settings, and the settings checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from samed2.errors import InputError


class Options(BaseModel):
    """Settings of one family of models; text such as "1" or "true" is read as what a field wants.

    Attributes:
        window: which intensities become black and white, see `samed2.io.resolve_window`; the same for all models.
        precision: "fp32", "bf16", "fp16" or "auto" for what pays on the device.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    window: str = "auto"
    precision: str = "auto"


Chosen = TypeVar("Chosen", bound=BaseModel)


def split_name(name: str, families: Collection[str]) -> tuple[str, str, dict[str, str]]:
    """Family, weights and settings of "FAMILY:WEIGHTS?KEY=VALUE&KEY=VALUE"; "samed2" where no family is named.

    A folder that exists is always taken as such, whatever its name looks like.

    Raises:
        InputError: an unknown family or a setting without a value.
    """
    if Path(name).is_dir():
        return "samed2", name, {}
    start, _, query = name.partition("?")
    family, colon, weights = start.partition(":")
    if not colon:
        family, weights = (start, "") if start in families and start != "samed2" else ("samed2", start)
    elif family not in families:
        raise InputError(f"model {name!r}: family {family!r} is unknown, wanted one of {', '.join(families)}")
    settings = {}
    for part in filter(None, query.split("&")):
        key, equals, value = part.partition("=")
        if not (key and equals):
            raise InputError(f"model {name!r}: setting {part!r} has no value, wanted ?NAME=VALUE&NAME=VALUE")
        settings[key] = value
    return family, weights, settings


def read_options(kind: type[Chosen], values: Mapping[str, Any], name: str) -> Chosen:
    """The settings of a family from what was given.

    Raises:
        InputError: an unknown setting or a value of the wrong kind.
    """
    unknown = sorted(set(values) - set(kind.model_fields))
    if unknown:
        known = ", ".join(kind.model_fields)
        raise InputError(f"model {name!r}: setting {unknown[0]!r} is unknown; there are {known}")
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise InputError(f"model {name!r}: {first_problem(error)}") from error


def first_problem(error: ValidationError) -> str:
    """One line about the first thing wrong: field, what was got, what is wanted."""
    problem = error.errors()[0]
    field = ".".join(str(part) for part in problem["loc"]) or "settings"
    return f"{field}: got {problem['input']!r}, wanted: {problem['msg'][:1].lower()}{problem['msg'][1:]}"
