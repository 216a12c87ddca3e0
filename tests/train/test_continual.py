"""Continual learning: figures on hand-made matrices, episodes, methods, and a small experiment from end to end."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.generated import make_recipe

from samed2.errors import InputError
from samed2.nn.builders import micro_config
from samed2.nn.init import init_from_scratch
from samed2.nn.model import SAMed2Model
from samed2.train.continual.episodes import Shot, by_task, draw_episode, plain_episode, spread, synthetic_episode
from samed2.train.continual.figures import FIGURES, continual_figures
from samed2.train.continual.fit import Way, fit, propose
from samed2.train.continual.learner import Learner
from samed2.train.continual.methods import METHODS
from samed2.train.continual.recipe import ContinualRecipe
from samed2.train.continual.run import Experiment, orders_of, tasks_of
from samed2.train.recipe import load_form

TEXT = """
precision: fp32
data: {{root: {root}, test_split: val, cases: 2, test_cases: 2, frames: 2}}
model: {{image_size: 32}}
base: {{steps: 2, tasks: [film/ball]}}
fit: {{steps: 2, rows: 4, warmup: 1, lr: 0.001}}
memory: {{per_task: 2, retrieved: 2, capacity: 8}}
tasks: {{one: [spots/disc], two: [spots/dot], three: [ct]}}
kept: 2
orders: 2
"""
NAN = float("nan")


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory) -> Path:
    return make_recipe(tmp_path_factory.mktemp("continual-data"), TEXT, items=2)


@pytest.fixture(scope="module")
def shots() -> dict[str, list[Shot]]:
    """Bright discs (one) and dark squares (two) at 32 px."""
    found: dict[str, list[Shot]] = {"one": [], "two": []}
    for number in range(6):
        rng = np.random.default_rng(number)
        y, x = np.mgrid[:32, :32]
        disc = (y - rng.integers(10, 22)) ** 2 + (x - rng.integers(10, 22)) ** 2 < 49
        square = np.maximum(abs(y - rng.integers(10, 22)), abs(x - rng.integers(10, 22))) < 6
        for name, mask, tone in (("one", disc, 200), ("two", square, 20)):
            image = rng.integers(90, 130, (3, 32, 32)).astype(np.uint8)
            image[:, mask] = tone
            found[name].append(Shot(f"made/{name}", image, mask))
    return found


def learner(name: str, shots, **changes) -> Learner:
    values = {
        "data": {"root": "."},
        "tasks": {"one": ["a/b"], "two": ["a/c"]},
        "precision": "fp32",
        "fit": {"steps": 2, "rows": 4, "warmup": 1},
        "memory": {"per_task": 2, "retrieved": 2},
        "kept": 2,
        "fisher": 2,
    }
    recipe = ContinualRecipe.model_validate({**values, **changes})
    model = SAMed2Model._from_config(micro_config(image_size=32), attn_implementation="eager")
    init_from_scratch(model, 0)
    return Learner(model.eval(), METHODS[name], recipe, shots, Way(torch.device("cpu"), None, 0))


def quiet(loss: float) -> None:
    pass


MATRICES = {
    "nothing is forgotten": (
        [[0.8, 0.2], [0.8, 0.6]],
        [0.1, 0.2],
        [0.9, 0.7],
        {"acc": 0.7, "bwt": 0.0, "forgetting": 0.0, "fwt": 0.0, "plasticity": 0.7, "intransigence": 0.1},
    ),
    "the first task is lost": (
        [[0.8, 0.3], [0.2, 0.6]],
        [0.1, 0.2],
        None,
        {"acc": 0.4, "bwt": -0.6, "forgetting": 0.6, "fwt": 0.1, "plasticity": 0.7, "intransigence": NAN},
    ),
    "best before its own stage and in between": (
        [[0.5, 0.4, 0.1], [0.7, 0.3, 0.4], [0.6, 0.2, 0.9]],
        [0.0, 0.0, 0.1],
        [0.5, 0.5, 0.5],
        {
            "acc": 17 / 30,  # (.6 + .2 + .9) / 3
            "bwt": 0.0,  # ((.6 - .5) + (.2 - .3)) / 2
            "forgetting": 0.15,  # ((.7 - .6) + (.4 - .2)) / 2
            "fwt": 0.35,  # ((.4 - 0) + (.4 - .1)) / 2
            "plasticity": 17 / 30,
            "intransigence": -2 / 30,
        },
    ),
    "one task": (
        [[0.4]],
        [0.1],
        [0.5],
        {"acc": 0.4, "bwt": NAN, "forgetting": NAN, "fwt": NAN, "plasticity": 0.4, "intransigence": 0.1},
    ),
}


@pytest.mark.parametrize("name", MATRICES)
def test_figures_of_hand_made_matrices(name):
    scores, base, joint, wanted = MATRICES[name]
    found = continual_figures(scores, base, joint)
    assert tuple(found) == FIGURES
    for figure in FIGURES:
        assert found[figure] == pytest.approx(wanted[figure], nan_ok=True), figure


def test_backward_transfer_is_last_minus_learned():
    rng = np.random.default_rng(0)
    for count in (2, 5):
        scores = rng.random((count, count))
        found = continual_figures(scores, np.zeros(count))
        last = scores[-1].sum() - scores[-1, -1]
        assert found["bwt"] * (count - 1) == pytest.approx(last - np.diag(scores)[:-1].sum())
        assert found["forgetting"] >= -found["bwt"] - 1e-9  # the best is at least what was learned


@pytest.mark.parametrize(
    ("scores", "base", "joint"),
    [([[1.0, 0.0]], [0.0], None), ([[1.0]], [0.0, 0.0], None), ([[1.0]], [0.0], [0.0, 1.0]), ([], [], None)],
)
def test_shapes_that_do_not_fit_are_named(scores, base, joint):
    with pytest.raises(InputError, match="wanted"):
        continual_figures(scores, base, joint)


@pytest.mark.parametrize("prompt", ["point", "box", "none"])
def test_episodes_are_pure_and_their_prompts_lie_on_the_object(shots, prompt):
    found = by_task(shots["one"] + shots["two"])
    for step in range(4):
        a, b = (draw_episode([found], 6, prompt, 3, (1, step)) for _ in range(2))
        assert torch.equal(a.pixels, b.pixels) and torch.equal(a.target, b.target) and a.memories == b.memories
        assert a.pixels.shape == (6, 3, 32, 32) and a.target.shape == (6, 1, 32, 32)
        assert a.groups == 2 and (a.memories > 0 or prompt != "none")
        assert (a.target <= a.whole).all() and (a.target.flatten(1).sum(1) > 0).all()
        if a.prompts.points is not None:
            for row, (x, y) in enumerate(a.prompts.points[:, 0].long().tolist()):
                assert a.target[row, 0, y, x] == 1
        assert (a.prompts.boxes is not None) == (prompt == "box")
    one = draw_episode([{"made/one": shots["one"]}], 4, prompt, 0, (1, 0))
    assert len(one.pixels) == 4 and one.memories == 0
    made = synthetic_episode(32, 4, prompt, 2, (1, 0))
    assert made.pixels.shape == (4, 3, 32, 32) and made.pixels.min() >= 0 and made.pixels.max() <= 1


def test_spread_keeps_order_and_ends():
    assert spread(list(range(10)), 3) == [0, 4, 9] and spread([1, 2], 5) == [1, 2] and spread([], 2) == []


def test_rows_remember_rows_of_their_own_group_only(shots):
    """With memory, changing the other group's frames changes nothing."""
    subject = learner("memory-growing", shots)
    episode = plain_episode([*shots["one"][:2], *shots["two"][:2]], "point", (0,))
    episode.groups, episode.memories = 2, 1
    with torch.inference_mode():
        before = propose(subject.model, episode).logits
        episode.pixels[2:] = episode.pixels[2:].flip(-1)
        after = propose(subject.model, episode).logits
        episode.memories = 0
        alone = propose(subject.model, episode).logits
    assert torch.allclose(before[:2], after[:2], atol=1e-5) and not torch.allclose(before[2:], after[2:], atol=1e-3)
    assert not torch.allclose(alone[:2], after[:2], atol=1e-3)


