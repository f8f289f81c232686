"""What README.md says of the software is what the software says."""

from __future__ import annotations

import re
from pathlib import Path

from flows.config.recipes import RECIPES
from flows.config.reference import with_reference

README = Path("README.md").read_text(encoding="utf-8")


def test_every_recipe_key_is_explained_as_it_is() -> None:
    assert with_reference(README) == README, "run `python -m flows.config.reference`"


def test_every_recipe_is_named() -> None:
    for recipe in RECIPES.glob("*.toml"):
        assert f"`{recipe.stem}`" in README


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", Path("Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z][a-z-]*)", README)) <= targets


def test_no_placeholder_is_left() -> None:
    assert not re.search(r"\b[A-Z]+_(?:MINUTES|OUTPUT|TABLE|SECONDS)\b", README)
