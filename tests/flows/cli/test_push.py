"""``gram-r2 push`` against a stand-in for the hub: exactly which files and bytes arrive, and what is refused before that."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from tasks.export import export
from tests.conftest import ROOT
from tests.support.commands import COMMAND, Ended, gram_r2
from tests.support.hub import TOKEN, Hub, Repository, standing_in
from tests.support.written_run import fake_run

# huggingface_hub's own way of sending a file's content.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload:DeprecationWarning")

NAME = "me/judge"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with standing_in() as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(*fake_run(tmp_path_factory.mktemp("runs"))).path


@pytest.fixture
def final(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "hand" / "final"))


def files_of(final: Path) -> set[str]:
    return {path.name for path in final.iterdir()} - {"manifest.json"}


def pushed(final: Path, *arguments: str, target: str = f"hub:{NAME}", yes: bool = True) -> Ended:
    return gram_r2("push", str(final.parent), target, *(["--yes"] if yes else []), *arguments)


def refused(ended: Ended, code: int = 2) -> str:
    """The one line on stderr, which progress bars may precede."""
    assert ended.code == code, (ended.out, ended.err)
    *_, line = ended.err.splitlines()
    return line


def test_exactly_the_exported_files_arrive(final: Path, hub: Hub) -> None:
    result = pushed(final, "--private", "--license", "mit", "--message", "First")
    assert result.code == 0, result.err
    sent = hub.files(NAME)
    card = ModelCard(sent.pop("README.md").decode())
    assert sent == {name: (final / name).read_bytes() for name in files_of(final) if name != "README.md"}
    assert (card.data.license, card.data.base_model) == ("mit", "org/judge")
    assert card.text == (final / "README.md").read_text(encoding="utf-8").split("---\n", 2)[2]
    assert list(hub.large.values()) == [sent["model.safetensors"]]
    assert (hub.repositories[NAME].private, hub.repositories[NAME].commits) == (True, ["First"])
    assert f"sent: {hub.url}/{NAME}/commit/1" in result.out
    assert "the judge of hand, 70.0% on held-out pairs → me/judge (new, private), as me" in result.out
    assert f"in {len(sent) + 1} files" in result.out


def test_a_later_push_replaces_the_judge_and_its_weights(final: Path, hub: Hub) -> None:
    old = {"model-00001-of-00002.safetensors": b"1", "model.safetensors.index.json": b"{}", "notes.md": b"mine"}
    hub.repositories[NAME] = Repository(private=True, branches={"main": {**old, "README.md": b"old"}})
    result = pushed(final)
    assert result.code == 0, result.err
    assert set(hub.files(NAME)) == {*files_of(final), "notes.md"}
    assert "README.md  replaces the one there" in result.out
    assert "model-00001-of-00002.safetensors  weights of an earlier judge" in result.out
    assert "me/judge (private), as me" in result.out
    assert hub.repositories[NAME].commits == ["The judge of the run hand"]


def test_a_branch_is_created(final: Path, hub: Hub) -> None:
    hub.repositories[NAME] = Repository()
    assert pushed(final, "--revision", "round-1").code == 0
    assert hub.files(NAME) == {}
    assert set(hub.files(NAME, "round-1")) == files_of(final)


def test_what_the_run_cannot_give_is_refused_before_the_hub_is_asked(final: Path, hub: Hub) -> None:
    (final / "prompt.json").write_text("{}")
    assert "prompt.json is 2 bytes long but was written with" in refused(pushed(final))
    assert "is no name on the hub: give hub:owner/name" in refused(pushed(final, target="hub:judge"))
    (final / "manifest.json").unlink()
    assert "is not finished" in refused(pushed(final))
    assert "there is no run 'none'" in refused(gram_r2("push", "none", f"hub:{NAME}"))
    assert not hub.seen


def test_a_run_is_found_by_its_name(final: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(final.parents[1])
    (final.parent / "metrics.jsonl").touch()
    ended = gram_r2("push", "hand", f"hub:{NAME}", "--yes")
    assert ended.code == 0, ended.err
    assert set(hub.files(NAME)) == files_of(final)


def test_without_a_token(final: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_old")
    assert "refuses the token: set HF_TOKEN to a valid one, or log in with `hf auth login`" in refused(pushed(final))
    monkeypatch.delenv("HF_TOKEN")
    expected = "there is no token for the hub: set HF_TOKEN, or log in with `hf auth login`"
    assert refused(pushed(final)) == expected
    assert not hub.uploads()


def test_a_repository_of_somebody_else(final: Path, hub: Hub) -> None:
    hub.repositories["them/judge"] = Repository()
    text = refused(pushed(final, target="hub:them/judge"))
    assert text.startswith("me may not write to them/judge, with this token (Write access denied.)")
    text = refused(pushed(final, target="hub:them/new"))
    assert "You don't have the rights to create a model under the namespace" in text
    assert not hub.uploads()
    assert list(hub.repositories) == ["them/judge"]


def test_a_public_repository_is_not_taken_for_a_private_one(final: Path, hub: Hub) -> None:
    hub.repositories[NAME] = Repository()
    assert refused(pushed(final, "--private")).startswith("me/judge exists and is public: leave out --private")
    assert not hub.uploads()


def test_a_licence_that_the_hub_does_not_know_is_refused_before_files_are_sent(final: Path, hub: Hub) -> None:
    text = refused(pushed(final, "--license", "nonsense"))
    assert '"license" must be one of …' in text
    assert not hub.uploads()


def test_a_hub_that_cannot_be_reached(final: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert refused(pushed(final)).startswith("the hub at http://127.0.0.1:9 cannot be reached: ")


@pytest.mark.parametrize("where", ["/large/", "/commit/"])
def test_an_upload_that_was_broken_off_can_be_repeated(final: Path, hub: Hub, where: str) -> None:
    hub.failing[where] = (400, "the disk is full")
    text = refused(pushed(final), 1)
    assert text.startswith(f"the upload to {NAME} was broken off: ")
    assert "the disk is full" in text
    assert text.endswith("so repeating the command is safe; large files that have arrived are not sent again")
    assert hub.files(NAME) == {}
    hub.failing.clear()
    assert pushed(final).code == 0
    assert set(hub.files(NAME)) == files_of(final)
    assert len([path for _, path in hub.seen if path.startswith("/large/")]) == (2 if where == "/large/" else 1)


def test_without_a_terminal_it_does_not_send_unasked(final: Path, hub: Hub) -> None:
    result = pushed(final, yes=False)
    assert refused(result) == "nothing was sent: run this in a terminal, where it can ask, or give --yes"
    assert "in 6 files" in result.out
    assert not hub.uploads()


def test_in_a_terminal_it_asks(final: Path, hub: Hub) -> None:
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"}
    ours, theirs = pty.openpty()
    os.write(ours, b"y\n")
    command = [*COMMAND, "push", str(final.parent), f"hub:{NAME}"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdin=theirs, capture_output=True, text=True, timeout=60, check=False
    )
    os.close(ours)
    os.close(theirs)
    assert done.returncode == 0, done.stderr
    assert "Send? [y/N]: " in done.stdout
    assert set(hub.files(NAME)) == files_of(final)
