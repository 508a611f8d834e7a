"""Who asks, and what of the ledger that person may see.

Airflow's access control decides: whoever may read assets, asks; of a DAG that Airflow knows and the person may not read, no
record is shown, nor is a deliverable that such a DAG has recorded something about: what is told of a deliverable is put
together from all of its records. It is named as hidden to whoever may read another DAG that has recorded something about it;
what that DAG has recorded is shown as the DAG's. A DAG that Airflow knows no more hides nothing. Of a deliverable that has
an asset which the person may not read, nothing is shown at all.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_asset
from airflow.models.dag import DagModel
from fastapi import Depends, HTTPException, Request, Response
from sqlalchemy import select

from airflow_pipeops.base.configuration import index_path
from airflow_pipeops.delivery.ledger.index import Index, reader
from airflow_pipeops.delivery.queries.history import deliverables
from airflow_pipeops.delivery.queries.recorded import told_by
from airflow_pipeops.exceptions import InvalidInput, NotFound
from airflow_pipeops.ui.assets import closed
from airflow_pipeops.ui.headers import DATA

_ALL = 1_000_000
#: The deliverables that a person may see, those that are hidden in part, and those of which all assets may be read.
_Rights = tuple[frozenset[str] | None, frozenset[str], frozenset[str] | None]


@dataclass(frozen=True)
class Asked:
    """One question, and whose it is.

    :param connection: to the index, for reading.
    :param revision: of the index.
    :param hidden: the DAGs that are there and that the person may not read.
    :param readable: the DAGs that are there and that the person may read.
    :param allowed: the deliverables that the person may see; none means all.
    :param partly: those that are hidden, and that a readable DAG has recorded something about.
    :param closed: those that have an asset which the person may not read.
    :param open: those that have none; none means all.
    :param known: the tag of what the browser has already; empty for nothing.
    """

    connection: sqlite3.Connection
    revision: int
    hidden: frozenset[str]
    readable: frozenset[str]
    allowed: frozenset[str] | None
    partly: frozenset[str] = frozenset()
    closed: frozenset[str] = frozenset()
    open: frozenset[str] | None = None
    known: str = ""

    def answer(self, work: Callable[[], Any], also: str = "") -> Response:
        """Answer with what ``work`` returns, or say that nothing has changed.

        :param work: makes the answer, of what JSON can hold.
        :param also: what else the answer depends on, beside the ledger and who asks.
        :return: the answer; its tag changes when the answer may.
        """
        seen = [sorted(self.hidden), sorted(self.readable) if self.hidden else [], sorted(self.closed)]
        rights = hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:12]
        tag = f'"{self.revision}.{rights}{f".{also}" if also else ""}"'
        headers = {**DATA, "ETag": tag}
        if self.known == tag:
            return Response(status_code=304, headers=headers)
        try:
            content = json.dumps(work(), allow_nan=False, separators=(",", ":"))
        except NotFound as error:
            raise HTTPException(404, str(error)) from error
        except InvalidInput as error:
            raise HTTPException(422, str(error)) from error
        return Response(content, media_type="application/json", headers=headers)


def asked(request: Request, user: GetUserDep, session: SessionDep) -> Iterator[Asked]:
    """Open the index for a person who may read assets, and find out what of it is theirs to see."""
    there = set(session.scalars(select(DagModel.dag_id)))
    hidden = frozenset(there - get_auth_manager().get_authorized_dag_ids(user=user, session=session))
    path = index_path()
    if not Path(path).exists():
        Index.open(path).close()
    with closing(reader(path)) as connection:
        connection.execute("BEGIN")  # all that is read for one answer is of one moment
        revision = connection.execute("SELECT ifnull(max(seq), 0) FROM records").fetchone()[0]
        readable = frozenset(there - hidden)
        kept = closed(user, session)
        allowed, partly, open_ = _rights(connection, path, revision, hidden, readable, kept)
        known = request.headers.get("if-none-match", "")
        yield Asked(connection, revision, hidden, readable, allowed, partly, kept, open_, known)


#: A route that takes it is closed to whoever may not read assets.
AskedDep = Annotated[Asked, Depends(asked, scope="function")]
ASSETS = Depends(requires_access_asset("GET"))


def _rights(
    connection: sqlite3.Connection,
    path: str,
    revision: int,
    hidden: frozenset[str],
    readable: frozenset[str],
    kept: frozenset[str],
) -> _Rights:
    if not hidden and not kept:
        return None, frozenset(), None

    def found() -> _Rights:
        of_others = told_by(connection, hidden)
        open_ = frozenset(deliverables(connection, limit=_ALL)) - kept
        partly = (of_others & told_by(connection, readable)) - kept
        return open_ - of_others, partly, open_ if kept else None

    return _KEPT.of((path, revision, hidden, readable, kept), found)


class _Kept:
    """The last answers, since a page asks the same many times."""

    def __init__(self) -> None:
        self._found: dict[Any, _Rights] = {}

    def of(self, key: Any, work: Callable[[], _Rights]) -> _Rights:
        if key not in self._found:
            if len(self._found) >= 100:
                self._found.clear()
            self._found[key] = work()
        return self._found[key]


_KEPT = _Kept()
