"""What a record of each kind holds, as JSON Schema. Pure.

A schema names what readers may rely on. It forbids nothing else: a later version may add fields, and a reader lets them be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_pipeops.delivery.records import KINDS, MAX_BYTES, PER_ENVIRONMENT, SCHEMA
from airflow_pipeops.exceptions import DOCS

#: Where the page with the schemas is read.
PAGE = f"{DOCS}/reference/records.md"


@dataclass(frozen=True)
class Body:
    """The body of the records of a kind.

    :param says: what a record of the kind says.
    :param fields: name of a field -> its JSON type (several with spaces between), a colon, and what it is. A type
        with an exclamation mark is there always.
    """

    says: str
    fields: Mapping[str, str]


_BATCH = {
    "batch": "string null: name of the batch",
    "rows": "integer null: number of its rows",
    "digest": "string null: SHA-256 of its files",
}

BODIES: Mapping[str, Body] = {
    "commit": Body(
        "A commit was taken up by a pipeline.",
        {
            "commit": "string!: its full SHA",
            "subject": "string: first line of its message",
            "author": "string: who wrote it",
            "branch": "string: that it was found on",
            "time": "string null: of the commit",
            "repository": "string: address of the repository, without a credential",
        },
    ),
    "batch": Body("A batch of data has arrived, whether or not it is accepted.", _BATCH),
    "dataset": Body("A batch of data was accepted, or a reference was made.", _BATCH),
    "validation": Body(
        "Something was tested.",
        {
            "subject": "string: what was tested: tests, data, image",
            "passed": "boolean integer null: whether it passed; of tests, how many did",
            "test-result": "object: what tests found, in the form of in-toto: result is PASSED, WARNED or FAILED",
            **_BATCH,
        },
    ),
    "workflow": Body(
        "Something ran outside of Airflow: a workflow, a pod, a job.",
        {
            "name": "string: of the workflow",
            "namespace": "string: that it ran in",
            "pods": "array: what ran, with image digests",
        },
    ),
    "image": Body(
        "An image was built, or found as it would have been built.",
        {
            "reference": "string: repository and digest",
            "digest": "string: of its manifest",
            "builder": "string: that built it",
            "commit": "string null: that it was built from",
            "bases": "array: base images, with digests",
        },
    ),
    "training": Body(
        "A model was trained.",
        {
            "name": "string!: of the model",
            "sha256": "string!: digest of the artifact",
            "data_digest": "string null: of the data that it was trained on",
            "trainer": "string: function that trained it",
            "seed": "integer: that it was given",
            "metrics": "object: name -> value on the rows that were kept apart",
            "train_rows": "integer: rows that it learned from",
            "seconds": "number: that it took",
        },
    ),
    "model": Body(
        "A version of a model was registered.",
        {
            "name": "string: of the model",
            "version": "string integer null: of the model",
            "sha256": "string null: digest of the artifact",
            "artifact_uri": "string null: where it is",
            "data_digest": "string null: of the data that it was trained on",
            "metrics": "object: name -> value",
        },
    ),
    "evaluation": Body(
        "A model was judged: against the champion, or by what it predicted.",
        {
            "subject": "string: performance, where predictions were measured",
            "promote": "boolean null: whether the challenger may replace the champion",
            "outcome": "string: better, not worse, worse, cannot tell or invalid",
            "metric": "string: that was measured",
            "reason": "string: of the verdict",
        },
    ),
    "drift": Body(
        "A batch was compared with its reference.",
        {
            "batch": "string null: name of the batch",
            "share": "number null: of the columns that have drifted",
            "drifted": "boolean null: whether that is more than was allowed",
        },
    ),
    "differences": Body(
        "Live state was compared with the desired state.",
        {
            "app": "string: that was compared",
            "verdict": "string: clean, or what it is",
            "revision": "string array null: of the desired state",
            "reason": "string: of the verdict",
        },
    ),
    "decision": Body(
        "A policy decided about a retrain.",
        {
            "action": "string: hold, retrain, investigate, rollback; a reader lets others be",
            "acts": "boolean: whether something follows from it",
            "reasons": "array: sentences",
            "approved_by": "string: who agreed, where somebody was asked",
        },
    ),
    "approval": Body(
        "A person was asked, and has answered.",
        {
            "subject": "string!: what was asked",
            "body": "string: what was shown",
            "answer": "string: that was chosen",
            "approved": "boolean!: whether it is a yes",
            "approved_by": "string!: who answered; empty where a default was taken",
            "user": "string: their id in Airflow",
            "answered_at": "string: when",
            "timed_out": "boolean: whether nobody has answered in time",
            "asked": "array: who was asked; empty for anybody who may",
        },
    ),
    "change": Body(
        "The desired state of an environment was changed, or manifests were applied.",
        {
            "commit": "string null: of the desired state",
            "changed": "boolean array: whether there was something to change; of an Application, the fields",
            "file": "string: that was changed",
            "set": "object: path in the file -> value",
            "previous": "object string integer null: what was there before",
            "reverts": "string null: commit that it takes back",
        },
    ),
    "release": Body(
        "A change is live and healthy in an environment.",
        {
            "app": "string: that is live",
            "revision": "string array null: that is live",
            "health": "string null: as the controller says it",
            "images": "array: that run, with digests where they are known",
            "reason": "string: by which the wait has ended",
        },
    ),
    "rollback": Body(
        "What was live before was made live again.",
        {
            "app": "string: that was rolled back",
            "reverts": "string null: commit that was taken back",
            "revision": "string array null: that is wanted now",
            "reason": "string: why",
            "how": "string!: revert, rollback or undo",
        },
    ),
    "incident": Body("A release went bad.", {"what": "string: has happened"}),
}

_TEXT = {"type": "string"}
_MAYBE = {"type": ["string", "null"]}


def schema(kind: str) -> dict[str, Any]:
    """Return the JSON Schema of the records of a kind.

    :param kind: one of :data:`~airflow_pipeops.delivery.records.KINDS`.
    :return: the schema, of draft 2020-12.
    """
    fields = BODIES[kind].fields
    body = {name: _field(said) for name, said in fields.items()}
    where = _TEXT if kind in PER_ENVIRONMENT else _MAYBE
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"{PAGE}/{kind}",
        "title": kind,
        "description": BODIES[kind].says,
        "type": "object",
        "required": [
            "schema",
            "kind",
            "deliverable",
            "environment",
            "commit",
            "at",
            "source",
            "body",
            "parents",
            "evidence",
            "id",
        ],
        "properties": {
            "schema": {"const": SCHEMA},
            "kind": {"const": kind},
            "deliverable": _TEXT,
            "environment": {**where, "description": "where it happened"},
            "commit": {**_MAYBE, "description": "full SHA of the commit that it was born from"},
            "at": {"type": "string", "description": "when, as an ISO-8601 UTC time"},
            "source": {
                "type": "object",
                "properties": {
                    "dag": _TEXT,
                    "run": _TEXT,
                    "task": _TEXT,
                    "map_index": {"type": ["integer", "null"]},
                },
            },
            "body": {
                "type": "object",
                "properties": body,
                "required": [name for name, said in fields.items() if "!:" in said],
            },
            "parents": {"type": "array", "items": {"type": "string", "pattern": "^[0-9a-f]{64}$"}},
            "evidence": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name", "uri", "sha256"],
                    "properties": {"name": _TEXT, "uri": _TEXT, "sha256": _TEXT, "media_type": _TEXT},
                },
            },
            "id": {
                "type": "string",
                "pattern": "^[0-9a-f]{64}$",
                "description": "SHA-256 of the rest, in the form of RFC 8785",
            },
        },
    }


def _field(said: str) -> dict[str, Any]:
    types, _, what = said.partition(": ")
    names = types.rstrip("!").split()
    return {"type": names[0] if len(names) == 1 else names, "description": what}


def page() -> str:
    """Return the page of the documentation, in Markdown."""
    import json

    lines = [
        "# Records, kind by kind",
        "",
        "<!-- Made by airflow_pipeops.delivery.schemas.page(); a test holds it against the code. -->",
        "",
        f"A record is JSON of at most {MAX_BYTES:,} bytes, in the `extra` of an asset event;"
        " [the ledger](../ledger.md) keeps it. Its `id` is",
        "the SHA-256 of all its other fields, in the canonical form of RFC 8785; `parents` are the ids of the records"
        " that it was made from.",
        "",
        "A field that is not named here may be there, and a reader lets it be, as it does a kind or an action that it"
        " does not know: they are",
        "shown as unknown, and count in the id. `airflow_pipeops.delivery.schemas.schema(kind)` returns the JSON Schema"
        " of a kind.",
    ]
    for kind in KINDS:
        body = BODIES[kind]
        lines += [
            "",
            f"## {kind}",
            "",
            body.says,
            "",
            "| field of the body | type | what it is |",
            "|---|---|---|",
        ]
        for name, said in body.fields.items():
            types, _, what = said.partition(": ")
            always = ", always there" if types.endswith("!") else ""
            lines.append(f"| `{name}` | {' or '.join(types.rstrip('!').split())}{always} | {what} |")
        text = json.dumps(schema(kind), indent=1)
        lines += ["", "```json", *text.splitlines(), "```"]
    return "\n".join(lines) + "\n"
