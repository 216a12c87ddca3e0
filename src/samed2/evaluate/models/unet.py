"""MONAI U-Nets as a yardstick: no prompt but the task, the whole frame at once.

A specialist knows one task, a generalist has a channel for each. The task is the name (or the text) of the prompted
object, "DATASET/OBJECT".
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.evaluate.models.base import PIXELS, PROMPTS, Proposals
from samed2.evaluate.models.caches import ScanCache, Windows
from samed2.evaluate.models.options import Options, read_options
from samed2.evaluate.models.plain import FrameByFrame
from samed2.evaluate.models.unet_config import UNetConfig, load_network, unet_folders
from samed2.io import Scan, Window
from samed2.nn.weights import fingerprint
from samed2.predict.device import autocast, resolve_device, resolve_precision
from samed2.predict.zoom import OUTSIDE_LOGIT, as_tensor, paste, sample, three_channels, whole_view
from samed2.prompts import ObjectPrompts, Prompts

CACHED_FRAMES = 8
LEAST_SPREAD = 1e-3


class UNetOptions(Options):
    """Settings of U-Nets.

    Attributes:
        in_box: keep only what lies in the object's boxes on the frame, where it has any: the help that a box gives.
    """

    in_box: bool = False


def load_unet(weights: str, device: str, settings: dict[str, Any], name: str) -> UNetSegmenter | Specialists:
    """A U-Net from a folder that `samed2.train.unet.train_unet` wrote, or all those in the folders of a folder.

    Raises:
        InputError: see `load_network` and `read_options`, or two networks have learned the same task.
    """
    options = read_options(UNetOptions, settings, name)
    members = [UNetSegmenter(*load_network(folder), device, options, name) for folder in unet_folders(weights)]
    return members[0] if len(members) == 1 else Specialists(members, name)


class UNetSegmenter(FrameByFrame):
    """A `Segmenter` that takes from the prompts only which task is asked for, and on which frames."""

    def __init__(
        self,
        network: torch.nn.Module,
        config: UNetConfig,
        device: str | torch.device | None = None,
        options: UNetOptions | None = None,
        name: str = "",
    ) -> None:
        self.options = options or UNetOptions()
        self.device = resolve_device(device)
        self.dtype = resolve_precision(self.options.precision, self.device)
        self.network = network.to(self.device).eval()
        self.config = config
        self.name = name or f"unet-{config.network}"
        self.fingerprint = fingerprint(network)
        self.abilities = frozenset({PROMPTS, PIXELS})  # it takes prompts, if only for the task and the frame
        self._windows = Windows(self.options.window)
        self._answers: ScanCache[torch.Tensor] = ScanCache(CACHED_FRAMES)

    def predict(self, scan: Scan, prompts: Prompts) -> dict[tuple[int, int], Proposals]:
        """One proposal by (object id, frame), without a confidence.

        Raises:
            InputError: prompts that do not fit the scan, or a task that the network was not trained on.
        """
        prompts = prompts.validate(scan)
        window = self._windows.of(scan)
        tasks = self.config.tasks
        channels = {n: tasks.index(known_task(n, entry, tasks, self.name)) for n, entry in prompts.objects.items()}
        found = {}
        for frame in prompts.frames():
            for number, entry in prompts.on_frame(frame).objects.items():
                logits = self._logits(scan, frame, window, channels[number])
                if self.options.in_box and entry.boxes:
                    logits = np.where(inside_boxes(entry, logits.shape), logits, np.float32(OUTSIDE_LOGIT))
                probability = torch.from_numpy(logits).sigmoid().numpy()
                found[number, frame] = Proposals(logits[None] > 0, np.array([np.nan]), 0, probability)
        return found

    @torch.inference_mode()
    def _logits(self, scan: Scan, frame: int, window: Window, channel: int) -> NDArray[np.float32]:
        """(H, W) logits of one channel."""
        view = whole_view(scan.height, scan.width, self.config.size)

        def make() -> torch.Tensor:
            seen = sample(three_channels(as_tensor(window.apply(scan.frame(frame)))), view)
            pixels = normalised(seen, sample(torch.ones(1, scan.height, scan.width), view))
            with autocast(self.device, self.dtype):
                return self.network(pixels[None].to(self.device))[0].float().cpu()

        answer = self._answers.get(scan, (frame, window), make)[channel : channel + 1]
        return paste(answer, view, scan.height, scan.width)[0].numpy()


class Specialists(FrameByFrame):
    """A `Segmenter` of several U-Nets, each of which answers for the tasks that it was trained on."""

    def __init__(self, members: Sequence[UNetSegmenter], name: str = "") -> None:
        self.name = name or "unet-specialists"
        self.fingerprint = hashlib.sha256("".join(member.fingerprint for member in members).encode()).hexdigest()
        self.abilities = members[0].abilities
        self._by_task: dict[str, UNetSegmenter] = {}
        for member in members:
            for task in member.config.tasks:
                if task in self._by_task:
                    raise InputError(f"{self.name}: two of its networks were trained on {task}; remove one")
                self._by_task[task] = member

    def predict(self, scan: Scan, prompts: Prompts) -> dict[tuple[int, int], Proposals]:
        """As `UNetSegmenter.predict`."""
        found: dict[tuple[int, int], Proposals] = {}
        for number, entry in prompts.objects.items():
            task = known_task(number, entry, self._by_task, self.name)
            found |= self._by_task[task].predict(scan, Prompts({number: entry}))
        return found


def known_task(number: int, entry: ObjectPrompts, tasks: Collection[str], model: str) -> str:
    """The task that an object's name or text says.

    Raises:
        InputError: the model was not trained on it.
    """
    for task in (entry.name, entry.text):
        if task is not None and task in tasks:
            return task
    said = entry.name or entry.text
    got = f"task {said!r}" if said else "no task (the object's name)"
    raise InputError(f"object {number}: got {got}, {model} was trained on {', '.join(tasks)}")


def normalised(pixels: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """(3, S, S) less the mean over the frame, over its standard deviation; 0 outside the frame.

    Args:
        inside: (1, S, S) share of each pixel that the frame covers.
    """
    weight = inside.sum().clamp(min=1) * 3
    mean = (pixels * inside).sum() / weight
    spread = (((pixels - mean).square() * inside).sum() / weight).sqrt()
    return (pixels - mean) / spread.clamp(min=LEAST_SPREAD) * inside


def inside_boxes(entry: ObjectPrompts, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The (H, W) pixels whose centres lie in any box of an object."""
    y, x = np.arange(shape[0])[:, None] + 0.5, np.arange(shape[1])[None, :] + 0.5
    mask = np.zeros(shape, dtype=bool)
    for box in entry.boxes:
        mask |= (y >= box.y0) & (y < box.y1) & (x >= box.x0) & (x < box.x1)
    return mask
