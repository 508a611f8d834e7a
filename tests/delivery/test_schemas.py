"""The published schemas: what they say of records, and that the page says the same."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from airflow_pipeops.delivery.records import KINDS, PER_ENVIRONMENT, Record, identity
from airflow_pipeops.delivery.schemas import BODIES, page, schema

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "records.md"

#: A value of each JSON type, for a body with all its fields.
VALUES = {
    "string": "x", "integer": 1, "number": 1.5, "boolean": True, "object": {"a": 1}, "array": ["a"], "null": None,
}  # fmt: skip


def full(kind: str) -> dict:
    """Return the JSON of a record whose body has every field of its kind."""
    fields = schema(kind)["properties"]["body"]["properties"]
    types = {
        name: item["type"] if isinstance(item["type"], str) else item["type"][0]
        for name, item in fields.items()
    }
    return Record(
        kind, "shop", {name: VALUES[one] for name, one in types.items()},
        environment="staging" if kind in PER_ENVIRONMENT else None, at="2026-01-02T03:04:05+00:00",
    ).to_extra()  # fmt: skip


def test_the_page_is_the_one_that_the_code_makes() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "write it anew: python -c 'from airflow_pipeops.delivery.schemas import page; print(page(), end=\"\")'"
    )


def test_every_kind_has_a_schema() -> None:
    assert tuple(sorted(BODIES)) == tuple(sorted(KINDS))


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_takes_what_is_right_and_refuses_what_is_not(kind: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema(kind))
    extra = full(kind)
    jsonschema.validate(extra, schema(kind))
    later = {**extra, "heard": "elsewhere", "body": {**extra["body"], "more": 1}}
    jsonschema.validate(later, schema(kind))
    for wrong in (
        {**extra, "kind": "rumour"},
        {**extra, "id": "x"},
        {**extra, "parents": ["x"]},
        {name: value for name, value in extra.items() if name != "at"},
        {**extra, "body": {**extra["body"], next(iter(BODIES[kind].fields)): object}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema(kind))


def later(**more: object) -> dict:
    """Return what a later version may write."""
    extra = {**full("commit"), **more}
    return {**extra, "id": identity(extra)}


@pytest.mark.parametrize(
    "more",
    [
        {"kind": "rumour"},
        {"heard": ["elsewhere", 1.5]},
        {
            "evidence": [
                {
                    "name": "a.txt",
                    "uri": "file:///a",
                    "sha256": "0" * 64,
                    "media_type": "text/plain",
                    "pages": 7,
                }
            ]
        },
        {"source": {"dag": "d", "cluster": {"name": "x"}}},
    ],
)
def test_what_a_later_version_writes_is_read_and_keeps_its_id(more: dict) -> None:
    extra = later(**more)
    record = Record.from_extra(extra)
    assert (record.id, record.to_extra()) == (extra["id"], extra)
    assert Record.from_extra({**extra, "from_rest_api": True}).id == extra["id"]


def test_it_is_read_by_whoever_reads_events_too(context) -> None:
    from airflow_pipeops.delivery.events import Event, read_records

    extra = later(kind="rumour", heard=1)
    found, left_out = read_records([Event(extra, "shop.rumour", "pipeops://shop/rumour", 1, task="t")])
    assert ([one.kind for one in found], left_out) == (["rumour"], [])
