"""Peak memory of label + prove + select over N rows with a fake engine: ``python -m tests.benchmarks.memory 10000``."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from data.files import json_line, sha256_file
from data.store.artifacts import Artifact, Counts, FileRef, Outcome
from data.store.store import RunStore
from data.world import taste
from flows.config.recipes import load_recipe, with_overrides
from tasks.generation.local import GenerationStats
from tasks.generation.shards import GenerationJob
from tasks.generation.worker import run_shards
from tasks.label import cast_votes, keep_labels
from tasks.model.chat import ChatEncoder
from tasks.model.engine import FakeEngine, Request
from tasks.prove import select_proofs, write_proofs
from tasks.run.stage import Context, Run

BASE = Path("data/world/base-judge")


def fake_generator(encoder: ChatEncoder) -> Callable[..., GenerationStats]:
    """Runs generation jobs in this process with an engine that judges by a hash of its prompt's tokens."""

    def reply(request: Request, j: int) -> str:
        tail = encoder.tokenizer.decode(request.prompt_ids[-10:])
        for label in ("A", "B"):
            if f"{label} is better. Why?" in tail:
                return f"Because of the words. So {label} is better."
        # Both orders of a pair have the same tokens, so the same side wins in both.
        even = hash(tuple(sorted(request.prompt_ids))) % 2 == 0
        label = "A" if even == (request.name == "ab") else "B"
        return f"<think> So {label} is better. </think><answer>{label}</answer>"

    def generate(job: GenerationJob, *_: object) -> GenerationStats:
        run_shards(job, FakeEngine(reply), encoder, lambda _: None)
        return GenerationStats()

    return generate


def main(n_rows: int) -> dict[str, float]:
    encoder = ChatEncoder.load(str(BASE))
    with tempfile.TemporaryDirectory() as folder:
        batch = Path(folder) / "batch.jsonl"
        template = taste.draw_pairs(1, seed=0)[0].pair.to_json()
        with batch.open("w") as stream:
            for i in range(n_rows):
                words = [taste.WORDS[(i * 7 + j * 31) % len(taste.WORDS)] for j in range(8)]
                row = {**template, "id": str(i), "response_a": " ".join(words[:4]), "response_b": " ".join(words[4:])}
                stream.write(json_line(row))
        recipe = load_recipe("demo", store=folder, run_name="memory").model_dump(mode="json")
        config = with_overrides(recipe, {"labels.votes": 4, "proofs.k": 2, "generation.shard_rows": 1000})
        run = Run(RunStore(folder, "memory"), config, 0, generator=fake_generator(encoder))
        model = run.find_or_make("model", "model", {}, {}, _empty)
        ref = FileRef(batch, sha256_file(batch))
        labels = keep_labels(run, 1, cast_votes(run, 1, model, ref), ref)
        kept = labels.ref("labels.jsonl")
        selected: Artifact = select_proofs(run, 1, write_proofs(run, 1, model, kept), kept)
        assert selected.manifest.counts.kept > 0.4 * n_rows, selected.manifest.counts
    return {"rows": n_rows, "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)}


def _empty(context: Context) -> Outcome:
    (context.work / "checkpoint").mkdir()
    return Outcome(Counts(0, 0))


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))
