"""Reads Python object files that hold tensors, without running anything in them.

The file's opcodes are taken one by one from the standard library's disassembler and interpreted here, and
only those that build plain data. A name of code in the file is looked up in a short table of harmless
builders of our own; it is never imported, and nothing in the file is ever called.
"""

from __future__ import annotations

import io
import os
import pickletools
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from samed2.errors import InputError


class _Refused(Exception):
    """The file asks for something that is not plain data."""


_MARK = object()
_TORCH_FILE = 0x1950A86A20F9469CFC6C
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8",
    "BYTEARRAY8",
}  # fmt: skip


def read_objects(path: str | os.PathLike[str]) -> Any:
    """Return the lists, numbers, texts and tensors (on the CPU) of a pickled or torch-saved file.

    Raises:
        InputError: missing, cut off, or holding anything but plain data and tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: {'is a folder' if path.is_dir() else 'does not exist'}, wanted a memory bank file")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: is empty, wanted a memory bank file")
    try:
        if zipfile.is_zipfile(path):
            return torch.load(path, map_location="cpu", weights_only=True)
        with open(path, "rb") as handle, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own about the old storages in such files
            content = _interpret(handle)
            if type(content) is int and content == _TORCH_FILE:  # torch before 1.6: this number, then the objects
                content = torch.load(path, map_location="cpu", weights_only=True)
            return content
    except _Refused as error:
        what = " ".join(str(error).split())
        raise InputError(f"{path}: holds {what}, wanted only lists, numbers and tensors; not read") from error
    except Exception as error:  # broken files fail in as many ways as there are opcodes
        why = " ".join(str(error).split())[:160] or type(error).__name__
        raise InputError(f"{path}: cannot be read as a memory bank, it may be cut off: {why}") from error


def _storage(data: bytes) -> Any:
    """The storage of a tensor that was pickled on its own: a small torch file inside the file."""
    storage = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if not isinstance(storage, torch.storage.TypedStorage):
        raise _Refused(f"a {type(storage).__name__} in place of a tensor's storage")
    return storage


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    """A view of a storage; torch checks that it lies inside."""
    if not isinstance(storage, torch.storage.TypedStorage):
        raise _Refused(f"a tensor made from a {type(storage).__name__}")
    whole = torch.empty(0, dtype=storage.dtype)
    return whole.set_(storage.untyped(), offset, tuple(size), tuple(stride))


def _parameter(data: Any, *_: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise _Refused(f"a parameter made from a {type(data).__name__}")
    return data


def _old_bytes(text: Any, encoding: Any) -> bytes:
    """Bytes as formats before the third write them: each a letter of a text."""
    if not isinstance(text, str) or encoding != "latin1":
        raise _Refused(f"a text in the encoding {encoding!r}")
    return text.encode("latin1")


_BUILDERS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("collections", "OrderedDict"): lambda *_: {},
    ("_codecs", "encode"): _old_bytes,
}


class _Machine:
    """A stack, marks and a memo, as the format describes them."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def since_mark(self) -> list[Any]:
        """Pop everything above the last mark, and the mark."""
        position = max(i for i, value in enumerate(self.stack) if value is _MARK)
        items = self.stack[position + 1 :]
        del self.stack[position:]
        return items

    def step(self, name: str, value: Any) -> None:
        """Carry out one opcode that builds plain data."""
        stack = self.stack
        if name in _LITERALS:
            stack.append(value)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("EMPTY_LIST", "EMPTY_TUPLE", "EMPTY_DICT"):
            stack.append({"EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict}[name]())
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("TUPLE", "LIST"):
            items = self.since_mark()
            stack.append(tuple(items) if name == "TUPLE" else items)
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("APPEND", "APPENDS"):
            items = self.since_mark() if name == "APPENDS" else [stack.pop()]
            self._target(list).extend(items)
        elif name in ("SETITEM", "SETITEMS", "DICT"):
            self._pairs(name)
        elif name in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[len(self.memo) if name == "MEMOIZE" else int(value)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[int(value)])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            self._name(name, value)
        elif name == "REDUCE":
            arguments, builder = stack.pop(), stack.pop()
            if builder not in _BUILDERS.values() or not isinstance(arguments, tuple):
                raise _Refused("a call of something that is no tensor")
            stack.append(builder(*arguments))
        elif name == "POP":
            stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise _Refused(f"the instruction {name}")

    def _target(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise _Refused(f"items for a {type(self.stack[-1]).__name__}")
        return self.stack[-1]

    def _pairs(self, name: str) -> None:
        items = self.stack[-2:] if name == "SETITEM" else self.since_mark()
        if name == "SETITEM":
            del self.stack[-2:]
        if name == "DICT":
            self.stack.append({})
        self._target(dict).update(zip(items[::2], items[1::2], strict=True))

    def _name(self, name: str, value: Any) -> None:
        """Replace the name of code by our builder of that name."""
        if name == "GLOBAL":
            module, _, attribute = str(value).partition(" ")
        else:
            attribute, module = self.stack.pop(), self.stack.pop()
        if (module, attribute) not in _BUILDERS:
            raise _Refused(f"the Python object {module}.{attribute}")
        self.stack.append(_BUILDERS[module, attribute])


def _interpret(handle: BinaryIO) -> Any:
    machine = _Machine()
    for opcode, value, _ in pickletools.genops(handle):
        if opcode.name == "STOP":
            break
        machine.step(opcode.name, value)
    (result,) = machine.stack
    return result
