"""A remote store, such as ``s3://bucket/prefix``, and the local folder that caches it.

The URL is the source of truth. The folder holds copies: manifests when they are looked up, other files when a stage needs
them. When a tree is uploaded, the file that makes it valid (a manifest, a marker) goes last; when one is removed, it goes
first: a crash in between leaves files that nobody mistakes for an artifact.

A store that does not answer for a while, such as a server that is restarted, is asked again for as long as a lease on it may
go without renewal: after that, another machine may have taken over.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from data.files import StoreError
from data.store.artifacts import MANIFEST

AWAY_S = 60.0
"""How long a store may be away: as long as a lease may go without renewal."""
_AGAIN_S = 2.0
_AT_ONCE = 16
_ANSWERS = (FileNotFoundError, FileExistsError, PermissionError, NotImplementedError)
"""Errors that are answers, and the same the second time."""
_Item = TypeVar("_Item")


def each(do: Callable[[_Item], object], items: Iterable[_Item]) -> None:
    """Does it to each item, several at once: with many small files, it is the requests that take time. Raises the first error."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for _ in pool.map(do, items):
            pass


class Remote:
    """The store at a URL. Paths are relative to it, with slashes; `local` is where a path's local copy is.

    `say` is told when it is away.
    """

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
        self.say: Callable[[str], object] = logging.getLogger("gram_r2").warning
        self._answered = self._away = False

    def local(self, path: str) -> Path:
        return self.folder / path

    def read(self, path: str) -> bytes | None:
        """The content of a file, or None if there is none."""
        try:
            content: bytes = self._patiently(lambda: self.fs.cat_file(self._at(path)))
        except FileNotFoundError:
            return None
        return content

    def read_all(self, paths: Iterable[str]) -> dict[str, bytes]:
        """The content of each of these files that can be read; all at once, where the file system can."""
        places = {self._at(path): path for path in paths}
        found = self.fs.cat(list(places), on_error="omit") if places else {}
        return {places[place]: content for place, content in found.items()}

    def write(self, path: str, content: bytes, new: bool = False) -> bool:
        """Writes a whole file. With `new`, only if there is none yet: returns False if there is one.

        One that may replace another is written at once or not at all: by the time that the store answers again, it can have
        been replaced by another machine.
        """
        if not new:
            self.fs.pipe_file(self._at(path), content)
            return True
        try:
            self._patiently(lambda: self.fs.pipe_file(self._at(path), content, mode="create"))
        except FileExistsError:
            # It may have been written although the answer was lost.
            return self.read(path) == content
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
            found: dict[str, dict[str, Any]] = self._patiently(lambda: self.fs.find(self._at(path), detail=True))
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
                self._patiently(lambda: self.fs.get_file(self._at(path), str(temporary)))
                temporary.replace(local)
            finally:
                temporary.unlink(missing_ok=True)
        return local

    def send(self, path: str) -> None:
        """Uploads the local copy of a file."""
        self._put(self.local(path), path)

    def _put(self, file: Path, path: str) -> None:
        self._patiently(lambda: self.fs.put_file(str(file), self._at(path)))

    def send_tree(
        self, source: Path, path: str, last: str = MANIFEST, before_last: Callable[[], object] = lambda: None
    ) -> None:
        """Uploads the folder `source` as `path`; the file called `last` goes last, unless `before_last` raises."""
        files = [file for file in sorted(source.rglob("*")) if file.is_file() and file != source / last]
        each(lambda file: self._put(file, f"{path}/{file.relative_to(source).as_posix()}"), files)

        def put_last() -> None:
            before_last()
            self.fs.put_file(str(source / last), self._at(f"{path}/{last}"))

        self._patiently(put_last)

    def copy_tree(self, source: str, path: str, last: str = MANIFEST) -> None:
        """Copies a folder inside the store."""

        def copy(name: str) -> None:
            self._patiently(lambda: self.fs.cp_file(self._at(f"{source}/{name}"), self._at(f"{path}/{name}")))

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
                self._patiently(lambda: self.fs.rm_file(self._at(path)))

        each(remove, paths)

    def _remove_files(self, path: str, first: str) -> None:
        self.remove([f"{path}/{first}"])
        self.remove([f"{path}/{name}" for name in self.sizes(path)])

    def move_tree(self, source: str, path: str) -> None:
        """Moves a folder inside the store."""
        self.remove_tree(path)
        self.copy_tree(source, path)
        self._remove_files(source, MANIFEST)

    def _patiently(self, do: Callable[[], _Item]) -> _Item:
        """Does it, again and again while the store is away. Raises its error if that takes too long.

        At once if the store has not answered before: its URL may be wrong, or credentials missing.
        """
        deadline = None
        while True:
            try:
                result = do()
            except StoreError:
                raise
            except _ANSWERS:
                self._answered, self._away = True, False
                raise
            except Exception as error:  # what it raises depends on its type
                deadline = deadline or time.monotonic() + AWAY_S
                if not self._answered or _no_room(error):
                    raise
                if time.monotonic() >= deadline:
                    self._answered = False
                    raise
                if not self._away:  # of several transfers, one says it
                    self._away = True
                    self.say(f"the store {self.url} does not answer ({error!r}): trying again for up to {AWAY_S:.0f} s")
                time.sleep(_AGAIN_S)
            else:
                self._answered, self._away = True, False
                return result

    def _at(self, path: str) -> str:
        return f"{self.root}/{path}" if path else self.root


def _no_room(error: Exception) -> bool:
    """Whether the error comes from the disk of this machine."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def is_remote(store: str) -> bool:
    """Whether a store is a URL and not a folder on this machine."""
    return "://" in store and not store.startswith("file://")
