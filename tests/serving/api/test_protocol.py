"""The inference protocol, without a server."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.serving.api import protocol

FEATURES = {"hour": "INT64", "temp": "FP64", "dest": "BYTES"}


def request(**changes) -> dict:
    tensors = {
        "hour": {"name": "hour", "shape": [2], "datatype": "INT64", "data": [6, 7]},
        "temp": {"name": "temp", "shape": [2, 1], "datatype": "FP64", "data": [[50.5], [None]]},
        "dest": {"name": "dest", "shape": [2], "datatype": "BYTES", "data": ["ORD", "é"]},
    }
    for name, change in changes.items():
        tensors[name] = {**tensors.get(name, {"name": name}), **change}
    return {"id": "7", "inputs": list(tensors.values())}


def test_a_request_becomes_columns_in_the_models_order():
    content = request()
    content["inputs"].reverse()
    asked = protocol.read_request(json.dumps(content).encode(), FEATURES)
    assert (asked.id, asked.rows, list(asked.columns)) == ("7", 2, ["hour", "temp", "dest"])
    assert asked.columns["temp"][0] == 50.5
    assert math.isnan(asked.columns["temp"][1])


def test_only_the_outputs_that_are_named_are_wanted():
    outputs = ("probability_a", "probability_b", "probability_c")
    for named, wanted in ((None, outputs), ([], outputs), (["probability_b"], ("probability_b",))):
        content = {**request(), "outputs": named and [{"name": name} for name in named]}
        assert protocol.read_request(json.dumps(content).encode(), FEATURES, outputs).outputs == wanted


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b'{"inputs": [NaN]}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        ([], "no object"),
        ({"inputs": 1}, "no object"),
        ({"inputs": [], "id": 1}, "id"),
        ({"inputs": []}, "missing inputs: hour, temp, dest"),
        ({"inputs": [1]}, "no object with a name"),
        ({**request(), "outputs": [{"name": "x"}]}, "unknown outputs"),
        ({**request(), "outputs": {}}, "no list"),
        ({"inputs": request()["inputs"] * 2}, "twice"),
        (request(more={"datatype": "INT64"}), "unknown input 'more'"),
        (request(hour={"datatype": "FP64"}), "datatype"),
        (request(hour={"shape": [3]}), "shape"),
        (request(hour={"shape": [1, 2]}), "shape"),
        (request(hour={"shape": [2, True]}), "shape"),
        (request(hour={"shape": None}), "shape"),
        (request(hour={"data": None}), "no list"),
        (request(hour={"data": [], "shape": [0]}), "no rows"),
        (request(hour={"data": [1], "shape": [1]}), "different lengths"),
        (request(hour={"data": [1.5, 2]}), "1.5, which is no INT64"),
        (request(hour={"data": [True, 2]}), "true, which is no INT64"),
        (request(hour={"data": [2**63, 2]}), "no INT64"),
        (request(hour={"data": [None, 2]}), "null, which is no INT64"),
        (request(temp={"data": ["1", 2], "shape": [2]}), "no FP64"),
        (request(temp={"data": [10**400, 2], "shape": [2]}), "no FP64"),
        (request(dest={"data": [1, "x"]}), "no BYTES"),
        (request(dest={"data": ["\ud800", "x"]}), "no BYTES"),  # half a character
        ({**request(), "id": "\udfff"}, "id"),
    ],
)
def test_what_is_wrong_is_named(content, why):
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    with pytest.raises(InvalidInput, match=why):
        protocol.read_request(body, FEATURES)


def test_an_overflowing_number_is_refused():
    body = json.dumps(request()).replace("50.5", "1e999").encode()
    with pytest.raises(InvalidInput, match="no FP64"):
        protocol.read_request(body, FEATURES)


row = st.tuples(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"])),
)


@given(st.lists(row, min_size=1))
def test_what_is_written_is_read_back(rows):
    columns = {name: [item[i] for item in rows] for i, name in enumerate(FEATURES)}
    body = json.dumps(protocol.write_request(columns, FEATURES)).encode()
    asked = protocol.read_request(body, FEATURES)
    read = asked.columns
    assert asked.rows == len(rows)
    assert read["hour"] == columns["hour"]
    assert read["dest"] == columns["dest"]
    assert all(
        a == b or (math.isnan(a) and math.isnan(b))
        for a, b in zip(read["temp"], columns["temp"], strict=True)
    )


anything = st.recursive(
    st.none() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["inputs", "name", "data", "shape", "outputs"]), inner)
    ),
)


@given(st.binary() | anything.map(lambda content: json.dumps(content).encode()))
def test_nothing_else_than_invalid_input_ever_comes_out(body):
    with pytest.raises(InvalidInput):
        protocol.read_request(body, FEATURES)
