"""A folder of cases being annotated: what is open, proposed, corrected, confirmed, and the files that show it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from samed2.errors import InputError
from samed2.io import Scan, Segmentation, SegmentedObject, read
from samed2.io.atomic import make_folder
from samed2.io.lock import locked
from samed2.predict.annotate import files
from samed2.predict.annotate.bank import open_memory, version_of
from samed2.predict.annotate.cases import choose, digest, find_cases, mark_of
from samed2.predict.annotate.overview import Overview
from samed2.predict.annotate.state import FILE, Entry, State
from samed2.predict.annotate.steps import How, correct, propose, remember, uncertainty
from samed2.predict.predictor import Predictor
from samed2.prompts import Prompts

Extra = tuple[tuple[str, str], ...]
LOCK = ".annotate.lock"
SAVE_SECONDS = 5.0  # between two savings of the memory


@dataclass(frozen=True)
class Done:
    """One case after one step; `problem` says why it failed, `note` what else should be known."""

    name: str
    problem: str = ""
    note: str = ""


class Annotation(Overview):
    """Cases of one folder and one task, with their state in `out` and the memory they feed.

    Every step yields a `Done` per case; the state is written after each, so that an interrupt loses one case at most.
    `out` is locked until `close`, the end of a `with` block, or the end of the process.

    Args:
        predictor: the model; its own memory is not used.
        folder: where the cases are.
        task: what is segmented, and how the memory calls it.
        bank: the memory's file; missing means an empty one.
        out: folder for state, masks and pictures, made when missing.
        extra: (writer, end of the file's name) of further files per case.

    Raises:
        InputError: no cases, another annotation's `out`, one that another process works in, or a memory that does not
            fit the model.
    """

    def __init__(
        self, predictor: Predictor, folder: Path, task: str, bank: Path, out: Path, how: How, extra: Extra = ()
    ) -> None:
        if not task.strip():
            raise InputError("task: is empty; say what is segmented, such as 'liver'")
        self.folder, self.task, self.bank, self.out = folder, task, bank, out
        self.how, self.extra = how, extra
        self._refused: dict[str, str] = {}  # case -> why its correction failed in this run
        self._bank_mark = mark_of(bank) if bank.exists() else ""
        self.memory = open_memory(predictor, bank)
        self.predictor = copy(predictor)  # of its own for the memory; model and cached embeddings are shared
        self.predictor.memory = self.memory
        self.paths = find_cases(folder, [out, bank])
        make_folder(out)
        with ExitStack() as held:
            held.enter_context(locked(out / LOCK))
            files.remove_halves(out)
            self.state = State.open(out / FILE, folder.resolve().name, task)
            self._held = held.pop_all()
        self._saved = time.monotonic()
        for name in self.paths:
            self.state.cases.setdefault(name, Entry())

    def close(self) -> None:
        """Let go of `out`."""
        self._held.close()

    def __enter__(self) -> Annotation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # steps

    def to_propose(self) -> list[str]:
        """The cases that the memory has not been asked about yet, or not since it or something else changed."""
        stale = []
        for name, entry in self.cases.items():
            if entry.status == "proposed" and not self.known:
                continue  # the memory was lost: what it once proposed is better than nothing
            if entry.status in ("open", "proposed") and not self._fresh(name, entry, self._made(self._version)):
                stale.append(name)
        return stale

    def propose(self) -> Iterator[Done]:
        """Let the memory segment what is open; without a memory of the task such cases only get a picture."""
        made = self._made(self._version)
        for name in self.to_propose():
            yield self._try(name, lambda name=name: self._propose(name, made))  # type: ignore[misc]

    def to_correct(self, prompts: Mapping[str, Prompts], where: str = "prompts") -> dict[str, Prompts]:
        """The cases that prompts are about, by name, less those corrected with the same ones before.

        Raises:
            InputError: prompts for something that is no case.
        """
        named = choose(prompts, self.paths, where)
        wanted: dict[str, Prompts] = {}
        for given, name in named.items():
            if name in wanted:
                raise InputError(f"{where}: {given!r} means case {name!r}, which has prompts already; give them once")
            wanted[name] = prompts[given]
        return {name: said for name, said in wanted.items() if not self._is_corrected(name, said)}

    def correct(self, prompts: Mapping[str, Prompts]) -> Iterator[Done]:
        """Segment cases from prompts; keys as `to_correct` gives them. Confirmed cases stay as they are."""
        for name, said in prompts.items():
            if self.state.cases[name].status == "confirmed":
                yield Done(name, note="is confirmed already and stays as it is; --reopen it first")
            else:
                done = self._try(name, lambda name=name, said=said: self._correct(name, said))  # type: ignore[misc]
                if done.problem:
                    self._refused[name] = done.problem
                yield done

    def confirm(self, names: Iterable[str]) -> Iterator[Done]:
        """Take masks as right, as their files hold them now, and write them to the memory.

        The memory is saved every few seconds and at the end, also where it is interrupted.
        """
        done: dict[str, Entry] = {}
        try:
            for name in names:
                entry = self.state.cases[name]
                if entry.status == "confirmed":
                    continue
                try:
                    done[name] = self._remember(name, entry)
                except InputError as error:
                    yield Done(name, str(error))
                    continue
                note = self._note(done[name])
                if time.monotonic() - self._saved > SAVE_SECONDS:
                    self._settle(done)
                yield Done(name, note=note)
        finally:
            self._settle(done)

    def reopen(self, names: Iterable[str]) -> list[str]:
        """Take confirmed cases back, out of the memory too; they count as corrected. Gives those that were."""
        changed = [name for name in names if self.state.cases[name].status == "confirmed"]
        for name in changed:
            self.memory.forget(self._origin(name), self.task)
            entry = self.state.cases[name]
            self.state.cases[name] = replace(entry, status="corrected", remembered=0)
        if changed:
            self.save_memory()
            self.state.save()
        return changed

    def save_memory(self) -> None:
        """Write the memory over its file, unless something else did meanwhile.

        Raises:
            InputError: another program changed it, or it cannot be written.
        """
        with locked(self.bank.with_name(f".{self.bank.name}.lock")):
            known = (mark_of(self.bank) if self.bank.exists() else "") == self._bank_mark
            if known:
                self.memory.save(self.bank)
                self._bank_mark, self._saved = mark_of(self.bank), time.monotonic()
        if not known:
            raise InputError(f"{self.bank}: was changed by something else meanwhile; run the same line again")

    # one case

    def _propose(self, name: str, made: str) -> str:
        scan = self._read(name)
        if not self.known:
            self._keep(name, scan, None, Entry(made=made))
            return ""
        result = propose(self.predictor, scan, self.task, self.how)
        self._keep(name, scan, result, Entry("proposed", uncertainty(result), made=made))
        return "" if result.labels.any() else "nothing was found"

    def _correct(self, name: str, said: Prompts) -> str:
        scan = self._read(name)
        result = correct(self.predictor, scan, said, self.task, self.how)
        said_hash = digest(said.to_json())
        self._keep(name, scan, result, Entry("corrected", uncertainty(result), made=self._made(""), prompts=said_hash))
        return "" if result.labels.any() else "nothing was found"

    def _remember(self, name: str, entry: Entry) -> Entry:
        if not entry.mask:
            raise InputError(f"{name}: has no mask to confirm; correct it with --prompts first")
        scan = self._read(name)
        masks = files.read_mask(self.out / entry.mask, scan)
        kept = remember(self.predictor, scan, masks, self.task, self._origin(name), self.how)
        if files.digest_of(masks) != entry.digest:  # drawn by hand meanwhile
            drawn = Segmentation(
                masks.astype("uint8"), [SegmentedObject(1, self.task)], scan.geometry,
                {"edited": "by hand"}, scan.name, scan.properties,
            )  # fmt: skip
            entry = files.write_case(self.out, entry, scan, drawn, self.how.window, self.extra, mask=False)
        return replace(entry, status="confirmed", remembered=kept, error="")

    def _settle(self, done: dict[str, Entry]) -> None:
        """Save the memory, then what was remembered in it as confirmed, and empty `done`."""
        if done:
            self.save_memory()
            self.state.cases.update(done)
            self.state.save()
            done.clear()

    def _keep(self, name: str, scan: Scan, result: Segmentation | None, entry: Entry) -> None:
        """Write a case's files and put its entry in place of the old one."""
        old = self.state.cases[name]
        entry = replace(entry, stem=old.stem or self._stem(name), source=mark_of(self.paths[name]))
        entry = replace(entry, shape=list(scan.shape), notes=list(scan.warnings), error=self._refused.get(name, ""))
        entry = files.write_case(self.out, entry, scan, result, self.how.window, self.extra)
        self.state.cases[name] = entry
        self.state.save()
        files.remove(self.out, set(old.files) - set(entry.files))

    def _try(self, name: str, step: Any) -> Done:
        try:
            return Done(name, note=step())
        except InputError as error:
            self.state.cases[name] = replace(self.state.cases[name], error=str(error))
            self.state.save()
            return Done(name, str(error))

    def _read(self, name: str) -> Scan:
        return read(self.paths[name], modality=self.how.modality)

    def _origin(self, name: str) -> str:
        return f"{self.state.folder}/{name}"

    def _stem(self, name: str) -> str:
        """The name without its suffix, or with it where another case has that already."""
        taken = {entry.stem for entry in self.state.cases.values()}
        short = files.without_suffix(name)
        return name if short in taken else short

    def _note(self, entry: Entry) -> str:
        if entry.remembered:
            return ""
        if len(self.memory) >= self.memory.capacity:
            return (
                f"the memory is full ({self.memory.capacity} entries) and kept nothing of it; make room with "
                f"`samed2 memory prune {self.bank} --capacity {2 * self.memory.capacity} --out {self.bank}`"
            )
        return "its mask is empty: nothing to remember"

    @property
    def _version(self) -> str:
        return version_of(self.memory, self.task)

    def _made(self, memory: str) -> str:
        how = self.how
        return digest([self.predictor.fingerprint, memory, str(how.window), how.modality, how.looks, how.condition,
                       how.settings, self.extra])  # fmt: skip

    def _fresh(self, name: str, entry: Entry, made: str) -> bool:
        there = all((self.out / file).exists() for file in entry.files) and bool(entry.files)
        return there and not entry.error and entry.made == made and entry.source == mark_of(self.paths[name])

    def _is_corrected(self, name: str, said: Prompts) -> bool:
        entry = self.state.cases[name]
        same = entry.prompts == digest(said.to_json())
        if entry.status == "confirmed":
            return same
        return same and entry.status == "corrected" and self._fresh(name, entry, self._made(""))
