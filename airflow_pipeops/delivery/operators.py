"""The base of every operator here: errors that do not retry in vain, and records emitted as asset events."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.base.arguments import instance_of, not_empty, one_of
from airflow_pipeops.delivery.records import KINDS, PER_ENVIRONMENT, Evidence, Record, RecordKind, parent_ids
from airflow_pipeops.delivery.results import bounded
from airflow_pipeops.delivery.versions import versions_of
from airflow_pipeops.exceptions import InvalidInput, PipeOpsError
from airflow_pipeops.redaction import cleaned

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Asset, Context
    from airflow.sdk.definitions.mappedoperator import OperatorPartial

    from airflow_pipeops.delivery.deliverable import Deliverable

#: Born from code: their asset events carry the commit SHA as partition key.
_PARTITIONED = frozenset({"commit", "image", "model"})


def _assets(deliverable: Deliverable, kinds: Iterable[str], environment: str | None = None) -> list[Asset]:
    """Return the assets of records of these kinds, in one environment or in all of them."""
    places = deliverable.environments if environment is None else (environment,)
    return [
        deliverable.asset(one_of("kind", kind, KINDS, called="record kind"), place)
        for kind in kinds
        for place in (places if kind in PER_ENVIRONMENT else (None,))
    ]


def checked(deliverable: Any) -> Deliverable | None:
    """Refuse what is no deliverable, such as its name alone.

    :return: the deliverable, or ``None``.
    :raises InvalidInput: for anything else.
    """
    from airflow_pipeops.delivery.deliverable import Deliverable

    if deliverable is None:
        return None
    remedy = "Give a Deliverable, e.g. Deliverable('delay-api')."
    return instance_of("deliverable", deliverable, Deliverable, remedy)


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
        with self.leaving_word(context):
            return self._to_leave(context, method(self, context, *args, **kwargs))

    return leaving


class DeliveryOperator(BaseOperator):
    """Base of the operators that may emit a record about a deliverable.

    Of a task that fails, Airflow writes no event: this leaves word of why, and of what it had found, from which an API
    server makes a record of kind *failure*.

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
        self.deliverable = checked(deliverable)
        self.environment = environment
        self.parents = parents
        self.report_url = self.log_url = self.commit_url = ""
        #: What was emitted, and what was returned, in this process.
        self.emitted: list[tuple[Asset, Record]] = []
        self.returned: Any = None
        #: What was kept as evidence in this process.
        self.kept: list[Evidence] = []
        self._failed_by: BaseException | None = None
        self._may_emit: list[Asset] = []
        if deliverable is not None:
            self.name_outlets(deliverable)

    @classmethod
    def kinds_of(cls, arguments: Mapping[str, Any]) -> Sequence[str]:
        """Name the kinds of record that an operator of these arguments may emit.

        :param arguments: of the operator, as far as they are the same for all of a mapped task.
        :return: the kinds.
        """
        return cls.emits

    @classmethod
    def outlets_of(cls, arguments: Mapping[str, Any]) -> list[Asset]:
        """Name the assets on which an operator of these arguments may emit.

        :param arguments: of the operator, as far as they are the same for all of a mapped task; without an environment, all
            of the deliverable's may be meant.
        :return: the assets.
        """
        deliverable = checked(arguments.get("deliverable"))
        if deliverable is None:
            return []
        return _assets(deliverable, cls.kinds_of(arguments), arguments.get("environment"))

    @classmethod
    def partial(cls, *, outlets: Sequence[Any] = (), **kwargs: Any) -> OperatorPartial:
        """Prepare a mapped task.

        Airflow asks it for its outlets before there is an operator, and drops the events of assets that no task names.

        :param outlets: further assets.
        :param kwargs: of the operator.
        :return: what ``expand`` and ``expand_kwargs`` are called on.
        """
        if outlets := [*outlets, *cls.outlets_of(kwargs)]:
            kwargs["outlets"] = outlets
        return super().partial(**kwargs)

    def name_outlets(self, deliverable: Deliverable) -> None:
        """Name the assets of what is emitted about a deliverable, and no more of it than this operator may emit.

        :param deliverable: the operator's own, or another one.
        """
        kinds = [one_of("kind", kind, KINDS, called="record kind") for kind in self.emits]
        named = [asset for kind in kinds for asset in self.record_assets(kind, deliverable)]
        told = _assets(deliverable, kinds)  # by partial, in every environment
        self._may_emit += named
        self.outlets = [*(asset for asset in self.outlets if asset not in told), *named]

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
            source={**source_of(context), **versions_of(context)},
            evidence=tuple(evidence),
        )
        target = asset or self.record_assets(kind, about)[0]
        emit_record(context, target, record)
        self.emitted.append((target, record))
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
        self.kept.append(evidence)
        if media_type == "text/html":
            self.report_url = url(evidence, dag_id)
        elif media_type.startswith("text/plain"):
            self.log_url = url(evidence, dag_id)
        return evidence

    @contextmanager
    def leaving_word(self, context: Context) -> Iterator[None]:
        """Leave word of the error by which a task fails; once, however many methods it passes on its way.

        :param context: of the task.
        :return: what the work is done in.
        """
        from airflow.sdk.exceptions import (
            AirflowRescheduleException,
            AirflowSkipException,
            DownstreamTasksSkipped,
            TaskAwaitingInput,
            TaskDeferred,
        )

        from airflow_pipeops.delivery.failures import WORD, word

        try:
            yield
        except (
            AirflowRescheduleException, AirflowSkipException, DownstreamTasksSkipped, TaskAwaitingInput, TaskDeferred,
        ):  # fmt: skip
            raise
        except BaseException as error:
            if self._may_emit and self._failed_by is not error:
                self._failed_by = error
                try:
                    said = word(
                        error,
                        number=getattr(context["ti"], "try_number", None),
                        deliverable=self.deliverable.name if self.deliverable else "",
                        environment=self.environment,
                        parents=self.parents,
                        records=[record for _, record in self.emitted],
                        kept=self.kept,
                    )
                    context["ti"].xcom_push(key=WORD, value=said)
                except Exception as lost:  # the task's own error matters more
                    self.log.warning(
                        "Why this fails could not be left for its record: %s", type(lost).__name__
                    )
            raise

    def _to_leave(self, context: Context, result: Any) -> Any:
        """Return what may leave of a result: free of secrets, and no larger than an XCom may be."""

        def keep(whole: str) -> str:
            kept = self.keep(context, whole, "result.json", "application/json")
            self.log.warning(
                "The result has %d characters, which is more than an XCom is for: all of it is in %s",
                len(whole),
                kept.uri,
            )
            return str(kept.uri)

        self.returned = bounded(cleaned(result), keep)
        return self.returned

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after a deferral, or fail since the triggerer could not."""
        with self.leaving_word(context):
            return super().resume_execution(next_method, next_kwargs, context)

    def post_execute(self, context: Context, result: Any = None) -> None:
        """Leave out the outlets on which nothing was emitted: Airflow would write an empty event for each."""
        emitted = [asset for asset, _ in self.emitted]
        self.outlets = [asset for asset in self.outlets if asset not in self._may_emit or asset in emitted]

    def skip_rest(self, context: Context, result: dict[str, Any]) -> None:
        """End well, and have Airflow skip what comes directly after this task; return where nothing does.

        :param context: of the run.
        :param result: what the task would have returned.
        """
        from airflow.sdk.exceptions import DownstreamTasksSkipped

        tasks = [task.task_id for task in self.get_direct_relatives(upstream=False)]
        if not tasks:
            return
        # Airflow keeps neither the result nor the clean-up of a task that ends by this exception.
        ti: Any = context["ti"]
        result = self._to_leave(context, result)
        for key, value in {**result, "return_value": result}.items():
            ti.xcom_push(key=key, value=value)
        self.post_execute(context, result)
        raise DownstreamTasksSkipped(tasks=tasks)  # type: ignore[no-untyped-call]

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Say what was read and written; Airflow's provider of OpenLineage, if there is one, asks at the end of a task.

        :param task_instance: of the operator; it is not needed.
        :return: datasets with their facets.
        """
        from airflow_pipeops.delivery.lineage import lineage

        return lineage(self)


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


class RecordOperator(DeliveryOperator):
    """Emit one record whose facts other tasks found, for example an incident.

    :param kind: kind of the record.
    :param body: its facts; templated.
    :param commit: SHA of the commit it was born from, if any; templated.
    """

    template_fields: Sequence[str] = ("body", "commit", *DeliveryOperator.template_fields)
    ui_color = "#e8f1ff"

    @classmethod
    def kinds_of(cls, arguments: Mapping[str, Any]) -> Sequence[str]:
        """Name the kind that it was told."""
        if "kind" not in arguments:
            raise InvalidInput(
                "the kind of a mapped task's records is not told: Airflow would drop them",
                field="kind",
                remedy="Give kind to partial, and map a task for each kind.",
            )
        return (arguments["kind"],)

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
