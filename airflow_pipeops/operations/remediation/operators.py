"""Answer a finding within a policy; see whether it helped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_pipeops.base.arguments import (
    function,
    given,
    mapping,
    one_of,
    positive,
    read_at_least,
    still_given,
)
from airflow_pipeops.base.documents import map_, parsed, text
from airflow_pipeops.delivery.operators import DeliveryOperator, idempotency_key, no_retry
from airflow_pipeops.exceptions import InvalidInput, PipeOpsError
from airflow_pipeops.operations.remediation.decision import Surroundings
from airflow_pipeops.operations.remediation.findings import Finding
from airflow_pipeops.operations.remediation.policy import RemediationPolicy
from airflow_pipeops.operations.remediation.verification import Seen, due
from airflow_pipeops.redaction import redacted

if TYPE_CHECKING:
    from airflow.sdk import Asset, Context

    from airflow_pipeops.operations.remediation.execution import Answer, Remediator
    from airflow_pipeops.operations.remediation.history import Operation
    from airflow_pipeops.operations.remediation.journal import Journal

_COLOR = "#fde8e4"
#: Of a deliverable in an environment, what tells whether somebody is releasing it.
_TOLD = ("change", "release", "rollback")
#: What a call shows of each operation.
_SHOWN = (
    "id",
    "rule",
    "action",
    "deliverable",
    "environment",
    "state",
    "reason",
    "acted",
    "undone",
    "result",
    "finding",
)


class RemediationOperator(DeliveryOperator):
    """What the operators of the remediator share; it does nothing itself.

    :param policy: a :class:`~airflow_pipeops.operations.remediation.policy.RemediationPolicy`, the mapping of its fields, or
        the path of its YAML or JSON file.
    :param storage_conn_id: folder or bucket of the history, the same for all that act. A folder must be there.
    :param airflow_conn_id: connection of type ``http`` to Airflow's API server; a password without a login is a token.
    :param git_conn_id: the repository of the desired state.
    :param mlflow_conn_id: the registry of models.
    :param kill_switch: Airflow Variable that stops everything, unless it is absent, empty, 0, false, no or off. A file
        ``STOP`` beside the history does so, too, and ``{"remediation": "stop"}`` in the extra of the API's connection.
    :param notifiers: Airflow notifiers that call a person; their context has ``remediation``: ``{call, operations}``.
        Without any, the log says it, and a later task may do it by ``called``.
    """

    emits: ClassVar[tuple[str, ...]] = ("remediation", "change")
    ui_color = _COLOR
    #: Whether the commit that it may have made is that of an inverse.
    undoes: ClassVar[bool] = False

    def __init__(
        self,
        *,
        policy: Any,
        storage_conn_id: str = "pipeops_remediation",
        airflow_conn_id: str = "airflow_api",
        git_conn_id: str = "pipeops_gitops_repo",
        mlflow_conn_id: str = "mlflow_default",
        kill_switch: str = "pipeops_remediation_stop",
        notifiers: Sequence[Any] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if self.deliverable is None or not self.environment:
            raise InvalidInput(
                "a remediation is about a deliverable in an environment",
                field="deliverable" if self.deliverable is None else "environment",
                remedy="Give deliverable=Deliverable(...) and environment=...",
            )
        # A path is read when the task runs: where DAG files are parsed, it may not be there, and a change counts at once.
        self.policy = policy if isinstance(policy, str) else RemediationPolicy.of(policy)
        self.storage_conn_id = storage_conn_id
        self.airflow_conn_id = airflow_conn_id
        self.git_conn_id = git_conn_id
        self.mlflow_conn_id = mlflow_conn_id
        self.kill_switch = kill_switch
        if not (isinstance(notifiers, (list, tuple)) and all(map(callable, notifiers))):
            raise InvalidInput(
                f"notifiers is {notifiers!r}", field="notifiers", remedy="Give a list of Airflow notifiers."
            )
        self.notifiers = list(notifiers)

    def _remediator(self, context: Context) -> Remediator:
        from airflow_pipeops.base.storage import StorageHook
        from airflow_pipeops.git.hook import GitHook
        from airflow_pipeops.models.hook import MLflowHook
        from airflow_pipeops.operations.airflow_api import connected
        from airflow_pipeops.operations.remediation.execution import Remediator
        from airflow_pipeops.operations.remediation.hands import OutsideHands
        from airflow_pipeops.operations.remediation.journal import Journal

        journal = Journal(StorageHook(self.storage_conn_id).get_conn())
        hands = OutsideHands(
            lambda: connected(self.airflow_conn_id),
            lambda: GitHook(self.git_conn_id).get_conn(),
            lambda: MLflowHook(self.mlflow_conn_id).get_conn(),
        )
        return Remediator(
            RemediationPolicy.of(self.policy),
            journal,
            hands,
            killed=lambda: self._killed(journal),
            tell=lambda number, told: self._tell(context, number, told),
            owner=idempotency_key(context),
        )

    def _killed(self, journal: Journal) -> str:
        """Return which switch is on. One that cannot be read is an error, and nothing is done then either."""
        from airflow_pipeops.base.configuration import switched_on
        from airflow_pipeops.base.connections import read
        from airflow_pipeops.exceptions import NotConfigured

        if journal.stopped:
            return "the file STOP"
        if switched_on(self.kill_switch):
            return f"the Variable {self.kill_switch!r}"
        try:
            connection = read(self.airflow_conn_id, "http")
        except NotConfigured:  # not every policy needs it
            return ""
        of = f"connection {self.airflow_conn_id!r}"
        try:  # Airflow itself takes what is no JSON for an empty one
            extra = parsed(connection.extra or "{}")
        except ValueError:
            extra = None
        said = mapping("extra", extra, "Give an object.", message=f"the extra of {of} is no JSON object")
        word = str(said.get("remediation") or "").strip().lower()
        one_of("remediation", word, ("", "stop"), of=of, remedy="Give stop, or leave it out.")
        return f"remediation=stop of {of}" if word else ""

    def _tell(self, context: Context, number: int, told: tuple[Operation, ...]) -> None:
        said = [{name: one.to_json()[name] for name in _SHOWN} for one in told]
        for one in told:
            self.log.error("A person is needed for %s: %s (%s)", one.place, one.reason, one.rule)
        for notifier in self.notifiers:
            notifier({**context, "remediation": {"call": number, "operations": said}})

    def _recorded(self, context: Context, answer: Answer, finding: Mapping[str, Any]) -> dict[str, Any]:
        """Emit the record, and return what the task returns."""
        order, done = answer.order, answer.operation
        self.log.info("%s by %s: %s", order.outcome, order.stage, order.reason)
        facts: dict[str, Any] = {
            **{name: getattr(order, name) for name in ("outcome", "stage", "reason", "rule", "action")},
            "operation": done.id if done else "",
            "state": done.state if done else "",
            "helped": done.helped if done else None,
            "result": dict(done.result) if done else {},
            "called": answer.called,
        }
        body = {
            **facts,
            "finding": {name: finding.get(name) for name in ("kind", "at", "reason", "target", "affected")},
            "plan": dict(done.plan) if done else {},
            "undone": done.undone if done else "",
            "approved_by": done.approved_by if done else "",
        }
        parents = [record] if (record := text(finding.get("record"))) else []
        record_id = self.emit(context, "remediation", body, parents=parents)
        change = map_(facts["result"].get("undo") if self.undoes else facts["result"])
        if change.get("commit") and change.get("changed"):
            told = {**change, "operation": facts["operation"], "reason": order.reason}
            self.emit(context, "change", told, parents=[record_id] if record_id else [])
        return {**facts, "finding": dict(finding), "record_id": record_id}


class RemediateOperator(RemediationOperator):
    """Answer a finding within a policy: decide, say what will be done, do it, once.

    However often the task is tried, and whatever dies on the way, a finding leads to one act. What follows is
    :class:`VerifyRemediationOperator`. Returns ``{outcome, stage, reason, rule, action, operation, state, helped, result,
    called, finding, record_id}``; nothing was done unless ``state`` is ``acted``.

    :param finding: a :class:`~airflow_pipeops.operations.remediation.findings.Finding`, or the mapping of its fields; its
        deliverable and environment are the operator's unless it names them. Without one, only what waits for a person is
        told, and the task is skipped. Templated.
    :param approval: what an approval has returned; only its ``approved_by`` with ``approved`` (or the option that Airflow's
        ``ApprovalOperator`` tells) counts. It turns a proposal into an act, within the same limits. Templated.
    :param population: deliverables in the environment. Templated.
    :param mode: no rule goes further than this, whatever the policy says: ``observe`` makes it a dry run. Templated.
    :param labels_until: of a finding that rests on labels: time up to which they are there, ISO-8601. A release that is
        newer is still under way, since labels that come now tell of the one before. Templated.
    :raises InvalidInput: for a policy or a finding that is none, and where the judge of a
        :class:`VerifyRemediationOperator` after it is none: nothing is done that nobody could verify.
    """

    template_fields: Sequence[str] = (
        "finding", "approval", "population", "mode", "labels_until", *DeliveryOperator.template_fields,
    )  # fmt: skip

    def __init__(
        self,
        *,
        finding: Any = None,
        approval: Any = None,
        population: int | str | None = None,
        mode: str = "",
        labels_until: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.finding = finding
        self.approval = approval
        self.population = population
        self.mode = mode
        self.labels_until = labels_until
        self._demanded = given(mode=mode, labels_until=labels_until)
        self.inlets = list(dict.fromkeys([*self.inlets, *self._read()]))

    def _read(self) -> list[Asset]:
        assert self.deliverable is not None
        return [self.deliverable.asset(kind, self.environment) for kind in _TOLD]  # type: ignore[arg-type]

    def execute(self, context: Context) -> dict[str, Any]:
        """Decide, act, record."""
        with no_retry():
            still_given(self, self._demanded)
            remediator = self._remediator(context)
            if self.mode:
                remediator.policy = remediator.policy.at_most(self.mode)
            if not self.finding:
                from airflow.sdk.exceptions import AirflowSkipException

                called = remediator.call()
                raise AirflowSkipException(
                    f"There is no finding; a person was {'' if called else 'not '}called."
                )
            finding = self._found()
            self._judges()
            around = Surroundings(
                releasing=self._releasing(context, finding, remediator.policy.limits.lease),
                approved_by=_approved_by(self.approval),
                population=_whole(self.population),
            )
            return self._recorded(context, remediator.answer(finding, around), finding.to_json())

    def _judges(self) -> None:
        """Refuse what nobody could verify: the judges of the verifications that follow are looked up before the act."""
        following = self.get_flat_relatives(upstream=False) if self._dag else ()
        for task in following:
            given = getattr(task, "partial_kwargs", {}).get("judge") or getattr(task, "judge", None)
            if issubclass(getattr(task, "operator_class", type(task)), VerifyRemediationOperator):
                _judge(given)

    def _found(self) -> Finding:
        assert self.deliverable is not None
        if isinstance(self.finding, Finding):
            found = self.finding
        else:
            given = mapping("finding", self.finding, "Give the mapping of a Finding.")
            here = {"deliverable": self.deliverable.name, "environment": self.environment}
            found = Finding.of({**here, **given})
        if (found.deliverable, found.environment) != (self.deliverable.name, self.environment):
            raise InvalidInput(
                f"the finding is about {found.deliverable} in {found.environment}, and this task about "
                f"{self.deliverable.name} in {self.environment}",
                field="finding",
                value=found.deliverable,
                remedy="Let each deliverable have its own task: the record goes to its asset.",
            )
        return replace(found, reason=redacted(found.reason)[:500])

    def _releasing(self, context: Context, finding: Finding, longest: timedelta) -> str:
        from airflow_pipeops.delivery.events import records_on
        from airflow_pipeops.operations.remediation.releasing import releasing, unlabelled

        now, known = datetime.now(timezone.utc), list(records_on(context, *self._read()))
        found = releasing(known, now, longest, text(finding.target.get("commit")))
        return found or (unlabelled(known, self.labels_until) if self.labels_until else "")


class VerifyRemediationOperator(RemediationOperator):
    """See whether it helped: the judge that has found the fault is asked again, until it is away for the rule's window.

    Between two looks the task waits in the triggerer. What did not help is taken back once, where the action has an inverse,
    and handed to a person; the task succeeds all the same. It is skipped where nothing was done. Returns what
    :class:`RemediateOperator` does.

    :param remediation: what :class:`RemediateOperator` returned; templated.
    :param judge: the same that has found the fault: a function of the finding, as a mapping, or
        ``"package.module:name"``. It returns ``clear``, ``still``, ``worse`` (something new
        is wrong) or ``cannot tell``, or a mapping with that as ``sight`` and a ``reason``. What it raises counts as
        ``cannot tell``.
    :param interval: time between two looks; the last one is made when the proof is due.
    """

    template_fields: Sequence[str] = ("remediation", *DeliveryOperator.template_fields)
    undoes = True

    def __init__(
        self,
        *,
        remediation: Any,
        judge: str | Callable[[Mapping[str, Any]], Any],
        interval: timedelta = timedelta(minutes=5),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.remediation = remediation
        self.judge = judge
        self.interval = positive("interval", interval)

    def execute(self, context: Context) -> dict[str, Any]:
        """Look for the first time."""
        return self._look(context)

    def execute_look(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Look again."""
        return self._look(context)

    def _look(self, context: Context) -> dict[str, Any]:
        with no_retry():
            given = mapping("remediation", self.remediation, "Pass the output of RemediateOperator.")
            if not given.get("operation"):
                from airflow.sdk.exceptions import AirflowSkipException

                raise AirflowSkipException(f"Nothing was done: {given.get('reason')}")
            finding = map_(given.get("finding"))
            remediator = self._remediator(context)
            answer = remediator.look(str(given["operation"]), self._seen(finding))
            if answer.operation is not None and answer.operation.state in ("acted", "unhelped"):
                from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger

                self.log.info("%s", answer.order.reason)
                left = due(answer.operation) - datetime.now(timezone.utc)
                pause = min(self.interval, max(left, timedelta(seconds=1)))
                self.defer(trigger=TimeDeltaTrigger(pause), method_name="execute_look")
            record = text(given.get("record_id"))
            return self._recorded(context, answer, {**finding, "record": record})

    def _seen(self, finding: Mapping[str, Any]) -> Seen:
        judge = _judge(self.judge)
        try:
            said = judge(dict(finding))
        except Exception as error:  # whatever it is: it has cleared nothing; what it says may hold secrets
            why = error.message if isinstance(error, PipeOpsError) else type(error).__name__
            self.log.warning("The judge has failed: %s", why)
            return Seen("cannot tell", f"The judge has failed: {why[:300]}")
        return Seen.of(said)


def _judge(given: Any) -> Callable[[Mapping[str, Any]], Any]:
    """Return the function that judges."""
    found: Callable[[Mapping[str, Any]], Any] = given if callable(given) else function(given, "judge")
    return found


def _approved_by(approval: Any) -> str:
    """Return who has agreed; empty where nobody has."""
    given = map_(approval)
    agreed = given.get("approved") is True or given.get("chosen_options") == ["Approve"]
    if not agreed:
        return ""
    person = given.get("responded_by_user") or given.get("approved_by")
    return text(map_(person).get("name") or map_(person).get("id") or person)


def _whole(value: Any) -> int | None:
    if value in (None, "", "None"):
        return None
    said = f"population is {value!r}"
    return read_at_least("population", value, 1, said, "Give the number of deliverables.")
