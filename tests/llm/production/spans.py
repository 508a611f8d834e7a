"""Traces as OpenTelemetry itself writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

NOON = datetime(2025, 3, 1, 12, tzinfo=timezone.utc)


def at(seconds: float) -> int:
    """Milliseconds of a moment after noon."""
    return int((NOON.timestamp() + seconds) * 1000)


def span(
    exporter: Any, name: str, attributes: Mapping[str, Any], begun: float, took: float = 1.0, error: str = ""
) -> None:
    """Record a span with the SDK."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.trace import Status, StatusCode

    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    one = provider.get_tracer("app").start_span(
        name, attributes=dict(attributes), start_time=at(begun) * 1_000_000
    )
    if error:
        one.set_status(Status(StatusCode.ERROR, error))
    one.end(end_time=at(begun + took) * 1_000_000)


def exported(spans: Any) -> str:
    """What OTLP's own encoder makes of spans, as JSON on one line."""
    from google.protobuf.json_format import MessageToDict
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    return json.dumps(MessageToDict(encode_spans(spans)))


def chat(
    digest: str, conversation: str, asked: str, answered: str, number: int, **more: Any
) -> dict[str, Any]:
    """Attributes of a chat by the GenAI conventions."""
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "small",
        "gen_ai.response.model": "small-2026-02",
        "gen_ai.response.id": f"r{number}",
        "gen_ai.conversation.id": conversation,
        "gen_ai.prompt.digest": digest,
        "gen_ai.prompt.version": "7",
        "gen_ai.input.messages": json.dumps(
            [{"role": "user", "parts": [{"type": "text", "content": asked}]}]
        ),
        "gen_ai.output.messages": json.dumps(
            [{"role": "assistant", "parts": [{"type": "text", "content": answered}], "finish_reason": "stop"}]
        ),
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 34,
        **more,
    }
