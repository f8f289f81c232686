"""The export of the best judge, from the same hand-written run as the report's tests."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from data.records import Message, ResponsePair
from data.store.artifacts import Artifact, StageError
from data.store.store import RunStore
from prompts.judge import COMPACT, GRAM_R2
from tasks.export import base_name, export, prompt_facts
from tasks.model.chat import ChatEncoder
from tasks.model.device import resolved_dtype
from tasks.model.engine import Completion
from tasks.model.judging import JudgeQuery, build_request, read_answer
from tasks.rank.opening import settings_of
from tasks.run.checked import learned
from tasks.run.stage import Run
from tests.conftest import make
from tests.support.training_jobs import BASE
from tests.support.written_run import fake_run, put

Judges = list[tuple[int, Artifact, Artifact]]
Exported = tuple[Run, Judges, Artifact]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    run, judges = fake_run(tmp_path_factory.mktemp("runs"))
    return run, judges, export(run, judges, {"License of the data": "CC0"})


def front_matter(card: str) -> dict[str, object]:
    import yaml

    loaded: dict[str, object] = yaml.safe_load(card.split("---\n")[1])
    return loaded


def test_the_best_judge_is_exported_and_the_earlier_of_equals(exported: Exported) -> None:
    run, _, final = exported
    assert final.path == run.store.path / "final"
    assert json.loads((final.path / "config.json").read_text())["round"] == 1
    assert {"model.safetensors", "tokenizer.json", "prompt.txt", "prompt.json", "README.md"} < set(final.manifest.files)
    counts = final.manifest.counts
    assert (counts.rows_in, counts.kept, counts.dropped) == (4, 1, {"not_best": 3})
    assert final.manifest.metrics == {"chosen_round": 1, "accuracy": 0.7}


def test_weights_are_linked_not_copied(exported: Exported) -> None:
    _, judges, final = exported
    assert (final.path / "model.safetensors").samefile(judges[1][1].path / "checkpoint" / "model.safetensors")


def test_the_exported_prompt_is_the_one_trained_with(exported: Exported) -> None:
    folder = exported[2].path
    facts = json.loads((folder / "prompt.json").read_text(encoding="utf-8"))
    assert (
        facts["sha256"] == hashlib.sha256((folder / "prompt.txt").read_bytes()).hexdigest() == COMPACT.template.sha256
    )
    assert facts["name"] == "compact"
    assert facts["fields"] == {"user_input": "question", "response_1": "response_a", "response_2": "response_b"}
    assert facts["reply"]["example"] == "<think> {rationale} </think><answer>A</answer>"
    models, labels = exported[0].settings.models, exported[0].settings.labels
    assert settings_of(str(folder)) == {
        "max_tokens": labels.max_tokens,
        "context": models.max_tokens,
        "dtype": resolved_dtype(models.dtype),
    }


def test_prompt_facts_name_every_field_of_a_template() -> None:
    text = GRAM_R2.template.text
    for field in prompt_facts(GRAM_R2)["fields"]:
        text = text.replace(f"{{{field}}}", "")
    assert "{" not in text


def test_the_card_tells_rounds_choice_and_data(exported: Exported) -> None:
    card = (exported[2].path / "README.md").read_text(encoding="utf-8")
    head = front_matter(card)
    assert (head["library_name"], head["base_model"]) == ("transformers", "org/judge")
    assert "| 1 (this model) | 70.0% | 57.5% – 82.5% | 20 of 24 | 95.0% | 50 |" in card
    assert "| final | 70.0% |" in card
    assert "slightly optimistic" in card
    assert "so far.\n\n- Judge trained from [org/judge]" in card
    assert "- License of the data: CC0" in card
    assert "| batch-1 | 24 |" in card
    assert str(exported[0].store.root) not in card


def test_the_card_tells_how_held_out_pairs_were_judged(exported: Exported, tmp_path: Path) -> None:
    assert ", each judged greedily in both orders;" in (exported[2].path / "README.md").read_text(encoding="utf-8")
    sampled = export(*fake_run(tmp_path, benchmarks={"votes": 16, "temperature": 0.7}))
    card = (sampled.path / "README.md").read_text(encoding="utf-8")
    assert ", each judged 16 times in each order at temperature 0.7;" in card


def test_code_in_the_card_is_python(exported: Exported) -> None:
    card = (exported[2].path / "README.md").read_text(encoding="utf-8")
    blocks = card.split("```python\n")[1:]
    assert len(blocks) == 2
    for block in blocks:
        compile(block.split("```")[0], "card", "exec")


def test_the_snippet_fills_the_prompt_as_training_did(exported: Exported) -> None:
    folder = exported[2].path
    code = (folder / "README.md").read_text(encoding="utf-8").split("```python\n")[2]
    filled = code[code.index("question, response_a") : code.index("sampling =")]
    names: dict[str, object] = {"folder": str(folder)}
    exec("import json, re\nfrom pathlib import Path\n" + filled, names)
    pair = ResponsePair(
        "i", (Message("user", str(names["question"])),), str(names["response_a"]), str(names["response_b"])
    )
    assert names["messages"] == [message.to_json() for message in COMPACT.render(pair)]


@pytest.fixture(scope="module")
def exported_label_judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a judge that gives only the label, with the weights of the small world's base."""
    models = {"judge_base": str(BASE), "prover_base": str(BASE), "judge_prompt": "compact-label"}
    sampled = {"votes": 16, "temperature": 0.7}
    run = fake_run(tmp_path_factory.mktemp("labels"), (0.6, 0.7), models=models, benchmarks=sampled)
    folder = export(*run).path
    for file in BASE.iterdir():
        (folder / file.name).unlink(missing_ok=True)
        shutil.copy(file, folder)
    return folder


