"""The Prefect server that a command talks to: the one named by PREFECT_API_URL, or the services on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import urlsplit

import httpx

from flows.cli.errors import InputError, ServerError

if TYPE_CHECKING:
    from flows.server.processes import Services

Say = Callable[[str], None]

_RECORD = "services.json"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Ask(Protocol):
    """Asks a server's API; returns the JSON of its answer. Raises httpx.HTTPError."""

    def __call__(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """A GET or, with a body, a POST, which here only ever reads: the filters of Prefect's API are given as a body."""
        ...


@dataclass
class Server:
    """A server that answers; `local` is that of this machine's services.

    If this command has started them, they are stopped at its end, unless `keep` is set or runs are under way on them. `lost`
    says what of them has died. `sleep` waits between two looks at a run.
    """

    api: str
    ui: str
    ask: Ask
    local: bool
    started: bool = False
    keep: bool = False
    lost: Callable[[], str | None] = lambda: None
    sleep: Callable[[float], None] = time.sleep


def is_elsewhere(api: str) -> bool:
    """Whether the workers of a server with this address may be other machines than this one."""
    return urlsplit(api).hostname not in _LOOPBACK


def runs_under_way(ask: Ask) -> list[Any]:
    """The flow runs that have not ended, waiting ones included, as the API describes them."""
    from flows.server.runs import not_ended

    chosen = not_ended().model_dump(mode="json", exclude_unset=True)
    return list(ask("/flow_runs/filter", {"flow_runs": chosen, "sort": "EXPECTED_START_TIME_ASC", "limit": 200}))


def named_server() -> str | None:
    """The API's address that PREFECT_API_URL has, in the environment or in Prefect's profile."""
    from prefect.settings import PREFECT_API_URL

    return cast("str | None", PREFECT_API_URL.value())


@contextlib.contextmanager
def connected(say: Say, with_created: bool = False) -> Iterator[Server]:
    """The server that is named or, if none is, this machine's own, which is started if need be.

    A new one gets all pools, automations and deployments, which are said if wanted. Raises InputError if the one that is named
    does not answer, and ServerError if this machine's cannot be started.
    """
    if url := named_server():
        with asking() as ask:
            _see_that_it_answers(ask, url)
            yield Server(url, _ui(), ask, local=False)
        return
    from flows.server.local import home_folder, in_use, release, services, stop_services

    say("finding or starting a Prefect server and workers on this machine …")
    with in_use(home_folder()) as users:
        try:
            running = services(home_folder(), say=say, with_created=with_created)
        except RuntimeError as error:  # with the name of its log
            raise ServerError(str(error)) from error
        with asking(running.environment["PREFECT_API_URL"]) as ask:
            server = Server(_api(), running.ui, ask, True, running.started, lost=lambda: lost_service(running))
            try:
                yield server
            finally:
                if running.started and not server.keep:
                    try:
                        release(running, users, say)
                    except httpx.HTTPError:  # a server that has died
                        stop_services(running.home)


def no_answer(url: str) -> str:
    """What is said of the server at PREFECT_API_URL that does not answer."""
    return f"no Prefect server answers at PREFECT_API_URL = {url}"


@contextlib.contextmanager
def connected_if_running() -> Iterator[Server | None]:
    """The same, but nothing is started: None if no server is named and none runs on this machine, or it does not answer."""
    from flows.server.local import home_folder

    local = None if named_server() else _recorded(home_folder())
    if not local and not named_server():
        yield None
        return
    with asking(local) as ask:
        try:
            with retrying(0):
                ask("/health")
        except (httpx.HTTPError, ValueError):
            yield None
            return
        yield Server(_api(), _ui(), ask, local is not None)


def _recorded(home: Path) -> str | None:
    """The address of the API of the services that are recorded in their home folder, whether they still run or not."""
    try:
        return f"http://127.0.0.1:{json.loads((home / _RECORD).read_text(encoding='utf-8'))['port']}/api"
    except FileNotFoundError:
        return None


def lost_service(running: Services) -> str | None:
    """Which of the processes that a run needs has died, and where its log is."""
    name = next((name for name in ("server", "worker") if not running.is_alive(name)), None)
    if name is None:
        return None
    log = running.home / f"{name}.log"
    return f"the Prefect {name} of this machine has exited; its log is {log}. The same command starts it again, and goes on"


@contextlib.contextmanager
def _at(api: str | None) -> Iterator[None]:
    """Makes the server at this address, if there is one, that of this process and of its children."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    if api is None:
        yield
        return
    before = os.environ.get("PREFECT_API_URL")
    os.environ["PREFECT_API_URL"] = api
    try:
        with temporary_settings({PREFECT_API_URL: api}):
            yield
    finally:
        os.environ.pop("PREFECT_API_URL")
        if before is not None:
            os.environ["PREFECT_API_URL"] = before


@contextlib.contextmanager
def asking(api: str | None = None) -> Iterator[Ask]:
    """Asks the server at this address, which is meanwhile that of this process and of its children; None: the one named."""
    from prefect.client.orchestration import get_client

    with _at(api), get_client(sync_client=True) as client:

        def ask(path: str, body: Mapping[str, Any] | None = None) -> Any:
            if body is None:
                return client.request("GET", cast("Any", path)).json()
            return client.request("POST", cast("Any", path), json=dict(body)).json()

        yield ask


@contextlib.contextmanager
def retrying(times: int) -> Iterator[None]:
    """How often Prefect's client tries again, which takes it minutes: not at all for whoever asks again anyway.

    To be entered seldom: it takes a tenth of a second.
    """
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: times}):
        yield


def _api() -> str:
    from prefect.settings import PREFECT_API_URL

    return str(PREFECT_API_URL.value())


def _ui() -> str:
    from prefect.settings import PREFECT_UI_URL

    return str(PREFECT_UI_URL.value() or _api().removesuffix("/api"))


def _see_that_it_answers(ask: Ask, url: str) -> None:
    try:
        with retrying(0):
            ask("/health")
    except httpx.HTTPStatusError as error:
        raise InputError(f"the Prefect server at PREFECT_API_URL = {url} refuses to answer ({error})") from error
    except (httpx.HTTPError, ValueError) as error:
        raise InputError(
            f"{no_answer(url)} ({error}): start it, or leave PREFECT_API_URL unset to use one on this machine"
        ) from error
