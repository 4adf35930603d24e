"""Files of weights from the Hugging Face Hub: in the cache, whole, and the ones that are meant.

The file is pinned to its commit, so that one that is there needs no request. What comes is compared with the SHA-256 of its
row before anybody opens it; a file that was named by its address alone, with the sum that the Hub itself gave. If the first
place fails, the mirror is asked.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from deblur_cli.errors import WeightsError
from deblur_cli.files import places, transfer
from deblur_cli.files.places import Place
from deblur_cli.files.transfer import Fetching, Noted, Told, Wanted, fault

if TYPE_CHECKING:
    from deblur_cli.files.refusals import Refusal

__all__ = ["Fetching", "Noted", "Told", "Wanted", "bring", "fault"]

_PAUSE = 1.0
"""Seconds before the second try of a network that failed."""


def bring(wanted: Wanted, *, offline: bool = False, anew: bool = False, told: Told | None = None) -> Path:
    """The file in the cache, fetched if need be.

    Args:
        wanted: which one.
        offline: ask nobody.
        anew: fetch it again if the one in the cache was changed.
        told: called with what happens.

    Raises:
        WeightsError: it is not here and cannot be fetched, or is not the one that is meant.
    """
    forbidden = offline or places.is_forbidden()
    spoilt = ""
    for place in wanted.places:
        path = places.cached(place)
        if path is None:
            continue
        if wrong := fault(path, wanted):
            spoilt = (
                spoilt or f"The weights '{wanted.name}' are not those that are meant: '{path}' was changed; {wrong}."
            )
        elif place.pinned or wanted.sha256 or forbidden:
            # A branch may have moved, but a file whose sum is known is right wherever it comes from.
            return path
    if spoilt and (forbidden or not anew):
        raise WeightsError(spoilt, f"Say deblur weights pull {wanted.name} to fetch them anew.")
    if forbidden:
        raise _absent(wanted, "--offline" if offline else "HF_HUB_OFFLINE")
    return _fetch(wanted, anew=bool(spoilt), told=told or _silent)


def _absent(wanted: Wanted, forbidding: str) -> WeightsError:
    where = " or ".join(str(place) for place in wanted.places)
    undo = "unset HF_HUB_OFFLINE" if forbidding == "HF_HUB_OFFLINE" else "leave out --offline"
    return WeightsError(
        f"The weights '{wanted.name}' ({where}) are not in the cache '{places.cache()}', and {forbidding} forbids to fetch "
        "them.",
        f"Say deblur weights pull {wanted.name} where there is a network, or {undo}.",
    )


def _fetch(wanted: Wanted, *, anew: bool, told: Told) -> Path:
    """Ask one place after the other, and all once more where it may have been a moment's trouble."""
    refused: dict[Place, Refusal] = {}
    waiting = list(wanted.places)
    for pause in (0, _PAUSE):
        time.sleep(pause)
        for place in waiting:
            found = transfer.pull(place, wanted, anew=anew, told=told)
            if isinstance(found, Path):
                return found
            refused[place] = found
            if found.here:
                raise _failed(wanted, {place: found})
            if place != wanted.places[-1]:
                told(Noted(f"{place.url}: {found.reason}; asking the mirror"))
        waiting = [place for place in waiting if refused[place].passing and not refused[place].insisted]
        if not waiting:
            break
    if kept := _kept(wanted, refused, told):
        return kept
    raise _failed(wanted, refused)


def _kept(wanted: Wanted, refused: "dict[Place, Refusal]", told: Told) -> Path | None:
    """What a branch held when it was last seen, if nothing but the network stands between."""
    (place, refusal), *_ = refused.items()
    path = places.cached(place)
    if place.pinned or not refusal.passing or path is None or fault(path, wanted):
        return None
    commit = path.relative_to(places.cache()).parts[2]
    told(Noted(f"{place.url} cannot be asked: {refusal.reason}; taking {wanted.name} as of commit {commit}."))
    return path


def _failed(wanted: Wanted, refused: "dict[Place, Refusal]") -> WeightsError:
    (first, refusal), *others = refused.items()
    message = f"The weights '{wanted.name}' cannot be fetched from {first.url}: {refusal.reason}."
    for place, other in others:
        message += f" Nor from the mirror {place.url}: {other.reason}."
    return WeightsError(message, refusal.hint)


def _silent(_event: Fetching | Noted) -> None:
    """Tell nobody."""