def test_the_card_of_a_label_judge_tells_that_its_verdict_is_read_from_probabilities(
    exported_label_judge: Path,
) -> None:
    card = (exported_label_judge / "README.md").read_text(encoding="utf-8")
    assert ", each judged by the probabilities of the tokens A and B, in both orders;" in card
    assert "temperature 0.7" not in card
    assert "reply that cannot be read" not in card
    assert "The reply has this form" not in card


@pytest.mark.parametrize("heading", ["transformers", "vLLM"])
def test_the_snippets_of_a_label_judge_read_it_as_its_benchmark_does(
    exported_label_judge: Path, heading: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = ChatEncoder.load(str(BASE))
    query = JudgeQuery("compact-label", max_tokens=64, context=512)
    pair = make(question="Why is the sky blue?", a="Rayleigh scattering.", b="It reflects the sea.")
    request = build_request(query, encoder, pair, "ab")
    assert request is not None
    with torch.no_grad():
        logits_V = AutoModelForCausalLM.from_pretrained(BASE, dtype="float32")(
            torch.tensor([request.prompt_ids])
        ).logits[0, -1]
    logprobs = logits_V.log_softmax(-1)[list(request.sampling.logprob_ids)].tolist()
    expected = read_answer(query, Completion("", [0], finished=True, id_logprobs=logprobs)).verdict
    assert expected is not None

    def chat(messages: list[dict[str, str]], how: dict[str, Any]) -> list[Any]:
        assert messages == [message.to_json() for message in query.judge_prompt.render(pair)]
        assert (how["max_tokens"], tuple(how["logprob_token_ids"])) == (1, request.sampling.logprob_ids)
        first = {i: SimpleNamespace(logprob=one) for i, one in zip(request.sampling.logprob_ids, logprobs, strict=True)}
        return [SimpleNamespace(outputs=[SimpleNamespace(logprobs=[first])])]

    llm = SimpleNamespace(chat=chat, get_tokenizer=lambda: encoder.tokenizer)
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=lambda *_, **__: llm, SamplingParams=dict))
    monkeypatch.chdir(exported_label_judge)
    code = Path("README.md").read_text(encoding="utf-8").partition(f"### {heading}\n")[2]
    exec(code.split("```python\n")[1].split("```")[0], {})
    assert capsys.readouterr().out == f"{expected}\n"


