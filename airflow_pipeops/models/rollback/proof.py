"""What proves that the model before runs again: a verdict of a kind that is known, on its digest, after the change. Pure.

Who names a digest has proven nothing: the digest stood in the order. So a proof is what one of three tasks has returned: the
one that asked an endpoint, the one that waited for a stream, or the one that scored a partition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, get_args

from airflow_pipeops.base.documents import map_, text, time_of
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.exceptions import InvalidInput

Kind = Literal["endpoint", "stream", "batch"]
#: By what the output of a task is known to be of a kind.
_MARKS: Mapping[Kind, frozenset[str]] = {
    "endpoint": frozenset({"url", "rows", "max_difference", "verified_at"}),
    "stream": frozenset({"release", "rule", "proven_by", "partitions", "seen_at"}),
    "batch": frozenset({"partition", "outcome", "manifest", "shown", "shown_at"}),
}
_FROM = "Pass the output of VerifyModelOperator, StreamLiveSensor or BatchScoreOperator."
#: Clocks of two machines may differ, and a commit has whole seconds.
SKEW = timedelta(seconds=5)


@dataclass(frozen=True)
class Proof(JsonForm):
    """What a task has seen of the model that runs.

    :param kind: ``endpoint``, ``stream`` or ``batch``.
    :param sha256: digest of the model.
    :param at: when it was seen, as an ISO-8601 time.
    :param where: the URL, the group and its topic, or the manifest.
    :param against: why it proves nothing, whatever its digest and its time; empty if it may.
    """

    kind: Kind
    sha256: str
    at: str
    where: str
    against: str = ""


def kind_of(given: Any) -> Kind:
    """Say what a task has returned.

    :param given: the output.
    :return: its kind.
    :raises InvalidInput: for the output of any other task, and for a mapping of one's own.
    """
    there = map_(given)
    for kind in get_args(Kind):
        if _MARKS[kind] <= set(there):
            return kind  # type: ignore[no-any-return]
    nearest = max(get_args(Kind), key=lambda kind: len(_MARKS[kind] & set(there)))
    lacks = sorted(_MARKS[nearest] - set(there))
    some = (
        f"of kind {nearest!r} it lacks {', '.join(lacks)}" if len(lacks) < len(_MARKS[nearest]) else "no kind"
    )
    said = f"it names {', '.join(sorted(map(str, there))[:8])}; {some}" if there else "it is empty"
    raise InvalidInput(f"the proof is of no kind that is known: {said}", field="proof", remedy=_FROM)


def proof_of(given: Any, manifest: Mapping[str, Any] | None = None) -> Proof:
    """Read what a task has returned.

    :param given: the output.
    :param manifest: of a batch, as it lies in its store; ``None`` where it is not there.
    :return: the proof.
    :raises InvalidInput: see :func:`kind_of`.
    """
    kind, there = kind_of(given), map_(given)
    if kind == "endpoint":
        none = "" if _count(there["rows"]) else "no row was asked for"
        return Proof(kind, text(there.get("sha256")), str(there["verified_at"]), str(there["url"]), none)
    if kind == "stream":
        return Proof(
            kind, text(there.get("sha256")), str(there["seen_at"]), str(there.get("app")), _stream(there)
        )
    return Proof(
        kind,
        text(there.get("sha256")),
        str(there["shown_at"]),
        str(there["manifest"]),
        _batch(there, manifest),
    )


def against(proof: Proof, sha256: str, since: str) -> str:
    """Say why a proof does not prove that a model runs after a change.

    :param proof: what was seen.
    :param sha256: digest of the model.
    :param since: when the change was committed, as an ISO-8601 time.
    :return: the reason; empty where it is proven.
    """
    if proof.sha256 != sha256:
        return f"the {proof.kind} shows {proof.sha256[:12] or 'no model'}"
    if proof.against:
        return f"the {proof.kind} {proof.where} tells nothing: {proof.against}"
    seen, changed = time_of(proof.at), time_of(since)
    if seen is None or changed is None:
        return f"nobody can tell whether the {proof.kind} was seen ({proof.at}) after the change ({since})"
    if seen < changed - SKEW:
        return f"the {proof.kind} was seen at {proof.at}, before the change at {since}"
    return ""


def _stream(there: Mapping[str, Any]) -> str:
    if there["rule"] != "live":
        return f"its verdict is {there['rule']!r}, and live is asked for"
    if there["proven_by"] != "committed offsets":
        return f"it is proven by {there['proven_by'] or 'nothing'}: no record was scored yet; wait with on_idle='wait'"
    return "" if map_(there["partitions"]) else "it names no partition"


def _batch(there: Mapping[str, Any], manifest: Mapping[str, Any] | None) -> str:
    if there["shown"] is not True:
        return f"readers do not see these scores ({there['outcome']})"
    if manifest is None:
        return "its manifest is not there"
    found = map_(manifest.get("model")).get("sha256")
    if found != there.get("sha256"):
        return f"its manifest is of {str(found or 'no model')[:12]}"
    if manifest.get("passed") is not True or manifest.get("shadow"):
        return "its manifest is of a shadow, or of scores that did not pass their contract"
    return "" if _count(manifest.get("rows")) else "no row was scored"


def _count(value: Any) -> int:
    return value if type(value) is int and value > 0 else 0