def test_training_lowers_the_loss(shots):
    subject = learner("fine-tuning", shots, fit={"steps": 24, "rows": 4, "warmup": 3, "lr": 2e-3})
    losses: list[float] = []
    draw = lambda step: draw_episode([{"one": shots["one"]}], 4, "point", 0, (0, step % 4))  # noqa: E731
    fit(subject.model, draw, 24, subject.recipe.fit, subject.way, None, losses.append)
    assert np.mean(losses[-6:]) < 0.85 * np.mean(losses[:6])


def test_answers_with_and_without_the_bank_are_averaged(shots):
    subject = learner("memory-growing", shots, memory={"per_task": 2, "retrieved": 2, "answer": "both"})
    subject.learn("one", 2, quiet)
    seen: list[bool] = []

    def spy(features, memory, episode):
        seen.append(memory is not None)
        return torch.full((len(episode.target), 1, 8, 8), 1.0 if memory is not None else subject.without)

    subject._logits = spy
    for subject.without, covered in ((-0.5, True), (-1.5, False)):
        found = subject.score("one", shots["one"][:1])
        assert (found > 0) == covered
    assert seen == [True, False] * 2


@pytest.mark.parametrize("name", [name for name in METHODS if name != "joint"])
def test_methods_change_and_keep_what_they_say(shots, name):
    subject, method = learner(name, shots), METHODS[name]
    before = {n: p.detach().clone() for n, p in subject.model.named_parameters()}
    for stage in ("one", "two"):
        subject.learn(stage, 2, quiet)
        assert 0 <= subject.score(stage, shots[stage]) <= 1
    changed = {n for n, p in subject.model.named_parameters() if not torch.equal(p, before[n])}
    if method.trains == "nothing":
        assert not changed
    elif method.trains == "adapters":
        assert changed and all(".adapter." in n or n.startswith("mask_decoder.") for n in changed)
        assert set(subject.sets) == {"one", "two"}
    else:
        assert any("mask_decoder" in n for n in changed) and any("vision_encoder" in n for n in changed)
    origins = [] if subject.bank is None else sorted({entry.origin for entry in subject.bank.entries})
    assert origins == {"none": [], "frozen": ["one"], "growing": ["one", "two"]}[method.bank]
    cost = subject.cost()
    assert cost["images"] == (4 if method.rehearses else 0)
    assert (cost["megabytes"] > 0) == (name not in ("fine-tuning",))


