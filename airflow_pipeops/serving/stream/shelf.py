"""The models that a member holds: loaded and verified beside the work, by digest, and let go when no release needs them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from airflow_pipeops.exceptions import PipeOpsError

if TYPE_CHECKING:
    from airflow_pipeops.models.artifact import Loaded
    from airflow_pipeops.serving.stream.releases import Release

#: Seconds after which a model that could not be loaded is tried again.
AGAIN = 20.0


class Shelf:
    """Loads models one after the other in a thread.

    :param trusted: further types that an artifact may hold.
    :param clock: seconds that do not jump.
    """

    def __init__(self, trusted: tuple[str, ...], clock: Callable[[], float] = time.monotonic) -> None:
        self._trusted, self._clock = trusted, clock
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="models")
        self._held: dict[str, Future[Loaded]] = {}
        self._failed: dict[str, tuple[float, str]] = {}

    def want(self, releases: Iterable[Release]) -> None:
        """Hold the models of these releases, and no others."""
        wanted = {one.model.sha256: one.model.uri for one in releases}
        for sha256 in [one for one in self._held if one not in wanted]:
            self._held.pop(sha256).cancel()
        for sha256, uri in wanted.items():
            failed = self._failed.get(sha256)
            if sha256 not in self._held and (failed is None or self._clock() - failed[0] >= AGAIN):
                self._held[sha256] = self._pool.submit(self._load, uri, sha256)

    def get(self, release: Release) -> Loaded | None:
        """Return the model of a release; ``None`` while it is not loaded."""
        future = self._held.get(release.model.sha256)
        if future is None or not future.done() or future.cancelled():
            return None
        error = future.exception()
        if error is None:
            self._failed.pop(release.model.sha256, None)
            return future.result()
        del self._held[release.model.sha256]
        said = str(error) if isinstance(error, PipeOpsError) else f"{type(error).__name__}: {error}"
        self._failed[release.model.sha256] = (self._clock(), said)
        return None

    def refused(self, release: Release) -> str:
        """Return why the model of a release could not be loaded; empty where it is not known that it cannot."""
        return self._failed.get(release.model.sha256, (0.0, ""))[1]

    def close(self) -> None:
        """Load no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _load(self, uri: str, sha256: str) -> Loaded:
        from airflow_pipeops.models.features.sets import to_serve

        return to_serve(uri, sha256, trusted=self._trusted)
