"""The child process that plans a running run: ``python -m tasks.plan JOB.json``. Its exit frees what it loaded."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from data.files import write_json
from tasks.machine import child
from tasks.plan.begun import PlanningJob, plan_begun

_NICENESS = 10


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tasks.plan", description=__doc__)
    parser.add_argument("job", type=Path)
    arguments = parser.parse_args()
    child.die_with_parent()
    os.nice(_NICENESS)  # the run is working at the same time
    job = PlanningJob(**json.loads(arguments.job.read_text(encoding="utf-8")))
    write_json(Path(job.out), plan_begun(job).to_json())


if __name__ == "__main__":
    main()
