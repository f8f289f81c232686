"""CPU, wall time and memory of the stages that have no model: ``python -m tests.benchmarks.data 100000``.

The stages data, overlap, labels, selected and training-set of a run over N pairs, each stage on N rows: prompts of about 500
characters, responses of 1,500, votes and proofs of 1,400, eight of each for a pair. Half of the pairs are chosen/rejected
lines, half are StackExchange's rows in Parquet. Words follow Zipf's law, one in a hundred is in no other text, and the
benchmark whose copies are looked for has 8,000 texts, as RM-Bench has. Figures are scaled to a million rows. For the wall
time of a single core: ``taskset -c 0 python -m …``.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import psutil

from data.files import sha256_file, write_jsonl
from data.store.artifacts import Artifact, Counts, FileRef, Outcome
from data.store.store import RunStore
from flows.config.recipes import load_recipe, with_overrides
from prompts.prove import PROVE
from tasks.benchmark.sets import prepare_set
from tasks.label import keep_labels
from tasks.overlap import report_overlap
from tasks.prepare import prepare
from tasks.prove import select_proofs
from tasks.run.stage import Context, Run
from tasks.settings import BenchmarkSet
from tasks.training_set import judge_examples
from tests.support.short_run import FIXED_THRESHOLD

MILLION = 1_000_000
SHARD_ROWS = 256
VOTES, PROOFS = 4, 4  # in each of the two orders


class Writer:
    """Texts of realistic lengths, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        letters = "etaoinshrdlcumwfgypbvkjxqz"
        weights = list(accumulate(1 / (i + 2) for i in range(len(letters))))
        self.words = [
            "".join(self.rng.choices(letters, cum_weights=weights, k=self.rng.randint(2, 10))) for _ in range(50_000)
        ]
        self.weights = list(accumulate(1 / (i + 2.7) for i in range(len(self.words))))
        self.rationales = [self.text(700) for _ in range(1000)]

    def text(self, characters: int) -> str:
        n = max(8, round(self.rng.lognormvariate(0, 0.4) * characters / 7.1))
        words = self.rng.choices(self.words, cum_weights=self.weights, k=n)
        for i in range(0, n, 100):
            words[i] = f"{words[i]}{self.rng.getrandbits(40):x}"
        for i in range(9, n, 13):
            words[i] += self.rng.choice((".", ",", ".\n\n", ";", " isn't", " — naïve", ":\n- **it**"))
        return " ".join(words)

    def rationale(self, label: str, quoted: str) -> str:
        first, second = self.rng.choices(self.rationales, k=2)
        return (
            f"Feedback:\nResponse A's claim isn't wrong. {first}\nResponse B: it says \"{quoted}\".\n\n"
            f"Comparision:\n{second}\n\nConclusion:\nOn the whole, Response {label} is better."
        )


def main(n: int) -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        writer = Writer(0)
        write_sources(writer, folder, n)
        run = run_in(folder, n)
        sets = [prepare_set(run, BenchmarkSet(benchmark="preferences", data=str(folder / "benchmark.jsonl"),
                                              format="chosen-rejected"))]  # fmt: skip
        drawn = FileRef(folder / "pairs.jsonl", sha256_file(folder / "pairs.jsonl"))
        labeled = FileRef(folder / "labeled.jsonl", sha256_file(folder / "labeled.jsonl"))
        votes, proofs = (generated(run, writer, kind, ref) for kind, ref in (("votes", drawn), ("proofs", labeled)))
        measured: dict[str, Artifact] = {}
        stages: dict[str, Callable[[], Artifact]] = {
            "data": lambda: prepare(run, sets),
            "overlap": lambda: report_overlap(run, measured["data"], sets),
            "labels": lambda: keep_labels(run, 1, votes, drawn),
            "selected": lambda: select_proofs(run, 1, proofs, labeled),
            "training-set": lambda: judge_examples(run, 0, [measured["selected"]], None),
        }
        total = {"cpu_minutes": 0.0, "wall_minutes": 0.0}
        for stage, make in stages.items():
            with measuring(n) as figures:
                measured[stage] = make()
            counts = measured[stage].manifest.counts
            content = measured[stage].content[:12]
            print(
                json.dumps(
                    {"stage": stage, "rows_in": counts.rows_in, "kept": counts.kept, "content": content, **figures}
                )
            )
            total = {name: round(sum_ + figures[name], 2) for name, sum_ in total.items()}
        print(json.dumps({"rows": n, **total}))


