"""Look at an object of Flux again and again, and ask its controllers to hurry, until the verdict is in."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_pipeops.exceptions import AccessDenied, BadResponse, NotFound, PipeOpsError, Unreachable
from airflow_pipeops.flux.kinds import Ref
from airflow_pipeops.flux.objects import absent, observe
from airflow_pipeops.flux.rules import RULEBOOK
from airflow_pipeops.waits.status import Observed, Trouble
from airflow_pipeops.waits.verdict import Verdict
from airflow_pipeops.waits.wait import Decided, Wait

if TYPE_CHECKING:
    from airflow_pipeops.flux.client import All, FluxClient, Gathered
    from airflow_pipeops.git.ancestry import ChartHistory

log = logging.getLogger(__name__)

Gather = Callable[[Ref], Awaitable["Gathered"]]
Request = Callable[[Ref, str], Awaitable[str]]


def token_base(key: str) -> str:
    """Return what all requests of one task to reconcile begin with.

    :param key: the task's identity.
    :return: the beginning.
    """
    return f"pipeops-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


class Asking:
    """Asks controllers to reconcile, where a verdict says that this would help.

    :param request: asks for one reconciliation; returns the token of a request of somebody else where that will do.
    :param base: what the requests of this task begin with; empty: ask nobody.
    """

    def __init__(self, request: Request, base: str) -> None:
        self._request, self._base = request, base
        self._asked: dict[Ref, str] = {}
        #: The kinds that the credential may not ask.
        self._refused: set[str] = set()

    async def ask(self, verdict: Verdict, wait: Wait) -> None:
        """Ask whom the verdict names. That it cannot be asked ends no wait: the controllers come round by themselves."""
        whom = verdict.details.get("ask")
        if not self._base or not verdict.refresh or not whom or whom[0] in self._refused:
            return
        ref = Ref(*whom)
        again = verdict.rule == "not_answered"
        token = wait.state.expectation.operation_id if again else f"{self._base}.ask{wait.state.memory.asks}"
        try:
            self._asked[ref] = await self._request(ref, token)
        except AccessDenied as error:
            self._refused.add(ref.kind)
            log.warning("Cannot ask for a reconciliation, and waits for the next one by itself: %s", error)
        except PipeOpsError as error:
            log.info("Cannot ask for a reconciliation now: %s", error)

    def acknowledged(self, seen: Observed) -> Observed:
        """Return a look, marked where it shows the source to have answered."""
        source = seen.reconciled.source if seen.reconciled else None
        if source is None:
            return seen
        ref = Ref(*source.key)
        if not source.handled or self._asked.get(ref) != source.handled:
            return seen
        del self._asked[ref]
        return replace(seen, refreshed=True)


async def look(ref: Ref, gather: Gather, all_of: All) -> Observed | Trouble:
    """Look once.

    :param ref: the object.
    :param gather: reads it and all that decides about it.
    :param all_of: reads all objects of a kind, for what may bring an object that is not there.
    :return: what is seen, or why nothing is.
    """
    from airflow_pipeops.flux.client import fetchers

    try:
        try:
            found = await gather(ref)
        except NotFound:
            return absent(ref, await fetchers(ref, all_of))
        hidden = {ref: why for ref, why in found.hidden.items() if ref in found.deciding}
        seen = observe(found, found.missing, hidden)
    except AccessDenied as error:
        return Trouble("denied", str(error))
    except Unreachable as error:
        return Trouble("unreachable", str(error))
    except BadResponse as error:
        return Trouble("nonsense", str(error))
    notes = tuple(f"the credential may not see {one}" for one in found.hidden if one not in hidden)
    return replace(seen, warnings=seen.warnings + notes)


class FluxController:
    """Flux, as whoever waits for its objects sees it.

    :param gather: reads an object and all that decides about it.
    :param all_of: reads all objects of a kind in a namespace.
    :param asking: asks controllers to reconcile where that would help.
    :param client: looks up why a wait has failed.
    :param charts: tells from Git whether a chart was changed without a new version.
    """

    rulebook = RULEBOOK

    def __init__(
        self,
        gather: Gather,
        all_of: All,
        asking: Asking,
        client: FluxClient | None = None,
        charts: ChartHistory | None = None,
    ) -> None:
        self._gather, self._all_of, self._asking, self._client = gather, all_of, asking, client
        self._charts = charts

    async def look(self, ref: Ref) -> Observed | Trouble:
        """Read an object and all that decides about it."""
        seen = await look(ref, self._gather, self._all_of)
        if not isinstance(seen, Observed):
            return seen
        return self._asking.acknowledged(await self._proven(seen))

    async def _proven(self, seen: Observed) -> Observed:
        """Return a look with what Git knows of a chart's files; where it cannot be asked, nothing is proven."""
        chain = seen.reconciled
        release, chart = chain.release, chain.chart
        if (
            self._charts is None
            or release is None
            or not release.unproven
            or chart is None
            or not chart.built
        ):
            return seen
        if chain.chart_source is None or chain.chart_source.key not in [one.key for one in chain.sources]:
            return seen
        try:
            unbumped = await self._charts(release.chart_path, chart.built[0])
        except PipeOpsError as error:
            release = replace(release, unasked=str(error))
        else:
            release = replace(release, unbumped=unbumped, unproven=release.unproven if unbumped else "")
        return replace(seen, reconciled=replace(chain, release=release))

    async def judged(self, wait: Wait) -> Verdict:
        """Look once, judge, and ask where that would help."""
        verdict = await wait.judge(await self.look(wait.ref))
        await self.refresh(wait)
        return verdict

    async def refresh(self, wait: Wait) -> None:
        """Ask whom the verdict names; the answer comes with another look."""
        await self._asking.ask(wait.state.verdict, wait)

    async def explain(self, ref: Ref, decided: Decided) -> str:
        """Return why a wait has failed."""
        from airflow_pipeops.flux.reports import compose, explain

        return (
            compose(ref, decided, None) if self._client is None else await explain(self._client, ref, decided)
        )


def wait_to_json(wait: Wait) -> dict[str, Any]:
    """Return a wait as it travels in a trigger's arguments."""
    ref: Ref = wait.ref
    return {
        "kind": ref.kind,
        "namespace": ref.namespace,
        "name": ref.name,
        "expectation": wait.state.expectation.to_json(),
        "memory": wait.state.memory.to_json(),
    }
