"""A feature set: named transformations, told by the digest of their code, their parameters and what they read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import function, has_columns, imported, not_empty, one_of
from airflow_pipeops.base.typed import demand_types
from airflow_pipeops.delivery.records import canonical
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models import storage
from airflow_pipeops.models.features.joins import Join, joined, rows_by_label, tables_needed

if TYPE_CHECKING:
    import pandas as pd

    from airflow_pipeops.models.artifact import Loaded, Manifest


@dataclass(frozen=True)
class FeatureSet:
    """What makes features of rows, the same at training and where the model is served.

    Define it at the top of a module and name it by its import path, ``my_package.features:FLIGHTS``.

    :param steps: name -> import path of ``step(frame, **parameters) -> frame``, in their order. Each row goes in and comes
        out once, in its place.
    :param parameters: name of a step -> its further arguments, as JSON.
    :param sources: column -> type, as pandas names it (``int64``, ``float64``, ``str``), of what is read, joined columns
        included; what else is there is left to the steps.
    :param joins: tables whose values are joined as of each row's time, before the first step.
    :param time: column of the rows' times, which joins and label need.
    :param label: column of the label, if the rows have one.
    :param label_delay: for which a label comes after its row.
    """

    steps: Mapping[str, str]
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    joins: tuple[Join, ...] = ()
    time: str = ""
    label: str = ""
    label_delay: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        demand_types(self)
        not_empty("steps", self.steps, "a feature set has no steps", "Name at least one function.")
        for name in self.parameters:
            one_of("parameters", name, tuple(self.steps), called="step")
        if (self.joins or self.label_delay) and not self.time:
            raise InvalidInput(
                "joins and late labels need the time of a row", field="time", remedy="Name its column."
            )

    @property
    def digest(self) -> str:
        """SHA-256 over the code of the steps, their parameters, the joins, and the types of what is read."""
        from airflow_pipeops.models.reproduction.code import files_of

        content = {
            "steps": [[name, path, dict(self.parameters.get(name, {}))] for name, path in self.steps.items()],
            "code": files_of(self.steps.values()),
            "sources": sorted(self.sources.items()),
            "joins": [
                [one.table, one.keys, one.columns, one.event_time, one.created_time, str(one.ttl), one.known_by]
                for one in self.joins
            ],
            "label": [self.time, self.label, self.label_delay.total_seconds()],
        }  # fmt: skip
        return storage.sha256(canonical(content, "parameters", "a feature set"))

    def build(
        self,
        rows: pd.DataFrame,
        tables: Mapping[str, pd.DataFrame] | None = None,
        *,
        as_of: datetime | None = None,
    ) -> pd.DataFrame:
        """Make the features of rows.

        :param rows: to make features of.
        :param tables: of the joins, by name; where rows have the joined columns already, as at serving, none is needed.
        :param as_of: when the table is built; labels and values that were not known then are null.
        :return: for each row its features, in the same order.
        :raises InvalidInput: for a table or column that is absent or of another type, and for a step that loses rows.
        """
        rows = rows.reset_index(drop=True)
        for join in self.joins:
            if tables is None and set(join.columns) <= set(rows.columns):
                continue
            if join.table not in (tables or {}):
                raise InvalidInput(
                    f"table {join.table!r} is not given, which the features are joined from",
                    field="tables",
                    value=sorted(tables or {}),
                    remedy=f"Give {', '.join(tables_needed(self.joins))}.",
                )
            rows = joined(rows, self.time, (tables or {})[join.table], join, as_of=as_of)
        if self.label and as_of is not None and self.label in rows.columns:
            rows = rows_by_label(rows, self.time, self.label, self.label_delay, as_of)
        self._check(rows)
        for name, path in self.steps.items():
            made = function(path, f"steps[{name}]")(rows, **dict(self.parameters.get(name, {})))
            if len(made) != len(rows) or not made.index.equals(rows.index):
                raise InvalidInput(
                    f"step {name!r} was given {len(rows):,} rows and returned {len(made):,}, or in another order",
                    field="steps",
                    value=path,
                    remedy="A step keeps each row in its place; leave rows out before or after.",
                )
            rows = made
        return rows

    def _check(self, rows: pd.DataFrame) -> None:
        has_columns("data", rows.columns, self.sources)
        for name, kind in self.sources.items():
            found = str(rows[name].dtype)
            if _alike(found) != _alike(kind) and rows[name].notna().any():
                raise InvalidInput(
                    f"column {name!r} has the type {found}, and the features were written for {kind}",
                    field=name,
                    value=found,
                    remedy="Convert it where the data is made, or correct sources.",
                )


def named(path: str) -> FeatureSet:
    """Find the feature set of an import path.

    :param path: ``package.module:NAME``.
    :return: the feature set.
    :raises InvalidInput: if there is none.
    """
    found = imported(path, "features")
    if not isinstance(found, FeatureSet):
        raise InvalidInput(
            f"features {path!r} is no FeatureSet",
            field="features",
            value=type(found).__name__,
            remedy="Name one that is defined at the top of a module.",
        )
    return found


def carried(manifest: Manifest) -> FeatureSet | None:
    """Return the feature set that a model was trained with, if this process has that very code.

    :param manifest: of the model.
    :return: the feature set; ``None`` for a model that names none.
    :raises InvalidInput: if the code is not here, or is another: the model would be given other features than it knows.
    """
    wanted = manifest.feature_set
    if not wanted:
        return None
    remedy = "Serve it from an image with the code that it was trained with."
    try:
        found = named(wanted["path"])
    except InvalidInput as error:
        raise InvalidInput(
            f"the features of {manifest.name!r} are not here: {error.message}",
            field="feature_set",
            value=wanted["path"],
            remedy=remedy,
        ) from error
    if (here := found.digest) != wanted["digest"]:
        raise InvalidInput(
            f"the features of {manifest.name!r} are another code here: {wanted['path']} has the digest"
            f" {here[:12]}, and the model was trained with {wanted['digest'][:12]}",
            field="feature_set",
            value=here,
            remedy=remedy,
        )
    return found


def to_serve(uri: str, sha256: str, *, trusted: Iterable[str] = ()) -> Loaded:
    """Verify and load an artifact that is to answer: by other features than it knows, it would be asked about other numbers.

    :param uri: of its folder.
    :param sha256: its digest.
    :param trusted: types to trust beyond those of :mod:`~airflow_pipeops.models.serialized`.
    :return: the artifact.
    :raises InvalidInput: if its digest is another, or its features are not carried here; see :func:`carried`.
    """
    from airflow_pipeops.models import artifact

    loaded = artifact.load(uri, sha256, trusted=trusted)
    carried(loaded.manifest)
    return loaded


def _alike(kind: str) -> str:
    """Return one name for the types of texts, which pandas 2 and 3 call differently."""
    return "str" if kind in ("object", "string", "str") else kind
