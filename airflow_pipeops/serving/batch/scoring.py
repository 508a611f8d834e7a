"""Score a partition once: judge its rows, score them, judge the scores, put them in place, let readers see them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.delimited import Csv
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.exceptions import Conflict, DataRejected, InvalidInput, ModelRejected, PipeOpsError
from airflow_pipeops.serving.batch import before
from airflow_pipeops.serving.batch import contract as judging
from airflow_pipeops.serving.batch.contract import Check, ScoreContract
from airflow_pipeops.serving.batch.manifest import (
    Current,
    Judgement,
    Manifest,
    Pinned,
    Rescore,
    folder_of,
    may_show,
    same_scores,
    score_key,
    segment,
    wanted,
)
from airflow_pipeops.serving.batch.rows import Columns, families_of, kinds_of
from airflow_pipeops.serving.batch.scan import Looked, Scorer, Written, read_back
from airflow_pipeops.serving.batch.store import MANIFEST, ScoreStore, parts_of
from airflow_pipeops.serving.batch.worker import Job, Opener, Say, viewed

if TYPE_CHECKING:
    from airflow_pipeops.drift.sources import Source
    from airflow_pipeops.models.artifact import Loaded

#: Rows that a suite of Great Expectations is judged on at most, since it needs them in memory at once.
EXPECTATION_ROWS = 1_000_000
_CHANGED = "the rows have changed while they were scored"


@dataclass(frozen=True)
class Order(JsonForm):
    """What is to be scored, by what, and under which contract; it travels to a pod as JSON.

    :param partition: name of the partition.
    :param data: where its rows are; see :data:`~airflow_pipeops.drift.operators.inputs.Given`.
    :param model: that scores them.
    :param key: columns that name a row.
    :param name: of the scores; by default that of the model.
    :param carry: further columns that are written beside the scores.
    :param shadows: challengers that score the same rows, which no reader sees.
    :param contract: what is demanded.
    :param expectations: of the rows, as a suite of Great Expectations.
    :param rescore: what is done where another model has scored the partition.
    :param since: the first partition that is scored again, with ``rescore="since"``.
    :param storage_conn_id: where scores are kept.
    :param data_conn_id: connection of files, where they need one.
    :param csv: what CSV files do not say of themselves.
    :param trusted: further types that an artifact may hold.
    :param expectation_rows: rows that the suite is judged on at most.
    :param spark: settings of a Spark session that reads and scores, in place of this process; ``None`` for this process.
    """

    partition: str
    data: Any
    model: Pinned
    key: tuple[str, ...]
    name: str = ""
    carry: tuple[str, ...] = ()
    shadows: tuple[Pinned, ...] = ()
    contract: ScoreContract = field(default_factory=ScoreContract)
    expectations: Any = ()
    rescore: Rescore = "none"
    since: str = ""
    storage_conn_id: str = "pipeops_artifacts"
    data_conn_id: str = ""
    csv: Mapping[str, Any] = field(default_factory=dict)
    trusted: tuple[str, ...] = ()
    expectation_rows: int = EXPECTATION_ROWS
    spark: Mapping[str, str] | None = None

    def source(self) -> Source:
        """Return where the rows are."""
        from airflow_pipeops.drift.operators.inputs import source_of

        return source_of(self.data, "data", self.data_conn_id or None, Csv.of(self.csv or None))


def score(order: Order, root: Any, say: Say) -> dict[str, Any]:
    """Score a partition, or find that it is scored.

    :param order: what is to be scored.
    :param root: where scores are kept.
    :param say: says a line in the task's log.
    :return: plain facts; see :class:`~airflow_pipeops.serving.batch.operators.BatchScoreOperator`.
    :raises DataRejected: if the rows are not what the contract demands: nothing is written.
    :raises ModelRejected: if the scores are not: they are kept for whoever looks into it, and readers see what they saw.
    :raises Conflict: if the rows changed meanwhile, or scores of the same key are in place that are others.
    """
    if order.spark is None:
        return _Run(order, root, say, viewed).facts()
    from airflow_pipeops.serving.batch.spark import viewed_in_spark

    return _Run(order, root, say, viewed_in_spark(order.spark)).facts()


@dataclass
class _Model:
    """A model within a run.

    :param pinned: which it is.
    :param loaded: the model.
    :param shadow: whether it is a challenger.
    :param columns: what it reads and writes.
    :param input_digest: of the rows that its scores rest on.
    :param key: identity of its scores.
    :param manifest: of its scores, once they are in place.
    :param found: whether they were in place before.
    :param failed: why there are none.
    """

    pinned: Pinned
    loaded: Loaded | None
    shadow: bool
    columns: Columns
    input_digest: str = ""
    key: str = ""
    manifest: Manifest | None = None
    found: bool = False
    failed: str = ""

    @property
    def features(self) -> Mapping[str, str]:
        """The datatypes of what it takes."""
        return self.loaded.manifest.features if self.loaded else {}


class _Run:
    """One attempt to score a partition."""

    def __init__(self, order: Order, root: Any, say: Say, opener: Opener) -> None:
        segment(order.partition)
        if not order.key:
            raise InvalidInput(
                "no column names a row", field="key", remedy="Give key=, for example the id of an order."
            )
        self._order, self._say, self._opener = order, say, opener
        self._store = ScoreStore(root, order.name or order.model.name)
        self._attempt, self._began = uuid.uuid4().hex[:12], time.monotonic()
        self._started = _now()
        self._checks: list[Check] = []
        self._kinds: dict[str, str] = {}
        self._engine = ""
        self._source: dict[str, Any] = {}
        self._suite, self._suite_sha256 = before.suite_of(order)

    # ---- the steps ---------------------------------------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        order = self._order
        models = [self._loaded(order.model, shadow=False)]
        challengers = {one.sha256: one for one in order.shadows if one.sha256 != order.model.sha256}
        models += [self._loaded(one, shadow=True) for one in challengers.values()]
        champion = models[0]
        seen = self._store.current(order.partition)
        looked = self._looked(models)
        step = wanted(order.partition, seen, order.model, champion.input_digest, order.rescore, order.since)
        self._say(f"Partition {order.partition}: {looked.rows:,} rows; {step.reason}")
        if not step.score:
            assert seen is not None
            return self._told(champion, "kept", step.reason, seen, False)
        for one in models:
            self._find(one)
        missing = [one for one in models if one.manifest is None and not one.failed]
        if missing:
            self._judge_rows(looked, champion)
            self._scan(missing, looked)
        elif self._unjudged(models):
            self._judge_anew(looked, models)
        # By now all rows have passed the suite, also those of scores that were in place before it.
        said = tuple(one for one in self._checks if one.name == "expectations")
        for manifest in self._unjudged(models):
            self._store.judged(manifest, Judgement(self._suite_sha256, said, _now()))
        assert champion.manifest is not None
        self._demand(champion.manifest)
        return self._shown(champion, seen, [one for one in models if one.shadow])

    def _loaded(self, pinned: Pinned, *, shadow: bool) -> _Model:
        from airflow_pipeops.models.features.sets import to_serve

        try:
            loaded = to_serve(pinned.artifact_uri, pinned.sha256, trusted=self._order.trusted)
            columns = Columns(self._order.key, tuple(loaded.manifest.features), self._order.carry)
            if both := [name for name in Scorer(loaded).kinds if name in columns.written]:
                raise InvalidInput(
                    f"{pinned} writes {both[0]!r} itself, which is to be written beside its scores",
                    field="carry",
                    value=both,
                    remedy="Rename the column, or do not name it in key= and carry=.",
                )
        except PipeOpsError as error:
            if not shadow:
                raise
            return _Model(pinned, None, True, Columns(self._order.key, ()), failed=str(error))
        return _Model(pinned, loaded, shadow, columns)

    def _looked(self, models: Sequence[_Model]) -> Looked:
        """Read the rows once: they must fit the models' schemas, and their digest tells whether they were scored."""
        order = self._order
        with self._opener(order.source(), self._say) as view:
            families = families_of(view.known)
            self._engine, self._source = view.engine, view.identity()
            for one in models:
                if one.failed:
                    continue
                checks = judging.schema(families, one.features, one.columns.written)
                if not one.shadow:
                    self._checks += checks
                    self._refuse()
                elif not judging.passed(checks):
                    one.failed = judging.reasons(checks)
            every = self._every(models)
            features = {name: kind for one in reversed(models) for name, kind in one.features.items()}
            self._kinds = kinds_of(view.known, every, features)
            looked = view.look(self._kinds, order.key, _rests_on(models))
            self._twice = view.twice(order.key) if looked.rows else 0
        for one in models:
            if one.failed:
                continue
            types = tuple((name, self._kinds[name]) for name in one.columns.all)
            one.input_digest = looked.tally(one.pinned.sha256).digest(types)
            assert one.loaded is not None
            outputs = ",".join((*one.columns.written, *Scorer(one.loaded).outputs))
            one.key = score_key(one.input_digest, one.pinned.sha256, order.contract.to_json(), outputs)
        self._families = families
        return looked

    def _every(self, models: Sequence[_Model]) -> Columns:
        features = dict.fromkeys(name for one in models if not one.failed for name in one.features)
        return Columns(self._order.key, tuple(features), self._order.carry)

    def _find(self, model: _Model) -> None:
        """Look whether the scores are in place, and whether they are what they were."""
        if model.failed:
            return
        found = self._store.manifest(model.key, model.pinned.sha256, self._order.partition)
        if found is not None:
            self._store.verify(found)
            self._store.sweep(found)
            model.manifest, model.found = found, True
            self._say(
                f"{model.pinned} has scored these rows at {found.finished}: found, and not scored again"
            )

    def _unjudged(self, models: Sequence[_Model]) -> list[Manifest]:
        """Return the scores whose manifest does not say that the rows pass the suite, which is no part of their key."""
        suite = self._suite_sha256
        there = [one.manifest for one in models if one.manifest is not None]
        return [
            one for one in there if suite not in ("", one.suite) and self._store.judgement(one, suite) is None
        ]

    def _judge_rows(self, looked: Looked, champion: _Model) -> None:
        order = self._order
        seen = judging.Input(looked.rows, self._families, looked.nulls, self._twice, order.key)
        self._checks += judging.before(seen, order.contract)
        self._refuse()
        if self._suite:
            self._checks += before.expected(order, self._suite, looked.rows)
            self._refuse()
        if order.model.reference_uri and order.contract.on_skew != "ignore":
            # Neither what is carried beside them, such as the day, nor what a challenger alone takes.
            features = [name for name in champion.features if name not in order.key]
            self._checks.append(before.skew(order, features))
            self._refuse()

    def _judge_anew(self, looked: Looked, models: Sequence[_Model]) -> None:
        """Judge rows by a suite that has come since they were scored; they are read again, and not scored."""
        order = self._order
        checks = before.expected(order, self._suite, looked.rows)
        with self._opener(order.source(), self._say) as view:
            self._same(view.look(self._kinds, order.key, _rests_on(models)), looked, models)
        if not judging.passed(checks):
            raise DataRejected(
                f"partition {order.partition} was scored before, and its rows do not pass the suite: "
                f"{judging.reasons(checks)}",
                remedy="Correct the partition, or the suite. Nothing was scored, and readers see what they saw.",
            )
        self._checks += checks

    def _refuse(self) -> None:
        if not judging.passed(self._checks):
            raise DataRejected(
                f"partition {self._order.partition} is not scored: {judging.reasons(self._checks)}",
                remedy="Correct the partition, or the contract. Nothing was written.",
            )

    def _scan(self, models: Sequence[_Model], looked: Looked) -> None:
        order = self._order
        jobs = [self._job(one) for one in models]
        with self._opener(order.source(), self._say) as view:
            again, written = view.scan(self._kinds, order.key, _rests_on(models), jobs)
        try:
            self._same(again, looked, models)
        except Conflict:
            for one, done in zip(models, written, strict=True):
                self._drop(one, done.files)
            raise
        # The challengers' first: once the champion's are in place, a retry does not score any more.
        for one, done in sorted(zip(models, written, strict=True), key=lambda pair: not pair[0].shadow):
            if done.failed:
                one.failed = done.failed
                self._say(f"The challenger {one.pinned} could not score: {done.failed}")
            else:
                self._put(one, done, looked)

    def _same(self, again: Looked, looked: Looked, models: Sequence[_Model]) -> None:
        known = [one.pinned.sha256 for one in models if not one.failed]
        if any(again.tally(one) != looked.tally(one) for one in known):
            raise Conflict(
                f"partition {self._order.partition}: {_CHANGED}: {looked.rows:,} rows before, {again.rows:,} now",
                remedy="Wait until it is complete; a retry scores what is there then. Nothing was put in place.",
            )

    def _job(self, model: _Model) -> Job:
        assert model.loaded is not None
        first = self._store.first_of(model.pinned.sha256)
        edges = {name: first.histogram(name).edges for name in first.outputs} if first else {}
        return Job(
            model.pinned,
            model.loaded,
            model.columns,
            {name: self._kinds[name] for name in model.columns.all},
            self._store.folder(model.key, model.pinned.sha256, self._order.partition),
            self._attempt,
            self._order.contract.fallback,
            edges,
            self._order.trusted,
            model.shadow,
        )

    def _put(self, model: _Model, written: Written, looked: Looked) -> None:
        """Read back what was written, judge it, and put it in place."""
        order, folder = self._order, self._store.folder(model.key, model.pinned.sha256, self._order.partition)
        assert model.loaded is not None
        scorer = Scorer(model.loaded)
        kinds = {**{name: self._kinds[name] for name in model.columns.written}, **scorer.kinds}
        digest = written.lines.digest(tuple(kinds.items()))
        try:
            lines, keys, parts = read_back(folder, written.files, order.key)
        except FileNotFoundError:
            # Another attempt was faster, and has swept: what it has put there must be the same.
            self._adopt(model, digest)
            return
        if lines != written.lines:
            self._drop(model, written.files)
            raise Conflict(
                f"what was read back of the scores of {order.partition} is not what was written",
                remedy="A retry writes them anew. If it comes again, look at the storage.",
            )
        first = self._store.first_of(model.pinned.sha256)
        after = judging.after(
            looked.rows,
            keys == looked.keys,
            written.scored,
            order.contract,
            probabilities=scorer.probabilities,
            first={name: first.histogram(name) for name in first.outputs} if first else None,
        )
        manifest = Manifest(
            key=model.key,
            partition=order.partition,
            input_digest=model.input_digest,
            rows=looked.rows,
            model=model.pinned,
            output_digest=digest,
            columns=tuple(kinds.items()),
            outputs=scorer.outputs,
            parts=parts_of(parts),
            scored={name: one.to_json() for name, one in written.scored.items()},
            before=tuple(self._checks),
            suite=self._suite_sha256,
            after=tuple(after),
            passed=judging.passed(after),
            shadow=model.shadow,
            source=self._source,
            engine=self._engine,
            versions=_versions(),
            attempt=self._attempt,
            started=self._started,
            finished=_now(),
        )
        if not self._store.put(manifest):
            self._adopt(model, digest)
            self._drop(model, written.files)
            return
        self._store.sweep(manifest)
        model.manifest = manifest
        if manifest.passed and any(one.edges for one in written.scored.values()):
            self._store.first(manifest)  # one without a score is nothing to hold others against

    def _adopt(self, model: _Model, digest: str) -> None:
        """Take over what another attempt has put in place, if it is the same."""
        there = self._store.manifest(model.key, model.pinned.sha256, self._order.partition)
        if there is None:
            raise Conflict(
                f"the files of an attempt to score {self._order.partition} are gone",
                remedy="A retry writes them anew.",
            )
        if why := same_scores(model.key, there, digest):
            failure = Conflict(
                f"{model.pinned} does not repeat itself on partition {self._order.partition}: {why}",
                remedy="Find what is random in it. What is in place stays there, and nothing was written over it.",
            )
            failure.retryable = False
            raise failure
        model.manifest, model.found = there, True
        self._say("Another attempt was faster, and has put the same scores in place")

    def _drop(self, model: _Model, files: Sequence[str]) -> None:
        folder = self._store.folder(model.key, model.pinned.sha256, self._order.partition)
        for name in files:
            (folder / name).unlink(missing_ok=True)

    def _demand(self, manifest: Manifest) -> None:
        if not manifest.passed:
            raise ModelRejected(
                f"the scores of partition {self._order.partition} by {manifest.model} are not shown: "
                f"{judging.reasons(manifest.after)}",
                remedy="Readers see what they saw. The scores are kept for whoever looks into it: "
                f"{folder_of(manifest.key, manifest.model.sha256, manifest.partition)}",
            )

    # ---- what readers see --------------------------------------------------------------------------------------------

    def _shown(self, champion: _Model, seen: Current | None, shadows: Sequence[_Model]) -> dict[str, Any]:
        """Let readers see the scores, unless a later run has decided otherwise meanwhile."""
        order, manifest = self._order, champion.manifest
        assert manifest is not None
        outcome = "found" if champion.found else "scored"
        while True:
            if seen is not None and seen.key == champion.key and seen.model.sha256 == order.model.sha256:
                return self._told(champion, outcome, "", seen, True, shadows)
            if why := may_show(seen, order.model):
                assert seen is not None
                self._say(f"Not shown: {why}")
                return self._told(champion, "superseded", why, seen, False, shadows)
            entry = Current(
                number=seen.number + 1 if seen else 1,
                key=champion.key,
                manifest=f"{folder_of(champion.key, order.model.sha256, order.partition)}/{MANIFEST}",
                model=order.model,
                input_digest=champion.input_digest,
                at=_now(),
            )
            if self._store.show(entry, order.partition):
                return self._told(champion, outcome, "", entry, True, shadows)
            seen = self._store.current(order.partition)  # somebody was faster: what they have decided counts

    def _told(
        self,
        champion: _Model,
        outcome: str,
        reason: str,
        current: Current,
        shown: bool,
        shadows: Sequence[_Model] = (),
    ) -> dict[str, Any]:
        manifest = champion.manifest or self._store.manifest(
            current.key, current.model.sha256, self._order.partition
        )
        model = manifest.model if manifest else current.model
        suite = manifest.suite if manifest else ""
        checks = list(manifest.before) if manifest else []
        if manifest and self._suite_sha256 and outcome != "kept" and self._suite_sha256 != suite:
            suite = self._suite_sha256
            found = self._store.judgement(manifest, suite)
            checks += found.checks if found else ()
        return {
            "partition": self._order.partition,
            "name": self._order.name or self._order.model.name,
            "outcome": outcome,
            "reason": reason,
            "rows": manifest.rows if manifest else None,
            "model": model.name,
            "version": model.version,
            "sha256": model.sha256,
            "commit": model.commit,
            "key": manifest.key if manifest else current.key,
            "input_digest": manifest.input_digest if manifest else current.input_digest,
            "output_digest": manifest.output_digest if manifest else None,
            "manifest": self._uri(manifest) if manifest else None,
            "shown": shown,
            "current": current.number,
            "shown_at": current.at,
            "scores": _summary(manifest) if manifest else {},
            "notes": [one.reason for one in checks if one.outcome == "noted"],
            "suite": suite or None,
            "shadows": [self._told_shadow(one) for one in shadows],
            "engine": manifest.engine if manifest else self._engine,
            "seconds": round(time.monotonic() - self._began, 3),
        }

    def _told_shadow(self, one: _Model) -> dict[str, Any]:
        facts = {"model": one.pinned.name, "version": one.pinned.version, "sha256": one.pinned.sha256}
        if one.manifest is None:
            return {**facts, "outcome": "failed", "reason": one.failed}
        reason = "" if one.manifest.passed else judging.reasons(one.manifest.after)
        outcome = "failed" if reason else "found" if one.found else "scored"
        return {
            **facts,
            "outcome": outcome,
            "reason": reason,
            "key": one.manifest.key,
            "output_digest": one.manifest.output_digest,
            "manifest": self._uri(one.manifest),
            "scores": _summary(one.manifest),
        }

    def _uri(self, manifest: Manifest) -> str:
        from airflow_pipeops.models import storage

        folder = self._store.folder(manifest.key, manifest.model.sha256, manifest.partition)
        return storage.uri_of(folder / MANIFEST)


def _rests_on(models: Sequence[_Model]) -> dict[str, list[str]]:
    return {one.pinned.sha256: list(one.columns.all) for one in models if not one.failed}


def _summary(manifest: Manifest) -> dict[str, Any]:
    """Return what is worth telling of each output."""
    found = {}
    for name in manifest.outputs:
        one = manifest.histogram(name)
        found[name] = {
            "mean": one.mean,
            "low": one.low,
            "high": one.high,
            "nulls": one.nulls,
            "fallbacks": one.fallbacks,
        }
    return found


def _versions() -> dict[str, str]:
    from airflow_pipeops import __version__
    from airflow_pipeops.models.artifact import library_versions

    return {**library_versions(), "airflow-pipeops": __version__}


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def pinned_now(model: Pinned) -> Pinned:
    """Return a version that is named as of now, unless it says when it was."""
    return model if model.pinned_at else replace(model, pinned_at=_now())
