"""What an entry of the catalogue says, what a user's YAML for `pairs` says, and reading both with clear errors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from samed2.errors import InputError

Rule = int | list[int] | str | None  # label value(s), a comparison such as ">=128", or: as the file's range asks
Kind = Literal["image", "volume", "video"]
NAME = r"[a-z0-9_]+"
_M = TypeVar("_M", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Served(_Strict):
    """A published task that a data set can stand for.

    Attributes:
        task, set: as in the paper's tables.
        objects: which of the set's objects that task is.
        named: whether the authors' own list of sources has the set; otherwise it is a candidate.
    """

    task: str
    set: Literal["internal", "external"]
    objects: list[str] = Field(min_length=1)
    named: bool = False


class Dataset(_Strict):
    """One data set as it is published.

    Attributes:
        objects: name -> label value(s) or rule, as the converter reads it.
        case_rule: what one case is, and what a split keeps together.
        files: pattern below the root -> how many files the published set has.
        checksums: archive -> "md5:..." or "sha256:...".
        sample: data set of the development data that holds cases of it in the `folder` layout.
        verified: what of all this was checked against what, and what is from memory.
        layout: the converter's options.
    """

    name: str = Field(pattern=f"^{NAME}$")
    title: str
    modality: str = Field(pattern=f"^{NAME}$")
    kind: Kind
    published: list[Served]
    objects: dict[str, Rule] = Field(min_length=1)
    citation: str
    licence: str
    terms: str
    url: str = Field(pattern="^https?://")
    case_rule: str
    official_split: str
    tree: str
    files: dict[str, int] = Field(default_factory=dict)
    checksums: dict[str, str] = Field(default_factory=dict)
    sample: str = ""
    verified: str
    converter: str = Field(pattern=f"^{NAME}$")
    layout: dict[str, Any] = Field(default_factory=dict)

    @field_validator("citation", "licence", "terms", "case_rule", "official_split", "tree", "verified", "title")
    @classmethod
    def _said(cls, text: str) -> str:
        if not text.strip():
            raise ValueError("is empty; say it, or say that it is not known")
        return text.rstrip("\n")

    @field_validator("files")
    @classmethod
    def _patterns(cls, files: dict[str, int]) -> dict[str, int]:
        for pattern, count in files.items():
            if pattern.startswith("/") or ".." in pattern.split("/") or count < 1:
                raise ValueError(f"has {pattern!r}: {count}, wanted a pattern below the root and a count above 0")
        return files

    @field_validator("checksums")
    @classmethod
    def _digests(cls, checksums: dict[str, str]) -> dict[str, str]:
        for file, digest in checksums.items():
            if not re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", digest):
                raise ValueError(f"of {file} is {digest!r}, wanted md5: or sha256: and lower-case hexadecimal digits")
        return checksums

    @model_validator(mode="after")
    def _served_objects(self) -> Dataset:
        for served in self.published:
            unknown = [name for name in served.objects if name not in self.objects]
            if unknown:
                raise ValueError(f"published: {served.task}: has no object {unknown[0]!r}; see objects")
        return self


class PairsFile(BaseModel):
    """A user's own description of a folder of image/label pairs; other keys are options of the `pairs` converter."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    name: str = Field(pattern=f"^{NAME}$")
    modality: str = Field(pattern=r"^\S+$")
    image: str | list[str]
    label: str | list[str] | None = None
    labels: dict[str, str | list[str]] | None = None
    objects: dict[str, Rule] = Field(default_factory=dict)
    root: str = "."
    kind: Literal["", "image", "volume", "video"] = ""
    licence: str = ""

    @model_validator(mode="after")
    def _one_kind_of_label(self) -> PairsFile:
        if (self.label is None) == (self.labels is None):
            raise ValueError("wanted one of `label` (one file for all objects) and `labels` (object: file)")
        return self

    @property
    def layout(self) -> dict[str, Any]:
        """The options of the converter."""
        own = {"image": self.image, "label": self.label, "labels": self.labels}
        return {key: value for key, value in own.items() if value is not None} | dict(self.model_extra or {})


class _UniqueKeys(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, which YAML would drop silently."""


def _mapping(loader: _UniqueKeys, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
        if isinstance(key, str | int) and key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"{key!r} is given twice", key_node.start_mark)
        seen.add(key if isinstance(key, str | int) else id(key_node))
    return yaml.SafeLoader.construct_mapping(loader, node, deep=deep)


_UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(path: Path, model: type[_M]) -> _M:
    """A YAML file as a model.

    Raises:
        InputError: missing, not YAML, a key twice, or a field that is unknown, missing or of the wrong kind.
    """
    try:
        values = _UniqueKeys(path.read_text(encoding="utf-8")).get_single_data()  # safe_load, but for keys given twice
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}), wanted a YAML file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not text (UTF-8), wanted a YAML file") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark else ""
        raise InputError(f"{path}:{line} is not YAML as wanted ({getattr(error, 'problem', None) or error})") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: holds {type(values).__name__}, wanted fields such as `name: ...`")
    return check_fields(values, model, path)


def check_fields(values: dict[str, Any], model: type[_M], path: Path) -> _M:
    """Values as a model, the first error as one line that names file and field."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][:3])
        field = f" {where}:" if where else ""
        if first["type"] == "missing":
            said = "is missing"
        elif first["type"] == "extra_forbidden":
            said = f"is not a field; wanted {', '.join(model.model_fields)}"
        else:
            got = "" if first["type"] == "value_error" and not where else f"got {first['input']!r:.80}, "
            said = got + first["msg"].removeprefix("Value error, ")
        raise InputError(f"{path}:{field} {said}") from error
