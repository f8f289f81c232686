"""Plain vLLM, with nothing of ours in between: what someone gets who serves one of our checkpoints.

``python -m tests.support.plain_vllm JOB.json`` answers greedily; the job names the model, the conversations, the tokens
of a reply, and the file for the answers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data.files import write_json
from data.records import Message
from tasks.model.device import engine_environment


@dataclass(frozen=True)
class Served:
    """One answer: the ids of prompt and reply, and the logprob of each token of the reply."""

    prompt_ids: list[int]
    ids: list[int]
    logprobs: list[float]


def serve(model: Path, conversations: Sequence[Sequence[Message]], max_tokens: int, folder: Path) -> list[Served]:
    """What a process of its own answers, in float32."""
    asked = [[message.to_json() for message in turns] for turns in conversations]
    out = folder / "answers.json"
    write_json(folder / "job.json", {"model": str(model), "asked": asked, "max_tokens": max_tokens, "out": str(out)})
    command = [sys.executable, "-m", "tests.support.plain_vllm", str(folder / "job.json")]
    environment = {**os.environ, **engine_environment(on_gpus=False)}
    ended = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout[-3000:]
    return [Served(*answer) for answer in json.loads(out.read_text(encoding="utf-8"))]


def main() -> None:
    """Carries out a job."""
    from vllm import LLM, SamplingParams

    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    llm = LLM(
        model=job["model"], dtype="float32", max_model_len=1024, enforce_eager=True, kv_cache_memory_bytes=256 << 20,
        enable_chunked_prefill=False, max_num_batched_tokens=4096,
    )  # fmt: skip
    how = SamplingParams(temperature=0.0, max_tokens=job["max_tokens"], logprobs=0)
    answers = []
    for output in llm.chat(job["asked"], how, use_tqdm=False):
        [said] = output.outputs
        logprobs = [position[token].logprob for token, position in zip(said.token_ids, said.logprobs, strict=True)]
        answers.append([list(output.prompt_token_ids), list(said.token_ids), logprobs])
    write_json(Path(job["out"]), answers)
    os._exit(0)


if __name__ == "__main__":
    main()
