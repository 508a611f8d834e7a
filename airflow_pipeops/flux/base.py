"""The base of the operators that wait for an object of Flux: deferred, or in the worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow_pipeops.base.arguments import one_of, positive
from airflow_pipeops.delivery.operators import DeliveryOperator, order_key
from airflow_pipeops.flux.hook import FluxHook
from airflow_pipeops.flux.rules import RULEBOOK
from airflow_pipeops.flux.triggers import FluxWaitTrigger
from airflow_pipeops.flux.waits import Asking, FluxController, token_base, wait_to_json
from airflow_pipeops.git.ancestry import chart_history, git_oracle
from airflow_pipeops.waits.expectation import Match, Policy
from airflow_pipeops.waits.operators import CommitWaitOperator
from airflow_pipeops.waits.sources import revisions_of
from airflow_pipeops.waits.verdict import Expectation, Verdict
from airflow_pipeops.waits.wait import Decided, Wait, raise_error_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.flux.client import FluxClient


class FluxOperator(DeliveryOperator):
    """What all operators of one Kustomization or HelmRelease share.

    :param kind: ``Kustomization`` or ``HelmRelease``.
    :param name: of the object. Templated.
    :param namespace: of the object; by default that of the connection, else ``flux-system``. Templated.
    :param flux_conn_id: a connection of type ``kubernetes``.
    """

    template_fields: Sequence[str] = ("kind", "name", "namespace", *DeliveryOperator.template_fields)
    ui_color = "#e6f0fb"

    def __init__(
        self,
        *,
        name: str,
        kind: Literal["Kustomization", "HelmRelease"] = "Kustomization",
        namespace: str = "",
        flux_conn_id: str = FluxHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.kind, self.name, self.namespace = kind, name, namespace
        self.flux_conn_id = flux_conn_id

    def hook(self) -> FluxHook:
        """Return the hook."""
        return FluxHook(self.flux_conn_id, namespace=self.namespace or "")


class FluxWaitOperator(CommitWaitOperator, FluxOperator):
    """Wait until an expectation about an object comes true.

    :param settle: for which it must stay ready.
    :param source_grace: for which its source may fail to fetch, or the source or the object itself be missing.
    :param failed_attempts: how many different attempts must fail before that counts: Flux tries again for ever. A failed
        build counts at once.
    :param on_suspended: ``fail``, ``wait``, or ``accept`` where it is suspended and already as expected.
    :param on_unknown: ``wait``, ``fail``, or ``accept`` where nobody can say whether it is as expected: the credential may
        not see what decides about it, or a chart in Git may have changed without a new version. The reason says what is
        missing that would tell.
    """

    def __init__(
        self,
        *,
        settle: timedelta = timedelta(0),
        source_grace: timedelta = timedelta(minutes=3),
        failed_attempts: int = 2,
        on_suspended: Policy = "fail",
        on_unknown: Policy = "wait",
        **kwargs: Any,
    ) -> None:
        super().__init__(settle=settle, **kwargs)
        self.source_grace = positive("source_grace", source_grace, zero=True)
        self.failed_attempts = count("failed_attempts", failed_attempts)
        self.on_suspended: Policy = one_of("on_suspended", on_suspended, ("fail", "wait", "accept"))
        self.on_unknown: Policy = one_of("on_unknown", on_unknown, ("wait", "fail", "accept"))

    def expected(self, revision: Any, match: Match, **more: Any) -> Expectation:
        """Return an expectation with the operator's durations and policies.

        :param revision: expected revision, or a dict from source to revision; of no account where any will do.
        :return: the expectation.
        :raises InvalidInput: without a revision, unless any will do.
        """
        return Expectation(
            revisions={} if match == "any" else revisions_of(revision),
            match=match,
            oracle=bool(self.git_conn_id),
            on_suspended=self.on_suspended,
            on_unknown=self.on_unknown,
            timeout=self.timeout.total_seconds(),
            settle=self.settle.total_seconds(),
            comparison_grace=self.source_grace.total_seconds(),
            failed_attempts=self.failed_attempts,
            **{"on_out_of_sync": "accept", **more},
        )

    def wait(self, expectation: Expectation, context: Context, method: str, *, asks: bool = True) -> Decided:
        """Wait; deferred unless the first look decides.

        :param method: name of the method that goes on after a deferral, with the trigger's event.
        :param asks: ask controllers to reconcile where that would help.
        :return: where the wait stands, if it was not deferred.
        """
        hook = self.hook()
        base = token_base(order_key(context)) if asks else ""

        def waits() -> list[Wait]:
            ref, oracle = hook.ref(self.kind, self.name), git_oracle(self.git_conn_id)
            return [Wait(ref, expectation, rulebook=RULEBOOK, oracle=oracle, on_change=self._log_verdict)]

        def controller(client: FluxClient) -> FluxController:
            asking, charts = Asking(client.request, base), chart_history(self.git_conn_id)
            return FluxController(client.gather, client.all, asking, client, charts)

        def trigger(waits: Sequence[Wait]) -> FluxWaitTrigger:
            return FluxWaitTrigger(
                flux_conn_id=self.flux_conn_id,
                git_conn_id=self.git_conn_id,
                requests=base,
                poll_interval=self.poll_interval.total_seconds(),
                **wait_to_json(waits[0]),
            )

        (wait,) = self.until(waits, hook.run, controller, trigger, method, timeout=self.timeout)
        return wait.state

    def resumed(self, event: Mapping[str, Any] | None) -> Decided:
        """Read a trigger's event.

        :return: where the wait stands.
        :raises PipeOpsError: the error that ended the trigger, if one did.
        """
        raise_error_of(event)
        assert event is not None
        decided = Decided.from_json(event)
        self._log_verdict(decided.verdict)
        return decided

    def demand(self, decided: Decided) -> dict[str, Any]:
        """Return what there is to say of a met expectation.

        :return: ``{kind, name, namespace, revision, chart, health, rule, reason, warnings}``.
        :raises PipeOpsError: what a failed verdict stands for, with everything that a person looks up next.
        """
        verdict, details = decided.verdict, decided.verdict.details
        if verdict.state == "done":
            for note in details.get("warnings") or ():
                self.log.warning("%s", note)
            return {
                "kind": self.kind,
                "name": self.name,
                "namespace": str(decided.summary.get("namespace") or self.namespace),
                "revision": next(iter(details.get("applied") or ()), ""),
                "chart": str(details.get("chart") or ""),
                "health": str(decided.summary.get("health") or ""),
                "rule": verdict.rule,
                "reason": verdict.reason,
                "warnings": list(details.get("warnings") or ()),
            }
        from airflow_pipeops.flux.reports import compose, explain

        hook = self.hook()
        message = self.explained(
            hook.run,
            lambda client: explain(client, hook.ref(self.kind, self.name), decided),
            lambda: compose(hook.ref(self.kind, self.name), decided, None),
        )
        raise decided.error(message)

    def _log_verdict(self, verdict: Verdict) -> None:
        self.log.info("%s: %s (%s)", verdict.state, verdict.reason, verdict.rule)


def count(field: str, value: int) -> int:
    """Return a number from 1.

    :return: the number.
    :raises InvalidInput: for anything else.
    """
    from airflow_pipeops.exceptions import InvalidInput

    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise InvalidInput(f"{field} is {value!r}", field=field, value=value, remedy="Give a number from 1.")
