"""``gram-r2 serve``: what it says before anything is started."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest

from tasks.reward.serving import _bound
from tests.conftest import ROOT
from tests.support.commands import gram_r2

JUDGE = str(ROOT / "data/world/base-judge")
OPTIONS = ["--prompt", "compact", "--max-tokens", "60", "--context", "128"]


def refused(*arguments: str, code: int = 2) -> str:
    ended = gram_r2("serve", *arguments)
    assert (ended.code, ended.out) == (code, "")
    assert ended.err.count("\n") == 1
    return ended.err


def test_what_cannot_be_served_is_told_in_one_line(tmp_path: Path) -> None:
    assert "neither a local folder" in refused(str(tmp_path / "none"))
    assert "give the judge's folder or hub name, and the URL as --url" in refused("http://host:8000")
    assert "the prompt that this judge was trained with is unknown" in refused(JUDGE)
    assert "needs a temperature above 0" in refused(JUDGE, *OPTIONS, "--votes", "4")
    assert "more than the" in refused(JUDGE, "--prompt", "compact", "--context", "100000")


def test_a_judge_that_scores_is_not_served(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(JUDGE, tmp_path / "scores"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["LlamaForSequenceClassification"]}))
    assert "scores each response by itself and compares none" in refused(str(folder))


def test_a_port_that_is_taken_is_told_before_servers_are_started() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        assert "choose another --port or --host" in refused(JUDGE, *OPTIONS, "--port", port)


def test_two_services_cannot_have_one_port_while_they_load() -> None:
    with _bound("127.0.0.1", 0) as first, pytest.raises(OSError, match="choose another --port"):
        _bound("127.0.0.1", first.getsockname()[1])


def test_a_server_that_is_not_there_is_told() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
        assert "is vLLM's server running?" in refused(JUDGE, *OPTIONS, "--port", "28499", "--url", url, code=1)
