"""A remote store, such as ``s3://bucket/prefix``, and the local folder that caches it.

The URL is the source of truth. The folder holds copies: manifests when they are looked up, other files when a stage needs
them. When a tree is uploaded, the file that makes it valid (a manifest, a marker) goes last; when one is removed, it goes
first: a crash in between leaves files that nobody mistakes for an artifact.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from data.store.artifacts import MANIFEST

_AT_ONCE = 16
_Item = TypeVar("_Item")


def each(do: Callable[[_Item], object], items: Iterable[_Item]) -> None:
    """Does it to each item, several at once: with many small files, it is the requests that take time. Raises the first error."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for _ in pool.map(do, items):
            pass


class Remote:
    """The store at a URL. Paths are relative to it, with slashes; `local` is where a path's local copy is."""

    def __init__(self, url: str, cache: Path | None = None) -> None:
        """Raises ValueError if no fsspec file system serves the URL, or if its package is not installed."""
        import fsspec

        self.url = url.rstrip("/")
        try:
            # Another process may have written since: listings must not be cached.
            self.fs, root = fsspec.url_to_fs(self.url, skip_instance_cache=True, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise ValueError(f"the store {url!r} cannot be opened: {error}") from error
        self.root = str(root).rstrip("/")
        folder = cache or Path(os.environ.get("GRAM_R2_CACHE", "~/.cache/gram-r2")).expanduser()
        self.folder = (folder / hashlib.sha256(self.url.encode()).hexdigest()[:16]).resolve()

    def local(self, path: str) -> Path:
        return self.folder / path

    def read(self, path: str) -> bytes | None:
        """The content of a file, or None if there is none."""
        try:
            content: bytes = self.fs.cat_file(self._at(path))
        except FileNotFoundError:
            return None
        return content

    def read_all(self, paths: Iterable[str]) -> dict[str, bytes]:
        """The content of each of these files that can be read; all at once, where the file system can."""
        places = {self._at(path): path for path in paths}
        found = self.fs.cat(list(places), on_error="omit") if places else {}
        return {places[place]: content for place, content in found.items()}

    def write(self, path: str, content: bytes, new: bool = False) -> bool:
        """Writes a whole file. With `new`, only if there is none yet: returns False if there is one."""
        try:
            self.fs.pipe_file(self._at(path), content, mode="create" if new else "overwrite")
        except FileExistsError:
            return False
        return True

    def sizes(self, path: str) -> dict[str, int]:
        """The size in bytes of every file below a path, by its name relative to that path."""
        return {name: int(facts["size"]) for name, facts in self._files(path).items()}

    def versions(self, path: str) -> dict[str, str]:
        """Like `sizes`, but with a value that changes when a file is rewritten."""
        names = ("ETag", "LastModified", "mtime", "created", "size")
        return {name: " ".join(str(facts.get(n)) for n in names) for name, facts in self._files(path).items()}

    def _files(self, path: str) -> dict[str, dict[str, Any]]:
        try:
            found: dict[str, dict[str, Any]] = self.fs.find(self._at(path), detail=True)
        except FileNotFoundError:
            return {}
        start = len(self._at(path)) + 1
        return {name[start:]: facts for name, facts in found.items() if facts["type"] == "file"}

    def fetch(self, path: str) -> Path:
        """The local copy of a file, downloaded if missing. Raises FileNotFoundError if there is none."""
        local = self.local(path)
        if not local.exists():
            local.parent.mkdir(parents=True, exist_ok=True)
            temporary = local.with_name(f".{local.name}.{os.getpid()}.fetched.tmp")
            try:
                self.fs.get_file(self._at(path), str(temporary))
                temporary.replace(local)
            finally:
                temporary.unlink(missing_ok=True)
        return local

    def send(self, path: str) -> None:
        """Uploads the local copy of a file."""
        self.fs.put_file(str(self.local(path)), self._at(path))

    def send_tree(
        self, source: Path, path: str, last: str = MANIFEST, before_last: Callable[[], object] = lambda: None
    ) -> None:
        """Uploads the folder `source` as `path`; the file called `last` goes last, unless `before_last` raises."""
        files = [file for file in sorted(source.rglob("*")) if file.is_file() and file != source / last]
        each(lambda file: self.fs.put_file(str(file), self._at(f"{path}/{file.relative_to(source).as_posix()}")), files)
        before_last()
        self.fs.put_file(str(source / last), self._at(f"{path}/{last}"))

    def copy_tree(self, source: str, path: str, last: str = MANIFEST) -> None:
        """Copies a folder inside the store."""

        def copy(name: str) -> None:
            self.fs.cp_file(self._at(f"{source}/{name}"), self._at(f"{path}/{name}"))

        each(copy, [name for name in self.sizes(source) if name != last])
        copy(last)

    def remove_tree(self, path: str, first: str = MANIFEST) -> None:
        """Removes a folder from the store and its local copy; the file called `first` goes first."""
        self._remove_files(path, first)
        shutil.rmtree(self.local(path), ignore_errors=True)

    def remove(self, paths: Iterable[str]) -> None:
        """Removes files from the store, in any order; one that is already gone is not an error."""

        def remove(path: str) -> None:
            with contextlib.suppress(FileNotFoundError):
                self.fs.rm_file(self._at(path))

        each(remove, paths)

    def _remove_files(self, path: str, first: str) -> None:
        self.remove([f"{path}/{first}"])
        self.remove([f"{path}/{name}" for name in self.sizes(path)])

    def move_tree(self, source: str, path: str) -> None:
        """Moves a folder inside the store."""
        self.remove_tree(path)
        self.copy_tree(source, path)
        self._remove_files(source, MANIFEST)

    def _at(self, path: str) -> str:
        return f"{self.root}/{path}" if path else self.root


def is_remote(store: str) -> bool:
    """Whether a store is a URL and not a folder on this machine."""
    return "://" in store and not store.startswith("file://")
