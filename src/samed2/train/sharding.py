"""Weights, gradients and the optimizer's state spread over processes (FSDP), and put together again for files.

What is written is whole, so that a run goes on in any number of processes, sharded or not.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def shard(module: nn.Module, blocks: nn.ModuleList, device: torch.device, world: int) -> None:
    """Give every process its part of all parameters, in place; blocks are gathered when used, the rest at once."""
    mesh = init_device_mesh(device.type, (world,))
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)


def reached(loss: torch.Tensor) -> set[int]:
    """The ids of the tensors that a loss will give a gradient to."""
    found, seen, left = set(), set(), [loss.grad_fn]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if (leaf := getattr(node, "variable", None)) is not None:
            found.add(id(leaf))
        left += [following for following, _ in node.next_functions]
    return found


def drop_idle(module: nn.Module, used: set[str]) -> None:
    """Take the gradient from parameters that no process used: they are not moved, as without sharding."""
    named = [(name, p) for name, p in module.named_parameters() if p.grad is not None]
    counts = torch.tensor([name in used for name, _ in named], dtype=torch.int32, device=named[0][1].device)
    dist.all_reduce(counts, dist.ReduceOp.MAX)
    for (_, parameter), count in zip(named, counts.tolist(), strict=True):
        if not count:
            parameter.grad = None


def local(value: torch.Tensor) -> torch.Tensor:
    """This process's part of a tensor, sharing its memory."""
    return value.to_local() if isinstance(value, DTensor) else value


def whole(values: Any) -> Any:
    """Nested dicts and lists with their tensors put together; every process must ask."""
    if isinstance(values, dict):
        return {key: whole(value) for key, value in values.items()}
    if isinstance(values, list):
        return [whole(value) for value in values]
    return values.full_tensor() if isinstance(values, DTensor) else values


def spread(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A whole tensor as another one is spread."""
    if isinstance(like, DTensor) and value.shape == like.shape:
        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
    return value


def spread_optimizer(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """A whole optimizer state as the optimizer's parameters are spread."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    moments = {
        index: {name: spread(v, parameters[index]) if isinstance(v, torch.Tensor) else v for name, v in held.items()}
        for index, held in state["state"].items()
    }
    return {**state, "state": moments}
