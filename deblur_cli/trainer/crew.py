"""The processes that train together: one alone, or as many as torchrun started."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from deblur_cli.errors import DeviceError


@dataclass(frozen=True, slots=True)
class Crew:
    """This process among its peers."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def writes(self) -> bool:
        """One process alone writes files and tells what happens."""
        return self.rank == 0

    def shard(self, batch: int) -> range:
        """The slots of a batch that are this process's own.

        Raises:
            DeviceError: the batch cannot be dealt out evenly.
        """
        if batch % self.size:
            raise DeviceError(
                f"A batch of {batch} cannot be shared by {self.size} processes.",
                f"Choose --batch {self.size * max(1, batch // self.size)}.",
            )
        return range(self.rank, batch, self.size)

    def wrapped(self, module: nn.Module) -> nn.Module:
        """The module with its gradients averaged over the crew."""
        if self.size == 1:
            return module
        return DistributedDataParallel(module, device_ids=[self.device] if self.device.type == "cuda" else None)

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of everybody's ``values``."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def any(self, *, flag: bool) -> bool:
        """Whether anybody raised the flag."""
        if self.size == 1:
            return flag
        votes = torch.tensor(float(flag), device=self.device)
        distributed.all_reduce(votes, op=distributed.ReduceOp.MAX)
        return bool(votes.item())

    def wait(self) -> None:
        """Until everybody is here."""
        if self.size > 1:
            distributed.barrier()


@contextmanager
def gathered(device: torch.device) -> Generator[Crew]:
    """This process's crew: that of torchrun where its variables are set, else one alone."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or not distributed.is_available():
        yield Crew(device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Crew(device, distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
