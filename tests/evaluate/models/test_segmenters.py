"""What every model must keep to, whatever it is: one table over all families, loaded as a user loads them."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from tests.evaluate.models.conftest import FAMILIES
from tests.evaluate.models.small import TASKS, image, prompts_of, volume

from samed2.errors import InputError
from samed2.evaluate.models import load_model
from samed2.evaluate.models.base import MEMORY, PIXELS, PREVIOUS, PROMPTS, PROPAGATE, Support
from samed2.io import Scan
from samed2.prompts import Prompts

KINDS = ("box", "point", "point two", "box point", "point mask", "mask")
ABILITIES = {
    "samed2": {PROMPTS, PREVIOUS, MEMORY, PROPAGATE, PIXELS},
    "sam2": {PROMPTS, PREVIOUS, PIXELS},
    "sam": {PROMPTS, PREVIOUS, PIXELS},
    "medsam": {PROMPTS, PIXELS},
    "unet": {PROMPTS, PIXELS},
}
ASKABLE = [(family, kind) for family in FAMILIES for kind in KINDS if family != "medsam" or kind == "box"]


LOADED = {}


@pytest.fixture
def load(folders):
    """Loads a family's folder; without settings only once, unless a fresh one is wanted."""

    def loaded(family, fresh=False, **settings):
        if fresh or settings:
            return load_model(f"{family}:{folders[family]}", device="cpu", **settings)
        if family not in LOADED:
            LOADED[family] = loaded(family, fresh=True)
        return LOADED[family]

    return loaded


def same(first, second, atol=0.0):
    np.testing.assert_allclose(first.probability, second.probability, rtol=0, atol=atol)
    np.testing.assert_allclose(first.confidence, second.confidence, rtol=0, atol=atol)
    assert first.chosen == second.chosen
    if atol == 0:
        np.testing.assert_array_equal(first.masks, second.masks)


@pytest.mark.parametrize("family, kind", ASKABLE)
def test_an_answer_has_masks_on_the_grid_and_says_which_it_means(load, family, kind):
    model = load(family)
    answers = model.predict(image(), prompts_of(kind, 7))
    assert list(answers) == [(7, 0)]
    found = answers[7, 0]
    assert found.masks.dtype == bool and found.masks.shape[1:] == (60, 90)
    assert found.confidence.shape == (len(found.masks),)
    assert found.probability.shape == (60, 90) and found.probability.dtype == np.float32
    np.testing.assert_array_equal(found.masks[found.chosen], found.probability > 0.5)
    if family == "unet":
        assert np.isnan(found.confidence).all()
    else:
        assert ((found.confidence >= 0) & (found.confidence <= 1)).all()
        assert found.chosen == int(found.confidence.argmax())


@pytest.mark.parametrize("family", FAMILIES)
def test_abilities_name_and_weights(load, folders, family):
    model = load(family)
    assert model.abilities == ABILITIES[family]
    assert str(folders[family]) in model.name
    assert len(model.fingerprint) == 32


@pytest.mark.parametrize("family, kind", ASKABLE)
def test_nothing_depends_on_what_was_asked_before(load, family, kind):
    model, scan = load(family), image()
    first = model.predict(scan, prompts_of(kind))[1, 0]
    for other in (k for f, k in ASKABLE if f == family):
        model.predict(image(seed=1), prompts_of(other))
        model.predict(scan, prompts_of(other))
    same(model.predict(scan, prompts_of(kind))[1, 0], first)
    same(load(family, fresh=True).predict(image(), prompts_of(kind))[1, 0], first, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_objects_asked_together_equal_objects_asked_alone(load, family, order):
    model, scan = load(family), image()
    places = {1: (8, 38, 40, 70), 2: (0, 0, 20, 30), 3: (30.5, 60, 60, 90)}
    together, alone = Prompts(), {}
    for number in order:
        together.add_object(number, TASKS[number % 2])
        together.add_box(number, 0, *places[number])
        one = Prompts()
        one.add_object(number, TASKS[number % 2])
        alone[number] = model.predict(scan, one.add_box(number, 0, *places[number]))[number, 0]
    found = model.predict(scan, together)
    assert list(found) == [(number, 0) for number in order]
    for number in order:  # our predictor batches the decoder, which may round differently
        same(found[number, 0], alone[number], atol=1e-5 if family == "samed2" else 0.0)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "samed2"])
