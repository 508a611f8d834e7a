"""Wait until a prompt is live, by the calls that are made with it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_pipeops.base.arguments import given, positive, still_given
from airflow_pipeops.delivery.operators import no_retry
from airflow_pipeops.exceptions import NotJudged, PipeOpsError, Unreachable, WaitTimeout
from airflow_pipeops.llm.production.triggers import PromptLiveTrigger
from airflow_pipeops.models.operators.arguments import moment, storage_root
from airflow_pipeops.waits.expectation import Verdict
from airflow_pipeops.waits.operators import VerdictWaitOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.llm.production.liveness import Expected


class PromptLiveSensor(VerdictWaitOperator):
    """Wait until the calls of an application are made with a prompt, and record its release.

    It is live when all sampled calls of ``settle`` carry its digest, after ``cache`` has passed since it was released, and
    there were at least ``least``. Calls are those that
    :class:`~airflow_pipeops.llm.production.operators.SampleTracesOperator` keeps: let it run meanwhile. Where calls are too
    few, carry no digest, or were not sampled, nobody can tell: it waits, and fails at last. It is never green by silence.

    Returns ``{app, revision, prompt_digest, health, rule, reason, proven_by, calls, record_id}``.

    :param app: whose calls.
    :param digest: of the prompt that was released; templated.
    :param released: when it was, in ISO 8601; templated. By default, when the task begins.
    :param before: digests that were live before; templated. Calls of others only, and nothing of it, mean that another
        prompt was released since.
    :param revision: commit that released it, for the record; templated.
    :param cache: for how long an application may hold the prompt before; 60 s in MLflow's client.
    :param least: calls that are needed within ``settle``.
    :param artifacts_conn_id: where calls are kept.
    :param settle: the window in which all calls must carry the digest.
    :param poll_interval: between two looks.
    """

    template_fields: Sequence[str] = (
        "app",
        "digest",
        "released",
        "before",
        "revision",
        *VerdictWaitOperator.template_fields,
    )
    emits = ("release",)
    errors: ClassVar[Mapping[str, type[PipeOpsError]]] = {
        "deadline": WaitTimeout,
        "superseded": NotJudged,
        "unreadable": Unreachable,
    }
    ui_color = "#e9f3ee"

    def __init__(
        self,
        *,
        app: str,
        digest: str,
        released: str = "",
        before: str | Sequence[str] = (),
        revision: str = "",
        cache: timedelta = timedelta(seconds=60),
        least: int = 20,
        artifacts_conn_id: str = "pipeops_artifacts",
        settle: timedelta = timedelta(minutes=2),
        poll_interval: timedelta = timedelta(seconds=15),
        **kwargs: Any,
    ) -> None:
        super().__init__(settle=settle, poll_interval=poll_interval, **kwargs)
        self.app, self.digest, self.released, self.revision = app, digest, released, revision
        self.before = before
        self.cache = positive("cache", cache, zero=True)
        self.least = least
        self.artifacts_conn_id = artifacts_conn_id
        self._demanded = given(digest=digest, released=released, revision=revision)

    def execute(self, context: Context) -> dict[str, Any]:
        """Wait."""
        from airflow_pipeops.llm.production.look import judged
        from airflow_pipeops.llm.production.store import app_name

        with no_retry():
            still_given(self, self._demanded)
            begun, app = time.time(), app_name(self.app)
            expected = self._expected(begun)
            facts = {"app": app, "revision": self.revision or None, "prompt_digest": expected.digest}
            root = storage_root(self.artifacts_conn_id)
            verdict = self.until_told(
                lambda: judged(root, app, expected, time.time() - begun, self.log.info),
                lambda: PromptLiveTrigger(
                    artifacts_conn_id=self.artifacts_conn_id,
                    app=app,
                    expected=expected.to_json(),
                    facts=facts,
                    begun=begun,
                    poll_interval=self.poll_interval.total_seconds(),
                ),
            )
            return self.finish(context, verdict, facts)

    def _expected(self, begun: float) -> Expected:
        from airflow_pipeops.llm.production.liveness import Expected

        released = moment("released", self.released)
        if released is not None and released.tzinfo is None:
            released = released.replace(tzinfo=timezone.utc)
        before = (self.before,) if isinstance(self.before, str) else tuple(self.before)
        return Expected(
            self.digest,
            begun if released is None else released.timestamp(),
            self.cache,
            self.settle,
            self.least,
            tuple(one for one in before if one and one != self.digest),
            self.timeout.total_seconds(),
        )

    def finish(self, context: Context, verdict: Verdict, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Say by what the release is proved, and record it."""
        self.demand_done(verdict, f"prompt {facts['prompt_digest'][:12]} of {facts['app']}")
        result = {
            **facts,
            "health": "Healthy",
            "rule": verdict.rule,
            "reason": verdict.reason,
            "proven_by": "sampled calls",
            "calls": verdict.details.get("calls", 0),
            "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        return {**result, "record_id": self.emit(context, "release", result)}
