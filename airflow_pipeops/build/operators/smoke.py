"""Ask a running service a few questions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_pipeops.base.connections import known_to_airflow, read
from airflow_pipeops.base.http import base_url, trusting
from airflow_pipeops.delivery.operators import no_retry
from airflow_pipeops.exceptions import GateFailed, Unreachable
from airflow_pipeops.redaction import redacted

if TYPE_CHECKING:
    from airflow.sdk import Context


class SmokeTestOperator(BaseOperator):
    """Ask a running service a few questions; the task succeeds only if every answer is as expected.

    :param http_conn_id: connection of type ``http``: host is the base URL, password an optional bearer token; extra
        ``verify_tls`` (true) and ``ca_file``.
    :param checks: ``{"path": "/healthz", "status": 200, "contains": "ok", "json": {...}}`` each; templated.
    :param request_timeout: for one question.
    :param attempts: how often one question is asked where the answer is late, absent, 429, 502, 503 or 504.
    :return: ``{checks: [{path, status, milliseconds}], url}``
    :raises Unreachable: if only such transient answers are wrong.
    :raises GateFailed: if an answer is wrong.
    """

    template_fields: Sequence[str] = ("http_conn_id", "checks")
    ui_color = "#fff8e1"

    def __init__(
        self,
        *,
        http_conn_id: str,
        checks: Sequence[Mapping[str, Any]],
        request_timeout: timedelta = timedelta(seconds=10),
        attempts: int = 3,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.http_conn_id = http_conn_id
        self.checks = checks
        self.request_timeout = request_timeout
        self.attempts = attempts

    def execute(self, context: Context) -> dict[str, Any]:
        """Ask, compare, and name every answer that is wrong."""
        from airflow_pipeops.build import smoke

        with no_retry():
            checks = smoke.read_checks(self.checks)
            url, token, verify = self._endpoint()
            answers = smoke.ask(
                url,
                checks,
                token=token,
                timeout=self.request_timeout,
                attempts=max(1, self.attempts),
                verify=verify,
                tell=lambda line: self.log.warning("%s", line),
            )
            wrong = [answer for answer in answers if answer.problem]
            if wrong:
                kind = Unreachable if all(answer.transient for answer in wrong) else GateFailed
                said = "; ".join(f"{answer.path}: {answer.problem}" for answer in wrong)
                raise kind(
                    f"{len(wrong)} of {len(answers)} smoke tests failed against {url}: {redacted(said, known_to_airflow)}",
                    remedy="Look at the service's own log.",
                )
        found = [{"path": a.path, "status": a.status, "milliseconds": a.milliseconds} for a in answers]
        return {"checks": found, "url": url}

    def _endpoint(self) -> tuple[str, str | None, Any]:
        connection = read(self.http_conn_id, "http")
        host = (connection.host or "").rstrip("/")
        if host and "://" not in host:
            host = f"{connection.schema or 'http'}://{host}"
        if connection.port and not re.search(r":\d+$", host):
            host = f"{host}:{connection.port}"
        host = base_url(host, field=f"{self.http_conn_id}.host", of=f"connection {self.http_conn_id!r}")
        return host, connection.password or None, trusting(connection.extra_dejson)
