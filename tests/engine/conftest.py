"""The real language model that several files' tests run on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.real.model import UNAVAILABLE


@pytest.fixture(scope="session")
def real_model() -> Path:
    """SmolLM2-135M-Instruct, downloaded and converted once a machine; tests are skipped where it cannot be had."""
    command = [sys.executable, "-m", "tests.real.model"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if made.returncode == UNAVAILABLE:
        pytest.skip(f"no real language model: {made.stderr.strip()}")
    assert made.returncode == 0, made.stderr
    return Path(made.stdout.splitlines()[-1])
