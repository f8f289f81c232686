"""How long ``gram-r2 trace`` takes on a run of a million rows: ``python -m tests.benchmarks.lineage FOLDER [ROWS]``.

Writes the run of `tests.benchmarks.large_run` into FOLDER if it is not there. Then pairs are traced, each in a process of its
own as the command is: first without indexes, then with them. For files that are not in memory, the page cache is dropped before
a trace, as far as this process may (``posix_fadvise``).
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from tests.benchmarks.large_run import make_run


def forget(folder: Path) -> None:
    """Drops what is in memory of the files in a folder."""
    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def traced(run: Path, *arguments: str) -> str:
    """Seconds of wall and of CPU time that a trace takes."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "flows.cli.app", "trace", str(run), *arguments], check=True, stdout=subprocess.DEVNULL
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    told = f"{time.perf_counter() - started:.1f} (CPU {used:.1f})"
    print(*arguments, told, file=sys.stderr, flush=True)
    return told


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    n = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    if not (folder / "run").exists():
        make_run(folder, n)
    run = folder / "run"
    size = sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
    with (run / "data/batch-2.jsonl").open() as stream:
        unlabeled = [json.loads(next(stream))["id"] for _ in range(20)]
    with (run / "data/heldout.jsonl").open() as stream:
        heldout = json.loads(next(stream))["id"]
    forget(run)
    first = traced(run, unlabeled[0])
    forget(run)
    cold = traced(run, unlabeled[1])
    warm = [traced(run, one) for one in unlabeled[2:6]]
    print(
        json.dumps(
            {
                "rows": n,
                "gb": round(size / 1e9, 1),
                "index_gb": round(sum(one.stat().st_size for one in (run / ".index").glob("*")) / 1e9, 2),
                "first_s": first,
                "cold_s": cold,
                "warm_s": warm,
                "heldout_s": traced(run, heldout),
                "beginning_s": traced(run, unlabeled[6][:14]),
                "place_s": traced(run, "batch-2.jsonl:77"),
                "nearest_s": traced(run, heldout, "--nearest", "3"),
            }
        )
    )


if __name__ == "__main__":
    main()
