"""Is the released model worse than the one before it?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_pipeops.base.arguments import instance_of
from airflow_pipeops.base.delimited import Csv
from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry
from airflow_pipeops.exceptions import InvalidInput, NotFound, PipeOpsError
from airflow_pipeops.models.desired import WantedModel, wanted_model
from airflow_pipeops.models.labels.joining import AT
from airflow_pipeops.models.operators.arguments import (
    UI_COLOR,
    data_uris,
    figure,
    labelled_of,
    moment,
    registry_of,
)
from airflow_pipeops.models.performance import METRICS
from airflow_pipeops.models.rollback.guard import GuardDecision, GuardPolicy, Seen, judge

if TYPE_CHECKING:
    import pandas as pd
    from airflow.sdk import Context

    from airflow_pipeops.git.repository import GitRepository
    from airflow_pipeops.models.registry import ModelVersion, Registry
    from airflow_pipeops.models.rollback.target import Lived

#: Predictions count from the release on.
RELEASE = "release"


class ModelGuardOperator(DeliveryOperator):
    """Hold the released model against the one that was live before it, on the same labelled rows, and decide.

    The released model is the one that Git wants; the one before is the last other one that was live in this environment by
    the records of its releases, and was not taken back. Its scores are those that were kept beside the release's (a shadow),
    or it scores the rows of ``data`` again. Only what is worse beyond doubt goes back: see ``docs/model-guard.md``.

    Returns ``{verdict, act, propose, reason, look, days, next_look, alpha, value, interval, release, before, rows, since,
    order, record_id}``; ``order`` is what :class:`~airflow_pipeops.models.operators.rollback.ModelRollbackOperator` takes,
    ``None`` where there is no model before.

    :param model: its name in the registry.
    :param labelled: what :class:`~airflow_pipeops.models.operators.labels.JoinLabelsOperator` returned; templated.
    :param desired: where Git names the model: a :class:`~airflow_pipeops.models.desired.ModelInGit`, or a mapping of its
        fields; of a stream a :class:`~airflow_pipeops.serving.stream.desired.ModelInTable`.
    :param policy: when a release goes back.
    :param since: from when on predictions count: ``release``, the commit that brought the model to Git; or a time, where the
        predictions have another clock than Git, as those of replayed data; templated.
    :param before: version to hold it against, instead of the one that was live before; templated.
    :param data: Parquet or CSV files with the features of the rows and their key, to let the model before score them where
        it has not; templated.
    :param delay: after which the labels of a day should be there.
    :param min_coverage: share of a day's labels that must be there then.
    :param positive: the label that counts as positive; by default labels are 0 and 1.
    :param threshold: from this score on, a row counts as positive, for metrics of classes.
    :param estimated: an estimate of the release's metric without labels, a number or ``{"value"}``; it can only ask for
        labels; templated.
    :param expected: what that metric should be; templated.
    :param alias: that follows a rollback.
    :param trusted: types that a stored model may hold beyond scikit-learn's own.
    :param git_conn_id: the repository of the desired state.
    :param mlflow_conn_id: the registry.
    :param csv: what CSV files do not say of themselves: the fields of :class:`~airflow_pipeops.base.delimited.Csv`.
    """

    template_fields: Sequence[str] = (
        "model", "labelled", "since", "before", "data", "estimated", "expected", *DeliveryOperator.template_fields,
    )  # fmt: skip
    emits: ClassVar[tuple[str, ...]] = ("evaluation",)
    ui_color = UI_COLOR

    def __init__(
        self,
        *,
        model: str,
        labelled: Any,
        desired: WantedModel | Mapping[str, Any],
        policy: GuardPolicy | None = None,
        since: str = RELEASE,
        before: str = "",
        data: str | Sequence[str] = "",
        delay: timedelta = timedelta(days=1),
        min_coverage: float = 0.8,
        positive: Any = None,
        threshold: float = 0.5,
        estimated: Any = None,
        expected: Any = None,
        alias: str = "champion",
        trusted: Sequence[str] = (),
        git_conn_id: str = "pipeops_gitops_repo",
        mlflow_conn_id: str = "mlflow_default",
        csv: Csv | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        from airflow_pipeops.models.labels.cohorts import Ask

        self.model = model
        self.labelled = labelled
        self.desired = wanted_model(desired)
        self.policy = instance_of("policy", policy or GuardPolicy(), GuardPolicy, "Give a GuardPolicy.")
        self.ask = Ask(
            self.policy.metric,
            delay=delay,
            min_coverage=min_coverage,
            positive=positive,
            threshold=threshold,
        )
        self.since = since
        self.before = before
        self.data = data
        self.estimated = estimated
        self.expected = expected
        self.alias = alias
        self.trusted = trusted
        self.git_conn_id = git_conn_id
        self.mlflow_conn_id = mlflow_conn_id
        self.csv = Csv.of(csv)
        if self.deliverable is not None and self.environment is not None:
            known = (self.deliverable.released(self.environment), self.deliverable.model)
            self.inlets = [*self.inlets, *(asset for asset in known if asset not in self.inlets)]

    def execute(self, context: Context) -> dict[str, Any]:
        """Find both models, look, decide, record."""
        from airflow_pipeops.git.hook import GitHook
        from airflow_pipeops.models.rollback.saga import RollbackOrder

        with no_retry():
            git, registry = GitHook(self.git_conn_id).get_conn(), registry_of(self.mlflow_conn_id)
            release = self._version(registry, self.desired.digest(git))
            lived = self._lived(context, git)
            before = self._before(lived, registry, release)
            since, order = self._since(git), None
            if before is None:
                unfit = f"no other model than version {release.version} was live before, so there is none to go back to"
                decision = judge(Seen(0, unfit=unfit), self.policy)
            else:
                decision, evidence = self._decided(release, before, since)
                order = RollbackOrder(
                    self.model,
                    release.version,
                    release.sha256,
                    before.version,
                    before.sha256,
                    decision.reason,
                    self.alias,
                    revision=next(
                        (one.revision for one in reversed(lived) if one.sha256 == release.sha256), ""
                    ),
                    evidence=evidence,
                    origin=self._origin(context, before),
                    verdict=decision.verdict,
                )
            self.log.info("%s: %s", decision.verdict, decision.reason)
            facts = {
                **decision.to_json(),
                "metric": self.policy.metric,
                "since": since.isoformat() if since else None,
                "order": order.to_json() if order else None,
            }
            record = self.emit(context, "evaluation", {"subject": "guard", **facts})
        return {**facts, "record_id": record}

    def _version(self, registry: Registry, sha256: str) -> ModelVersion:
        found = registry.find(self.model, sha256) if sha256 else None
        if found is None:
            raise NotFound(
                f"Git wants the model {sha256[:12] or '(none)'} in {self.desired.file}, and the registry has no version of "
                f"{self.model!r} with that digest",
                remedy="Register it, or look who wrote it.",
            )
        return found

    def _lived(self, context: Context, git: GitRepository) -> list[Lived]:
        """Return the models that were live, by the records of their releases."""
        from airflow_pipeops.delivery.events import records_on
        from airflow_pipeops.models.rollback.target import Lived

        if self.deliverable is None or self.environment is None:
            return []
        records = records_on(context, self.deliverable.released(self.environment))
        revisions = [one.body.get("revision") for one in records]
        return [
            Lived(self._digest_at(git, revision), revision)
            for revision in revisions
            if isinstance(revision, str) and revision
        ]

    def _origin(self, context: Context, before: ModelVersion) -> str:
        """Return the id of the record by which the model before was registered; empty where there is none."""
        from airflow_pipeops.delivery.events import records_on

        known = records_on(context, self.deliverable.model) if self.deliverable is not None else []
        return next((one.id for one in known if one.body.get("sha256") == before.sha256), "")

    def _before(
        self, lived: Sequence[Lived], registry: Registry, release: ModelVersion
    ) -> ModelVersion | None:
        """Return the version to go back to, as far as it is known."""
        from airflow_pipeops.models.rollback.target import before

        if self.before:
            return registry.version(self.model, str(self.before))
        versions = {
            sha256: registry.find(self.model, sha256) for sha256 in {one.sha256 for one in lived} - {""}
        }
        barred = {sha256 for sha256, found in versions.items() if found is None or found.blocked}
        found = before(lived, release.sha256, barred)
        return versions[found.sha256] if found else None

    def _digest_at(self, git: GitRepository, revision: str) -> str:
        """Return the digest that a released commit wants; empty where it names none."""
        try:
            return self.desired.digest(git, revision)
        except (InvalidInput, NotFound) as error:
            self.log.warning("Release %s names no model: %s", revision[:12], error.message)
            return ""

    def _since(self, git: GitRepository) -> datetime | None:
        """Return from when on predictions count; ``None`` where nobody can tell."""
        if self.since != RELEASE:
            given = moment("since", self.since)
            if given is None:
                raise InvalidInput(
                    "since is empty", field="since", remedy=f"Give {RELEASE!r}, or a time such as 2026-01-31."
                )
            return given if given.tzinfo else given.replace(tzinfo=timezone.utc)
        commit = self.desired.brought(git)
        return datetime.fromisoformat(commit.time) if commit else None

    def _decided(
        self, release: ModelVersion, before: ModelVersion, since: datetime | None
    ) -> tuple[GuardDecision, str]:
        """Return the decision, and the digest of the rows that it rests on."""
        from airflow_pipeops.models.rollback.looks import look

        frame, digest = self._rows(before)
        if since is None:
            unfit = "Git does not say since when the release is wanted: name since="
            return judge(Seen(0, unfit=unfit), self.policy), digest
        if unfit := self._learned([release, before], frame, since):
            return judge(Seen(0, unfit=unfit), self.policy), digest
        now = datetime.now(timezone.utc)
        seen = look(frame, release.sha256, before.sha256, self.policy, self.ask, now, since)
        estimated, expected = figure("estimated", self.estimated), figure("expected", self.expected)
        higher = METRICS[self.policy.metric].higher_is_better
        seen = replace(seen, estimated=estimated, expected=expected, higher_is_better=higher)
        return judge(seen, self.policy), digest

    def _learned(self, models: Sequence[ModelVersion], frame: pd.DataFrame, since: datetime) -> str:
        """Say which model has learned from rows of the time on which both are judged; empty where none is known to."""
        from airflow_pipeops.models.artifact import manifest_of
        from airflow_pipeops.models.times import predicted_after

        at = frame[AT][frame[AT] >= since]
        for one in models:
            try:
                until = manifest_of(one.artifact_uri, one.sha256).trained_until
            except PipeOpsError as error:
                if error.retryable:
                    raise
                self.log.warning(
                    "Up to when version %s has learned nobody can tell: %s", one.version, error.message
                )
                continue
            if until and len(at) and predicted_after(at, until) is False:
                return f"version {one.version} has learned from rows up to {until}, and predictions from then on judge it"
        return ""

    def _rows(self, before: ModelVersion) -> tuple[pd.DataFrame, str]:
        """Return the joined rows, with those of the model before."""
        from airflow_pipeops.models import artifact, storage
        from airflow_pipeops.models.rollback.looks import rescored

        frame, digest = labelled_of(self.labelled)
        if self.data:
            data, _ = storage.read_tables(data_uris(self.data), self.csv)
            loaded = artifact.load(before.artifact_uri, before.sha256, trusted=self.trusted)
            frame = rescored(frame, data, loaded.model, before.sha256, self.ask)
        return frame, digest
