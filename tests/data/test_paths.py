"""Paths as a user writes them: what stands for something else is replaced, all others stay as they are."""

from __future__ import annotations

import pytest

from data.paths import PathError, expanded, from_home


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("SCRATCH", "/big/me")
    monkeypatch.setenv("BUCKET", "s3://mine")
    monkeypatch.delenv("UNSET", raising=False)


@pytest.mark.parametrize(
    ("path", "means"),
    [
        ("~", "/home/me"),
        ("~/runs", "/home/me/runs"),
        ("${SCRATCH}/runs", "/big/me/runs"),
        ("/a/$SCRATCH", "/a//big/me"),
        ("${BUCKET}/runs", "s3://mine/runs"),
        ("$HOME/${SCRATCH}", "/home/me//big/me"),
    ],
)
def test_home_and_variables_are_replaced(path: str, means: str) -> None:
    assert expanded(path) == means


@pytest.mark.parametrize(
    "path",
    ["", ".", "./x/", "a//b", "runs", "/x/~/y", "cost$", "$5", "s3://b//k/", "Qwen/Qwen3-14B@main", "http://h:1/v1#m"],
)
def test_other_paths_stay_as_they_are(path: str) -> None:
    assert expanded(path) == from_home(path) == path


def test_what_means_nothing_here_is_refused_in_one_line() -> None:
    unset = r"^path '\$\{UNSET\}/x': the environment variable UNSET is not set; set it, or write the full path$"
    with pytest.raises(PathError, match=unset):
        expanded("${UNSET}/x")
    unknown = r"^path '~no-such-user/x': there is no user 'no-such-user' on this machine; write the full path$"
    for read in (expanded, from_home):
        with pytest.raises(PathError, match=unknown):
            read("~no-such-user/x")
    assert from_home("${UNSET}/x") == "${UNSET}/x", "the shell has replaced what is a variable"
