"""Records: immutable, content-addressed facts about a deliverable.

A record is JSON. Its id is the SHA-256 of its canonical form, and it names its parents by their ids, as commits do
in Git, so a set of records is a Merkle graph: nobody can change one without changing the ids of all that follow.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from typing import Any, ClassVar, Literal, get_args

import rfc8785

from airflow_pipeops.base.arguments import mapping, matching, one_of
from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.exceptions import InvalidInput

#: Version of the shape below. A reader refuses what it does not know.
SCHEMA = "pipeops/v1"

#: What a record can be about, in the order in which a delivery usually meets them.
RecordKind = Literal[
    "commit",
    "batch",
    "dataset",
    "validation",
    "workflow",
    "image",
    "training",
    "model",
    "alias",
    "prompt",
    "scores",
    "evaluation",
    "drift",
    "differences",
    "decision",
    "tuning",
    "approval",
    "change",
    "release",
    "rollback",
    "incident",
    "explanation",
    "anomaly",
    "remediation",
    "failure",
]
KINDS: tuple[RecordKind, ...] = get_args(RecordKind)
#: Health that a release record tells of what does not work.
ILL = ("Degraded", "Missing")

#: Kinds of record that happen in an environment, and so have one asset per environment.
PER_ENVIRONMENT = frozenset({"change", "release", "rollback", "incident", "remediation"})

#: Larger contents belong into evidence: a stored file, named here by URI and digest.
MAX_BYTES = 16 * 1024

#: What Airflow writes into the ``extra`` of an event by itself.
STAMPS = frozenset({"from_rest_api", "from_trigger"})

_ID = re.compile(r"[0-9a-f]{64}")

#: Airflow's readers of JSON give up on what is nested deeper than this by far.
_DEPTH = 50
#: Of a file name, in bytes, as file systems have it.
_NAME_BYTES = 255


@dataclass(frozen=True)
class Evidence(JsonForm):
    """A stored file that backs a record.

    :param name: short name, for example ``drift.html``.
    :param uri: where it is.
    :param sha256: hex digest of its bytes.
    :param media_type: for example ``text/html``.
    """

    name: str
    uri: str
    sha256: str
    media_type: str = "application/octet-stream"

    def __post_init__(self) -> None:
        file_name(self.name)


@dataclass(frozen=True)
class Record:
    """One fact.

    :param kind: one of :data:`KINDS`.
    :param deliverable: name of the deliverable.
    :param body: the fact itself; JSON values only.
    :param parents: ids of the records it was made from.
    :param environment: where a change, release, rollback, incident or remediation happened.
    :param commit: full SHA of the commit it was born from, if any.
    :param at: when, as an ISO-8601 UTC time.
    :param source: which DAG, run, task and map index said so.
    :param evidence: stored files that back it.
    :param read_from: the JSON that it was read from. What a later version has written is kept as it is: an unknown kind, and
        unknown fields, which its id counts in.
    :raises InvalidInput: for an unknown kind, a malformed parent id, or a content over :data:`MAX_BYTES`.
    """

    kind: RecordKind
    deliverable: str
    body: Mapping[str, Any]
    parents: tuple[str, ...] = ()
    environment: str | None = None
    commit: str | None = None
    at: str = ""
    source: Mapping[str, Any] = field(default_factory=dict)
    evidence: tuple[Evidence, ...] = ()
    read_from: InitVar[Mapping[str, Any] | None] = None
    #: What it was read from, of the object; no field, so that a copy with another body is no longer what was read.
    _read: ClassVar[Mapping[str, Any] | None] = None

    def __post_init__(self, read_from: Mapping[str, Any] | None) -> None:
        if read_from is None:
            one_of("kind", self.kind, KINDS, called="record kind")
        else:
            object.__setattr__(self, "_read", content_of(read_from))
        for part, value in (("body", self.body), ("source", self.source)):
            mapping(part, value, "Give names and values.", message=f"the {part} of a record is no object")
        for part in ("kind", "deliverable", "at", "environment", "commit", "source", "body"):
            _check(getattr(self, part), part, self.kind)
        for parent in self.parents:
            remedy = "Pass the record_id that the upstream task returned (64 hex digits)."
            matching("parents", parent, _ID, "a record id", remedy, called="parent")
        size = len(self.canonical())
        if size > MAX_BYTES:
            raise InvalidInput(
                f"a {self.kind} record of {size:,} bytes exceeds the limit of {MAX_BYTES:,}",
                field="body",
                value=size,
                remedy="Store the large part as evidence and keep its URI and digest.",
            )

    def canonical(self) -> bytes:
        """Return the canonical JSON of RFC 8785."""
        return canonical(self._content(), "body", f"the body of a {self.kind} record")

    @property
    def id(self) -> str:
        """SHA-256 of the canonical form, as 64 hex digits."""
        return hashlib.sha256(self.canonical()).hexdigest()

    def to_extra(self) -> dict[str, Any]:
        """Return the JSON form that travels as the ``extra`` of an asset event."""
        return {**self._content(), "id": self.id}

    @classmethod
    def from_extra(cls, extra: Mapping[str, Any]) -> Record:
        """Read a record back.

        :param extra: what :meth:`to_extra` returned.
        :return: the record.
        :raises InvalidInput: if it is of another schema, incomplete, or its id does not match its content.
        """
        if extra.get("schema") != SCHEMA:
            raise InvalidInput(
                f"not a record: schema is {extra.get('schema')!r}", field="schema", value=extra.get("schema")
            )
        try:
            record = cls(
                kind=extra["kind"],
                deliverable=extra["deliverable"],
                body=extra["body"],
                parents=tuple(extra["parents"]),
                environment=extra["environment"],
                commit=extra["commit"],
                at=extra["at"],
                source=extra["source"],
                evidence=tuple(Evidence.from_json(item) for item in extra["evidence"]),
                read_from=extra,
            )
        except (KeyError, TypeError) as error:
            raise InvalidInput(f"a record is incomplete: {error}", field="extra") from error
        if extra.get("id") != record.id:
            raise InvalidInput(
                f"record {extra.get('id')!r} has been altered: its content hashes to {record.id}",
                field="id",
                value=extra.get("id"),
            )
        return record

    def _content(self) -> dict[str, Any]:
        if self._read is not None:
            return dict(self._read)
        return {
            "schema": SCHEMA,
            "kind": self.kind,
            "deliverable": self.deliverable,
            "environment": self.environment,
            "commit": self.commit,
            "at": self.at,
            "source": dict(self.source),
            "body": dict(self.body),
            "parents": list(self.parents),
            "evidence": [item.to_json() for item in self.evidence],
        }


def canonical(value: Any, field: str, called: str) -> bytes:
    """Return the canonical JSON of RFC 8785, which is the same wherever it is read and written again.

    :param value: what JSON can hold.
    :param field: of the error.
    :param called: how the error calls the value.
    :return: UTF-8: names sorted, no spaces, numbers as ECMAScript writes them.
    :raises InvalidInput: for what JSON cannot hold, and for whole numbers that a reader may not hold exactly.
    """
    try:
        return rfc8785.dumps(json.loads(json.dumps(value, allow_nan=False)))
    except (TypeError, ValueError, RecursionError) as error:  # those of the library are ValueErrors
        raise InvalidInput(
            f"{called} is not JSON: {error}",
            field=field,
            remedy="Use strings, finite numbers below 2^53, booleans, null, lists and objects only.",
        ) from error


def identity(extra: Mapping[str, Any]) -> str:
    """Work out the id of a record, with all that it holds, whatever a later version has added.

    :param extra: what :meth:`Record.to_extra` returned.
    :return: the id that it ought to have.
    :raises InvalidInput: if it has no canonical form.
    """
    return hashlib.sha256(canonical(content_of(extra), "extra", "a record")).hexdigest()


def content_of(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an id is worked out of: all but the id itself, and what Airflow has stamped."""
    return {name: value for name, value in extra.items() if name != "id" and name not in STAMPS}


