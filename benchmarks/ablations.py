"""Train and score a list of variants over seeds, and print one table; see docs/ablations.md.

    python benchmarks/ablations.py recipes/ablations.yaml --list
    python benchmarks/ablations.py recipes/ablations.yaml [--only NAME ...] [--seeds 0 1 2] [--steps N]

Killed at any moment, the same line goes on. Progress goes to standard error; the last line of standard output is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from samed2.errors import InputError
from samed2.evaluate.results import finite
from samed2.train.experiments.recipe import digest_of, load_experiment
from samed2.train.experiments.run import Experiment
from samed2.train.experiments.show import table_of


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--list", action="store_true", help="print what would be done, and what is there")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="variants to run")
    parser.add_argument("--seeds", nargs="+", type=int, help="instead of the recipe's")
    parser.add_argument("--steps", type=int, help="of the first stage of every training")
    parser.add_argument("--cases", type=int, help="most test cases of each task")
    parser.add_argument("--data", type=Path, help="a MedBank store or a folder, instead of the recipe's")
    parser.add_argument("--out", type=Path, help="folder of models and scores")
    parser.add_argument("--set", nargs="+", default=[], metavar="FIELD=VALUE", help="of the experiment's recipe")
    parser.add_argument("--quiet", action="store_true")
    options = parser.parse_args(arguments)
    try:
        experiment = Experiment(form_of(options), options.only, options.quiet)
        if options.list:
            print(listing(experiment))
            return 0
        results = experiment.run()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same line goes on", file=sys.stderr)
        return 130
    print(table_of(results))
    print(json.dumps(finite({"out": str(experiment.out), **results}), allow_nan=False))
    return 0


def form_of(options: argparse.Namespace):  # type: ignore[no-untyped-def]
    """The experiment's recipe with what the command line changes."""
    changes = list(options.set)
    if options.seeds:
        changes.append(f"seeds={options.seeds}")
    if options.cases:
        changes.append(f"score.cases={options.cases}")
    if options.out:
        changes.append(f"out={options.out}")
    form = load_experiment(options.recipe, changes)
    train = [f"data.root={options.data}"] if options.data else []
    if options.steps:
        train.append(f"stages.0.steps={options.steps}")
    return form.model_copy(update={"train": [*form.train, *train]})


def listing(experiment: Experiment) -> str:
    """A Markdown table of variants: their models by seed, what they are asked, what is there."""
    heads = ["variant", "like", "against", "steps", "models", "protocols", "trained", "scored"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    models = set()
    seeds = experiment.form.seeds
    for variant in experiment.chosen:
        recipes = [experiment.recipe(variant, seed) for seed in seeds]
        models |= {recipe.out for recipe in recipes}
        done = [sum(check(variant, seed) for seed in seeds) for check in (experiment.trained, experiment.scored)]
        like = experiment.form.variants[variant.name].like or ""
        cells = [variant.name, like, variant.against, str(recipes[0].steps), " ".join(digest_of(r) for r in recipes)]
        cells += [", ".join(variant.protocols), *(f"{count}/{len(seeds)}" for count in done)]
        lines.append("| " + " | ".join(cells) + " |")
    lines.append(f"\n{len(models)} models to train for {len(experiment.jobs)} variants and seeds")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
