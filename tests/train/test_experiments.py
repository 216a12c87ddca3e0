"""Experiments on a generated folder with the micro model: they finish, share models, resume, and add up."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.generated import make_folder

from samed2.data import open_cases
from samed2.errors import InputError
from samed2.memory import SelectiveMemory
from samed2.nn.builders import micro_config
from samed2.nn.model import SAMed2Model
from samed2.predict import Predictor, Settings
from samed2.train.experiments import run as runner
from samed2.train.experiments.banks import bank_figures, collect_offers, drawn_by_task, filled_bank
from samed2.train.experiments.recipe import BankRecipe, digest_of, load_experiment, variants_of
from samed2.train.experiments.run import Experiment, limited
from samed2.train.experiments.show import Scores, results_of, seed_mean, table_of
from samed2.train.recipe import DataRecipe

ROOT = Path(__file__).resolve().parents[2]
BASE = """
precision: fp32
data: {{root: {root}, workers: 0, val_splits: []}}
model: {{preset: micro, settings: {{image_size: 64}}}}
stages: [{{steps: 2, image_size: 64, rows: 4, stream: 0.3, memory: 0.3, stream_rows: 2}}]
checkpoint_every: 1
"""
EXPERIMENT = """
base: {base}
seeds: [0, 1]
baseline: plain
score: {{splits: [val], protocols: ["box-jitter:0.05", "memory-only:1", propagate], cases: 2, resamples: 200}}
out: {out}
variants:
  plain: {{train: [model.settings.adapter_dim=0]}}
  full:
    bank: {{capacity: 8, offers: 4, confidence: one, policy: fifo}}
    protocols: ["box-jitter:0.05", recall, propagate]
  small-bank: {{like: full, against: full, bank: {{capacity: 2, by_task: true}}}}
  noisy:
    like: full
    train: ["data.noise={{'fraction': 0.5}}", "loss.gate={{'warmup': 1}}"]
    protocols: [recall]
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("experiment")
    root = make_folder(folder / "data", items=4)
    (folder / "base.yaml").write_text(BASE.format(root=root))
    (folder / "experiment.yaml").write_text(EXPERIMENT.format(base=folder / "base.yaml", out=folder / "out"))
    return folder / "experiment.yaml"


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def finished(written) -> Experiment:
    """Run to the end in four pieces: killed in training, in scoring, and before the second seed."""
    form = load_experiment(written)
    for place, after in (("train", 1), ("evaluate", 1), ("evaluate", 6)):
        with pytest.MonkeyPatch.context() as patch:
            patch_to_die(patch, place, after)
            with pytest.raises(Killed):
                Experiment(form, quiet=True).run()
    experiment = Experiment(form, quiet=True)
    experiment.run()
    return experiment


def patch_to_die(patch: pytest.MonkeyPatch, place: str, after: int) -> None:
    calls = []
    owner, name = (runner.Trainer, "_step") if place == "train" else (runner, "evaluate")
    real = getattr(owner, name)

    def dying(*args, **named):
        calls.append(1)
        if len(calls) > after:
            raise Killed
        return real(*args, **named)

    patch.setattr(owner, name, dying)


def test_every_variant_and_seed_is_trained_and_scored_once(finished):
    assert all(finished.trained(v, s) and finished.scored(v, s) for s, v in finished.jobs)
    assert len(list((finished.out / "models").iterdir())) == 6  # three recipes, two seeds; the small bank reads full's
    results = json.loads((finished.out / "results.json").read_text())
    assert results["left"] == 0
    found = {(row["protocol"], row["variant"]) for row in results["rows"]}
    assert found == {
        *(
            (protocol, name)
            for protocol in ("box-jitter:0.05", "propagate")
            for name in ("plain", "full", "small-bank")
        ),
        ("memory-only:1", "plain"),
        *(("recall", name) for name in ("full", "small-bank", "noisy")),
    }
    for row in results["rows"]:
        assert set(row["seeds"]) == {"0", "1"} and row["dice"] == pytest.approx(np.mean(list(row["seeds"].values())))


