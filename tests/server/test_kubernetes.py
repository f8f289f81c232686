"""The work pool for Kubernetes: its template gives the job that is meant, and a server takes it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from flows.server.entries import parts
from flows.server.processes import Services

TEMPLATE = Path("flows/server/kubernetes/gpu-pool.json")


def job_of(**values: Any) -> Any:
    """The configuration of a flow run's job, as a worker of the pool makes it from the template and these values."""
    from prefect.client.schemas.objects import FlowRun
    from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

    class NoServer:
        """Block references are looked up on a server; this template has none."""

    template = json.loads(TEMPLATE.read_text())
    made = KubernetesWorkerJobConfiguration.from_template_and_values(template, values, client=NoServer())
    configuration = asyncio.run(made)
    configuration.prepare_for_flow_run(FlowRun(id=uuid4(), flow_id=uuid4(), name="round-1 engine 0"))
    return configuration


@pytest.mark.parametrize("part", parts(), ids=lambda part: str(part["name"]))
def test_a_part_of_a_run_becomes_a_job_that_asks_for_its_gpus(part: dict[str, Any]) -> None:
    configuration = job_of(image="registry.example/gram-r2:1", gpus=2, **part["work_pool"]["job_variables"])
    pod = configuration.job_manifest["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["image"] == "registry.example/gram-r2:1"
    for kind in ("requests", "limits"):
        assert container["resources"][kind]["nvidia.com/gpu"] == 2
    variables = {one["name"]: one.get("value") for one in container["env"]}
    assert variables["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"
    assert variables["PREFECT_CLIENT_MAX_RETRIES"] == "8"
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/cache", "/dev/shm"}
    assert {volume["name"] for volume in pod["volumes"]} == {mount["name"] for mount in container["volumeMounts"]}
    # A lost pod is followed by a run of ours, which knows what is left; Kubernetes must not start it again beside that.
    assert (pod["restartPolicy"], configuration.job_manifest["spec"]["backoffLimit"]) == ("Never", 0)
    assert configuration.stream_output is False


def test_the_job_is_one_that_kubernetes_knows() -> None:
    """Every field of the manifest is one of the API's: a misspelled one would be dropped without a word."""
    from kubernetes_asyncio import client

    def check(value: Any, kind: str, path: str) -> None:
        if kind.startswith("list["):
            for i, one in enumerate(value):
                check(one, kind[5:-1], f"{path}[{i}]")
        elif hasattr(client, kind):
            model = getattr(client, kind)
            names = {external: (name, model.openapi_types[name]) for name, external in model.attribute_map.items()}
            assert value.keys() <= names.keys(), f"{path}: {value.keys() - names.keys()}"
            for key, inner in value.items():
                check(inner, names[key][1], f"{path}.{key}")

    manifest = job_of(image="registry.example/gram-r2:1").job_manifest
    pod = manifest["spec"]["template"]["spec"]
    # Prefect insists on these two there; Kubernetes has them a level above, with the same defaults.
    assert (pod.pop("completions"), pod.pop("parallelism")) == (1, 1)
    check(manifest, "V1Job", "job")


def test_an_image_must_be_given() -> None:
    template = json.loads(TEMPLATE.read_text())
    assert template["variables"]["required"] == ["image"]
    used = set(json.dumps(template["job_configuration"]).split("{{ ")[1:])
    assert {text.split(" }}")[0] for text in used} == set(template["variables"]["properties"])


@pytest.mark.slow
@pytest.mark.server
def test_the_command_of_the_readme_makes_the_pool_and_make_up_leaves_it_alone(services: Services) -> None:
    services.prefect("work-pool", "create", "gpu-on-k8s", "--type", "kubernetes", "--base-job-template", str(TEMPLATE))
    pool = httpx.get(f"{services.ui}/api/work_pools/gpu-on-k8s").json()
    assert pool["type"] == "kubernetes"
    assert pool["base_job_template"] == json.loads(TEMPLATE.read_text())
    services.prefect("work-pool", "delete", "gpu-on-k8s")
