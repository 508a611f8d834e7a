"""Calls are read from what others wrote, drawn fairly, masked, and kept once, whatever is killed and run again."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from airflow.sdk.exceptions import AirflowFailException
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from airflow_pipeops import SampleTracesOperator
from airflow_pipeops.exceptions import BadResponse, InvalidInput
from airflow_pipeops.llm.production import store as stored
from airflow_pipeops.llm.production.calls import COLUMNS, Call
from airflow_pipeops.llm.production.sampling import Draw, draw
from airflow_pipeops.llm.production.traces import attributes, langfuse, log, messages, otlp
from tests.llm.production.spans import NOON, at, chat, exported, span

HOUR = NOON + timedelta(hours=1)
WINDOW = {"start": NOON.isoformat(), "end": HOUR.isoformat()}


def call(number: int, conversation: str = "", digest: str = "a", **more: object) -> Call:
    return Call(f"r{number}", at(number), conversation, prompt_digest=digest, **more)  # type: ignore[arg-type]


def test_a_trace_that_opentelemetry_wrote() -> None:
    exporter = InMemorySpanExporter()
    span(exporter, "chat small", chat("d1", "c1", "Who is ann@example.com?", "I can't say.", 1), 5, took=1.5)
    span(
        exporter,
        "execute_tool",
        {"gen_ai.operation.name": "execute_tool", "gen_ai.request.model": "small"},
        6,
    )
    span(
        exporter,
        "invoke_agent",
        {"gen_ai.operation.name": "invoke_agent", "gen_ai.request.model": "small"},
        6,
    )
    span(exporter, "GET /", {"http.method": "GET"}, 6)
    old = {"gen_ai.system": "openai", "gen_ai.request.model": "old", "gen_ai.prompt": "Hi", "gen_ai.completion": "Ho",
           "gen_ai.usage.prompt_tokens": 3, "gen_ai.response.finish_reasons": ["length"]}  # fmt: skip
    span(exporter, "completion", old, 7, error="rate limited")
    found = list(otlp(json.loads(exported(exporter.get_finished_spans()))))
    assert found[0] == Call(
        "r1", at(5), "c1", "", "d1", "7", "small-2026-02", "Who is ann@example.com?", "I can't say.", "stop",
        12, 34, None, 1.5, "",
    )  # fmt: skip
    assert len(found) == 2
    assert (found[1].model, found[1].input, found[1].answer) == ("old", "Hi", "Ho")
    assert (found[1].tokens_in, found[1].finish_reason, found[1].error) == (3, "length", "rate limited")


def test_an_export_of_langfuse() -> None:
    one = {
        "id": "o1", "traceId": "t1", "type": "GENERATION", "startTime": "2025-03-01T12:00:05.123Z",
        "endTime": "2025-03-01T12:00:07.123Z", "model": "m", "input": [{"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"}], "output": {"role": "assistant", "content": "Ho"}, "promptName": "greet",
        "promptVersion": 3, "metadata": {"prompt_digest": "d9"}, "usageDetails": {"input": 5, "output": 2},
        "costDetails": {"total": 0.002}, "level": "DEFAULT",
    }  # fmt: skip
    trace = {"id": "t1", "sessionId": "s1", "observations": [one, {**one, "type": "SPAN"}]}
    (found,) = langfuse(trace)
    assert found == Call(
        "o1",
        at(5.123),
        "s1",
        "greet",
        "d9",
        "3",
        "m",
        "system: Be brief.\nuser: Hi",
        "Ho",
        "",
        5,
        2,
        0.002,
        2.0,
    )
    assert [each.conversation for each in langfuse([one, one])] == ["t1", "t1"]


def test_a_log_of_requests_with_names_of_its_own() -> None:
    line = {
        "id": "x", "ts": 1740830405, "response": {"choices": [{"message": {"content": "Ho"}, "finish_reason": "stop"}]},
        "request": {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]},
    }  # fmt: skip
    names = {"request_id": "id", "at": "ts", "input": "request.messages", "answer": "response.choices.0.message.content",
             "finish_reason": "response.choices.0.finish_reason"}  # fmt: skip
    (found,) = log(line, names)
    assert (found.request_id, found.at, found.input, found.answer) == ("x", at(5), "Hi", "Ho")
    assert found.finish_reason == "stop"
    assert list(log({"id": "no time"}, names)) == []


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                [
                    "resourceSpans",
                    "scopeSpans",
                    "spans",
                    "attributes",
                    "key",
                    "value",
                    "stringValue",
                    "intValue",
                    "events",
                    "arrayValue",
                    "values",
                    "observations",
                    "type",
                    "startTime",
                    "input",
                    "metadata",
                    "id",
                    "at",
                    "status",
                    "request_id",
                    "startTimeUnixNano",
                    "content",
                    "parts",
                    "message",
                    "usage",
                ]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(JSON)
def test_whatever_others_wrote_is_read_or_left(value: object) -> None:
    for read in (otlp, langfuse, lambda line: log(line, {})):
        for found in read(value):
            assert isinstance(found.input, str)
            assert isinstance(found.at, int)
    for found in (*otlp({"resourceSpans": [{"scopeSpans": [{"spans": [{"attributes": [{"key": "gen_ai.request.model"}],
                  "events": value, "startTimeUnixNano": value, "status": value}]}]}]}),
                  *langfuse({"type": "GENERATION", "input": value, "startTime": value, "usage": value})):  # fmt: skip
        assert isinstance(found.error, str)
    assert isinstance(messages(value), str)


@pytest.mark.parametrize("value", ["--5", "-", "9" * 5000, "1e3", 1.5])
def test_what_is_no_number_is_left(value: object) -> None:
    assert attributes([{"key": "n", "value": {"intValue": value}}]) == {"n": None}
    assert attributes([{"key": "n", "value": {"intValue": "-7"}}]) == {"n": -7}


# --- the draw ---------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 8)), max_size=60), st.integers(1, 12), st.randoms()
)
def test_the_same_is_drawn_in_whatever_order(
    pairs: list[tuple[int, int]], most: int, shuffle: random.Random
) -> None:
    calls = [call(number, f"c{conversation}") for number, conversation in dict(pairs).items()]
    wanted = Draw(0.7, most)
    kept, counts = draw(calls, NOON, HOUR, wanted)
    shuffle.shuffle(calls)
    again, same = draw(calls, NOON, HOUR, wanted)
    assert again == kept
    assert same.kept == counts.kept == len(kept) <= most
    whole = {one.conversation for one in kept}
    assert len(kept) == sum(one.conversation in whole for one in calls), "a conversation is torn"
    assert counts.read == counts.kept + counts.over + counts.not_drawn


def test_the_share_is_kept_and_told() -> None:
    calls = [call(number % 3000, f"c{number}", digest=str(number)) for number in range(4000)]
    kept, counts = draw(calls, NOON, HOUR, Draw(0.25))
    assert 880 < len(kept) < 1120
    assert counts.share == 0.25
    fewer, told = draw(calls, NOON, HOUR, Draw(0.25, 300))
    assert len(fewer) == 300
    assert told.share == pytest.approx(300 / 4000, rel=0.2)
    assert {one.request_id for one in fewer} <= {one.request_id for one in kept}


def test_what_is_left_out_is_counted() -> None:
    calls = [
        call(1),
        call(1),
        call(2, digest=""),
        call(9999),
        replace(call(3), request_id=""),
        call(4, answer="x" * 50),
    ]
    kept, counts = draw(calls, NOON, HOUR, Draw(text=10))
    assert [one.request_id for one in kept] == ["r1", "r2", "r4"]
    assert kept[2].answer == "x" * 10
    assert (counts.read, counts.kept, counts.repeated, counts.outside, counts.unnamed) == (6, 3, 1, 1, 1)
    assert (counts.cut, counts.untagged) == (1, 1)


@pytest.mark.parametrize("wrong", [{"share": 0}, {"share": 1.5}, {"most": 0}, {"text": 10**7}])
def test_a_draw_that_makes_no_sense(wrong: dict) -> None:
    with pytest.raises(InvalidInput) as error:
        Draw(**wrong)
    assert error.value.field == next(iter(wrong))


# --- the store and the operator -----------------------------------------------------------------------------------------


def run(source: str, context: dict, **more: object) -> dict:
    return SampleTracesOperator(
        task_id="t", app="desk", source=source, format="jsonl", **WINDOW, **more
    ).execute(context)


def test_a_window_is_kept_once_and_nothing_of_a_person_with_it(store, logged, context) -> None:
    said = "I am ann@example.com, card 4111 1111 1111 1111, key ghp_" + "a1" * 18
    calls = [call(number, f"c{number // 2}", input=said, answer=said) for number in range(6)]
    calls += [call(7, "ann@example.com", model="m", error="bad key sk-" + "a1" * 20)]
    found = run(logged(calls), context)
    frame = pq.read_table(found["uri"].removeprefix("file://"))
    assert tuple(frame.column_names) == COLUMNS
    assert set(frame["input"].to_pylist()) == {"I am <EMAIL_1>, card <CARD_1>, key <SECRET_1>", ""}
    assert found["counts"]["masked"] == {"CARD": 12, "EMAIL": 12, "SECRET": 13}
    everything = b"".join(path.read_bytes() for path in store.rglob("*") if path.is_file())
    frames = repr(frame.to_pylist())
    for secret in ("ann@", "4111", "a1a1a1"):
        assert secret.encode() not in everything
        assert secret not in frames + json.dumps(found)
    again = run(logged(list(reversed(calls))), context)
    assert again["sha256"] == found["sha256"]
    assert len(list(store.rglob("*.json"))) == len(list(store.rglob("*.parquet"))) == 1


def test_a_later_look_at_a_window_takes_its_place(store, logged, context) -> None:
    run(logged([call(1)]), context)
    run(logged([call(1), call(2)]), context)  # a trace came late
    windows = stored.windows(store, "desk", NOON)
    assert len(windows) == 1
    assert list(stored.calls(windows, NOON)["request_id"]) == ["r1", "r2"]
    assert stored.windows(store, "desk", HOUR) == []
    assert list(stored.calls(windows, NOON + timedelta(seconds=2))["request_id"]) == ["r2"]
    assert stored.windows(store, "another", NOON) == []


def test_files_of_all_kinds(store, tmp_path, context) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    one, two, three, four = ({**call(n).to_json(), "at": f"2025-03-01T12:00:0{n}.1Z"} for n in range(1, 5))
    (folder / "a.jsonl").write_text(json.dumps(one) + "\nno json\n\n" + "[" * 100_000 + "\n")
    (folder / "b.json.gz").write_bytes(gzip.compress(json.dumps([two, three], indent=1).encode()))
    (folder / "c.json").write_text(json.dumps(four, indent=2))
    (folder / "d.jsonl").write_bytes(
        b'{"request_id": "'
        + b"x" * (stored.LINE + 5)
        + b'"}\n'
        + json.dumps({**one, "request_id": "last"}).encode()
    )
    (folder / "notes.txt").write_text("no log")
    found = run(str(folder), context)
    assert found["counts"]["kept"] == 5
    assert found["counts"]["unreadable"] == 3


def test_half_a_character_is_kept_as_a_question_mark(store, logged, context) -> None:
    half = "\ud800"
    found = run(logged([call(1, f"c{half}", input=f"a {half}", answer=half, model=half)]), context)
    (kept,) = pq.read_table(found["uri"].removeprefix("file://")).to_pylist()
    assert [kept[name] for name in ("conversation", "input", "answer", "model")] == ["c?", "a ?", "?", "?"]


@pytest.mark.parametrize(
    "content",
    [b"no gzip", gzip.compress(b"{}\n" * 999)[:-9], b"\x1f\x8b\x08\0\0\0\0\0\0\0\xff\xff"],
    ids=["another", "cut", "altered"],
)
def test_what_cannot_be_unpacked_is_tried_again(content, store, tmp_path, context) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(content)
    with pytest.raises(BadResponse, match=r"a.jsonl.gz cannot be unpacked: .* still being written"):
        run(str(tmp_path / "a.jsonl.gz"), context)
    assert not list(store.rglob("*.*"))


def test_a_file_that_was_altered_is_refused(store, logged, context) -> None:
    found = run(logged([call(1)]), context)
    Path(found["uri"].removeprefix("file://")).write_bytes(b"other")
    with pytest.raises(InvalidInput, match="altered"):
        stored.calls(stored.windows(store, "desk", NOON), NOON)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"app": "../desk"}, "name of an application"),
        ({"source": "/no/such/folder"}, "there is no file"),
        ({"end": NOON.isoformat()}, "before it begins"),
        ({"start": "yesterday"}, "is no time"),
        ({"most": 1}, "one conversation has more"),
    ],
)
def test_bad_input_is_named_and_nothing_is_kept(more, said, store, logged, context) -> None:
    given = {"app": "desk", "source": logged([call(1, "c"), call(2, "c")]), **WINDOW, **more}
    with pytest.raises(AirflowFailException, match=said):
        SampleTracesOperator(task_id="t", format="jsonl", **given).execute(context)
    assert not list(store.rglob("*.*"))


def test_what_is_wrong_in_the_dag_is_said_when_it_is_read() -> None:
    with pytest.raises(InvalidInput, match="format"):
        SampleTracesOperator(task_id="t", app="a", source="x", format="csv")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="field of a call"):
        SampleTracesOperator(task_id="t", app="a", source="x", format="jsonl", fields={"question": "q"})


def test_killed_while_it_keeps_and_run_again(store, logged, tmp_path, context) -> None:
    """The manifest comes last: a process that is killed before it leaves no window, and the next run makes it whole."""
    source = logged([call(number, f"c{number}", input="x" * 1000) for number in range(300)])
    program = f"""
import os, signal
from airflow_pipeops.llm.production import store
from airflow_pipeops.models import storage
from pathlib import Path
real = storage.put
def put(path, content):
    if str(path).endswith(".json"):
        os.kill(os.getpid(), signal.SIGKILL)
    real(path, content)
storage.put = put
from airflow_pipeops.llm.production import sampling, traces
from datetime import datetime
start, end = datetime.fromisoformat({WINDOW["start"]!r}), datetime.fromisoformat({WINDOW["end"]!r})
lines = store.lines([{source!r}], [])
calls, counts = sampling.draw((c for line in lines for c in traces.log(line, {{}})), start, end, sampling.Draw())
store.write(Path({str(store)!r}), "desk", "jsonl\\n" + {source!r}, start, end, calls, counts)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert stored.windows(store, "desk", NOON) == []
    assert len(list(store.rglob("calls.parquet"))) == 1
    found = run(source, context)
    assert found["counts"]["kept"] == 300
    assert len(list(store.rglob("calls.parquet"))) == 1, "the same bytes lie under the same digest"
