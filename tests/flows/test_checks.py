"""What would stop a run later is said before anything is spent: the store, data, models and endpoints."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from data.world.splits import write_splits
from flows.config.checks import check
from flows.config.parameters import BaselinesConfig, BenchmarkConfig
from flows.config.recipes import checked, load_recipe_of, with_overrides
from tests.conftest import free_port
from tests.support.checking import BASE, config, refusal
from tests.support.commands import gram_r2

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 2747\n"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_splits(folder, seed=0)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BASE, tmp_path / "model"))


def test_what_can_be_run_passes(world: Path, tmp_path: Path) -> None:
    check(config(world, store=str(tmp_path)))


# ---- models ---------------------------------------------------------------------------------------------------------------


def test_a_context_longer_than_the_model_reads_is_refused(world: Path, model: Path) -> None:
    text = refusal(config(world, **{"models.judge_base": str(model), "models.max_tokens": 513}))
    whose = f"models.max_tokens = 513 is more than models.judge_base = '{model}' can read: 512 tokens (its config.json)"
    assert f"{whose}. Lower models.max_tokens" in text
    check(config(world, **{"models.max_tokens": 512}))


def with_config(model: Path, **more: Any) -> None:
    (model / "config.json").write_text(json.dumps({**json.loads((model / "config.json").read_text()), **more}))


def test_a_model_that_cannot_be_trained_on_text_is_refused(world: Path, model: Path) -> None:
    with_config(model, model_type="mistral3", vision_config={})
    said = "a model of the type mistral3 also takes images or sound, and transformers cannot train it on text alone"
    for role in ("judge", "prover"):
        text = refusal(config(world, **{f"models.{role}_base": str(model)}))
        assert text.startswith(f"models.{role}_base = '{model}': {said}")
    check(benchmark(world, str(model)))
    with_config(model, model_type="gemma3")
    check(config(world, **{"models.judge_base": str(model)}))


def break_lfs(model: Path) -> str:
    (model / "model.safetensors").write_text(POINTER)
    return "is a Git LFS pointer, not the file itself"


def adapter(model: Path) -> str:
    (model / "config.json").unlink()
    (model / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/base"}))
    return "holds an adapter of org/base, which is not available"


def no_tokenizer(model: Path) -> str:
    (model / "tokenizer.json").unlink()
    return "has no tokenizer"


def with_template(template: str | None) -> Callable[[Path], str]:
    def change(model: Path) -> str:
        told = json.loads((model / "tokenizer_config.json").read_text())
        (model / "tokenizer_config.json").write_text(json.dumps({**told, "chat_template": template}))
        return "cannot be rendered (" if template else "has no chat template: use an instruction-tuned model"

    return change


@pytest.mark.parametrize(
    "breaking",
    [
        break_lfs,
        adapter,
        no_tokenizer,
        with_template(None),
        with_template("{% for m in messages %}"),
        with_template("{{ raise_exception('only tools') }}"),
    ],
)
def test_a_folder_that_is_no_whole_model_is_refused(breaking: Any, world: Path, model: Path) -> None:
    message = breaking(model)
    for role in ("judge", "prover"):
        text = refusal(config(world, **{f"models.{role}_base": str(model)}))
        assert text.startswith(f"models.{role}_base: ")
        assert str(model) in text
        assert message in text
        assert "\n" not in text


def test_templates_in_a_file_or_by_name_are_tried(world: Path, model: Path) -> None:
    file = model / "tokenizer_config.json"
    told = json.loads(file.read_text())
    named = [{"name": "tool_use", "template": "{{"}, {"name": "default", "template": told["chat_template"]}]
    file.write_text(json.dumps({**told, "chat_template": named}))
    check(config(world, **{"models.judge_base": str(model)}))
    (model / "chat_template.jinja").write_text("{{ nothing.at.all }}")
    assert "cannot be rendered (" in refusal(config(world, **{"models.judge_base": str(model)}))


def test_a_template_that_refuses_the_runs_system_turn_is_refused(world: Path, model: Path) -> None:
    picky = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}x"
    with_template(picky)(model)
    check(config(world, **{"models.judge_base": str(model)}))
    text = refusal(config(world, **{"models.judge_base": str(model), "models.system": "Be fair."}))
    assert "cannot be rendered (no system role)" in text
    assert text.endswith("if it takes no system turn, leave out models.system")


def test_special_tokens_with_options_or_in_a_file_of_their_own_are_known_to_the_template(
    world: Path, model: Path
) -> None:
    file = model / "tokenizer_config.json"
    told = json.loads(file.read_text())
    told["bos_token"] = {"__type": "AddedToken", "content": "<s>"}
    file.write_text(json.dumps({**told, "chat_template": "{{ bos_token + eos_token + messages[0]['content'] }}"}))
    (model / "special_tokens_map.json").write_text(json.dumps({"eos_token": {"content": "</s>"}}))
    check(config(world, **{"models.judge_base": str(model)}))
    file.write_text(POINTER)
    assert "tokenizer_config.json is not a JSON object" in refusal(config(world, **{"models.judge_base": str(model)}))


def test_an_adapter_whose_base_is_at_hand_passes(world: Path, model: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(model)}))
    (adapter / "prompt.json").write_text('{"name": "compact"}')
    given = benchmark(world, str(adapter)).model_dump(mode="json")
    check(with_overrides(given, {"judge.prompt": ""}, BenchmarkConfig))


def test_the_plan_refuses_it_too_in_one_line(model: Path) -> None:
    break_lfs(model)
    done = gram_r2("plan", "demo", "--set", f"models.judge_base={model}")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "is a Git LFS pointer" in done.err


def test_an_endpoint_cannot_be_trained(world: Path) -> None:
    text = refusal(config(world, **{"models.judge_base": "http://127.0.0.1:9/v1"}))
    assert text == "models.judge_base: 'http://127.0.0.1:9/v1' is an endpoint: only a checkpoint can be trained"


class _Refusing(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status = 200 if self.path == "/good/v1/models" else 401 if self.path.startswith("/key") else 404
        body = b'{"object": "list", "data": []}' if status == 200 else b'{"error": {"message": "no such key"}}'
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Refusing) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()


def benchmark(world: Path, judge: str) -> BenchmarkConfig:
    sets = [{"benchmark": "preferences", "data": f"{world}/heldout.jsonl"}]
    given = {"judge.path": judge, "judge.prompt": "compact", "benchmarks.sets": sets}
    return with_overrides(load_recipe_of("benchmark", "demo").model_dump(), given, BenchmarkConfig)


def test_an_endpoint_that_cannot_be_used_is_refused_before_a_game(world: Path, server: str) -> None:
    check(benchmark(world, f"{server}/good/v1#m"))
    assert "refuses the API key (HTTP 401: no such key): set OPENAI_API_KEY" in refusal(
        benchmark(world, f"{server}/key/v1#m")
    )
    assert 'most servers\' URLs end with "/v1"' in refusal(benchmark(world, server))
    text = refusal(benchmark(world, f"http://127.0.0.1:{free_port()}/v1#m"))
    assert text.startswith("judge.path: nothing answers at http://127.0.0.1:")
    assert text.endswith("is the server running, and are host and port right?")


def test_a_judge_whose_prompt_is_unknown_or_whose_reply_fills_its_context_is_refused(world: Path, model: Path) -> None:
    given = benchmark(world, str(model)).model_dump(mode="json")
    unknown = with_overrides(given, {"judge.prompt": ""}, BenchmarkConfig)
    assert refusal(unknown).startswith(f"judge.prompt: {model}: the prompt that this judge was trained with is unknown")
    (model / "prompt.json").write_text('{"name": "compact"}')
    text = refusal(with_overrides(given, {"judge.prompt": "", "benchmarks.max_tokens": 128}, BenchmarkConfig))
    assert text.startswith("judge.max_tokens = 128 leaves no room for a prompt beside a reply of 128 tokens")
    (model / "prompt.json").write_text('{"name": "compact-label"}')
    check(with_overrides(given, {"judge.prompt": "", "benchmarks.max_tokens": 128}, BenchmarkConfig))


# ---- data, store, packages, GPUs ------------------------------------------------------------------------------------------


def test_data_that_is_not_there_or_cannot_be_what_it_is_read_as_is_refused(world: Path) -> None:
    text = refusal(
        config(
            world,
            **{
                "data.labeled.0.path": "none.jsonl",
                "data.rationale.0.format": "chosen-rejected",
                "benchmarks.sets": [
                    {"benchmark": "rm-bench", "data": "no/folder"},
                    {"benchmark": "ppe", "data": "${NO_SUCH_VARIABLE}/ppe"},
                ],
            },
        )
    ).splitlines()
    assert [line.partition(": ")[0] for line in text] == [
        "data.rationale.0",
        "data.labeled.0",
        "benchmarks.sets.0.data",
        "benchmarks.sets.1.data",
    ]


def test_every_seed_of_a_comparison_has_its_data(world: Path) -> None:
    data = {f"data.{part}": [{"path": f"{world}/{part}.jsonl"}] for part in ("rationale", "labeled", "unlabeled")}
    given = {**data, "data.heldout": [{"path": f"{world}/held-{{seed}}.jsonl"}], "seeds": [1, 2]}
    (world / "held-1.jsonl").write_text((world / "heldout.jsonl").read_text())
    recipe = load_recipe_of("baselines", "world").model_dump(mode="json")
    text = refusal(with_overrides(recipe, given, BaselinesConfig))
    assert text.startswith(f"data.heldout.0: path '{world}/held-2.jsonl'")


def test_the_smallest_configuration_is_checked_whole() -> None:
    data = {key: [{"path": f"/none/{key}.jsonl"}] for key in ("rationale", "labeled", "unlabeled")}
    given = checked({"run_name": "x", "models": {"judge_base": str(BASE), "prover_base": str(BASE)}, "data": data})
    lines = refusal(given).splitlines()
    assert [line.split(" ")[0] for line in lines] == [
        "data.rationale.0:",
        "data.labeled.0:",
        "data.unlabeled.0:",
        *["models.max_tokens"] * 2,
    ]


def test_nothing_is_fetched_from_the_hub_for_the_checks(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is resumed without network finds its stage "data" by the coordinates alone."""

    def fetch(*_: Any, **__: Any) -> None:
        pytest.fail("the hub was asked")

    monkeypatch.setattr("data.sources.rows.hub_blocks", fetch)
    check(config(world, **{"data.labeled": [{"dataset": "helpsteer3"}]}))
    text = refusal(config(world, **{"data.rationale": [{"path": "hub:o/n", "format": "chosen-rejected"}]}))
    assert "rationales were requested, but this source" in text


def test_a_path_that_means_nothing_here_is_refused(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNSET", raising=False)
    given = {"store": "${UNSET}/runs", "models.judge_base": "$UNSET/base", "models.prover_base": "~no-such-user/base"}
    lines = refusal(config(world, **given)).splitlines()
    unset, unknown = "the environment variable UNSET is not set", "there is no user 'no-such-user'"
    assert lines[0] == f"store: path '${{UNSET}}/runs': {unset}; set it, or write the full path"
    assert lines[1].startswith(
        f"models.judge_base: the model '$UNSET/base' cannot be found: path '$UNSET/base': {unset}"
    )
    assert unknown in lines[2]
