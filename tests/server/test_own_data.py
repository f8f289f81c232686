"""The first page's way from one's own files to a published judge: each of its commands, on a real server with real vLLM."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from data.files import write_jsonl
from data.world import taste
from flows.server.processes import Services
from tests.conftest import ROOT
from tests.support.commands import COMMAND
from tests.support.hub import TOKEN, standing_in

pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.engine]

PAGE = (ROOT / "README.md").read_text(encoding="utf-8")
HERE = {
    "meta-llama/Llama-3.2-3B-Instruct": str(ROOT / "data/world/base-judge"),
    "Qwen/Qwen3-14B": str(ROOT / "data/world/base-prover"),
    "--gpus 8": "--gpus 0",
}
"""What the page's command names and is not to be had here."""
SHORT = ("rounds.count=0", "proofs.k=2", "training.prover.max_steps=3", "training.first_judge.max_steps=20")
"""No round: the loop is tested elsewhere."""


def command(beginning: str) -> list[str]:
    """The words of the page's command that begins so."""
    blocks = "\n".join(re.findall(r"^```\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)).replace("\\\n", " ")
    inline = "\n".join(re.findall(r"`(gram-r2 [^`]+)`", PAGE))
    found = next(line for line in f"{blocks}\n{inline}".splitlines() if line.startswith(beginning))
    for there, here in HERE.items():
        found = found.replace(there, here)
    return shlex.split(found, comments=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files that the page's commands name, with columns of one's own."""
    for name, seed, n in (("pairs", 1, 60), ("more", 2, 60), ("critiques", 3, 12)):
        rows = []
        for one in taste.draw_pairs(n, seed=f"own-{seed}"):
            row = {"question": taste.QUESTION, "answer_1": one.pair.response_a, "answer_2": one.pair.response_b}
            if name != "more":
                row |= {"better": 1 if one.label == "A" else 2}
            if name == "critiques":
                row |= {"why": taste.rationale(one.pair)}
            rows.append(row)
        write_jsonl(tmp_path / f"{name}.jsonl", rows)
    return tmp_path


def test_from_files_to_a_published_judge(services: Services, folder: Path) -> None:
    with standing_in() as hub:
        environment = {
            **os.environ,
            "PREFECT_API_URL": services.environment["PREFECT_API_URL"],
            **{"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "DISPLAY": "", "BROWSER": "true"},
        }

        def typed(*words: str, code: int = 0) -> str:
            program = {"gram-r2": COMMAND, "prefect": [sys.executable, "-m", "prefect"]}[words[0]]
            given = [*program, *words[1:]]
            done = subprocess.run(given, cwd=folder, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == code, f"{words}\n{done.stdout}{done.stderr}"
            return done.stdout + done.stderr

        assert "60 rows, 60 usable" in typed(*command("gram-r2 init my-run/ --labeled"))
        assert "Nothing would stop this run." in typed(*command("gram-r2 check"))
        assert "round-1/votes" in typed(*command("gram-r2 plan"))
        changes = [word for change in SHORT for word in ("--set", change)]
        said = typed(*command("gram-r2 run my-run/"), *changes)
        assert re.search(r"my-run: Completed after .* judge in .*my-run/final", said), said
        assert "Nothing would stop this run." in typed(*command("gram-r2 check"), *changes)
        for again in ("gram-r2 check", "gram-r2 run my-run/"):
            refused = typed(*command(again), *changes, "--set", "training.first_judge.max_steps=21", code=2)
            assert "is finished, and was made with other settings or data:" in refused
            assert "max_steps 20 → 21, will redo: round-0/judge, " in refused
        assert "my-run: finished" in typed(*command("gram-r2 status my-run/"))
        assert "my-run/runs/my-run/report.html" in typed(*command("gram-r2 open my-run/"))
        typed(*command("gram-r2 up"))
        assert "self-train/my-run" in typed(*command("gram-r2 deploy my-run/"))
        assert "self-train/my-run" in typed(*command("prefect deployment run self-train/my-run"))
        push = [word.replace("owner", "me") for word in command("gram-r2 push my-run")]
        typed(*push, "--yes")
        assert {"model.safetensors", "prompt.json", "README.md"} <= hub.files("me/name").keys()
