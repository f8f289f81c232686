"""One engine's work as a stream: it never waits for a row to be tokenized, or for the last rows of a shard.

A thread reads the rows of one shard after another and builds their requests, some rows ahead of the engine. A second one does
what is to be done between a row's last answer and its line: further requests, which of its completions are worth scoring, and
shards to be committed. The engine pulls requests in the main thread, and only that one writes rows.
"""

from __future__ import annotations

import importlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from data.files import StoreError
from data.records import Message
from tasks.generation.open_shard import OpenShard
from tasks.generation.row_file import RowFile
from tasks.generation.shards import GenerationJob, Shard
from tasks.model.chat import ChatEncoder, ChatTemplateError
from tasks.model.engine import Engine
from tasks.model.requests import Asked, Asking, Builder, PendingRow, Skip

_ROWS_AHEAD, _MOST_COMMITS = 256, 2
_CRASHED = "the engine's process died while it worked on this row alone"
_NOT_ASKED = "could_not_be_asked"
_NO_CRASH = (SystemExit, KeyboardInterrupt, OSError, StoreError, ChatTemplateError)
"""What ends an engine's work without a doubt about its rows: a request to stop, a failed write, an endpoint, a template."""
_Item = TypeVar("_Item")


@dataclass(eq=False)
class _Row(PendingRow):
    """A row of a shard on its way. `source` is the row as it was read; `asked` are its first requests."""

    shard: OpenShard = field(kw_only=True)
    source: Mapping[str, Any] = field(kw_only=True)
    asked: list[Asked] = field(default_factory=list)
    scored: bool = False

    def fail(self, error: BaseException) -> None:
        """Makes it a row that could not be asked for."""
        self.line |= {"failed": _NOT_ASKED, "detail": f"{type(error).__name__}: {error}"}


