"""Take a model back on both sides: Git first, then, once it is proven to run, the alias in the registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_pipeops.base.arguments import mapping, not_empty, one_of
from airflow_pipeops.base.delimited import Csv
from airflow_pipeops.base.documents import map_, parsed, text, time_of
from airflow_pipeops.delivery.ledger.checkpoints import to_commit
from airflow_pipeops.delivery.operators import DeliveryOperator, idempotency_key, no_retry, order_of
from airflow_pipeops.exceptions import InvalidInput, ModelRejected, NotFound, PipeOpsError
from airflow_pipeops.models.desired import WantedModel, wanted_model
from airflow_pipeops.models.operators.arguments import UI_COLOR, data_uris, registry_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.git.repository import GitRepository
    from airflow_pipeops.models.registry import ModelVersion
    from airflow_pipeops.models.rollback.fitness import Fit, Image, Today
    from airflow_pipeops.models.rollback.proof import Proof
    from airflow_pipeops.models.rollback.saga import Begun, ModelRollback, RollbackOrder


class ModelRollbackOperator(DeliveryOperator):
    """Begin the rollback of a model: see that the one before still fits, commit it to Git, block the bad version.

    However often the task is tried, and whatever dies on the way, it makes one commit. It is skipped where the guard wants
    nothing taken back; and where another task has ordered the same, and then says who does it. What follows waits until the
    commit is live, proves which model runs, and ends with :class:`FinishModelRollbackOperator`.

    Returns ``{commit, changed, file, set, previous, order, fit, model, version, artifact_uri, sha256, record_id}``, where
    ``model``, ``version``, ``artifact_uri`` and ``sha256`` are of the model that runs again. Of a stream, also ``release``:
    it is announced, and begins by :class:`~airflow_pipeops.serving.stream.operators.StreamBeginOperator`.

    :param order: what :class:`~airflow_pipeops.models.operators.guard.ModelGuardOperator` returned, whose ``act`` or
        ``propose`` must say so; or its ``order`` alone, which is carried out; templated.
    :param desired: where Git names the model: a :class:`~airflow_pipeops.models.desired.ModelInGit`, or a mapping of its
        fields; of a stream a :class:`~airflow_pipeops.serving.stream.desired.ModelInTable`.
    :param data: Parquet or CSV files of today, whose columns the model before must find; templated.
    :param max_age: how long ago the model before may have learned its last row.
    :param image: that will serve the model before, to be looked for in its registry: its name, or ``{"file", "at"}``, the
        file of the desired state and the path in it at which it stands; templated.
    :param registry_conn_id: that registry, a connection of type ``container_registry``.
    :param on_unknown: what happens where nobody can tell whether it fits: ``fail``, or ``accept``.
    :param trusted: types that a stored model may hold beyond scikit-learn's own.
    :param git_conn_id: the repository of the desired state.
    :param mlflow_conn_id: the registry.
    :param csv: what CSV files do not say of themselves: the fields of :class:`~airflow_pipeops.base.delimited.Csv`.
    :raises ModelRejected: if the model before does not fit, or nobody can tell; nothing has changed then.
    :raises ReleaseFailed: if Git wants a third model by now.
    """

    template_fields: Sequence[str] = ("order", "data", "image", *DeliveryOperator.template_fields)
    emits: ClassVar[tuple[str, ...]] = ("change",)
    ui_color = UI_COLOR

    def __init__(
        self,
        *,
        order: Any,
        desired: WantedModel | Mapping[str, Any],
        data: str | Sequence[str] = "",
        max_age: timedelta | None = None,
        image: str | Mapping[str, str] = "",
        registry_conn_id: str = "",
        on_unknown: str = "fail",
        trusted: Sequence[str] = (),
        git_conn_id: str = "pipeops_gitops_repo",
        mlflow_conn_id: str = "mlflow_default",
        csv: Csv | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.order = order
        self.desired = wanted_model(desired)
        self.data = data
        self.max_age = max_age
        self.image = image
        self.registry_conn_id = registry_conn_id
        self.on_unknown = one_of("on_unknown", on_unknown, ("fail", "accept"))
        self.trusted = trusted
        self.git_conn_id = git_conn_id
        self.mlflow_conn_id = mlflow_conn_id
        self.csv = Csv.of(csv)

    def execute(self, context: Context) -> dict[str, Any]:
        """Check, commit, block, record."""
        from airflow_pipeops.git.hook import GitHook
        from airflow_pipeops.models.rollback.saga import ModelRollback

        with no_retry():
            self._wanted()
            order = ordered(self.order)
            git = GitHook(self.git_conn_id).get_conn()
            rollback = ModelRollback(git, registry_of(self.mlflow_conn_id), self.desired, order)
            target = rollback.target()
            fit = None
            if (
                rollback.wanted() != order.before_sha256
            ):  # else an earlier attempt, or another task, has checked it
                fit = self._fit(target, git)
                self._demand(fit, order)
            source = {"Airflow-Dag": context["ti"].dag_id, "Airflow-Run": context["ti"].run_id}
            trailers = source | to_commit()
            begun = rollback.begin(idempotency_key(context), again=order_of(context), trailers=trailers)
            if not begun.mine:
                self._skip(rollback, begun)
            facts = {
                "commit": begun.commit,
                "changed": True,
                "file": self.desired.file,
                "set": dict(begun.values),
                "previous": dict(begun.previous),
            }
            where = {"repository": git.display_url, "branch": git.branch}
            # What runs again was made from what it was made from; not approved, though, by whoever approved it then.
            record = self.emit(
                context,
                "change",
                {
                    **facts,
                    **where,
                    "reverts": order.revision or None,
                    "order": order.id,
                    "reason": order.reason,
                },
                parents=[order.origin],
            )
        return {
            **facts,
            "order": order.to_json(),
            "fit": fit.to_json() if fit else None,
            "model": target.name,
            "version": target.version,
            "artifact_uri": target.artifact_uri,
            "sha256": target.sha256,
            **self.desired.told(begun.values),
            "record_id": record,
        }

    def _wanted(self) -> None:
        """Skip what a guard has looked at and wants left as it is: its order is that of any verdict."""
        from airflow.sdk.exceptions import AirflowSkipException

        said = map_(self.order)
        guard = {"order", "verdict"} <= said.keys()  # an order has a verdict, too
        if guard and not (said.get("act") or said.get("propose")):
            raise AirflowSkipException(
                f"The guard takes nothing back: {said['verdict']}. {said.get('reason')}"
            )

    def _fit(self, target: ModelVersion, git: GitRepository) -> Fit:
        from airflow_pipeops.models import artifact
        from airflow_pipeops.models.rollback.fitness import Old, judge

        try:
            manifest = artifact.load(target.artifact_uri, target.sha256, trusted=self.trusted).manifest
        except PipeOpsError as error:
            if error.retryable:
                raise
            return judge(Old(target.version, target.blocked, error.message), None)
        age = _age(manifest.trained_until)
        old = Old(target.version, target.blocked, "", manifest.features, age)
        return judge(old, self._today(manifest.features), max_age=self.max_age, image=self._image(git))

    def _image(self, git: GitRepository) -> Image | None:
        """Look for the image that Git wants to serve the model, whatever the model: the rollback does not change it."""
        from airflow_pipeops.build.hook import RegistryHook
        from airflow_pipeops.build.references import parse
        from airflow_pipeops.git.values.edits import get_values
        from airflow_pipeops.models.rollback.fitness import Image

        name = self.image
        if isinstance(name, Mapping):
            file, at = text(name.get("file")), text(name.get("at"))
            not_empty(
                "image", file and at, "image names no value", 'Give {"file": ..., "at": ...}, or its name.'
            )
            name = str(get_values(git.read(file).decode("utf-8", "replace"), [at])[at] or "")
            not_empty("image", name, f"{file} names no image at {at}", "Correct the path.")
        if not name:
            return None
        image = parse(name)
        if not self.registry_conn_id:
            return Image(name, None, "no registry_conn_id is given")
        settings = RegistryHook(self.registry_conn_id).settings()
        if settings.host != image.host:
            return Image(name, None, f"{self.registry_conn_id!r} is of another registry, {settings.host}")
        try:
            with settings.client() as registry:
                return Image(name, bool(registry.find(image.repository, image.asked)))
        except PipeOpsError as error:
            if error.retryable:
                raise
            return Image(name, None, error.message)

    def _today(self, features: Mapping[str, str]) -> Today | None:
        from airflow_pipeops.models import storage
        from airflow_pipeops.models.artifact import DATATYPES
        from airflow_pipeops.models.rollback.fitness import Today

        if not self.data:
            return None
        frame, _ = storage.read_tables(data_uris(self.data), self.csv)
        there = [name for name in features if name in frame.columns]
        columns = {name: DATATYPES.get(str(frame[name].dtype), "") for name in there}
        return Today(columns, {name: float(frame[name].isna().mean()) for name in there})

    def _demand(self, fit: Fit, order: RollbackOrder) -> None:
        if fit.verdict == "fits" or (fit.verdict == "cannot tell" and self.on_unknown == "accept"):
            return
        raise ModelRejected(
            f"version {order.before} of {order.model!r} cannot take over again: {' '.join(fit.reasons)} "
            "Nothing was changed",
            remedy="Name another version with before=, or train one."
            if fit.verdict == "does not fit"
            else "Give data= of today, and registry_conn_id where an image is named; on_unknown='accept' lets this pass.",
        )

    def _skip(self, rollback: ModelRollback, begun: Begun) -> None:
        from airflow.sdk.exceptions import AirflowSkipException

        git, order = rollback.git, rollback.order
        commit = git.last_change(self.desired.file, begun.commit)
        by = git.describe(commit) if commit else None
        said = f"by {by.sha[:12]} ({by.subject})" if by else "already"
        raise AirflowSkipException(
            f"Git was taken back to version {order.before} {said}, which another task does; if it has ended before the "
            "alias followed, clear that one"
        )


class FinishModelRollbackOperator(DeliveryOperator):
    """End the rollback of a model: let the alias follow, and record it.

    Emits the *rollback*, and a *decision* that the governor reads: evidence against the model that has gone counts no more.
    Returns ``{model, alias, version, previous, commit, sha256, record_id}``.

    :param rollback: what :class:`ModelRollbackOperator` returned; templated.
    :param proof: what proves that the model before runs, after the commit: the output of
        :class:`~airflow_pipeops.serving.api.operators.VerifyModelOperator`,
        :class:`~airflow_pipeops.serving.stream.sensors.StreamLiveSensor` or
        :class:`~airflow_pipeops.serving.batch.operators.BatchScoreOperator`, whose manifest is read; templated.
    :param desired: as in :class:`ModelRollbackOperator`.
    :param git_conn_id: the repository of the desired state.
    :param mlflow_conn_id: the registry.
    :raises InvalidInput: if the proof is of another kind.
    :raises ReleaseFailed: if the proof shows another model, or is older than the commit; if Git wants another one by now, or
        the alias names a third one.
    """

    template_fields: Sequence[str] = ("rollback", "proof", *DeliveryOperator.template_fields)
    emits: ClassVar[tuple[str, ...]] = ("rollback", "decision")
    ui_color = UI_COLOR

    def __init__(
        self,
        *,
        rollback: Any,
        proof: Any,
        desired: WantedModel | Mapping[str, Any],
        git_conn_id: str = "pipeops_gitops_repo",
        mlflow_conn_id: str = "mlflow_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.rollback = rollback
        self.proof = proof
        self.desired = wanted_model(desired)
        self.git_conn_id = git_conn_id
        self.mlflow_conn_id = mlflow_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Look at both sides, move the alias, record."""
        from airflow_pipeops.git.hook import GitHook
        from airflow_pipeops.models.rollback.saga import ModelRollback

        with no_retry():
            begun = mapping("rollback", self.rollback, "Pass the output of ModelRollbackOperator.")
            proof = self._proof()
            order = ordered(begun)
            git, registry = GitHook(self.git_conn_id).get_conn(), registry_of(self.mlflow_conn_id)
            commit = str(begun.get("commit") or "")
            previous = ModelRollback(git, registry, self.desired, order).finish(proof, commit)
            facts = {
                "model": order.model,
                "alias": order.alias,
                "version": order.before,
                "previous": previous,
                "commit": commit,
                "sha256": order.before_sha256,
            }
            body = {
                **facts,
                "app": order.model,
                "reverts": order.revision or None,
                "revision": facts["commit"],
                "reason": order.reason,
                "how": "revert",
                "order": order.id,
                "evidence": order.evidence,
                "proof": {**proof.to_json(), "record_id": map_(self.proof).get("record_id")},
            }
            record = self.emit(context, "rollback", body)
            self.emit(
                context,
                "decision",
                learnt(order, datetime.now(timezone.utc)),
                parents=[record] if record else [],
            )
        return {**facts, "record_id": record}

    def _proof(self) -> Proof:
        """Read the proof, and the manifest of a batch, which says more than what travelled through Airflow."""
        from airflow_pipeops.models import storage
        from airflow_pipeops.models.rollback.proof import kind_of, proof_of

        if kind_of(self.proof) != "batch":
            return proof_of(self.proof)
        uri = map_(self.proof)["manifest"]
        try:
            return proof_of(self.proof, map_(parsed(storage.get(str(uri)))) if uri else None)
        except NotFound:
            return proof_of(self.proof)
        except ValueError:  # it is no manifest of anything
            return proof_of(self.proof, {})


