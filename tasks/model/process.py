"""An engine in its own process, for as long as it is held open: what `tasks.rank` runs its judges on.

Its memory, GPU and environment are separate, so a program that ranks may use torch itself and may have two judges open.
Requests and answers are lines of JSON over two pipes; what the engine prints goes to a log file.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import IO, Any

from tasks.machine import child
from tasks.machine.gpus import claim_gpus, visible_gpus
from tasks.model.chat import ChatEncoder
from tasks.model.device import engine_environment
from tasks.model.engine import Answer, Completion, Failure, OnAnswer, Request, Requests, Sampling
from tasks.model.opening import open_engine
from tasks.settings import GenerationSettings, ModelSettings

_AT_ONCE = 1024
_END, _NOTHING = object(), object()
_TAIL_BYTES = 4000
_END_S = 10.0


class EngineProcess:
    """An `Engine` that runs in a child process. Close it, or use it in a ``with`` statement."""

    def __init__(
        self, model: str, models: ModelSettings, generation: GenerationSettings, by_label: bool = False
    ) -> None:
        """Starts the process and waits until the model is loaded. Raises ChildError if loading fails.

        `by_label` is as in `tasks.model.opening.open_engine`.
        """
        self.log = tempfile.NamedTemporaryFile(prefix="gram-r2-engine-", suffix=".log")  # noqa: SIM115 (held until closed)
        requests_in, requests_out = os.pipe()
        answers_in, answers_out = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tasks.model.process", str(requests_in), str(answers_out)],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            pass_fds=(requests_in, answers_out),
            env={**os.environ, **engine_environment(bool(visible_gpus())), child.PARENT: str(os.getpid())},
        )
        os.close(requests_in)
        os.close(answers_out)
        self.requests: IO[str] = os.fdopen(requests_out, "w", encoding="utf-8")
        self.answers: IO[str] = os.fdopen(answers_in, encoding="utf-8")
        described = {
            "model": model,
            "models": models.model_dump(mode="json"),
            "generation": generation.model_dump(mode="json"),
            "by_label": by_label,
        }
        self.closed = False
        try:
            self._send(described)
            self.at_once = int(self._receive()["at_once"])
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> EngineProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def generate(self, requests: Requests, on_answer: OnAnswer) -> None:
        """See `Engine.generate`. Raises ChildError if the process dies or has been closed."""
        if self.closed:
            raise child.ChildError("this judge is closed because its engine ended or was interrupted: open it again")
        try:
            self._serve(iter(requests), on_answer)
        except BaseException:
            self.close()  # unread answers would be mistaken for those of the next requests
            raise

    def _serve(self, pulled: Iterator[Request | None], on_answer: OnAnswer) -> None:
        given, waiting, over = 0, 0, False
        while not over or waiting:
            while not over and waiting < self.at_once:
                request = next(pulled, _END)
                over = request is _END
                if not isinstance(request, Request):
                    break
                self._send({"i": given, "request": _request_json(request)})
                given, waiting = given + 1, waiting + 1
            if waiting:
                message = self._receive()
                waiting -= 1
                on_answer(message["i"], _answer_of(message))

    def close(self) -> None:
        """Ends the process and waits for it."""
        if self.closed:
            return
        self.closed = True
        for pipe in (self.requests, self.answers):
            try:
                pipe.close()
            except OSError:  # buffered data can no longer be sent
                continue
        self.process.terminate()
        try:
            self.process.wait(timeout=_END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def _send(self, message: Mapping[str, Any]) -> None:
        try:
            self.requests.write(json.dumps(message) + "\n")
            self.requests.flush()
        except OSError as error:
            raise self._died() from error

    def _receive(self) -> dict[str, Any]:
        line = self.answers.readline()
        if not line.endswith("\n"):
            raise self._died()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _died(self) -> child.ChildError:
        code = self.process.wait()
        self.log.flush()
        log = Path(self.log.name).read_bytes()[-_TAIL_BYTES:].decode("utf-8", errors="replace")
        return child.ChildError(f"the judge's engine ended with exit code {code}. Its last lines:\n{log}")


def _request_json(request: Request) -> dict[str, Any]:
    sent = {"name": request.name, "prompt_ids": list(request.prompt_ids), "sampling": asdict(request.sampling)}
    return {**sent, "begun": request.begun, "score_from": request.score_from}


def _answer_of(message: Mapping[str, Any]) -> Answer:
    if "failure" in message:
        return Failure(*message["failure"])
    return [Completion(**completion) for completion in message["completions"]]


# ---- inside the process ---------------------------------------------------------------------------------------------


def main() -> None:
    """Serves requests until the pipe is closed: ``python -m tasks.model.process REQUESTS_FD ANSWERS_FD``."""
    child.die_with_parent()
    child.expect_many_objects()
    requests = os.fdopen(int(sys.argv[1]), encoding="utf-8")
    answers = os.fdopen(int(sys.argv[2]), "w", encoding="utf-8")
    described = json.loads(requests.readline())
    generation = GenerationSettings.model_validate(described["generation"])
    locks = claim_gpus(generation.tensor_parallel)
    models = ModelSettings.model_validate(described["models"])
    encoder = ChatEncoder.load(described["model"], bool(models.trust_remote_code))
    engine = open_engine(described["model"], models, generation, encoder, by_label=described["by_label"])
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))

    def tell(message: Mapping[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    def answered(number: int, answer: Answer) -> None:
        i = received.waiting.pop(number)
        if isinstance(answer, Failure):
            tell({"i": i, "failure": [answer.reason, answer.detail]})
        else:
            tell({"i": i, "completions": [{**asdict(c), "token_ids": list(c.token_ids)} for c in answer]})

    received = _Received(requests)
    tell({"at_once": getattr(engine, "at_once", _AT_ONCE)})
    engine.generate(received, answered)
    del locks
    os._exit(0)


class _Received:
    """The requests that arrive, as the engine's `Requests`. `waiting` has the sender's number of each that it was given."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.waiting: dict[int, int] = {}
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(lines,), daemon=True).start()

    def _read(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._lines.put(line)
        self._lines.put(None)

    def __iter__(self) -> Iterator[Request | None]:
        for number in count():
            while (line := self._next()) is _NOTHING:
                yield None
            if line is None:
                return
            message = json.loads(line)
            self.waiting[number] = message["i"]
            yield _request_of(message["request"])

    def _next(self) -> Any:
        try:
            return self._lines.get(block=not self.waiting)
        except queue.Empty:
            return _NOTHING


def _request_of(message: Mapping[str, Any]) -> Request:
    sampling = message["sampling"]
    return Request(
        message["name"],
        message["prompt_ids"],
        Sampling(**{**sampling, "logprob_ids": tuple(sampling["logprob_ids"])}),
        begun=message["begun"],
        score_from=message["score_from"],
    )


if __name__ == "__main__":
    main()
