"""Watch answers: do they drift, is a new prompt worse, has the model behind the endpoint changed?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_pipeops.base.arguments import instance_of
from airflow_pipeops.base.delimited import Csv
from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry
from airflow_pipeops.drift.operators.comparison import ComparisonOperator
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.llm.production.guard import PromptPolicy, judge
from airflow_pipeops.models.operators.arguments import UI_COLOR, moment, storage_root

if TYPE_CHECKING:
    import pandas as pd
    from airflow.sdk import Context

    from airflow_pipeops.drift.comparison import Comparison
    from airflow_pipeops.drift.operators.inputs import Given
    from airflow_pipeops.drift.sources import Source

#: A rate that moved by so much has drifted: what is rare moves no index of populations.
_RATE = 0.03


class AnswerDriftOperator(ComparisonOperator):
    """Compare what was asked and answered with a pinned window: lengths, languages, refusals, faults, latency, cost.

    Both sides are tables of calls that :class:`~airflow_pipeops.llm.production.operators.SampleTracesOperator` has kept.
    Each call is measured (:mod:`~airflow_pipeops.llm.production.measures`), and the measures are compared as any table; a
    rate (``refused``, ``empty``, ``truncated``, ``repetitive``, ``schema_failed``, ``failed``) that drifts is drift by
    itself. The record and the result hold no text. More parameters are those of
    :class:`~airflow_pipeops.drift.operators.comparison.ComparisonOperator`.

    :param reference: what the sampling returned, which pins it by its digest; or the URI of a table of calls, or several.
    :param current: the same.
    :param output_schema: JSON Schema of an answer, for ``schema_failed``.
    :param rate_threshold: by how much a rate may move.
    :param embed: compare the answers' embeddings, too: ``"module:function"`` from a list of texts to an array of vectors, or
        ``None`` for hashed character n-grams; ``""`` leaves them out.
    """

    subject = "answers"

    def __init__(
        self,
        *,
        reference: Any,
        current: Any,
        output_schema: Mapping[str, Any] | None = None,
        rate_threshold: float = _RATE,
        embed: str | None = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(reference=reference, current=current, **kwargs)
        self.output_schema = output_schema
        self.rate_threshold = rate_threshold
        self.embed = embed
        self._embedding: dict[str, Any] = {}

    def sides(self) -> tuple[Source, Source]:
        """Return the measures of both sides; the texts go no further."""
        from airflow_pipeops.drift.sources import Frame
        from airflow_pipeops.drift.text import embedding_drift
        from airflow_pipeops.llm.production import measures

        calls = [
            _calls(given, field)
            for given, field in ((self.reference, "reference"), (self.current, "current"))
        ]
        tables = [measures.measure(frame, self.output_schema) for frame, _ in calls]
        # What neither side tells, such as a cost without prices, is no column.
        kept = [name for name in measures.COLUMNS if any(table[name].notna().any() for table in tables)]
        rates = [name for name in measures.RATES if name in kept]
        asked = self.settings
        self.settings = replace(
            asked,
            critical=tuple({*asked.critical, *rates}),
            methods={**dict.fromkeys(rates, "total_variation"), **asked.methods},
            thresholds={**dict.fromkeys(rates, self.rate_threshold), **asked.thresholds},
        )
        if self.embed != "":
            found = embedding_drift(*(list(frame["answer"]) for frame, _ in calls), embed=self.embed)
            self._embedding = found.to_json()
        first, second = (
            Frame(table[kept], name=name) for table, (_, name) in zip(tables, calls, strict=True)
        )
        return first, second

    def facts(self, found: Comparison) -> dict[str, Any]:
        """Add the embeddings' distance."""
        return {**super().facts(found), "embedding": self._embedding}

    def result(self, found: Comparison) -> Mapping[str, Any]:
        """Add the embeddings' distance."""
        return {**super().result(found), "embedding": self._embedding}


