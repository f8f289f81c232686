"""What a disturbed run must look like in the end, checked by its files, logs and processes."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from data.files import read_jsonl
from data.store.artifacts import MANIFEST, Artifact, Manifest
from tests.chaos.subject import LOG_EVERY, Subject

_MOST_TOKENS = 1.05
_ENDING_S = 30.0
_GENERATING = ("vote", "prove", "benchmark")


@dataclass
class Checked:
    """Missing and duplicate rows; tokens as a share of the undisturbed run's; steps trained twice."""

    lost: int
    doubled: int
    tokens: float
    steps_again: int
    problems: list[str] = field(default_factory=list)

    def is_sound(self) -> bool:
        return not (self.lost or self.doubled or self.problems)


@dataclass
class Evidence:
    """The rows of unfinished shards that were on disk after their engine was killed: none may be lost."""

    rows: dict[tuple[str, int], bytes] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def take(self, subject: Subject) -> None:
        """Records the unfinished shards, once no engine is writing any."""
        if subject.children("tasks.generation.worker"):
            return
        for partial in subject.folder.glob(".work/*/shards-*/.*.partial"):
            shard = (partial.parts[-3].rpartition("-")[0], int(partial.name.split(".")[1]))
            content = partial.read_bytes()
            if not content.startswith(self.rows.get(shard, b"")):
                self.problems.append(f"rows of {shard} that were on disk were regenerated")
            self.rows[shard] = content[: content.rfind(b"\n") + 1]

    def n_rows(self, shard: tuple[str, int]) -> int:
        return self.rows[shard].count(b"\n")

    def tokens(self) -> int:
        lines = (json.loads(line) for content in self.rows.values() for line in content.splitlines())
        return sum(c["n_tokens"] for line in lines for r in line.get("requests", ()) for c in r["completions"])


def check(subject: Subject, evidence: Evidence, undisturbed_tokens: int | None, n_kills: int = 0) -> Checked:
    """Checks every row, file and process of a run that has ended."""
    run, problems = subject.folder, list(evidence.problems)
    lost = doubled = 0
    for artifact in _artifacts(run):
        problems += [f"{artifact.path / name} {what}" for name, what in artifact.damage().items()]
        if artifact.manifest.kind in _GENERATING:
            shards = sorted(artifact.path.glob("shards-*/*.jsonl"))
            made = [line["row"] for shard in shards for line in read_jsonl(shard)]
            lost += len(set(range(artifact.manifest.counts.rows_in)) - set(made))
            doubled += len(made) - len(set(made))
        if artifact.manifest.counts.failed:
            problems.append(f"{artifact.manifest.name}: {artifact.manifest.counts.failed} failed")
    names = [line["name"] for line in read_jsonl(run / "metrics.jsonl")]
    problems += [f"metrics.jsonl has {name} twice" for name, n in Counter(names).items() if n > 1]
    problems += [f"{path} is left over" for path in run.glob(".work/*")]
    # On other workers, processes that have written their work may take some seconds to exit.
    _, left = psutil.wait_procs(
        [*subject.children("tasks.generation.worker"), *subject.children("tasks.training")], _ENDING_S
    )
    problems += [f"process {process.pid} is still running" for process in left]
    for shard, (times, there) in finished_shards(run).items():
        if times > 1:
            problems.append(f"{shard} was finished {times} times")
        if shard in evidence.rows and there < evidence.n_rows(shard):
            problems.append(f"{evidence.n_rows(shard)} rows of {shard} were on disk, but only {there} were kept")
    tokens = logged_tokens(run) + evidence.tokens()
    if undisturbed_tokens and tokens > _MOST_TOKENS * undisturbed_tokens:
        problems.append(f"{tokens} tokens, but {undisturbed_tokens} in the undisturbed run")
    share = tokens / undisturbed_tokens if undisturbed_tokens else 1.0
    again = _steps_again(run)
    # A checkpoint is taken at every logged step; one being written at the time of a kill does not count.
    if again > 2 * LOG_EVERY * n_kills:
        problems.append(f"{again} steps were trained again after {n_kills} kills")
    return Checked(lost, doubled, share, again, problems)


def _artifacts(run: Path) -> Iterator[Artifact]:
    for path in sorted(run.rglob(MANIFEST)):
        if not any(part.startswith(".") for part in path.relative_to(run).parts):
            yield Artifact(path.parent, Manifest.load(path))


def _logs(run: Path) -> Iterator[tuple[str, str]]:
    """Each stage's name, as in its work folder, with the log of its processes."""
    for log in sorted(run.glob("logs/*.log")):
        stage = re.sub(r"-[0-9a-f]{16}\.(engine-\d+|train)$", "", log.stem)
        yield stage, log.read_text(encoding="utf-8", errors="replace")


def finished_shards(run: Path) -> dict[tuple[str, int], tuple[int, int]]:
    """By stage and shard: how often it was finished, and how many of its rows existed when that attempt started."""
    found: dict[tuple[str, int], tuple[int, int]] = {}
    for stage, text in _logs(run):
        for number, there in re.findall(r"shard (\d+): \d+ rows made, (\d+) there", text):
            times, _ = found.get((stage, int(number)), (0, 0))
            found[stage, int(number)] = (times + 1, int(there))
    return found


def logged_tokens(run: Path) -> int:
    """The tokens of all attempts that finished a shard."""
    return sum(int(n) for _, text in _logs(run) for n in re.findall(r"rows made, \d+ there, (\d+) tokens", text))


def _steps_again(run: Path) -> int:
    """Training steps that were logged more than once, in units of training.log_every."""
    again = 0
    for _, text in _logs(run):
        steps = Counter(re.findall(r"^step (\d+) of", text, re.MULTILINE))
        again += sum(n - 1 for n in steps.values()) * LOG_EVERY
    return again
