"""Announce the next model of a stream, and say from which offsets on it scores: each by one commit."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow_pipeops.base.arguments import flag, given, mapping, not_empty, positive, still_given
from airflow_pipeops.base.connections import read
from airflow_pipeops.delivery.operators import idempotency_key, no_retry, order_of
from airflow_pipeops.exceptions import GateFailed, InvalidInput
from airflow_pipeops.git.forges import commit_url
from airflow_pipeops.git.operators import PromotingOperator
from airflow_pipeops.serving.stream.liveness import Expectation, Group, Memory, decide
from airflow_pipeops.serving.stream.releases import Model, Release, Table, announced, begun, known

if TYPE_CHECKING:
    from airflow.sdk import Context

#: Seconds over which it is measured how fast records come.
MEASURED = 3.0


class _TableOperator(PromotingOperator):
    """What the two share: one release is written into the table."""

    def __init__(self, *, file: str, git_conn_id: str = "pipeops_gitops_repo", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.file, self.git_conn_id = file, git_conn_id

    def write(self, context: Context, plan: Callable[[Table], Release], message: str) -> dict[str, Any]:
        """Write a release, and record the change.

        :param context: of the running task.
        :param plan: returns the release as it is to stand in a table.
        :param message: of the commit, with ``{}`` for the release's name.
        :return: the facts.
        """
        from airflow_pipeops.serving.stream.desired import written

        self.demand_promotable()
        client = self.client()

        def commit(values: dict[str, str], expect: dict[str, str | None]) -> Any:
            (path,) = values
            return client.commit_edit(
                self.file, values, message.format(path.removeprefix("data.")),
                key=idempotency_key(context), order=order_of(context),
                expect=expect, trailers=self._trailers(context),
            )  # fmt: skip

        release, change = written(client, self.file, plan, commit)
        self.commit_url = commit_url(client.display_url, change.commit)
        set_ = {f"data.{release.revision}": release.to_text()}
        facts = {"commit": change.commit, "changed": change.changed, "file": self.file, "set": set_}
        body = {**facts, "previous": change.previous, **self._where(client)}
        return {
            **facts,
            "release": release.revision,
            "start": None
            if release.start is None
            else {str(p): offset for p, offset in release.start.items()},
            "record_id": self.emit(context, "change", body),
        }


class StreamAnnounceOperator(_TableOperator):
    """Announce a model as the next release of a stream: the members load and verify it, and score nothing with it yet.

    Where the last release of the table announces this very model already, nothing is committed. A rollback is a release of
    an earlier model.

    Returns ``{release, start, commit, changed, file, set, record_id}``.

    :param file: of the release table in the desired state. Templated.
    :param model: its name. Templated.
    :param version: of it, in the registry. Templated.
    :param artifact_uri: folder of its artifact. Templated.
    :param sha256: digest of the artifact. Templated.
    :param git_conn_id: connection of the repository.
    :param git_timeout: time without progress after which Git is ended, instead of the connection's ``timeout``.
    :param holds_conn_id: connection of the remediator's history: while that holds promotions of the deliverable to the
        environment, nothing is committed. Empty: nothing is asked, as a rollback wants it.
    """

    template_fields: Sequence[str] = (
        "git_conn_id", "file", "model", "version", "artifact_uri", "sha256", *PromotingOperator.template_fields,
    )  # fmt: skip

    def __init__(self, *, model: str, version: Any, artifact_uri: str, sha256: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model, self.version, self.artifact_uri, self.sha256 = model, version, artifact_uri, sha256

    def execute(self, context: Context) -> dict[str, Any]:
        """Commit the announcement and record the change."""
        with no_retry():
            remedy = "Does the task that it comes from give a value?"
            for field in ("model", "version", "artifact_uri"):
                not_empty(field, getattr(self, field), f"the release has no {field}", remedy)
            model = Model(self.model, str(self.version), self.artifact_uri, self.sha256)
            message = f"Announce {model.name} {model.version} as {{}}"
            return self.write(context, lambda table: announced(table, model), message)


class StreamBeginOperator(_TableOperator):
    """Say from which offset of each partition on an announced release scores.

    Every owner must have loaded and verified the model, or nothing is written. A release that has begun is left as it is,
    unless it shall be moved.

    Returns ``{release, start, commit, changed, file, set, record_id}``.

    :param file: of the release table in the desired state. Templated.
    :param release: its name in the table, such as ``r2``. Templated.
    :param group: the consumer group.
    :param topic: that it reads.
    :param start: partition -> first offset. By default, or with ``now``, each partition begins at its end, and as many
        records further as come within ``ahead`` at the present rate. Templated.
    :param partitions: only these begin, as a canary; by default all.
    :param ahead: for which the new table may be on its way to the members.
    :param rescore: begin below what is scored: those records are scored once more, with the new release in their headers.
        Templated.
    :param move: let a release that has begun begin elsewhere.
    :param kafka_conn_id: connection of type ``kafka``; its extra is the client's configuration.
    :param git_conn_id: connection of the repository.
    :param git_timeout: time without progress after which Git is ended, instead of the connection's ``timeout``.
    :param holds_conn_id: connection of the remediator's history: while that holds promotions of the deliverable to the
        environment, nothing is committed. Empty: nothing is asked, as a rollback wants it.
    """

    template_fields: Sequence[str] = (
        "git_conn_id", "kafka_conn_id", "file", "release", "start", "rescore", *PromotingOperator.template_fields,
    )  # fmt: skip

    def __init__(
        self,
        *,
        release: str,
        group: str,
        topic: str,
        start: Mapping[Any, int] | Literal["now"] | None = None,
        partitions: Sequence[int] | None = None,
        ahead: timedelta = timedelta(minutes=2),
        rescore: bool | str = False,
        move: bool = False,
        kafka_conn_id: str = "kafka_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.release, self.group, self.topic, self.start = release, group, topic, start
        self.partitions, self.rescore, self.move, self.kafka_conn_id = (
            partitions,
            rescore,
            move,
            kafka_conn_id,
        )
        self.ahead = positive("ahead", ahead, zero=True)
        self._demanded = given(start=start)

    def execute(self, context: Context) -> dict[str, Any]:
        """Commit the start and record the change."""
        from airflow_pipeops.serving.stream.look import GroupReader, client_config

        with no_retry():
            still_given(self, self._demanded)
            explicit, rescore = self.start not in (None, "now"), flag("rescore", self.rescore, default=False)
            config = client_config(read(self.kafka_conn_id, "kafka").extra_dejson, self.kafka_conn_id)
            with GroupReader(config, self.group, self.topic) as reader:
                before, began = {} if explicit else reader.ends(), time.monotonic()
                if not explicit:
                    time.sleep(MEASURED)  # over which the rate of records is measured
                seen, passed = reader.look(), time.monotonic() - began

            def plan(table: Table) -> Release:
                release = known(table, self.release)
                if release.start is not None and not self.move:
                    return release
                self._ready(table, release, seen)
                committed = {
                    one.partition: one.committed for one in seen.partitions if one.committed is not None
                }
                start = self._given(seen) if explicit else self._ahead(seen, before, passed)
                last = {one.partition: one.progress.last for one in seen.partitions if one.progress}
                return begun(table, self.release, start, committed, rescore=rescore, last=last)

            return self.write(context, plan, f"Begin {{}} of {self.group}")

    def _ready(self, table: Table, release: Release, seen: Group) -> None:
        expected = Expectation(release.revision, release.model.sha256, stage="ready", begun=table.begun_in())
        verdict, _ = decide(seen, expected, Memory(), time.time())
        if verdict.state != "done":
            raise GateFailed(
                f"{release.revision} cannot begin: {verdict.reason}",
                remedy='Wait for it with StreamLiveSensor(stage="ready") first.',
            )

    def _given(self, seen: Group) -> dict[int, int]:
        said = mapping("start", self.start, "Give {partition: offset}.")
        try:
            start = {int(partition): int(offset) for partition, offset in said.items()}
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidInput(
                f"start is {dict(said)!r}",
                field="start",
                value=dict(said),
                remedy="Give {partition: offset}.",
            ) from error
        self._refuse_others("start", start, seen)
        for one in seen.partitions:
            if one.low > start.get(one.partition, one.low):
                raise InvalidInput(
                    f"the broker has deleted what came before offset {one.low} of partition {one.partition}, and "
                    f"{self.release} is to begin at {start[one.partition]}",
                    field="start",
                    value=start[one.partition],
                    remedy=f"Begin at {one.low} or later.",
                )
        return start

    def _ahead(self, seen: Group, before: Mapping[int, int], passed: float) -> dict[int, int]:
        there = {one.partition: one for one in seen.partitions}
        chosen = there if self.partitions is None else self.partitions
        self._refuse_others("partitions", chosen, seen)
        start = {}
        for number in sorted(set(chosen)):
            end = max(there[number].stable, there[number].committed or 0)
            rate = max(0, there[number].stable - before.get(number, end)) / max(passed, 0.001)
            start[number] = end + math.ceil(rate * self.ahead.total_seconds())
        return start

    def _refuse_others(self, field: str, partitions: Iterable[int], seen: Group) -> None:
        """Refuse a partition that the topic does not have: no member could begin there."""
        if unknown := sorted(set(partitions) - {one.partition for one in seen.partitions}):
            raise InvalidInput(
                f"topic {self.topic!r} has no partition {unknown[0]}", field=field, value=unknown[0]
            )
