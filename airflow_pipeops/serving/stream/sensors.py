"""Wait until a release of a stream is live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_pipeops.base.arguments import given, not_empty, one_of, positive, still_given
from airflow_pipeops.base.connections import read
from airflow_pipeops.delivery.operators import no_retry
from airflow_pipeops.exceptions import AccessDenied, NotFound, PipeOpsError, Unreachable, WaitTimeout
from airflow_pipeops.serving.stream.liveness import Expectation, Memory
from airflow_pipeops.serving.stream.triggers import StreamLiveTrigger
from airflow_pipeops.waits.expectation import Verdict
from airflow_pipeops.waits.operators import VerdictWaitOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class StreamLiveSensor(VerdictWaitOperator):
    """Wait until a release scores a stream, and record the release.

    It is live when in every partition in which it begins the member that owns the partition has said, with its committed
    offset, that this very model scores what comes next; when that offset has passed the start; and when that held for
    ``settle``, in which each owner has spoken again. Nothing but the broker is asked, and the group is not joined. Where no
    record has come since the start, ``proven_by`` is ``empty range`` instead of ``committed offsets``: see ``on_idle``.

    Returns ``{app, release, revision, model, version, sha256, health, rule, reason, proven_by, partitions, seen_at,
    record_id}``.

    :param release: its name in the release table, such as ``r2``. Templated.
    :param file: of the release table in the desired state. Templated.
    :param group: the consumer group.
    :param topic: that it reads.
    :param output_topic: of its scores: an open transaction there would keep its readers waiting. Empty to leave that out.
    :param stage: ``ready`` waits until every owner has loaded and verified the model, and records nothing.
    :param revision: commit of the desired state; by default the tip of the branch. Templated.
    :param most_waiting: records that may wait in a partition.
    :param most_behind: how late the scores of a partition may be, by the timestamps of the records; ``None`` for any.
    :param settle: for which all must hold; each owner must speak again within that.
    :param on_idle: where no record has come since the start: ``accept`` that the owner scores what comes next, and nothing
        was scored by another; or ``wait`` until a record was scored in each partition, and say that this is what is missing.
    :param kafka_conn_id: connection of type ``kafka``; its extra is the client's configuration.
    :param git_conn_id: connection of the repository.
    """

    template_fields: Sequence[str] = (
        "release", "file", "revision", "kafka_conn_id", "git_conn_id", *VerdictWaitOperator.template_fields,
    )  # fmt: skip
    emits = ("release",)
    errors: ClassVar[Mapping[str, type[PipeOpsError]]] = {
        "access_denied": AccessDenied,
        "deadline": WaitTimeout,
        "not_found": NotFound,
        "unreachable": Unreachable,
    }
    ui_color = "#e9f3ee"

    def __init__(
        self,
        *,
        release: str,
        file: str,
        group: str,
        topic: str,
        output_topic: str = "",
        stage: Literal["ready", "live"] = "live",
        revision: str = "",
        most_waiting: int | None = None,
        most_behind: timedelta | None = timedelta(minutes=1),
        kafka_conn_id: str = "kafka_default",
        git_conn_id: str = "pipeops_gitops_repo",
        settle: timedelta = timedelta(seconds=10),
        on_idle: Literal["accept", "wait"] = "accept",
        **kwargs: Any,
    ) -> None:
        super().__init__(settle=settle, **kwargs)
        self.release, self.file, self.revision = release, file, revision
        self.group = not_empty("group", group, "there is no group to look at", "Name the consumer group.")
        self.topic = not_empty("topic", topic, "there is no topic to look at", "Name the topic that is read.")
        self.output_topic = output_topic
        self.stage: Literal["ready", "live"] = one_of("stage", stage, ("ready", "live"))
        self.on_idle: Literal["accept", "wait"] = one_of("on_idle", on_idle, ("accept", "wait"))
        self.most_waiting = most_waiting
        self.most_behind = None if most_behind is None else positive("most_behind", most_behind)
        self.kafka_conn_id, self.git_conn_id = kafka_conn_id, git_conn_id
        self._demanded = given(revision=revision)

    def execute(self, context: Context) -> dict[str, Any]:
        """Wait."""
        from airflow_pipeops.serving.stream.look import GroupReader, client_config, judged

        memory = Memory()

        def look() -> Verdict:
            nonlocal memory
            verdict, memory = judged(reader, expected, memory, self.log.info)
            return verdict

        def trigger() -> StreamLiveTrigger:
            return StreamLiveTrigger(
                kafka_conn_id=self.kafka_conn_id,
                group=self.group,
                topic=self.topic,
                output=self.output_topic,
                expected=expected.to_json(),
                memory=memory.to_json(),
                facts=facts,
                poll_interval=self.poll_interval.total_seconds(),
            )

        with no_retry():
            still_given(self, self._demanded)
            expected, facts = self._expected()
            config = client_config(read(self.kafka_conn_id, "kafka").extra_dejson, self.kafka_conn_id)
            with GroupReader(config, self.group, self.topic, self.output_topic) as reader:
                verdict = self.until_told(look, trigger)
            return self.finish(context, verdict, facts)

    def _expected(self) -> tuple[Expectation, dict[str, Any]]:
        """Read the table, and return what must come true, and what the record says of it."""
        from airflow_pipeops.git.hook import GitHook
        from airflow_pipeops.serving.stream.desired import table_in
        from airflow_pipeops.serving.stream.releases import known

        client = GitHook(self.git_conn_id).get_conn()
        commit = client.resolve(self.revision) if self.revision else client.fetch()
        table = table_in(client.read(self.file, commit), self.file)
        release = known(table, self.release)
        start = None if release.start is None else {str(p): offset for p, offset in release.start.items()}
        expected = Expectation(
            revision=release.revision,
            sha256=release.model.sha256,
            start=start,
            rescore=release.rescore,
            stage=self.stage,
            most_waiting=self.most_waiting,
            most_behind=None if self.most_behind is None else self.most_behind.total_seconds(),
            settle=self.settle.total_seconds(),
            timeout=self.timeout.total_seconds(),
            on_idle=self.on_idle,
            begun=table.begun_in(),
        )
        facts = {
            "app": f"{self.group}@{self.topic}",
            "release": release.revision,
            "revision": commit,
            "model": release.model.name,
            "version": release.model.version,
            "sha256": release.model.sha256,
        }
        return expected, facts

    def finish(self, context: Context, verdict: Verdict, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Say by what the release is proved, and record it once it is live."""
        self.demand_done(verdict, f"{facts['release']} of {facts['app']}")
        result = {
            **facts,
            "health": "Healthy",
            "rule": verdict.rule,
            "reason": verdict.reason,
            "proven_by": verdict.details.get("proven_by", ""),
            "partitions": verdict.details.get("partitions", {}),
            "seen_at": verdict.details.get("seen_at", ""),
        }
        record_id = self.emit(context, "release", result) if verdict.rule == "live" else None
        return {**result, "record_id": record_id}
