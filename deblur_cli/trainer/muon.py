"""Muon: momentum whose singular values are evened out, for the filters of a net; AdamW for everything else.

Source: Jordan et al. Muon: An optimizer for hidden layers in neural networks (2024), the quintic iteration and Nesterov
momentum; Liu et al. Muon is Scalable for LLM Training, arXiv 2502.16982, section 2.2, the scale that makes a rate mean
what it means to AdamW. torch.optim.Muon takes matrices only; here a filter (out, in, h, w) is the matrix (out, in * h * w),
and filters of one shape are treated in one go.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

_QUINTIC = (3.4445, -4.7750, 2.0315)
_ROUNDS = 5
_REST = 0.3
"""Factor of the rate for what AdamW moves: nets without normalisation diverge at the rates that Muon can bear."""
_IMAGE = 12
"""Most channels of an image at the border of a net, pixel-unshuffled once: layers that touch it stay with AdamW."""


class MuonAdamW:
    """Both optimisers as one, with the face of torch's: groups of filters by Muon, the other groups by AdamW.

    Args:
        groups: dicts with ``params``, perhaps ``factor`` of the learning rate, and whatever else the caller wants to find
            again in ``param_groups``.
        weight_decay: of both, decoupled.
        momentum: of Muon.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], *, weight_decay: float, momentum: float = 0.95) -> None:
        filters: list[dict[str, Any]] = []
        others: list[dict[str, Any]] = []
        for group in groups:
            for target, wanted in ((filters, True), (others, False)):
                chosen = [p for p in group["params"] if _is_filter(p) is wanted]
                if chosen:
                    factor = group.get("factor", 1.0) * (1.0 if wanted else _REST)
                    target.append({**group, "params": chosen, "factor": factor})
        self._filters = _Muon(filters, weight_decay=weight_decay, momentum=momentum)
        self._others = torch.optim.AdamW(
            others, lr=torch.finfo(torch.float32).tiny, betas=(0.9, 0.999), weight_decay=weight_decay, fused=True
        )
        self.param_groups = [*self._filters.param_groups, *self._others.param_groups]

    @property
    def found_inf(self) -> Tensor | None:
        """Where this is 1, a step changes nothing."""
        return getattr(self._others, "found_inf", None)

    @found_inf.setter
    def found_inf(self, broken: Tensor) -> None:
        self._filters.broken = broken
        self._others.found_inf = broken  # type: ignore[attr-defined]

    def step(self) -> None:
        """Change the parameters by their gradients."""
        self._filters.step()
        self._others.step()

    def zero_grad(self, *, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        self._filters.zero_grad(set_to_none=set_to_none)
        self._others.zero_grad(set_to_none=set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Of both."""
        return {"filters": self._filters.state_dict(), "others": self._others.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`."""
        self._filters.load_state_dict(state["filters"])
        self._others.load_state_dict(state["others"])
        self.param_groups = [*self._filters.param_groups, *self._others.param_groups]


class _Muon(torch.optim.Optimizer):
    """Muon over filters; every step of every shape in one batch of matrices."""

    broken: Tensor | None = None

    def __init__(self, groups: list[dict[str, Any]], *, weight_decay: float, momentum: float) -> None:
        # torch wants one parameter at least; a net of vectors alone has no filters.
        nothing = {"params": [nn.Parameter(torch.zeros(1, 1))], "factor": 1.0}
        super().__init__(groups or [nothing], {"lr": 0.0})
        self._weight_decay = weight_decay
        self._momentum = momentum

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002 - torch's signature
        """Change the filters by their gradients."""
        for group in self.param_groups:
            shapes: dict[tuple[int, int], list[nn.Parameter]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes.setdefault((len(parameter), parameter[0].numel()), []).append(parameter)
            for shape, parameters in shapes.items():
                self._step_shape(parameters, shape, group["lr"])

    def _step_shape(self, parameters: list[nn.Parameter], shape: tuple[int, int], rate: float) -> None:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        trails = [self._trail(parameter) for parameter in parameters]
        keep = 1.0 if self.broken is None else 1 - self.broken
        if self.broken is not None:
            gradients = [torch.where(self.broken > 0, torch.zeros_like(g), g) for g in gradients]
        ahead = []
        for trail, gradient in zip(trails, gradients, strict=True):
            trail.lerp_(gradient, 1 - self._momentum)
            ahead.append(gradient.lerp(trail, self._momentum).reshape(shape))
        even = _even_out(torch.stack(ahead))
        scale = 0.2 * max(shape) ** 0.5
        for parameter, change in zip(parameters, even, strict=True):
            update = change.view(parameter.shape) * scale + self._weight_decay * parameter
            parameter.sub_(update * (rate * keep))

    def _trail(self, parameter: nn.Parameter) -> Tensor:
        state = self.state[parameter]
        if "trail" not in state:
            state["trail"] = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
        return state["trail"]


def _is_filter(parameter: Tensor) -> bool:
    return parameter.dim() == 4 and min(parameter.shape[:2]) > _IMAGE


def _even_out(matrices: Tensor) -> Tensor:
    """The nearest (N, rows, columns) with all singular values near 1, in float32; computed in bfloat16."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    first, second, third = _QUINTIC
    for _ in range(_ROUNDS):
        square = torch.bmm(x, x.mT)
        mixed = torch.baddbmm(square, square, square, beta=second, alpha=third)
        x = torch.baddbmm(x, mixed, x, beta=first)
    return (x.mT if tall else x).float()
