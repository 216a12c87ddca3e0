"""The house rules no single module can keep: import arrows, torch-free parts, no running of foreign data.

Imports are read from the syntax tree, so lazy imports inside functions count too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[1] / "src" / "samed2"
MODULES = sorted(SRC.rglob("*.py"))

BASE = {"io", "prompts"}
CORE = BASE | {"memory", "nn", "methods", "predict"}
ALLOWED: dict[str, set[str]] = {
    "io": set(),
    "prompts": {"io"},
    "memory": BASE,
    "nn": BASE,
    "methods": BASE | {"memory", "nn"},
    "predict": BASE | {"memory", "nn", "methods"},
    "data": CORE,
    "evaluate": CORE | {"data"},
    "train": CORE | {"data", "evaluate"},
    "serve": CORE,
    "cli": CORE | {"data", "evaluate", "train", "serve"},
}
OPEN_TO_ALL = {"errors", "allocation", "__init__"}
TORCH = {"torch", "transformers", "safetensors", "accelerate", "peft", "monai"}
TORCH_FREE = {"io", "prompts", "errors", "allocation", "__init__"}
RUNS_WHAT_IT_READS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}


def _name(path: Path) -> str:
    return path.relative_to(SRC).as_posix()


def _package(path: Path) -> str:
    """Return the top-level part that a module belongs to: "io", "nn", or the module's own name."""
    parts = path.relative_to(SRC).parts
    return parts[0] if len(parts) > 1 else path.stem


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted module) of every import in a file, relative ones made absolute."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    here = ("samed2", *path.relative_to(SRC).parts[:-1])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(here[: len(here) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            if module == "samed2":
                yield from ((node.lineno, f"samed2.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, module


def _calls(path: Path) -> Iterator[tuple[ast.Call, str]]:
    """Yield (call, dotted name of what is called) for every call in a file, "" where it has no plain name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func) if isinstance(node.func, ast.Name | ast.Attribute) else ""


def _is_true(call: ast.Call, keyword: str) -> bool:
    given = {k.arg: k.value for k in call.keywords}.get(keyword)
    return isinstance(given, ast.Constant) and given.value is True


def _lazy_exports() -> dict[str, str]:
    import samed2

    return samed2._LAZY


def test_every_part_has_its_place() -> None:
    parts = {_package(path) for path in MODULES}
    unknown = parts - set(ALLOWED) - OPEN_TO_ALL - {"__main__"}
    assert not unknown, f"give {sorted(unknown)} a row in ALLOWED, and in docs/architecture.md"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_imports_follow_the_arrows(path: Path) -> None:
    part = _package(path)
    if part in {"__init__", "__main__"}:
        return  # the top module only names the others: their import is checked by test_import_cost
    allowed = ALLOWED.get(part, set()) | OPEN_TO_ALL | {part}
    public = _lazy_exports()
    wrong = []
    for line, module in _imports(path):
        words = module.split(".")
        if words[0] != "samed2":
            continue
        target = words[1] if len(words) > 1 else "__init__"
        if target in public or target == "__version__":
            target = public.get(target, "samed2.__init__").split(".")[1]
        if target not in allowed:
            wrong.append(f"line {line}: {part} imports {module}")
    assert not wrong, f"{_name(path)}: {wrong}"


@pytest.mark.parametrize("path", [p for p in MODULES if _package(p) in TORCH_FREE], ids=_name)
def test_reading_and_prompts_need_no_torch(path: Path) -> None:
    wrong = [f"line {line}: {module}" for line, module in _imports(path) if module.split(".")[0] in TORCH]
    assert not wrong, f"{_name(path)} must not import {wrong}"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_nothing_runs_what_it_reads(path: Path) -> None:
    wrong = [f"line {n}: import {m}" for n, m in _imports(path) if m.split(".")[0] in RUNS_WHAT_IT_READS]
    for call, name in _calls(path):
        if name in {"eval", "exec", "__import__"}:
            wrong.append(f"line {call.lineno}: {name}()")
        if name == "torch.load" and not _is_true(call, "weights_only"):
            wrong.append(f"line {call.lineno}: torch.load without weights_only=True")
        if name in {"np.load", "numpy.load"} and _is_true(call, "allow_pickle"):
            wrong.append(f"line {call.lineno}: np.load with allow_pickle=True")
        if name in {"yaml.load", "yaml.unsafe_load", "yaml.full_load"}:
            wrong.append(f"line {call.lineno}: {name}, use yaml.safe_load")
    assert not wrong, f"{_name(path)}: {wrong}"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_every_module_defers_annotations(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if any(isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AnnAssign) for node in ast.walk(tree)):
        assert "__future__" in {module for _, module in _imports(path)}, _name(path)
