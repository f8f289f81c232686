"""The prompts of judges and provers, by what they ask for."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from prompts.prove import PROVE, PROVE_COMPACT

PROVERS = pytest.mark.parametrize("prover", [PROVE, PROVE_COMPACT], ids=lambda p: p.name)


LABELS = st.sampled_from(("A", "B"))