class Stream:
    """The rows of some shards on their way through an engine.

    `done` counts rows that have their line, those that were on disk already included; `made` those that the engine finished, and
    `tokens` what it generated for them.
    """

    def __init__(
        self,
        job: GenerationJob,
        engine: Engine,
        encoder: ChatEncoder,
        shards: Iterable[Shard],
        on_row: Callable[[], None],
    ) -> None:
        """`on_row` is called whenever rows are done."""
        self.job, self.engine, self.encoder, self.shards, self.on_row = job, engine, encoder, shards, on_row
        self.build: Builder = resolve(job.builder)
        self.follow = resolve(job.follow) if job.follow else None
        self.score_if = resolve(job.score_if) if job.score_if else None
        self.done = self.made = self.tokens = 0
        self.asking = Asking(self._groups(), self._answered)
        self._prefix = self._score_prefix()
        self._open: list[OpenShard] = []
        self._further: deque[tuple[_Row, Future[list[Asked]]]] = deque()
        self._commits: deque[Future[None]] = deque()
        self._started = self._committed = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def run(self) -> None:
        """Makes all rows that are not done yet, and commits each shard with its last row."""
        self._ahead = _Ahead(self._built(), _ROWS_AHEAD)
        self._between = ThreadPoolExecutor(1)
        crashed = True
        try:
            self.engine.generate(self.asking, self.asking.answered)
            crashed = False
        except _NO_CRASH:
            crashed = False
            raise
        finally:
            self._ahead.close()
            self._between.shutdown()
            for shard in self._open:
                shard.close(crashed)
        self._settle()

    # ---- ahead of the engine, in a thread -----------------------------------------------------------------------------

    def _built(self) -> Iterator[Shard | OpenShard | _Row]:
        """Shards that are written already; each other one when it is opened, followed by its rows that are not done."""
        with Path(self.job.rows).open("rb") as file:
            rows = RowFile(file)
            for shard in self.shards:
                if shard.is_written(self.job.attempt):
                    yield shard
                    continue
                opened = OpenShard(shard, self.job.attempt)
                yield opened
                for row, source in rows.read(opened.todo):
                    yield self._build(opened, row, source)

    def _build(self, shard: OpenShard, number: int, source: Mapping[str, Any]) -> _Row:
        row = _Row({"row": number, "id": str(source["id"])}, self.job.context, shard=shard, source=source)
        if number in shard.crashed:
            row.line |= {"failed": "engine_crashed", "detail": _CRASHED}
            return row
        try:
            made = self.build(source, self.job.params, self.encoder)
        except ChatTemplateError:  # of the model, and not of this row
            raise
        except Exception as error:
            row.fail(error)
            return row
        if isinstance(made, Skip):
            row.line["dropped"] = made.reason
        else:
            row.line["prompt_tokens"] = sum(len(request.prompt_ids) for request in made)
            if any(request.shortened for request in made):
                row.line["shortened"] = True
            row.asked = row.ask(made)
        return row

    # ---- between a row's answers and its line, in another thread --------------------------------------------------------

    def _more(self, row: _Row) -> list[Asked]:
        """What is still to be asked about a row all of whose requests are answered."""
        if self.follow is not None:
            made = self.follow(row.source, self.job.params, row.finished_line()["requests"], self.encoder)
            row.line["prompt_tokens"] += sum(len(request.prompt_ids) for request in made)
            if made:
                return row.ask(made)
        if self._prefix is None or row.scored:
            return []
        row.scored = True
        return row.ask_scores(self._prefix, lambda name, completion: self._is_worth(row, name, completion))

    def _is_worth(self, row: _Row, name: str, completion: Mapping[str, Any]) -> bool:
        return self.score_if is None or bool(self.score_if(row.source, self.job.params, name, completion))

    def _score_prefix(self) -> list[int] | None:
        if self.job.score_against is None:
            return None
        return self.encoder.prompt_ids([Message("user", m["content"]) for m in self.job.score_against])

    # ---- what the engine pulls, in the main thread ------------------------------------------------------------------------

    def _groups(self) -> Iterator[Sequence[Asked] | None]:
        """The requests of rows, for `Asking`."""
        following: _Row | None = None
        while True:
            self._settle()
            if self._further and self._further[0][1].done():
                yield self._further_requests()
                continue
            if following is None and not self._ahead.is_over:
                # Only if the engine has nothing to do, and nothing is about to come, is there time to wait.
                following = self._next_row(wait=not self.asking.waiting and not self._further)
            if following is not None and self._has_room_for(following):
                row, following = following, None
                row.shard.admit(row.line["row"])
                # Requests know their row: were it to know them for longer, only the garbage collector would free both.
                asked, row.asked = row.asked, []
                yield asked
            elif self.asking.waiting:
                yield None
            elif self._further:
                wait([self._further[0][1]], return_when=FIRST_COMPLETED)
            elif following is None and self._ahead.is_over:
                return

    def _next_row(self, wait: bool) -> _Row | None:
        """The next row that has requests; those that have none are written. None if there is none at the moment."""
        while (item := self._ahead.take(wait)) is not None:
            if isinstance(item, _Row):
                if item.asked:
                    return item
                self._write(item, item.line)
            else:
                self.done += item.n_rows if isinstance(item, Shard) else item.n_found
                self.on_row()
                if isinstance(item, OpenShard):
                    self._open.append(item)
                    self._commit_if_complete(item)
        return None

    def _has_room_for(self, row: _Row) -> bool:
        """Whether this row may join those in the engine, as far as deaths of engines are concerned."""
        together = [shard for shard in self._open if shard.in_engine]
        most = min(shard.most_rows for shard in (*together, row.shard))
        return sum(shard.in_engine for shard in together) < most

    def _answered(self, row: PendingRow) -> None:
        assert isinstance(row, _Row)
        if (self.follow or self._prefix is not None) and row.failure is None:
            self._further.append((row, self._between.submit(self._more, row)))
        else:
            self._finish(row, row.finished_line())

    def _further_requests(self) -> list[Asked]:
        row, made = self._further.popleft()
        error = made.exception()
        if error is not None:
            row.fail(error)
            self._finish(row, row.line)
            return []
        if not made.result():
            self._finish(row, row.finished_line())
        return made.result()

    def _finish(self, row: _Row, line: Mapping[str, Any]) -> None:
        row.shard.in_engine -= 1
        self.made += 1
        self.tokens += row.tokens
        self._write(row, line)

    def _write(self, row: _Row, line: Mapping[str, Any]) -> None:
        row.shard.write(line, row.tokens)
        self.done += 1
        self.on_row()
        self._commit_if_complete(row.shard)

    def _commit_if_complete(self, shard: OpenShard) -> None:
        if shard.is_complete:
            shard.shard.forget_work()  # if it cannot be written, that is no fault of its rows
            now = time.monotonic()
            self._commits.append(self._between.submit(shard.commit, now - self._committed))
            self._committed = now
            self._open.remove(shard)

    def _settle(self) -> None:
        """Forgets the shards that have been committed, and waits if too many are not yet. Raises what kept one from it."""
        while self._commits and (self._commits[0].done() or len(self._commits) > _MOST_COMMITS):
            self._commits.popleft().result()


class _Ahead(Generic[_Item]):
    """The items of an iterator, made in a thread: at most `n` are there before they are taken."""

    def __init__(self, items: Iterator[_Item], n: int) -> None:
        self.is_over = False
        self._items: queue.Queue[tuple[_Item | None, BaseException | None]] = queue.Queue(n)
        self._closed = threading.Event()
        threading.Thread(target=self._make, args=(items,), daemon=True).start()

    def take(self, wait: bool) -> _Item | None:
        """The next item; None after the last, and if there is none yet and it does not `wait`. Raises the iterator's errors."""
        try:
            item, error = self._items.get(block=wait)
        except queue.Empty:
            return None
        if error is not None:
            raise error
        self.is_over = item is None
        return item

    def close(self) -> None:
        """No more items are wanted."""
        self._closed.set()

    def _make(self, items: Iterator[_Item]) -> None:
        try:
            for item in items:
                self._put(item)
                if self._closed.is_set():
                    return
            self._put(None)
        except BaseException as error:
            self._put(None, error)

    def _put(self, item: _Item | None, error: BaseException | None = None) -> None:
        while not self._closed.is_set():
            try:
                self._items.put((item, error), timeout=1.0)
                return
            except queue.Full:
                continue


def resolve(name: str) -> Any:
    """The function that a ``module:function`` names."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)