def test_a_frame_of_a_volume_is_seen_by_itself(load, family):
    model, scan = load(family, fresh=True), volume()
    prompts = Prompts()
    for frame in (2, 0):
        prompts.add_object(1, TASKS[0])
        prompts.add_box(1, frame, 5, 5, 30, 35)
    found = model.predict(scan, prompts)
    assert set(found) == {(1, 0), (1, 2)}
    single = Scan.from_array(scan.frame(2), kind="image", modality="ct")
    model._windows.spec = model._windows.of(scan)  # an image alone would get a window of its own
    alone = Prompts()
    alone.add_object(1, TASKS[0])
    same(found[1, 2], model.predict(single, alone.add_box(1, 0, 5, 5, 30, 35))[1, 0])


@pytest.mark.parametrize("family", FAMILIES)
def test_grey_equals_the_same_in_colour(load, family):
    grey = image()
    colour = Scan.from_array(np.repeat(grey.frame(0)[..., None], 3, axis=-1), kind="image")
    model = load(family)
    same(model.predict(grey, prompts_of("box"))[1, 0], model.predict(colour, prompts_of("box"))[1, 0], atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_window_is_a_setting(load, family):
    usual, narrow = load(family), load(family, window="100,20")
    first = usual.predict(image(), prompts_of("box"))[1, 0].probability
    assert np.abs(first - narrow.predict(image(), prompts_of("box"))[1, 0].probability).max() > 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_the_fingerprint_is_of_the_weights(load, folders, family, tmp_path):
    copied = load_model(f"{family}:{shutil.copytree(folders[family], tmp_path / 'copy')}", device="cpu")
    assert copied.fingerprint == load(family).fingerprint


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "prompts, message",
    [
        (Prompts(), "no object"),
        (prompts_of("box", frame=1), "frame 1 is unknown"),
        (Prompts().add_box(1, 0, 100, 100, 120, 120), "outside the image"),
        (Prompts().add_point(1, 0, float("nan"), 3), "NaN"),
    ],
)
def test_unusable_prompts_are_refused(load, family, prompts, message):
    with pytest.raises(InputError, match=message):
        load(family).predict(image(), prompts)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "samed2"])
def test_models_without_memory_say_so(load, family):
    model = load(family)
    model.remember([])
    with pytest.raises(InputError, match="has no memory"):
        model.remember([Support(image(), 0, np.ones((60, 90), bool), TASKS[0])])
    with pytest.raises(InputError, match="has no memory"):
        model.recall(image(), 0, TASKS[0])
    with pytest.raises(InputError, match="cannot propagate"):
        model.propagate(image(), prompts_of("box"))


@pytest.mark.parametrize("family", FAMILIES)
def test_damaged_folders_are_one_clear_line(folders, family, tmp_path):
    def fails(name: str, message: str) -> None:
        with pytest.raises(InputError, match=message) as caught:
            load_model(f"{family}:{tmp_path / name}", device="cpu")
        assert "\n" not in str(caught.value) and name in str(caught.value)

    (tmp_path / "empty").mkdir()
    fails("empty", r"config\.json")
    shutil.copytree(folders[family], tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    fails("cut", "cut off")
    shutil.copytree(folders[family], tmp_path / "bare")
    (tmp_path / "bare" / "model.safetensors").unlink()
    fails("bare", "safetensors")
    other = "sam2" if family == "unet" else "unet"
    shutil.copytree(folders[other], tmp_path / "other")
    fails("other", "model_type")
    shutil.copytree(folders[family], tmp_path / "garbled")
    (tmp_path / "garbled" / "config.json").write_text("[1, 2")
    fails("garbled", "JSON")


@pytest.mark.parametrize("family", ["sam2", "sam", "medsam", "unet"])
def test_missing_weights_are_named(folders, family, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(folders[family], tmp_path / "less")
    state = load_file(tmp_path / "less" / "model.safetensors")
    gone = next(name for name in state if name.endswith("bias"))
    del state[gone]
    save_file(state, tmp_path / "less" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=gone):
        load_model(f"{family}:{tmp_path / 'less'}", device="cpu")


def test_normalisation_is_read_from_the_folder(folders, tmp_path):
    shutil.copytree(folders["sam2"], tmp_path / "own")
    usual = load_model(f"sam2:{folders['sam2']}", device="cpu").predict(image(), prompts_of("box"))[1, 0]
    path = tmp_path / "own" / "preprocessor_config.json"
    path.write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}))
    changed = load_model(f"sam2:{tmp_path / 'own'}", device="cpu").predict(image(), prompts_of("box"))[1, 0]
    assert np.abs(usual.probability - changed.probability).max() > 1e-4
    path.write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0, 1, 1]}))
    with pytest.raises(InputError, match="image_std"):
        load_model(f"sam2:{tmp_path / 'own'}", device="cpu")
