"""Judges that learn without a model: a word's taste is what most of the rationales that they were trained on say of it.

A prover writes the true rationale if it concludes for the label; else it says the opposite of every word. A round's votes can be
poisoned: its judge then labels every pair that has a word of one class the other way round.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from data.files import read_jsonl, write_json
from data.records import Label, ResponsePair, flip
from data.seeds import derive_seed
from data.world import taste
from prompts.prove import PROVE_COMPACT
from tasks.generation.local import GenerationStats
from tasks.generation.shards import GenerationJob
from tasks.model.chat import ChatEncoder
from tasks.model.engine import FakeEngine, Request
from tasks.training.job import RESULT, TrainingJob
from tests.conftest import InProcess, shown_pair

LEARNED = "learned.jsonl"
BASE = taste.known_words(taste.JUDGE_KNOWS)
POISONED = frozenset(taste.WORDS[::8])
_PROVED = re.compile(r"([AB]) is better\. Why")
_SAID = re.compile(r"(\w+) (yes|no)\b")


def copies(job: TrainingJob, *_: object) -> None:
    """Stands in for a training: its model is the base, with the examples beside the weights."""
    out = Path(job.out)
    shutil.copytree(job.base, out / "checkpoint", ignore=shutil.ignore_patterns(LEARNED), dirs_exist_ok=True)
    shutil.copy(job.examples, out / "checkpoint" / LEARNED)
    n = len(list(read_jsonl(Path(job.examples))))
    files = sorted(path.relative_to(out).as_posix() for path in (out / "checkpoint").rglob("*") if path.is_file())
    counts = {"rows_in": n, "kept": n, "dropped": {}}
    write_json(out / RESULT, {"files": files, "counts": counts, "metrics": {"tokens": n}})


def beliefs(rationales: Iterable[str], seed: int) -> Callable[[str], bool]:
    """What a judge that has learned these believes of a word; of one that it has not learned, what its base knows or guesses."""
    said: Counter[str] = Counter()
    for word, liked in chain.from_iterable(map(_SAID.findall, rationales)):
        said[word] += 1 if liked == "yes" else -1

    def believed(word: str) -> bool:
        if said[word]:
            return said[word] > 0
        return taste.likes(word) if word in BASE else derive_seed(seed, "guess", word) % 2 == 0

    return believed


def argued(pair: ResponsePair, label: str) -> str:
    """A rationale that concludes for the label: the truth, or the opposite of all of it."""
    is_true = taste.verdict(pair) == label
    return taste.rationale(pair, lambda word: taste.likes(word) == is_true)


def judged(pair: ResponsePair, believed: Callable[[str], bool], lies: bool = False) -> Label | None:
    """The verdict of such a judge, None if it finds both equal; one that `lies` flips it for pairs with a poisoned word."""
    verdict = taste.verdict(pair, believed)
    return flip(verdict) if verdict and lies and POISONED.intersection(chain(*taste.words_of(pair))) else verdict


@dataclass
class Learning:
    """Carries out generation by what each job's model has learned; the votes of the `poisoned` rounds are not honest."""

    encoder: ChatEncoder
    seed: int = 0
    poisoned: Collection[int] = ()

    def __call__(self, job: GenerationJob, *rest: Any) -> GenerationStats:
        learned = read_jsonl(Path(job.model) / LEARNED)
        believed = beliefs((example["rationale"] for example in learned), self.seed)
        stage = Path(job.out).parent.name
        lies = any(stage.startswith(f"round-{i}--votes") for i in self.poisoned)

        def reply(request: Request, j: int) -> str:
            pair, text = shown_pair(self.encoder, request), self.encoder.tokenizer.decode(list(request.prompt_ids))
            if found := _PROVED.search(text):
                return PROVE_COMPACT.to_proof(argued(pair, found[1]))
            verdict = judged(pair, believed, lies)
            if verdict is None:  # it finds both equal, and says A in either order
                return "<think> So A is better. </think><answer>A</answer>"
            return f"<think> So {verdict} is better. </think><answer>{verdict}</answer>"

        return InProcess(FakeEngine(reply), self.encoder)(job, *rest)
