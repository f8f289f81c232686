"""Five kills of the chaos suite, one of each quick kind; `make chaos` strikes with all kinds, as often as it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.server.local import local_services
from tests.chaos.disturb import chaos
from tests.chaos.faults import QUICK
from tests.conftest import free_port

pytestmark = [pytest.mark.slow, pytest.mark.chaos, pytest.mark.server, pytest.mark.engine, pytest.mark.train]


def test_five_kills_lose_nothing_and_do_nothing_twice(tmp_path: Path) -> None:
    with local_services(tmp_path / "prefect", port=free_port()) as services:
        kills = chaos(services, tmp_path, QUICK, seed=1)
    assert sorted(kill.fault for kill in kills) == sorted(QUICK)
    for kill in kills:
        assert kill.checked is not None
        assert kill.checked.is_sound(), kill
