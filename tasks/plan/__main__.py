"""The child that plans a run that has begun: ``python -m tasks.plan JOB.json``. What it loads goes with it."""

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
    os.nice(_NICENESS)  # the run goes on beside it
    job = PlanningJob(**json.loads(arguments.job.read_text(encoding="utf-8")))
    write_json(Path(job.out), plan_begun(job).to_json())


if __name__ == "__main__":
    main()
