"""Weights that others published, to a checkpoint of ours: no pickle any more, and a label."""

from pathlib import Path

from deblur_cli import foreign
from deblur_cli.errors import InputError
from deblur_cli.files import exported, hub, weights
from deblur_cli.options.weights import ConvertOptions


def run(options: ConvertOptions, *, told: hub.Told) -> foreign.Converted:
    """Convert a file, a folder, or weights by name, which are fetched if need be.

    Raises:
        WeightsError: there are no such weights, they cannot be read, or are of none of our nets.
        InputError: something is at the output already, or it cannot be written.
    """
    out = Path(options.output).expanduser()
    if out.exists() and not options.overwrite:
        raise InputError(f"'{out}' is there already.", "Say --overwrite to replace it, or another -o FILE.")
    source = weights.locate(options.source, listed=options.weights_list, offline=options.offline, told=told)
    exported.refuse(source)
    return foreign.convert(source, out)
