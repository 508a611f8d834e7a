"""``python -m airflow_pipeops.demo.notice_service``: an application that works with a prompt, as its pod was given it.

::

    GET /                  {"sha256": ..., "prompt": {...}}     what it works with; null before the first release
    GET /maker?aircraft=…  {"maker": "Boeing"}                  what the language model answers by that prompt
"""

from __future__ import annotations

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from airflow_pipeops.llm.prompts.prompt import Prompt


def maker(prompt: Prompt, aircraft: str, url: str) -> str:
    """Ask the language model who made an aircraft.

    :param prompt: what is asked, and how.
    :param aircraft: as its register describes it.
    :param url: base URL of the model's endpoint.
    :return: the answer.
    """
    messages = prompt.render({"aircraft": aircraft}).to_json()
    body = {"model": prompt.model, "messages": messages, **prompt.parameters}
    answer = httpx.post(f"{url}/chat/completions", json=body, timeout=30).raise_for_status()
    return str(answer.json()["choices"][0]["message"]["content"])


class _Handler(BaseHTTPRequestHandler):
    prompt: Prompt | None

    def log_message(self, format: str, *args: Any) -> None:
        print(format % args, file=sys.stderr)

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        aircraft = parse_qs(asked.query).get("aircraft", [""])[0]
        told = {"sha256": os.environ["PROMPT_SHA256"], "prompt": self.prompt and self.prompt.to_json()}
        if asked.path != "/maker":
            return self._send(200, told)
        if self.prompt is None or not aircraft:
            return self._send(404, {"error": "give an aircraft, once there is a prompt"})
        try:
            return self._send(200, {"maker": maker(self.prompt, aircraft, os.environ["MODEL_URL"])})
        except httpx.HTTPError as error:
            return self._send(502, {"error": str(error)})

    def _send(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def main() -> None:
    """Serve until the process is ended."""
    given = os.environ["PROMPT"]
    _Handler.prompt = None if given == "none" else Prompt.read(given, "prompt.json")
    address = (os.environ.get("HOST", "0.0.0.0"), int(os.environ.get("PORT", "8080")))
    ThreadingHTTPServer(address, _Handler).serve_forever()


if __name__ == "__main__":
    main()
