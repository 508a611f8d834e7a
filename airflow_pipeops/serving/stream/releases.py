"""The release table of a stream: which model scores the record at an offset of a partition. Pure.

It is a ConfigMap in Git with one key for each release, ``r1``, ``r2``, ...; a value is JSON::

    {"model": {"name": ..., "version": ..., "uri": ..., "sha256": ...}, "from": {"0": 1200, "1": 1180}}

``from`` names the first offset of each partition that the release scores; ``null`` announces it: members load and verify
the model, and score nothing with it. Of several releases that have begun, the last in the table decides. So two members
with the same table agree, a replay gives the same scores, and a rollback is one more release.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from airflow_pipeops.base.arguments import matching
from airflow_pipeops.base.documents import map_, parsed, whole
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.serving.stream.progress import Progress

#: Names of releases.
REVISION = re.compile(r"r[1-9][0-9]{0,8}")
_PARTITION = re.compile(r"0|[1-9][0-9]{0,8}")
#: Offsets are smaller.
_MOST = 2**63
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FORM = 'Write {"model": {"name", "version", "uri", "sha256"}, "from": {partition: offset} or null}.'
#: The longest value of a release that is read.
_LIMIT = 200_000


@dataclass(frozen=True)
class Model(JsonForm):
    """The model of a release.

    :param name: of the model.
    :param version: of it, in the registry.
    :param uri: folder of its artifact.
    :param sha256: digest of the artifact.
    """

    name: str
    version: str
    uri: str
    sha256: str


@dataclass(frozen=True)
class Release:
    """One row of the table.

    :param revision: its name, ``r`` and a number.
    :param model: that scores.
    :param start: partition -> first offset that it scores; ``None`` where the release is only announced.
    :param rescore: records that an earlier release has scored are scored once more, from ``start`` on.
    """

    revision: str
    model: Model
    start: Mapping[int, int] | None = None
    rescore: bool = False

    def to_text(self) -> str:
        """Return the value as it stands in the table."""
        content: dict[str, Any] = {"model": self.model.to_json()}
        content["from"] = None if self.start is None else {str(p): self.start[p] for p in sorted(self.start)}
        if self.rescore:
            content["rescore"] = True
        return json.dumps(content)


@dataclass(frozen=True)
class Table:
    """All releases of a stream.

    :param releases: in their order; of those that have begun at an offset, the last decides.
    """

    releases: tuple[Release, ...]

    def find(self, revision: str) -> Release | None:
        """Return a release by its name."""
        return next((one for one in self.releases if one.revision == revision), None)

    def begun_in(self) -> tuple[int, ...]:
        """Return the partitions in which any release has begun."""
        return tuple(sorted({number for one in self.releases for number in one.start or ()}))

    def scoring(self) -> dict[int, Release]:
        """Return the release that scores what comes last in each partition in which any has begun."""
        return {number: one for one in self.releases for number in one.start or ()}

    def model_for(self, partition: int, offset: int) -> Release | None:
        """Return the release that scores a record; ``None`` where none has begun there."""
        begun = (
            one
            for one in reversed(self.releases)
            if one.start is not None and partition in one.start and one.start[partition] <= offset
        )
        return next(begun, None)


def read(data: Mapping[str, str]) -> Table:
    """Read the table from the keys of its ConfigMap.

    :param data: key -> value; in a mounted ConfigMap, name of a file -> its text.
    :return: the table.
    :raises InvalidInput: for the first key or value that makes no sense.
    """
    releases = [_release(key, value) for key, value in data.items()]
    return Table(tuple(sorted(releases, key=lambda one: int(one.revision[1:]))))


def announced(table: Table, model: Model) -> Release:
    """Return the release that announces a model.

    :return: the last release, where it announces this very model and has not begun; else a new one.
    :raises InvalidInput: for a model without a digest.
    """
    _check(model, "model")
    last = table.releases[-1] if table.releases else None
    if last is not None and last.start is None and last.model == model:
        return last
    return Release(f"r{int(last.revision[1:]) + 1 if last else 1}", model)


def begun(
    table: Table,
    revision: str,
    start: Mapping[int, int],
    committed: Mapping[int, int],
    *,
    rescore: bool = False,
    last: Mapping[int, str] | None = None,
) -> Release:
    """Return a release with the offsets from which it scores.

    :param revision: of an announced release, or of one whose start is moved.
    :param start: first offset by partition.
    :param committed: how far each partition is scored.
    :param rescore: let it begin below that: those records are scored once more.
    :param last: release that has scored the last record of each partition.
    :return: the release as it is to stand in the table.
    :raises InvalidInput: where the release is unknown, a later one has begun, or a start lies where records are scored.
    """
    release = known(table, revision)
    later = [one for one in table.releases if int(one.revision[1:]) > int(revision[1:]) and one.start]
    if later:
        raise InvalidInput(
            f"release {later[-1].revision} is later than {revision} and has begun",
            field="revision",
            value=revision,
            remedy="Announce the model again; it becomes a release of its own.",
        )
    if not start or any(number < 0 or not 0 <= offset < _MOST for number, offset in start.items()):
        raise InvalidInput(
            "a release begins at an offset of a partition",
            field="start",
            value=dict(start),
            remedy="Give {partition: offset}, or leave start out: then it begins at the end.",
        )
    passed = {p: offset for p, offset in start.items() if offset < committed.get(p, 0)}
    if passed and not rescore:
        partition, offset = min(passed.items())
        raise InvalidInput(
            f"partition {partition} is scored up to {committed[partition]}, beyond the start {offset} of {revision}",
            field="start",
            value=offset,
            remedy="Begin further ahead, or set rescore: those records are scored once more.",
        )
    if twice := [partition for partition in passed if (last or {}).get(partition) == revision]:
        # It would score them twice under one name, and readers could not tell which came later.
        raise InvalidInput(
            f"{revision} has scored partition {min(twice)} already, and is to begin at {passed[min(twice)]}",
            field="start",
            value=dict(start),
            remedy="Announce the model again: a second replay is a release of its own.",
        )
    return replace(release, start=dict(start), rescore=rescore)


def known(table: Table, revision: str) -> Release:
    """Return a release by its name.

    :return: the release.
    :raises InvalidInput: where the table has none of that name.
    """
    if found := table.find(revision):
        return found
    raise InvalidInput(
        f"the release table has no release {revision!r}",
        field="revision",
        value=revision,
        remedy=f"It has {', '.join(one.revision for one in table.releases[-5:]) or 'none'}.",
    )


@dataclass(frozen=True)
class Course:
    """What a member does with a partition that it was assigned, or whose table has changed.

    :param act: ``go`` on from ``offset``, or stay ``paused`` there.
    :param offset: where the next record is read; ``None`` where nobody knows.
    :param rule: why it is paused, as a stable name.
    :param reason: the same as a sentence.
    :param again: where the group goes back, the last offset that has been scored before.
    """

    act: Literal["go", "paused"]
    offset: int | None
    rule: str = ""
    reason: str = ""
    again: int | None = None


def course(
    table: Table, partition: int, committed: int | None, progress: Progress | None, *, fresh: bool
) -> Course:
    """Say how a partition goes on.

    :param table: as this member knows it.
    :param partition: its number.
    :param committed: the group's committed offset; ``None`` where there is none.
    :param progress: what was committed with it; ``None`` where nothing was, as when a person has set the offset.
    :param fresh: nothing has ever been scored here, so that a missing offset is no lost one.
    :return: where it goes on, or why not.
    """
    if committed is None:
        starts = [one.start[partition] for one in table.releases if one.start and partition in one.start]
        if not starts:
            return _no_release(partition, None)
        if not fresh:
            reason = (
                f"the group has no committed offset for partition {partition}, and has scored records before"
            )
            return Course("paused", None, "offsets_lost", reason)
        return Course("go", min(starts))
    if progress is not None and progress.member and not progress.last:
        # Nothing was scored here yet, so that the first start may still be moved ahead.
        first = min(
            (one.start[partition] for one in table.releases if one.start and partition in one.start),
            default=0,
        )
        if committed < first:
            return Course("go", first)
    if progress is not None and progress.last and progress.at is not None:
        past = _past(table, partition, committed, progress)
        if past is not None:
            return past
    if table.model_for(partition, committed) is None:
        return _no_release(partition, committed)
    return Course("go", committed)


def _past(table: Table, partition: int, committed: int, progress: Progress) -> Course | None:
    """Compare what has scored the last record with what the table says; ``None`` where they agree."""
    assert progress.at is not None
    if table.find(progress.last) is None:
        reason = f"offset {progress.at} of partition {partition} was scored by {progress.last}, which this table lacks"
        return Course("paused", committed, "unknown_release", reason)
    says = table.model_for(partition, progress.at)
    if says is None or says.revision == progress.last:
        return None
    assert says.start is not None
    if says.rescore:
        return Course("go", says.start[partition], again=progress.at)
    reason = (
        f"{says.revision} begins at offset {says.start[partition]} of partition {partition}, "
        f"and {progress.last} has scored up to {progress.at}"
    )
    return Course("paused", committed, "start_passed", reason)


def _no_release(partition: int, offset: int | None) -> Course:
    at = "" if offset is None else f" at offset {offset}"
    reason = f"no release of the table has begun in partition {partition}{at}"
    return Course("paused", offset, "no_release", reason)


def _release(key: str, value: str) -> Release:
    field = f"data.{key}"
    matching(field, key, REVISION, "the name of a release", 'Call releases "r1", "r2", ...', called="the key")
    try:
        content = parsed(value, _LIMIT)
    except (ValueError, TypeError) as error:
        raise InvalidInput(
            f"release {key} is no JSON: {error}", field=field, value=value, remedy=_FORM
        ) from None
    given, model = map_(content), map_(map_(content).get("model"))
    texts: dict[str, str] = {}
    for name in ("name", "version", "uri", "sha256"):
        text = model.get(name)
        if isinstance(text, str) and text:
            texts[name] = text
        else:
            raise InvalidInput(
                f"the model of release {key} has no {name}",
                field=f"{field}.model.{name}",
                value=text,
                remedy=_FORM,
            )
    if unknown := sorted(set(given) - {"model", "from", "rescore"}):
        raise InvalidInput(
            f"release {key} says {unknown[0]!r}, which means nothing",
            field=f"{field}.{unknown[0]}",
            remedy=_FORM,
        )
    release = Release(
        key, Model(**texts), _start(key, given.get("from")), given.get("rescore", False) is True
    )
    _check(release.model, f"{field}.model")
    return release


def _start(key: str, value: Any) -> dict[int, int] | None:
    if value is None:
        return None
    found: dict[int, int] = {}
    for partition, offset in map_(value).items():
        number = whole(offset)
        if not _PARTITION.fullmatch(partition) or number is None or not 0 <= number < _MOST:
            raise InvalidInput(
                f"release {key} begins at {offset!r} of partition {partition!r}, which is no offset of a partition",
                field=f"data.{key}.from",
                value=offset,
                remedy=_FORM,
            )
        found[int(partition)] = number
    if not found:
        raise InvalidInput(
            f"release {key} begins nowhere", field=f"data.{key}.from", value=value, remedy=_FORM
        )
    return found


def _check(model: Model, field: str) -> None:
    matching(
        f"{field}.sha256",
        model.sha256,
        _SHA256,
        "a SHA-256 digest",
        "Give the 64 hex digits of the artifact's digest, as the registry has them.",
    )