@pytest.mark.parametrize(("replay", "wanted"), [(0.0, ["two"]), (1.0, ["one"]), ("added", ["two", "one"])])
def test_what_a_step_after_the_first_stage_is_drawn_from(shots, monkeypatch, replay, wanted):
    seen: list[list[str]] = []

    def spy(sets, *rest):
        seen.append([task.removeprefix("made/") for shots in sets for task in shots])
        episode = draw_episode(sets, *rest)
        assert len(episode.pixels) == 4 * len(sets) and episode.groups == 2 * len(sets)
        return episode

    monkeypatch.setattr("samed2.train.continual.learner.draw_episode", spy)
    subject = learner("rehearsal", shots, replay=replay)
    subject.learn("one", 2, quiet)
    assert seen == [["one"]] * 2
    subject.learn("two", 3, quiet)
    assert seen[2:] == [wanted] * 3


def test_adapters_of_an_earlier_task_are_found_again(shots):
    subject = learner("adapters", shots, fit={"steps": 2, "rows": 4, "lr": 0.05, "warmup": 1})
    subject.learn("one", 2, quiet)
    first = subject.score("one", shots["one"])
    subject.learn("two", 2, quiet)
    subject.score("two", shots["two"])
    assert subject.score("one", shots["one"]) == first


def test_penalties_are_zero_at_the_anchor_and_grow(shots):
    subject = learner("ewc", shots, ewc=2.0)
    subject.learn("one", 2, quiet)
    episode = plain_episode(shots["one"][:2], "point", (0,))
    with torch.no_grad():
        candidates = propose(subject.model, episode)
    assert float(subject.penalty.loss(subject.model, episode, candidates).detach()) == 0
    with torch.no_grad():
        for parameter in subject.model.parameters():
            parameter += 0.01
    elements = sum(p.numel() for p in subject.model.parameters() if p.requires_grad)
    found = float(subject.penalty.loss(subject.model, episode, candidates).detach())
    assert found == pytest.approx(2.0 / 2 * elements * 0.01**2, rel=1e-3)  # F has a mean of 1


