"""Creates pools, automations and deployments on a Prefect server, for ``gram-r2 up``.

It can be repeated: it reports what already existed, what it created, and what it updated.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from flows.config.recipes import recipe_files
from flows.server.deployments import gone, register
from flows.server.entries import POOLS, SHORT, SHORT_RUNS, parts, recipe_deployments

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.events.schemas.automations import AutomationCore

Say = Callable[[str], None]

NO_HEARTBEAT = timedelta(minutes=5)
"""Flow runs send a heartbeat every 30 s (prefect.yaml sets it). While the server is away none arrives: an outage shorter
than this must not make all its runs count as lost."""
NOT_STARTED = timedelta(minutes=15)
"""From a worker's picking up a run to the run's own first sign of life; a container image may have to be pulled."""

BAD_RECIPE, LEFT_OUT = 2, "left out: "
_ENDED = ["Completed", "Failed", "Crashed", "Cancelled"]


def automations() -> list[AutomationCore]:
    """What Prefect does not do by itself: a run whose machine is lost would stay Running, or Pending, forever."""
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    def crash_where(name: str, description: str, after: list[str], expect: list[str], within: timedelta) -> Any:
        minutes = f"{within.total_seconds() / 60:.0f} minutes"
        return AutomationCore(
            name=name,
            description=description,
            trigger=EventTrigger(
                after={f"prefect.flow-run.{event}" for event in after},
                expect={f"prefect.flow-run.{event}" for event in expect},
                match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
                for_each={"prefect.resource.id"},
                posture=Posture.Proactive,
                threshold=1,
                within=within,
            ),
            actions=[ChangeFlowRunState(state=StateType.CRASHED, message=f"{description} for {minutes}.")],
        )

    return [
        crash_where(
            "gram-r2: no heartbeat",
            "The flow run has sent no heartbeat",
            ["Running", "heartbeat"],  # the first heartbeat comes some time after the run has started
            ["heartbeat", "Paused", "Suspended", *_ENDED],
            NO_HEARTBEAT,
        ),
        crash_where(
            "gram-r2: never started",
            "A worker picked up the flow run, which has shown no sign of life",
            ["Submitting"],
            ["heartbeat", "Running", *_ENDED],
            NOT_STARTED,
        ),
    ]


def bring_up(say: Say) -> list[str]:
    """Creates what is missing; returns what is wrong with recipes that were left out.

    Names the deployments whose recipe is gone. Raises httpx.HTTPError if the server does not answer.
    """
    asyncio.run(_pools_and_automations(say))
    problems = deploy(say)
    for name in gone():
        say(f"deployment {name}: its recipe is no longer there; `gram-r2 undeploy {name}` removes it")
    return problems


async def _pools_and_automations(say: Say) -> None:
    from prefect.client.orchestration import get_client

    async with get_client() as client:
        say(f"server: {client.api_url}")
        for name, description in POOLS.items():
            await _pool(client, name, description, say)
        await _queue(client, say)
        for automation in automations():
            await _automation(client, automation, say)


async def _pool(client: PrefectClient, name: str, description: str, say: Say) -> None:
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
    from prefect.exceptions import ObjectNotFound

    try:
        found = await client.read_work_pool(name)
    except ObjectNotFound:
        await client.create_work_pool(WorkPoolCreate(name=name, type="process", description=description))
        say(f"work pool {name}: created; {description}")
        return
    if found.description == description:
        say(f"work pool {name}: already there, of type {found.type}")
    else:
        await client.update_work_pool(name, WorkPoolUpdate(description=description))
        say(f"work pool {name}: updated; {description}")


async def _queue(client: PrefectClient, say: Say) -> None:
    from prefect.exceptions import ObjectNotFound

    try:
        await client.read_work_queue_by_name(SHORT, work_pool_name="ctl")
    except ObjectNotFound:
        await client.create_work_queue(SHORT, SHORT_RUNS, work_pool_name="ctl")
        say(f"work queue {SHORT} of ctl: created; {SHORT_RUNS}")
    else:
        say(f"work queue {SHORT} of ctl: already there")


async def _automation(client: PrefectClient, wanted: AutomationCore, say: Say) -> None:
    from prefect.events.schemas.automations import AutomationCore

    found = await client.read_automations_by_name(wanted.name)
    if not found:
        await client.create_automation(wanted)
        say(f"automation {wanted.name!r}: created")
        return
    same = AutomationCore.model_validate(found[0].model_dump(include=set(AutomationCore.model_fields)))
    if _comparable(same) == _comparable(wanted):
        say(f"automation {wanted.name!r}: already there")
    else:
        await client.update_automation(found[0].id, wanted.model_copy(update={"enabled": found[0].enabled}))
        say(f"automation {wanted.name!r}: updated")


def _comparable(automation: AutomationCore) -> Any:
    """What an automation does. The server adds its own id to a trigger."""
    trigger = automation.trigger.model_dump(mode="json", exclude={"id"})
    lists = {name: sorted(value) for name, value in trigger.items() if isinstance(value, list)}
    actions = [action.model_dump(mode="json") for action in automation.actions]
    return {**trigger, **lists}, actions, automation.description


def deploy(say: Say) -> list[str]:
    """Registers a deployment for every built-in recipe that can be run; returns what is wrong with the others."""
    from prefect.client.orchestration import get_client

    recipes, problems = recipe_deployments(recipe_files())
    with get_client(sync_client=True) as client:
        for entry in (*recipes, *parts()):
            register(client, entry)
    say(f"deployments: {len(recipes)} recipes registered from flows/recipes")
    return problems


def run_module(
    module: str, *arguments: str, environment: Mapping[str, str] | None = None, allowed: Collection[int] = (0,)
) -> str:
    """Runs ``python -m module arguments`` to its end; returns its output.

    Raises RuntimeError with the output if it ends with another code than those `allowed`.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in allowed:
        raise RuntimeError(f"{module} {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout
