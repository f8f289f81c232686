"""A whole short run with its store on an S3 server and Prefect's database in PostgreSQL, resumed on another machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from data.store.artifacts import MANIFEST
from data.store.remote import Remote
from flows.server.processes import start_worker
from tests.conftest import free_port
from tests.support.following import run_deployment
from tests.support.services import local_services
from tests.support.short_run import short_run

pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.engine, pytest.mark.train]


@pytest.fixture
def database() -> Iterator[str]:
    """A PostgreSQL cluster of Debian's packages, of its own; it will not run as root."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("PostgreSQL is not here: apt-get install postgresql")
    binaries, port = found[-1].parent, free_port()
    # Not among pytest's folders, which it closes to other users.
    folder = Path(tempfile.mkdtemp(prefix="gram-r2-postgresql-"))
    as_owner: list[str] = []
    if os.getuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
        as_owner = ["runuser", "-u", "postgres", "--"]

    def run(*command: str) -> None:
        subprocess.run([*as_owner, *command], check=True, capture_output=True, cwd="/")

    run(str(binaries / "initdb"), "-D", f"{folder}/data", "-U", "prefect", "--auth=trust")
    options = f"-h 127.0.0.1 -p {port} -k {folder}"
    run(str(binaries / "pg_ctl"), "-D", f"{folder}/data", "-l", f"{folder}/log", "-w", "-o", options, "start")
    try:
        run(str(binaries / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "prefect", "prefect")
        yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/prefect"
    finally:
        run(str(binaries / "pg_ctl"), "-D", f"{folder}/data", "-m", "fast", "stop")
        shutil.rmtree(folder)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The variables that lead to an S3 server on the loopback with an empty bucket "runs"."""
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    variables = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem(skip_instance_cache=True).mkdir("runs")
    yield variables
    server.stop()


def test_a_run_on_s3_and_postgresql_goes_through_and_is_found_by_another_machine(
    database: str, bucket: dict[str, str], tmp_path: Path
) -> None:
    """The flow, two workers that generate and share the copies of their machine, and one that trains, each with a cache."""
    keep = {"retention.judges": "last_and_best", "retention.completions": "last_round"}
    # Of the stages that generate, only the votes have more rows than one worker's shard.
    spread = {"generation.workers": 2, "generation.shard_rows": 35, "training.in_pool": True}
    told: dict[str, Any] = {
        "store": "s3://runs/all",
        "run_name": "far",
        "overrides": {**short_run(tmp_path / "world"), **keep, **spread, "training.final": None},
    }
    variables = {**bucket, "PREFECT_API_DATABASE_CONNECTION_URL": database, "GRAM_R2_CACHE": str(tmp_path / "one")}
    with local_services(tmp_path / "prefect", port=free_port(), variables=variables) as services:
        for name, pool, cache in (("gpu-1", "gpu", "two"), ("gpu-2", "gpu", "two"), ("train-1", "train", "three")):
            services.environment["GRAM_R2_CACHE"] = str(tmp_path / cache)
            start_worker(services, name, pool)
        _, state = run_deployment(services, "self-train/demo", told)
        assert state == "Completed"
        for name in ("gpu-1", "gpu-2", "train-1"):
            services.stop(name)
        made = [path.parent.parent.name for path in (tmp_path / "two").rglob("*.safetensors")]
        assert sorted(made) == ["judge", "prover"], "a worker keeps the prover and one judge"
        sizes = Remote("s3://runs/all").sizes("far")
        stages = {name.rpartition("/")[0] for name in sizes if name.endswith(f"/{MANIFEST}")}
        assert {"data", "prover", "round-1/votes", "round-1/judge", "final"} <= stages
        assert {"final/model.safetensors", "report.html", "metrics.jsonl"} <= sizes.keys()
        assert [name for name in sizes if name.startswith("logs/prover-")], "what the worker wrote is there too"
        assert not [name for name in sizes if name.startswith(".work")]
        assert "round-0/votes" not in stages
        assert not [name for name in sizes if name.startswith("round-0/proofs/shards-")], (
            "retention removes it there too"
        )
        # Another machine, with nothing of it here, and every stage done: no GPU hour is spent again.
        services.stop("worker")
        services.environment["GRAM_R2_CACHE"] = str(tmp_path / "four")
        start_worker(services)
        started = time.monotonic()
        _, state = run_deployment(services, "self-train/demo", told)
        assert state == "Completed"
        assert time.monotonic() - started < 60
    weights = {path.parent.parent.name for path in (tmp_path / "four").rglob("*.safetensors")}
    assert weights == set(), "weights that no stage reads are not brought here"
