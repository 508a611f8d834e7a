"""What it means that Helm failed. Its exit code is always 1, so that stands in its words and in the state of the release.

The words are those of Helm 3.17 to 4.3, of the Kubernetes client in it, and of the API server. All of it is pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from airflow_pipeops.exceptions import (
    AccessDenied,
    Conflict,
    InvalidInput,
    NotFound,
    PipeOpsError,
    ReleaseFailed,
    SystemFailure,
    Unreachable,
    WaitTimeout,
)
from airflow_pipeops.redaction import excerpt

#: How much of what Helm said is told.
_SAID = 1500
_LEVEL = re.compile(
    r"^(?:[EWI]\d{4} .*|WARNING: .*|level=(?:WARN|INFO|DEBUG) .*|Release \".*\" does not exist.*)$"
)


#: How Helm 4 tells of fields that others hold: each object, and for each owner one field behind it, or a list.
_CONTESTED = re.compile(
    r"while applying object (?P<place>\S+) \S*, Kind=(?P<kind>\w+): (?P<said>.*?)(?= && conflict occurred|\Z)",
    re.DOTALL,
)
_OWNED = re.compile(
    r"conflicts? with \"(?P<owner>[^\"]+)\"[^:\n]*:(?P<fields>.*?)(?=conflicts? with \"|\Z)", re.DOTALL
)


@dataclass(frozen=True)
class _Rule:
    """What some words mean.

    :param words: found in what Helm said.
    :param kind: the error.
    :param message: with the groups of ``words``; ``{said}`` is all that was said.
    :param remedy: what the reader can do.
    :param field: of a value that is wrong.
    """

    words: str
    kind: type[PipeOpsError]
    message: str
    remedy: str = ""
    field: str = ""


#: The first that fits decides.
_RULES = (
    _Rule(
        r"another operation \(install/upgrade/rollback\) is in progress",
        Conflict,
        "somebody else has begun to change the release meanwhile",
        "The next attempt reads the history again, and says who holds it.",
    ),
    _Rule(
        r"admission webhook (?P<hook>\"[^\"]+\") denied the request:? ?(?P<why>.*)",
        ReleaseFailed,
        "the admission webhook {hook} refused: {why}",
        "Change what the chart renders, or ask whoever owns the webhook.",
    ),
    _Rule(
        r"failed calling webhook (?P<hook>\"[^\"]+\"): (?P<why>.*)",
        Unreachable,
        "the admission webhook {hook} did not answer: {why}",
        "Nothing of its kind can be changed until it answers.",
    ),
    _Rule(
        r"exceeded quota: (?P<quota>[^,\s]+), requested: (?P<asked>.*)",
        ReleaseFailed,
        "the quota {quota} of the namespace is used up: requested {asked}",
        "Ask for less in the values, or raise the quota.",
    ),
    _Rule(
        r"because it is being terminated",
        ReleaseFailed,
        "the namespace is being deleted: {said}",
        "Wait until it is gone, and see which finalizers hold it, if it stays.",
    ),
    _Rule(
        r"namespaces? \"(?P<name>[^\"]+)\" not found",
        NotFound,
        "the namespace {name} does not exist",
        "Make it, or set create_namespace=True.",
    ),
    _Rule(
        r"(?P<who>[Uu]ser \"[^\"]+\") cannot (?P<verb>\S+) resource \"(?P<kind>[^\"]+)\" in API group \"(?P<group>[^\"]*)\"",
        AccessDenied,
        '{who} may not {verb} {kind} of group "{group}": {said}',
        "Give its Role this verb.",
    ),
    _Rule(r"(?i)is forbidden|\bforbidden\b|cannot \S+ resource", AccessDenied, "the cluster refused: {said}"),
    _Rule(
        r"(?i)provide credentials|unauthorized|401",
        AccessDenied,
        "the credential was refused: {said}",
        "Check the connection of the cluster, and that of the charts.",
    ),
    _Rule(
        r"(?i)kubernetes cluster unreachable: (?P<why>.*)",
        Unreachable,
        "the cluster cannot be reached: {why}",
    ),
    _Rule(
        r"no matches for kind \"(?P<kind>[^\"]+)\" in version \"(?P<version>[^\"]+)\"",
        InvalidInput,
        "the cluster has no kind {kind} in version {version}",
        "Install its definition first, or use a chart for this version of Kubernetes.",
        "chart",
    ),
    _Rule(
        r"values don't meet the specifications of the schema\(s\) in the following chart\(s\):\s*(?P<why>(?:.|\n)*)",
        InvalidInput,
        "the values are not what the chart's schema allows: {why}",
        "See values.schema.json of the chart.",
        "values",
    ),
    _Rule(
        r"execution error at \((?P<file>[^:)]+):(?P<line>\d+)[^)]*\): (?P<why>.*)",
        InvalidInput,
        "the chart refuses the values: {file}, line {line}: {why}",
        "Set the value that it asks for.",
        "values",
    ),
    _Rule(
        r"(?:template|parse error at)[: (]+(?P<file>[^:()\s]+):(?P<line>\d+)[^\n]*?(?::|\)) (?P<why>[^\n]*)",
        InvalidInput,
        "the chart does not render: {file}, line {line}: {why}",
        "Mend the template, or the value that it stands on.",
        "chart",
    ),
    _Rule(
        r"(?P<file>\S+/templates/\S+?):(?P<line>\d+):\d+\s+executing \S+ at (?P<why>(?:.|\n)*)",  # of Helm 4
        InvalidInput,
        "the chart does not render: {file}, line {line}: {why}",
        "Mend the template, or the value that it stands on.",
        "chart",
    ),
    _Rule(
        r"YAML parse error on (?P<file>\S+): (?P<why>.*)",
        InvalidInput,
        "the chart renders no YAML: {file}: {why}",
        "Look at it with 'helm template'.",
        "chart",
    ),
    _Rule(
        r"(?P<name>\S+ \"[^\"]+\") is invalid: (?P<path>[^:]+): "
        r"(?P<why>.*(?:is immutable|updates to .* are forbidden|cannot change roleRef).*)",
        ReleaseFailed,
        "{name}: {path} cannot be changed: {why}",
        'Leave the field, or say on_immutable="replace": the object is deleted, and made anew.',
    ),
    _Rule(
        r"conflicts? with \"[^\"]+\"",
        ReleaseFailed,
        "fields of the chart belong to others: {said}",
        "Take these fields out of the chart, or end what writes them.",
    ),
    _Rule(
        r"(?P<name>\S+ \"[^\"]+\" in namespace \"[^\"]*\") exists and cannot be imported",
        ReleaseFailed,
        "{name} is there already and is not of this release: {said}",
        "Delete it, or rename one of the two.",
    ),
    _Rule(
        r"(?P<when>(?:pre|post)-\w+) hooks? failed: (?P<why>.*)",
        ReleaseFailed,
        "a {when} hook failed: {why}",
        "See the log of its Job.",
    ),
    _Rule(
        r"(?i)context deadline exceeded|timed out waiting|timeout waiting",
        WaitTimeout,
        "Helm ran out of time: {said}",
        "Raise helm_timeout, or see which hook does not end.",
    ),
    _Rule(
        r"(?i)connection refused|connection reset|no such host|i/o timeout|EOF|TLS handshake|50[234] ",
        Unreachable,
        "no usable answer: {said}",
    ),
    _Rule(
        r"(?i)release: not found",
        NotFound,
        "there is no such release",
        "Check its name and namespace.",
    ),
    _Rule(
        r"(?i)(?:chart|manifest|repo(?:sitory)?|file)\b.*(?:not found|unknown)|not found in \S+ (?:repository|index)"
        r"|/\S+: not found|404",
        NotFound,
        "the chart is not there: {said}",
        "Check its name, version and repository.",
    ),
)


def failure(said: str, status: str = "") -> PipeOpsError:
    """Return the error that fits what Helm said.

    :param said: its standard error.
    :param status: of the newest revision since; empty where it is not known.
    :return: the error.
    """
    words = said_in(said)
    for rule in _RULES:
        found = re.search(rule.words, words)
        if found:
            return _made(rule, found, words, status)
    end = f"; the newest revision is {status}" if status else ""
    kind: Callable[[str], PipeOpsError] = ReleaseFailed if status == "failed" else SystemFailure
    return kind(f"Helm failed: {words or 'it did not say why'}{end}")


def said_in(output: str) -> str:
    """Return what Helm complained about, without its logging, and not at any length."""
    lines = [line for line in output.splitlines() if line.strip() and not _LEVEL.match(line.strip())]
    return excerpt("\n".join(lines).removeprefix("Error: "), _SAID)


def _contested(words: str) -> str:
    """Return which fields others hold, each with its object and its owner; empty where none are told."""
    found = []
    for one in _CONTESTED.finditer(words):
        for owned in _OWNED.finditer(one["said"]):
            fields = [
                field.strip() for field in re.split(r"\n\s*- |, (?=\.)", owned["fields"]) if field.strip()
            ]
            found += [
                f"{one['kind']} {one['place'].lstrip('/')}: {field} is {owned['owner']}'s" for field in fields
            ]
    return "; ".join(found)


def _made(rule: _Rule, found: re.Match[str], words: str, status: str) -> PipeOpsError:
    groups = {name: " ".join((value or "").split()) for name, value in found.groupdict().items()}
    message = rule.message.format(said=_contested(words) or " ".join(words.split()), **groups)
    if status == "failed" and not issubclass(rule.kind, InvalidInput):
        message += " (the revision is recorded as failed)"
    if issubclass(rule.kind, InvalidInput):
        return rule.kind(message, field=rule.field, remedy=rule.remedy)
    return rule.kind(message, remedy=rule.remedy)
