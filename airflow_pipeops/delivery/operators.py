"""The base of every operator here: errors that do not retry in vain, and records emitted as asset events."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.base.arguments import not_empty, one_of
from airflow_pipeops.delivery.records import KINDS, PER_ENVIRONMENT, Evidence, Record, RecordKind
from airflow_pipeops.delivery.results import bounded
from airflow_pipeops.exceptions import InvalidInput, PipeOpsError
from airflow_pipeops.redaction import cleaned

if TYPE_CHECKING:
    from airflow.sdk import Asset, Context

    from airflow_pipeops.delivery.deliverable import Deliverable

#: Born from code: their asset events carry the commit SHA as partition key.
_PARTITIONED = frozenset({"commit", "image", "model"})


@contextmanager
def no_retry() -> Iterator[None]:
    """Turn errors that no retry can mend into :class:`AirflowFailException`, which Airflow does not retry."""
    try:
        yield
    except PipeOpsError as error:
        if error.retryable:
            raise
        raise AirflowFailException(f"{type(error).__name__}: {error}") from error


def _leaving(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let what a method returns, which becomes an XCom, leave without secrets and of bounded size."""

    @functools.wraps(method)
    def leaving(self: Any, context: Context, *args: Any, **kwargs: Any) -> Any:
        def keep(whole: str) -> str:
            kept = self.keep(context, whole, "result.json", "application/json")
            self.log.warning(
                "The result has %d characters, which is more than an XCom is for: all of it is in %s",
                len(whole),
                kept.uri,
            )
            return str(kept.uri)

        return bounded(cleaned(method(self, context, *args, **kwargs)), keep)

    return leaving


class DeliveryOperator(BaseOperator):
    """Base of the operators that may emit a record about a deliverable.

    What leaves by it, as a record, a kept text or a result, is free of secrets. A result of more than 96 KiB is kept as
    evidence, ``result.json``, and what is long in it names that: ``{"kept_in": URI, "bytes": its size}``.

    :param deliverable: what the record is about; without it, nothing is recorded.
    :param environment: where it happens, for the kinds that happen somewhere.
    :param parents: ids of the records that this one is made from; usually ``upstream.output["record_id"]``.
        Empty values are left out, so that a skipped upstream does no harm.
    """

    template_fields: Sequence[str] = ("parents",)

    #: Kinds of record that this operator may emit.
    emits: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Airflow calls these, and stores what they return; it hands the result to nothing before.
        for name, method in list(vars(cls).items()):
            if name in ("execute", "resume") or name.startswith("execute_"):
                setattr(cls, name, _leaving(method))

    def __init__(
        self,
        *,
        deliverable: Deliverable | None = None,
        environment: str | None = None,
        parents: Sequence[Any] = (),
        **kwargs: Any,
    ) -> None:
        # Without it task.output["record_id"] finds nothing: Airflow looks for an XCom of that name.
        kwargs.setdefault("multiple_outputs", True)
        super().__init__(**kwargs)
        self.deliverable = deliverable
        self.environment = environment
        self.parents = parents
        self.report_url = self.log_url = self.commit_url = ""
        self._emitted: list[Asset] = []
        self._may_emit: list[Asset] = []
        if deliverable is not None:
            kinds = [one_of("kind", kind, KINDS, called="record kind") for kind in self.emits]
            self._may_emit = [asset for kind in kinds for asset in self.record_assets(kind)]
            self.outlets = [*self.outlets, *self._may_emit]

    def record_assets(self, kind: RecordKind, deliverable: Deliverable | None = None) -> list[Asset]:
        """Name the assets on which a record of this kind may be emitted.

        :param kind: a record kind.
        :param deliverable: another one than the operator's own.
        :return: the assets.
        """
        about = deliverable or self.deliverable
        assert about is not None
        return [about.asset(kind, self.environment if kind in PER_ENVIRONMENT else None)]

    def emit(
        self,
        context: Context,
        kind: RecordKind,
        body: Mapping[str, Any],
        *,
        commit: str | None = None,
        parents: Sequence[str] = (),
        evidence: Sequence[Evidence] = (),
        asset: Asset | None = None,
        deliverable: Deliverable | None = None,
    ) -> str | None:
        """Emit a record as the event of its asset, when the task succeeds.

        :param context: of the running task.
        :param kind: one of :attr:`emits`.
        :param body: the facts, as JSON.
        :param commit: SHA of the commit that the record was born from, if any.
        :param parents: further parents, beside those given to the operator.
        :param evidence: files that were kept with :meth:`keep`.
        :param asset: another asset than the kind's own, for example :attr:`Deliverable.retrain`.
        :param deliverable: another one than the operator's own; the operator must have named its assets among its outlets.
        :return: the record's id; ``None`` without a deliverable.
        """
        about = deliverable or self.deliverable
        if about is None:
            return None
        record = Record(
            kind=kind,
            deliverable=about.name,
            body=cleaned(body),
            parents=parent_ids([*self.parents, *parents]),
            environment=self.environment,
            commit=commit,
            at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            source=source_of(context),
            evidence=tuple(evidence),
        )
        target = asset or self.record_assets(kind, about)[0]
        emit_record(context, target, record)
        self._emitted.append(target)
        self.log.info("Recorded %s %s of %s", kind, record.id[:12], about.name)
        return record.id

    def keep(self, context: Context, content: str | bytes, name: str, media_type: str) -> Evidence:
        """Keep a file as evidence, which Airflow shows to whoever may read this DAG.

        An HTML page becomes what :class:`~airflow_pipeops.delivery.links.ReportLink` leads to, plain text what
        :class:`~airflow_pipeops.delivery.links.LogLink` does.

        :param context: of the running task.
        :param content: of the file.
        :param name: of the file.
        :param media_type: of the file, for example ``text/html``.
        :return: what a record names as its evidence.
        """
        from airflow_pipeops.delivery.evidence import store, url

        raw = cleaned(content).encode() if isinstance(content, str) else content
        dag_id = context["ti"].dag_id
        evidence = store(raw, name, media_type=media_type, dag_id=dag_id)
        if media_type == "text/html":
            self.report_url = url(evidence, dag_id)
        elif media_type.startswith("text/plain"):
            self.log_url = url(evidence, dag_id)
        return evidence

    def post_execute(self, context: Context, result: Any = None) -> None:
        """Leave out the outlets on which nothing was emitted: Airflow would write an empty event for each."""
        self.outlets = [
            asset for asset in self.outlets if asset not in self._may_emit or asset in self._emitted
        ]


