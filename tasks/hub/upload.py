"""Sending an exported judge to a repository of the Hugging Face hub, in one commit.

    preview = look(api, "owner/name", None, exported.final, card)      nothing is sent
    url = send(api, preview, private=False, message="…")               the repository is created if missing, then one commit

Large files go first; the commit that makes all files visible is the last request. An upload that is broken off before it leaves
the repository as it was, and large files that have arrived are not sent again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from data.sources.source import HUB
from data.store.artifacts import Artifact
from tasks.hub.card import CARD
from tasks.hub.exported import PushError

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

_MAIN = "main"
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
"""Files of an earlier judge in the repository that this one replaces under other names: loaders would mix the two."""


class UploadError(RuntimeError):
    """An upload that was broken off; the message says what that leaves."""


@dataclass(frozen=True)
class Preview:
    """What would be sent where. `files` maps a name in the repository to a path on this machine, or to the content itself.

    `visibility` is that of an existing repository, None for one to be created; `replaced` are the files of these names that are
    there already, `removed` those that are deleted.
    """

    repository: str
    revision: str
    user: str
    files: Mapping[str, Path | bytes]
    visibility: str | None
    has_revision: bool
    replaced: tuple[str, ...]
    removed: tuple[str, ...]

    @property
    def sizes(self) -> dict[str, int]:
        """The bytes of each file."""
        return {
            name: len(file) if isinstance(file, bytes) else file.stat().st_size for name, file in self.files.items()
        }


def repository_of(target: str) -> str:
    """The repository named by ``hub:owner/name``. Raises PushError for anything else."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # documented, but not re-exported

    name = target.removeprefix(HUB)
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise PushError(f"{target!r} is no name on the hub ({error}): give hub:owner/name") from error
    if not target.startswith(HUB) or name.count("/") != 1:
        raise PushError(f"{target!r} is no name on the hub: give hub:owner/name, such as hub:me/my-judge")
    return name


def look(
    api: HfApi, repository: str, revision: str | None, final: Artifact, card: str, private: bool = False
) -> Preview:
    """What would be sent; asks the hub who this is and what it has, and sends nothing.

    Raises PushError if the hub cannot be reached, refuses the token, or does not let its user write there, and if `private` is
    asked for a repository that is public.
    """
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    revision = revision or _MAIN
    files: dict[str, Path | bytes] = {name: final.path / name for name in sorted(final.manifest.files)}
    files[CARD] = card.encode()
    user = _user(api)
    try:
        api.auth_check(repository, write=True)
        try:
            found, has_revision = api.model_info(repository, revision=revision), True
        except RevisionNotFoundError:
            found, has_revision = api.model_info(repository), False  # a branch begins with what the main one has
    except RepositoryNotFoundError:
        return Preview(repository, revision, user, files, None, False, (), ())
    except HfHubHTTPError as error:
        raise PushError(_refusal(error, repository, user)) from error
    if private and not found.private:
        raise PushError(
            f"{repository} exists and is public: leave out --private, or make it private in its settings on the hub first"
        )
    there = {file.rfilename for file in found.siblings or ()}
    removed = sorted(name for name in there - files.keys() if any(fnmatch(name, weights) for weights in _WEIGHTS))
    visibility = "private" if found.private else "public"
    return Preview(
        repository, revision, user, files, visibility, has_revision, tuple(sorted(there & files.keys())), tuple(removed)
    )


def send(api: HfApi, preview: Preview, private: bool, message: str) -> str:
    """Sends the files; returns the commit's URL. A new repository is public, or as its organization sets it, if not `private`.

    Raises PushError if the repository may not be created, or the hub refuses the card's metadata: nothing was sent then.
    Raises UploadError if the upload is broken off.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete
    from huggingface_hub.errors import HfHubHTTPError

    repository, branch = preview.repository, preview.revision
    try:
        if preview.visibility is None:
            api.create_repo(repository, private=private or None, exist_ok=True)
        if not preview.has_revision and branch != _MAIN:
            api.create_branch(repository, branch=branch, exist_ok=True)
    except HfHubHTTPError as error:
        raise PushError(_refusal(error, repository, preview.user)) from error
    additions = [CommitOperationAdd(name, file) for name, file in preview.files.items()]
    removals = [CommitOperationDelete(name) for name in preview.removed]
    try:
        return str(
            api.create_commit(repository, [*additions, *removals], commit_message=message, revision=branch).commit_url
        )
    except Exception as error:  # whatever broke the connection, hub or transport
        if "Invalid metadata in README.md" in str(error):
            raise PushError(f"the hub refuses the model card: {_one_line(error)}; nothing was sent") from error
        raise UploadError(
            f"the upload to {repository} was broken off: {_one_line(error)} A commit is whole or not made at all, so repeating "
            "the command is safe; large files that have arrived are not sent again"
        ) from error


def _user(api: HfApi) -> str:
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return str(api.whoami()["name"])
    except HfHubHTTPError as error:
        if error.response.status_code == 401:
            raise PushError(
                f"the hub at {api.endpoint} refuses the token: set HF_TOKEN to a valid one, or log in with `hf auth login`"
            ) from error
        raise PushError(f"the hub at {api.endpoint} does not answer as expected: {_one_line(error)}") from error
    except Exception as error:  # of the transport, which is not huggingface_hub's own
        raise PushError(f"the hub at {api.endpoint} cannot be reached: {_one_line(error)}") from error


def _refusal(error: HfHubHTTPError, repository: str, user: str) -> str:
    if error.response.status_code in (401, 403):
        return (
            f"{user} may not write to {repository}, with this token ({_one_line(error)}): give a repository of your own or of "
            "an organization of yours, and a token with write access"
        )
    return f"the hub refuses {repository}: {_one_line(error)}"


def _one_line(error: BaseException) -> str:
    """An error's words without the request's URL and id."""
    cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ is not None else error
    said = getattr(cause, "server_message", None) or str(cause)
    text = " ".join(re.sub(r"\(Request ID: [^)]*\)", "", said).split())
    return text if text.endswith(".") else f"{text}."
