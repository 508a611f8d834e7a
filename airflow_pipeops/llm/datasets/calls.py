"""Sampled calls of a model as the items of a dataset: what was asked, and what was answered. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_pipeops.base.documents import text
from airflow_pipeops.llm.datasets.dataset import bad_row, digest, squeezed

#: Columns by which a table of calls is known; it has no ``id``.
_CALLS = ("request_id", "conversation", "input", "answer")
#: Columns by which slices are made.
_TAGS = ("prompt_digest", "model")


def is_calls(row: Mapping[str, Any]) -> bool:
    """Whether a row is a call, as ``SampleTracesOperator`` keeps it.

    :param row: of a file.
    :return: whether it is.
    """
    return "id" not in row and all(name in row for name in _CALLS)


def items_of(calls: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of a dataset for calls.

    A call that was not answered is left out, and of those that ask and answer the same the first stays. Calls of one
    conversation are one cluster, and those without one, where they ask the same.

    :param calls: rows.
    :return: rows with ``id``, ``inputs`` (``input`` and ``answer``), ``cluster`` and ``tags``.
    :raises InvalidInput: for a row that is no call.
    """
    if odd := next((place for place, one in enumerate(calls, 1) if not is_calls(one)), 0):
        lacks = [name for name in _CALLS if name not in calls[odd - 1]]
        said = (
            f"is no call, as the first one is: it has no {lacks[0]!r}"
            if lacks
            else "has an 'id', and the first has none"
        )
        raise bad_row(odd, said, "Give sampled calls alone, or items alone.")
    found: dict[str, dict[str, Any]] = {}
    answered: Sequence[Mapping[str, Any]] = [one for one in calls if one["answer"] and not one.get("error")]
    named = Counter(text(one["request_id"]) for one in answered)
    for one in answered:
        name, inputs = text(one["request_id"]), {"input": one["input"], "answer": one["answer"]}
        asks = digest(squeezed(one["input"]), "dataset", f"call {name!r}")
        if named[name] > 1:  # made by several prompts, which the application gives one id
            name = f"{name} {text(one.get('prompt_digest'))[:12]}"
        row = {
            "id": name,
            "inputs": inputs,
            "cluster": one["conversation"] or f"asks {asks[:32]}",
            "tags": {tag: one[tag] for tag in _TAGS if one.get(tag)},
        }
        found.setdefault(digest(squeezed(inputs), "dataset", f"call {name!r}"), row)
    return list(found.values())