def test_the_table_names_whom_a_row_is_compared_with(finished):
    rows = {(row["protocol"], row["variant"]): row for row in finished.results()["rows"]}
    full, small = rows["box-jitter:0.05", "full"], rows["box-jitter:0.05", "small-bank"]
    assert full["against"] == "plain" and small["against"] == "full"
    assert full["difference"] == pytest.approx(full["dice"] - rows["box-jitter:0.05", "plain"]["dice"])
    assert "against" not in rows["recall", "full"]  # the baseline has no bank
    text = (finished.out / "results.md").read_text()
    assert text.splitlines()[0].startswith("| protocol | split | variant |") and "| small-bank |" in text


def test_banks_are_counted(finished):
    banks = {row["variant"]: row for row in finished.results()["banks"]}
    assert banks["full"]["entries"] == 8 and banks["small-bank"]["entries"] == 2
    assert banks["full"]["offered_wrong"] == 0 and banks["noisy"]["offered_wrong"] > 0
    assert 0 < banks["noisy"]["wrong"] <= 8 and banks["noisy"]["wrong_dice"] < 1


def test_a_finished_experiment_does_nothing(finished, monkeypatch):
    patch_to_die(monkeypatch, "train", 0)
    patch_to_die(monkeypatch, "evaluate", 0)
    before = (finished.out / "results.json").read_text()
    Experiment(finished.form, quiet=True).run()
    assert (finished.out / "results.json").read_text() == before


def test_one_variant_alone(finished, written):
    experiment = Experiment(finished.form, ["plain"], quiet=True)
    assert [(seed, variant.name) for seed, variant in experiment.jobs] == [(0, "plain"), (1, "plain")]
    with pytest.raises(InputError, match="fool"):
        Experiment(finished.form, ["fool"])


def test_other_settings_are_refused(finished, written):
    form = load_experiment(written, ["score.cases=1"])
    with pytest.raises(InputError, match=r"plain/seed-0: holds scores of other settings"):
        Experiment(form, quiet=True).run()


def test_the_command_ends_with_json(finished, written, capsys):
    spec = importlib.util.spec_from_file_location("ablations", ROOT / "benchmarks" / "ablations.py")
    command = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(command)
    assert command.main([str(written), "--quiet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert json.loads(lines[-1])["left"] == 0 and lines[0].startswith("| protocol")
    assert command.main([str(written), "--list", "--only", "full", "--seeds", "1"]) == 0
    assert "| full |  | plain | 2 |" in capsys.readouterr().out
    assert command.main([str(written), "--only", "fool"]) == 2
    assert "fool" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["ablations", "noise"])
def test_the_recipes_of_the_repository_are_right(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    form = load_experiment(ROOT / "recipes" / f"{name}.yaml")
    assert len(variants_of(form)) == len(form.variants) and len(form.seeds) == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("baseline=none", "baseline"),
        ("variants.full.like=noisy", "earlier variant"),
        ("variants.full.against=nobody", "nobody"),
        ("variants.full.train=['model.settings.colour']", "variants.full"),
        ("variants.full.protocols=['guess']", "variants.full.*guess"),
        ("variants.full.settings={'colour': 1}", "variants.full.*colour"),
        ("variants.full.bank.size=3", "bank.size"),
        ("score.slices=none", "slices"),
    ],
)
def test_what_is_wrong_in_a_recipe_is_named(written, change, words):
    with pytest.raises(InputError, match=words):
        load_experiment(written, [change])


def test_a_variant_takes_over_what_it_is_like(written):
    form = load_experiment(written, ["variants.small-bank.train=['seed=7']", "variants.small-bank.settings.zoom=False"])
    found = {variant.name: variant for variant in variants_of(form)}
    small = found["small-bank"]
    assert small.bank == BankRecipe(capacity=2, offers=4, confidence="one", policy="fifo", by_task=True)
    assert small.protocols == found["full"].protocols and small.settings == {"zoom": False}
    assert found["noisy"].against == "plain"
    plain = found["plain"].recipe(form.base, 0)
    assert digest_of(plain) == digest_of(plain.model_copy(update={"out": Path("elsewhere"), "log_every": 7}))
    assert digest_of(plain) != digest_of(found["plain"].recipe(form.base, 1))


def test_cases_are_limited_by_task(tmp_path):
    cases = open_cases(make_folder(tmp_path, items=5), ["train"])
    few = limited(cases, 2, seed=0)
    assert {task: len(labels) for task, labels in drawn_by_task(few, None, 0).items()} == {
        "spots/disc": 2,
        "spots/dot": 2,
        "stack/ball": 1,
        "film/ball": 1,
    }
    assert few == limited(cases[::-1], 2, seed=0)[::-1]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(SAMed2Model._from_config(micro_config(image_size=64)), "cpu")


