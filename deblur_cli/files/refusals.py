"""Why the Hub gave nothing, in words that help: every exception of its library to a reason and to what to do next.

The library speaks HTTP through httpx, of which its versions bring different ones; their exceptions are known by name.
"""

import errno
import sys
from dataclasses import dataclass
from typing import Any

from huggingface_hub import constants
from huggingface_hub.errors import (
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from deblur_cli.files.places import Place, cache

_TRANSPORT: Any = HfHubHTTPError.__mro__[1]
"""The root of all that the HTTP library raises."""
EXPECTED: tuple[type[Exception], ...] = (OSError, RuntimeError, _TRANSPORT)
"""What a call of the Hub's library raises when something outside is amiss. RuntimeError is what its parallel and Xet
transfers wrap things in."""
SETTINGS: tuple[type[Exception], ...] = (
    ImportError,
    ValueError,
    sys.modules[_TRANSPORT.__module__.partition(".")[0]].InvalidURL,
)
"""What the first request raises when the HTTP library makes nothing of the endpoint or the proxies of the environment."""

_LOG_IN = "Log in with hf auth login, or set HF_TOKEN to a token of https://huggingface.co/settings/tokens"
_AGAIN = "Look at the network and say it again; HF_ENDPOINT names a mirror of the Hub."
_FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}
_CLOSED = {
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
    errno.EROFS: "it is read-only",
} | {
    errno.ENOTDIR: "a file lies where a folder is to be",
    errno.EEXIST: "a file lies where a folder is to be",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no file, as the end of a sentence, and what to do."""

    reason: str
    hint: str
    passing: bool = False
    """It may be over in a moment."""
    here: bool = False
    """It lies with this machine: no other place will help."""
    insisted: bool = False
    """The file was on its way, and the library itself has tried several times to go on."""


def why(error: BaseException, place: Place) -> Refusal:
    """What ``error`` means to somebody who wants the file of ``place``."""
    if isinstance(error, HfHubHTTPError):
        return _answered(error, place)
    if isinstance(error, _TRANSPORT):
        return _unanswered(error)
    if error.__cause__ is not None and isinstance(error, LocalEntryNotFoundError | RuntimeError):
        # The library says "cannot find locally" of a network that failed, and "error while uploading" of a refusal.
        return why(error.__cause__, place)
    if isinstance(error, OSError) and error.errno in _FULL | _CLOSED:
        return _unwritable(error.errno or 0)
    return _odd(error)


def is_silence(error: BaseException) -> bool:
    """Whether nobody answers any more: what all versions of the library wait for, and try again, by themselves."""
    return bool({"TimeoutException", "ConnectError"} & {each.__name__ for each in type(error).__mro__})


def _answered(error: HfHubHTTPError, place: Place) -> Refusal:
    """The Hub said no."""
    status = error.response.status_code
    if status == 401 and "Invalid credentials" in str(error):
        return Refusal("the Hub does not take the token that it was given", f"{_LOG_IN}.")
    private = Refusal(
        f"there is no repository {place.repository}, or it is private",
        f"Look at {place.page}. {_LOG_IN} if it is private.",
    )
    for kind, refusal in (
        (
            GatedRepoError,
            Refusal(
                f"{place.repository} is gated: its authors let in whom they know", f"Ask at {place.page}. {_LOG_IN}."
            ),
        ),
        (RepositoryNotFoundError, private),
        (
            RevisionNotFoundError,
            Refusal(f"{place.repository} has no revision {place.revision}", f"Look at {place.page}/commits/main."),
        ),
        (
            RemoteEntryNotFoundError,
            Refusal(
                f"{place.repository} has no such file at revision {place.revision}", f"Look at {place.page}/tree/main."
            ),
        ),
    ):
        if isinstance(error, kind):
            return refusal
    if status >= 500:
        return Refusal(f"the Hub is out of order (error {status})", _AGAIN, passing=True)
    return {
        401: private,
        403: Refusal("the Hub forbids it (error 403)", f"{_LOG_IN} that may read {place.repository}."),
        404: private,
        429: Refusal(
            "the Hub was asked too often from here (error 429)", "Say it again in some minutes.", passing=True
        ),
    }.get(status, Refusal(f"the Hub answers with error {status}", _AGAIN))


def _unanswered(error: BaseException) -> Refusal:
    """Nobody said anything, or not to the end."""
    said = str(error) or type(error).__name__
    if "CERTIFICATE" in said.upper():
        return Refusal(
            f"its certificate is not trusted here ({said})",
            "Set the clock, or SSL_CERT_FILE to the certificates of your network.",
        )
    told = {
        "ProxyError": Refusal(
            f"the proxy refuses ({said})", "Look at HTTPS_PROXY and HTTP_PROXY, or name the Hub in NO_PROXY."
        ),
        "UnsupportedProtocol": Refusal(
            f"this is no address ({said})", "Set HF_ENDPOINT to one that begins with https://."
        ),
        "ConnectTimeout": Refusal(
            f"nothing answers there within {constants.HF_HUB_ETAG_TIMEOUT:g} s", _AGAIN, passing=True
        ),
        "TimeoutException": Refusal(
            "it fell silent on the way", f"{_AGAIN} HF_HUB_DOWNLOAD_TIMEOUT=60 waits longer.", passing=True
        ),
        "ConnectError": Refusal(f"nothing answers there ({said})", _AGAIN, passing=True),
    }
    kinds = [each.__name__ for each in type(error).__mro__]
    broken = Refusal(f"the connection broke ({said})", _AGAIN, passing=True)
    return next((told[kind] for kind in kinds if kind in told), broken)


def _unwritable(number: int) -> Refusal:
    """The cache takes nothing."""
    full = number in _FULL
    hint = "Free some space, or set HF_HOME to a folder on another disk."
    return Refusal(
        f"the cache '{cache()}' cannot be written: {_FULL[number] if full else _CLOSED[number]}",
        hint if full else "Change its permissions, or set HF_HOME to another folder.",
        here=True,
    )


def _odd(error: BaseException) -> Refusal:
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    if "Consistency check failed" in said:
        return Refusal("less came than was announced", "Say it again.", passing=True)
    if isinstance(error, FileMetadataError):
        return Refusal(
            "what answers there is not the Hub", "Look at HF_ENDPOINT, and at proxies that answer in the Hub's stead."
        )
    return Refusal(said, "Say it again, with HF_HUB_DISABLE_XET=1 in the environment if it stays so.", passing=True)