@contextlib.contextmanager
def measuring(n: int) -> Iterator[dict[str, float]]:
    """Fills in CPU and wall minutes a million rows, and the most memory of this process and its children, in MiB."""
    figures: dict[str, float] = {}
    done, most = threading.Event(), [0]

    def watch() -> None:
        own = psutil.Process()
        while not done.wait(0.1):
            sizes = []
            for process in [own, *own.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    sizes.append(process.memory_info().rss)
            most[0] = max(most[0], sum(sizes))

    watching = threading.Thread(target=watch)
    watching.start()
    cpu, wall = cpu_seconds(), time.perf_counter()
    yield figures
    figures["cpu_minutes"] = round((cpu_seconds() - cpu) / 60 * MILLION / n, 2)
    figures["wall_minutes"] = round((time.perf_counter() - wall) / 60 * MILLION / n, 2)
    done.set()
    watching.join()
    figures["peak_mib"] = most[0] >> 20


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


# ---- what the stages are given ---------------------------------------------------------------------------------------------


def write_sources(writer: Writer, folder: Path, n: int) -> None:
    """The sources, a benchmark (some rows of which are copied into the sources), and the pairs that are voted on and proved."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def row() -> dict[str, Any]:
        return {"prompt": writer.text(500), "chosen": writer.text(1500), "rejected": writer.text(1500)}

    known = [row() for _ in range(2667)]
    write_jsonl(folder / "benchmark.jsonl", known)
    copies = [{**row(), "prompt": one["prompt"]} for one in known[: n // 1000]]
    write_jsonl(
        folder / "chosen.jsonl",
        (copies[i // 500] if i % 500 == 0 and i // 500 < len(copies) else row() for i in range(n // 2)),
    )
    write_jsonl(
        folder / "told.jsonl",
        ({**row(), "response_a": "a", "response_b": "b", "label": "A", "rationale": "So."} for _ in range(4)),
    )
    schema = pa.schema(
        {"question": pa.string(), "answers": pa.list_(pa.struct({"text": pa.string(), "pm_score": pa.int64()}))}
    )
    with pq.ParquetWriter(folder / "asked.parquet", schema) as table:
        for start in range(0, n // 2, 1000):
            rows = [
                {
                    "question": one["prompt"],
                    "answers": [{"text": one[side], "pm_score": k} for k, side in enumerate(("chosen", "rejected"))],
                }
                for one in (row() for _ in range(min(1000, n // 2 - start)))
            ]
            table.write_table(pa.Table.from_pylist(rows, schema))
    write_jsonl(folder / "pairs.jsonl", (pair(writer, i) for i in range(n)))
    write_jsonl(folder / "labeled.jsonl", ({**pair(writer, i), "label": "AB"[i % 2]} for i in range(n)))


def pair(writer: Writer, i: int) -> dict[str, Any]:
    prompt = [{"role": "user", "content": writer.text(500)}]
    return {
        "id": f"{i:016x}",
        "prompt": prompt,
        "response_a": writer.text(1500),
        "response_b": writer.text(1500),
        "source": "world",
    }


def run_in(folder: Path, n: int) -> Run:
    recipe = load_recipe("demo", store=str(folder / "runs"), run_name="data").model_dump(mode="json")
    sources = {
        "data.rationale": [{"path": str(folder / "told.jsonl")}],
        "data.labeled": [{"path": str(folder / "chosen.jsonl"), "format": "chosen-rejected"}],
        "data.unlabeled": [{"path": str(folder / "asked.parquet"), "format": "stack-exchange"}],
        "data.heldout": [],
        "data.heldout_share": 0.002,
        **FIXED_THRESHOLD,
        "data.overlap": "prompt",
        "data.contamination": "report",
        "data.unlabeled_truth": False,
    }
    judge = {
        "models.judge_prompt": "gram-r2",
        "models.max_tokens": 8192,
        "labels.max_tokens": 1024,
        "proofs.max_tokens": 1024,
    }
    rounds = {"rounds.count": 1, "rounds.pairs": n // 2}
    return Run(RunStore(folder / "runs", "data"), with_overrides(recipe, {**sources, **judge, **rounds}), 0)


def generated(run: Run, writer: Writer, kind: str, rows: FileRef) -> Artifact:
    """A finished stage with votes on, or proofs of, every row of a file, as the engines write them."""
    made = lines_of_votes if kind == "votes" else lines_of_proofs

    def body(context: Context) -> Outcome:
        folder = context.work / f"shards-{SHARD_ROWS}"
        with rows.path.open(encoding="utf-8") as stream:
            lines = made(writer, map(json.loads, stream))
            n = 0
            while block := [line for _, line in zip(range(SHARD_ROWS), lines, strict=False)]:
                write_jsonl(folder / f"{n // SHARD_ROWS:06d}.jsonl", block)
                n += len(block)
        return Outcome(Counts(n, n), {"shard_rows": SHARD_ROWS, "attempts": 1})

    return run.find_or_make(f"round-1/{kind}", kind, {}, {"rows": rows}, body)


def lines_of_votes(writer: Writer, rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for i, row in enumerate(rows):
        better = writer.rng.choice("AB")
        requests = [
            {"name": order, "seed": 7, "completions": [vote(writer, label) for _ in range(VOTES)]}
            for order, label in in_both_orders(better)
        ]
        yield {"row": i, "id": row["id"], "requests": requests}


def in_both_orders(label: str) -> Iterator[tuple[str, str]]:
    yield "ab", label
    yield "ba", "BA"["AB".index(label)]


def vote(writer: Writer, label: str) -> dict[str, Any]:
    label = label if writer.rng.random() < 0.9 else "A"
    text = f"<think>\n{writer.rationale(label, 'x')}\n</think>\n<answer>\n{label}\n</answer>"
    return {
        "text": text if writer.rng.random() < 0.97 else text[:-9],
        "finished": True,
        "n_tokens": 350,
        "logprob": -81.23,
    }


def lines_of_proofs(writer: Writer, rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for i, row in enumerate(rows):
        requests = [
            {"name": order, "seed": 7, "completions": [proof(writer, label, row) for _ in range(PROOFS)]}
            for order, label in in_both_orders(row["label"])
        ]
        yield {"row": i, "id": row["id"], "requests": requests}


def proof(writer: Writer, label: str, row: dict[str, Any]) -> dict[str, Any]:
    words = row["response_a"].split()
    start = writer.rng.randrange(len(words))
    quoted = " ".join(words[start : start + 5]) if writer.rng.random() < 0.8 else "this is not there"
    logprob = -200 * writer.rng.random()
    return {
        "text": PROVE.opening + writer.rationale(label if writer.rng.random() < 0.95 else "A", quoted),
        "finished": writer.rng.random() < 0.98,
        "n_tokens": 350,
        "logprob": logprob,
        "logprob_alone": 1.3 * logprob - 5,
    }


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
