"""Members of a group against a real broker: what is scored by whom, and what becomes of what goes wrong.

All tests with a broker lie in this file, so that one process of the suite starts one.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.delivery.records import Record
from airflow_pipeops.exceptions import AccessDenied, Unreachable
from airflow_pipeops.models import artifact, samples
from airflow_pipeops.models.operators import (
    FinishModelRollbackOperator,
    JoinLabelsOperator,
    ModelRollbackOperator,
)
from airflow_pipeops.models.registry import Registry
from airflow_pipeops.models.rollback.saga import RollbackOrder
from airflow_pipeops.serving.stream.desired import ModelInTable, table_in
from airflow_pipeops.serving.stream.kept import KeepScoresOperator
from airflow_pipeops.serving.stream.look import GroupReader
from airflow_pipeops.serving.stream.operators import StreamAnnounceOperator, StreamBeginOperator
from airflow_pipeops.serving.stream.releases import Model, Release
from airflow_pipeops.serving.stream.scoring import score
from airflow_pipeops.serving.stream.sensors import StreamLiveSensor
from airflow_pipeops.serving.stream.triggers import StreamLiveTrigger
from tests.git.conftest import git, remote
from tests.kafka import broker
from tests.models.rollback.conftest import Sides, sides, versions
from tests.models.rollback.test_killed import a_hundred_times, attempting, killed, steps
from tests.serving.stream.conftest import Stream
from tests.warm import Warm

__all__ = ["remote", "sides", "versions"]

pytestmark = pytest.mark.timeout(300)


def headers(message) -> dict[str, str]:
    return {name: value.decode() for name, value in message.headers()}


def check_outputs(
    stream: Stream, count: int, releases: dict[str, dict[int, int]], most_copies: int = 1
) -> None:
    """Every record is scored, by the release that the table names for its offset, as that model scores it."""
    outputs = stream.kafka.records(stream.output)
    seen: dict[str, int] = {}
    order = list(releases)
    for message in outputs:
        said = headers(message)
        topic, partition, offset = said["src"].split("/")
        assert topic == stream.topic
        begun = [name for name in order if releases[name].get(int(partition), 1 << 60) <= int(offset)]
        assert said["rev"] == begun[-1], said
        seen[message.key().decode()] = seen.get(message.key().decode(), 0) + 1
    assert set(seen) == {f"{p}-{n}" for p in range(stream.partitions) for n in range(count)}
    assert max(seen.values()) <= most_copies


def test_records_are_scored_once_as_the_model_scores_them(stream, models):
    stream.release(Release("r1", models[0], {0: 0, 1: 0}))
    stream.produce(count=300)
    nothing_loaded = Warm(os.environ, ())
    member = stream.member(python=nothing_loaded)
    found = stream.passed(300)
    check_outputs(stream, 300, {"r1": {0: 0, 1: 0}})
    message = stream.kafka.records(stream.output)[17]
    said, loaded = headers(message), artifact.load(models[0].uri, models[0].sha256)
    number = int(message.key().decode().partition("-")[2])
    value = json.dumps({"x": (number % 97) / 50 - 1, "kind": 1}).encode()
    assert json.loads(message.value()) == pytest.approx(score(loaded, [value])[0].outputs)
    assert (said["model"], said["model-sha"]) == ("demo/1", models[0].sha256)
    for _, progress in found.values():
        assert (progress.last, progress.at, progress.scored, progress.member) == ("r1", 299, 300, "m0")
        assert (progress.revision, progress.sha256) == ("r1", models[0].sha256)
    assert member.get("/health/live").status_code == 200
    assert member.get("/health/ready").status_code == 200
    assert "pipeops_stream_scored_total 600" in member.get("/metrics").text
    assert member.terminate() == 0
    nothing_loaded.stop()


def test_a_member_that_is_killed_loses_and_doubles_nothing_and_a_switch_is_where_the_table_says(
    stream, models
):
    releases = {"r1": {0: 0, 1: 0}, "r2": {0: 250, 1: 180}, "r3": {0: 400, 1: 400}}
    stream.release(Release("r1", models[0], releases["r1"]), Release("r2", models[1], releases["r2"]))
    stream.produce(count=300)
    first = stream.member(STREAM_BATCH="7", STREAM_LINGER="0.01")
    stream.passed(60)
    first.kill()
    second = stream.member("m0", STREAM_BATCH="7", STREAM_LINGER="0.01")
    stream.passed(200)
    stream.release(Release("r3", models[2]))
    stream.until(lambda found: all("r3" in one[1].ready for one in found.values()))
    stream.release(Release("r3", models[2], releases["r3"]))
    wait_for(lambda: second.get("/health").json()["starts"]["r3"] == {"0": 400, "1": 400})
    other = stream.member()
    stream.produce(count=300, first=300)
    second.kill()
    found = stream.passed(600)
    check_outputs(stream, 600, releases)
    for _, said in found.values():
        assert (said.last, said.at, said.scored) == ("r3", 599, 600)
    assert other.terminate() == 0


def test_a_replay_is_told_from_what_was_scored_first_also_when_a_member_dies_in_it(stream, models):
    stream.release(Release("r1", models[0], {0: 0, 1: 0}))
    stream.produce(count=50)
    member = stream.member(STREAM_BATCH="3")
    stream.passed(50)
    stream.release(Release("r2", models[1], {0: 20, 1: 50}, rescore=True))
    stream.until(lambda found: found[0][1].last == "r2")
    member.kill()
    member = stream.member("m0")
    stream.passed(50)
    stream.produce(count=10, first=50)
    stream.passed(60)
    outputs = [headers(one) for one in stream.kafka.records(stream.output)]
    # By a header of its own, without any memory of what came before ...
    again = [one["src"] for one in outputs if "replay" in one]
    assert sorted(again) == sorted(f"{stream.topic}/0/{offset}" for offset in range(20, 50))
    assert {one["rev"] for one in outputs if "replay" in one} == {"r2"}
    # ... and by the key: each source and release is there once, and the later release is the later score.
    assert len({(one["src"], one["rev"]) for one in outputs}) == len(outputs) == 120 + 30
    latest: dict[str, int] = {}
    for one in outputs:
        latest[one["src"]] = max(latest.get(one["src"], 0), int(one["rev"][1:]))
    assert latest == {
        f"{stream.topic}/{p}/{offset}": 2 if offset >= (20, 50)[p] else 1
        for p in (0, 1)
        for offset in range(60)
    }
    assert member.terminate() == 0


def test_what_a_member_does_not_understand_pauses_the_partition_and_says_so(stream, models):
    stream.release(Release("r1", models[0], {0: 0}))
    stream.produce(count=40)
    member = stream.member()
    # A release that begins where records are scored already: the partition stays where it is.
    wait_for(lambda: member.get("/health").json()["partitions"].get("0", {}).get("next") == 40)
    assert member.get("/health").json()["paused"]["1"].startswith("no_release")
    stream.release(Release("r2", models[1], {0: 30, 1: 0}))
    wait_for(lambda: "0" in member.get("/health").json()["paused"])
    told = member.get("/health").json()["paused"]["0"]
    assert told == "start_passed: r2 begins at offset 30 of partition 0, and r1 has scored up to 39"
    assert stream.committed()[0][1].paused == "start_passed"
    # It is mended in the table.
    stream.release(Release("r2", models[1], {0: 40, 1: 0}))
    stream.produce(count=10, first=40)
    stream.passed(50)
    check_outputs(stream, 50, {"r1": {0: 0}, "r2": {0: 40, 1: 0}})
    assert member.terminate() == 0


def test_poison_goes_to_the_dead_letter_topic_until_there_is_too_much_of_it(stream, models):
    stream.release(Release("r1", models[0], {0: 0, 1: 0}))
    bad = [
        b"{",
        b'{"x": "a", "kind": 1}',
        b'{"kind": 1}',
        b'{"x": 1e999, "kind": 1}',
        b'{"x": null, "kind": 1}',
    ]
    good = [b'{"x": 1, "kind": 1}'] * 95
    stream.produce({0: bad + good, 1: good})
    member = stream.member(STREAM_BATCH="50")
    found = stream.until(lambda found: found[0][0] == 100 and found[1][0] == 95)
    dead = {
        headers(one)["src"].rpartition("/")[2]: headers(one)["reason"]
        for one in stream.kafka.records(stream.dead)
    }
    assert {number: words.split(":")[0] for number, words in dead.items()} == {
        "0": "the record is no JSON",
        "1": "x is 'a', which is no FP64",
        "2": "the record lacks x",
        "3": "x is 'inf', which is no FP64",
        "4": "the model does not take these values (there is null in x)",
    }
    assert (found[0][1].dead, found[0][1].scored, found[1][1].dead) == (5, 95, 0)
    assert len(stream.kafka.records(stream.output)) == 190
    stream.produce({0: bad * 10})
    found = stream.until(lambda found: found[0][1].paused == "poison")
    assert found[0][0] < 150
    assert "cannot be scored, more than 20%" in found[0][1].reason
    assert member.get("/health").status_code == 503
    assert member.get("/health/live").status_code == 200
    assert member.terminate() == 0


def test_a_model_that_is_not_what_the_table_says_scores_nothing(stream, models):
    other = replace(models[0], sha256="0" * 64)
    stream.release(Release("r1", other, {0: 0, 1: 0}))
    stream.produce(count=5)
    member = stream.member()
    found = stream.until(lambda found: all(one[1].paused == "model_refused" for one in found.values()))
    assert "the digest of the model" in found[0][1].reason
    assert found[0][0] == 0
    assert member.get("/health/ready").status_code == 503
    assert member.terminate() == 0
    assert stream.kafka.records(stream.output) == []


def test_a_group_whose_offsets_are_gone_neither_skips_nor_repeats(stream, models):
    stream.release(Release("r1", models[0], {0: 0, 1: 0}))
    stream.produce(count=20)
    assert stream.member().get("/health/live").status_code == 200
    stream.passed(20)
    assert stream.members[0].terminate() == 0
    stream.kafka.admin().delete_consumer_groups([stream.group])[stream.group].result(60)
    member = stream.member("m1")
    wait_for(lambda: len(member.get("/health").json()["paused"]) == 2)
    assert member.get("/health").json()["paused"]["0"].startswith("offsets_lost")
    assert len(stream.kafka.records(stream.output)) == 40
    assert member.terminate() == 0


def test_scores_are_kept_as_samples_once_and_labels_join_to_them(
    stream, models, context, monkeypatch, tmp_path
):
    for name, said in {
        "kafka_default": {"conn_type": "kafka", "extra": stream.kafka.config},
        "pipeops_artifacts": {"conn_type": "pipeops_storage", "host": f"file://{tmp_path}/store"},
    }.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(said))
    place = (tmp_path / "samples").as_uri()

    def keep(**named):
        given = {"topic": stream.output, "samples": place, "group": "kept", "file_rows": 30}
        return KeepScoresOperator(task_id="keep", **{**given, **named}).execute(context)

    stream.release(Release("r1", models[0], {0: 0, 1: 0}), Release("r2", models[1], {0: 30, 1: 30}))
    stream.produce(count=40)
    member = stream.member()
    stream.passed(40)
    stream.kafka.produce(stream.output, [(0, b"k", b"{}"), (1, None, b"no score")])
    assert keep() == {"rows": 80, "foreign": 2, "lost": 0}
    assert keep() == {"rows": 0, "foreign": 0, "lost": 0}, "what was read is not read again"
    stream.produce(count=5, first=40)
    stream.passed(45)
    assert member.terminate() == 0
    assert keep()["rows"] == 10
    # A task that died before it said how far it had read: the same rows lie there twice, and count once.
    assert keep(group="again")["rows"] == 90
    parts = list(samples.parts(place, "demo"))
    assert {(one.version, one.sha256) for one in parts} == {(one.version, one.sha256) for one in models[:2]}
    assert max(one.rows for one in parts) < 90, "files are as large as they may be, and not all in one"

    ids = [f"{p}-{n}" for p in (0, 1) for n in range(45)]
    came = {"request_id": ids, "at": "2098-01-01T00:00:00Z", "label": [n % 2 for n in range(90)]}
    pd.DataFrame(came).to_parquet(tmp_path / "labels.parquet")
    joined = JoinLabelsOperator(
        task_id="join", predictions={"samples": place, "model": "demo"}, labels=str(tmp_path / "labels.parquet"),
        key="request_id", score="probability",
    ).execute(context)  # fmt: skip
    counts = joined["counts"]
    assert (counts["predictions"], counts["labelled"], counts["repeated_predictions"]) == (90, 90, 90)
    rows = pd.read_parquet(joined["uri"].removeprefix("file://")).set_index("request_id")
    assert (rows["sha256"]["0-29"], rows["sha256"]["0-30"]) == (models[0].sha256, models[1].sha256)
    (said,) = [one for one in stream.kafka.records(stream.output) if one.key() == b"1-33"]
    assert rows["score"]["1-33"] == json.loads(said.value())["probability"]

    with pytest.raises(AirflowFailException, match="Kafka has no topic 'absent'"):
        keep(topic="absent")
    assert keep(group="by source", by="source")["rows"] == 90
    assert f"{stream.topic}/0/7" in {
        name for part in samples.parts(place, "demo") for name in samples.read(part)["request_id"].to_pylist()
    }


def test_at_least_once_marks_each_output_so_that_a_copy_is_told(stream, models):
    stream.release(Release("r1", models[0], {0: 0, 1: 0}))
    stream.produce(count=400)
    first = stream.member(STREAM_DELIVERY="at-least-once", STREAM_BATCH="5")
    stream.passed(50)
    first.kill()
    stream.member("m0", STREAM_DELIVERY="at-least-once")
    stream.passed(400)
    check_outputs(stream, 400, {"r1": {0: 0, 1: 0}}, most_copies=2)


def test_a_member_that_is_faster_than_the_broker_waits_for_room(stream, models):
    """Its producer keeps twenty records at most, of batches of five hundred: what does not fit is not lost, and no error."""
    narrow = stream.folder / "narrow.json"
    narrow.write_text(json.dumps({**stream.kafka.config, "queue.buffering.max.messages": 20}))
    stream.release(Release("r1", models[0], {0: 0, 1: 0}))
    stream.produce(count=300)
    member = stream.member(KAFKA_CONFIG=str(narrow))
    stream.passed(300)
    check_outputs(stream, 300, {"r1": {0: 0, 1: 0}})
    assert member.terminate() == 0


def test_a_member_whose_name_another_takes_ends_and_may_begin_anew(stream, models):
    stream.release(Release("r1", models[0], {0: 0, 1: 0}))
    stream.produce(count=20)
    first = stream.member("same")
    stream.passed(20)
    second = stream.member("same")
    wait_for(lambda: second.process.poll() is None and "Assigned" in second.log())
    produced = 20
    for number in range(20, 200, 20):
        stream.produce(count=20, first=number)
        produced = number + 20
        if first.process.poll() is not None:
            break
        wait_for(
            lambda done=number + 20: stream.committed()[0][0] >= done or first.process.poll() is not None
        )
    wait_for(lambda: first.process.poll() is not None)
    assert first.process.poll() == 1
    assert "this producer is at its end" in first.log()
    stream.members.remove(first)
    stream.passed(produced)  # the group is itself again, and the second has all of it
    assert second.terminate() == 0


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({"STREAM_TOPIC": "absent"}, "Kafka has no topic 'absent'"),
        ({"STREAM_TOPIC": ""}, "STREAM_TOPIC is not set"),
        ({"STREAM_RELEASES": "/absent"}, "the release table cannot be read from /absent"),
        ({"KAFKA_CONFIG": "/absent"}, "KAFKA_CONFIG '/absent' cannot be read"),
        ({"STREAM_DELIVERY": "sometimes"}, "STREAM_DELIVERY is 'sometimes'"),
        ({"STREAM_BATCH": "many"}, "STREAM_BATCH is 'many'"),
    ],
)
def test_what_is_set_up_wrongly_ends_the_process_with_one_line(stream, models, environment, why):
    stream.release(Release("r1", models[0], {0: 0, 1: 0}))
    member = stream.member(**environment)
    assert member.process.wait(120).returncode == 2
    (line,) = [one for one in member.log().splitlines() if one.startswith("cannot go on")]
    assert why in line
    assert "Traceback" not in member.log()
    stream.members.clear()


def wait_for(good) -> None:
    """Wait for a fact."""
    ends = time.monotonic() + 120
    while not good():
        assert time.monotonic() < ends
        time.sleep(0.1)


# ---- announced, begun and proven by tasks ------------------------------------------------------------------------------

FILE = "apps/stream/releases.yaml"
TABLE = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: demo-releases\ndata: {}\n"
DEMO = Deliverable("demo")


@pytest.fixture
def desired(remote, stream, monkeypatch, tmp_path):
    """The desired state with an empty table, and the connections; what is committed reaches the members by ``deliver``."""
    remote.put(FILE, TABLE)
    remote.commit("table")
    said = {"pipeops_gitops_repo": {"conn_type": "git_repository", "host": str(remote.path)},
            "kafka_default": {"conn_type": "kafka", "extra": stream.kafka.config}}  # fmt: skip
    for name, connection in said.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    def deliver() -> None:
        content = git("show", f"main:{FILE}", cwd=remote.path)
        stream.table = {}
        releases = table_in(content.encode(), FILE).releases
        stream.release(*releases)
        last = releases[-1]
        start = last.start and {str(number): offset for number, offset in last.start.items()}
        for member in stream.members:  # what comes before they know would pass the start
            wait_for(lambda told=member: told.get("/health").json()["starts"].get(last.revision, 0) == start)

    deliver.remote = remote
    return deliver


def announce(model, context, **named):
    return StreamAnnounceOperator(
        task_id="announce", file=FILE, model=model.name, version=model.version, artifact_uri=model.uri,
        sha256=model.sha256, deliverable=DEMO, environment="production", **named,
    ).execute(context)  # fmt: skip


def begin(stream, release, context, **named):
    return StreamBeginOperator(
        task_id="begin", file=FILE, release=release, group=stream.group, topic=stream.topic, **named
    ).execute(context)


def sensor(stream, release, **named):
    named = {"poll_interval": timedelta(seconds=0.3), "settle": timedelta(seconds=1), **named}
    return StreamLiveSensor(
        task_id="live", file=FILE, release=release, group=stream.group, topic=stream.topic, output_topic=stream.output,
        timeout=timedelta(minutes=2), deliverable=DEMO, environment="production", **named,
    )  # fmt: skip


def test_a_release_is_announced_begun_and_proven_live_and_taken_back(
    stream, models, desired, context, monkeypatch, tmp_path
):
    registry = Registry(f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv(
        "AIRFLOW_CONN_MLFLOW_DEFAULT", json.dumps({"conn_type": "mlflow", "host": registry.tracking_uri})
    )
    for one in models[:2]:
        registry.register(one.name, one.uri, one.sha256)
    registry.set_alias("demo", "champion", "2")
    made = announce(models[0], context)
    assert (made["release"], made["start"], made["changed"]) == ("r1", None, True)
    assert announce(models[0], context)["commit"] == made["commit"]
    desired()
    first = stream.member()
    wait_for(lambda: len(first.get("/health").json()["paused"]) == 2)
    begun = begin(stream, "r1", context, start={"0": 0, "1": 0})
    assert begun["start"] == {"0": 0, "1": 0}
    assert begin(stream, "r1", context, start={"0": 0, "1": 0})["commit"] == begun["commit"]
    desired()
    stream.produce(count=50)
    found = sensor(stream, "r1", deferrable=False).execute(context)
    assert (found["rule"], found["release"], found["sha256"]) == ("live", "r1", models[0].sha256)
    assert found["proven_by"] == "committed offsets"
    assert {one["committed"] for one in found["partitions"].values()} <= set(range(51))
    stream.passed(50)

    assert announce(models[1], context)["release"] == "r2"
    with pytest.raises(
        AirflowFailException, match="r2 cannot begin: m0 does not know r2 yet: its table ends with r1"
    ):
        begin(stream, "r2", context)
    desired()
    ready = sensor(stream, "r2", stage="ready", deferrable=False).execute(context)
    assert (ready["rule"], ready["record_id"]) == ("ready", None)
    begun = begin(stream, "r2", context)
    assert begun["start"] == {"0": 50, "1": 50}
    desired()
    stream.produce(count=30, first=50)
    task = sensor(stream, "r2", deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context)
    path, arguments = deferred.value.trigger.serialize()
    assert stream.kafka.address not in json.dumps(arguments)
    trigger = StreamLiveTrigger(**{**json.loads(json.dumps(arguments)), "dwell": 0})
    assert path.endswith("triggers.StreamLiveTrigger")

    async def one_event():
        return [event async for event in trigger.run()]

    (event,) = asyncio.run(one_event())
    found = task.execute_complete(context, event.payload)
    assert (found["rule"], found["release"], found["model"], found["version"]) == ("live", "r2", "demo", "2")
    record = Record.from_extra(context["outlet_events"][DEMO.released("production")].extra)
    assert record.body["partitions"]["0"]["last"] in ("", "r1", "r2")
    stream.passed(80)

    # Back on both sides: the table in Git by one more release, and, once it is proven, the alias.
    back = {
        "desired": ModelInTable(FILE),
        "deliverable": DEMO,
        "environment": "production",
    }
    order = RollbackOrder("demo", "2", models[1].sha256, "1", models[0].sha256, "worse on 20 days").to_json()
    rolled = ModelRollbackOperator(task_id="back", order=order, on_unknown="accept", **back).execute(context)
    assert (rolled["release"], rolled["version"]) == ("r3", "1")
    assert registry.version("demo", "2").blocked == "worse on 20 days"
    desired()
    sensor(stream, "r3", stage="ready", deferrable=False).execute(context)
    begin(stream, "r3", context)
    desired()
    stream.produce(count=10, first=80)
    proof = sensor(stream, "r3", deferrable=False, on_idle="wait").execute(context)

    def finish(seen):
        return FinishModelRollbackOperator(task_id="finish", rollback=rolled, proof=seen, **back).execute(
            context
        )

    with pytest.raises(AirflowFailException, match="nothing proves that"):
        finish(found)
    assert registry.by_alias("demo", "champion").version == "2"
    assert (finish(proof)["version"], registry.by_alias("demo", "champion").version) == ("1", "1")
    # A release that is live no more is not taken for live.
    with pytest.raises(AirflowFailException, match=r"was scored by r3, beyond the start 50 \(wrong_model\)"):
        sensor(stream, "r2", deferrable=False).execute(context)
    check_outputs(stream, 90, {"r1": {0: 0, 1: 0}, "r2": {0: 50, 1: 50}, "r3": {0: 80, 1: 80}})
    with pytest.raises(AirflowFailException, match="partition 0 is scored up to 90, beyond the start 40"):
        begin(stream, "r3", context, start={"0": 40}, move=True)
    assert first.terminate() == 0


class Streaming(Sides):
    """Version 2 scores a stream; whatever Git wants reaches the members, and records come once they know it."""

    stream: Stream
    models: list[Model]
    ended: threading.Event
    offset = 0

    def live(self, key: str) -> None:
        """Let one more release of version 2 begin, and score."""
        self.remote.pull()
        releases = table_in((self.remote.work / FILE).read_bytes(), FILE).releases
        name = f"r{len(releases) + 1}"
        now = Release(name, self.models[1], dict.fromkeys(range(self.stream.partitions), self.offset))
        self.remote.put(FILE, written(*releases, now))
        self.remote.commit(f"Begin {name}")
        self.stream.until(lambda told: all(one[1].last == name for one in told.values()))
        self.more["start"] = {str(number): self.offset for number in range(self.stream.partitions)}

    def proven(self, key: str) -> None:
        """The newest release is of version 1, has begun once, and has scored all that came since."""
        *_, bad, old = table_in(self.remote.show(FILE).encode(), FILE).releases
        assert (bad.model.sha256, old.model.sha256) == (self.bad, self.old)
        assert old.start == {int(number): offset for number, offset in self.more["start"].items()}
        told = self.stream.passed(self.offset)
        assert {(one[1].last, one[1].scored) for one in told.values()} == {(old.revision, self.offset)}

    def deliver(self) -> None:
        """Do what the cluster and the producers do: give members the table, and send records to what has begun in it."""
        shown, known = "", ""
        while not self.ended.wait(0.2):
            if (said := self.remote.show(FILE)) != shown:
                shown = said
                self.stream.table = {}
                self.stream.release(*table_in(said.encode(), FILE).releases)
            last = table_in(shown.encode(), FILE).releases[-1]
            (member,) = self.stream.members
            if (
                last.start
                and last.revision != known
                and member.get("/health").json()["starts"].get(last.revision)
            ):
                known, first, self.offset = last.revision, self.offset, self.offset + 5
                self.stream.produce(count=5, first=first)


def written(*releases: Release) -> str:
    """Return the file of a table."""
    data = {one.revision: one.to_text() for one in releases}
    return json.dumps(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "releases"}, "data": data}, indent=1
    )


@pytest.fixture
def streaming(sides, stream, models, tmp_path):
    """Two versions of a model for a stream, of which the first has begun."""
    for one in models[:2]:
        sides.registry.register(one.name, one.uri, one.sha256)
    connections = {
        "pipeops_gitops_repo": {"conn_type": "git_repository", "host": str(sides.remote.path)},
        "kafka_default": {"conn_type": "kafka", "extra": stream.kafka.config},
    }
    environment = {f"AIRFLOW_CONN_{name.upper()}": json.dumps(one) for name, one in connections.items()}
    made = Streaming(
        sides.remote, sides.registry, sides.folder, models[0].name, models[0].sha256, models[1].sha256,
        ModelInTable(FILE), Path(__file__).with_name("by_offsets.py"),
        {"environment": environment, "group": stream.group, "topic": stream.topic},
    )  # fmt: skip
    made.stream, made.models, made.ended = stream, models, threading.Event()
    made.remote.put(FILE, written(Release("r1", models[0], dict.fromkeys(range(stream.partitions), 0))))
    made.remote.commit("The first release")
    stream.member()
    cluster = threading.Thread(target=made.deliver)
    cluster.start()
    yield made
    made.ended.set()
    cluster.join()


@pytest.fixture
def attempt(streaming):
    with streaming.attempts() as process:
        yield attempting(streaming, process)


@pytest.mark.timeout(600)
def test_a_rollback_by_offsets_that_is_killed_where_only_it_has_steps_ends_with_both_sides_equal(
    streaming, attempt
):
    """The two pushes are the announcement and the start."""
    there = steps(streaming, attempt)
    assert there.count("after _push") == 2
    begins = len(there) - there[::-1].index("after _push") - 1
    for kill in (begins - 1, begins, there.index("begin is done"), there.index("live is done")):
        killed(streaming, attempt, f"at-{kill}", kill + 1)


@pytest.mark.nightly
@pytest.mark.timeout(7200)
def test_a_rollback_by_offsets_that_is_killed_a_hundred_times(streaming, attempt):
    a_hundred_times(streaming, attempt)


def delete(stream: Stream, offset: int) -> None:
    """Let the broker delete what comes before an offset, as its retention does."""
    from confluent_kafka import TopicPartition

    places = [TopicPartition(stream.topic, number, offset) for number in range(stream.partitions)]
    for one in stream.kafka.admin().delete_records(places).values():
        assert one.result(60).low_watermark == offset


def test_what_the_broker_has_deleted_is_said_and_nothing_begins_elsewhere_in_silence(
    stream, models, desired, context
):
    stream.produce(count=100)
    announce(models[0], context)
    desired()
    member = stream.member()
    wait_for(lambda: len(member.get("/health").json()["paused"]) == 2)
    begin(stream, "r1", context, start={"0": 0, "1": 0})
    delete(stream, 80)  # between the commit and the first read
    desired()
    stream.until(lambda found: all(one[1].paused == "offsets_lost" for one in found.values()))
    assert "offset 0 of partition 0 is out of reach: the broker keeps 80 to 100" in member.log()
    with pytest.raises(AirflowFailException, match=r"has deleted what came before 80.*\(offsets_lost\)"):
        sensor(stream, "r1", deferrable=False).execute(context)
    with pytest.raises(AirflowFailException, match="deleted what came before offset 80 of partition 0"):
        begin(stream, "r1", context, start={"0": 79, "1": 80}, move=True)
    begin(stream, "r1", context, start={"0": 80, "1": 80}, move=True)
    desired()
    stream.passed(100)
    assert sensor(stream, "r1", deferrable=False).execute(context)["proven_by"] == "committed offsets"

    # While no member runs, records go that nobody has read.
    assert member.terminate() == 0
    stream.produce(count=40, first=100)
    delete(stream, 120)
    why = "the group is at offset 100 of partition 0, and the broker has deleted what came before 120"
    with pytest.raises(AirflowFailException, match=why):
        sensor(stream, "r1", deferrable=False).execute(context)
    stream.members.clear()
    again = stream.member("m1")
    stream.until(lambda found: all(one[1].paused == "offsets_lost" for one in found.values()))
    assert again.get("/health").status_code == 503
    assert len(stream.kafka.records(stream.output)) == 40, "nothing was read from another place"
    assert again.terminate() == 0


def test_an_idle_topic_is_no_score_and_a_burst_upon_it_no_false_green(stream, models, desired, context):
    stream.release(Release("r1", models[0], {0: 0, 1: 0}))
    stream.produce(count=20)
    first = stream.member()
    stream.passed(20)
    git_table = {"kind": "ConfigMap", "data": stream.table}
    desired.remote.put(FILE, json.dumps(git_table))
    desired.remote.commit("r1 runs")
    announce(models[1], context)
    desired()
    sensor(stream, "r2", stage="ready", deferrable=False).execute(context)
    assert begin(stream, "r2", context)["start"] == {"0": 20, "1": 20}
    # A burst before the members know: the release before scores it, and the start is passed.
    stream.produce(count=5, first=20)
    stream.passed(25)
    with pytest.raises(AirflowFailException, match=r"scored by r1, beyond the start 20 \(wrong_model\)"):
        sensor(stream, "r2", deferrable=False).execute(context)
    begin(stream, "r2", context, move=True)
    desired()
    found = sensor(stream, "r2", deferrable=False).execute(context)
    assert (found["proven_by"], found["partitions"]["0"]["last"]) == ("empty range", "r1")
    assert (
        "no record has come since the start to partition 0, 1: it scores what comes next" in found["reason"]
    )
    waits = sensor(stream, "r2", on_idle="wait", deferrable=False)
    waits.timeout = timedelta(seconds=2)
    with pytest.raises(
        AirflowFailException, match="since offset 25, where r2 begins: what it scores cannot be told until"
    ):
        waits.execute(context)
    stream.produce(count=5, first=25)
    found = sensor(stream, "r2", on_idle="wait", deferrable=False).execute(context)
    assert (found["proven_by"], found["partitions"]["1"]["last"]) == ("committed offsets", "r2")
    check_outputs(stream, 30, {"r1": {0: 0, 1: 0}, "r2": {0: 25, 1: 25}})
    assert first.terminate() == 0


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"release": "r7"}, "the release table has no release 'r7'. It has none"),
        ({"file": "apps/absent.yaml"}, "absent.yaml"),
        ({"kafka_conn_id": "absent"}, "a connection is missing: 'absent' of type Apache Kafka"),
        ({"kafka_conn_id": "nothing"}, "connection 'nothing' names no bootstrap.servers in its extra"),
    ],
)
def test_a_wait_for_what_is_not_there_says_what(stream, desired, context, monkeypatch, change, why):
    monkeypatch.setenv("AIRFLOW_CONN_NOTHING", json.dumps({"conn_type": "kafka", "extra": {}}))
    if "release" not in change:
        announce(Model("demo", "1", "file:///m", "a" * 64), context)
    given = {"release": "r1", "deferrable": False, **change}
    task = sensor(stream, given.pop("release"), **{key: one for key, one in given.items() if key != "file"})
    task.file = given.get("file", FILE)
    with pytest.raises(AirflowFailException, match=why):
        task.execute(context)


def test_who_may_not_read_is_told_which_right_is_missing(stream, models):
    with broker(sasl=True) as closed:
        topic = closed.topic()
        reader = {**closed.config, "sasl.username": "reader", "sasl.password": "reader-secret"}
        with (
            GroupReader(reader, "g", topic) as looking,
            pytest.raises(AccessDenied, match="Read and Describe"),
        ):
            looking.look()
        wrong = {**reader, "sasl.password": "wrong"}
        with GroupReader(wrong, "g", topic) as looking, pytest.raises((AccessDenied, Unreachable)):
            looking.look()
        other = replace_kafka(stream, reader, topic)
        stream.release(Release("r1", models[0], {0: 0, 1: 0}))
        member = stream.member(STREAM_TOPIC=other)
        assert member.process.wait(120).returncode == 2
        assert "Kafka refuses topic" in member.log()
        stream.members.clear()


def replace_kafka(stream, config, topic) -> str:
    """Let the members of a stream speak to another broker."""
    (stream.folder / "kafka.json").write_text(json.dumps(config))
    return topic


def test_an_open_transaction_that_keeps_readers_waiting_is_seen(stream):
    from confluent_kafka import Producer

    producer = Producer({**stream.kafka.config, "transactional.id": stream.group})
    producer.init_transactions(60)
    producer.begin_transaction()
    producer.produce(stream.output, b"x", partition=0)
    producer.flush(60)
    with GroupReader(stream.kafka.config, stream.group, stream.topic, stream.output) as reader:
        seen = reader.look()
        assert seen.outputs == {"0": (0, 1), "1": (0, 0)}
        assert (seen.state, seen.members) == ("DEAD", ())
        producer.abort_transaction(60)
        wait_for(lambda: reader.look().outputs["0"] == (2, 2))
