"""Features: made once for training, and held against what a service was given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import (
    function,
    has_columns,
    mapping,
    one_given,
    one_or_more,
    positive,
    share,
)
from airflow_pipeops.base.delimited import Csv
from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.operators.arguments import UI_COLOR, data_uris, moment, storage_root

if TYPE_CHECKING:
    import pandas as pd
    from airflow.sdk import Context

    from airflow_pipeops.models.features.sets import FeatureSet


class BuildFeaturesOperator(DeliveryOperator):
    """Turn batches of data into one table of features, stored under its digest.

    The same code, parameters and data are made once: what was made before is found by its content, and returned. Returns
    ``{uri, sha256, rows, columns, data_digest, feature_set, reused}``; ``feature_set`` is ``{path, digest}``, for
    :class:`TrainModelOperator`.

    :param data: URI of a Parquet or CSV file, or several, in time order; templated.
    :param features: import path of a :class:`~airflow_pipeops.models.features.sets.FeatureSet`.
    :param transform: in its place, ``transform(frame) -> frame``, by import path.
    :param tables: of the feature set's joins: name -> URI, or several; templated.
    :param as_of: time at which the table is built, in ISO 8601: what was not known then is null; templated.
    :param storage_conn_id: where built artifacts are kept.
    :param csv: what CSV files do not say of themselves: the fields of :class:`~airflow_pipeops.base.delimited.Csv`, such as
        ``{"decimal": ","}``.
    """

    template_fields: Sequence[str] = ("data", "tables", "as_of", *DeliveryOperator.template_fields)
    ui_color = UI_COLOR

    def __init__(
        self,
        *,
        data: str | Sequence[str],
        features: str | None = None,
        transform: str | None = None,
        tables: Mapping[str, str | Sequence[str]] | None = None,
        as_of: str | None = None,
        storage_conn_id: str = "pipeops_artifacts",
        csv: Csv | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        one_given(
            "give either features, or a transform",
            'For example features="my_package.features:FLIGHTS".',
            features=features,
            transform=transform,
        )
        self.data = data
        self.features = features
        self.transform = transform
        self.tables = tables
        self.as_of = as_of
        self.storage_conn_id = storage_conn_id
        self.csv = Csv.of(csv)

    def execute(self, context: Context) -> dict[str, Any]:
        """Find what was made before, or read, transform, store."""
        with no_retry():
            return self._built()

    def _built(self) -> dict[str, Any]:
        from airflow_pipeops.models import artifact, storage
        from airflow_pipeops.models.features import store
        from airflow_pipeops.models.features.sets import named
        from airflow_pipeops.models.reproduction.code import Code, files_of

        uris, root = data_uris(self.data), storage_root(self.storage_conn_id)
        as_of = moment("as_of", self.as_of)
        given = {name: data_uris(of) for name, of in mapping("tables", self.tables or {}, _TABLES).items()}
        made = named(self.features) if self.features else None
        transform = function(self.transform, "transform") if self.transform else None
        feature_set = {"path": self.features, "digest": made.digest} if made else None
        # Read once: what is there at a second look may be other rows than those that the features are found by.
        table = storage.read_table(uris, self.csv)
        tables = {name: storage.read_table(of, self.csv, field="tables") for name, of in given.items()}
        key = store.key_of(
            {
                "features": feature_set or [self.transform, Code(files_of([str(self.transform)])).digest],
                "data": [table.digests[uri] for uri in uris],
                "tables": {name: [tables[name].digests[uri] for uri in of] for name, of in given.items()},
                "as_of": as_of.isoformat() if as_of else None,
                "csv": asdict(self.csv),
                "versions": artifact.library_versions(),
            }
        )
        if known := store.found(root, key):
            self.log.info("These features were made before: %s", known["uri"])
            return {**known, "reused": True}
        if made is not None:
            frame = made.build(table.frame, {name: one.frame for name, one in tables.items()}, as_of=as_of)
        else:
            assert transform is not None
            frame = transform(table.frame)
        uri, digest = storage.put_table(frame, root, "features")
        facts = {
            "uri": uri,
            "sha256": digest,
            "rows": len(frame),
            "columns": [str(column) for column in frame.columns],
            "data_digest": table.digest,
            "feature_set": feature_set,
        }
        store.keep(root, key, facts)
        return {**facts, "reused": False}


class SkewCheckOperator(DeliveryOperator):
    """Hold the features that a service was given against those that training would make of the same requests.

    The verdict (``outcome``) is a result and not a failure: ``same``, ``skew`` or ``cannot tell``. Returns ``{outcome,
    reason, passed, rows, unmatched, unlogged, features: [{name, rows, differing, causes, served, recomputed}], feature_set,
    record_id}``; of a feature whose values differ, the causes are counted: see ``docs/features.md``. With a ``deliverable``,
    it is recorded as a validation.

    :param requests: URI of sampled requests in Parquet, or several: ``request_id``, ``row`` where a request has several,
        ``at`` (UTC, in milliseconds), ``sha256`` and the features; templated.
    :param features: import path of the :class:`~airflow_pipeops.models.features.sets.FeatureSet`.
    :param rows: URI of what the features are made of, by ``request_id`` and ``row``, or several; by default the requests
        hold it; templated.
    :param tables: of the feature set's joins: name -> URI, or several; templated.
    :param sha256: of a model: its requests alone; templated.
    :param allowed: share of the requests in which a feature may differ.
    :param tolerance: relative difference of two numbers that counts as none.
    :param ages: how old a value may be that is called stale; with joins, the features are made as of so much earlier, too.
    """

    template_fields: Sequence[str] = (
        "requests",
        "rows",
        "tables",
        "sha256",
        *DeliveryOperator.template_fields,
    )
    emits = ("validation",)
    ui_color = UI_COLOR

    def __init__(
        self,
        *,
        requests: str | Sequence[str],
        features: str,
        rows: str | Sequence[str] | None = None,
        tables: Mapping[str, str | Sequence[str]] | None = None,
        sha256: str | None = None,
        allowed: float = 0.001,
        tolerance: float = 1e-9,
        ages: Sequence[timedelta] = (timedelta(minutes=5), timedelta(hours=1), timedelta(days=1)),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.requests = requests
        self.features = features
        self.rows = rows
        self.tables = tables
        self.sha256 = sha256
        self.allowed = share("allowed", allowed, "Give a share between 0 and 1, such as 0.001.")
        self.tolerance = tolerance
        self.ages = tuple(positive("ages", age) for age in one_or_more("ages", ages, timedelta))

    def execute(self, context: Context) -> dict[str, Any]:
        """Read the requests, make their features again, compare, record."""
        with no_retry():
            body = self._checked()
            record_id = self.emit(context, "validation", {"subject": "skew", **body})
        self.log.info(body["reason"])
        return {**body, "record_id": record_id}

    def _checked(self) -> dict[str, Any]:
        from airflow_pipeops.models import storage
        from airflow_pipeops.models.features.sets import named
        from airflow_pipeops.models.features.skew import compared
        from airflow_pipeops.models.samples import OWN

        made = named(self.features)
        served = storage.read_table(data_uris(self.requests), field="requests").frame
        has_columns("requests", served.columns, ["request_id", "at"])
        if self.sha256:
            has_columns("requests", served.columns, ["sha256"])
            served = served[served["sha256"] == self.sha256]
        served, rows, unmatched = self._rows(made, served)
        given = {
            name: storage.read_table(data_uris(of), field="tables").frame
            for name, of in mapping("tables", self.tables or {}, _TABLES).items()
        }
        again = made.build(rows, given or None) if len(rows) else rows
        past = []
        if made.joins and given and len(rows):
            past = [made.build(rows.assign(**{made.time: rows[made.time] - age}), given) for age in self.ages]
        own = {*OWN, made.time, made.label}
        names = [name for name in again.columns if name in served.columns and name not in own]
        if len(rows) and not names:
            raise InvalidInput(
                "the requests hold none of the features",
                field="requests",
                value=[str(name) for name in again.columns][:20],
                remedy="Sample the features of requests, too.",
            )
        report = compared(served, again, names, earlier=past, allowed=self.allowed, tolerance=self.tolerance)
        return {
            **report.to_json(),
            "passed": {"same": True, "skew": False}.get(report.outcome),
            "unmatched": unmatched,
            "unlogged": [str(name) for name in again.columns if name not in {*served.columns, *own}][:50],
            "feature_set": {"path": self.features, "digest": made.digest},
        }

    def _rows(self, made: FeatureSet, served: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, int]:
        """Return the requests and what their features are made of, in one order, and how many have nothing to be made of."""
        import pandas as pd

        from airflow_pipeops.models import storage
        from airflow_pipeops.models.times import times

        if self.rows is None:
            # What is joined is made again: taken from the requests, it would be held against itself.
            taken = {name for join in made.joins for name in join.columns}
            rows = served.drop(columns=taken, errors="ignore")
        else:
            rows = storage.read_table(data_uris(self.rows), field="rows").frame
            has_columns("rows", rows.columns, ["request_id"])
        key = [name for name in _KEY if name in served.columns and name in rows.columns]
        _once(served, key, "requests")
        _once(rows, key, "rows")
        found = pd.MultiIndex.from_frame(rows[key]).get_indexer(pd.MultiIndex.from_frame(served[key]))
        served, rows, unmatched = served[found >= 0], rows.iloc[found[found >= 0]], int((found < 0).sum())
        when = times(served["at"], "at")
        unit = "ms" if pd.api.types.is_numeric_dtype(when.dtype) else None
        served, rows = served.reset_index(drop=True), rows.reset_index(drop=True)
        if made.time:
            rows = rows.assign(
                **{made.time: pd.to_datetime(when, unit=unit, utc=True).reset_index(drop=True)}
            )
        return served, rows, unmatched


_TABLES = "Give the name of each table and its URI."
#: Columns that tell one row of all requests from another.
_KEY = ("request_id", "row")


def _once(frame: pd.DataFrame, key: Sequence[str], field: str) -> None:
    """Refuse a row that is there twice: nobody knows which of them is meant."""
    twice = frame["request_id"][frame.duplicated(list(key))]
    if len(twice):
        raise InvalidInput(
            f"{len(twice):,} of the {field} have a {' and '.join(key)} that another has, such as {twice.iloc[0]!r}",
            field=field,
            value=str(twice.iloc[0]),
            remedy="Give each request once; files that overlap must not be given together.",
        )
