"""Have Flux reconcile an object now, leave it alone, take it up again, and say what drifted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow_pipeops.base.arguments import one_of, positive
from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.delivery.operators import no_retry, order_key
from airflow_pipeops.exceptions import (
    AccessDenied,
    DriftFound,
    InvalidInput,
    NotFound,
    PipeOpsError,
    Unreachable,
)
from airflow_pipeops.flux.base import FluxOperator, FluxWaitOperator
from airflow_pipeops.flux.kinds import REQUESTED_AT, Ref, source_of
from airflow_pipeops.flux.objects import observe
from airflow_pipeops.flux.waits import token_base
from airflow_pipeops.waits.expectation import Match
from airflow_pipeops.waits.wait import Decided

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.flux.client import FluxClient
    from airflow_pipeops.flux.status import Stage

#: A source that was asked to fetch has so long (seconds) before its object is asked; the wait goes on either way.
_FETCH = 30.0


class FluxReconcileOperator(FluxWaitOperator):
    """Ask Flux to reconcile an object now, and wait until it is ready.

    That the request was *handled* is not waited for alone: Flux says so of a suspended object, of one whose dependency is
    not ready, and of a failed attempt as well. The request carries the task's identity, and is looked up before another is
    made, so a worker that dies finds its own again; one that has ended badly is made anew.

    Returns ``{kind, name, namespace, revision, chart, health, rule, reason, warnings, request, attached}``.

    :param revision: full commit id or digest that it must be ready at; empty: that which the source holds now. Templated.
    :param with_source: have the source fetch first.
    :param force: of a HelmRelease: install or upgrade even if nothing has changed.
    :param reset: of a HelmRelease: count failures from zero, which takes up a release that has given up.
    """

    template_fields: Sequence[str] = ("revision", *FluxOperator.template_fields)

    def __init__(
        self,
        *,
        revision: str | Mapping[str, str] = "",
        with_source: bool = False,
        force: bool = False,
        reset: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.revision, self.with_source, self.force, self.reset = revision, with_source, force, reset
        if (force or reset) and self.kind == "Kustomization":
            raise InvalidInput(
                "force and reset are for Helm releases",
                field="force" if force else "reset",
                value=True,
                remedy="Set kind='HelmRelease', or leave it out; a Kustomization has spec.force.",
            )

    def execute(self, context: Context) -> dict[str, Any]:
        """Find our request again or make one; then wait."""
        with no_retry():
            hook, base = self.hook(), token_base(order_key(context))
            given: Match = "contains" if self.git_conn_id else "exact"
            match: Match = given if self.revision else "any"
            expectation = self.expected(self.revision, match)
            token, attached = hook.run(
                lambda client: self._request(client, hook.ref(self.kind, self.name), base)
            )
            method = "execute_attached" if attached else "execute_complete"
            expectation = replace(expectation, operation_id=token)
            return self._finish(self.wait(expectation, context, method), attached)

    def execute_complete(
        self, context: Context, event: Mapping[str, Any] | None = None, *, attached: bool = False
    ) -> dict[str, Any]:
        """Go on after the deferral."""
        with no_retry():
            return self._finish(self.resumed(event), attached)

    def execute_attached(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on after the deferral of a wait for a request that was found again."""
        return self.execute_complete(context, event, attached=True)

    def _finish(self, decided: Decided, attached: bool) -> dict[str, Any]:
        request = decided.expectation.operation_id
        return {**self.demand(decided), "request": request, "attached": attached}

    async def _request(self, client: FluxClient, ref: Ref, base: str) -> tuple[str, bool]:
        found = await client.gather(ref)
        chain = observe(found, found.missing).reconciled
        assert chain is not None
        token, attached = our_token(chain.main, base)
        if attached:
            self.log.info("Found our own request again: %s", token)
            return token, True
        if self.with_source:
            await self._fetch(client, found, token)
        try:
            await client.request(ref, token, force=self.force, reset=self.reset)
        except Unreachable:
            # The server may have written it before the answer was lost.
            again = await client.get(ref)
            if text(map_(map_(again.get("metadata")).get("annotations")).get(REQUESTED_AT)) != token:
                raise
        return token, False

    async def _fetch(self, client: FluxClient, found: Sequence[Mapping[str, Any]], token: str) -> None:
        """Have each source fetch, those first that others are made from, and wait a little for the answers."""
        for ref in sources(found):
            try:
                await client.request(ref, token)
            except (AccessDenied, NotFound) as error:
                self.log.warning("The source cannot be asked to fetch: %s", error)
                continue
            end = time.monotonic() + _FETCH
            while time.monotonic() < end:
                status = map_((await client.get(ref)).get("status"))
                if text(status.get("lastHandledReconcileAt")) == token:
                    break
                await asyncio.sleep(min(1.0, self.poll_interval.total_seconds()))
            else:
                self.log.warning("%s has not answered the request to fetch within %.0f s", ref, _FETCH)


