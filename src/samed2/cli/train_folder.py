"""`samed2 train --data FOLDER`: look at the data, choose a recipe, train, and show what it gained."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samed2.cli.console import track, warn
from samed2.cli.train_tables import show_gains, show_recipe, show_survey
from samed2.errors import InputError

if TYPE_CHECKING:
    from samed2.train.finetune_gain import Asked
    from samed2.train.recipe import Recipe

DOUBTFUL = "doubtful.png"


@dataclass(frozen=True)
class Wanted:
    """What the user asked for."""

    data: Path
    init: str
    out: Path | None
    steps: int | None
    minutes: float | None
    modality: str
    labels: tuple[str, ...]
    overrides: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where everything goes."""
        name = self.data.resolve().name
        return self.out or Path("runs") / (name.rsplit(".", 1)[0] if self.data.is_file() else name)

    @property
    def label_values(self) -> dict[str, int]:
        """Object -> value.

        Raises:
            InputError: not NAME=VALUE.
        """
        found = {}
        for text in self.labels:
            name, _, value = text.partition("=")
            if not name or "/" in name or not value.isdigit():
                raise InputError(f"--label {text}: wanted NAME=VALUE, such as liver=1")
            found[name] = int(value)
        return found


def fine_tune(wanted: Wanted, resume: bool, check: bool) -> None:
    """Run all of it; with `check` only look at the data.

    Raises:
        InputError: the data, the model, an option or the out folder cannot be used.
    """
    from samed2.train import finetune
    from samed2.train.recipe import CHECKPOINT

    out = wanted.folder
    recipe_path = out / finetune.RECIPE
    if resume and not check:
        if not recipe_path.is_file():
            raise InputError(f"{out}: has no {finetune.RECIPE} to go on with; leave --resume out")
        _run(_recipe(recipe_path, wanted), True, wanted)
        return
    if not check and (out / CHECKPOINT).exists():
        raise InputError(f"{out}: holds another run; use --resume to go on with it, or another --out")
    found = finetune.survey(
        wanted.data, wanted.modality, wanted.label_values, lambda cases: track(cases, len(cases), "check")
    )
    show_survey(found)
    for line in found.report.warnings:
        warn(line)
    if (not check or wanted.out is not None) and finetune.draw_doubtful(found.report, out / DOUBTFUL):
        print(f"masks to look at: {out / DOUBTFUL}")
    if check:
        return
    start = finetune.Start.of(wanted.init)
    fields = finetune.choose_recipe(found, start, out, wanted.steps)
    path = finetune.write_run(found, fields, out)
    if wanted.minutes is not None:
        each = finetune.seconds_per_step(path, list(wanted.overrides))
        steps = max(1, int(wanted.minutes * 60 / each))
        print(f"\na step takes about {each:.2f} s: {steps} steps in {wanted.minutes:g} minutes")
        fields = finetune.choose_recipe(found, start, out, steps)
        path = finetune.write_run(found, fields, out)
    recipe = _recipe(path, wanted)
    show_recipe(recipe, found, path)
    _run(recipe, False, wanted)


def _recipe(path: Path, wanted: Wanted) -> Recipe:
    from samed2.train.recipe import load_recipe

    return load_recipe(path, list(wanted.overrides)).model_copy(update={"out": path.parent})


def _run(recipe: Recipe, resume: bool, wanted: Wanted) -> None:
    from samed2.train import finetune
    from samed2.train.recipe import CHECKPOINT

    sys.stdout.flush()
    try:
        model = finetune.train(recipe, resume)
    except (KeyboardInterrupt, InputError):
        if (recipe.out / CHECKPOINT).exists():
            again = shlex.join(["samed2", "train", "--data", str(wanted.data), "--out", str(recipe.out), "--resume"])
            warn(f"stopped; the last checkpoint is kept, go on with `{again}`")
        raise
    asked, split = _gain(recipe, model)
    out = Path(recipe.out)
    _save(out / "gain.json", asked, split)
    show_gains(asked, split, out)
    print(f"\nmodel: {model}\ntry it:\n  {_command(model, asked, wanted.modality)}")


def _gain(recipe: Recipe, model: Path) -> tuple[list[Asked], str]:
    """Questions of val (of train where there is no val), answered by the model before and after."""
    from samed2.data import open_cases
    from samed2.predict import Predictor
    from samed2.train import finetune_gain

    split = "val" if recipe.data.val_splits else "train"
    asked = finetune_gain.questions(open_cases(recipe.data.root, recipe.data.val_splits or recipe.data.splits))
    for when, name in (("before", recipe.model.init or "nano"), ("after", str(model))):
        predictor = Predictor.from_pretrained(name)
        steps = iter(track(range(len(asked)), len(asked), f"score {when}"))
        finetune_gain.answer(asked, predictor, when, lambda steps=steps: next(steps, None))  # type: ignore[misc]
        list(steps)
    finetune_gain.draw_examples(asked, Path(recipe.out) / "examples.png")
    return asked, split


def _save(path: Path, asked: list[Asked], split: str) -> None:
    from samed2.io.atomic import atomic_path
    from samed2.train.finetune_gain import gains

    with atomic_path(path) as temporary:
        Path(temporary).write_text(json.dumps({"split": split, "objects": gains(asked)}, indent=1))


def _command(model: Path, asked: list[Asked], modality: str) -> str:
    """A command that segments one of the cases with the new model."""
    words: list[Any] = ["samed2", "segment", "IMAGE", "--box", "x0,y0,x1,y1"]
    one = next((one for one in asked if one.case.files and one.case.files[0].exists()), None)
    if one is not None:
        y0, x0, y1, x1 = one.boxes[0]
        image = one.case.files[0]
        several = sum(path.suffix == image.suffix and path.parent == image.parent for path in one.case.files) > 1
        words[2] = image.parent if several and one.case.kind == "volume" and _is_series(image) else image
        words[4] = f"{one.object}={x0:.0f},{y0:.0f},{x1:.0f},{y1:.0f}"
        if one.case.kind != "image":
            words += ["--frame", one.frame, "--propagate", "both"]
        shown = modality or ("ct" if one.case.modality == "ct" and not _is_series(image) else "")
        words += ["--modality", shown] if shown else []
    words += ["--model", model, "--overlay", "--out", model.parent / "try"]
    return shlex.join(str(word) for word in words)


def _is_series(path: Path) -> bool:
    return path.suffix.lower() in (".dcm", ".ima", "") or path.suffix[1:].isdigit()
