"""What a record of each kind holds, as JSON Schema. Pure.

A schema names what readers may rely on. It forbids nothing else: a later version may add fields, and a reader lets them be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_pipeops.delivery.records import KINDS, MAX_BYTES, PER_ENVIRONMENT, SCHEMA
from airflow_pipeops.delivery.versions import VERSIONS
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
            "behaviour": "string: digest of its scores on the probes",
            "data_digest": "string null: of the data that it was trained on",
            "data_rows": "integer: rows of that data",
            "trainer": "string: function that trained it",
            "seed": "integer: that it was given",
            "parameters": "object: name -> value that the trainer was given",
            "feature_set": "object null: path and digest of what made its features",
            "code": "object: digest of the trainer's modules; their commit, and whether they were changed since",
            "packages_digest": "string: of all packages and their versions",
            "image": "string null: digest of the image that it was to run in",
            "image_ran": "string: image that ran, by digest, as the cluster says",
            "training_uri": "string: file with everything that it was made from",
            "training_sha256": "string: digest of that file",
            "trials": "integer: models among which it was chosen, itself included",
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
            "training_uri": "string null: file with everything that it was made from",
            "training_sha256": "string null: digest of that file",
            "registry_url": "string: page of the version, where the registry is a server; else empty",
            "metrics": "object: name -> value",
        },
    ),
    "alias": Body(
        "An alias of a model, such as champion, was moved in the registry, or was there already.",
        {
            "name": "string!: of the model",
            "alias": "string!: that was moved",
            "version": "string!: that it names now",
            "previous": "string null: that it named before",
        },
    ),
    "prompt": Body(
        "A version of a prompt was taken up from Git.",
        {
            "name": "string!: of the prompt",
            "sha256": "string!: digest of its canonical form",
            "model": "string: that it asks, as its API calls it",
            "file": "string: that it was read from, in the repository",
            "variables": "array: names of what it leaves open",
            "repository": "string: address of the repository, without a credential",
        },
    ),
    "scores": Body(
        "A partition was scored by a model version, or found as it was scored before.",
        {
            "partition": "string!: that was scored",
            "outcome": "string!: scored, found, kept (another version's scores stay) or superseded (by a later run)",
            "rows": "integer null: of the partition",
            "model": "string!: name of the model",
            "version": "string: of it",
            "sha256": "string!: digest of its artifact",
            "key": "string: identity of the scores: rows, model, scorer and contract",
            "input_digest": "string null: of the rows, in whatever order",
            "output_digest": "string null: of the lines that were written, in whatever order",
            "manifest": "string null: where the manifest is, which names the files",
            "suite": "string null: digest of the suite of Great Expectations that the rows have passed",
            "shown": "boolean: whether they are what readers see",
            "image_ran": "string: image that ran, by digest, as the cluster says, where a cluster did",
            "scores": "object: output -> mean, least, greatest, how many are null and how many the model refused",
            "shadows": "array: the same of challengers that scored the same rows",
        },
    ),
    "evaluation": Body(
        "A model was judged: against the champion, or by what it predicted; or answers to prompts were scored.",
        {
            "subject": "string: performance, where predictions were measured; prompts, where answers were scored; "
            "prompt gate or gate rate, where they were compared; cohorts, where labels were joined; guard or prompt guard, "
            "where a release was judged",
            "promote": "boolean null: whether the challenger may replace the champion",
            "outcome": "string: better, not worse, worse, cannot tell or invalid; of scores complete, incomplete or budget",
            "metric": "string: that was measured",
            "reason": "string: of the verdict",
            "unscored": "object: of a shadow: labelled rows that the champion, the challenger or either gave no score for",
            "lost": "object null: of joined labels: digest of a model -> why -> how many rows have no score of it",
            "dataset_sha256": "string: digest of the items that were asked, in whatever order",
            "arms": "object: name -> digest of prompt, model and parameters",
            "scorers": "object: name -> digest of what judged",
            "answers": "object: name -> when its oldest and newest answer were given, and by which systems",
            "items": "integer: that were scored",
            "scores": "integer: rows of the table of results",
            "missing": "integer: scores that could not be told",
            "results_sha256": "string: digest of the table of results",
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
    "tuning": Body(
        "Knobs were looked at, and one was moved or none.",
        {
            "decisions": "array!: each knob with its rails, and the step: action, rule, value, to, reason, evidence, digest",
            "busy": "string: what else acted on the deliverable",
            "off": "boolean: whether the kill switch was on",
        },
    ),
    "approval": Body(
        "A person was asked, and has answered; or a policy has approved in a person's place.",
        {
            "subject": "string!: what was asked",
            "body": "string: what was shown",
            "answer": "string: that was chosen",
            "approved": "boolean!: whether it is a yes",
            "approved_by": "string!: who answered; `policy` where a policy has; empty where a default was taken",
            "policy": "string: the rule by which a policy has approved",
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
            "order": "string: of a model that is taken back, which rollback it is",
            "subject": "string: what was changed, where no file tells: secret, provider, library, flag, schema",
            "effective": "string: when it takes effect, where that is later: a certificate that expires",
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
            "order": "string: of a model, which rollback it is",
        },
    ),
    "incident": Body(
        "A release went bad.",
        {
            "what": "string: has happened",
            "symptom": "string: how it shows: failure, degraded, metric, drift or data",
            "onset": "array: between which times it began: the last at which all was well, and when it was seen",
        },
    ),
    "explanation": Body(
        "What changed before something went wrong was ranked.",
        {
            "outcome": "string!: likely, none of these or cannot tell",
            "reason": "string: of the outcome",
            "symptom": "object!: what went wrong, where, and between which times it began",
            "suspects": "array: the first few changes: record, kind, what, probability and reason",
            "none": "number: probability that none of these is it",
            "words": "string: in which a language model has put it; empty where none was asked, or none answered",
        },
    ),
    "anomaly": Body(
        "A look over runs and deliveries has found something unusual.",
        {
            "alarms": "array!: by their time, of each: root, subjects, finding, reason, at, run, expected, seen, onset",
            "count": "integer!: of the alarms; those that the record has no room for are in its evidence",
            "looked": "integer!: values that were judged",
            "cannot_tell": "integer!: values of which nobody can tell yet",
            "since": "string!: the look begins here",
            "until": "string!: and ends here",
            "open": "array: names of what was told of while it was still running",
            "policy": "object: with the budget of false alarms a week",
        },
    ),
    "failure": Body(
        "A task failed for good, and would have made records if it had not.",
        {
            "outcome": "string!: refused: a judgement said no; failed: it could not be done; unknown: it did not say",
            "reason": "string!: why, in words",
            "error": "string: class of the error; empty where it is unknown",
            "operator": "string: class of the task",
            "of": "array!: kinds of the records that it would have made",
            "found": "array!: records that it had made by then, of each: kind, id, and body if there is room for it",
            "try": "integer!: the last one, by its number; a task that is cleared counts on",
            "tries": "integer: that it was allowed",
        },
    ),
    "remediation": Body(
        "A policy answered a finding, or what was done about one came to its end.",
        {
            "outcome": "string!: act, go on, observe, propose, refuse or hand over",
            "stage": "string!: that decided",
            "reason": "string!: why, in one sentence",
            "rule": "string: of the policy",
            "action": "string: that was chosen",
            "operation": "string: its id; empty where nothing was done",
            "state": "string: of the operation: acted, helped, stopped, handed_over; empty where nothing was done",
            "finding": "object!: kind, at, reason and target of what was found",
            "plan": "object: what there was before, and what it was to become",
            "result": "object: what the act has returned",
            "helped": "boolean null: whether the judge that had found the fault has seen it away",
            "undone": "string: when it was taken back; empty if it was not",
            "approved_by": "string: who agreed, where somebody was asked",
            "called": "integer: number of the call by which a person was told; 0 for none",
        },
    ),
}

_TEXT = {"type": "string"}
_MAYBE = {"type": ["string", "null"]}


def schema(kind: str) -> dict[str, Any]:
    """Return the JSON Schema of the records of a kind.

    :param kind: one of :data:`~airflow_pipeops.delivery.records.KINDS`.
    :return: the schema, of draft 2020-12.
    """
    fields = {name: _Field.read(said) for name, said in BODIES[kind].fields.items()}
    where = _TEXT if kind in PER_ENVIRONMENT else _MAYBE
    properties = {
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
                **{name: {"type": "string", "description": says} for name, says in VERSIONS.items()},
            },
        },
        "body": {
            "type": "object",
            "properties": {name: field.to_schema() for name, field in fields.items()},
            "required": [name for name, field in fields.items() if field.always],
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
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"{PAGE}/{kind}",
        "title": kind,
        "description": BODIES[kind].says,
        "type": "object",
        "required": list(properties),  # a record has all that is not of its body
        "properties": properties,
    }


@dataclass(frozen=True)
class _Field:
    """What :data:`BODIES` says of a field.

    :param types: of JSON, that it may have.
    :param always: whether every record has it.
    :param what: it says, in words.
    """

    types: list[str]
    always: bool
    what: str

    @classmethod
    def read(cls, said: str) -> _Field:
        """Read one line of :data:`BODIES`."""
        types, _, what = said.partition(": ")
        return cls(types.rstrip("!").split(), types.endswith("!"), what)

    def to_schema(self) -> dict[str, Any]:
        """Return it as JSON Schema."""
        return {"type": self.types[0] if len(self.types) == 1 else self.types, "description": self.what}


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
            field = _Field.read(said)
            always = ", always there" if field.always else ""
            lines.append(f"| `{name}` | {' or '.join(field.types)}{always} | {field.what} |")
        text = json.dumps(schema(kind), indent=1)
        lines += ["", "```json", *text.splitlines(), "```"]
    return "\n".join(lines) + "\n"
