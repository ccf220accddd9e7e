# SPDX-License-Identifier: Apache-2.0
"""A server of OpenAI's protocol on a real socket that answers from a script."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, bytes]


def chat(content: Any) -> Answer:
    """A proper answer with that content."""
    text = content if isinstance(content, str) else json.dumps(content)
    body = {
        "id": "x", "object": "chat.completion", "created": 0, "model": "scripted",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }  # fmt: skip
    return 200, json.dumps(body).encode()


@dataclass
class Scripted:
    """What the server was asked, and where it listens."""

    url: str
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)


@contextmanager
def model_server(
    answers: Sequence[Answer | Callable[[dict[str, Any]], Answer]],
) -> Iterator[Scripted]:
    """Give the answers one after another, the last one again and again."""
    waiting = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            scripted.asked.append(asked)
            scripted.keys.append(self.headers.get("Authorization", ""))
            answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            code, body = answer(asked) if callable(answer) else answer
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            try:
                self.wfile.write(body)
            except OSError:  # it was given up
                self.close_connection = True

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    scripted = Scripted(f"http://127.0.0.1:{server.server_address[1]}/v1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield scripted
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
