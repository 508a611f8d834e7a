"""Batch scoring as tasks: which version is promoted, and a partition scored by it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, ClassVar, get_args

from airflow_pipeops.base.arguments import mapping, not_empty, one_of, one_or_more, positive
from airflow_pipeops.base.delimited import Csv
from airflow_pipeops.build.operators.elsewhere import ElsewhereOperator, RunIn
from airflow_pipeops.delivery.holds import HOLDS, demand_admitted
from airflow_pipeops.delivery.links import ReportLink
from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.operators.arguments import UI_COLOR, check_name, registry_of, storage_root
from airflow_pipeops.serving.batch.contract import ScoreContract
from airflow_pipeops.serving.batch.manifest import Pinned, Rescore
from airflow_pipeops.serving.batch.scoring import EXPECTATION_ROWS, Order, pinned_now, score

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.build.elsewhere import Work
    from airflow_pipeops.delivery.records import Record
    from airflow_pipeops.drift.operators.inputs import Given


class PromotedModelOperator(DeliveryOperator):
    """Name the version that is promoted in an environment, once for all tasks that score by it.

    The desired state in Git names a digest, and an alias in the registry a version; where they do not say the same, the task
    fails and names both, since nobody knows then what is promoted. What is returned is pinned: an alias that moves while
    partitions are scored changes nothing for them.

    Returns ``{name, version, sha256, artifact_uri, reference_uri, commit, pinned_at, record_id}``; ``record_id`` is that of
    the version's *model* record, where the deliverable's ``model`` asset is among the task's ``inlets``.

    :param model: name of the model; templated.
    :param file: of the desired state that names the version, as a path in the repository; templated.
    :param digest_at: path of the value in it that is the model's digest, as for ``GitOpsCommitOperator``.
    :param version_at: path of the value that is its version; by default only the digest is compared.
    :param alias: in the registry of what is promoted in this environment.
    :param revision: of the desired state; by default the tip of the branch; templated.
    :param git_conn_id: connection of type ``git_repository`` with the desired state.
    :param mlflow_conn_id: the registry.
    """

    template_fields: Sequence[str] = ("model", "file", "revision", *DeliveryOperator.template_fields)
    ui_color = UI_COLOR

    def __init__(
        self,
        *,
        model: str,
        file: str,
        digest_at: str,
        version_at: str = "",
        alias: str = "champion",
        revision: str = "",
        git_conn_id: str = "pipeops_gitops_repo",
        mlflow_conn_id: str = "mlflow_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.file = file
        self.digest_at = digest_at
        self.version_at = version_at
        self.alias = alias
        self.revision = revision
        self.git_conn_id = git_conn_id
        self.mlflow_conn_id = mlflow_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Ask both."""
        from airflow_pipeops.git.hook import GitHook
        from airflow_pipeops.git.values.edits import get_values
        from airflow_pipeops.serving.batch.promoted import agreed

        with no_retry():
            check_name(self.model)
            repository = GitHook(self.git_conn_id).get_conn()
            commit = repository.resolve(self.revision)
            paths = {"sha256": self.digest_at, "version": self.version_at}
            text = repository.read(self.file, commit).decode("utf-8", "replace")
            said = get_values(text, [path for path in paths.values() if path])
            pinned = agreed(
                self.model,
                {name: said[path] for name, path in paths.items() if path},
                registry_of(self.mlflow_conn_id).by_alias(self.model, self.alias),
                alias=self.alias,
                where=f"{self.file}: {self.digest_at}",
                commit=commit,
                at=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            )
            self.log.info("Promoted: %s, by %s at %s", pinned, self.file, commit[:7])
            record = self._record(context, pinned)
            return {**pinned.to_json(), "record_id": record.id if record else None}

    def _record(self, context: Context, pinned: Pinned) -> Record | None:
        from airflow_pipeops.delivery.events import records_on

        if self.deliverable is None or self.deliverable.model not in self.inlets:
            return None
        found = records_on(context, self.deliverable.model)
        return next((one for one in reversed(found) if one.body.get("sha256") == pinned.sha256), None)