def emit_record(context: Context, asset: Asset, record: Record) -> None:
    """Attach a record to a task's outlet event; Airflow writes it when the task succeeds."""
    accessor = context["outlet_events"][asset]
    accessor.extra = record.to_extra()
    if record.commit and record.kind in _PARTITIONED:
        accessor.add_partitions(record.commit)


def source_of(context: Context) -> dict[str, Any]:
    """Return which DAG, run, task and map index is running."""
    ti = context["ti"]
    return {"dag": ti.dag_id, "run": ti.run_id, "task": ti.task_id, "map_index": ti.map_index}


def idempotency_key(context: Context) -> str:
    """Return the key under which every attempt of this task acts on the outside: dag/run/task/map index."""
    source = source_of(context)
    return "/".join(str(source[part]) for part in ("dag", "run", "task", "map_index"))


def order_of(context: Context) -> int:
    """Return which order to run this task is carried out: 1, and a higher number after each clearing, not after a retry.

    It is the number of the first attempt since then, as Airflow itself works it out: clearing a task allows as many
    retries from there.

    :return: the number.
    """
    ti = context["ti"]
    allowed, retries = getattr(ti, "max_tries", None), getattr(getattr(ti, "task", None), "retries", None)
    if not isinstance(allowed, int) or not isinstance(retries, int):
        return 1
    first = allowed - retries + 1
    # Beyond the present attempt, it only says that the DAG allows another number of retries by now.
    return first if 1 <= first <= getattr(ti, "try_number", first) else 1


def order_key(context: Context) -> str:
    """Return the key of what this task asks of a controller: the same for each retry, another one after a clearing.

    :return: the key.
    """
    order = order_of(context)
    return idempotency_key(context) + (f" order {order}" if order > 1 else "")


def parent_ids(values: Sequence[Any]) -> tuple[str, ...]:
    """Flatten and de-duplicate parent ids, leaving out the empty ones, in the order given."""
    found: dict[str, None] = {}
    for value in values:
        if not value:
            continue
        if isinstance(value, str):
            found[value] = None
        elif isinstance(value, Mapping):
            raise InvalidInput(
                "a parent is a record id, not an object",
                field="parents",
                remedy='Pass task.output["record_id"].',
            )
        else:
            found.update(dict.fromkeys(parent_ids(list(value))))
    return tuple(found)


class RecordOperator(DeliveryOperator):
    """Emit one record whose facts other tasks found, for example an incident.

    :param kind: kind of the record.
    :param body: its facts; templated.
    :param commit: SHA of the commit it was born from, if any; templated.
    """

    template_fields: Sequence[str] = ("body", "commit", *DeliveryOperator.template_fields)
    ui_color = "#e8f1ff"

    def __init__(
        self, *, kind: RecordKind, body: Mapping[str, Any], commit: str | None = None, **kwargs: Any
    ) -> None:
        self.emits = (kind,)  # type: ignore[misc]  # one operator for all kinds
        super().__init__(**kwargs)
        self.kind = kind
        self.body = body
        self.commit = commit
        remedy = "Pass deliverable=Deliverable(...)."
        not_empty("deliverable", self.deliverable, "a record needs its deliverable", remedy)

    def execute(self, context: Context) -> dict[str, Any]:
        """Emit the record and return its body with the ``record_id``."""
        with no_retry():
            record_id = self.emit(context, self.kind, self.body, commit=self.commit or None)
        return {**self.body, "record_id": record_id}