def test_the_same_export_gives_the_same_bytes(tmp_path: Path) -> None:
    first = export(*fake_run(tmp_path / "one"))
    second = export(*fake_run(tmp_path / "two"))
    assert first.manifest.key == second.manifest.key
    assert first.content == second.content


def test_another_accuracy_makes_another_card(tmp_path: Path) -> None:
    first = export(*fake_run(tmp_path))
    second = export(*fake_run(tmp_path, (0.6, 0.7, 0.65, 0.71)))
    assert first.manifest.key != second.manifest.key
    assert second.manifest.metrics["chosen_round"] == 3


def test_an_interrupted_export_is_made_again(tmp_path: Path) -> None:
    run, judges = fake_run(tmp_path)
    final = export(run, judges)
    half = run.store.path / ".work" / f"final-{final.manifest.key[:16]}"
    (final.path / "manifest.json").unlink()
    final.path.rename(half)
    (half / "left-over.txt").write_text("half")
    again = export(Run(RunStore(tmp_path, "hand"), run.settings, run.seed, finished=list(run.finished[:-1])), judges)
    assert again.content == final.content


def test_no_judges_is_an_error(exported: Exported) -> None:
    run, _, _ = exported
    with pytest.raises(StageError, match="no judge to export"):
        export(run, [])


def test_a_local_base_is_named_without_its_path(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    assert base_name(str(tmp_path / "base")) == {"folder": "base"}
    assert base_name("gone/since/then") == {"folder": "then"}
    assert base_name("org/model") == {"hub": "org/model"}


def test_the_card_says_what_was_promised_gated_audited_and_reviewed(tmp_path: Path) -> None:
    run, judges = fake_run(tmp_path)
    promise = {"promised": 0.95, "holds": True, "bound": 0.961, "kept_share": 0.7, "groups": []}
    put(run, "round-1/threshold", "threshold", 1, {}, promise)
    put(run, "round-2/threshold", "threshold", 2, {}, {**promise, "holds": False})
    reason = "Round 1 passed: 70.0% of held-out judgments are right, 60.0% with round 0's judge"
    put(run, "round-1/gate", "gate", 1, {}, {"decision": "passed", "reason": reason})
    put(run, "reviewed-data", "reviewed-data", None, {}, {"reviewed": {"labeled": 31, "calibration": 8}})
    card = (export(run, judges).path / "README.md").read_text(encoding="utf-8")
    said = card.split("## How far its labels can be trusted\n\n")[1].split("\n\n")[0].splitlines()
    assert said[0] == "- Examples: 12 of labeled pairs, 38 of pseudo-labeled pairs."
    assert said[1:] == [
        "- Reviewed by people for this run, and learned from: 31 pairs.",
        "- Reviewed by people for this run, and used for calibration: 8 pairs.",
        "- Round 1: at least 95.0% of the kept labels were to be right; at least 96.1% was shown on calibration pairs.",
        f"- Gate: {reason}.",
        "- Round 2: at least 95.0% of the kept labels were to be right; this was not shown on calibration pairs.",
    ]


def test_examples_are_counted_by_who_labeled_them_and_in_which_round() -> None:
    row = {
        "round": 2,
        "labeled": 52,
        "human": 12,
        "pseudo_labeled": 446,
        "repeated": 30,
        "examples": 528,
        "examples_of": 528,
    }
    table = [{**row, "pseudo_by_round": {"1": 192, "2": 254}}]
    assert learned(table, 2) == (
        "52 of labeled pairs (12 with a rationale by people), 446 of pseudo-labeled pairs (192 of round 1, 254 of round 2), "
        "30 of labeled pairs again"
    )
    assert learned([{**table[0], "examples": 300}], 2) == f"{learned(table, 2)}; the training kept 300 of these"
    assert learned(table, 1) == ""
