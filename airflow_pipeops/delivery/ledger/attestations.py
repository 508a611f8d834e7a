"""Records as statements of in-toto, which tools of others read. Pure.

A build and a training become SLSA provenance, tests a test result, what a gate has found a simple verification result, and a
release, with all that it was made from, a verification summary. What these have no word for keeps the form of the record.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from airflow_pipeops.base.documents import Json, map_, text
from airflow_pipeops.delivery.ledger.entries import Entry
from airflow_pipeops.delivery.records import gate_passed
from airflow_pipeops.exceptions import DOCS

STATEMENT = "https://in-toto.io/Statement/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
VERIFICATION = "https://in-toto.io/attestation/svr/v0.1"
SUMMARY = "https://slsa.dev/verification_summary/v1"

#: Where a statement of a standard form keeps the record itself, for whoever wants more than the standard has words for.
OWN = "pipeopsRecord"

_SHA256 = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_IMAGE = re.compile(r"(\S+)@sha256:([0-9a-f]{64})")
_COMMIT = re.compile(r"[0-9a-f]{40}")
#: What a record of these kinds has found about something else.
_GATES = ("validation", "evaluation")


def statement(entry: Entry, verifier: str) -> dict[str, Any]:
    """Write a record as a statement.

    :param entry: with a record that is believed.
    :param verifier: URI of whoever states it.
    :return: the statement; its subjects have digests, as the standard wants.
    """
    extra = entry.extra
    kind, body = text(extra.get("kind")), map_(extra.get("body"))
    subjects = _subjects(kind, extra, body)
    if kind in ("image", "model", "training", "workflow") and subjects:
        return _statement(subjects, PROVENANCE, _provenance(entry, kind, body, verifier))
    if kind == "validation" and text(map_(body.get("test-result")).get("result")):
        found = {**body["test-result"], "configuration": [], OWN: dict(extra)}
        return _statement(subjects or [_itself(extra)], TEST_RESULT, found)
    if passed(kind, body):  # what has not passed is not verified, and keeps the form of the record
        return _statement(
            subjects or [_itself(extra)], VERIFICATION, _verification(extra, kind, body, verifier)
        )
    return _statement([*subjects, _itself(extra)], record_type(kind), dict(extra))


def summary(
    release: Entry, ancestors: Iterable[Entry], missing: Iterable[str], verifier: str
) -> dict[str, Any] | None:
    """Write what a release was checked against as a verification summary.

    :param release: with a record of kind *release*.
    :param ancestors: the entries of all that it was made from.
    :param missing: ids of the records that it was made from and that nobody holds.
    :param verifier: URI of whoever states it.
    :return: the statement; none where the release names no image and no model by a digest.
    """
    before = list(ancestors)
    extra, body = release.extra, map_(release.extra.get("body"))
    subjects = _subjects("release", extra, body)
    subjects += [one for entry in before if _kind(entry) == "model" for one in _of(entry)]
    if not subjects:
        return None
    said = [(entry, passed(_kind(entry), map_(entry.extra.get("body")))) for entry in before]
    failed = [entry for entry, good in said if good is False]
    unsure = [entry for entry, good in said if good is None and _kind(entry) == "validation"]
    built = any(_kind(entry) in ("image", "model") for entry in before)
    complete = not list(missing) and built and not failed and not unsure
    environment = text(extra.get("environment"))
    return _statement(
        subjects,
        SUMMARY,
        {
            "verifier": {"id": verifier},
            "timeVerified": text(extra.get("at")),
            "resourceUri": f"pipeops://{text(extra.get('deliverable'))}/release/{environment}",
            "policy": {"uri": f"{DOCS}/ledger.md#what-a-summary-says"},
            "inputAttestations": [
                {"uri": f"pipeops:record/{one}", "digest": {"sha256": one}}
                for one in (text(entry.extra.get("id")) for entry in before)
            ],
            "verificationResult": "PASSED" if complete else "FAILED",
            "verifiedLevels": ["SLSA_BUILD_LEVEL_1"] if complete else [],
            "slsaVersion": "1.0",
            "pipeopsMissing": list(missing),
            "pipeopsFailed": [text(entry.extra.get("id")) for entry in failed],
            "pipeopsUnknown": [text(entry.extra.get("id")) for entry in unsure],
            OWN: dict(extra),
        },
    )


def passed(kind: str, body: Json) -> bool | None:
    """Tell what a gate has found.

    :param kind: of a record.
    :param body: of the record.
    :return: whether it passed; none where the record is of no gate, or does not say.
    """
    return gate_passed(body) if kind in _GATES else None


def record_type(kind: str) -> str:
    """Return the URI of a predicate that is a record of ours."""
    return f"{DOCS}/reference/records.md#{kind}"


def _provenance(entry: Entry, kind: str, body: Json, verifier: str) -> dict[str, Any]:
    extra = entry.extra
    inputs = [*_commits(extra, body), *_data(body), *_images(body.get("bases"))]
    inputs += [
        {"uri": f"pipeops:record/{parent}", "digest": {"sha256": parent}}
        for parent in extra.get("parents", ())
    ]
    return {
        "buildDefinition": {
            "buildType": record_type(kind),
            "externalParameters": {"deliverable": extra.get("deliverable"), "commit": extra.get("commit")},
            "internalParameters": dict(body),
            "resolvedDependencies": inputs,
        },
        "runDetails": {
            "builder": {"id": verifier},
            "metadata": {
                "invocationId": "/".join(
                    str(part) for part in (entry.dag, entry.run, entry.task, entry.map_index)
                ),
                "finishedOn": text(extra.get("at")),
            },
            "byproducts": [
                {"name": item.get("name"), "uri": item.get("uri"), "digest": {"sha256": item.get("sha256")}}
                for item in extra.get("evidence", ())
            ],
        },
        OWN: dict(extra),
    }


def _verification(extra: Json, kind: str, body: Json, verifier: str) -> dict[str, Any]:
    name = text(body.get("subject")) or kind
    return {
        "verifier": {"id": verifier},
        "timeCreated": text(extra.get("at")),
        "properties": [f"PIPEOPS_{kind}_{name}_PASSED".upper()],
        OWN: dict(extra),
    }


def _subjects(kind: str, extra: Json, body: Json) -> list[dict[str, Any]]:
    """Name what a record is about, by digests."""
    finders: Mapping[str, Callable[[], list[dict[str, Any]]]] = {
        "image": lambda: _images([body.get("reference")]),
        "model": lambda: _digest(f"{body.get('name')}/{body.get('version')}", body.get("sha256")),
        "training": lambda: _digest(str(body.get("name")), body.get("sha256")),
        "prompt": lambda: _digest(str(body.get("name")), body.get("sha256")),
        "dataset": lambda: _digest(str(body.get("batch") or body.get("name")), body.get("digest")),
        "commit": lambda: _commits(extra, body),
        "change": lambda: _commits(extra, body),
        "validation": lambda: (
            _images([body.get("reference")])
            or _digest(str(body.get("batch")), body.get("digest"))
            or _commits(extra, body)
        ),
        "evaluation": lambda: _digest(text(body.get("model")) or "challenger", body.get("challenger_sha256")),
        "release": lambda: _images(body.get("images")),
    }
    return finders[kind]() if kind in finders else []


def _of(entry: Entry) -> list[dict[str, Any]]:
    return _subjects(_kind(entry), entry.extra, map_(entry.extra.get("body")))


def _itself(extra: Json) -> dict[str, Any]:
    """Name a record itself: its id is the SHA-256 of its canonical form."""
    return {"name": f"pipeops:record/{extra.get('id')}", "digest": {"sha256": extra.get("id")}}


def _images(given: Any) -> list[dict[str, Any]]:
    found = [_IMAGE.fullmatch(text(item)) for item in given] if isinstance(given, (list, tuple)) else []
    return [{"name": match[1], "digest": {"sha256": match[2]}} for match in found if match]


def _digest(name: str, value: Any) -> list[dict[str, Any]]:
    match = _SHA256.fullmatch(text(value))
    return [{"name": name, "digest": {"sha256": match[1]}}] if match else []


def _commits(extra: Json, body: Json) -> list[dict[str, Any]]:
    sha = text(body.get("commit")) or text(extra.get("commit"))
    if not _COMMIT.fullmatch(sha):
        return []
    repository = text(body.get("repository"))
    return [{"name": repository or "commit", "digest": {"gitCommit": sha}}]


def _data(body: Json) -> list[dict[str, Any]]:
    return _digest("data", body.get("data_digest"))


def _kind(entry: Entry) -> str:
    return text(entry.extra.get("kind"))


def _statement(subjects: list[dict[str, Any]], kind: str, predicate: dict[str, Any]) -> dict[str, Any]:
    return {"_type": STATEMENT, "subject": subjects, "predicateType": kind, "predicate": predicate}