class FluxSuspendOperator(FluxOperator):
    """Have Flux leave an object alone. Doing it twice changes nothing.

    Returns ``{kind, name, namespace, changed}``.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        """Suspend, unless it is suspended."""
        with no_retry():
            hook = self.hook()

            async def work(client: FluxClient) -> bool:
                ref = hook.ref(self.kind, self.name)
                if is_suspended(await client.get(ref)):
                    return False
                await client.suspend(ref)
                return True

            changed = hook.run(work)
            self.log.info("%s: %s", self.name, "suspended" if changed else "is suspended already")
            return {"kind": self.kind, "name": self.name, "namespace": hook.namespace, "changed": changed}


class FluxResumeOperator(FluxWaitOperator):
    """Have Flux look after an object again, and wait until it is ready. Doing it twice changes nothing.

    Returns ``{kind, name, namespace, changed}``, and with ``wait_for_ready`` also what the wait found.

    :param wait_for_ready: wait until it is ready at what its source holds.
    """

    def __init__(self, *, wait_for_ready: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.wait_for_ready = wait_for_ready

    def execute(self, context: Context) -> dict[str, Any]:
        """Resume, unless it is resumed; then wait."""
        with no_retry():
            hook, base = self.hook(), token_base(order_key(context))

            async def work(client: FluxClient) -> tuple[bool, str]:
                ref = hook.ref(self.kind, self.name)
                item = await client.get(ref)
                if not is_suspended(item):
                    asked = text(map_(map_(item.get("metadata")).get("annotations")).get(REQUESTED_AT))
                    return False, asked if asked.startswith(f"{base}.") else ""
                token = f"{base}.{item['metadata'].get('generation', 0)}"
                await client.resume(ref, token)
                return True, token

            changed, token = hook.run(work)
            self.log.info("%s: %s", self.name, "resumed" if changed else "is not suspended")
            base_result = {
                "kind": self.kind,
                "name": self.name,
                "namespace": hook.namespace,
                "changed": changed,
            }
            if not self.wait_for_ready:
                return base_result
            method = "execute_changed" if changed else "execute_complete"
            decided = self.wait(self.expected("", "any", operation_id=token), context, method)
            return {**self.demand(decided), **base_result}

    def execute_complete(
        self, context: Context, event: Mapping[str, Any] | None = None, *, changed: bool = False
    ) -> dict[str, Any]:
        """Go on after the deferral."""
        with no_retry():
            return {**self.demand(self.resumed(event)), "changed": changed}

    def execute_changed(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on after the deferral of a wait that followed a resumption."""
        return self.execute_complete(context, event, changed=True)