def learnt(order: RollbackOrder, now: datetime) -> dict[str, Any]:
    """Return a rollback in the words of the governor, which counts evidence anew after it.

    :param order: that was carried out.
    :param now: with a zone.
    :return: the body of a record of kind *decision*.
    """
    from airflow_pipeops.governor.history import ROLLBACK, Observation

    seen = Observation(
        f"rollback {order.id}", now.isoformat(timespec="seconds"), True, action=ROLLBACK, mode="act"
    )
    return {
        "action": ROLLBACK,
        "rule": "guard",
        "reasons": [order.reason],
        "mode": "act",
        "acts": True,
        "needs_approval": False,
        "observation": seen.to_json(),
    }


def ordered(given: Any) -> RollbackOrder:
    """Read an order, from what carries one.

    :return: the order.
    :raises InvalidInput: if there is none.
    """
    from airflow_pipeops.models.rollback.saga import RollbackOrder

    known = mapping("order", given, "Pass the output of ModelGuardOperator, or its order.")
    known = known["order"] if isinstance(known.get("order"), Mapping) else known
    try:
        return RollbackOrder.from_json(known)
    except TypeError as error:
        raise InvalidInput(
            f"there is no order to roll back: {error}",
            field="order",
            remedy="Pass the output of ModelGuardOperator where it says act or propose.",
        ) from error


def _age(until: str | None) -> timedelta | None:
    """Return how long ago a model has learned its last row; ``None`` where that is no time."""
    when = time_of(until)
    return datetime.now(timezone.utc) - when if when else None
