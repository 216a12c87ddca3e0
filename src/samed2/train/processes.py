"""One process or many: devices, gradients averaged over processes, mixed precision. Built on accelerate."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import broadcast_object_list
from torch.distributed.tensor import DTensor

from samed2.data.samples import Batch, BatchPlan
from samed2.nn import SAMed2Model
from samed2.predict.device import PRECISIONS, autocast, resolve_device
from samed2.train.recipe import LossRecipe
from samed2.train.sharding import drop_idle, reached, shard
from samed2.train.steps import step_loss


class StepModule(torch.nn.Module):
    """A training step as the forward pass of a module, as wrappers of several processes need it."""

    def __init__(self, model: SAMed2Model, weights: LossRecipe, sharded: bool = False) -> None:
        super().__init__()
        self.model, self.weights, self.sharded = model, weights, sharded
        self.used: set[str] = set()  # parameters that a gradient reached since `Processes.settle`

    def forward(
        self, batch: Batch, plan: BatchPlan, rng: np.random.Generator, step: int = 0
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """See `samed2.train.steps.step_loss`."""
        loss, figures = step_loss(self.model, batch, plan, self.weights.at(step), rng)
        return self._alike(loss) if self.sharded else loss, figures

    def _alike(self, loss: torch.Tensor) -> torch.Tensor:
        """The loss with a zero gradient for parameters that only other processes may use: all must have the same."""
        found = reached(loss)
        for name, parameter in self.named_parameters():
            if id(parameter) in found or isinstance(parameter, DTensor):  # blocks, here not gathered, are always used
                self.used.add(name)
            elif parameter.requires_grad:
                loss = loss + 0.0 * parameter.sum()
        return loss


class Processes:
    """This process among those that train together; alone where nothing was launched.

    Args:
        device: "auto", "cpu", "cuda"; with several processes each takes its own GPU.
        precision: "fp32", "bf16" or "fp16".
        sharded: spread weights, gradients and optimizer state over the processes, where there are several.
    """

    def __init__(self, device: str, precision: str, sharded: bool = False) -> None:
        cpu = resolve_device(device).type != "cuda"
        unused = DistributedDataParallelKwargs(find_unused_parameters=True)  # episodes use different parts
        self.accelerator = Accelerator(cpu=cpu, kwargs_handlers=[unused])
        given = self.accelerator.device
        self.device = torch.device("cpu") if given.type == "cpu" else given  # not "cpu:0": torch.load knows no such
        self.dtype = PRECISIONS[precision]
        self.sharded = sharded and self.world > 1
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")  # type: ignore[attr-defined]

    @property
    def rank(self) -> int:
        """Number of this process."""
        return self.accelerator.process_index

    @property
    def world(self) -> int:
        """How many processes there are."""
        return self.accelerator.num_processes

    @property
    def first(self) -> bool:
        """Whether this process writes files and messages."""
        return self.accelerator.is_main_process

    def wrap(self, model: SAMed2Model, weights: LossRecipe) -> torch.nn.Module:
        """The training step of a model on this process's device, its gradients averaged over all processes."""
        module = StepModule(model.to(self.device), weights, self.sharded)
        if self.sharded:
            shard(module, model.vision_encoder.backbone.blocks, self.device, self.world)
            return module
        wrapped: torch.nn.Module = self.accelerator.prepare(module)
        return wrapped

    def autocast(self) -> AbstractContextManager:
        """The precision to compute in."""
        return autocast(self.device, self.dtype)

    def apart(self, module: torch.nn.Module, last: bool) -> AbstractContextManager:
        """Gradients stay in this process but for the last batch of a step."""
        if self.sharded:
            module.set_requires_gradient_sync(last)  # type: ignore[operator]
            return nullcontext()
        return nullcontext() if last else self.accelerator.no_sync(module)

    def settle(self, module: torch.nn.Module) -> None:
        """Make gradients what they would be without sharding, before they are used."""
        if self.sharded and isinstance(module, StepModule):
            drop_idle(module, module.used)
            module.used.clear()

    def agree(self, value: Any) -> Any:
        """The first process's value, in all."""
        if self.world == 1:
            return value
        held = [value]
        broadcast_object_list(held)
        return held[0]