def placed_by(extra: Mapping[str, Any], uri: str) -> str:
    """Say why a record does not belong on an asset.

    :param extra: of the event, as :meth:`Record.to_extra` returned it.
    :param uri: of the asset; one that is no deliverable's, or unknown, says nothing.
    :return: the reason; empty if it may be there.
    """
    if not uri.startswith("pipeops://"):
        return ""
    kind, about, environment = (text(extra.get(part)) for part in ("kind", "deliverable", "environment"))
    allowed = {f"{kind}/{environment}" if kind in PER_ENVIRONMENT else kind}
    if kind == "decision":
        allowed.add("retrain")
    if kind not in KINDS:  # of a later version, which alone knows whether it happens somewhere
        allowed.add(f"{kind}/{environment}")
    if uri in [f"pipeops://{about}/{path}" for path in allowed]:
        return ""
    where = f" in {environment}" if environment else ""
    return f"{uri}: a {kind} record of {about}{where} does not belong there"


def emitted_elsewhere(
    extra: Mapping[str, Any], dag: str | None, run: str | None, task: str | None, map_index: int | None
) -> str:
    """Say why the source that a record names is not the task that has emitted it, as Airflow knows it.

    :param extra: of the event, as :meth:`Record.to_extra` returned it.
    :param dag: of the event's source.
    :param run: of that DAG.
    :param task: of that DAG; none where no task has emitted it, which says nothing.
    :param map_index: of that task.
    :return: the reason; empty if it is, as far as the record says.
    """
    source = map_(extra.get("source"))
    known = {"dag": dag, "run": run, "task": task, "map_index": map_index}
    for part, value in known.items() if task else ():
        if part in source and source[part] != value:
            return f"it says that its {part} was {source[part]!r}, and Airflow that it was {value!r}"
    return ""


