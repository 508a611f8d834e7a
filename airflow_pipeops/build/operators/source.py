"""What the operators share that work on the source tree of one commit."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink

from airflow_pipeops.base.arguments import matching, positive
from airflow_pipeops.delivery.links import CommitLink
from airflow_pipeops.delivery.operators import DeliveryOperator, idempotency_key, no_retry, order_key

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.build.backends import Worker
    from airflow_pipeops.build.process import Command, Finished
    from airflow_pipeops.git.repository import GitRepository

_SHA = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


class SourceOperator(DeliveryOperator):
    """What works on the source tree of one commit, through a child process.

    :param git_conn_id: connection of type ``git_repository`` with the application's code.
    :param commit: full SHA; templated.
    :param backend: where it is done: ``local`` (on the worker), ``kubernetes``, ``argo_workflows``, or the import path of a
        class of your own.
    :param backend_options: arguments of the backend's class; templated.
    :param timeout: for the whole command.
    """

    template_fields: Sequence[str] = (
        "git_conn_id",
        "commit",
        "backend_options",
        *DeliveryOperator.template_fields,
    )
    operator_extra_links: Sequence[BaseOperatorLink] = (CommitLink(),)

    def __init__(
        self,
        *,
        git_conn_id: str,
        commit: str,
        timeout: timedelta,
        backend: str = "local",
        backend_options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.backend = backend
        self.backend_options = backend_options
        self._backend: Any = None
        self.git_conn_id = git_conn_id
        self.commit = commit
        self.timeout = positive("timeout", timeout)
        self._command: Command | None = None
        self._token = self._key = ""

    def on_kill(self) -> None:
        """End what runs, with everything that it started, here and at the backend."""
        if self._command is not None:
            self._command.kill()
        if self._backend is not None:
            self._backend.kill()

    def resume(
        self, context: Context, event: Mapping[str, Any], request: Mapping[str, Any], key: str
    ) -> dict[str, Any]:
        """Go on after the backend's trigger has fired.

        :param request: as it was begun.
        :param key: under which it was begun: what Airflow calls the task may have changed since, as the map index does where
            the DAG maps the task by now, and the number of retries.
        :return: what the task returns.
        """
        with no_retry(), self._scratch(context) as folder:
            asked = self._asked(request)
            worker = self._worker(context, self._sources(folder), key)
            return self._go_on(context, asked, self._made().resume(asked, worker, event))

    def _go_on(self, context: Context, request: Any, outcome: Any) -> dict[str, Any]:
        """Wait elsewhere, or finish."""
        from airflow_pipeops.build.backends import Waiting

        if isinstance(outcome, Waiting):
            self.defer(
                trigger=outcome.trigger,
                timeout=outcome.timeout,
                method_name="resume",
                kwargs={"request": request.to_json(), "key": self._key},
            )
        return self._finish(context, request, outcome)

    def _asked(self, request: Mapping[str, Any]) -> Any:
        raise NotImplementedError

    def _made(self) -> Any:
        raise NotImplementedError

    def _finish(self, context: Context, request: Any, outcome: Any) -> dict[str, Any]:
        raise NotImplementedError

    def _sources(self, folder: Path) -> Callable[[], Path]:
        """Return what checks out the commit into a folder of its own, each time."""

        def source() -> Path:
            place = Path(tempfile.mkdtemp(prefix="source-", dir=folder))
            self._checkout(place)
            return place

        return source

    def _source_client(self) -> GitRepository:
        remedy = 'Pass the "commit" that ResolveCommitOperator returned (40 hex digits).'
        matching("commit", self.commit, _SHA, "a full SHA", remedy)
        from airflow_pipeops.git.forges import commit_url
        from airflow_pipeops.git.hook import GitHook

        client = GitHook(self.git_conn_id).get_conn()
        self.commit_url = commit_url(client.display_url, self.commit)
        return client

    def _checkout(self, dest: Path) -> None:
        self._source_client().checkout(self.commit, dest)

    @staticmethod
    def _scratch(context: Context) -> AbstractContextManager[Path]:
        from airflow_pipeops.build.process import scratch

        return scratch(f"source {idempotency_key(context)}")

    def _worker(self, context: Context, source: Callable[[], Path], key: str = "") -> Worker:
        from airflow_pipeops.build.backends import Worker

        # Two installations on one machine may have runs of one name.
        who = f"{os.environ.get('AIRFLOW_HOME', '')} {idempotency_key(context)}"
        self._token = hashlib.sha256(who.encode()).hexdigest()
        self._key = key or order_key(context)
        return Worker(context, self._key, source, self._run, self._tell)

    def _tell(self, line: str) -> None:
        self.log.info("%s", line)

    def _run(self, command: Command) -> Finished:
        command.token = self._token or command.token
        self._command = command
        try:
            return command.run()
        finally:
            self._command = None
