"""SNOMED CT codes: those of the standard, found by the names people give."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydicom.sr._concepts_dict import concepts

from samed2.io import codes

STANDARD: dict[str, set[str]] = {}
for entries in concepts["SCT"].values():
    for value, (meaning, _) in entries.items():
        STANDARD.setdefault(value, set()).add(meaning.lower())


@pytest.mark.parametrize("table", [codes.ANATOMIC, codes.MORPHOLOGIC, codes.SUBSTANCES])
def test_codes_are_those_of_the_standard(table: dict[str, codes.Triple]) -> None:
    for value, scheme, meaning in (*table.values(), codes.ANATOMY, codes.MORPHOLOGY, codes.TISSUE, codes.SUBSTANCE):
        assert scheme == "SCT"
        assert meaning.lower() in STANDARD[value], (value, meaning)
    for value, _, meaning in codes.SIDES.values():
        assert meaning.lower() in STANDARD[value]


@pytest.mark.parametrize(
    ("name", "category", "kind", "side", "region"),
    [
        ("liver", codes.ANATOMY, "10200004", None, None),
        ("Left_Kidney", codes.ANATOMY, "64033007", "Left", None),
        ("kidney right", codes.ANATOMY, "64033007", "Right", None),
        ("lungs", codes.ANATOMY, "39607008", None, None),
        ("left ventricle", codes.ANATOMY, "87878005", None, None),
        ("lung nodule", codes.MORPHOLOGY, "27925004", None, "Lung"),
        ("left lung nodule", codes.MORPHOLOGY, "27925004", "Left", "Lung"),
        ("Tumour", codes.MORPHOLOGY, "108369006", None, None),
        ("CSF", codes.SUBSTANCE, "65216001", None, None),
        ("my thing", codes.TISSUE, "MY_THING", None, None),
        ("", codes.TISSUE, "UNNAMED_OBJECT", None, None),
    ],
)
def test_codes_by_name(name: str, category: Any, kind: str, side: str | None, region: str | None) -> None:
    found = codes.code_of(name)
    assert (found.category, found.type[0]) == (category, kind)
    assert (found.side and found.side[2], found.region and found.region[2]) == (side, region)


@pytest.mark.parametrize("name", ["ÄÖÜ", "x" * 200, "a\\b\nc", "日本語", "#1", "a" * 17, "a" * 18])
def test_private_codes_fit(name: str) -> None:
    value, scheme, meaning = codes.code_of(name).type
    assert re.fullmatch(r"[A-Z0-9_]{1,16}", value)
    assert scheme == "99SAMED2"
    assert meaning and len(meaning) <= 64 and "\\" not in meaning and meaning.isprintable()
    assert codes.code_of(name).type[0] != codes.code_of(name + "x").type[0]
