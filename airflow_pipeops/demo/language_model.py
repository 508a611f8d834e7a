"""The language model of the demo: small enough for a laptop, and really asked, at an endpoint that speaks as OpenAI's.

It knows nothing but the messages that it gets: it answers the last one as the one before it that is most like it was
answered. So a prompt whose examples are gone is truly worse, and one with better examples truly better, which is what the
story needs; how good a large model is, it does not tell. No answer is written down anywhere.
"""

from __future__ import annotations

import json
import math
import re
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

#: What it says where the messages hold no example.
UNKNOWN = "I cannot tell."
#: Letters of the parts by which texts are compared, and the longest question that is read, in bytes.
_SIZES, _LONGEST = (2, 3, 4), 1 << 20


def answer(messages: Sequence[Mapping[str, str]]) -> str:
    """Answer the last message as the most similar one of the user before it was answered.

    :param messages: of a chat: ``role`` and ``content``.
    :return: the text; of equally similar ones, the newest counts.
    """
    examples = [
        (one["content"], other["content"])
        for one, other in pairwise(messages[:-1])
        if (one["role"], other["role"]) == ("user", "assistant")
    ]
    if not examples:
        return UNKNOWN
    asked, known = _parts(messages[-1]["content"]), [_parts(one) for one, _ in examples]
    # What stands in many of the texts tells them little apart.
    among = Counter(part for text in (asked, *known) for part in text)
    rare = {part: math.log((len(known) + 2) / count) for part, count in among.items()}
    alike = [_likeness(one, asked, rare) for one in known]
    return examples[max(range(len(alike)), key=lambda number: (alike[number], number))][1]


def _parts(text: str) -> Counter[str]:
    padded = f" {' '.join(re.findall('[a-z0-9]+', text.lower()))} "
    return Counter(padded[at : at + size] for size in _SIZES for at in range(len(padded) - size + 1))


def _likeness(one: Counter[str], other: Counter[str], rare: Mapping[str, float]) -> float:
    """Return the cosine of two texts, each part weighted by how rare it is."""
    both = sum(one[part] * other[part] * rare[part] ** 2 for part in one.keys() & other.keys())
    sizes = (math.hypot(*(count * rare[part] for part, count in text.items())) for text in (one, other))
    return both / (math.prod(sizes) or 1.0)


class LanguageModel:
    """Serves the model on a free port of the loopback interface, as ``POST /v1/chat/completions``, until it is closed."""

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="language-model", daemon=True).start()

    @property
    def url(self) -> str:
        """Base URL, as a connection holds it."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        if self.path != "/v1/chat/completions" or not 0 < size <= _LONGEST:
            self.close_connection = True
            return self._send(404, {"error": {"message": "POST /v1/chat/completions is all that there is"}})
        body = json.loads(self.rfile.read(size))
        said = answer(body["messages"])
        read = sum(len(message["content"].split()) for message in body["messages"])
        usage = {"prompt_tokens": read, "completion_tokens": len(said.split())}
        choice = {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": said},
        }
        return self._send(200, {"model": body["model"], "choices": [choice], "usage": usage})

    def _send(self, status: int, body: Mapping[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
