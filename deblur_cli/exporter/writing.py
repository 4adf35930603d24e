"""A net as a file that other programs run, and such a file read again."""

import json
import logging
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deblur_cli import nets
from deblur_cli.errors import InputError, UsageError
from deblur_cli.exporter.translations import simplified, table
from deblur_cli.files import checkpoint, exported, graph

_NAMES = ("blurred", "restored")
"""Of input and output."""
_OPSET = 18
"""Of ONNX: what torch writes without translating it again, so that its versions write alike."""
_EXAMPLE = (5, 7)
"""Height and width, in multiples, of the image that a net is traced with: unlike each other, and no powers of two."""
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16}

Restore = Callable[[Tensor], Tensor]
"""(1, 3, H, W) float32 in [0, 1] to the same."""


class _Final(nn.Module):
    """The final image alone, out of all that a net gives."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, blurred: Tensor) -> Tensor:
        return self.net(blurred)[0]


def check_libraries(sort: str) -> None:
    """Refuse, before any work, what cannot be done for want of a library.

    Raises:
        UsageError: it is ONNX, and one of its libraries is not installed.
    """
    if sort != "onnx":
        return
    try:
        import onnx
        import onnxruntime
        import onnxscript
    except ImportError as error:
        raise UsageError(
            f"Exporting to ONNX needs {error.name}, which is not installed.",
            "Install it with: pip install 'deblur-cli[onnx]'",
        ) from error
    del onnx, onnxruntime, onnxscript


def rounded(net: nn.Module, facts: exported.Facts) -> nn.Module:
    """``net`` itself in fp32, or a copy of it with the weights in the precision of ``facts``."""
    if facts.precision == "fp32":
        return net
    copy = nets.build(facts.label.net, facts.label.config)
    copy.load_state_dict(net.state_dict())
    return copy.eval().requires_grad_(requires_grad=False).to(_DTYPES[facts.precision])


def write(net: nn.Module, facts: exported.Facts, path: Path, sort: str) -> Restore:
    """Write ``net`` to ``path`` and read it again: what came out of the file.

    Args:
        net: in evaluation mode, on the CPU, its weights in the precision of ``facts``.
        facts: become the file's metadata; they say for what sizes it is made.
        path: of the file, with the suffix of its format.
        sort: ``onnx``, ``pt2`` or ``safetensors``.
    """
    return {"onnx": _onnx, "pt2": _pt2, "safetensors": _safetensors}[sort](net, facts, path)


def traced(net: nn.Module, facts: exported.Facts) -> torch.export.ExportedProgram:
    """The graph of ``net``, for one size or for all multiples."""
    unit = facts.multiple_of
    if facts.tile:
        example = torch.zeros(1, 3, facts.tile, facts.tile)
        return _anonymous(torch.export.export(_Final(net), (example,), strict=False))
    height, width = (
        unit * torch.export.Dim(name, min=1) if unit > 1 else torch.export.Dim(name) for name in ("h", "w")
    )
    example = torch.zeros(1, 3, _EXAMPLE[0] * unit, _EXAMPLE[1] * unit)
    shapes = ({2: height, 3: width},)
    return _anonymous(torch.export.export(_Final(net), (example,), dynamic_shapes=shapes, strict=False))


def _anonymous(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The graph without the lines of source that it was traced from: they would tell the folders of this machine."""
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)
    return program


def _onnx(net: nn.Module, facts: exported.Facts, path: Path) -> Restore:
    with _quiet():
        program: Any = torch.onnx.export(
            _anonymous(simplified(traced(net, facts))),
            dynamo=True,
            opset_version=_OPSET,
            verbose=False,
            custom_translation_table=dict(table()),
            input_names=_NAMES[:1],
            output_names=_NAMES[1:],
        )
        program.model.metadata_props.update(exported.to_texts(facts))
        program.save(path, external_data=False)
    again = graph.load(path)
    return lambda image: torch.from_numpy(again(image.numpy()))


def _pt2(net: nn.Module, facts: exported.Facts, path: Path) -> Restore:
    with _quiet():
        texts = json.dumps(exported.to_texts(facts), sort_keys=True)
        whole = BytesIO()  # torch's own writer tells a full disk as a mistake of its own
        torch.export.save(traced(net, facts), whole, extra_files={exported.ENTRY: texts})
        path.write_bytes(whole.getvalue())
        module = torch.export.load(path).module()

    def restore(image: Tensor) -> Tensor:
        with torch.inference_mode():
            return module(image)

    return restore


def _safetensors(net: nn.Module, facts: exported.Facts, path: Path) -> Restore:
    state = checkpoint.Checkpoint(label=facts.label, tensors=net.state_dict())
    try:
        checkpoint.save(state, path, facts=exported.to_texts(facts))
    except InputError as error:
        if isinstance(error.__cause__, OSError):  # whoever asked names the file that was asked for
            raise error.__cause__ from None
        raise
    read = checkpoint.load(path)
    again = nets.build(read.label.net, read.label.config)
    again.load_state_dict(dict(read.tensors))
    again.eval()

    def restore(image: Tensor) -> Tensor:
        with torch.inference_mode():
            return again(image)[0]

    return restore


@contextmanager
def _quiet() -> Generator[None]:
    """Without what the libraries tell their developers: whether the result is right is checked, not hoped for."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
