"""``python -m flows.server.up``: creates pools, automations and deployments on the Prefect server of the active profile.

It can be repeated: it reports what already existed, what it created, and what it updated.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.server.deployments import POOLS, prefect_yaml
from tasks.machine.terminal import print_anything

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.events.schemas.automations import AutomationCore

Say = Callable[[str], None]

NO_HEARTBEAT = timedelta(minutes=5)
"""Flow runs send a heartbeat every 30 s (prefect.yaml sets it). While the server is away none arrives: an outage shorter
than this must not make all its runs count as lost."""
NOT_STARTED = timedelta(minutes=15)
"""From a worker's picking up a run to the run's own first sign of life; a container image may have to be pulled."""

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


async def bring_up(say: Say) -> None:
    """Creates what is missing. Raises RuntimeError if prefect.yaml does not match the recipes, or cannot be deployed."""
    from prefect.client.orchestration import get_client

    async with get_client() as client:
        say(f"server: {client.api_url}")
        for name, description in POOLS.items():
            await _pool(client, name, description, say)
        for automation in automations():
            await _automation(client, automation, say)
    deploy(say)


async def _pool(client: PrefectClient, name: str, description: str, say: Say) -> None:
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound

    try:
        found = await client.read_work_pool(name)
        say(f"work pool {name}: already there, of type {found.type}")
    except ObjectNotFound:
        await client.create_work_pool(WorkPoolCreate(name=name, type="process", description=description))
        say(f"work pool {name}: created; {description}")


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


def deploy(say: Say) -> None:
    """Registers every deployment of prefect.yaml, which must match the current recipes."""
    if Path("prefect.yaml").read_text(encoding="utf-8") != prefect_yaml():
        raise RuntimeError("prefect.yaml does not match flows/recipes: run `python -m flows.server.deployments` first")
    run_module("prefect", "--no-prompt", "deploy", "--all")
    say("deployments: registered from prefect.yaml")


def run_module(module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """Runs ``python -m module arguments`` to its end; returns its output. Raises RuntimeError with it if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{module} {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    print_anything()
    asyncio.run(bring_up(lambda line: print(line, flush=True)))


if __name__ == "__main__":
    main()
