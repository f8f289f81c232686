"""Recipes as deployments: checked, registered on a server, removed from it.

``python -m flows.server.deployments`` writes ``prefect.yaml`` from the recipes, so that the two cannot differ.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.config.parameters import FLOWS
from flows.config.recipes import (
    ConfigError,
    checkout,
    deployment_of,
    own,
    recipe_files,
)
from flows.server.entries import (
    OWN,
    PULL,
    TAG,
    prefect_yaml,
    recipe_deployment,
    recipe_deployments,
)
from flows.server.runs import not_ended

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

_PAGE = 200


def enter_project(recipe: str = "") -> dict[str, str]:
    """The Prefect pull step of every deployment: a flow run works in this checkout, and relative paths start here.

    `recipe` only tells where a user's recipe lies: its paths are absolute.

    Each worker uses its own checkout, so that no machine's paths are stored on the server. GRAM_R2_HOME names another
    folder, for a worker without an editable install.
    """
    folder = checkout()
    if not (folder / "prefect.yaml").is_file():
        raise FileNotFoundError(f"{folder} has no prefect.yaml: set GRAM_R2_HOME to the checkout of this project")
    return {"directory": str(folder)}


# ---- on a server -------------------------------------------------------------------------------------------------------


def register(client: SyncPrefectClient, entry: Mapping[str, Any], recipe: Path | None = None) -> None:
    """Creates the deployment of an entry, or brings it up to date, as `prefect deploy` does.

    `recipe` is where a user's recipe lies: a parameter of the pull step keeps it. Raises RuntimeError without its work pool.
    """
    from prefect.exceptions import ObjectNotFound
    from prefect.utilities.callables import parameter_schema

    module, _, function = entry["entrypoint"].rpartition(".")
    flow = getattr(importlib.import_module(module), function)
    pool = entry["work_pool"]
    try:
        client.create_deployment(
            client.create_flow_from_name(flow.name),
            entry["name"],
            description=entry["description"],
            tags=entry["tags"],
            entrypoint=entry["entrypoint"],
            parameters=entry.get("parameters"),
            work_pool_name=pool["name"],
            work_queue_name=pool.get("work_queue_name"),
            job_variables=pool["job_variables"],
            pull_steps=[{PULL: {"recipe": str(recipe)} if recipe else {}}],
            parameter_openapi_schema=parameter_schema(flow).model_dump(exclude_unset=True),
            enforce_parameter_schema=True,
        )
    except ObjectNotFound as error:
        raise RuntimeError(f"the server has no work pool {pool['name']}: create it with `gram-r2 up`") from error


def deploy_recipe(flow: str, path: Path, say: Callable[[str], None]) -> str:
    """Registers a recipe on the server at PREFECT_API_URL, and returns its deployment's name, FLOW/NAME.

    Says so if it replaces another file's. Raises ConfigError if it cannot be run, or has a built-in one's name.
    """
    from prefect.client.orchestration import get_client

    entry, name = recipe_deployment(flow, path), deployment_of(flow, path)
    recipe = path.parent.resolve() / path.name if own(path) else None
    with get_client(sync_client=True) as client:
        found = _deployment_named(client, name)
        register(client, entry, recipe)
    if found is None:
        say(f"deployment {name}: created")
    elif recipe and recipe_of(found) != recipe:
        say(f"deployment {name}: replaces {recipe_of(found) or 'another deployment of that name'}")
    return name


def undeploy(name: str) -> None:
    """Removes the deployment FLOW/NAME of a user's recipe, or of a recipe that is gone, from the server at PREFECT_API_URL.

    Raises ConfigError for another one, or while its runs have not ended.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId

    with get_client(sync_client=True) as client:
        ours = {_name(one): one for one in _recipe_deployments(client)}
        removable = sorted(each for each, one in ours.items() if OWN in one.tags or _is_gone(one))
        if name not in removable:
            what = "is of a built-in recipe" if name in ours else "is not the deployment of a recipe on this server"
            raise ConfigError(f"{name} {what}; these can be removed: {', '.join(removable) or 'none'}")
        found = DeploymentFilter(id=DeploymentFilterId(any_=[ours[name].id]))
        if runs := client.read_flow_runs(deployment_filter=found, flow_run_filter=not_ended()):
            raise ConfigError(
                f"{name}: cancel its runs first, or wait for their end: {', '.join(run.name for run in runs)}"
            )
        client.delete_deployment(ours[name].id)


def gone() -> list[str]:
    """The names of our deployments, on the server at PREFECT_API_URL, whose recipe no longer exists on this machine."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return sorted(_name(one) for one in _recipe_deployments(client) if _is_gone(one))


def recipe_of(deployment: DeploymentResponse) -> Path | None:
    """Where the user's recipe of a deployment lies, or lay; None if it is not of such a recipe."""
    for step in deployment.pull_steps or []:
        if recipe := (step.get(PULL) or {}).get("recipe"):
            return Path(recipe)
    return None


def _is_gone(deployment: DeploymentResponse) -> bool:
    if recipe := recipe_of(deployment):
        return not recipe.is_file()
    return _name(deployment) not in {f"{flow}/{path.stem}" for flow, path in recipe_files()}


def _name(deployment: DeploymentResponse) -> str:
    return f"{next(tag for tag in deployment.tags if tag in FLOWS)}/{deployment.name}"


def _deployment_named(client: SyncPrefectClient, name: str) -> DeploymentResponse | None:
    from prefect.exceptions import ObjectNotFound

    try:
        return client.read_deployment_by_name(name)
    except ObjectNotFound:
        return None


def _recipe_deployments(client: SyncPrefectClient) -> list[DeploymentResponse]:
    """Those with our tag and a flow's, however many."""
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags

    ours = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
    found: list[DeploymentResponse] = []
    while page := client.read_deployments(deployment_filter=ours, offset=len(found), limit=_PAGE):
        found += page
    return [one for one in found if not FLOWS.keys().isdisjoint(one.tags)]


# ---- the file ----------------------------------------------------------------------------------------------------------


def main() -> int:
    """Writes the file. Returns 2, with a message, if a recipe cannot be run; the others are written."""
    recipes, problems = recipe_deployments(recipe_files())
    Path("prefect.yaml").write_text(prefect_yaml(recipes), encoding="utf-8")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 2 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
