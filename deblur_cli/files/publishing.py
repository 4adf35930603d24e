"""Files to the Hugging Face Hub: a repository, private unless it is said otherwise, and one commit with all of them."""

import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from deblur_cli import __version__
from deblur_cli.errors import WeightsError
from deblur_cli.files import places, transfer
from deblur_cli.files.places import Place

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_LOG_IN = "Log in with hf auth login, or set HF_TOKEN to a token that may write; HF_ENDPOINT names another Hub."


def upload(repository: str, files: Mapping[str, Path | bytes], *, public: bool, told: Callable[[str], None]) -> str:
    """The commit, 40 hexadecimal digits, that puts ``files`` into ``repository``.

    Args:
        repository: owner and name on the Hub; made if it is not there.
        files: name in the repository to what goes there.
        public: everybody may see it.
        told: called with what is being done.

    Raises:
        WeightsError: the Hub cannot be asked, does not let us, or has a public repository where a private one is wanted.
            Nothing is published then; of a repository that was made for it, the message says how it goes away.
    """
    import huggingface_hub

    from deblur_cli.files import refusals

    if places.is_forbidden():
        raise WeightsError("HF_HUB_OFFLINE forbids to publish.", "Unset HF_HUB_OFFLINE.")
    api = huggingface_hub.HfApi(endpoint=places.endpoint(), library_name="deblur-cli", library_version=__version__)
    where = Place(repository=repository, file="")
    made = False
    try:
        with transfer.quiet(), _without_bars():
            made = _make(api, where, public=public, told=told)
            told(f"uploading {', '.join(files)} to {where.page}")
            operations = [
                huggingface_hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=content)
                for name, content in files.items()
            ]
            done = api.create_commit(repository, operations, commit_message=f"Add {next(iter(files))}")
    except (*refusals.EXPECTED, ValueError) as error:
        refused = _refused(error, where)
        if made:  # to take it away unasked could take away what somebody else has put there meanwhile
            raise WeightsError(
                f"{refused.message} The repository that was made for it is there, and empty.",
                f"{refused.hint} The same again uses it; hf repos delete {repository} removes it, as does "
                f"{where.page}/settings.",
            ) from error
        raise refused from error
    return done.oid


def _make(api: "HfApi", where: Place, *, public: bool, told: Callable[[str], None]) -> bool:
    """Have a repository of the kind that is wanted; whether it was made now."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        private = api.repo_info(where.repository).private
    except RepositoryNotFoundError:
        told(f"making the {'public' if public else 'private'} repository {where.page}")
        api.create_repo(where.repository, private=not public)
        return True
    if not private and not public:
        raise WeightsError(
            f"{where.page} is public: everybody would see the weights.",
            "Say --public if they shall, or another --repo.",
        )
    if private and public:
        told(f"{where.page} is private and stays so; its settings there make it public")
    return False


def _refused(error: Exception, where: Place) -> WeightsError:
    from huggingface_hub.errors import HfHubHTTPError

    from deblur_cli.files import refusals

    found = error
    while isinstance(found, RuntimeError) and isinstance(found.__cause__, Exception):
        found = found.__cause__
    if isinstance(found, HfHubHTTPError) and found.response.status_code in {401, 403, 404}:
        reason = {
            401: "the Hub does not know who you are",
            403: f"you may not write to {where.repository}",
            404: f"there is no owner {where.repository.split('/')[0]}, or not for you",
        }[found.response.status_code]
        return WeightsError(f"Nothing was published at {where.page}: {reason}.", _LOG_IN)
    if isinstance(found, HfHubHTTPError) and found.response.status_code < 500 and found.server_message:
        return WeightsError(
            f"Nothing was published at {where.page}: the Hub says: {found.server_message}", "Mend it, and say it again."
        )
    refusal = refusals.why(found, where)
    return WeightsError(f"Nothing was published at {where.page}: {refusal.reason}.", refusal.hint)


@contextmanager
def _without_bars() -> Generator[None]:
    """Keep the library's bars and its warnings of the model card from the terminal."""
    from huggingface_hub import constants
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    ours = constants.HF_HUB_DISABLE_PROGRESS_BARS is None and not are_progress_bars_disabled()
    if ours:
        disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if ours:
            enable_progress_bars()
