"""Runs a continual-learning experiment: base, joint training, then every method through every order of the tasks."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from samed2.data import open_cases
from samed2.data.cases import Case
from samed2.errors import InputError
from samed2.io.atomic import atomic_path, atomic_write, make_folder
from samed2.io.json_file import read_json
from samed2.nn import SAMed2Model
from samed2.nn.builders import micro_config, nano_config
from samed2.nn.init import init_from_scratch
from samed2.predict.device import resolve_device, resolve_precision
from samed2.train.continual.episodes import Episode, by_task, draw_episode, read_shots, synthetic_episode
from samed2.train.continual.fit import Tell, Way, fit
from samed2.train.continual.learner import Learner
from samed2.train.continual.methods import METHODS
from samed2.train.continual.recipe import ContinualRecipe
from samed2.train.continual.show import results_of, write_results

PRESETS = {"micro": micro_config, "nano": nano_config}
AGAIN = "remove it to repeat that part"  # what is unusable
BASE, MADE = 4, 5  # first word of the seed of what is drawn
Report = Callable[[str, int, float], None]  # what is going on, steps done in all, loss


class Experiment:
    """All runs of a recipe; finished runs and stages are found again on disk.

    Raises:
        InputError: data that cannot be read, tasks that nothing shows, an out folder of another recipe or, without
            `resume`, of a run that was begun.
    """

    def __init__(self, recipe: ContinualRecipe, resume: bool, report: Report) -> None:
        self.recipe, self.out, self._report = recipe, recipe.out, report
        self._prepare(resume)
        device = resolve_device(recipe.device)
        self.way = Way(device, resolve_precision(recipe.precision, device), recipe.seed)
        data = recipe.data
        train, test = open_cases(data.root, [data.split]), open_cases(data.root, [data.test_split])
        self.tasks = {stage: tasks_of(train, words) for stage, words in recipe.tasks.items()}
        size = recipe.model.image_size
        self.train = {s: read_shots(train, t, size, data.cases, data.frames) for s, t in self.tasks.items()}
        self.test = {s: read_shots(test, t, size, data.test_cases, data.frames) for s, t in self.tasks.items()}
        base = tasks_of(train, recipe.base.tasks)
        if shared := sorted(set(base) & {task for tasks in self.tasks.values() for task in tasks}):
            raise InputError(f"base.tasks: {shared[0]} is also one of tasks; the base must not know it")
        self.base_shots = read_shots(train, base, size, data.cases, data.frames) if base else []
        self.done = 0

    @property
    def orders(self) -> list[list[str]]:
        """The sequences of stages."""
        return orders_of(list(self.recipe.tasks), self.recipe.orders, self.recipe.seed)

    @property
    def steps(self) -> int:
        """Steps of everything, for a progress bar."""
        count, each = len(self.recipe.tasks), self.recipe.fit.steps
        methods = [METHODS[name] for name in self.recipe.methods]
        runs = sum(1 if m.joint else len(self.orders) for m in methods if m.trains != "nothing")
        return self.recipe.base.steps + runs * count * each

    def run(self) -> dict[str, Any]:
        """Do what is left, write the results after every run, and return them."""
        base = self._base()
        runs: list[dict[str, Any]] = []
        joint = self._joint() if "joint" in self.recipe.methods else None
        results = results_of(self.recipe, self.tasks, base, joint, runs)
        for number, order in enumerate(self.orders):
            for name in self.recipe.methods:
                if METHODS[name].joint:
                    continue
                runs.append(self._sequence(name, number, order))
                results = results_of(self.recipe, self.tasks, base, joint, runs)
                write_results(results, self.out)
        if not runs:
            write_results(results, self.out)
        return results

    def _base(self) -> dict[str, float]:
        """Train the base where it is missing; its scores by stage."""
        path, recipe = self.out / "base.pt", self.recipe
        if path.exists():
            self.done += recipe.base.steps
            scores: dict[str, float] = _load(path)["scores"]
            return scores
        model = self._new_model()
        shots = by_task(self.base_shots)
        share = recipe.base.synthetic if shots else 1.0
        rows, size = recipe.fit.rows, recipe.model.image_size
        pick = np.random.default_rng([BASE, recipe.seed]).random(max(1, recipe.base.steps)) < share

        def draw(step: int) -> Episode:
            memories = recipe.memory.retrieved * (step % 2)  # with and without memory in turn
            prompt = recipe.prompt if recipe.prompt != "none" or memories else "point"
            if pick[step]:
                return synthetic_episode(size, rows, prompt, memories, (MADE, recipe.seed, step))
            return draw_episode([shots], rows, prompt, memories, (BASE, recipe.seed, step))

        if recipe.base.steps:
            fit(model, draw, recipe.base.steps, recipe.fit, self.way, None, self._teller("base"))
        learner = Learner(model, METHODS["fine-tuning"], recipe, self.train, self.way)
        scores = {stage: learner.score(stage, self.test[stage]) for stage in recipe.tasks}
        _save({"model": model.state_dict(), "scores": scores}, path)
        return scores

    def _joint(self) -> dict[str, Any]:
        """Train on all stages at once where that is missing; scores by stage and what was kept."""
        path, recipe = self.out / "joint.json", self.recipe
        steps = len(recipe.tasks) * recipe.fit.steps
        if path.exists():
            self.done += steps
            return read_json(path, "a result", AGAIN)
        started = time.perf_counter()
        learner = self._learner("joint", self.way)
        learner.shots = {"all": [shot for stage in recipe.tasks for shot in self.train[stage]]}
        learner.learn("all", steps, self._teller("joint"))
        result: dict[str, Any] = {"scores": {stage: learner.score(stage, self.test[stage]) for stage in recipe.tasks}}
        kept = learner.shots["all"]
        result["cost"] = {"images": float(len(kept)), "megabytes": sum(shot.nbytes for shot in kept) / 1e6}
        result["seconds"] = round(time.perf_counter() - started, 1)
        atomic_write(path, json.dumps(result))
        return result

    def _sequence(self, name: str, number: int, order: list[str]) -> dict[str, Any]:
        """One method through one order, going on after the last finished stage."""
        folder = self.out / "runs" / name / f"order-{number}"
        finished, state = folder / "result.json", folder / "state.pt"
        each = self.recipe.fit.steps if METHODS[name].trains != "nothing" else 0
        if finished.exists():
            self.done += each * len(order)
            return read_json(finished, "a result", AGAIN)
        make_folder(folder)
        learner = self._learner(name, replace(self.way, seed=self.recipe.seed * 100 + number))
        rows: list[list[float]] = []
        seconds = 0.0
        if state.exists():
            held = _load(state)
            learner.restore(held, folder)
            rows, seconds = held["rows"], held["seconds"]
            self.done += each * len(rows)
        for stage in order[len(rows) :]:
            started = time.perf_counter()
            learner.learn(stage, self.recipe.fit.steps, self._teller(f"{name}, order {number + 1}, {stage}"))
            rows.append([learner.score(other, self.test[other]) for other in order])
            seconds += time.perf_counter() - started
            _save({**learner.save(folder), "rows": rows, "seconds": seconds}, state)
        result = {
            "method": name,
            "order": order,
            "scores": rows,
            "cost": learner.cost(),
            "seconds": round(seconds, 1),
        }
        atomic_write(finished, json.dumps(result))
        for path in [state, *folder.glob("bank-*.safetensors")]:
            path.unlink(missing_ok=True)
        return result

    def _learner(self, name: str, way: Way) -> Learner:
        model = self._new_model()
        model.load_state_dict(_load(self.out / "base.pt")["model"])
        return Learner(model.to(self.way.device).eval(), METHODS[name], self.recipe, self.train, way)

    def _new_model(self) -> SAMed2Model:
        config = PRESETS[self.recipe.model.preset](image_size=self.recipe.model.image_size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.recipe.seed)
            model = SAMed2Model._from_config(config, attn_implementation="eager")  # its backward pass is the faster one
            init_from_scratch(model, self.recipe.seed)
        return model.to(self.way.device)

    def _teller(self, doing: str) -> Tell:
        def tell(loss: float) -> None:
            self.done += 1
            self._report(doing, self.done, loss)

        return tell

    def _prepare(self, resume: bool) -> None:
        """The out folder, new or of the same recipe."""
        text = self.recipe.model_dump_json(indent=1, exclude={"out"})
        path = self.out / "recipe.json"
        if path.exists():
            if not resume:
                raise InputError(f"{self.out}: holds another experiment; use --resume to go on, or another --out")
            if path.read_text() != text:
                raise InputError(f"{self.out}: holds an experiment of another recipe; choose another --out")
            return
        make_folder(self.out)
        atomic_write(path, text)


def tasks_of(cases: list[Case], words: list[str]) -> list[str]:
    """The tasks that words name: "DATASET/OBJECT", or a modality for all its tasks.

    Raises:
        InputError: a word that names nothing in the data.
    """
    known = {case.task(name): case.modality for case in cases for name in case.objects}
    found: list[str] = []
    for word in words:
        named = [task for task, modality in sorted(known.items()) if word in (task, modality)]
        if not named:
            offers = ", ".join([*sorted(set(known.values())), *sorted(known)])
            raise InputError(f"tasks: {word!r} is no task or modality of the data; wanted some of {offers}")
        found += [task for task in named if task not in found]
    return found


def orders_of(stages: list[str], count: int, seed: int) -> list[list[str]]:
    """As listed, reversed, then random ones; all different, so fewer where there are not as many."""
    orders = [stages, stages[::-1]]
    rng = np.random.default_rng(seed)
    possible = 1
    for number in range(2, len(stages) + 1):
        possible = min(possible * number, count)
    while len(orders) < min(count, possible):
        drawn = [stages[i] for i in rng.permutation(len(stages))]
        if drawn not in orders:
            orders.append(drawn)
    return list(itertools.islice(orders, min(count, possible)))


def _save(values: dict[str, Any], path: Path) -> None:
    with atomic_path(path) as part:
        torch.save(values, part)


def _load(path: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise InputError(f"{path}: is not usable ({error}); {AGAIN}") from error
    return values
