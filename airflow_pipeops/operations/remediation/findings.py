"""What was found to be wrong, in the words of the remediator."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

from airflow_pipeops.base.arguments import mapping, not_empty, one_of, texts
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.delivery.records import canonical
from airflow_pipeops.exceptions import InvalidInput

FindingKind = Literal["anomaly", "drift", "degraded_release", "failed_gate", "failed_run", "late_labels"]
KINDS: tuple[FindingKind, ...] = get_args(FindingKind)


@dataclass(frozen=True)
class Finding(JsonForm):
    """A fault that somebody's judge has found.

    :param kind: one of :data:`KINDS`.
    :param deliverable: that it is about.
    :param environment: in which.
    :param at: when the evidence was seen, as ISO-8601 with a zone. The same fault seen again later is another finding.
    :param reason: one sentence.
    :param target: what can be acted on: ``dag``, ``run``, ``task``, ``upstream``, ``batch``, ``commit``, ``order``.
    :param affected: other deliverables that an act would touch, by lineage.
    :param changed_by: the operation of the remediator that has changed what is at fault, if it is known.
    :param record: id of the record that says so.
    """

    kind: FindingKind
    deliverable: str
    environment: str
    at: str
    reason: str = ""
    target: Mapping[str, Any] = field(default_factory=dict)
    affected: tuple[str, ...] = ()
    changed_by: str = ""
    record: str = ""

    def __post_init__(self) -> None:
        one_of("kind", self.kind, KINDS, called="kind of finding")
        for name in ("deliverable", "environment"):
            not_empty(name, getattr(self, name), f"a finding names no {name}", "Give its name.")
        texts("affected", self.affected, of="a finding")
        if not isinstance(self.reason, str):
            said = f"reason of a finding is {self.reason!r}"
            raise InvalidInput(said, field="reason", value=self.reason, remedy="Give one sentence.")
        mapping("target", self.target, "Give names and values.")
        moment("at", self.at)

    @property
    def key(self) -> str:
        """Which finding it is, whoever tells it."""
        what = [self.kind, self.deliverable, self.environment, self.at, dict(self.target)]
        return hashlib.sha256(canonical(what, "finding", "a finding")).hexdigest()[:16]

    @classmethod
    def of(cls, given: Any) -> Finding:
        """Read a finding.

        :param given: a finding, or the mapping of its fields.
        :return: the finding.
        :raises InvalidInput: for anything else.
        """
        if isinstance(given, cls):
            return given
        try:
            return cls.from_json(mapping("finding", given, "Give kind, deliverable, environment and at."))
        except TypeError as error:
            raise InvalidInput(f"a finding is incomplete: {error}", field="finding") from error


def moment(name: str, text: str) -> datetime:
    """Read a time.

    :param name: of the field.
    :param text: ISO-8601, with a zone.
    :return: the time.
    :raises InvalidInput: for anything else.
    """
    try:
        found = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        found = None
    if found is None or found.tzinfo is None:
        raise InvalidInput(
            f"{name} {text!r} is no time with a zone",
            field=name,
            value=text,
            remedy="E.g. 2026-01-31T12:00:00+00:00.",
        )
    return found
