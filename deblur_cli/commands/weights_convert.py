"""Weights that others published, to a checkpoint of ours: no pickle any more, and a label."""

from deblur_cli import foreign
from deblur_cli.files import disk, exported, hub, weights
from deblur_cli.options.weights import ConvertOptions


def run(options: ConvertOptions, *, told: hub.Told) -> foreign.Converted:
    """Convert a file, a folder, or weights by name, which are fetched if need be.

    Args:
        options: what was said.
        told: called with the progress of a download, and with what the user should know of the weights, once.

    Raises:
        UsageError: something is at the output already.
        WeightsError: there are no such weights, they cannot be read, or are of none of our nets.
        InputError: the output cannot be written.
    """
    out = disk.at_home(options.output)
    if not options.overwrite:
        disk.check_free(out)
    found = weights.find(options.source, listed=options.weights_list, offline=options.offline, told=told)
    exported.refuse(found.path)
    made = foreign.convert(found.path, out)
    if made.notice and not (found.entry and found.entry.non_commercial):  # or its row has told it just now
        told(hub.Noted(made.notice))
    return made
