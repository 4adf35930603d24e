"""What torch's exporter to ONNX cannot say yet, or says wrongly, of nets whose sizes are not fixed."""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

_ATEN: Any = torch.ops.aten


def simplified(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The same graph without the operation of which an optimiser makes nonsense: a division into parts of unknown size."""
    return program.run_decompositions({_ATEN.split.Tensor: _split})


def table() -> Mapping[Any, Callable[..., Any]]:
    """Operations to what stands for them in ONNX. Needs onnxscript."""
    from onnxscript import opset18

    op: Any = opset18

    def remainder(self: Any, other: Any) -> Any:
        """Of whole numbers, with the sign of ``other``; the exporter's own takes no ``other`` that depends on a size."""
        return op.Mod(self, op.CastLike(other, self))

    def shifted(self: Any, other: int) -> Any:
        """A size halved ``other`` times; the exporter's own takes tensors only."""
        return op.Div(self, op.Constant(value_int=1 << other))

    return {_ATEN.remainder.Scalar: remainder, operator.rshift: shifted}


def _split(image: Tensor, size: int, dim: int = 0) -> list[Tensor]:
    """``image`` in parts of ``size``, the last one maybe shorter."""
    length = image.shape[dim]
    count = int(-(-length // size))
    return [image.narrow(dim, part * size, min(size, length - part * size)) for part in range(count)]
