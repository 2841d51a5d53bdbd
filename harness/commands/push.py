"""Pushing exported SAEs to the Hugging Face hub, with its own token: HF_TOKEN, or that of `hf auth login`."""

from __future__ import annotations

import re
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from harness.commands.export import CARD
from harness.errors import UserError
from harness.secrets import remember_token

if TYPE_CHECKING:
    from huggingface_hub import HfApi

NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
REASONS = {
    401: "the hub does not accept the token: hf auth login, or HF_TOKEN",
    403: "the token may not write there",
    404: "there is no such repository, or the token may not see it",
}


def push_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="what `harness export` has written")
    parser.add_argument("repository", metavar="OWNER/NAME", help="the model repository on the hub")
    parser.add_argument(
        "--public", action="store_true", help="let everybody see the repository (default: it is private)"
    )
    parser.add_argument(
        "--update", action="store_true", help="add a commit to a repository that exists (default: make a new one)"
    )


def push(options: Namespace, console: Console) -> None:
    if not NAME.fullmatch(options.repository):
        raise UserError(f"{options.repository!r}: expected OWNER/NAME")
    files = _files(options.folder)
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    if not (token := get_token()):
        raise UserError("expected a token of the Hugging Face hub: hf auth login, or HF_TOKEN")
    remember_token(token)
    hub = HfApi(token=token)
    with _one_line(options.repository):
        _repository(hub, options)
    operations = [
        CommitOperationAdd(path.relative_to(options.folder).as_posix(), path_or_fileobj=path) for path in files
    ]
    again = "" if options.update else "; the repository is there now: to try again, add --update"
    with _one_line(options.repository, again):
        hub.create_commit(options.repository, operations, commit_message=f"Add {len(files)} files by harness push")
    seen_by = "public" if options.public else "private"
    console.print(f"{hub.endpoint}/{options.repository}: {len(files)} files ({seen_by})", soft_wrap=True)


def _files(folder: Path) -> list[Path]:
    """The model card and the files of each SAE, and nothing else that may lie there. Raises UserError."""
    from harness.training.interchange.formats import files_of

    if not folder.is_dir():
        raise UserError(f"{folder}: expected a folder that `harness export` has written")
    saes = [place for place in (folder, *sorted(folder.iterdir())) if place.is_dir() and files_of(place)]
    if not saes or not (folder / CARD).is_file():
        raise UserError(f"{folder}: expected {CARD} and an SAE, as `harness export` writes them")
    cards = [place / CARD for place in {folder: None, **dict.fromkeys(saes)} if (place / CARD).is_file()]
    return [*cards, *(place / name for place in saes for name in files_of(place))]


def _repository(hub: HfApi, options: Namespace) -> None:
    """Make it; or see that it is as visible as the user thinks. Raises UserError."""
    if not options.update:
        hub.create_repo(options.repository, private=not options.public, exist_ok=False)
        return
    is_public = not hub.model_info(options.repository).private
    if is_public and not options.public:
        raise UserError(f"{options.repository}: it is public: to add to it all the same, say --public")
    if options.public and not is_public:
        raise UserError(f"{options.repository}: --public: it is private, which only the hub's own settings change")


@contextmanager
def _one_line(repository: str, more: str = "") -> Iterator[None]:
    """Raise UserError for whatever the hub or the way to it refuses."""
    from httpx2 import HTTPError  # what the hub's client uses
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        yield
    except HfHubHTTPError as failure:
        status = failure.response.status_code
        exists = "it exists already: choose another name, or --update to add a commit to it"
        said = f"the hub answered {status}: {_first_line(failure.server_message or failure)}"
        reason = exists if status == 409 and not more else REASONS.get(status, said)
        raise UserError(f"{repository}: {reason}{more}") from None
    except OfflineModeIsEnabled:
        raise UserError(f"{repository}: HF_HUB_OFFLINE is set: unset it to push") from None
    except (HTTPError, OSError, HFValidationError) as failure:
        raise UserError(f"{repository}: {_first_line(failure) or type(failure).__name__}{more}") from None


def _first_line(failure: object) -> str:
    return str(failure).strip().partition("\n")[0]