class PromptGuardOperator(DeliveryOperator):
    """Hold a new prompt against the one before it, by conversations, and decide.

    Judged are thumbs down, which come late and are joined as labels are, and hard failures (an error, no answer, an answer
    against its schema). It may be run as often as you like: the error holds at all looks together. See
    ``docs/llm-production.md``.

    Returns ``{verdict, act, propose, revert, reason, test, conversations, compared, odds, at_least, evidence, needed, down,
    rates, counts, record_id}``; ``revert`` is the commit that :class:`~airflow_pipeops.git.operators.GitOpsRevertOperator`
    shall take back, empty unless the verdict is ``worse`` and the mode is not ``observe``.

    :param app: whose calls.
    :param new: digest of the new prompt; templated.
    :param before: digest of the one before it; templated.
    :param since: when the new one was released, in ISO 8601; templated.
    :param feedback: thumbs: files, a table or a query; as for other operators. Without any, hard failures are judged alone.
    :param policy: when a prompt goes back.
    :param commit: that released the new prompt; templated.
    :param output_schema: JSON Schema of an answer.
    :param key: column of ``feedback`` with the id of a request.
    :param at: its column with the time of the thumb.
    :param thumb: its column with the thumb: ``up`` or ``down``, 1 or 0; null takes one back.
    :param artifacts_conn_id: where calls are kept.
    :param storage_conn_id: connection of type ``pipeops_storage`` for relative names or credentials.
    :param csv: what CSV files do not say of themselves: the fields of :class:`~airflow_pipeops.base.delimited.Csv`.
    """

    template_fields: Sequence[str] = (
        "app", "new", "before", "since", "feedback", "commit", *DeliveryOperator.template_fields,
    )  # fmt: skip
    emits: ClassVar[tuple[str, ...]] = ("evaluation",)
    ui_color = UI_COLOR

    def __init__(
        self,
        *,
        app: str,
        new: str,
        before: str,
        since: str,
        feedback: Given | None = None,
        policy: PromptPolicy | None = None,
        commit: str = "",
        output_schema: Mapping[str, Any] | None = None,
        key: str = "request_id",
        at: str = "at",
        thumb: str = "thumb",
        artifacts_conn_id: str = "pipeops_artifacts",
        storage_conn_id: str | None = None,
        csv: Csv | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.app, self.new, self.before, self.since, self.commit = app, new, before, since, commit
        self.feedback = feedback
        self.policy = instance_of("policy", policy or PromptPolicy(), PromptPolicy, "Give a PromptPolicy.")
        if feedback is None:
            self.policy = replace(self.policy, thumbs=False)
        self.output_schema = output_schema
        self.columns = {"key": key, "at": at, "thumb": thumb}
        self.artifacts_conn_id = artifacts_conn_id
        self.storage_conn_id = storage_conn_id
        self.csv = Csv.of(csv)

    def execute(self, context: Context) -> dict[str, Any]:
        """Read, join, look, decide, record."""
        from airflow_pipeops.llm.production import feedback, measures, store

        with no_retry():
            since, now = self._since(), datetime.now(timezone.utc)
            first = since - timedelta(weeks=1) if self.policy.design == "before" else since
            root = storage_root(self.artifacts_conn_id)
            calls = store.calls(store.windows(root, self.app, first), first)
            calls = calls[calls["prompt_digest"].isin([self.new, self.before])].reset_index(drop=True)
            measured = measures.measure(calls, self.output_schema)
            found, counts = feedback.conversations(calls, measured, self._thumbs(), **self.columns)
            seen = feedback.look(found, self.new, self.before, self.policy, now)
            decision = judge(seen, self.policy)
            self.log.info("%s: %s", decision.verdict, decision.reason)
            facts = {
                **decision.to_json(),
                "app": self.app,
                "prompt_digest": self.new,
                "before": self.before,
                "design": self.policy.design,
                "metric": decision.test,
                "revert": self.commit if decision.act or decision.propose else "",
                "rates": [one.to_json() for one in feedback.rates(found, self.policy.delay, now)],
                "counts": counts.to_json(),
            }
            record = self.emit(context, "evaluation", {"subject": "prompt guard", **facts})
        return {**facts, "record_id": record}

    def _since(self) -> datetime:
        if not self.new or not self.before or self.new == self.before:
            raise InvalidInput(
                f"the new prompt is {self.new!r}, and the one before {self.before!r}",
                field="new",
                value=self.new,
                remedy="Give the digests of two prompts.",
            )
        since = moment("since", self.since)
        if since is None:
            raise InvalidInput(
                "since is empty", field="since", remedy="Say when the new prompt was released."
            )
        return since if since.tzinfo else since.replace(tzinfo=timezone.utc)

    def _thumbs(self) -> pd.DataFrame:
        import pandas as pd

        from airflow_pipeops.drift.engines.rows import read_rows
        from airflow_pipeops.drift.operators.inputs import source_of

        names = list(self.columns.values())
        if self.feedback is None:
            return pd.DataFrame({name: pd.Series(dtype=object) for name in names})
        source = source_of(self.feedback, "feedback", self.storage_conn_id, self.csv)
        return read_rows(source, "feedback", columns=names)


def _calls(given: Any, field: str) -> tuple[pd.DataFrame, str]:
    """Read tables of calls; one whose digest is given must have it."""
    from airflow_pipeops.models import storage

    digest = None
    if isinstance(given, Mapping):
        digest, given = given.get("sha256"), given.get("uri")
    uris = [given] if isinstance(given, str) else list(given or ())
    if not uris or not all(isinstance(uri, str) and uri for uri in uris):
        raise InvalidInput(
            f"{field} names no calls",
            field=field,
            remedy="Pass sample.output, or the URI of a table of calls.",
        )
    table = storage.read_table(uris, field=field)
    if digest:
        storage.demand(uris[0], table.digest, str(digest))
    return table.frame, uris[0].rsplit("/", 2)[-2][:12] if len(uris) == 1 else f"{len(uris)} tables"
