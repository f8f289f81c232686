"""What a disturbed run must look like in the end, checked by its files, logs and processes."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from data.files import read_jsonl
from data.store.artifacts import Manifest
from tests.chaos.subject import LOG_EVERY, Subject, artifacts, manifests

_MOST_TOKENS = 1.05
_ENDING_S = 30.0
_GENERATING = ("calibration-vote", "vote", "prove", "audit-proofs", "judge-proofs", "benchmark")


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
    """What was on disk after a fault, none of which may be lost or made again: finished stages, rows of unfinished shards."""

    rows: dict[tuple[str, int], bytes] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    finished: dict[str, Manifest] = field(default_factory=dict)

    def take(self, subject: Subject) -> None:
        """Records the finished stages and, once no engine is writing any, the unfinished shards."""
        self.finished |= {name: made for name, made in manifests(subject.folder).items() if name not in self.finished}
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


def check(
    subject: Subject, evidence: Evidence, undisturbed_tokens: Mapping[str, int] | None, n_kills: int = 0
) -> Checked:
    """Checks every row, file and process of a run that has ended. The undisturbed run may have stages that this one has not."""
    run, problems = subject.folder, list(evidence.problems)
    lost = doubled = 0
    for artifact in artifacts(run):
        problems += [f"{artifact.path / name} {what}" for name, what in artifact.damage().items()]
        if artifact.manifest.kind in _GENERATING:
            shards = sorted(artifact.path.glob("shards-*/*.jsonl"))
            made = [line["row"] for shard in shards for line in read_jsonl(shard)]
            lost += len(set(range(artifact.manifest.counts.rows_in)) - set(made))
            doubled += len(made) - len(set(made))
        if artifact.manifest.counts.failed:
            problems.append(f"{artifact.manifest.name}: {artifact.manifest.counts.failed} failed")
    problems += _made_again(subject, evidence)
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
    logged = logged_tokens(run)
    tokens, wanted = (
        logged.total() + evidence.tokens(),
        sum((undisturbed_tokens or {}).get(stage, 0) for stage in logged),
    )
    if undisturbed_tokens and tokens > _MOST_TOKENS * wanted:
        problems.append(f"{tokens} tokens, but {wanted} in the undisturbed run")
    share = tokens / wanted if undisturbed_tokens else 1.0
    again = _steps_again(run)
    # A checkpoint is taken at every logged step; one being written at the time of a kill does not count.
    if again > 2 * LOG_EVERY * n_kills:
        problems.append(f"{again} steps were trained again after {n_kills} kills")
    return Checked(lost, doubled, share, again, problems)


def _made_again(subject: Subject, evidence: Evidence) -> list[str]:
    """The stages that were made again, or are said to have been, although they had been finished."""
    made, lines = manifests(subject.folder), list(read_jsonl(subject.folder / "metrics.jsonl"))
    problems = [f"{name} was made again" for name, before in evidence.finished.items() if made.get(name) != before]
    listed = Counter(line["name"] for line in lines)
    if listed != Counter(list(made)):
        problems.append(f"metrics.jsonl lists {sorted(listed.elements())}, finished are {sorted(made)}")
    reused = {line["name"] for line in lines if line["reused"]}
    if evidence.finished and reused != subject.found.keys():
        problems.append(f"metrics.jsonl says that {sorted(reused)} were reused, but it was {sorted(subject.found)}")
    return problems


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


def logged_tokens(run: Path) -> Counter[str]:
    """The tokens of all attempts that finished a shard, by stage."""
    tokens: Counter[str] = Counter()
    for stage, text in _logs(run):
        tokens[stage] += sum(int(n) for n in re.findall(r"rows made, \d+ there, (\d+) tokens", text))
    return tokens


def _steps_again(run: Path) -> int:
    """Training steps that were logged more than once, in units of training.log_every."""
    again = 0
    for _, text in _logs(run):
        steps = Counter(re.findall(r"^step (\d+) of", text, re.MULTILINE))
        again += sum(n - 1 for n in steps.values()) * LOG_EVERY
    return again
