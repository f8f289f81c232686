"""Real public files, where they are present: exact counts, each explained. No text of theirs is copied here."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from data.records import PreferencePair
from data.sources.sources import ColumnMap, Dropped, Source, SourceError, assign_order, read_source, source_fingerprint

DATA = Path(os.environ.get("GRAM_R2_DATA", Path(__file__).parents[2] / "../shared/data")).expanduser()


def real(file: str) -> str:
    path = DATA / file
    if not path.is_file():
        pytest.skip(f"{path} is not here; set GRAM_R2_DATA to a folder with the public files")
    return str(path)


def reasons(source: Source, seed: int = 0) -> Counter[str]:
    items = read_source(source, "preference", seed)
    return Counter(item.reason if isinstance(item, Dropped) else item.label for item in items)


def hh_rlhf() -> Source:
    return Source(path=real("hh-rlhf/harmless-base/test.jsonl.gz"), format="chosen-rejected")


def test_hh_rlhf() -> None:
    """2,312 transcripts: 4 empty last answers; 5 where one side has two assistant turns in a row at its end."""
    [digest] = source_fingerprint(hh_rlhf()).values()
    assert digest == "ebfaaed21162a4de120ae85366075b34425e2a6303fac59b99555002f7016f03"
    counts = reasons(hh_rlhf())
    assert counts.total() == 2312
    assert (counts["empty_response"], counts["prompts_differ"], counts["A"] + counts["B"]) == (4, 5, 2303)
    # Balanced over all rows; dropping 9 can leave a surplus of 9 at most.
    assert abs(counts["A"] - counts["B"]) <= 9


def test_hh_rlhf_rows_that_differ_before_the_last_answer() -> None:
    items = list(read_source(hh_rlhf(), "preference", 0))
    differing = [item for item in items if isinstance(item, Dropped) and item.reason == "prompts_differ"]
    assert [int(item.where.rsplit(":", 1)[1]) for item in differing] == [1255, 1689, 1951, 1953, 2037]


def test_hh_rlhf_conversations_end_with_the_user_and_keep_their_ids_across_seeds() -> None:
    one, two = ([*read_source(hh_rlhf(), "preference", seed)] for seed in (0, 1))
    kept = 0
    for index, (left, right) in enumerate(zip(one, two, strict=True)):
        if not isinstance(left, PreferencePair):
            assert left == right
            continue
        kept += 1
        assert left.label == assign_order(index, 0)
        assert right in (left, left.swapped())
        assert left.pair.prompt[-1].role == "user"
        texts = [*(turn.content for turn in left.pair.prompt), left.pair.response_a, left.pair.response_b]
        assert not any("\n\nHuman:" in text or "\n\nAssistant:" in text for text in texts)
    assert kept == 2303


@pytest.mark.parametrize(
    ("language", "n_system", "n_multi_turn"),
    [("en", 80, 106), ("zh", 64, 0)],
)
def test_llamafactory_dpo(language: str, n_system: int, n_multi_turn: int) -> None:
    """300 ShareGPT rows each, none dropped; an even number of rows is exactly balanced."""
    source = Source(path=real(f"llamafactory-dpo/dpo_{language}_demo.json"), format="chosen-rejected")
    assert reasons(source) == {"A": 150, "B": 150}
    pairs = list(read_source(source, "pair", 0))
    prompts = [pair.prompt for pair in pairs if not isinstance(pair, Dropped)]
    assert sum(prompt[0].role == "system" for prompt in prompts) == n_system
    assert sum(any(turn.role == "assistant" for turn in prompt) for prompt in prompts) == n_multi_turn


PANDALM = ColumnMap(
    prompt="instruction",
    prompt_extra="input",
    response_a="response1",
    response_b="response2",
    label="annotator1",
    label_a=[1],
    label_b=[2],
    label_tie=[0],
    id="idx",
)


def test_pandalm_by_column_map() -> None:
    """999 rows: 6 hold the JSON value true as a response, 54 an empty one, 95 of the rest are ties.

    One instruction is blank, with the whole task in `input`: it is kept.
    """
    path = real("pandalm/testset-v1.json")
    source = Source(path=path, format="columns", columns=PANDALM, max_malformed=6)
    counts = reasons(source)
    assert counts == {"A": 400, "B": 444, "tie": 95, "empty_response": 54, "malformed": 6}
    assert counts.total() == 999
    with pytest.raises(
        SourceError,
        match=r"testset-v1.json, row 158: field 'response1': must be a string or a list of messages, got bool True",
    ):
        reasons(Source(path=path, format="columns", columns=PANDALM))
    with pytest.raises(SourceError, match=r"row 165: .*the 5 malformed rows that max_malformed allows"):
        reasons(source.model_copy(update={"max_malformed": 5}))


def test_pandalm_read_as_unlabeled_pairs_keeps_ties() -> None:
    source = Source(path=real("pandalm/testset-v1.json"), format="columns", columns=PANDALM, max_malformed=6)
    items = list(read_source(source, "pair_with_truth", 0))
    truths = Counter(item.reason if isinstance(item, Dropped) else item[1] for item in items)
    assert truths == {"A": 400, "B": 444, None: 95, "empty_response": 54, "malformed": 6}


def test_pandalm_with_a_wrong_column_says_which_there_are() -> None:
    columns = PANDALM.model_copy(update={"prompt": "question"})
    source = Source(path=real("pandalm/testset-v1.json"), format="columns", columns=columns)
    with pytest.raises(
        SourceError, match=r"row 1: field 'question': is missing: the row has the columns idx, .*annotator3"
    ):
        reasons(source)
