"""The automations as `make up` puts them on a server; that Prefect acts on them is watched in tests/server/test_up.py."""

from __future__ import annotations

from flows.server.up import automations

ENDED = {"Completed", "Failed", "Crashed", "Cancelled"}


def test_the_automations_are_those_that_were_watched() -> None:
    found = {}
    for automation in automations():
        trigger, [action] = automation.trigger, automation.actions
        after, expect = (
            {event.removeprefix("prefect.flow-run.") for event in one} for one in (trigger.after, trigger.expect)
        )
        assert trigger.match.root == {"prefect.resource.id": ["prefect.flow-run.*"]}
        assert trigger.for_each == {"prefect.resource.id"}
        assert (trigger.posture.value, trigger.threshold) == ("Proactive", 1)
        assert action.state.value == "CRASHED"
        found[automation.name] = (after, expect, trigger.within.total_seconds())
    assert found == {
        "gram-r2: no heartbeat": ({"Running", "heartbeat"}, {"heartbeat", "Paused", "Suspended", *ENDED}, 300),
        "gram-r2: never started": ({"Submitting"}, {"heartbeat", "Running", *ENDED}, 900),
    }
