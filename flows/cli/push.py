"""``gram-r2 push``: a run's judge to the Hugging Face hub."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.errors import FAILED, InputError, ServerError, command
from flows.cli.given import run_names

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from tasks.hub.exported import Exported
    from tasks.hub.upload import Preview


@command
def push(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            autocompletion=run_names,
            show_default=False,
            help="A run's name, its folder, its recipe's folder, or its URL; or a folder final/ alone.",
        ),
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="hub:OWNER/NAME", show_default=False, help="The repository. It is created if it is not there."
        ),
    ],
    private: Annotated[bool, typer.Option("--private", help="Create the repository as a private one.")] = False,
    licence: Annotated[
        str | None,
        typer.Option("--license", metavar="ID", help="The judge's licence, such as apache-2.0, for its card."),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(metavar="BRANCH", help="Commit to this branch. It is created if it is not there.")
    ] = None,
    message: Annotated[str | None, typer.Option(metavar="TEXT", help="The commit's message.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Send without asking.")] = False,
) -> None:
    """Upload a run's judge to the Hugging Face hub: weights, tokenizer, prompt and model card.

    Nothing else of the run is sent. The files are compared with the run's
    manifest, and what will be sent is shown, before you are asked. The card's
    metadata gets the licence, the hub's data sets that were trained on, and the
    results on benchmarks. Needs HF_TOKEN, or `hf auth login`, with write access.

    Examples:
      gram-r2 push demo hub:me/demo-judge --private
      gram-r2 push s3://bucket/runs/my-run hub:our-lab/judge --license apache-2.0
    """
    from tasks.hub.card import hub_card
    from tasks.hub.exported import PushError
    from tasks.hub.upload import UploadError, look, repository_of, send

    try:
        repository = repository_of(target)
        exported = _exported(run)
        card = hub_card(exported, licence)
        api = _hub()
        preview = look(api, repository, revision, exported.final, card, private)
        _show(preview, exported, private, licence)
        if not yes and not _confirmed():
            typer.echo("nothing was sent")
            raise typer.Exit(FAILED)
        url = send(api, preview, private, message or f"The judge of the run {exported.run_name}")
    except PushError as error:
        raise InputError(str(error)) from error
    except UploadError as error:
        typer.echo(err=True)  # ends the line of a progress bar
        raise ServerError(str(error)) from error
    typer.echo(f"sent: {url}")


def _exported(run: str) -> Exported:
    from data.store.remote import is_remote
    from flows.cli.folders import find_run
    from tasks.hub.exported import find_exported

    return find_exported(run if is_remote(run) else find_run(run).path)


def _hub() -> HfApi:
    """Raises InputError if there is no token."""
    from huggingface_hub import HfApi, get_token

    token = get_token()
    if token is None:
        raise InputError("there is no token for the hub: set HF_TOKEN, or log in with `hf auth login`")
    return HfApi(token=token)


def _show(preview: Preview, exported: Exported, private: bool, licence: str | None) -> None:
    """Prints what will be sent where."""
    from rich.filesize import decimal

    new = "new, private" if private else "new; public, or as the organization sets it"
    branch = f", branch {preview.revision}" if preview.revision != "main" else ""
    where = f"{preview.repository} ({preview.visibility or new}{branch}), as {preview.user}"
    typer.echo(f"the judge of {exported.run_name}, {exported.accuracy:.1%} on held-out pairs → {where}")
    sizes = preview.sizes
    for name, size in sizes.items():
        typer.echo(f"  {decimal(size):>10}  {name}{'  replaces the one there' if name in preview.replaced else ''}")
    for name in preview.removed:
        typer.echo(f"  {'removed':>10}  {name}  weights of an earlier judge")
    typer.echo(f"  {decimal(sum(sizes.values())):>10}  in {len(sizes)} files")
    if licence is None:
        typer.echo("the card names no licence: --license ID adds one")


def _confirmed() -> bool:
    if not sys.stdin.isatty():
        raise InputError("nothing was sent: run this in a terminal, where it can ask, or give --yes")
    return typer.confirm("Send?")
