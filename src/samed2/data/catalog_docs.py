"""The page on the catalogue: `python -m samed2.data.catalog_docs docs/medbank-catalog.md` writes it anew."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable

from samed2.data.catalog import Dataset, PublishedTask, datasets, get_dataset, named_sources, published_tasks

_INTRO = """\
# MedBank: the catalogue of data sets

This page is made by `python -m samed2.data.catalog_docs docs/medbank-catalog.md` from `src/samed2/data/catalog/*.yaml`
and `published_tasks.yaml`; change those, not the page. `samed2 medbank list` and `samed2 medbank show NAME` print the
same. No data come with the package: get each set from its owners, under their terms, and name its folder with
`--source NAME:PATH`. For sets that are not here see [Other sources](#other-sources).

What was not checked at a set's owner is marked as such under *checked*. A licence named here is no legal advice.
"""

_OTHER = """\
## Other sources

| source | what it is |
|---|---|
| `folder:DIR` | a folder with `items.csv`: dataset, modality, object, item, case, split, kind |
| `released:DIR` | the released SAMed-2 code's layout: `Object_Modality_ID/{image,mask}`, `train.txt`, ... |
| `dicom:PATH` | DICOM series with SEG or RTSTRUCT objects |
| `pairs:FILE.yaml` | any folder of images and labels that a YAML file describes |

The YAML file of `pairs` needs four lines; paths are below the file's own folder unless `root` says otherwise:

```yaml
name: my_polyps
modality: endoscopy
image: "images/{case}.jpg"
label: "masks/{case}.png"
```

`{case}` stands for a part of one file or folder name, the same in both; `*` for one that does not matter; `**/` for any
folders. One object is taken, with the name of the set. For several, name their values, or give a file for each:

```yaml
objects: {liver: [1, 2], tumour: 2}                           # values of one label file, or a rule such as ">=128"
labels: {disc: "disc/{case}.png", cup: "cup/{case}.png"}      # instead of `label`
patient: "{patient}"                                          # what a split keeps together
split: "{part}"                                               # with splits: {Training: train, Test: test}
```
"""


def page() -> str:
    """The whole page as Markdown, ending with a line end."""
    tasks, entries = published_tasks(), datasets()
    parts = [_INTRO, *_published(tasks), *_named(), *_overview(entries.values()), _OTHER, "## The data sets\n"]
    parts += [_entry(dataset) for dataset in entries.values()]
    return "\n".join(part.strip("\n") + "\n" for part in parts)


def tested_on(dataset: Dataset) -> str:
    """What the set's conversion is tested on."""
    real = f"; real cases in the `folder` layout ({dataset.sample})" if dataset.sample else ""
    return f"generated tree{real}"


def _published(tasks: tuple[PublishedTask, ...]) -> Iterable[str]:
    internal = sum(task.set == "internal" for task in tasks)
    distinct = sum(not task.same_as for task in tasks)
    yield "## The published tasks\n"
    yield textwrap.fill(
        f"The {internal} internal and {len(tasks) - internal} external tasks of the SAMed-2 paper. "
        f"{len(tasks) - distinct} external ones have the object and modality of an internal one, so there are "
        f"{distinct} different tasks. The Dice is the paper's own of SAMed-2 ({tasks[0].source}); it is no result of "
        "this project.",
        118,
    )
    yield textwrap.fill(
        "The authors list the sources of their training data, not of their external tests: a set that their list does "
        "not name is marked *candidate*.",
        118,
    )
    yield from (_task_table(tasks, which) for which in ("internal", "external"))


def _task_table(tasks: tuple[PublishedTask, ...], which: str) -> str:
    rows = []
    for task in tasks:
        if task.set != which:
            continue
        for number, serving in enumerate(task.served_by):
            dataset = get_dataset(serving.dataset)
            name = task.task + (f" (as {task.same_as})" if task.same_as and task.same_as != task.task else "")
            rows.append(
                (
                    name if number == 0 else "",
                    f"{task.dice:.4f}" if number == 0 else "",
                    _link(dataset.name) + ("" if serving.named else " *candidate*"),
                    ", ".join(serving.objects),
                    f"`{dataset.converter}`",
                    tested_on(dataset),
                    dataset.licence,
                )
            )
    head = (f"{which} task", "published Dice", "data set", "object", "converter", "tested on", "terms")
    return _table(head, rows)


def _named() -> Iterable[str]:
    sources = named_sources()
    yield (
        "## The authors' sources\n\n"
        f"The {len(sources)} sources in `docs/MEDBANK.md` of the authors' repository, and their entries here."
    )
    rows = [(one.source, ", ".join(map(_link, one.datasets)) or "none", one.note) for one in sources]
    yield _table(("source", "entries", "note"), rows)


def _overview(entries: Iterable[Dataset]) -> Iterable[str]:
    yield "## All entries"
    rows = [
        (_link(one.name), one.modality, one.kind, ", ".join(one.objects), f"`{one.converter}`", one.licence)
        for one in entries
    ]
    yield _table(("name", "modality", "kind", "objects", "converter", "licence"), rows)


def _entry(dataset: Dataset) -> str:
    facts = [
        ("objects", ", ".join(f"{name} `{_rule(rule)}`" for name, rule in dataset.objects.items())),
        ("case", dataset.case_rule),
        ("official split", dataset.official_split),
        ("licence", dataset.licence),
        ("terms", dataset.terms),
        ("get it", f"<{dataset.url}>"),
        ("cite", dataset.citation),
        ("files", ", ".join(f"`{pattern}` {count}" for pattern, count in dataset.files.items())),
        ("checksums", ", ".join(f"`{file}` `{digest}`" for file, digest in dataset.checksums.items())),
        ("checked", dataset.verified),
    ]
    lines = [f"### {dataset.name}", "", f"{dataset.title}: {dataset.modality}, {dataset.kind}.", "", "```text"]
    lines += [*dataset.tree.split("\n"), "```", "", *(f"- {name}: {said}" for name, said in facts if said)]
    return "\n".join(lines)


def _rule(rule: object) -> str:
    return "by the file's range" if rule is None else str(rule)


def _link(name: str) -> str:
    return f"[{name}](#{name})"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def main(arguments: list[str]) -> None:
    """Write the page to the file that is named, or print it."""
    if not arguments:
        sys.stdout.write(page())
        return
    from samed2.io.atomic import atomic_write

    atomic_write(arguments[0], page())


if __name__ == "__main__":
    main(sys.argv[1:])
