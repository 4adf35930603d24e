"""Weights that others published: found out what they are, opened, or converted to a checkpoint of ours.

    label, net = foreign.open_net(Path("MIMO-UNetPlus.pkl"))

A file that holds one of our nets under its authors' names is of that net, strictly: every name and shape is accounted for.
What else the library ``spandrel`` knows runs through it, where that is installed.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from deblur_cli import __version__, nets
from deblur_cli.errors import WeightsError
from deblur_cli.files import checkpoint, published
from deblur_cli.files.checkpoint import Checkpoint, Label
from deblur_cli.files.origins import ORIGINS, Origin, notice, other
from deblur_cli.files.published import Published, is_published
from deblur_cli.foreign import spandrel_nets
from deblur_cli.foreign.recognition import Near, recognise

__all__ = ["Converted", "convert", "is_published", "load", "notice", "open_net"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Converted:
    """A published checkpoint became one of ours."""

    out: Path
    label: Label
    parameters: int
    notice: str
    """What the user should know of the licence; empty if there is nothing to say."""

    def __str__(self) -> str:
        return f"{self.out}: {self.label.net}, {self.parameters:,} parameters, licence {self.label.licence}"


def load(path: Path) -> Checkpoint:
    """The checkpoint that the published file or folder ``path`` comes to, with a label of ours.

    Raises:
        WeightsError: it cannot be read, or is of none of our nets.
    """
    found = published.read(path)
    made = _ours(path, found)
    if made is None:
        architecture = spandrel_nets.architecture(found.tensors)
        if architecture is None:
            raise _unknown(path, found)
        raise WeightsError(
            f"'{path}' is a {architecture}, which only spandrel can build; it is no net of deblur.",
            f"Restore photos with it as it is: --weights '{path}'.",
        )
    return made


def open_net(path: Path) -> tuple[Label, nn.Module]:
    """Label and net of the published file or folder ``path``, fp32 on the CPU.

    The net has a ``config`` that tells what :class:`deblur_cli.nets.NetConfig` does, and gives a tuple of images.

    Raises:
        WeightsError: it cannot be read, or no net is known for it.
    """
    found = published.read(path)
    made = _ours(path, found)
    if made is not None:
        return made.label, _filled(path, made)
    net = spandrel_nets.build(found.tensors, path)
    if net is None:
        raise _unknown(path, found)
    label = _label(found, f"{spandrel_nets.PREFIX}{net.architecture}", {}, other(net.architecture))
    return label, net


def convert(source: Path, out: Path) -> Converted:
    """Write the published file or folder ``source`` as a checkpoint of ours to ``out``, whole or not at all.

    Two conversions of the same files are the same bytes. A file that is at ``out`` already is replaced.

    Raises:
        WeightsError: the source cannot be read, is of none of our nets, or is one of our checkpoints already.
        InputError: the checkpoint cannot be written.
    """
    if not is_published(source):
        label = checkpoint.read_label(source)
        raise WeightsError(f"'{source}' is a checkpoint of deblur already, of the net {label.net}.", "Use it as it is.")
    made = load(source)
    net = _filled(source, made)
    checkpoint.save(made, out)
    parameters = sum(values.numel() for values in net.parameters())  # what layers share has several names in a file
    return Converted(out=out, label=made.label, parameters=parameters, notice=notice(made.label))


def _ours(path: Path, found: Published) -> Checkpoint | None:
    """The checkpoint, if it is of one of our nets; None if it is not even near one."""
    known = recognise({name: tuple(values.shape) for name, values in found.tensors.items()})
    if known is None:
        return None
    if isinstance(known, Near):
        if spandrel_nets.architecture(found.tensors) is not None:
            return None
        raise WeightsError(
            f"'{path}' looks like a {ORIGINS[known.net].title}, but is none that deblur can build: {known.wrong}.",
            "Give the authors' own file.",
        )
    label = _label(found, known.net, nets.to_mapping(known.config), ORIGINS[known.net])
    return Checkpoint(label=label, tensors={name: _single(values) for name, values in found.tensors.items()})


def _single(values: Tensor) -> Tensor:
    """As it is if a checkpoint of ours can hold it, else in float32."""
    return values if values.dtype in {torch.float32, torch.bfloat16, torch.float16} else values.float()


def _label(found: Published, net: str, config: dict[str, object], origin: Origin) -> Label:
    sums = "; ".join(f"{name} sha256 {digest}" for name, digest in sorted(found.sums.items()))
    return Label(
        net=net,
        config=config,
        made_with=f"deblur {__version__}, from what the authors of {origin} published",
        licence=origin.licence,
        trained_on="by the authors of the net; the file does not say on which photographs",
        notes=f"Made from {sums}.",
    )


def _filled(path: Path, made: Checkpoint) -> nn.Module:
    """The net with the checkpoint's tensors."""
    with torch.random.fork_rng(devices=[]):  # building draws random weights; the caller's dice stay as they are
        net = nets.build(made.label.net, made.label.config)
    net.load_state_dict(dict(made.tensors))
    # A weight that several layers share has a name in each, and in a file each name could have a value of its own.
    for name, values in net.state_dict().items():
        if not torch.equal(values, made.tensors[name].to(values.dtype)):
            raise WeightsError(
                f"'{path}' contradicts itself: {name} has another value than its net's other layers, which share it.",
                "Fetch it anew.",
            )
    return net


def _unknown(path: Path, found: Published) -> WeightsError:
    if not found.tensors.keys().isdisjoint(("layer1.weight", "layer24.weight")):
        return WeightsError(f"'{path}' looks like one part of a DMPHN.", "Give the folder with its six or eight files.")
    if spandrel_nets.is_installed():
        hint = "Give a checkpoint of one of these, or of a net that spandrel knows."
    else:
        hint = "Give a checkpoint of one of these, or say pip install 'deblur-cli[spandrel]', which knows many more."
    return WeightsError(
        f"'{path}' holds tensors ({len(found.tensors)}, the first is {next(iter(found.tensors))}), but is none of "
        f"{', '.join(origin.title for origin in ORIGINS.values())}.",
        hint,
    )
