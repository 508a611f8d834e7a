"""Start a synchronisation of an Argo CD application, once, and wait for its end."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_pipeops.argocd.application import CORRELATION, observe
from airflow_pipeops.argocd.clients.requests import (
    check_options,
    check_retry,
    merged_options,
    merged_retry,
    refused,
)
from airflow_pipeops.argocd.hook import ArgoCDHook
from airflow_pipeops.argocd.messages import window_lines
from airflow_pipeops.argocd.operators.base import ArgoCDOperator, ArgoCDWaitOperator
from airflow_pipeops.argocd.situation import in_progress, not_begun
from airflow_pipeops.argocd.waits import Decided
from airflow_pipeops.base.arguments import one_or_more
from airflow_pipeops.base.commits import is_sha
from airflow_pipeops.delivery.operators import no_retry, order_key
from airflow_pipeops.exceptions import (
    Conflict,
    InvalidInput,
    PipeOpsError,
    SyncFailed,
    Unreachable,
)
from airflow_pipeops.git.ancestry import contains_commit, demand_set
from airflow_pipeops.git.forges import first_commit_url
from airflow_pipeops.waits.sources import revisions_of
from airflow_pipeops.waits.status import Observed, Operation, shorts
from airflow_pipeops.waits.verdict import Expectation, Memory

if TYPE_CHECKING:
    from airflow.sdk import Context

#: So often an application without a comparison is asked for one.
_COMPARISONS = 6


class ArgoCDSyncOperator(ArgoCDWaitOperator):
    """Synchronise an application to a revision, and wait until that operation has succeeded and the application is healthy.

    Safe to try again: the operation carries the task's identity (DAG, run, task, map index), and is looked up before
    another is started, so a worker that dies finds its running or finished operation again. An operation of somebody
    else at the same revision is joined; any other is waited for.

    Returns ``{app, revision, attached, health, sync, rule, reason, url, operation_id, record_id}``. With a
    ``deliverable``, a whole synchronisation is recorded as a release.

    :param revision: full commit id; for an application with several sources a dict from source (index from 0, or URL) to
        revision. Empty: what Argo CD compares with now, made explicit. Templated.
        Under auto-sync Argo CD accepts none but the one that it follows; with ``git_conn_id``, that may be newer.
    :param prune: remove what is no longer desired. By default as the application's own policy says.
    :param only: synchronise only these objects, each ``{group, kind, name, namespace}``. Such a partial
        synchronisation is never joined, and what ails the rest of the application does not hold it up: it ends well when
        its operation has.
    :param sync_options: each ``Name=value``, such as ``ServerSideApply=true``. They are added to the application's own, and
        replace those of the same name.
    :param retry_strategy: any of ``limit``, ``refresh`` and ``backoff``; what is not given stays as the application has it.
    """

    template_fields: Sequence[str] = ("revision", *ArgoCDOperator.template_fields)
    emits = ("release",)

    def __init__(
        self,
        *,
        revision: str | Mapping[str, str] = "",
        prune: bool | None = None,
        only: Sequence[Mapping[str, str]] = (),
        sync_options: Sequence[str] = (),
        retry_strategy: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.revision = revision
        self.prune = prune
        self.sync_options = check_options(sync_options)
        self.retry_strategy = check_retry(retry_strategy)
        self.only = [dict(item) for item in one_or_more("only", only, dict)]
        for item in self.only:
            if not item.get("kind") or not item.get("name"):
                raise InvalidInput(
                    f"a resource is {item!r}",
                    field="resources",
                    value=item,
                    remedy="Give at least its kind and name.",
                )

    def execute(self, context: Context) -> dict[str, Any]:
        """Find our operation, join one, or start one; then wait."""
        with no_retry():
            return self._start(context, None, 0)

    def execute_idle(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on when the operation of somebody else has ended."""
        with no_retry():
            decided = self.resumed(event)
            self.demand(decided)
            return self._start(context, decided.memory, 0)

    def execute_complete(
        self, context: Context, event: Mapping[str, Any] | None = None, *, attached: bool = False
    ) -> dict[str, Any]:
        """Go on when the operation was judged."""
        with no_retry():
            return self._finish(context, self.resumed(event), attached)

    def _start(self, context: Context, memory: Memory | None, round_: int) -> dict[str, Any]:
        hook, key = self.hook(), order_key(context)
        application = self._compared(hook)
        observed = observe(application)
        wanted = self._wanted(observed)
        self._link(observed, wanted)
        operation = observed.operation
        if operation is not None and self._ours(operation, key, wanted):
            self.log.info("Found our own operation again: %s", operation.phase or "queued")
            return self._await(context, wanted, key, attached=True)
        if operation is not None and in_progress(operation, observed.compared_at):
            whole = not self.only and not operation.dry_run and not operation.partial
            if whole and operation.at == _in_order(wanted, observed):
                self.log.info(
                    "Joining the operation of %s at %s",
                    operation.initiated_by or "somebody",
                    shorts(operation.at),
                )
                return self._await(context, wanted, "", attached=True)
            return self._await_idle(context, memory, round_)
        body = {**self._request(observed, wanted, key), **self._policy(application)}
        try:
            hook.run(lambda client: client.sync(hook.ref(self.app), body))
        except Conflict:
            return self._await_idle(context, memory, round_)
        except Unreachable:
            # The server may have acted before the answer was lost.
            again = observe(hook.application(self.app)).operation
            # One that was there before is of an earlier attempt, and has failed.
            if again is None or again == operation or again.ids.get(CORRELATION) != key:
                raise
        except PipeOpsError as error:
            raise self._refused(hook, error) from error
        return self._await(context, wanted, key, attached=False)

    def _compared(self, hook: ArgoCDHook) -> dict[str, Any]:
        """Read the application; without a revision of ours, after Argo CD has compared it with one.

        :return: the Application as JSON.
        :raises SyncFailed: if Argo CD says that it cannot compare it.
        :raises Unreachable: if it has not within a while; worth another try.
        """
        application, why = hook.application(self.app), ""
        for _ in range(_COMPARISONS):
            observed = observe(application)
            if self.revision or (observed.desired and observed.sync != "Unknown"):
                return application
            # As a rule it was made a moment ago. Each call lasts until the controller has answered, or for ten seconds.
            answer = hook.run(lambda client: client.refresh(hook.ref(self.app)))
            application = answer or hook.application(self.app)
            condition = observe(application).condition("ComparisonError", "InvalidSpecError", "UnknownError")
            why = condition.message if condition else ""
        if why:
            raise SyncFailed(f"Argo CD cannot compare {self.app} with any commit: {why}")
        raise Unreachable(
            f"Argo CD has not compared {self.app} with any commit, though it was asked to {_COMPARISONS} times",
            remedy="Is its controller running, and does it serve the application's namespace? Or give a revision.",
        )

    def _take_back(self, decided: Decided) -> None:
        """End an operation of ours that never began: a sync window that opens later must not deploy what has failed here.

        :param decided: where the wait for it stands.
        """
        key = decided.expectation.operation_id
        if decided.verdict.state != "failed" or not key:
            return
        hook = self.hook()
        try:
            operation = observe(hook.application(self.app)).operation
            if operation is None or operation.ids.get(CORRELATION) != key or not not_begun(operation):
                return
            hook.run(lambda client: client.terminate(hook.ref(self.app)))
            self.log.info("Our synchronisation had not begun yet: it was taken back")
        except PipeOpsError as error:
            self.log.warning("Our synchronisation had not begun yet, and could not be taken back: %s", error)

    def _refused(self, hook: ArgoCDHook, error: PipeOpsError) -> PipeOpsError:
        """Return what a refusal means; of a closed sync window, also when it changes."""
        meant = refused(error)
        if not isinstance(meant, SyncFailed) or "sync window" not in meant.message:
            return meant
        try:
            windows = hook.run(lambda client: client.sync_windows(hook.ref(self.app)), attempts=1)
        except PipeOpsError:
            return meant
        return SyncFailed("\n".join([str(meant), *window_lines(windows, time.time())]))

    def _ours(self, operation: Operation, key: str, wanted: Mapping[str, str]) -> bool:
        """Whether an earlier attempt of this task started this operation, for the same revisions, and it did not fail."""
        if operation.ids.get(CORRELATION) != key or operation.failed:
            return False
        at = dict(enumerate(operation.at))
        return all(
            self._as_good(revision, at.get(int(index), revision)) for index, revision in wanted.items()
        )

    def _link(self, observed: Observed, wanted: Mapping[str, str]) -> None:
        repositories = [observed.sources[int(index)].repo for index in wanted]
        self.commit_url = first_commit_url(repositories, list(wanted.values()))

    def _await(
        self, context: Context, wanted: Mapping[str, str], key: str, *, attached: bool
    ) -> dict[str, Any]:
        expectation = self.within(
            Expectation(
                revisions=dict(wanted),
                basis="applied",
                match="contains" if self.git_conn_id else "exact",
                oracle=bool(self.git_conn_id),
                operation_id=key,
                require_health=not self.only,
            )
        )
        if self.only:
            expectation = replace(expectation, settle=0.0)
        # A deferral carries no arguments of ours but through the name of the method that it goes on with.
        method = "execute_attached" if attached else "execute_complete"
        return self._finish(context, self.wait(expectation, method), attached)

    def execute_attached(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on when an operation that was found or joined was judged."""
        return self.execute_complete(context, event, attached=True)

    def _await_idle(self, context: Context, memory: Memory | None, round_: int) -> dict[str, Any]:
        return self._start(context, self.until_idle("start a synchronisation", memory, round_), round_ + 1)

    def _finish(self, context: Context, decided: Decided, attached: bool) -> dict[str, Any]:
        self._take_back(decided)
        self.demand(decided)
        applied = list(decided.verdict.details.get("applied") or ())
        result = {
            "app": self.app,
            "revision": applied[0] if len(applied) == 1 else applied,
            "attached": attached,
            "health": decided.summary["health"],
            "sync": decided.summary["sync"],
            "rule": decided.verdict.rule,
            "reason": decided.verdict.reason,
            "url": self.argocd_url,
            "operation_id": order_key(context),
        }
        if self.deliverable and not self.only:
            demand_set(self.git_conn_id, decided, applied)
        # What was synchronised in part is no release of the whole.
        body = {**result, "images": decided.summary.get("images", [])}
        return {**result, "record_id": None if self.only else self.emit(context, "release", body)}

    def _wanted(self, observed: Observed) -> dict[str, str]:
        """Return the revision per source index."""
        from airflow_pipeops.waits.sources import wanted_of

        if self.revision:
            wanted, problem = wanted_of(observed.sources, Expectation(revisions=revisions_of(self.revision)))
            if problem:
                raise InvalidInput(problem[1], field="revision", value=self.revision)
            return {str(index): revision for index, revision in wanted.items()}
        if len(observed.desired) != len(observed.sources) or not any(map(is_sha, observed.desired)):
            raise InvalidInput(
                f"Argo CD compares {self.app} with {shorts(observed.desired)}, which names no commit for each source",
                field="revision",
                remedy="Give a revision.",
            )
        return {str(index): revision for index, revision in enumerate(observed.desired)}

    def _as_good(self, wanted: str, current: str) -> bool:
        if wanted == current or not self.git_conn_id or not is_sha(current):
            return wanted == current
        return contains_commit(self.git_conn_id, wanted, current)

    def _request(self, observed: Observed, wanted: Mapping[str, str], key: str) -> dict[str, Any]:
        """Return the body of the call, without options and retries."""
        revisions = dict(wanted)
        if observed.automatic:
            # Argo CD refuses an explicit commit under auto-sync: what may be asked for is what it follows anyway.
            current = {str(index): revision for index, revision in enumerate(observed.desired)}
            if not all(self._as_good(revision, current.get(index, "")) for index, revision in wanted.items()):
                raise InvalidInput(
                    f"auto-sync of {self.app} is on, and it follows {shorts(observed.desired)}",
                    field="revision",
                    value=self.revision,
                    remedy="Commit the desired state to Git and wait with ArgoCDAppSensor, or switch auto-sync off.",
                )
            revisions = {index: observed.sources[int(index)].target or "HEAD" for index in wanted}
        body: dict[str, Any] = {"infos": [{"name": CORRELATION, "value": key}]}
        if len(observed.sources) == 1:
            body["revision"] = revisions["0"]
        else:
            body["revisions"] = list(revisions.values())
            body["sourcePositions"] = [int(index) + 1 for index in revisions]
        if self.prune is not None:
            body["prune"] = self.prune
        if self.only:
            body["resources"] = self.only
        return body

    def _policy(self, application: Mapping[str, Any]) -> dict[str, Any]:
        """Return options and retries, where any are given: with the application's own, which they would replace."""
        own = (application.get("spec") or {}).get("syncPolicy") or {}
        policy: dict[str, Any] = {}
        if self.sync_options:
            items = merged_options(own.get("syncOptions") or (), self.sync_options)
            policy["syncOptions"] = {"items": items}
        if self.retry_strategy:
            policy["retryStrategy"] = merged_retry(own.get("retry"), self.retry_strategy)
        return policy


def _in_order(wanted: Mapping[str, str], observed: Observed) -> tuple[str, ...]:
    return tuple(wanted.get(str(index), "") for index in range(len(observed.sources)))
