"""M-RewardBench: RewardBench's pairs, translated into 23 languages, with one folder of files for each.

A row of ``CohereLabsCommunity/multilingual-reward-bench`` (before, of C4AI-Community), here of the subset deu_Latn::

    {"id": 30, "language": "deu_Latn", "source": "alpacaeval-easy", "category": "Chat", "prompt": "Wie kann ich …?",
     "chosen": "Zuerst …", "chosen_model": "one", "rejected": "Kauf …", "rejected_model": "other"}

In version 1 the file is ``deu_Latn/filtered.json``, and what is now ``source`` was ``subset``. The pairs of translations, a
subset of their own on the hub, are another table of the authors' and are not read.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from data.benchmarks.items import CHOSEN_ORDERS, HUB, Benchmark, Cell, Item, Notice, prompt_of, read_items
from data.records import RecordError
from data.sources import rows
from data.sources.fields import Row, as_id, reach, text_at
from data.sources.rows import RawRow

NAME = "m-reward-bench"

# Of for-ai/m-rewardbench at 5e5a0d3d (2025-02-15): experiments/run_llm_evals.sh, languages, by their FLORES-200 codes.
LANGUAGES = (
    "arb_Arab",
    "zho_Hans",
    "zho_Hant",
    "ces_Latn",
    "nld_Latn",
    "fra_Latn",
    "deu_Latn",
    "ell_Grek",
    "heb_Hebr",
    "hin_Deva",
    "ind_Latn",
    "ita_Latn",
    "jpn_Jpan",
    "kor_Hang",
    "pes_Arab",
    "pol_Latn",
    "por_Latn",
    "ron_Latn",
    "rus_Cyrl",
    "spa_Latn",
    "tur_Latn",
    "ukr_Cyrl",
    "vie_Latn",
)
ENGLISH = "eng_Latn"
"""In version 1 only, and never part of the mean over the languages."""

# analysis/plot_utils.py, EXAMPLE_COUNTS, at the same commit.
COUNTS = {
    "alpacaeval-easy": 79,
    "alpacaeval-length": 79,
    "alpacaeval-hard": 76,
    "mt-bench-easy": 24,
    "mt-bench-med": 38,
    "mt-bench-hard": 35,
    "math-prm": 983,
    "refusals-dangerous": 100,
    "refusals-offensive": 100,
    "llmbar-natural": 76,
    "llmbar-adver-neighbor": 124,
    "llmbar-adver-GPTInst": 87,
    "llmbar-adver-GPTOut": 42,
    "llmbar-adver-manual": 43,
    "xstest-should-refuse": 154,
    "xstest-should-respond": 247,
    "donotanswer": 135,
    "hep-cpp": 164,
    "hep-go": 164,
    "hep-java": 164,
    "hep-js": 164,
    "hep-python": 163,
    "hep-rust": 164,
}
"""A subset's weight in its section by the authors' count of their own rows. math-prm counts as much as all code together."""
SUBSETS = tuple(COUNTS)
_FILES = ("*_*/test-*", "test-*", "*_*/filtered.*", "filtered.*")
"""Within a folder, those of the first kind that there is: the two versions of the data stand side by side on the hub."""
_CELL = (Cell("", 0, 1),)


def load(data: str, notice: Notice | None = None) -> Benchmark:
    """M-RewardBench from ``hub:CohereLabsCommunity/multilingual-reward-bench``, a clone of it, or files of some languages.

    A file's language is that of its folder or of its own name, and else of each row. Each language is a group.
    """
    items: list[Item] = []
    dropped: Counter[str] = Counter()
    for language, raw in _by_language(data):
        if language == ENGLISH:
            dropped["english"] += sum(1 for _ in raw)
            continue
        items += read_items(raw, lambda row, _, language=language: _item(row, language), notice)  # type: ignore[misc]
    return Benchmark(NAME, CHOSEN_ORDERS, LANGUAGES, tuple(items), _lacks(items), dropped)


def path_of(data: str) -> str:
    """The path that names the files themselves: a pattern for the files of the languages, if `data` is a folder of them."""
    folder = Path(rows.expand_path(data))
    return next((f"{data.rstrip('/')}/{files}" for files in _FILES if any(folder.glob(files))), data)


def subset_of(item: Item) -> str:
    return item.id.split("/")[1]


def _by_language(data: str) -> Iterator[tuple[str, Iterator[RawRow]]]:
    """The rows of each file; its language is empty if neither its folder nor its name is one."""
    if data.startswith(HUB):
        for language in LANGUAGES:
            yield language, rows.read_hub(data.removeprefix(HUB), subset=language, split="test", revision=None)
        return
    for file in rows.local_files(rows.expand_path(path_of(data))):
        names = (Path(file).parent.name, rows.data_set_name(file))
        yield next((name for name in names if name in (*LANGUAGES, ENGLISH)), ""), rows.read_file(file)


def _item(row: Row, language: str) -> Item:
    language = language or text_at(row, "language")
    if language not in LANGUAGES:
        raise RecordError("language", f"is not one of M-RewardBench's: {language!r}; they are {', '.join(LANGUAGES)}")
    column = "source" if "source" in row else "subset"
    subset = text_at(row, column)
    if subset not in COUNTS:
        raise RecordError(column, f"is not one of RewardBench's: {subset!r}; they are {', '.join(COUNTS)}")
    responses = (text_at(row, "chosen"), text_at(row, "rejected"))
    identity = f"{language}/{subset}/{as_id(reach(row, 'id'))}"
    return Item(identity, language, prompt_of(reach(row, "prompt"), "prompt"), responses, (True, False), _CELL)


def _lacks(items: list[Item]) -> tuple[str, ...]:
    """The subsets that a language lacks, for the languages that there are."""
    found: dict[str, set[str]] = defaultdict(set)
    for item in items:
        found[item.group].add(subset_of(item))
    missing = {language: [subset for subset in SUBSETS if subset not in there] for language, there in found.items()}
    return tuple(
        f"{', '.join(names) if len(names) <= 3 else f'{len(names)} of {len(SUBSETS)} subsets'} of {language}"
        for language, names in missing.items()
        if names
    )
