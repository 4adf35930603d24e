"""A net in training: one step at a time, without ever asking the device for a number in between."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from deblur_cli.errors import UsageError
from deblur_cli.pixels.losses import Losses
from deblur_cli.trainer.crew import Crew
from deblur_cli.trainer.muon import MuonAdamW
from deblur_cli.trainer.plan import Plan
from deblur_cli.trainer.sources import Batch

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""The precisions that are not float32."""


Objective = Callable[Concatenate[nn.Module, Tensor, Tensor, ...], Losses]
"""What a net is trained for: its losses on a :data:`~deblur_cli.trainer.sources.Batch`. Who is given kernels too takes a third
tensor."""


class Learner:
    """The net, the average of its weights, its optimiser, and the sums since they were last read."""

    def __init__(
        self,
        net: nn.Module,
        objective: Objective,
        plan: Plan,
        crew: Crew,
        rate_of: Callable[[str], float] | None = None,
    ) -> None:
        self.net = net.to(device=crew.device).to(memory_format=torch.channels_last).train()
        self.average = copy.deepcopy(self.net).eval().requires_grad_(requires_grad=False)
        self._plan = plan
        self._crew = crew
        self._device = crew.device
        self._trained: list[Tensor] = [parameter for parameter in self.net.parameters() if parameter.requires_grad]
        self._averages: list[Tensor] = [
            mean
            for mean, parameter in zip(self.average.parameters(), self.net.parameters(), strict=True)
            if parameter.requires_grad
        ]
        self._factors = {
            name: rate_of(name) if rate_of else 1.0
            for name, parameter in self.net.named_parameters()
            if parameter.requires_grad
        }
        self._optimiser = _optimiser(_groups(self.net, self._factors), plan)
        self._scaler = torch.amp.GradScaler(crew.device.type, enabled=plan.precision == "fp16")
        if plan.compile:
            _compile(self.net)
        self._losses_of = crew.wrapped(_Graded(self.net, objective))
        self._names: tuple[str, ...] = ()
        self._sums = torch.zeros(0, device=self._device)
        self._counts = torch.zeros(3, device=self._device)  # good steps since read, skipped in all, skipped in a row

    @property
    def parameters(self) -> int:
        """How many numbers are trained."""
        return sum(parameter.numel() for parameter in self._trained)

    def step(self, batch: Batch, step: int) -> None:
        """Take the step number ``step`` (from 0); a step without a finite gradient changes nothing but the count."""
        for group in self._optimiser.param_groups:
            group["lr"] = self._plan.rate_at(step) * group["factor"]
        half = HALF.get(self._plan.precision)
        with torch.autocast(self._device.type, half or torch.bfloat16, enabled=half is not None):
            losses = self._losses_of(*batch)
        self._scaler.scale(losses["total"]).backward()
        if self._scaler.is_enabled():
            self._scaler.unscale_(self._optimiser)
        gradients = [parameter.grad for parameter in self._trained if parameter.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        broken = norm.isfinite().logical_not().float()
        if self._plan.clip:
            nn.utils.clip_grads_with_norm_(self._trained, self._plan.clip, norm)
        if not self._scaler.is_enabled():
            # The fused kernel leaves everything alone where this is 1; the scaler hands over its own.
            self._optimiser.found_inf = broken  # type: ignore[attr-defined]
        self._scaler.step(self._optimiser)
        self._scaler.update()
        self._optimiser.zero_grad(set_to_none=True)
        self._blend(step)
        self._count(losses, norm, broken)

    def read(self) -> tuple[dict[str, float], int, int]:
        """Mean losses (and ``gradient``) since the last call over the crew, steps skipped in all, and in a row."""
        good, skipped, row = self._counts.tolist()
        sums = self._crew.sum(self._sums.clone()) / self._crew.size
        means = (sums / self._counts[0]).tolist() if good else [float("nan")] * len(self._names)
        self._sums.zero_()
        self._counts[0] = 0
        return dict(zip(self._names, means, strict=True)), int(skipped), int(row)

    def settle(self) -> nn.Module:
        """The averaged net, its buffers those of the net in training."""
        for mean, buffer in zip(self.average.buffers(), self.net.buffers(), strict=True):
            mean.copy_(buffer)
        return self.average

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, as tensors and plain values."""
        return {
            "net": self.net.state_dict(),
            "average": self.settle().state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "scaler": self._scaler.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else None,
            "names": list(self._names),
            "sums": self._sums,
            "counts": self._counts,
            "factors": self._factors,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`state`.

        Raises:
            UsageError: it is of another optimiser, or trains other parameters.
        """
        factors: Mapping[str, float] = state.get("factors", self._factors)
        if factors.keys() != self._factors.keys():
            raise UsageError(
                "The run trains other parameters.", "Say or leave out --freeze-prior and --freeze-motion as it began."
            )
        self._factors = dict(factors)  # those of a run that began from a checkpoint; a resumed one need not name it
        self._optimiser = _optimiser(_groups(self.net, self._factors), self._plan)
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        try:
            self._optimiser.load_state_dict(state["optimiser"])
        except (KeyError, ValueError) as error:
            raise UsageError(
                f"The run has another optimiser than {self._plan.optimiser}, or trains other parameters.",
                "Say --optimiser, --freeze-prior and --freeze-motion as it began, or begin anew with --init from its "
                "last.safetensors.",
            ) from error
        for group in self._optimiser.param_groups:  # what this run was told goes before what the state holds
            group["weight_decay"] = self._plan.weight_decay
        if self._scaler.is_enabled() and state["scaler"]:
            self._scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"])
        if self._device.type == "cuda" and state["random_cuda"] is not None:
            torch.cuda.set_rng_state(state["random_cuda"], self._device)
        self._names = tuple(state["names"])
        self._sums = state["sums"].to(self._device)
        self._counts = state["counts"].to(self._device)

    def _blend(self, step: int) -> None:
        # Early averages would otherwise remember the untrained net for thousands of steps.
        decay = min(self._plan.average, (1 + step) / (10 + step)) if self._plan.average else 0.0
        get_ema_multi_avg_fn(decay)(self._averages, self._trained, 0)

    def _count(self, losses: Mapping[str, Tensor], norm: Tensor, broken: Tensor) -> None:
        names = (*losses, "gradient")
        if names != self._names:
            self._names, self._sums = names, torch.zeros(len(names), device=self._device)
        values = torch.stack([value.detach().float() for value in (*losses.values(), norm)])
        self._sums += torch.where(broken > 0, torch.zeros_like(values), values)
        self._counts[0] += 1 - broken
        self._counts[1] += broken
        self._counts[2] = (self._counts[2] + broken) * broken


class _Graded(nn.Module):
    """The net and its objective as one module, so that DistributedDataParallel sees every way through the net."""

    def __init__(self, net: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.net = net
        self._objective: Sequence[Objective] = (objective,)  # in a tuple: a frozen teacher is no part of this module

    def forward(self, *batch: Tensor) -> dict[str, Tensor]:
        """``total`` first, then every term."""
        losses = self._objective[0](self.net, *batch)
        return {"total": losses.total, **losses.terms}


def _groups(net: nn.Module, factors: Mapping[str, float]) -> list[dict[str, Any]]:
    """The trained parameters by the factor of their learning rate."""
    groups: dict[float, list[nn.Parameter]] = {}
    for name, factor in factors.items():
        groups.setdefault(factor, []).append(net.get_parameter(name))
    return [{"params": parameters, "factor": factor} for factor, parameters in groups.items()]


def _optimiser(groups: list[dict[str, Any]], plan: Plan) -> Any:
    if plan.optimiser == "muon":
        return MuonAdamW(groups, weight_decay=plan.weight_decay)
    tiny = torch.finfo(torch.float32).tiny  # every step sets its own rate
    kind = torch.optim.Adam if plan.optimiser == "adam" else torch.optim.AdamW
    return kind(groups, lr=tiny, betas=plan.betas, weight_decay=plan.weight_decay, fused=True)


def _compile(net: nn.Module) -> None:
    net.compile()
    for name in ("forward_with_prior", "forward_with_motion"):
        also = getattr(net, name, None)
        if also is not None:
            net.__dict__[name] = torch.compile(also)