class BatchScoreOperator(ElsewhereOperator):
    """Score a partition by a pinned model version: once for each content of its rows, version and contract.

    The rows are read in batches, so that memory does not grow with them, and twice: their digest tells whether they have
    been scored, and whether they changed while they were. Scores are written beside, and put in place by a manifest that is
    created where there is none; a retry finds it. What readers see of a partition is the newest entry of a history, which
    moves only when the contract holds afterwards: see ``docs/batch.md``.

    Returns ``{partition, name, outcome, reason, rows, model, version, sha256, commit, key, input_digest, output_digest,
    manifest, shown, shown_at, current, scores, notes, suite, shadows, engine, seconds, record_id}``. ``outcome`` is
    ``scored``; ``found``, where these rows were scored by this version before; ``kept``, where another version has scored
    them and is to stay; or ``superseded``, where a later run has decided meanwhile what readers see. Expand it over
    partitions with ``partial(...).expand_kwargs(...)``.

    :param partition: name of the partition; in ISO form where it is a time; templated.
    :param data: its rows: a URI, a list of them, or ``{"table": ..., "conn_id": ...}``, ``{"query": ..., "conn_id": ...}``;
        templated.
    :param model: what :class:`PromotedModelOperator` or ``RegisterModelOperator`` returned: a version with its digest, and
        never a name or an alias; templated.
    :param key: column or columns that name a row.
    :param carry: further columns that are written beside the scores, such as a label or a day.
    :param name: of the scores; by default that of the model.
    :param shadows: challengers as ``model``: they score the same rows in the same scan, and no reader sees their scores;
        templated.
    :param contract: what is demanded of rows and scores: a
        :class:`~airflow_pipeops.serving.batch.contract.ScoreContract`, or a mapping of its fields.
    :param expectations: a suite of Great Expectations that the rows must pass, as for ``ValidateDataOperator``. Rows
        that were scored under another one are judged by it, and not scored again.
    :param rescore: what is done with a partition that another version has scored: ``none`` leaves it, ``since`` scores those
        from ``since`` on again, ``all`` all of them. Rows that have changed are scored again in any case.
    :param since: name of the first partition that is scored again; templated.
    :param run_in: ``worker``; ``kubernetes``, as a Job; or ``argo``, as a workflow. The scores are the same.
    :param run_options: of where it runs: ``image``, ``secrets`` and ``env``, and else the arguments of
        :class:`~airflow_pipeops.build.elsewhere.KubernetesWork` or of
        :class:`~airflow_pipeops.argo_workflows.operators.workflow.ArgoWorkflowOperator`; templated.
    :param spark_config: settings of a Spark session that reads and scores the rows, in place of this process.
    :param timeout: for the work in a cluster.
    :param storage_conn_id: where scores are kept.
    :param data_conn_id: connection of type ``pipeops_storage`` for files that need credentials, or have relative names.
    :param csv: what CSV files do not say of themselves: the fields of :class:`~airflow_pipeops.base.delimited.Csv`.
    :param trusted: types that a stored model may hold beyond scikit-learn's own.
    :param expectation_rows: rows that the suite is judged on at most: it needs them in memory at once.
    :param holds_conn_id: connection of the remediator's history: a partition that it keeps out, by the partition's name, a
        URI of its rows or the name of a file of them, is not scored. Empty: nothing is asked. Where the default is not
        configured, nothing is kept out.
    :raises DataRejected: if the rows are not what the contract demands, or are kept out; nothing is written.
    :raises ModelRejected: if the scores are not; readers see what they saw.
    :raises Conflict: if the rows changed meanwhile, or scores are in place that are not what they should be.
    """

    template_fields: Sequence[str] = (
        "partition",
        "data",
        "model",
        "shadows",
        "since",
        "expectations",
        *ElsewhereOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"data": "json", "expectations": "json"}
    emits: ClassVar[tuple[str, ...]] = ("scores",)
    operator_extra_links = (ReportLink(),)
    ui_color = UI_COLOR

    def __init__(
        self,
        *,
        partition: str,
        data: Given,
        model: Any,
        key: str | Sequence[str],
        carry: Sequence[str] = (),
        name: str = "",
        shadows: Sequence[Any] = (),
        contract: ScoreContract | Mapping[str, Any] | None = None,
        expectations: Any = (),
        rescore: Rescore = "none",
        since: str = "",
        run_in: RunIn = "worker",
        run_options: Mapping[str, Any] | None = None,
        spark_config: Mapping[str, str] | None = None,
        timeout: timedelta = timedelta(hours=6),
        storage_conn_id: str = "pipeops_artifacts",
        data_conn_id: str = "",
        csv: Csv | Mapping[str, Any] | None = None,
        trusted: Sequence[str] = (),
        expectation_rows: int = EXPECTATION_ROWS,
        holds_conn_id: str = HOLDS,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.partition = partition
        self.data = data
        self.model = model
        self.key = one_or_more("key", key, str)
        not_empty(
            "key", [one for one in self.key if one], "no column names a row", "For example key='order_id'."
        )
        self.carry = one_or_more("carry", carry, str)
        self.name = name
        self.shadows = shadows
        self.contract = contract if isinstance(contract, ScoreContract) else contract_of(contract)
        self.expectations = expectations
        self.rescore: Rescore = one_of("rescore", rescore, get_args(Rescore))
        self.since = since
        if rescore == "since":
            not_empty("since", since, "since names no partition", "Name the first one that is scored again.")
        self.run_in: RunIn = one_of("run_in", run_in, get_args(RunIn))
        self.run_options = run_options
        self.spark_config = spark_config
        self.timeout = positive("timeout", timeout)
        self.storage_conn_id = storage_conn_id
        self.data_conn_id = data_conn_id
        self.csv = csv
        Csv.of(csv)
        self.trusted = one_or_more("trusted", trusted, str)
        self.expectation_rows = expectation_rows
        self.holds_conn_id = holds_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Score here, or where it is told to."""
        with no_retry():
            self._demand_admitted()
            if self.run_in == "worker":
                return self._record(context, self._scored(self._order()))
            return self.away(context)

    def work(self) -> Work:
        """Return what is done elsewhere."""
        from airflow_pipeops.build.elsewhere import Work

        return Work(
            "score",
            "airflow_pipeops.serving.batch.pod",
            "manifest",
            "this package and its extras mlflow and drift",
            "Name expectations by import path, and files by a folder or a pattern.",
        )

    def arguments(self) -> dict[str, Any]:
        """Return the order, as JSON."""
        return self._order().to_json()

    def finished(self, context: Context, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Record a partition that was scored elsewhere; what its answer had no room for, the manifest says."""
        return self._record(context, {"notes": [], "scores": {}, "shadows": [], "reason": "", **answer})

    def _demand_admitted(self) -> None:
        files = [self.data] if isinstance(self.data, str) else self.data
        named = [one for one in files if isinstance(one, str)] if isinstance(files, (list, tuple)) else []
        if self.holds_conn_id:
            demand_admitted(str(self.partition), *named, storage_conn_id=self.holds_conn_id)

    def _order(self) -> Order:
        csv = asdict(self.csv) if isinstance(self.csv, Csv) else dict(self.csv or {})
        shadows = self.shadows or ()
        return Order(
            partition=str(self.partition),
            data=self.data,
            model=pinned_now(Pinned.of(self.model)),
            key=self.key,
            name=self.name,
            carry=self.carry,
            shadows=tuple(Pinned.of(one, f"shadows[{place}]") for place, one in enumerate(shadows)),
            contract=self.contract,
            expectations=self.expectations,
            rescore=self.rescore,
            since=str(self.since),
            storage_conn_id=self.storage_conn_id,
            data_conn_id=self.data_conn_id,
            csv=csv,
            trusted=self.trusted,
            expectation_rows=self.expectation_rows,
            spark=dict(self.spark_config) if self.spark_config is not None else None,
        )

    def _scored(self, order: Order) -> dict[str, Any]:
        return score(order, storage_root(self.storage_conn_id), self._tell)

    def _record(self, context: Context, facts: dict[str, Any]) -> dict[str, Any]:
        """Keep the manifest as evidence, and say what became of the partition."""
        self.log.info(
            "Partition %s: %s%s",
            facts["partition"],
            facts["outcome"],
            f" ({facts['reason']})" if facts["reason"] else "",
        )
        for note in facts["notes"]:
            self.log.warning("%s", note)
        kept = []
        if self.deliverable is not None and facts["manifest"]:
            from airflow_pipeops.models import storage

            content = json.loads(storage.get(facts["manifest"]))
            kept = [
                self.keep(
                    context, json.dumps(content, indent=1, sort_keys=True), "scores.json", "application/json"
                )
            ]
        record_id = self.emit(context, "scores", facts, commit=facts["commit"] or None, evidence=kept)
        return {**facts, "record_id": record_id}

    def _tell(self, line: str) -> None:
        self.log.info("%s", line)


def contract_of(given: Mapping[str, Any] | None) -> ScoreContract:
    """Read a contract that was given as a mapping.

    :param given: of the fields of a contract.
    :return: the contract.
    :raises InvalidInput: for a field that it has not.
    """
    known = tuple(ScoreContract.__dataclass_fields__)
    given = mapping("contract", given or {}, "Give ScoreContract(), or a mapping of its fields.")
    if unknown := sorted(map(str, set(given) - set(known))):
        raise InvalidInput(
            f"contract has the unknown {', '.join(unknown)}",
            field="contract",
            value=unknown,
            remedy=f"It may have {', '.join(known)}.",
        )
    return ScoreContract.from_json(given)