def test_offers_depend_on_names_alone_and_tell_wrong_masks(predictor, tmp_path):
    root = make_folder(tmp_path, items=3)
    plain = DataRecipe(root=root)
    noisy = DataRecipe(root=root, noise={"fraction": 0.5, "kinds": ["dilate:30%,30%"]})
    clean, worse = (collect_offers(predictor, data, 2, 0, Settings()) for data in (plain, noisy))
    assert [o.origin for o in clean] == [o.origin for o in worse] and len(clean) == 6
    assert not any(o.wrong for o in clean) and all(o.strength == 1 for o in clean)
    assert {o.strength < 1 for o in worse if o.wrong} == {True}
    assert all(0 <= o.sure[kind] <= 1 for o in worse for kind in ("one", "predicted", "agreement"))
    gated = BankRecipe(capacity=4, confidence="agreement", least=1.0)
    assert len(filled_bank(predictor, worse, gated, "near", 0)) == 0
    how = BankRecipe(capacity=4, confidence="one", policy="fifo")
    bank = filled_bank(predictor, worse, how, "whole", 0)
    figures = bank_figures(bank, worse, how)
    assert isinstance(bank, SelectiveMemory) and figures["entries"] == 4 and figures["sure_enough"] == 6
    assert figures["wrong"] == sum(o.wrong for o in worse[-4:])  # fifo: the newest


def rows(values: dict[str, float]) -> pd.DataFrame:
    keys = [key.split("/") for key in values]
    return pd.DataFrame(
        [{"dataset": d, "task": f"{d}/o", "case": c, "patient": c} for d, c in keys], index=range(len(keys))
    ).assign(dice=list(values.values()))


def test_means_are_over_seeds_then_cases_then_tasks():
    first, second = rows({"a/1": 0.2, "a/2": 0.4, "b/1": 1.0}), rows({"a/1": 0.4, "a/2": 0.6, "b/1": 0.8, "b/2": 0.1})
    assert seed_mean([first, second])["dice"].tolist() == pytest.approx([0.3, 0.5, 0.9])  # b/2 is not in both
    found = results_of(
        [Scores("x", 0, "test", "box", first), Scores("x", 1, "test", "box", second)], {"x": "x"}, {}, 50
    )
    assert found["rows"][0]["dice"] == pytest.approx((0.4 + 0.9) / 2) and found["rows"][0]["cases"] == 3


def test_a_difference_is_about_the_seeds_that_both_have():
    runs = [("base", 0, 0.2), ("base", 1, 0.8), ("new", 1, 0.9), ("other", 2, 0.5)]
    scores = [Scores(name, seed, "test", "box", rows({"a/1": v, "a/2": v})) for name, seed, v in runs]
    found = {
        r["variant"]: r for r in results_of(scores, dict.fromkeys(["base", "new", "other"], "base"), {}, 50)["rows"]
    }
    assert found["base"]["dice"] == pytest.approx(0.5) and found["new"]["difference"] == pytest.approx(0.1)
    assert "against" not in found["other"]  # no seed in common


def test_holm_is_over_all_tests_of_a_protocol():
    rng = np.random.default_rng(0)
    base = {f"a/{i}": float(v) for i, v in enumerate(rng.uniform(0.4, 0.6, 30))}
    better = {key: value + 0.1 + 0.01 * float(rng.random()) for key, value in base.items()}
    same = {key: value + 0.001 * float(rng.normal()) for key, value in base.items()}
    scores = [Scores(n, 0, "test", "box", rows(v)) for n, v in (("base", base), ("good", better), ("same", same))]
    found = {
        r["variant"]: r for r in results_of(scores, dict.fromkeys(["base", "good", "same"], "base"), {}, 500)["rows"]
    }
    assert "p" not in found["base"] and found["good"]["p"] == pytest.approx(2 * 2 / 501)
    assert found["same"]["p"] > 0.05 and found["good"]["seeds_better"] == "1/1"
    text = table_of({"rows": list(found.values()), "banks": []})
    assert "| +10.5 |" in text or "| +10.4 |" in text or "| +10.6 |" in text
