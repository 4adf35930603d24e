"""Whose scores or speed a table tells: what its rows are called, and their checkpoints."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from deblur_cli.files import disk, hub, weights
from deblur_cli.scorer import ablation


class Words(Protocol):
    """What was said of the weights."""

    @property
    def ablation(self) -> str | None:
        """The folder of an ablation's checkpoints, in place of :attr:`weights`."""
        ...

    @property
    def weights(self) -> Sequence[str]:
        """Names, paths and addresses."""
        ...

    @property
    def weights_list(self) -> str | None:
        """A list of the user's own."""
        ...

    @property
    def offline(self) -> bool:
        """Ask no network."""
        ...


def find(words: Words, told: hub.Told | None) -> Mapping[str, Path]:
    """Every row to its checkpoint, in order; ``told`` is told of downloads.

    Raises:
        InputError: the folder holds no ablation.
        WeightsError: there are no such weights, or they cannot be fetched.
    """
    if words.ablation:
        return ablation.find(disk.at_home(words.ablation))
    return weights.locate_all(words.weights, listed=words.weights_list, offline=words.offline, told=told)
