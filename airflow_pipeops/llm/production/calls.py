"""One call of a model, as it is kept: masked, bounded, in a table of fixed columns. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.llm.masking import Masker, identifier

if TYPE_CHECKING:
    import pyarrow as pa

#: Characters of a text that are kept.
TEXT = 16_384
_SHORT = 200


@dataclass(frozen=True)
class Call(JsonForm):
    """What was asked, what was answered, and by what.

    :param request_id: of the call, which feedback names.
    :param conversation: that it belongs to; empty where each call stands for itself.
    :param at: when it began, in UTC milliseconds since 1970.
    :param prompt: name of the prompt.
    :param prompt_digest: of the prompt that was used; empty where the application does not say.
    :param prompt_version: of it, as the registry counts.
    :param model: that answered, as the endpoint calls it; else the one that was asked for.
    :param input: what was asked.
    :param answer: what the model gave.
    :param finish_reason: why it stopped: ``stop``, ``length``, ``content_filter``, ``tool_calls``.
    :param tokens_in: of what was asked.
    :param tokens_out: of the answer.
    :param cost: in the currency of the prices.
    :param latency: seconds until the answer was complete.
    :param error: why there is no answer; empty where there is one.
    """

    request_id: str
    at: int
    conversation: str = ""
    prompt: str = ""
    prompt_digest: str = ""
    prompt_version: str = ""
    model: str = ""
    input: str = ""
    answer: str = ""
    finish_reason: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost: float | None = None
    latency: float | None = None
    error: str = ""


#: Names of the columns, in their order.
COLUMNS = tuple(each.name for each in fields(Call))


def masked(call: Call, limit: int = TEXT) -> tuple[Call, Counter[str]]:
    """Mask a call: one value has one placeholder in all of its texts.

    :param call: as it was read.
    :param limit: characters of a text that are kept.
    :return: what may be stored, and how often each kind was masked.
    """
    mask = Masker()

    def text(value: str, most: int) -> str:
        return mask.text(_whole(value), most)

    def short(value: str) -> str:
        return text(value, _SHORT)

    safe = replace(
        call,
        request_id=identifier(_whole(call.request_id)),
        conversation=identifier(_whole(call.conversation)),
        prompt=short(call.prompt),
        prompt_digest=short(call.prompt_digest),
        prompt_version=short(call.prompt_version),
        model=short(call.model),
        input=text(call.input, limit),
        answer=text(call.answer, limit),
        finish_reason=short(call.finish_reason),
        error=short(call.error),
    )
    return safe, mask.counts


def _whole(text: str) -> str:
    """Put a question mark in place of half a character, which JSON can hold and no table."""
    return text.encode("utf-8", "replace").decode()


def schema() -> pa.Schema:
    """Return the columns of the table."""
    import pyarrow as pa

    types = {"at": pa.timestamp("ms", tz="UTC"), "cost": pa.float64(), "latency": pa.float64()}
    types |= dict.fromkeys(("tokens_in", "tokens_out"), pa.int64())
    return pa.schema([pa.field(name, types.get(name, pa.string())) for name in COLUMNS])


def table(calls: Sequence[Call]) -> pa.Table:
    """Make a table of calls, in the order of their time.

    :param calls: masked.
    :return: a row for each.
    """
    import pyarrow as pa

    ordered = sorted(calls, key=lambda call: (call.at, call.request_id, call.prompt_digest))
    columns: list[Any] = [[getattr(call, name) for call in ordered] for name in COLUMNS]
    kinds = schema()
    return pa.table(
        [pa.array(column, kind.type) for column, kind in zip(columns, kinds, strict=True)], schema=kinds
    )
