from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_pipeops.delivery.events import Event, read_records
from airflow_pipeops.delivery.records import KINDS, MAX_BYTES, SCHEMA, Evidence, Record
from airflow_pipeops.exceptions import InvalidInput

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(1 - 2**53, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3)
    ),
    max_leaves=8,
)
records = st.builds(
    Record,
    kind=st.sampled_from(KINDS),
    deliverable=st.just("svc"),
    body=st.dictionaries(st.text(max_size=8), json_values, max_size=4),
    parents=st.lists(st.binary(max_size=4).map(lambda b: hashlib.sha256(b).hexdigest()), max_size=3).map(
        tuple
    ),
    environment=st.none() | st.just("staging"),
    commit=st.none() | st.just("a" * 40),
    at=st.just("2026-01-02T03:04:05+00:00"),
    evidence=st.just(()) | st.just((Evidence("r.html", "file:///x", "0" * 64, "text/html"),)),
)


@given(records)
def test_a_record_survives_the_way_through_json(record: Record) -> None:
    travelled = json.loads(json.dumps(record.to_extra()))
    assert Record.from_extra(travelled).id == record.id


@given(records, st.sampled_from(["kind", "deliverable", "at", "commit", "environment"]))
def test_any_change_is_noticed(record: Record, field: str) -> None:
    extra = record.to_extra()
    extra[field] = {"kind": "incident" if record.kind != "incident" else "model"}.get(field, "altered")
    with pytest.raises(InvalidInput, match="altered"):
        Record.from_extra(extra)


def test_the_id_is_the_digest_of_sorted_compact_json() -> None:
    record = Record("commit", "svc", {"b": 1, "a": "é"}, at="2026-01-02T03:04:05+00:00")
    expected = (
        '{"at":"2026-01-02T03:04:05+00:00","body":{"a":"é","b":1},"commit":null,"deliverable":"svc","environment":null,'
        '"evidence":[],"kind":"commit","parents":[],"schema":"pipeops/v1","source":{}}'
    )
    assert record.canonical().decode() == expected
    assert record.id == hashlib.sha256(expected.encode()).hexdigest()


def test_key_order_does_not_matter() -> None:
    assert Record("commit", "s", {"a": 1, "b": 2}).id == Record("commit", "s", {"b": 2, "a": 1}).id


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": "sync"}, "kind"),
        ({"parents": ("deadbeef",)}, "parents"),
        ({"parents": ("A" * 64,)}, "parents"),
        ({"body": {"x": "y" * MAX_BYTES}}, "body"),
        ({"body": {"x": float("nan")}}, "body"),
        ({"body": {"x": object()}}, "body"),
        ({"body": {"x": 2**53}}, "body"),
        ({"body": {"x": 10**400}}, "body"),
    ],
)
def test_bad_input_names_its_field(change: dict, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Record(**{"kind": "commit", "deliverable": "s", "body": {}, **change})
    assert caught.value.field == field
    assert caught.value.remedy


def nested(depth: int) -> list:
    found: list = []
    for _ in range(depth):
        found = [found]
    return found


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"body": {1: "x"}}, "body", "the name 1, which is no text"),
        ({"body": {"a": [{"b": {None: 1}}]}}, "body.a[0].b", "the name None"),
        ({"body": {"a": {True: 1, "True": 2}}}, "body.a", "the name True"),
        ({"source": {2: 1}}, "source", "the name 2"),
        ({"body": {"log": "half \ud800 a letter"}}, "body.log", "lone surrogate"),
        ({"body": {"\udfff": 1}}, "body", "lone surrogate"),
        ({"deliverable": "\udfff"}, "deliverable", "lone surrogate"),
        ({"body": {"a": nested(60)}}, "body.a" + "[0]" * 50, "nested deeper than 50"),
        ({"body": {"a": nested(100_000)}}, "body.a" + "[0]" * 50, "nested deeper than 50"),
    ],
)
def test_what_could_not_be_read_back_is_refused_when_it_is_written(
    change: dict, field: str, said: str
) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        Record(**{"kind": "commit", "deliverable": "s", "body": {}, **change})
    assert field.startswith(caught.value.field)
    assert caught.value.remedy


def readable(extras: list[dict]) -> list[Record]:
    return read_records(Event(extra, task="task") for extra in extras)[0]


@pytest.mark.parametrize("name", ["", "a/b", ".x", "a\0b", "a\nb", "é" * 128, "a\ud800", 5])
def test_evidence_has_the_name_of_a_file(name) -> None:
    with pytest.raises(InvalidInput) as caught:
        Evidence(name, "file:///x", "0" * 64)
    assert caught.value.field == "name"
    good = Record("commit", "s", {})
    item = {"name": name, "uri": "file:///x", "sha256": "0" * 64, "media_type": "text/html"}
    assert readable([{**good.to_extra(), "evidence": [item]}, good.to_extra()]) == [good]


@pytest.mark.parametrize(
    "odd",
    [
        {"body": [1, 2]},
        {"body": None},
        {"parents": 5},
        {"parents": [["a"]]},
        {"evidence": ["x"]},
        {"evidence": 1},
        {"source": "dag"},
        {"kind": ["decision"]},
        {"deliverable": "\ud800"},
    ],
)
def test_odd_extras_stop_no_reader(odd: dict) -> None:
    good = Record("commit", "s", {})
    assert readable([{**good.to_extra(), **odd}, good.to_extra()]) == [good]


@pytest.mark.parametrize(
    "extra", [{}, {"schema": "pipeops/v2"}, {"schema": SCHEMA}, {"schema": SCHEMA, "kind": "commit"}]
)
def test_what_is_no_record_is_refused_and_left_out(extra: dict) -> None:
    with pytest.raises(InvalidInput):
        Record.from_extra(extra)
    good = Record("commit", "s", {})
    assert readable([extra, good.to_extra()]) == [good]
