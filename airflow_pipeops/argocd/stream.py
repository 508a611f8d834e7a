"""Argo CD as the source of a shared stream: one watch for all waits and watchers on the same connection and project."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_pipeops.argocd.application import observe, observe_all
from airflow_pipeops.exceptions import BadResponse, InvalidInput, PipeOpsError, Unreachable
from airflow_pipeops.waits.status import Observed
from airflow_pipeops.waits.streams.snapshot import Reading
from airflow_pipeops.waits.streams.source import unknown_credential
from airflow_pipeops.waits.streams.stream import SharedStream, shared_stream

if TYPE_CHECKING:
    from airflow_pipeops.argocd.clients.protocol import AppRef, ArgoCD
    from airflow_pipeops.waits.streams.board import Ticket

log = logging.getLogger(__name__)

#: A connection that is not found so many times in a row, with growing pauses, does not exist.
_MISSING = 6


class ArgoCDSource:
    """One Argo CD. Use it as ``async with``.

    :param client: reaches it, by either way.
    :param project: what is watched; empty for all that the credential may see.
    :param mode: ``stream``, ``poll``, or ``auto``: a stream, and polls where none works.
    """

    home: str | None = None

    def __init__(self, client: ArgoCD, project: str, mode: str) -> None:
        self.streams, self.polls = mode != "poll", mode != "stream"
        self._client, self._project = client, project

    async def __aenter__(self) -> ArgoCDSource:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._client.__aexit__(*error)

    async def events(self) -> AsyncGenerator[Reading, None]:
        """Yield each application's state, and then each change."""
        watch: Any = self._client.watch(project=self._project)
        async with aclosing(watch) as events:
            async for event in events:
                application = event["application"]
                gone = event.get("type") == "DELETED"
                yield _reading(application, None if gone else _observed(application))

    async def read(self, ref: AppRef) -> Reading:
        """Read one application."""
        return await self._read(ref, await self._client.get(self._with_project(ref)))

    async def refresh(self, ref: AppRef) -> Reading | None:
        """Have it compared anew, and read it."""
        application = await self._client.refresh(self._with_project(ref))
        return None if application is None else await self._read(ref, application)

    async def _read(self, ref: AppRef, application: Any) -> Reading:
        return _reading(application, await observe_all(self._client, self._with_project(ref), application))

    def _with_project(self, ref: AppRef) -> AppRef:
        # Without a project, the server does not tell a missing application from a forbidden one.
        return ref if ref.project or not self._project else replace(ref, project=self._project)

    def refused(self, error: PipeOpsError) -> bool:
        """Whether the token itself is no good."""
        return unknown_credential(error)


def watch_of(argocd_conn_id: str, project: str) -> SharedStream:
    """Return the watch that all waits on a connection and project share in this event loop.

    :param project: empty for that of the connection.
    :return: the stream, which may be used by others, too.
    """

    missing = 0

    async def connect() -> ArgoCDSource:
        from airflow_pipeops.argocd.hook import ArgoCDHook

        nonlocal missing
        hook = ArgoCDHook(argocd_conn_id, project=project)
        try:
            client = await hook.aclient()
        except PipeOpsError:
            raise
        except Exception as error:
            # Airflow says "not found" as well where its own API is down for a moment, which should end no wait.
            missing = missing + 1 if type(error).__name__ == "AirflowNotFoundException" else 0
            if missing >= _MISSING:
                raise InvalidInput(
                    f"there is no connection {argocd_conn_id}",
                    field="argocd_conn_id",
                    value=argocd_conn_id,
                    remedy="Define it, or name another one.",
                ) from error
            raise Unreachable(
                f"the connection {argocd_conn_id} cannot be read: {type(error).__name__}"
            ) from error
        missing = 0
        return ArgoCDSource(client, hook.ref("any").project, hook.mode)

    where = f"Argo CD {argocd_conn_id}" + (f", project {project}" if project else "")
    return shared_stream(("argocd", argocd_conn_id, project), where, connect)


class Lookout:
    """The place of one watcher at the stream that all waits and watchers of a triggerer share. Use it as ``with``.

    :param argocd_conn_id: the connection.
    :param project: what is watched; empty for the connection's.
    :param interval: seconds between two looks, where it comes to asking for each application by name.
    """

    def __init__(self, argocd_conn_id: str, project: str, interval: float) -> None:
        self._stream = watch_of(argocd_conn_id, project)
        self._interval = interval
        self._tickets: dict[AppRef, Ticket] = {}
        self._said: dict[AppRef, str] = {}

    def __enter__(self) -> Lookout:
        self._stream.enter()
        return self

    def __exit__(self, *error: object) -> None:
        for ticket in self._tickets.values():
            self._stream.leave(ticket)
        self._tickets.clear()
        self._stream.exit()

    def look(self, ref: AppRef) -> Observed | None:
        """Return an application as it is known now; ``None`` where nothing can be said for the moment.

        :return: what is known.
        :raises PipeOpsError: where the stream has ended, for example because the token is no good.
        """
        ticket = self._tickets.get(ref)
        if ticket is None:
            ticket = self._tickets[ref] = self._stream.join(ref, self._interval, _nothing)
        sight = self._stream.sight(ticket)
        if sight is None:
            return None
        if isinstance(sight.seen, Observed):
            self._said.pop(ref, None)
            return sight.seen
        if self._said.get(ref) != sight.seen.kind:
            self._said[ref] = sight.seen.kind
            log.warning("Looking at %s failed: %s", ref, sight.seen.message or sight.seen.kind)
        return None


def _observed(application: Any) -> Observed | None:
    try:
        return observe(application)
    except BadResponse:
        return None  # unknown from here on, so it is asked for by name


def _reading(application: Any, observed: Observed | None) -> Reading:
    metadata = application.get("metadata") if isinstance(application, dict) else None
    metadata = metadata if isinstance(metadata, dict) else {}
    version = str(metadata.get("resourceVersion") or "")
    return Reading(
        str(metadata.get("namespace") or ""),
        str(metadata.get("name") or ""),
        int(version) if version.isdecimal() else None,
        observed,
    )


def _nothing(_: Any) -> None:
    """A watcher looks at its own pace; nobody need wake it."""
