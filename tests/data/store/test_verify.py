from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from samed2.data.store import Store, canonical, verify
from samed2.data.store.finish import content_hash
from samed2.data.store.shards import file_sha256
from samed2.errors import InputError


@pytest.fixture
def copy(built, tmp_path) -> Path:
    shutil.copytree(built, tmp_path / "bank")
    return tmp_path / "bank"


def files_of(root: Path) -> list[str]:
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


def places(data: bytes, rng: np.random.Generator) -> list[int]:
    """Both ends and a spread of everything between."""
    return [*range(8), len(data) // 2, *range(len(data) - 8, len(data)), *rng.integers(0, len(data), 12).tolist()]


def test_any_flipped_bit_of_any_file_is_found(copy):
    rng = np.random.default_rng(0)
    names = files_of(copy)
    assert len(names) == 7 and verify(copy) == []
    for name in names:
        data = (copy / name).read_bytes()
        for place in places(data, rng):
            damaged = bytearray(data)
            damaged[place] ^= 1 << int(rng.integers(8))
            (copy / name).write_bytes(damaged)
            try:
                problems = verify(copy, decode=False)
            except InputError as error:  # the manifest's own version number
                problems = [str(error)]
            assert problems and Path(name).name in problems[0], (name, place)
        (copy / name).write_bytes(data)
    assert verify(copy) == []


@pytest.mark.parametrize("name", ["manifest.json", "shards/spots-00000.arrow", "shards/spots-00000.json"])
@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"\n", lambda data: b""])
def test_cut_and_longer_files_are_found(copy, name, change):
    (copy / name).write_bytes(change((copy / name).read_bytes()))
    assert Path(name).name in verify(copy)[0]


def test_missing_and_strange_files_are_found(copy):
    (copy / "shards" / "stack-00000.arrow").unlink()
    (copy / "notes.txt").write_text("mine")
    problems = verify(copy)
    assert len(problems) == 2 and "is missing" in problems[0] and "notes.txt" in problems[1]
    with pytest.raises(InputError, match="is missing"):
        Store.open(copy)


def test_a_cut_shard_cannot_be_opened(copy):
    shard = copy / "shards" / "spots-00000.arrow"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(InputError, match="bytes"):
        Store.open(copy)


def forge(root: Path, change) -> None:
    """Change the manifest and give it a right checksum, as a careful forger would."""
    value = json.loads((root / "manifest.json").read_text())
    change(value)
    (root / "manifest.json").write_text(canonical.to_text(value))


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda m: m.update(content_hash="0" * 64), "content hash"),
        (lambda m: m["splits"]["film"].update(train=["ftrain", "fval"], val=[]), "split"),
        (lambda m: m["shards"].pop(), "does not belong"),
    ],
)
def test_a_manifest_that_disagrees_is_found(copy, change, says):
    forge(copy, change)
    assert any(says in line for line in verify(copy))


def test_a_swapped_image_is_found_by_the_digest_of_its_row(copy):
    """Even if every checksum of a file was made to fit."""
    import pyarrow as pa

    path = copy / "shards" / "spots-00000.arrow"
    table = pa.ipc.open_stream(path.read_bytes()).read_all()
    rows = table.to_pylist()
    rows[0]["image"] = rows[1]["image"]
    with pa.ipc.new_stream(str(path), table.schema) as stream:
        stream.write_table(pa.Table.from_pylist(rows, schema=table.schema))

    def fit(manifest):
        shard = next(s for s in manifest["shards"] if s["file"].endswith(path.name))
        shard.update(sha256=file_sha256(path), bytes=path.stat().st_size)

    forge(copy, fit)
    problems = verify(copy)
    assert len(problems) == 1 and "row 0" in problems[0] and "digest" in problems[0]
    assert verify(copy, decode=False) == []


@pytest.mark.parametrize("version, says", [(0, "build it again"), (99, "update samed2"), (None, "build it again")])
def test_another_schema_is_told(copy, version, says):
    forge(copy, lambda manifest: manifest.update(schema=version))
    for action in (Store.open, verify):
        with pytest.raises(InputError, match=f"schema version {version}.*{says}"):
            action(copy)


def test_the_content_hash_is_of_all_digests_in_order():
    assert len({content_hash(["a", "b"]), content_hash(["b", "a"]), content_hash(["a"]), content_hash([])}) == 4
