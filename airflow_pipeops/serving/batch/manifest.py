"""What a scored partition says of itself, and which of them readers see. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

from airflow_pipeops.base.arguments import mapping, one_of
from airflow_pipeops.base.documents import parsed, text
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.exceptions import BadResponse, InvalidInput
from airflow_pipeops.serving.batch.contract import Check, Scored

FORMAT = "pipeops-scores/v1"
#: Of what a scorer does with rows and scores: another number, and equal rows and models are scored anew.
CODE = "scorer/1"
#: What is done with partitions that another model has scored: leave them, score those from one on, or all.
Rescore = Literal["none", "since", "all"]

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Pinned(JsonForm):
    """A model version, named once and for all.

    :param name: of the model.
    :param version: in the registry.
    :param sha256: digest of its artifact.
    :param artifact_uri: where that is.
    :param reference_uri: the data that it has learned from; empty where nobody knows.
    :param commit: of the desired state that names it; empty where none does.
    :param pinned_at: when it was named, as an ISO-8601 UTC time.
    """

    name: str
    version: str
    sha256: str
    artifact_uri: str
    reference_uri: str = ""
    commit: str = ""
    pinned_at: str = ""

    @classmethod
    def of(cls, given: Any, called: str = "model") -> Pinned:
        """Read what a task was given.

        :param given: what :class:`~airflow_pipeops.serving.batch.operators.PromotedModelOperator` returned, or a mapping
            with ``name``, ``version``, ``sha256`` and ``artifact_uri``, such as ``RegisterModelOperator`` returns.
        :param called: name of the argument.
        :return: the version.
        :raises InvalidInput: for anything else, such as an alias or a name: what they mean changes.
        """
        remedy = "Pass what PromotedModelOperator or RegisterModelOperator returned: an alias may change meanwhile."
        found = dict(mapping(called, given, remedy, message=f"{called} is no pinned version"))
        found.setdefault("name", found.get("model"))
        for part in ("name", "version", "sha256", "artifact_uri"):
            if not found.get(part):
                raise InvalidInput(f"{called} has no {part}", field=f"{called}.{part}", remedy=remedy)
        if not _SHA256.fullmatch(str(found["sha256"])):
            raise InvalidInput(
                f"{called}.sha256 is no digest",
                field=f"{called}.sha256",
                value=found["sha256"],
                remedy=remedy,
            )
        names = ("name", "version", "sha256", "artifact_uri", "reference_uri", "commit", "pinned_at")
        return cls(**{part: str(found.get(part) or "") for part in names})

    def __str__(self) -> str:
        return f"{self.name} version {self.version} ({self.sha256[:12]})"


def score_key(input_digest: str, sha256: str, contract: Mapping[str, Any], outputs: str) -> str:
    """Return the identity of scores: what they are of, by what, and under which contract.

    :param input_digest: of the rows.
    :param sha256: of the model.
    :param contract: JSON form of what is demanded of them.
    :param outputs: what is written for each row.
    :return: 64 hex digits.
    """
    parts = [CODE, input_digest, sha256, json.dumps(contract, sort_keys=True), outputs]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Part(JsonForm):
    """A file of scores.

    :param name: in the folder of the manifest.
    :param rows: in it.
    :param sha256: of its bytes.
    """

    name: str
    rows: int
    sha256: str


@dataclass(frozen=True)
class Manifest(JsonForm):
    """What a scored partition says of itself. It is written last, and once: where it is, the rest is there.

    :param key: identity of the scores: see :func:`score_key`.
    :param partition: that was scored.
    :param input_digest: of its rows, in whatever order.
    :param rows: how many.
    :param model: that scored them.
    :param output_digest: of the lines that were written, in whatever order.
    :param columns: of each file: name and type.
    :param outputs: those of them that the model gave.
    :param parts: the files.
    :param scored: output -> what was given, with its histogram.
    :param before: verdicts on the rows.
    :param suite: digest of the suite of Great Expectations that the rows were judged by; empty where there was none.
    :param after: verdicts on the scores.
    :param passed: whether all of them let readers see the scores.
    :param shadow: whether it is a challenger's, which nobody is to see.
    :param source: what the rows were read from, without secrets.
    :param engine: what read them, and where it ran.
    :param versions: of the libraries that scored.
    :param attempt: that wrote it.
    :param started: when, as an ISO-8601 UTC time.
    :param finished: when.
    """

    key: str
    partition: str
    input_digest: str
    rows: int
    model: Pinned
    output_digest: str
    columns: tuple[tuple[str, ...], ...] = ()
    outputs: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    scored: Mapping[str, Any] = field(default_factory=dict)
    before: tuple[Check, ...] = ()
    suite: str = ""
    after: tuple[Check, ...] = ()
    passed: bool = False
    shadow: bool = False
    source: Mapping[str, Any] = field(default_factory=dict)
    engine: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    attempt: str = ""
    started: str = ""
    finished: str = ""

    def to_bytes(self) -> bytes:
        """Return the file."""
        return json.dumps({"format": FORMAT, **self.to_json()}, sort_keys=True, indent=1).encode()

    @classmethod
    def from_bytes(cls, content: bytes, uri: str) -> Manifest:
        """Read it back.

        :param content: of the file.
        :param uri: of the file.
        :return: the manifest.
        :raises BadResponse: if it is none.
        """
        return cls.from_json(_document(content, uri))

    def histogram(self, output: str) -> Scored:
        """Return what was given for an output."""
        return Scored.from_json(self.scored.get(output))


@dataclass(frozen=True)
class Judgement(JsonForm):
    """What a suite of Great Expectations says of rows that were scored before it was there. It lies beside their manifest.

    :param suite: its digest.
    :param checks: its verdicts, which let the rows pass.
    :param at: when, as an ISO-8601 UTC time.
    """

    suite: str
    checks: tuple[Check, ...] = ()
    at: str = ""

    def to_bytes(self) -> bytes:
        """Return the file."""
        return json.dumps({"format": FORMAT, **self.to_json()}, sort_keys=True, indent=1).encode()

    @classmethod
    def from_bytes(cls, content: bytes, uri: str) -> Judgement:
        """Read it back; see :meth:`Manifest.from_bytes`."""
        return cls.from_json(_document(content, uri))


@dataclass(frozen=True)
class Current(JsonForm):
    """Which scores of a partition readers see: one entry of its history, which is never changed.

    :param number: of the entry, from 1; the highest is what readers see.
    :param key: of the scores.
    :param manifest: where their manifest is, below the root of the scores.
    :param model: that gave them.
    :param input_digest: of the rows.
    :param at: when readers saw them from, as an ISO-8601 UTC time.
    """

    number: int
    key: str
    manifest: str
    model: Pinned
    input_digest: str
    at: str = ""

    def to_bytes(self) -> bytes:
        """Return the file."""
        return json.dumps({"format": FORMAT, **self.to_json()}, sort_keys=True, indent=1).encode()

    @classmethod
    def from_bytes(cls, content: bytes, uri: str) -> Current:
        """Read it back; see :meth:`Manifest.from_bytes`."""
        return cls.from_json(_document(content, uri))


def _document(content: bytes, uri: str) -> Any:
    try:
        found = parsed(content)
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise ValueError("another format")
    except ValueError as error:
        raise BadResponse(f"{uri} makes no sense: {error}") from error
    return found


@dataclass(frozen=True)
class Step(JsonForm):
    """What is to be done with a partition.

    :param score: whether it is to be scored, or its scores be found.
    :param reason: why, in a few words.
    """

    score: bool
    reason: str


def wanted(
    partition: str,
    current: Current | None,
    model: Pinned,
    input_digest: str,
    rescore: Rescore,
    since: str = "",
) -> Step:
    """Tell whether a partition is to be scored. First match wins.

    1. Nobody has scored it: yes.
    2. Its rows are others than those that were scored: yes, whatever the policy: the scores are of rows that are no more.
    3. This model has scored it: yes, which finds what is there.
    4. Another model has: by ``rescore``.

    :param partition: its name; names are ordered as texts, so dates in ISO form.
    :param current: what readers see.
    :param model: that would score it.
    :param input_digest: of its rows now.
    :param rescore: what is done where another model has scored it.
    :param since: the first partition that is scored again, with ``rescore="since"``.
    :return: what is to be done.
    """
    one_of("rescore", rescore, ("none", "since", "all"))
    if current is None:
        return Step(True, "nobody has scored it")
    if current.input_digest != input_digest:
        return Step(True, "its rows are others than those that were scored")
    if current.model.sha256 == model.sha256:
        return Step(True, "this model has scored it")
    if rescore == "all" or (rescore == "since" and partition >= since):
        return Step(True, f"{current.model} has scored it, and {model} is to")
    return Step(False, f"{current.model} has scored it, and it is to stay so")


def may_show(current: Current | None, model: Pinned) -> str:
    """Say why readers are not to see the scores of a model.

    :param current: what they see.
    :param model: that gave the new scores.
    :return: the reason; empty if they may. Of two models, the one that was named later counts, which may be the older
        version: that is a rollback.
    """
    if current is None or not current.model.pinned_at or not model.pinned_at:
        return ""
    if current.model.sha256 != model.sha256 and model.pinned_at < current.model.pinned_at:
        return (
            f"{current.model} was named at {current.model.pinned_at}, after {model} ({model.pinned_at}): "
            "a later run has decided what readers see"
        )
    return ""


def same_scores(key: str, there: Manifest, digest: str) -> str:
    """Say why two outputs of one key are not the same.

    :param key: of both.
    :param there: what is in place.
    :param digest: of the other output.
    :return: the reason; empty if they are.
    """
    if there.key != key:
        return f"the manifest in its place is of the scores {there.key[:12]}, not {key[:12]}"
    if there.output_digest != digest:
        return (
            f"the same rows and the same model gave {there.output_digest[:12]} before and {digest[:12]} now"
        )
    return ""


def folder_of(manifest_key: str, sha256: str, partition: str) -> str:
    """Return the folder of scores, below their root."""
    return f"model={sha256[:12]}/partition={segment(partition)}/key={manifest_key[:12]}"


def segment(partition: str) -> str:
    """Return the name of a partition as one part of a path.

    :param partition: its name.
    :return: the same, with all that a path or an object store may misread written as ``%``.
    :raises InvalidInput: for an empty name, or a very long one.
    """
    found = quote(text(partition), safe="-_.:") if text(partition).strip(".") else ""
    if not found or len(found) > 200:
        raise InvalidInput(
            f"partition {text(partition)[:50]!r} cannot be the name of a folder",
            field="partition",
            value=text(partition)[:50],
            remedy="Give a short text such as 2013-06 or flights-2013-06.parquet.",
        )
    return found