class FluxDriftOperator(FluxOperator):
    """Say whether the cluster differs from what Flux applied, as far as Flux itself says so.

    Of a HelmRelease: its ``Drifted`` condition, and what was put right within ``since``, where drift detection is on; where
    it is off, nobody looks, the verdict is ``unknown``, and the log says what to set. Of a Kustomization: what was put right
    within ``since``. That stands in events; a cluster keeps those for an hour by default and merges equal ones, and a
    controller leaves some out. Where that hides something, the verdict is ``unknown``, or ``corrected`` with a warning that
    there may be more.

    Returns ``{kind, name, namespace, verdict, mode, revision, resources, more, message, warning}``; ``verdict`` is
    ``clean``, ``drifted``, ``corrected`` or ``unknown``. Objects are named, and never their values.

    :param since: how far back corrections count.
    :param on_drift: ``accept`` (the verdict is a result), or ``fail`` the task, without retry, where it is ``unknown``, too.
    :param on_unknown: ``accept`` lets the gate that ``on_drift="fail"`` makes open where Flux cannot tell.
    :raises DriftFound: if it drifted, was corrected, or nobody can tell, and ``on_drift`` is ``fail``.
    """

    def __init__(
        self,
        *,
        since: timedelta = timedelta(hours=1),
        on_drift: Literal["accept", "fail"] = "accept",
        on_unknown: Literal["fail", "accept"] = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.since = positive("since", since)
        self.on_drift = one_of("on_drift", on_drift, ("accept", "fail"))
        self.on_unknown = one_of("on_unknown", on_unknown, ("fail", "accept"))

    def execute(self, context: Context) -> dict[str, Any]:
        """Look once."""
        with no_retry():
            hook = self.hook()
            begin = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - self.since.total_seconds()))

            async def work(client: FluxClient) -> dict[str, Any]:
                return await _drift(client, hook.ref(self.kind, self.name), begin)

            found = hook.run(work)
            if found["warning"]:
                self.log.warning("%s", found["warning"])
            if self.on_drift == "fail" and found["verdict"] in ("drifted", "corrected"):
                named = ", ".join(f"{one['kind']}/{one['name']}" for one in found["resources"][:5])
                raise DriftFound(
                    f"{self.kind} {self.name} is {found['verdict']}: {named or found['message']}"
                )
            if self.on_drift == self.on_unknown == "fail" and found["verdict"] == "unknown":
                raise DriftFound(
                    f"nobody can tell whether {self.kind} {self.name} drifted: {found['warning']}",
                    remedy="See docs/flux.md, Drift; on_unknown='accept' lets this pass.",
                )
            return found


async def _drift(client: FluxClient, ref: Ref, begin: str) -> dict[str, Any]:
    from airflow_pipeops.flux.differences import verdict_on

    item, events, warning = await client.get(ref), None, ""
    try:
        item, events = await client.with_events(ref)
    except PipeOpsError as error:
        if error.retryable:
            raise
        warning = f"the events of {ref} cannot be read: {error}"
    found = verdict_on(item, events, begin)
    return {**found, "warning": "; ".join(filter(None, [found["warning"], warning]))}


def our_token(main: Stage, base: str) -> tuple[str, bool]:
    """Return the token of our request, and whether it was made before; one that has ended badly is not taken up.

    :param main: the object.
    :param base: what the requests of this task begin with.
    :return: the token, and whether it was made before.
    """
    ours = [
        value
        for value in (main.requested, main.handled)
        if value.startswith(f"{base}.") and ".ask" not in value
    ]
    if not ours:
        return f"{base}.1", False
    token = ours[0]
    ended_badly = main.handled == token and main.ready == "False" and (bool(main.stalled) or not main.busy)
    if not ended_badly:
        return token, True
    number = token.rpartition(".")[2]
    return f"{base}.{int(number) + 1 if number.isdecimal() else 1}", False


def sources(found: Sequence[Mapping[str, Any]]) -> list[Ref]:
    """Return the sources of an object, those first that others are made from."""
    main, *others = found
    around = {(text(item.get("kind")), text(map_(item.get("metadata")).get("name"))): item for item in others}
    if main.get("kind") == "Kustomization":
        at = source_of(main)
        return [at] if at else []
    refs: list[Ref] = []
    for (kind, name), item in around.items():
        ref = Ref(kind, text(map_(item.get("metadata")).get("namespace")), name)
        if kind == "HelmChart":
            beyond = source_of(item)
            refs = [*([beyond] if beyond else []), ref]
        elif kind == "OCIRepository" and map_(map_(main.get("spec")).get("chartRef")).get("name") == name:
            refs = [ref]
    return refs


def is_suspended(item: Mapping[str, Any]) -> bool:
    """Whether the controller leaves an object alone."""
    return map_(item.get("spec")).get("suspend") is True