def parent_ids(values: Sequence[Any]) -> tuple[str, ...]:
    """Flatten and de-duplicate parent ids, leaving out the empty ones, in the order given.

    :param values: ids, or lists of them, however deep.
    :return: the ids.
    :raises InvalidInput: for an object, such as the whole output of a task.
    """
    found: dict[str, None] = {}
    for value in values:
        if not value:
            continue
        if isinstance(value, str):
            found[value] = None
        elif isinstance(value, Mapping):
            raise InvalidInput(
                "a parent is a record id, not an object",
                field="parents",
                remedy='Pass task.output["record_id"].',
            )
        else:
            found.update(dict.fromkeys(parent_ids(list(value))))
    return tuple(found)


def gate_passed(body: Mapping[str, Any]) -> bool | None:
    """Tell what a gate has found.

    :param body: of its record. Of tests, ``passed`` is how many did, and the result of in-toto decides.
    :return: whether it said yes, which of a result only PASSED and WARNED do; none if it does not tell.
    """
    result = text(map_(body.get("test-result")).get("result"))
    if result:
        return result in ("PASSED", "WARNED")
    said = body.get("passed", body.get("promote"))
    return said if isinstance(said, bool) else None


def file_name(name: str) -> str:
    """Refuse what is no plain file name everywhere: with a slash, a dot in front, control characters, or too long.

    :return: the name.
    :raises InvalidInput: for any other.
    """
    plain = isinstance(name, str) and bool(name) and "/" not in name and not name.startswith(".")
    if not plain or any(ord(letter) < 32 or "\ud800" <= letter <= "\udfff" for letter in name):
        raise InvalidInput(f"evidence name {name!r} is not a plain file name", field="name", value=name)
    if len(name.encode()) > _NAME_BYTES:
        raise InvalidInput(
            f"evidence name {name[:40]!r}... has {len(name.encode())} bytes",
            field="name",
            value=len(name.encode()),
            remedy=f"Use a name of at most {_NAME_BYTES} bytes.",
        )
    return name


def _check(value: Any, where: str, kind: str, depth: int = 0) -> None:
    """Refuse what would be written, and could not be read back as it was: JSON names are texts, and texts are Unicode."""
    said = remedy = ""
    if depth > _DEPTH:
        said, remedy = f"is nested deeper than {_DEPTH} levels", "Keep it as evidence."
    elif isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        said, remedy = "holds half a character (a lone surrogate)", "Decode the text with errors='replace'."
    elif isinstance(value, Mapping):
        for name, item in value.items():
            if not isinstance(name, str):
                said, remedy = f"has the name {name!r}, which is no text", f"Write {str(name)!r}."
                break
            _check(name, where, kind, depth)
            _check(item, f"{where}.{name}", kind, depth + 1)
    elif isinstance(value, (list, tuple)):
        for place, item in enumerate(value):
            _check(item, f"{where}[{place}]", kind, depth + 1)
    if said:
        field = where[:200].encode("utf-8", "replace").decode()
        raise InvalidInput(f"{field} of a {kind} record {said}", field=field, remedy=remedy)
