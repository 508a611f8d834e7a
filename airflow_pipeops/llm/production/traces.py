"""Read calls of models out of traces of OpenTelemetry, logs of requests, and exports of Langfuse. Pure.

Each reader takes one JSON object, since such files have one on each line, and gives the calls in it. What is in there was
written by others: a field that is missing or of another type is left empty, and an object without any call gives none.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any, Literal

from airflow_pipeops.base.documents import Json, map_, maps, text, whole
from airflow_pipeops.llm.production.calls import Call

Format = Literal["otlp", "jsonl", "langfuse"]

#: Operations of GenAI spans that are one call of a model. An agent's span holds the usage of its calls once more.
_OPERATIONS = ("chat", "text_completion", "generate_content")
_INTEGER = re.compile(r"-?\d{1,19}")
_DIGESTS = ("gen_ai.prompt.digest", "prompt.digest", "prompt_digest")


def otlp(line: Any) -> Iterator[Call]:
    """Read a trace as OTLP writes it in JSON, with the attributes of the GenAI conventions, old and new.

    :param line: ``{"resourceSpans": [...]}``.
    :yield: a call for each span of one.
    """
    for resource in maps(map_(line).get("resourceSpans")):
        scopes = [*maps(resource.get("scopeSpans")), *maps(resource.get("instrumentationLibrarySpans"))]
        for span in (span for scope in scopes for span in maps(scope.get("spans"))):
            found = attributes(span.get("attributes"))
            operation = text(found.get("gen_ai.operation.name"))
            known = "gen_ai.request.model" in found or "gen_ai.response.model" in found
            if operation in _OPERATIONS or (not operation and known):
                yield _of_span(span, found)


def _of_span(span: Json, found: Json) -> Call:
    events = {
        text(event.get("name")): attributes(event.get("attributes")) for event in maps(span.get("events"))
    }
    details = map_(events.get("gen_ai.client.inference.operation.details"))
    asked = _either(found, details, "gen_ai.input.messages", "gen_ai.prompt")
    answered = _either(found, details, "gen_ai.output.messages", "gen_ai.completion")
    asked = asked or events.get("gen_ai.content.prompt", {}).get("gen_ai.prompt")
    answered = answered or events.get("gen_ai.content.completion", {}).get("gen_ai.completion")
    begun, ended = _nanoseconds(span.get("startTimeUnixNano")), _nanoseconds(span.get("endTimeUnixNano"))
    status = map_(span.get("status"))
    failed = status.get("code") in (2, "STATUS_CODE_ERROR")
    error = text(found.get("error.type")) or (text(status.get("message")) or "error" if failed else "")
    return Call(
        request_id=text(found.get("gen_ai.response.id")) or text(span.get("spanId")),
        at=(begun or 0) // 1_000_000,
        conversation=text(found.get("gen_ai.conversation.id")) or text(found.get("session.id")),
        prompt=text(found.get("gen_ai.prompt.name")),
        prompt_digest=_first(found, *_DIGESTS),
        prompt_version=_said(found.get("gen_ai.prompt.version")),
        model=text(found.get("gen_ai.response.model")) or text(found.get("gen_ai.request.model")),
        input=messages(asked),
        answer=messages(answered),
        finish_reason=_finish(found.get("gen_ai.response.finish_reasons"), answered),
        tokens_in=_count(found.get("gen_ai.usage.input_tokens", found.get("gen_ai.usage.prompt_tokens"))),
        tokens_out=_count(
            found.get("gen_ai.usage.output_tokens", found.get("gen_ai.usage.completion_tokens"))
        ),
        cost=_number(found.get("gen_ai.usage.cost")),
        latency=(ended - begun) / 1e9 if begun and ended and ended >= begun else None,
        error=error,
    )


def langfuse(line: Any) -> Iterator[Call]:
    """Read an export of Langfuse: observations, or traces that hold them.

    :param line: an observation, a trace, or a list of either.
    :yield: a call for each generation.
    """
    for one in maps(line) if isinstance(line, list) else [map_(line)]:
        for inner in maps(one.get("observations")):
            yield from langfuse({"sessionId": one.get("sessionId"), **inner})
        if text(one.get("type")).upper() == "GENERATION":
            yield _of_generation(one)


def _of_generation(one: Json) -> Call:
    usage = {**map_(one.get("usage")), **map_(one.get("usageDetails"))}
    begun, ended = _moment(one.get("startTime")), _moment(one.get("endTime"))
    failed = text(one.get("level")) == "ERROR"
    cost = one.get("calculatedTotalCost", one.get("totalCost"))
    return Call(
        request_id=text(one.get("id")),
        at=begun or 0,
        conversation=text(one.get("sessionId")) or text(one.get("traceId")),
        prompt=text(one.get("promptName")),
        prompt_digest=_first(map_(one.get("metadata")), *_DIGESTS),
        prompt_version=_said(one.get("promptVersion")),
        model=text(one.get("model")),
        input=messages(one.get("input")),
        answer=messages(one.get("output")),
        finish_reason=_finish(map_(one.get("metadata")).get("finish_reason"), one.get("output")),
        tokens_in=_count(usage.get("input", one.get("promptTokens"))),
        tokens_out=_count(usage.get("output", one.get("completionTokens"))),
        cost=_number(map_(one.get("costDetails")).get("total") if cost is None else cost),
        latency=(ended - begun) / 1000 if begun and ended and ended >= begun else _number(one.get("latency")),
        error=(text(one.get("statusMessage")) or "error") if failed else "",
    )


def log(line: Any, names: Mapping[str, str]) -> Iterator[Call]:
    """Read a line of a log of requests.

    :param line: an object with the fields of a :class:`~airflow_pipeops.llm.production.calls.Call`.
    :param names: field -> where it is in the line instead, such as ``response.choices.0.message.content``.
    :yield: the call.
    """
    if not isinstance(line, Mapping):
        return

    def of(name: str) -> Any:
        return _at(line, names.get(name, name))

    moment = _moment(of("at"))
    if moment is not None and (request := _said(of("request_id"))):
        yield Call(
            request_id=request,
            at=moment,
            **{
                name: _said(of(name))
                for name in ("conversation", "prompt", "prompt_digest", "prompt_version")
            },
            model=text(of("model")),
            input=messages(of("input")),
            answer=messages(of("answer")),
            finish_reason=_finish(of("finish_reason"), None),
            tokens_in=_count(of("tokens_in")),
            tokens_out=_count(of("tokens_out")),
            cost=_number(of("cost")),
            latency=_number(of("latency")),
            error=messages(of("error")),
        )


def reader(form: Format, names: Mapping[str, str]) -> Callable[[Any], Iterator[Call]]:
    """Return the reader of a format.

    :param form: ``otlp``, ``jsonl`` or ``langfuse``.
    :param names: of :func:`log`.
    :return: from one JSON object to its calls.
    """
    if form == "jsonl":
        return lambda line: log(line, names)
    return otlp if form == "otlp" else langfuse


def attributes(given: Any) -> dict[str, Any]:
    """Read the attributes of OTLP's JSON.

    :param given: a list of ``{"key", "value": {"stringValue": ...}}``.
    :return: name -> plain value.
    """
    return {text(one.get("key")): _value(one.get("value")) for one in maps(given)}


def _value(given: Any, deep: int = 20) -> Any:
    if not isinstance(given, Mapping) or not deep:
        return None
    for name, value in given.items():
        if name == "intValue":
            return _integer(value)
        if name == "arrayValue":
            return [_value(one, deep - 1) for one in maps(map_(value).get("values"))]
        if name == "kvlistValue":
            return {
                text(one.get("key")): _value(one.get("value"), deep - 1)
                for one in maps(map_(value).get("values"))
            }
        if name in ("stringValue", "boolValue", "doubleValue"):
            return value
    return None


def messages(given: Any) -> str:
    """Return what people and models said as one text.

    :param given: a text, messages of any of the usual forms or their JSON; anything else.
    :return: the text alone where one message is there, ``role: text`` lines for several, and JSON for what is none.
    """
    if isinstance(given, str):
        if given[:1] not in "[{":
            return given
        said = given
        try:
            given = json.loads(said)
        except (ValueError, RecursionError):
            return said
    if given is None or given == [] or given == {}:
        return ""
    several = given if isinstance(given, list) else map_(given).get("messages") or [given]
    spoken = [_message(one) for one in several] if isinstance(several, list) else [None]
    if any(one is None for one in spoken):
        return json.dumps(given, ensure_ascii=False)
    if len(spoken) == 1:
        return str(spoken[0])
    return "\n".join(
        f"{text(map_(one).get('role')) or 'text'}: {what}" for one, what in zip(several, spoken, strict=True)
    )


def _message(one: Any) -> str | None:
    if isinstance(one, str):
        return one
    body = map_(map_(one).get("message")) or map_(one)
    content = body.get("content", body.get("parts", body.get("text")))
    if isinstance(content, list):
        parts = [
            part if isinstance(part, str) else text(map_(part).get("text", map_(part).get("content")))
            for part in content
        ]
        if all(parts):
            return "\n".join(parts)
        return json.dumps(content, ensure_ascii=False)
    return content if isinstance(content, str) else None


def _finish(given: Any, answered: Any) -> str:
    """Return why a model stopped: what was said of the call, or in the messages of its answer."""
    if isinstance(given, list):
        given = next((one for one in given if isinstance(one, str)), "")
    if not given and isinstance(answered, str) and answered[:1] == "[":
        try:
            answered = json.loads(answered)
        except (ValueError, RecursionError):
            return ""
    return text(given) or next((text(one.get("finish_reason")) for one in maps(answered)), "")


def _either(found: Json, details: Json, *names: str) -> Any:
    return next((place[name] for name in names for place in (found, details) if place.get(name)), None)


def _first(found: Json, *names: str) -> str:
    return next((text(found[name]) for name in names if text(found.get(name))), "")


def _at(line: Json, path: str) -> Any:
    """Return what is at a path; a name with dots of its own wins."""
    if path in line:
        return line[path]
    value: Any = line
    for part in path.split("."):
        if isinstance(value, list) and part.isdecimal():
            value = value[int(part)] if int(part) < len(value) else None
        else:
            value = map_(value).get(part)
    return value


def _said(value: Any) -> str:
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""


def _count(value: Any) -> int | None:
    found = _number(value)
    return int(found) if found is not None and 0 <= found < 2**53 else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def _integer(value: Any) -> int | None:
    """Read a whole number of 64 bits, which OTLP writes as a text."""
    if isinstance(value, str):
        return int(value) if _INTEGER.fullmatch(value) else None
    return whole(value)


def _nanoseconds(value: Any) -> int | None:
    found = _integer(value)
    return found if found and 0 < found < 2**63 else None


def _moment(value: Any) -> int | None:
    """Read a time: a text of ISO 8601, or seconds or milliseconds since 1970; without a zone it is UTC."""
    if isinstance(value, str) and not value.replace(".", "", 1).isdecimal():
        try:
            found = datetime.fromisoformat(_six_digits(value.replace("Z", "+00:00")))
            zoned = found if found.tzinfo else found.replace(tzinfo=timezone.utc)
            return int(zoned.timestamp() * 1000)
        except (ValueError, OverflowError):
            return None
    number = _number(value)
    if number is None or not 0 < number < 1e14:
        return None
    return int(number if number > 1e11 else number * 1000)


def _six_digits(value: str) -> str:
    """Python 3.10 reads fractions of a second with three or six digits only."""
    before, dot, after = value.partition(".")
    count = next((place for place, letter in enumerate(after) if not letter.isdecimal()), len(after))
    return f"{before}.{after[:count][:6].ljust(6, '0')}{after[count:]}" if dot else value