@pytest.fixture(scope="module")
def finished(recipe_file, tmp_path_factory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("continual")
    recipe = load_form(
        recipe_file, [f"out={out}", "methods=['fine-tuning', 'memory-growing', 'joint']"], ContinualRecipe
    )
    told: list[int] = []
    experiment = Experiment(recipe, False, lambda doing, done, loss: told.append(done))
    results = experiment.run()
    assert told == list(range(1, experiment.steps + 1))
    return out, results


def test_an_experiment_leaves_results(finished):
    out, results = finished
    assert {"results.json", "results.md", "matrices.png", "recipe.json"} <= {p.name for p in out.iterdir()}
    saved = json.loads((out / "results.json").read_text())
    assert len(saved["runs"]) == 4 and saved["runs"][1]["order"] == results["runs"][1]["order"]
    for run in saved["runs"]:
        assert np.asarray(run["scores"]).shape == (3, 3)
        assert run["figures"]["acc"] == pytest.approx(np.mean(run["scores"][-1]))
    assert saved["tasks"] == {"one": ["spots/disc"], "two": ["spots/dot"], "three": ["stack/ball"]}
    assert not math.isnan(results["summary"]["fine-tuning"]["intransigence"]["mean"])
    table = (out / "results.md").read_text()
    assert all(f"| {name} |" in table for name in ("fine-tuning", "memory-growing", "joint"))
    assert not list(out.rglob("state.pt")) and not list(out.rglob("bank-*"))


def test_a_stopped_experiment_goes_on_exactly(recipe_file, finished, tmp_path, monkeypatch):
    recipe = load_form(recipe_file, [f"out={tmp_path}", "methods=['memory-growing']", "orders=1"], ContinualRecipe)

    class Killed(Exception):
        pass

    learn = Learner.learn

    def killed(self, stage, steps, tell):
        if len(self.seen) == 2:
            raise Killed
        learn(self, stage, steps, tell)

    monkeypatch.setattr(Learner, "learn", killed)
    with pytest.raises(Killed):
        Experiment(recipe, False, lambda *told: None).run()
    monkeypatch.setattr(Learner, "learn", learn)
    with pytest.raises(InputError, match="--resume"):
        Experiment(recipe, False, lambda *told: None)
    again = Experiment(recipe, True, lambda *told: None).run()
    whole = next(run for run in finished[1]["runs"] if run["method"] == "memory-growing")
    assert again["runs"][0]["scores"] == whole["scores"] and again["runs"][0]["order"] == whole["order"]
    other = recipe.model_copy(update={"seed": 5})
    with pytest.raises(InputError, match="another recipe"):
        Experiment(other, True, lambda *told: None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("methods=['magic']", "fine-tuning"),
        ("tasks={'one': ['spots/disc']}", "at least two"),
        ("tasks={'one': ['spots/disc'], 'two': ['spots/moon']}", "spots/moon"),
        ("base.tasks=['spots/dot']", "must not know"),
        ("colour=1", "colour"),
        ("fit.rows=3", "fit.rows"),
        ("data.root=nowhere", "nowhere"),
    ],
)
def test_wrong_recipes_are_named(recipe_file, tmp_path, change, words):
    with pytest.raises(InputError, match=words):
        Experiment(load_form(recipe_file, [f"out={tmp_path}", change], ContinualRecipe), False, lambda *told: None)


def test_orders_are_different_and_complete():
    stages = ["a", "b", "c", "d"]
    orders = orders_of(stages, 5, 0)
    assert orders[:2] == [stages, stages[::-1]] and orders == orders_of(stages, 5, 0)
    assert len({tuple(order) for order in orders}) == 5 and all(sorted(order) == stages for order in orders)
    assert len(orders_of(["a", "b"], 3, 0)) == 2 and len(orders_of(stages, 1, 0)) == 1


def test_the_shipped_recipe_is_valid():
    recipe = load_form(Path(__file__).resolve().parents[2] / "recipes" / "continual.yaml", [], ContinualRecipe)
    assert recipe.methods == list(METHODS) and recipe.orders >= 3


def test_words_that_name_nothing_offer_what_there_is():
    with pytest.raises(InputError, match="'mr' is no task"):
        tasks_of([], ["mr"])
