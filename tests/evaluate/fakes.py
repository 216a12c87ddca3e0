"""Models for tests: no weights, quick, and honest about what they were asked."""

from __future__ import annotations

import numpy as np

from samed2.evaluate.models.base import MEMORY, PIXELS, PREVIOUS, PROMPTS, PROPAGATE, Proposals
from samed2.io import resolve_window


class Threshold:
    """Bright pixels: inside the boxes, or around the points; a negative point takes its surroundings away."""

    def __init__(self, *more, level=0.5, radius=12, name="threshold"):
        self.name, self.fingerprint = name, f"level {level}"
        self.abilities = frozenset({PROMPTS, PIXELS, *more})
        self.level, self.radius = level, radius
        self.asked, self.memory = [], []

    def predict(self, scan, prompts):
        self.asked.append(prompts.validate(scan))
        found = {}
        for frame in prompts.frames():
            image = resolve_window(scan).apply(scan.frame(frame))
            image = image if image.ndim == 2 else image.mean(axis=2)
            for key, entry in prompts.on_frame(frame).objects.items():
                found[key, frame] = self._answer(image, entry)
        return found

    def _answer(self, image, entry):
        y, x = np.mgrid[: image.shape[0], : image.shape[1]]
        allowed = np.zeros(image.shape, bool)
        for box in entry.boxes:
            allowed |= (y + 0.5 >= box.y0) & (y + 0.5 < box.y1) & (x + 0.5 >= box.x0) & (x + 0.5 < box.x1)
        for mask in entry.masks.values():
            allowed |= mask
        for point in entry.points:
            near = (y - point.y) ** 2 + (x - point.x) ** 2 < self.radius**2
            allowed = allowed | near if point.positive else allowed & ~near
        chance = np.where(allowed, image, 0).astype(np.float32)
        bright = chance > self.level
        return Proposals(np.stack([allowed, bright, ~bright]), np.array([0.5, 0.9, 0.1]), 1, chance)

    def remember(self, support):
        self.memory = list(support)

    def recall(self, scan, frame, task):
        image = resolve_window(scan).apply(scan.frame(frame))
        usual = np.mean([np.count_nonzero(s.mask) for s in self.memory])
        mask = (image > np.sort(image.ravel())[-int(usual)]) if self.memory else np.zeros(image.shape, bool)
        return Proposals(mask[None], np.array([np.mean([s.confidence for s in self.memory])]), 0)

    def propagate(self, scan, prompts):
        (key,) = prompts.objects
        self.asked.append(prompts.validate(scan))
        for frame in range(scan.num_frames):
            image = resolve_window(scan).apply(scan.frame(frame))
            yield frame, {key: Proposals((image > self.level)[None], np.array([0.8]), 0)}


def plain():
    """What loads the model in a worker process."""
    return Threshold()


def able():
    return Threshold(PREVIOUS, MEMORY, PROPAGATE, name="able")


class Broken(Threshold):
    """Fails on one case, or stops the program at one, like Ctrl-C."""

    def __init__(self, shape=(0, 0), stop_after=10**9):
        super().__init__(name="threshold")
        self.shape, self.left = shape, stop_after

    def predict(self, scan, prompts):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        if scan.shape[1:] == self.shape:
            raise RuntimeError("out of luck")
        return super().predict(scan, prompts)


def dying():
    """A model whose process ends at the first question."""
    import os

    model = Threshold()
    model.predict = lambda scan, prompts: os._exit(9)
    return model
