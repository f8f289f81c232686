"""A server that answers chat completions in whatever way a test wants, on the loopback."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[dict[str, Any]], tuple[int, Any]]
"""HTTP status and JSON for the body of a request; with the status 0, the connection is closed without an answer."""


@dataclass
class Served:
    """Where the server is; the bodies of the requests that it has seen, and their paths and keys."""

    url: str
    seen: list[dict[str, Any]] = field(default_factory=list)
    heads: list[tuple[str, str | None]] = field(default_factory=list)


def chat(content: Any = "A", finish: str = "stop", n_tokens: int | None = 5, **more: Any) -> dict[str, Any]:
    """A chat completion."""
    message = {"role": "assistant", "content": content, **more}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    usage = {"prompt_tokens": 1, "completion_tokens": n_tokens, "total_tokens": 1}
    return {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}


@contextlib.contextmanager
def serving(answer: Answer, models: tuple[int, Any] | None = None) -> Iterator[Served]:
    """A server of one model, "m", unless it is to answer otherwise for its `models`."""
    listed = models or (
        200,
        {"object": "list", "data": [{"id": "m", "object": "model", "created": 0, "owned_by": "x"}]},
    )
    served = Served("")

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def tell(self, status: int, content: Any) -> None:
            if status == 0:
                self.close_connection = True
                return
            body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-type", "text/html" if isinstance(content, str) else "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.tell(*listed)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            served.seen.append(body)
            served.heads.append((self.path, self.headers["authorization"]))
            self.tell(*answer(body))

    class Server(ThreadingHTTPServer):
        request_queue_size = 128  # of callers at once; the default, 5, makes others wait a second

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
