"""Challengers that score what the default model was asked, in a process of their own.

They can neither slow the answer by the interpreter's lock nor fail it by what they do: the process has a lower priority,
few requests wait for it, and where it dies another one is started later. What was not scored is counted.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.features.sets import to_serve
from airflow_pipeops.models.outputs import outputs_of, predicted
from airflow_pipeops.models.samples import Scored
from airflow_pipeops.redaction import excerpt

if TYPE_CHECKING:
    from airflow_pipeops.models.artifact import Loaded
    from airflow_pipeops.serving.api.metrics import Metrics
    from airflow_pipeops.serving.api.sampling import Sampler
    from airflow_pipeops.serving.api.settings import Served

#: How many requests may wait for the shadows.
WAITING = 100
#: Seconds after which a process is started again that has died.
_PAUSE = 30.0
#: Seconds for loading the models.
_PATIENCE = 300.0

_loaded: dict[tuple[str, str], Loaded] = {}
_trusted: tuple[str, ...] = ()


class Shadows:
    """The challengers of one server.

    :param models: those whose role is ``shadow``.
    :param trusted: types that their artifacts may hold.
    """

    def __init__(
        self, models: Sequence[Served], trusted: Sequence[str], sampler: Sampler, metrics: Metrics
    ) -> None:
        self._models, self._trusted = {(one.name, one.version): one for one in models}, tuple(trusted)
        self._sampler, self._metrics = sampler, metrics
        self._waiting, self._lock = 0, threading.Lock()
        self._not_before = 0.0
        self._pool = self._started()

    def load(self, asked: Mapping[str, Mapping[str, str]]) -> None:
        """Load each model in the process; one that cannot score what is asked is left out, and said so.

        :param asked: name of a model -> the features that its default takes.
        """
        for key, served in list(self._models.items()):
            try:
                features, outputs = self._pool.submit(_describe, served).result(_PATIENCE)
                _refuse_others(features, asked[served.name])
                self._sampler.add(served, features, outputs)
            except Exception as error:  # nothing that a challenger does may fail the answer
                del self._models[key]
                said = excerpt(str(error) or type(error).__name__, 300)
                print(f"no shadow of {served}: {said}", file=sys.stderr, flush=True)
                if isinstance(error, BrokenExecutor):
                    self._pool = self._started()
            else:
                self._metrics.loaded(served)

    def offer(self, name: str, scored: Scored, size: int) -> None:
        """Let the challengers of a model score a request, where few are waiting.

        :param name: of the model.
        :param scored: what was answered, with all values of the request.
        :param size: of the request, in bytes.
        """
        for served in self._models.values():
            if served.name != name:
                continue
            running = self._submit(served, scored.columns)
            if running is None:
                self._sampler.lost(served, "shadow_busy", scored.rows)
            else:
                running.add_done_callback(partial(self._scored, served, scored, size))

    def close(self, seconds: float) -> None:
        """Wait for what is being scored, and end the process."""
        ends = time.monotonic() + seconds
        while self._waiting and time.monotonic() < ends:
            time.sleep(0.02)
        for process in list((getattr(self._pool, "_processes", None) or {}).values()):
            process.kill()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _submit(self, served: Served, columns: Mapping[str, Sequence[Any]]) -> Future[Any] | None:
        with self._lock:
            if self._waiting >= WAITING or time.monotonic() < self._not_before:
                return None
            try:
                found = self._pool.submit(_score, served, columns)
            except BrokenExecutor:
                self._not_before = time.monotonic() + _PAUSE
                self._pool = self._started()
                return None
            self._waiting += 1
            return found

    def _scored(self, served: Served, scored: Scored, size: int, done: Future[Any]) -> None:
        with self._lock:
            self._waiting -= 1
        try:
            outputs = done.result()
        except BaseException:  # also a cancelled one: a challenger is asked again, and never believed
            self._sampler.lost(served, "shadow_failed", scored.rows)
            return
        self._sampler.offer(
            served, Scored(scored.request_id, scored.at, scored.columns, outputs, scored.rows), size
        )

    def _started(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(self._trusted,)
        )


def _begin(trusted: tuple[str, ...]) -> None:
    """Prepare the process: it gives way to others, ends with its parent, and with nobody else."""
    global _trusted
    _trusted = trusted
    os.nice(10)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
        os._exit(0)

    threading.Thread(target=follow, daemon=True).start()


def _refuse_others(features: Mapping[str, str], asked: Mapping[str, str]) -> None:
    if others := [name for name, kind in features.items() if asked.get(name) != kind]:
        raise InvalidInput(
            f"it takes {', '.join(others)}, which requests for the default do not have, or as another type",
            field="models",
            value=others,
        )


def _describe(served: Served) -> tuple[dict[str, str], dict[str, str]]:
    loaded = _load(served)
    return dict(loaded.manifest.features), outputs_of(loaded.model)


def _score(served: Served, columns: Mapping[str, Sequence[Any]]) -> dict[str, list[float]]:
    loaded = _load(served)
    try:
        return predicted(loaded.model, columns, loaded.manifest.features)
    except (
        Exception
    ) as error:  # not each one can be sent to the parent, and it would take the process for dead
        raise RuntimeError(f"{type(error).__name__}: {error}") from None


def _load(served: Served) -> Loaded:
    key = served.name, served.version
    if key not in _loaded:
        try:
            _loaded[key] = to_serve(served.uri, served.sha256, trusted=_trusted)
        except Exception as error:
            raise RuntimeError(f"{type(error).__name__}: {error}") from None
    return _loaded[key]
