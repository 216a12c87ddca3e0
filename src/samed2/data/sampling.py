"""Which clips a training step sees: pure functions of (seed, step, row), so resuming and splitting are exact."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from samed2.data.cases import Case
from samed2.data.frames import Column, FrameTable
from samed2.data.tree import Tree
from samed2.errors import InputError

MIN_PIXELS = 12  # smaller specks are not asked for
SIZE_EDGES = (0.001, 0.01, 0.1)  # shares of the frame between size classes
GROUP_TRIES = 8
DRAW, TASK, SUPPORT, BATCH, RENDER, UNSEEN = 1, 2, 3, 4, 5, 6  # first word of a generator's seed: what is drawn with it


@dataclass(frozen=True)
class Clip:
    """Some frames of one case with one object.

    Attributes:
        frames: in true order, of a stream in the order of the visit; where the case ends, its first or last frame is
            repeated.
        middle: the frame the clip was drawn for, on which the object is; of a stream the first.
        total: frames of the case.
        key: what everything random about it is made from.
    """

    case: Case
    object: str
    frames: tuple[int, ...]
    middle: int
    key: tuple[int, ...]
    total: int = 1

    @property
    def patient(self) -> str:
        """What tells whether two clips show the same person."""
        return f"{self.case.dataset}/{_patient(self.case)}"

    @property
    def task(self) -> str:
        """ "DATASET/OBJECT"."""
        return self.case.task(self.object)


def clip_frames(middle: int, length: int, total: int) -> tuple[int, ...]:
    """`length` neighbouring frame numbers around `middle` of a case with `total` frames, ends repeated."""
    first = middle - length // 2
    return tuple(min(max(first + i, 0), total - 1) for i in range(length))


# What is drawn with equal chance, first to last, before case and frame: columns of whole numbers.
Levels = Callable[[FrameTable], list[Column]]
BALANCES: dict[str, Levels] = {
    "task": lambda table: [],
    "modality": lambda table: [_modalities(table)],
    "size": lambda table: [np.digitize(table.share, SIZE_EDGES).astype(np.int64)],
}


class Sampler:
    """Draws clips of a table of frames, lazily: nothing is read.

    Args:
        balance: "task": every task equally often; "modality": every modality, then every task of it; "size": every
            class of object size (below 0.1 %, 1 %, 10 % of the frame, and above), then every task with such objects.
            Then every case of the task, then every frame with the object.
        frames: T, the frames of a clip.
        power: exponent on the number of cases of a task: 0 draws tasks equally often, 1 cases.
        weights: factors by task name ("DATASET/OBJECT").
        min_pixels: frames with less of the object are not drawn.
        chances: above 0, by row of the table: a case is drawn among those of its task in proportion to that of its
            first row; None: equally often.

    Raises:
        InputError: an unknown balance or task, chances that are not above 0, or nothing to draw from.
    """

    def __init__(
        self,
        table: FrameTable,
        balance: str = "task",
        *,
        frames: int = 1,
        seed: int = 0,
        power: float = 0.0,
        weights: Mapping[str, float] | None = None,
        min_pixels: int = MIN_PIXELS,
        chances: NDArray[np.float64] | None = None,
    ) -> None:
        if balance not in BALANCES:
            raise InputError(f"balance: got {balance!r}, wanted one of {', '.join(BALANCES)}")
        if frames < 1:
            raise InputError(f"frames: got {frames}, wanted at least 1")
        self.table, self.balance, self.frames, self.seed = table, balance, frames, seed
        self.power, self.weights, self.min_pixels = power, dict(weights or {}), min_pixels
        for name, value in self.weights.items():
            if name not in table.tasks or not value >= 0:
                raise InputError(f"weights: got {name}: {value}, wanted 0 or more for some of {', '.join(table.tasks)}")
        if chances is not None and not (len(chances) == len(table) and np.all(chances > 0)):
            raise InputError(f"chances: got {len(chances)}, wanted one above 0 for each of {len(table)} rows")
        self.chances = chances
        wanted = np.array([self.weights.get(task, 1.0) > 0 for task in table.tasks], dtype=bool)
        self._large = (table.pixels >= min_pixels) & wanted[table.task]
        self._trees: dict[tuple[str | None, bool], Tree] = {}
        self._by_patient: dict[str, dict[str, dict[int, Column]]] = {}
        self._tree(None, False)  # an empty table is an error now, not at the first step

    @property
    def tasks(self) -> list[str]:
        """All tasks of the table; some may have nothing to draw."""
        return self.table.tasks

    @cached_property
    def has_stacks(self) -> bool:
        """Whether a volume or video can be drawn."""
        return bool((self._large & self._is_stack).any())

    def draw(
        self,
        step: int,
        rows: int,
        *,
        rank: int = 0,
        world: int = 1,
        frames: int | None = None,
        task: str | None = None,
        stacks: bool = False,
    ) -> list[Clip]:
        """The clips of a step: of `rows` in the global batch those of process `rank` of `world`, rank::world.

        Args:
            frames: instead of the sampler's own.
            task: only this one.
            stacks: only volumes and videos.

        Raises:
            InputError: fewer rows than processes, or nothing to draw from.
        """
        if not 0 <= rank < world <= rows:
            raise InputError(f"rows: got {rows} for process {rank} of {world}, wanted at least one for each")
        tree = self._tree(task, stacks)
        length = self.frames if frames is None else frames
        clips = []
        for row in range(rank, rows, world):
            place = tree.draw(np.random.default_rng([DRAW, self.seed, step, row]))
            clips.append(self._clip(place, length, (self.seed, step, row)))
        return clips

    def draw_groups(
        self,
        step: int,
        groups: int,
        size: int,
        *,
        rank: int = 0,
        world: int = 1,
        frames: int = 1,
        stacks: bool = False,
    ) -> list[Clip]:
        """Groups of up to `size` clips of one task and, as far as there are, of different patients.

        Process `rank` of `world` makes groups rank::world. Tasks with one patient are drawn only where there are no
        others. Arguments as for `draw`.

        Raises:
            InputError: fewer groups than processes, or nothing to draw from.
        """
        if not 0 <= rank < world <= groups:
            raise InputError(f"groups: got {groups} for process {rank} of {world}, wanted at least one for each")
        tree = self._tree(None, stacks)
        clips = []
        for group in range(rank, groups, world):
            rng = np.random.default_rng([TASK, self.seed, step, group])
            for _ in range(GROUP_TRIES):
                first = self._clip(tree.draw(rng), frames, (self.seed, step, group))
                if len(self._patients(first.task)) > 1:
                    break
            clips += [first, *self.support(first, size - 1, step, frames)]
        return clips

    def draw_streams(
        self, step: int, rows: int, length: int, *, rank: int = 0, world: int = 1, task: str | None = None
    ) -> list[Clip]:
        """Frames of volumes and videos in the order of a visit: either direction, every first to third frame.

        Half of them start so near to the object's end that it is passed, where the case goes on behind it.
        Other arguments and errors as for `draw`.
        """
        if not 0 <= rank < world <= rows:
            raise InputError(f"rows: got {rows} for process {rank} of {world}, wanted at least one for each")
        tree = self._tree(task, True)
        clips = []
        for row in range(rank, rows, world):
            rng = np.random.default_rng([DRAW, self.seed, step, row])
            clips.append(self._stream(tree.draw(rng), length, rng, (self.seed, step, row)))
        return clips

    def _stream(self, place: int, length: int, rng: np.random.Generator, key: tuple[int, ...]) -> Clip:
        table = self.table
        case, task = int(table.case[place]), int(table.task[place])
        low, high = np.searchsorted(self._runs, (place, place), side="right")
        rows = np.arange(self._runs[low - 1], self._runs[high])
        shown = table.frame[rows][self._large[rows]]
        start, total = int(table.frame[place]), int(table.shapes[case, 0])
        toward = int(rng.choice((-1, 1)))
        stride = min(int(rng.integers(1, 4)), max(1, (total - 1) // (length - 1)))
        present = set(table.frame[rows].tolist())
        last = start
        while last + toward in present:
            last += toward
        early = last - toward * stride * int(rng.integers(0, length - 1))
        if rng.random() < 0.5 and early in shown and 0 <= last + toward < total:
            start = early
        frames = tuple(min(max(start + toward * stride * i, 0), total - 1) for i in range(length))
        return Clip(table.cases[case], self.tasks[task].split("/", 1)[1], frames, start, key, total)

    @cached_property
    def _runs(self) -> Column:
        """Where the rows of each case and task begin, and the number of rows."""
        table = self.table
        new = np.flatnonzero((np.diff(table.case) != 0) | (np.diff(table.task) != 0)) + 1
        return np.concatenate([[0], new, [len(table)]])

    def support(self, clip: Clip, k: int, step: int, frames: int = 1) -> list[Clip]:
        """Up to k other cases of the clip's task, none of its patient; every other patient once before one again.

        Their middle frames are drawn from those with the object. Fewer clips where the task has fewer cases.
        """
        if k < 1:
            return []
        word = zlib.crc32(f"{clip.task}|{clip.case.name}|{clip.middle}".encode())
        rng = np.random.default_rng([SUPPORT, self.seed, step, word])
        found = self._patients(clip.task)
        others = [cases for patient, cases in found.items() if patient != _patient(clip.case)]
        clips = []
        for number, case in enumerate(_in_turn(others, k, rng, self.chances)):
            rows = found[_patient(self.table.cases[case])][case]
            clips.append(self._clip(int(rng.choice(rows)), frames, (*clip.key, word, number + 1)))
        return clips

    def _clip(self, place: int, length: int, key: tuple[int, ...]) -> Clip:
        table = self.table
        case, middle = int(table.case[place]), int(table.frame[place])
        name = self.tasks[table.task[place]].split("/", 1)[1]
        total = int(table.shapes[case, 0])
        return Clip(table.cases[case], name, clip_frames(middle, length, total), middle, key, total)

    def _patients(self, task: str) -> dict[str, dict[int, Column]]:
        """Of one task: patient -> index of the case -> rows of the table, in the table's order."""
        if task not in self._by_patient:
            found: dict[str, dict[int, Column]] = {}
            rows = np.flatnonzero(self._large & (self.table.task == self.tasks.index(task)))
            cases, starts = np.unique(self.table.case[rows], return_index=True)
            for case, part in zip(cases.tolist(), np.split(rows, starts[1:]), strict=True):
                found.setdefault(_patient(self.table.cases[case]), {})[case] = part
            self._by_patient[task] = found
        return self._by_patient[task]

    @cached_property
    def _is_stack(self) -> NDArray[np.bool_]:
        return np.array([case.kind != "image" for case in self.table.cases], dtype=bool)[self.table.case]

    def _tree(self, task: str | None, stacks: bool) -> Tree:
        """The places of one task (None: all), only of volumes and videos where asked; made once."""
        if (task, stacks) not in self._trees:
            table, chosen = self.table, self._large.copy()
            if stacks:
                chosen &= self._is_stack
            if task is not None:
                if task not in self.tasks:
                    raise InputError(f"task: got {task!r}, wanted one of {', '.join(self.tasks)}")
                chosen &= table.task == self.tasks.index(task)
            if not chosen.any():
                of = f" of {task}" if task else ""
                what = "volume or video" if stacks else "frame"
                raise InputError(f"nothing to draw: no {what}{of} has an object of {self.min_pixels} pixels or more")
            levels = BALANCES[self.balance](table)
            columns = [*levels, table.task, table.case, table.frame]
            self._trees[(task, stacks)] = Tree(columns, np.flatnonzero(chosen), len(levels), self._weigh, self.chances)
        return self._trees[(task, stacks)]

    def _weigh(self, task: int, cases: int) -> float:
        return float(cases**self.power * self.weights.get(self.tasks[task], 1.0))


def _modalities(table: FrameTable) -> Column:
    names = sorted({case.modality for case in table.cases})
    number = np.array([names.index(case.modality) for case in table.cases], dtype=np.int64)
    return np.asarray(number[table.case])


def _patient(case: Case) -> str:
    return case.patient or case.name


def _in_turn(
    groups: list[dict[int, Column]], k: int, rng: np.random.Generator, chances: NDArray[np.float64] | None
) -> list[int]:
    """Up to k keys: one of each group in random order, then a second one of each, and so on.

    With chances, by row, those of keys and groups with a higher one (of a group the mean) mostly come first.
    """
    if chances is None:
        queues = [rng.permutation(list(groups[i])).tolist() for i in rng.permutation(len(groups))]
    else:
        weights = [np.array([chances[rows[0]] for rows in group.values()]) for group in groups]
        order = _shuffled(np.array([w.mean() for w in weights]), rng)
        queues = [np.array(list(groups[i]))[_shuffled(weights[i], rng)].tolist() for i in order]
    longest = max((len(queue) for queue in queues), default=0)
    return [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)][:k]


def _shuffled(weights: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.intp]:
    """All places in random order, as if drawn one after another in proportion to their weights."""
    return np.argsort(rng.exponential(size=len(weights)) / weights)
