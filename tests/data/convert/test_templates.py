"""Path templates: what they match, and that they give back what was put in."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samed2.data.convert.templates import Template, fill, templates, walk
from samed2.errors import InputError


@pytest.mark.parametrize(
    ("template", "path", "values"),
    [
        ("a/{x}.png", "a/1.png", {"x": "1"}),
        ("a/{x}.png", "a/b/1.png", None),
        ("a/{x}.png", "a/.png", None),
        ("{p}/{p}_{f}.nii.gz", "p1/p1_01.nii.gz", {"p": "p1", "f": "01"}),
        ("{p}/{p}_{f}.nii.gz", "p1/p2_01.nii.gz", None),
        ("{p}_{v:ED|ES}.nii", "p_ED.nii", {"p": "p", "v": "ED"}),
        ("{p}_{v:ED|ES}.nii", "p_half.nii", None),
        ("**/v-{n}.nii", "v-1.nii", {"n": "1"}),
        ("**/v-{n}.nii", "a/b c/v-1.nii", {"n": "1"}),
        ("**/v-{n}.nii", "a/uv-1.nii", None),
        ("x/**", "x/y/z.png", {}),
        ("x/**", "xy/z.png", None),
        ("b ({n})_mask*.png", "b (1)_mask.png", {"n": "1"}),
        ("b ({n})_mask*.png", "b (1)_mask_1.png", {"n": "1"}),
        ("b ({n})_mask*.png", "b (1).png", None),
        ("{a}_{b}", "1_2_3", {"a": "1", "b": "2_3"}),
        ("{x}.[1]+", "q.[1]+", {"x": "q"}),
        ("*/{x}.png", "m/1.png", {"x": "1"}),
        ("*/{x}.png", "m/n/1.png", None),
    ],
)
def test_match(template, path, values):
    assert Template(template).match(path) == values


@pytest.mark.parametrize("text", ["", "/abs/{x}.png", "../{x}.png", "a/../{x}", "{x", "{}", "{1a}.png", "a\\{x}", "x}"])
def test_what_is_no_template_is_refused(text):
    with pytest.raises(InputError, match="template"):
        Template(text)


@pytest.mark.parametrize("given", [None, 3, [], ["a", 3], {"a": "b"}])
def test_a_layout_needs_text(given):
    with pytest.raises(InputError, match="image: got"):
        templates(given, "image")


WORD = st.text(string.ascii_letters + string.digits + " ().-+[]^$|", min_size=1, max_size=8)
NAMES = st.lists(st.sampled_from(["a", "b", "c", "dd"]), min_size=1, max_size=4)


@given(st.data(), NAMES, st.lists(WORD, min_size=5, max_size=5))
def test_a_filled_template_matches_and_gives_back_the_values(data, names, between):
    """Values without the literal that follows them come back as they were, repeats and odd signs included."""
    values = {name: data.draw(st.text(string.digits, min_size=1, max_size=4), name) for name in names}
    text = "x" + "".join(f"{{{name}}}/{literal}_" for name, literal in zip(names, between, strict=False))
    assert Template(text).match(fill(text, values, "test")) == values


@given(st.data(), NAMES)
def test_the_same_name_twice_is_the_same_text(data, names):
    one, other = data.draw(st.integers(0, 99)), data.draw(st.integers(0, 99))
    found = Template("{case}/i_{case}.png").match(f"{one}/i_{other}.png")
    assert (found == {"case": str(one)}) is (one == other)


@given(st.text(string.printable.replace("/", ""), max_size=12), st.text(string.printable, max_size=12))
def test_any_path_is_answered(name, path):
    """Whatever files are called: a dictionary or None, and a match is consistent with filling it in."""
    template = Template("{folder}/*/{name}.{ending:png|jpg}")
    found = template.match(f"{path}/{name}/{name}.png")
    assert found is None or found["ending"] == "png"


def test_filling_names_what_is_missing():
    assert fill("{a}-{b}-x", {"a": "1", "b": "{a}"}, "name") == "1-{a}-x"
    with pytest.raises(InputError, match=r"name: '\{c\}' uses \{c\}, the templates give \{a\}"):
        fill("{c}", {"a": "1"}, "name")


def test_walking_leaves_out_what_is_excluded_and_what_systems_leave_behind(tmp_path):
    for path in ("b/1.png", "a/2.png", "a/._2.png", ".DS_Store", "__MACOSX/a/2.png", "skip/3.png"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "a/loop").symlink_to(tmp_path)
    (tmp_path / "skip/other").symlink_to(tmp_path / "b")
    assert "skip/other/1.png" in list(walk(tmp_path))  # other links are followed
    assert list(walk(tmp_path, [Template("skip/**")])) == ["a/2.png", "b/1.png"]
    with pytest.raises(InputError, match="does not exist"):
        list(walk(tmp_path / "no"))
    with pytest.raises(InputError, match="is a file"):
        list(walk(tmp_path / "a/2.png"))
