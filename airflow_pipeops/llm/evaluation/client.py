"""A client of an endpoint that speaks as OpenAI does. It knows nothing of Airflow."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.authorities import authorities
from airflow_pipeops.base.documents import map_, maps, number, parsed, text
from airflow_pipeops.base.http import Http, bearer
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.exceptions import (
    AccessDenied,
    BadResponse,
    InvalidInput,
    NotFound,
    PipeOpsError,
    SystemFailure,
    Unreachable,
)
from airflow_pipeops.llm.evaluation.pace import count
from airflow_pipeops.redaction import excerpt, remember

if TYPE_CHECKING:
    import httpx

#: Bytes of an answer; of many vectors one that is longer by far would be no embedding.
MOST = 4 * 1024**2
#: What providers call an account that is empty, in an answer that otherwise means "too fast".
_EMPTY = (
    "insufficient_quota",
    "billing_hard_limit_reached",
    "insufficient_balance",
    "credit_balance_too_low",
)


@dataclass(frozen=True)
class Settings:
    """Where an endpoint is.

    :param url: base URL with its version, such as ``https://api.openai.com/v1``.
    :param key: API key; empty for none.
    :param timeout: seconds for one call, its answer included.
    :param verify: what the server's certificate is checked with.
    """

    url: str
    key: str = ""
    timeout: float = 60.0
    verify: Any = True

    def __repr__(self) -> str:
        return f"Settings({self.url!r})"


@dataclass(frozen=True)
class Answer(JsonForm):
    """What came back.

    :param text: of the answer: its content, its refusal, or the calls of tools as JSON.
    :param finish: why it ended, as the endpoint says it: ``length`` means that it was cut.
    :param tokens_in: of the question; ``None`` where the endpoint did not say.
    :param tokens_out: of the answer; ``None`` where the endpoint did not say.
    :param model: that answered, as the endpoint calls it.
    :param fingerprint: of the system behind the endpoint, where it says so.
    :param seconds: until the answer was complete, of the try that succeeded.
    :param at: when, in seconds since 1970.
    :param tries: that it took.
    :param vector: of an embedding.
    :param masked: kind -> how often it was masked in the text.
    """

    text: str
    finish: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None
    model: str = ""
    fingerprint: str = ""
    seconds: float = 0.0
    at: float = 0.0
    tries: int = 1
    vector: tuple[float, ...] = ()
    masked: Mapping[str, int] = field(default_factory=dict)


class Endpoint:
    """An endpoint, open within ``async with``.

    :param settings: where it is.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        remember(settings.key)
        self._client: httpx.AsyncClient | None = None
        self._http = Http(settings.url, self._opened, _error, timeout=settings.timeout, attempts=1, pause=0.0)

    async def __aenter__(self) -> Endpoint:
        import httpx

        headers = bearer(self.settings.key)
        verify = authorities(self.settings.verify)
        self._client = httpx.AsyncClient(headers=headers, verify=verify, follow_redirects=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _opened(self) -> httpx.AsyncClient:
        assert self._client is not None, "the endpoint is not open"
        return self._client

    async def ask(self, path: str, body: Mapping[str, Any], key: str = "") -> Answer:
        """Make one call, once.

        :param path: ``/chat/completions`` or ``/embeddings``.
        :param body: of the call.
        :param key: the same for each try of one question, by which an endpoint may know that it has answered.
        :return: the answer.
        :raises Unreachable: for no whole answer, for 429 and for 5xx.
        :raises BadResponse: for an answer that is none.
        :raises AccessDenied: for a wrong key, and for an account that is empty.
        :raises InvalidInput: if the endpoint refuses the question.
        """
        begun = time.monotonic()
        about = f"a question to {text(body.get('model'), 100)}"
        headers = {"Idempotency-Key": key} if key else {}
        found = await self._http.object(
            "POST", path, about=about, json=dict(body), most=MOST, headers=headers
        )
        seconds = time.monotonic() - begun
        read = vector_of if path == "/embeddings" else answer_of
        return read(found, self.settings.url, seconds, time.time())


def may_have_cost(error: PipeOpsError) -> bool:
    """Whether a call that failed may be charged all the same: its answer was made, and did not arrive as one.

    An endpoint that was never reached, or that said no, charges nothing.

    :param error: of :meth:`Endpoint.ask`.
    :return: whether it may.
    """
    return isinstance(error, BadResponse) or (isinstance(error, Unreachable) and error.__cause__ is not None)


def answer_of(found: Mapping[str, Any], url: str, seconds: float, at: float) -> Answer:
    """Read an answer of chat completions. Pure.

    :param found: the JSON object.
    :param url: of the endpoint, for errors.
    :param seconds: that it took.
    :param at: when it came.
    :return: the answer.
    :raises BadResponse: if it is none.
    """
    choice = next(iter(maps(found.get("choices"))), None)
    message = map_((choice or {}).get("message"))
    said = message.get("content")
    if isinstance(said, list):  # parts, as some endpoints send them
        said = "".join(text(one.get("text")) for one in maps(said))
    if not said and (calls := maps(message.get("tool_calls"))):
        said = json.dumps([one.get("function") for one in calls], sort_keys=True)
    if said is None:
        said = message.get("refusal")
    if not isinstance(said, str):
        raise BadResponse(f"{url} answered without a message")
    usage = map_(found.get("usage"))
    return Answer(
        said,
        text(map_(choice).get("finish_reason"), 40),
        count(usage.get("prompt_tokens")),
        count(usage.get("completion_tokens")),
        text(found.get("model"), 200),
        text(found.get("system_fingerprint"), 200),
        round(seconds, 4),
        round(at, 3),
    )


def vector_of(found: Mapping[str, Any], url: str, seconds: float, at: float) -> Answer:
    """Read an embedding; as :func:`answer_of`."""
    data = maps(found.get("data"))
    vector = data[0].get("embedding") if len(data) == 1 else None
    if not isinstance(vector, list) or not vector or any(number(one) is None for one in vector):
        raise BadResponse(f"{url} answered without an embedding")
    return Answer(
        "",
        tokens_in=count(map_(found.get("usage")).get("prompt_tokens")),
        tokens_out=0,
        model=text(found.get("model"), 200),
        seconds=round(seconds, 4),
        at=round(at, 3),
        vector=tuple(float(one) for one in vector),
    )


def _error(status: int, content: bytes, about: str, url: str) -> PipeOpsError:
    """Say what an answer other than success means."""
    try:
        found = map_(map_(parsed(content)).get("error"))
    except ValueError:
        found = {}
    said = excerpt(text(found.get("message")) or content.decode("utf-8", "replace"), 300)
    code = f"{text(found.get('code'))} {text(found.get('type'))}"
    if status == 402 or any(word in code for word in _EMPTY):
        return AccessDenied(
            f"the account at {url} has no quota left: {said}", remedy="Top it up, or use another connection."
        )
    if status in (401, 403):
        return AccessDenied(
            f"{url} refuses the API key ({status}): {said}", remedy="Check the connection's password."
        )
    if status == 404:
        return NotFound(
            f"{url} knows no such model or path: {said}",
            remedy="Check the model's name, and that the host ends in the version, such as /v1.",
        )
    if status in (408, 409, 425, 429) or status >= 500:
        return Unreachable(f"{url} answered {about} with {status}: {said}")
    if status in (400, 413, 422):
        return InvalidInput(f"{url} refused {about} ({status}): {said}", field="subjects")
    return SystemFailure(f"{url} answered {about} with {status}: {said}")
