"""What an operator is given for a side of a comparison, as text that Airflow can render, and what that means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_pipeops.exceptions import InvalidInput, NotFound

if TYPE_CHECKING:
    from airflow.sdk import Asset

    from airflow_pipeops.base.delimited import Csv
    from airflow_pipeops.drift.sources import Source

#: A URI or path, a list of them, an asset, a source of :mod:`airflow_pipeops.drift.sources`, or a mapping with ``files``,
#: ``table``, ``query`` or ``profile``, and for the middle two the ``conn_id``; ``{{ ... }}`` is rendered in all of them.
Given: TypeAlias = "str | Sequence[str] | Mapping[str, Any] | Asset | Source"

_KEYS = {
    "files": {"files", "format", "storage_conn_id", "checksum", "csv"},
    "table": {"table", "conn_id", "where", "dialect"},
    "query": {"query", "conn_id", "dialect", "name"},
    "profile": {"profile", "digest"},
}


def source_of(given: Any, field: str, storage_conn_id: str | None = None, csv: Csv | None = None) -> Source:
    """Read the source that was given.

    :param given: see :data:`Given`.
    :param field: the name under which the reader knows it.
    :param storage_conn_id: connection of files, where they name none.
    :param csv: what CSV files do not say of themselves, where nothing is said beside them.
    :return: the source.
    :raises InvalidInput: if it is of no known form.
    """
    from airflow.sdk import Asset

    from airflow_pipeops.drift.profile import Profile
    from airflow_pipeops.drift.sources import Files, Frame, Query, TableRef

    if isinstance(given, (Files, Frame, Query, TableRef, Profile)):
        return given
    if isinstance(given, Asset):
        given = given.uri
    if isinstance(given, Mapping):
        return _named(dict(given), field, {"storage_conn_id": storage_conn_id, "csv": csv})
    names = [given] if isinstance(given, str) else given
    if not names or not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise InvalidInput(
            f"{field} names no data",
            field=field,
            value=given,
            remedy='Give a URI, a list of them, or {"table": ..., "conn_id": ...}.',
        )
    return Files(given, storage_conn_id=storage_conn_id, csv=csv)


def name_of(source: Source) -> str:
    """Return how people call a source."""
    return str(source.name)


def _named(given: dict[str, Any], field: str, files: dict[str, Any]) -> Source:
    from airflow_pipeops.drift.profile import Profile
    from airflow_pipeops.drift.sources import Files, Query, TableRef

    kinds = [kind for kind in _KEYS if kind in given]
    if len(kinds) != 1:
        raise InvalidInput(
            f"{field} has {' and '.join(kinds) or 'none of its kinds'}",
            field=field,
            value=sorted(given),
            remedy=f"Give exactly one of {', '.join(_KEYS)}.",
        )
    kind = kinds[0]
    unknown = sorted(set(given) - _KEYS[kind])
    if unknown:
        raise InvalidInput(
            f"{field} has the unknown {', '.join(unknown)}",
            field=field,
            value=unknown,
            remedy=f"With {kind} it may have {', '.join(sorted(_KEYS[kind] - {kind}))}.",
        )
    value = given.pop(kind)
    if kind == "profile":
        try:
            return Profile.load(value, **given)
        except OSError as error:
            raise NotFound(
                f"{field}: the profile {value} cannot be read ({type(error).__name__})",
                remedy="Check the URI.",
            ) from error
    if kind == "files":
        return Files(value, **{**files, **given})
    return TableRef(value, **given) if kind == "table" else Query(value, **given)
