"""Which source of an application an expected revision is meant for, and whether it can be met at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_pipeops.base.commits import is_sha
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.waits.expectation import Expectation
from airflow_pipeops.waits.status import Source, is_digest, same_repository, short


def wanted_of(
    sources: tuple[Source, ...], expectation: Expectation, called: str = "the application"
) -> tuple[dict[int, str], tuple[str, str] | None]:
    """Return the expected revision per source index, or which rule says that this can never be met, and why.

    :param sources: of what is waited for.
    :param expectation: the revisions that are expected of them.
    :param called: what a message calls it.
    :return: the revisions; and the rule with its reason, where they cannot be met.
    """
    wanted: dict[int, str] = {}
    if expectation.match == "any" or expectation.basis == "idle":
        return wanted, None
    if not expectation.revisions:
        return wanted, (
            "revision_missing",
            "no revision is expected; give one, or match any revision explicitly",
        )
    for key, revision in expectation.revisions.items():
        indexes = _indexes(sources, key)
        problem = _problem(sources, indexes, key, revision, called)
        if problem:
            return {}, problem
        for index in indexes:
            if wanted.setdefault(index, revision) != revision:
                return {}, (
                    "revision_conflict",
                    f"two revisions are expected of source {sources[index].repo}: {short(wanted[index])} and "
                    f"{short(revision)}",
                )
    return wanted, None


def _problem(
    sources: tuple[Source, ...], indexes: list[int], key: str, revision: str, called: str
) -> tuple[str, str] | None:
    if not indexes:
        return "source_unknown", f"{called} has no source {key!r}; it has {_names(sources)}"
    first = sources[indexes[0]]
    if not all(same_repository(sources[index].repo, first.repo) for index in indexes):
        return (
            "source_ambiguous",
            f"{called} has several sources ({_names(sources)}); say which one is meant",
        )
    if first.digests and not is_digest(revision):
        return (
            "revision_not_digest",
            f"revision {revision!r} is no digest (sha256:...), which OCI artifacts are compared by; a tag can move",
        )
    if not first.versioned and not is_sha(revision):
        return "revision_not_sha", f"revision {revision!r} is no full commit id, and a branch or tag can move"
    return None


def _indexes(sources: tuple[Source, ...], key: str) -> list[int]:
    if key == "*":
        git = [index for index, source in enumerate(sources) if not source.versioned]
        return git or list(range(len(sources)))
    if key.isdecimal():
        return [int(key)] if len(key) < 4 and int(key) < len(sources) else []
    return [index for index, source in enumerate(sources) if same_repository(source.repo, key)]


def _names(sources: tuple[Source, ...]) -> str:
    return ", ".join(source.repo for source in sources) or "none"


def revisions_of(revision: Any) -> dict[str, str]:
    """Return the expected revision per source.

    :return: ``"*"`` to the revision, or each source that is named to its own.
    :raises InvalidInput: for none, or an empty one.
    """
    given = dict(revision) if isinstance(revision, Mapping) else {"*": revision}
    for key, value in given.items():
        if not isinstance(value, str) or not value.strip():
            raise InvalidInput(
                f"the revision is {value!r}",
                field="revision",
                value=value,
                remedy="Give the full commit id, e.g. of the task that committed the change, or match='any'.",
            )
        given[key] = value.strip()
    return {str(key): value for key, value in given.items()}
