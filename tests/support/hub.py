"""A stand-in for the Hugging Face hub on the loopback: the few routes that creating a repository and committing to it take.

What they take and answer is from huggingface_hub's own source (`hf_api`, `_commit_api`, `lfs`).
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN, USER = "hf_standin", "me"
Answer = tuple[int, Any, dict[str, str]]


@dataclass
class Repository:
    """`branches` maps a branch to its files; `commits` holds each commit's message."""

    private: bool = False
    branches: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {".gitattributes": b""}})
    commits: list[str] = field(default_factory=list)


@dataclass
class Hub:
    """The hub's state. `failing` maps a part of a path to the (status, message) of its requests; `large` holds LFS files."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    failing: dict[str, tuple[int, str]] = field(default_factory=dict)
    seen: list[tuple[str, str]] = field(default_factory=list)
    """(method, path) of each request."""
    writers: tuple[str, ...] = (USER, "our-lab")

    def files(self, name: str, branch: str = "main") -> dict[str, bytes]:
        """The files that a repository shows on a branch."""
        return {path: content for path, content in self.repositories[name].branches[branch].items() if path[0] != "."}

    def uploads(self) -> list[str]:
        """The requests that sent a file, or a part of one."""
        return [path for method, path in self.seen if method == "PUT" or "/preupload/" in path or "/commit/" in path]

    # ---- routes --------------------------------------------------------------------------------------------------------------

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        for part, (status, message) in self.failing.items():
            if part in path:
                return _error(status, message)
        if path == "/api/whoami-v2":
            return 200, {"name": USER, "orgs": []}, {}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            bad = "license: nonsense" in json.loads(body)["content"]
            return (400, {"errors": [{"message": '"license" must be one of …'}]}, {}) if bad else (200, {}, {})
        if method == "PUT" and path.startswith("/large/"):
            self.large[path.removeprefix("/large/")] = body
            return 200, {}, {}
        if found := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            return 200, {"objects": [self._large(one) for one in json.loads(body)["objects"]]}, {}
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)(/.*)?", path)
        assert found, f"the stand-in has no route {path}"
        repository = self.repositories.get(found[1])
        if repository is None:
            return _error(404, "Repository not found", "RepoNotFound")
        return self._of_repository(found[1], repository, (found[2] or "").strip("/"), body)

    def _create(self, asked: dict[str, Any]) -> Answer:
        name = f"{asked['organization']}/{asked['name']}"
        if asked["organization"] not in self.writers:
            return _error(
                403, f'You don\'t have the rights to create a model under the namespace "{asked["organization"]}"'
            )
        self.repositories[name] = Repository(asked.get("visibility") == "private")
        return 200, {"url": f"{self.url}/{name}"}, {}

    def _large(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["oid"] in self.large:
            return dict(asked)
        return {**asked, "actions": {"upload": {"href": f"{self.url}/large/{asked['oid']}"}}}

    def _of_repository(self, name: str, repository: Repository, rest: str, body: bytes) -> Answer:
        what, _, branch = rest.partition("/")
        if what == "auth-check":
            return (200, {}, {}) if name.split("/")[0] in self.writers else _error(403, "Write access denied")
        if what == "branch":
            repository.branches[branch] = dict(repository.branches["main"])
            return 200, {}, {}
        files = repository.branches.get(branch or "main")
        if files is None:
            return _error(404, f"Invalid rev id: {branch}", "RevisionNotFound")
        if what in ("", "revision"):
            siblings = [{"rfilename": path} for path in files]
            return 200, {"id": name, "sha": "0" * 40, "private": repository.private, "siblings": siblings}, {}
        if what == "preupload":
            asked = json.loads(body)["files"]
            modes = ["lfs" if file["path"].endswith(".safetensors") else "regular" for file in asked]
            told = [{**f, "uploadMode": mode, "shouldIgnore": False} for f, mode in zip(asked, modes, strict=True)]
            return 200, {"files": told}, {}
        assert what == "commit", rest
        self._commit(repository, files, [json.loads(line) for line in body.splitlines()])
        return 200, {"commitUrl": f"{self.url}/{name}/commit/1", "commitOid": "1" * 40}, {}

    def _commit(self, repository: Repository, files: dict[str, bytes], lines: list[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                repository.commits.append(value["summary"])
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.large[value["oid"]]
            else:
                del files[value["path"]]


def _error(status: int, message: str, code: str = "") -> Answer:
    return status, {"error": message}, {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}


@contextlib.contextmanager
def standing_in() -> Iterator[Hub]:
    """A hub with no repository, whose one user is USER with the token TOKEN."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None: ...

        def do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.partition("?")[0]
            hub.seen.append((self.command, path))
            known = path.startswith("/large/") or self.headers.get("Authorization") == f"Bearer {TOKEN}"
            status, content, headers = hub.answer(self.command, path, body) if known else _error(401, "Invalid token")
            told = json.dumps(content).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Type": "application/json"}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        do_GET = do_POST = do_PUT = do

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield hub
        server.shutdown()
