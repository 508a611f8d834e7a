"""What a shared stream needs to be told of a server, and of an application on it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Protocol

from airflow_pipeops.exceptions import AccessDenied, BadResponse, NotFound, PipeOpsError, Unreachable
from airflow_pipeops.waits.status import Trouble, TroubleKind
from airflow_pipeops.waits.streams.snapshot import Reading


class Ref(Protocol):
    """Names one application. Hashable."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def namespace(self) -> str:
        """Its namespace; empty for the controller's own."""

    @property
    def project(self) -> str:
        """Its project; empty for any."""


class Source(Protocol):
    """Talks to one server. Its errors are :class:`~airflow_pipeops.exceptions.PipeOpsError`."""

    #: Whether a stream is tried, and whether the server may be polled where none works.
    streams: bool
    polls: bool
    #: The namespace that a reference without one means; ``None`` where only an answer tells.
    home: str | None

    def events(self) -> AsyncGenerator[Reading, None]:
        """Yield the present state of everything, then each change; raise when it ends or falls silent."""

    async def read(self, ref: Any) -> Reading:
        """Read one application."""

    async def refresh(self, ref: Any) -> Reading | None:
        """Have it compared anew, and read it; ``None`` where that was not acknowledged in time."""

    def refused(self, error: PipeOpsError) -> bool:
        """Whether an error means that the credential itself is no good (any more)."""


def problem_of(error: PipeOpsError) -> Trouble | PipeOpsError:
    """Return what an error means to a wait: trouble that may pass, or an end.

    :return: the error itself where looking again cannot help.
    """
    kinds: dict[type[PipeOpsError], TroubleKind] = {
        AccessDenied: "denied",
        NotFound: "missing",
        Unreachable: "unreachable",
        BadResponse: "nonsense",
    }
    for kind, name in kinds.items():
        if isinstance(error, kind):
            return Trouble(name, str(error))
    return error


def unknown_credential(error: PipeOpsError) -> bool:
    """Whether a server says that it does not know the credential, and not that it may not do this one thing.

    :return: true for an answer 401.
    """
    return isinstance(error, AccessDenied) and "(401)" in error.message
