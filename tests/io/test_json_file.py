"""Our own JSON files: one kind of error, with the file and the way out."""

from __future__ import annotations

import pytest

from samed2.errors import InputError
from samed2.io.json_file import read_json


def test_an_object_comes_back(tmp_path):
    (tmp_path / "a.json").write_text('{"name": "Größe", "rows": [1, null]}', encoding="utf-8")
    assert read_json(tmp_path / "a.json", "a table", "make it again") == {"name": "Größe", "rows": [1, None]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, r"cannot be opened \(No such file"),
        (b"", "damaged or cut off"),
        (b'{"name": ', "damaged or cut off"),
        (b"\xff\xfe\x00", "damaged or cut off"),
        (b"[" * 100_000, "damaged or cut off"),
        (b"[1, 2]", "holds a JSON list, wanted a table"),
    ],
    ids=["missing", "empty", "cut off", "no text", "deep", "a list"],
)
def test_what_is_no_object_is_named(tmp_path, content, words):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.json: .*{words}.*; make it again"):
        read_json(path, "a table", "make it again")
