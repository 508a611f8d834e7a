"""The base of the operators that wait for an application: deferred, or in the worker."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from airflow_pipeops import exceptions
from airflow_pipeops.argocd.hook import ArgoCDHook
from airflow_pipeops.argocd.links import LINKS, app_url
from airflow_pipeops.argocd.rules import RULEBOOK
from airflow_pipeops.argocd.triggers import ArgoCDWaitTrigger
from airflow_pipeops.argocd.waits import ArgoCDController, Decided, Wait, wait_to_json
from airflow_pipeops.base.arguments import positive
from airflow_pipeops.delivery.operators import DeliveryOperator
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.git.ancestry import git_oracle
from airflow_pipeops.git.forges import first_commit_url
from airflow_pipeops.waits.operators import CommitWaitOperator, LookingOperator
from airflow_pipeops.waits.verdict import Expectation, Memory, Verdict
from airflow_pipeops.waits.wait import raise_error_of as raise_error_of

#: So often a request is refused because of an operation that does not show, before the wait for quiet is given up.
_ROUNDS = 20


class ArgoCDOperator(LookingOperator):
    """What all operators of one Argo CD application share.

    :param app: name of the application.
    :param argocd_conn_id: the Argo CD connection.
    :param project: its project; by default that of the connection.
    :param app_namespace: its namespace, where that is not Argo CD's own.
    """

    template_fields: Sequence[str] = ("app", "project", "app_namespace", *DeliveryOperator.template_fields)
    operator_extra_links = LINKS
    ui_color = "#fdeee8"

    def __init__(
        self,
        *,
        app: str,
        argocd_conn_id: str = ArgoCDHook.default_conn_name,
        project: str = "",
        app_namespace: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.app = app
        self.argocd_conn_id = argocd_conn_id
        self.project = project
        self.app_namespace = app_namespace
        self.argocd_url = self.commit_url = ""

    def hook(self) -> ArgoCDHook:
        """Return the hook, and set the link to the application."""
        hook = ArgoCDHook(
            self.argocd_conn_id, project=self.project or "", app_namespace=self.app_namespace or ""
        )
        self.argocd_url = app_url(hook.settings()["url"], self.app_namespace or "", hook.ref(self.app).name)
        return hook


class ArgoCDWaitOperator(CommitWaitOperator, ArgoCDOperator):
    """Wait until an expectation about an application comes true.

    :param degraded_grace: for which it may be Degraded.
    """

    def __init__(self, *, degraded_grace: timedelta = timedelta(seconds=60), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.degraded_grace = positive("degraded_grace", degraded_grace, zero=True)

    def within(self, expectation: Expectation) -> Expectation:
        """Return an expectation with the operator's durations."""
        return replace(
            expectation,
            timeout=self.timeout.total_seconds(),
            settle=self.settle.total_seconds(),
            degraded_grace=self.degraded_grace.total_seconds(),
        )

    def wait(self, expectation: Expectation, method: str, memory: Memory | None = None) -> Decided:
        """Wait for the operator's application; deferred unless the first look decides.

        :param method: name of the method that goes on after a deferral, with the trigger's event.
        :return: where the wait stands when it is over.
        """
        memories = {} if memory is None else {self.app: memory}
        return self.wait_all({self.app: expectation}, method, memories)[self.app]

    def wait_all(
        self,
        expectations: Mapping[str, Expectation],
        method: str,
        memories: Mapping[str, Memory] | None = None,
        *,
        fail_fast: bool = True,
    ) -> dict[str, Decided]:
        """Wait for several applications of the operator's project and namespace, in one deferral.

        :param expectations: what must come true, by name of the application.
        :param method: name of the method that goes on after a deferral; it reads the event with :meth:`resumed_all`.
        :param memories: what earlier parts of the same waits remembered.
        :param fail_fast: end as soon as one has failed; the others then stand where they stand, perhaps at ``wait``.
        :return: where each wait stands when it is over, by name of the application.
        """
        if not expectations:
            raise InvalidInput("no application is named", field="app", remedy="Name at least one.")
        hook, oracle, remembered = self.hook(), git_oracle(self.git_conn_id), memories or {}
        waits = [
            Wait(
                hook.ref(app),
                expectation,
                remembered.get(app),
                rulebook=RULEBOOK,
                oracle=oracle,
                on_change=partial(self._log_verdict, app),
            )
            for app, expectation in expectations.items()
        ]

        def trigger(waits: Sequence[Wait]) -> ArgoCDWaitTrigger:
            self.show(waits[0].state)
            return ArgoCDWaitTrigger(
                argocd_conn_id=self.argocd_conn_id,
                waits=[wait_to_json(wait) for wait in waits],
                git_conn_id=self.git_conn_id,
                poll_interval=self.poll_interval.total_seconds(),
                fail_fast=fail_fast,
            )

        self.until(
            lambda: waits,
            hook.run,
            ArgoCDController,
            trigger,
            method,
            timeout=self.timeout,
            fail_fast=fail_fast,
        )
        self.show(waits[0].state)
        return {wait.ref.name: wait.state for wait in waits}

    def resumed(self, event: Mapping[str, Any] | None) -> Decided:
        """Read the event of a trigger that waited for one application.

        :return: where the wait stands.
        :raises PipeOpsError: the error that ended the trigger, if one did.
        """
        found = self.resumed_all(event)
        if len(found) != 1:
            raise exceptions.BadResponse(
                f"the trigger's event is about {len(found)} applications and not one"
            )
        return next(iter(found.values()))

    def resumed_all(self, event: Mapping[str, Any] | None) -> dict[str, Decided]:
        """Read a trigger's event: where each wait stands, by name of the application.

        :return: where each wait stands, by name of the application.
        :raises PipeOpsError: the error that ended the trigger, if one did.
        """
        raise_error_of(event)
        assert event is not None
        decided = {app: Decided.from_json(one) for app, one in event["decided"].items()}
        for app, one in decided.items():
            self.show(one)
            self._log_verdict(app, one.verdict)
        return decided

    def show(self, decided: Decided) -> None:
        """Set the link to the commit that is waited for."""
        revisions = dict(decided.verdict.details.get("expected") or {})
        repositories = list(decided.summary.get("repositories") or ())
        known = [
            (repositories[int(at)], revision)
            for at, revision in revisions.items()
            if int(at) < len(repositories)
        ]
        if known:
            self.commit_url = first_commit_url(*zip(*known, strict=True))

    def until_idle(self, what: str, memory: Memory | None, round_: int) -> Memory:
        """Wait until nothing is under way, deferred to ``execute_idle``; return what the next round remembers.

        :param what: what shall be done then, for the error.
        :param memory: of the round before: the deadline counts from the first one.
        :param round_: so many rounds went before, in which it looked idle, and the request was refused.
        :return: the memory of this round.
        :raises WaitTimeout: after too many rounds, or too long.
        """
        begun = memory.started_at if memory and memory.started_at is not None else None
        if round_ >= _ROUNDS or (begun is not None and time.time() - begun > self.timeout.total_seconds()):
            raise exceptions.WaitTimeout(f"{self.app} was never idle long enough to {what}")
        self.log.info("Waiting for the operation in progress to end")
        # What was seen of the application before says nothing any more.
        kept = Memory(now=memory.now, started_at=memory.started_at) if memory else None
        decided = self.wait(self.within(Expectation(basis="idle", match="any")), "execute_idle", kept)
        self.demand(decided)
        time.sleep(min(round_, 5))  # the server may know of an operation that does not show yet
        return decided.memory

    def demand(self, decided: Decided, app: str | None = None) -> None:
        """Raise what a failed verdict stands for, with everything that a person looks up next.

        :param app: which application; by default the operator's own.
        """
        hook, app = self.hook(), app or self.app
        namespace = str(decided.summary.get("namespace") or self.app_namespace or "")
        self.argocd_url = app_url(hook.settings()["url"], namespace, app)
        if decided.verdict.state == "done":
            for note in decided.verdict.details.get("warnings") or ():
                self.log.warning("%s", note)
            return
        message = self.explained(
            hook.run,
            lambda client: ArgoCDController(client, self.argocd_url).explain(hook.ref(app), decided),
            lambda: f"Argo CD app {app}: {decided.verdict.reason} (rule {decided.verdict.rule})",
        )
        raise decided.error(message)

    def _log_verdict(self, app: str, verdict: Verdict) -> None:
        self.log.info("%s: %s: %s (%s)", app, verdict.state, verdict.reason, verdict.rule)
