"""What would clear a suspect, or convict it: something to look at, which changes nothing. Pure."""

from __future__ import annotations

from airflow_pipeops.operations.changes.suspects import Candidate, Check, Symptom
from airflow_pipeops.operations.changes.symptoms import hours_before

_SECOND = 1 / 3600  # hours
#: Kind of change -> what to look at.
_CHECKS = {
    "code": "Read the diff of the commit; run the failing part on the image before it.",
    "image": "Run the failing part on the image before it; compare the packages of both.",
    "config": "Read the diff; with the value that was there before, in another environment, is it well?",
    "infra": "Compare what is asked for with what is used, before and after; is what failed short of it?",
    "flag": "Compare those for whom the flag is on with those for whom it is off.",
    "secret": "Test the connection that uses it; read when it expires.",
    "library": "Compare the packages of both; run the failing part with those from before.",
    "schema": "Compare the columns and types of the last batch before it with the first after it.",
    "data": "Compare the batch with the one before it: rows, nulls, ranges, units. Score it with the model from before.",
    "late data": "Look where the batch should have come from: is it there, or is what makes it late?",
    "model": "Score the same rows with the version before it, and compare.",
    "prompt": "Ask the same questions with the prompt before it, and compare.",
    "provider": "Ask the provider's status page; ask the same questions that were recorded before, and compare.",
    "tuning": "Read the step's evidence; judge what went wrong with the value that was there before.",
    "remediation": "Read what it did to what; was the fault that it answered the same, and what came with the act?",
    "rollback": "Read what it took away: what came with that, and is missed?",
}


def check_of(candidate: Candidate, symptom: Symptom) -> Check:
    """Say what would clear a suspect.

    :param candidate: the suspect.
    :param symptom: what went wrong.
    :return: what to look at, and the command that shows the record or the difference.
    """
    command = f"airflow pipeops trace {candidate.id[:12]}"
    if candidate.kind in ("code", "image", "model", "library") and candidate.environment:
        place, at = f"{candidate.deliverable}@{candidate.environment}", hours_before(candidate.at, _SECOND)
        command = f"airflow pipeops passport {place}@{at[:19]}Z"
    elif candidate.kind in ("data", "schema", "late data"):
        command = f"airflow pipeops history {candidate.deliverable} --kind batch --kind dataset --to {symptom.end[:19]}Z"
    what = _CHECKS[candidate.kind]
    return Check(f"{what} It was: {candidate.before}." if candidate.before else what, command)
