"""What is asked of Argo CD beside a revision, and what its refusals mean. Pure.

The options and the retry strategy of a request *replace* those of the application: asking for one option loses all others,
such as ``CreateNamespace=true``. So what is sent is always the union.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_pipeops.exceptions import AccessDenied, InvalidInput, PipeOpsError, ReleaseFailed, SyncFailed

_DURATION = re.compile(r"\d+|(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h))+")

_REVERT = "Revert the commit in Git with GitOpsRevertOperator and wait with ArgoCDAppSensor, or switch auto-sync off."

#: Part of a refusal, what it is about, and what to do. The first that is found counts.
_REFUSALS: tuple[tuple[str, str, str], ...] = (
    (
        "auto-sync currently set to",
        "revision",
        "Commit the desired state to Git and wait with ArgoCDAppSensor, or switch auto-sync off.",
    ),
    ("rollback cannot be initiated when auto-sync is enabled", "app", _REVERT),
    (
        "does not have deployment with id",
        "history_id",
        "Give the id of an entry of the application's history.",
    ),
    ("cannot rollback to revision deployed with", "history_id", "Synchronise to the revision instead."),
    (
        "error resolving repo revision",
        "revision",
        "Is the commit pushed, and may Argo CD read the repository?",
    ),
    ("which does not exist", "project", "Create the project, or correct the application's spec.project."),
    ("InvalidSpecError", "app", "Correct the application's spec."),
    ("source position is out of range", "revision", "Name only sources that the application has."),
    ("must be a branch, a tag or a commit", "revision", "Give a full commit id."),
)


def merged_options(own: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Return the application's own sync options, with those of the same name replaced and the others added.

    :param own: ``spec.syncPolicy.syncOptions``.
    :param wanted: each ``Name=value``.
    """
    found = {_name(option): option for option in own}
    found.update({_name(option): option for option in wanted})
    return list(found.values())


def merged_retry(own: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the application's own retry strategy with some of it replaced.

    :param own: ``spec.syncPolicy.retry``.
    :param wanted: any of ``limit``, ``refresh`` and ``backoff`` (``duration``, ``factor``, ``maxDuration``).
    """
    before = dict(own or {})
    merged = {**before, **wanted}
    backoff = {**dict(before.get("backoff") or {}), **dict(wanted.get("backoff") or {})}
    return {**merged, "backoff": backoff} if backoff else merged


def check_options(options: Any) -> list[str]:
    """Return sync options that are of the right form.

    :raises InvalidInput: for anything but a list of ``Name=value``.
    """
    given = [] if options is None else options
    wrong = None if isinstance(given, (list, tuple)) else given
    for option in given if wrong is None else ():
        name, _, value = option.partition("=") if isinstance(option, str) else ("", "", "")
        if not name.strip() or not value.strip():
            wrong = option
            break
    if wrong is not None:
        raise InvalidInput(
            f"a sync option is {wrong!r}",
            field="sync_options",
            value=wrong,
            remedy='Give a list such as ["ServerSideApply=true"].',
        )
    return [str(option).strip() for option in given]


def check_retry(strategy: Any) -> dict[str, Any]:
    """Return a retry strategy that is of the right form.

    :raises InvalidInput: for unknown names or values that Argo CD could not read.
    """
    if strategy is None:
        return {}
    if not isinstance(strategy, Mapping):
        raise _wrong_retry(strategy)
    backoff = strategy.get("backoff", {})
    good = (
        set(strategy) <= {"limit", "refresh", "backoff"}
        and _integer(strategy.get("limit", 0), -1)
        and isinstance(strategy.get("refresh", False), bool)
        and isinstance(backoff, Mapping)
        and set(backoff) <= {"duration", "factor", "maxDuration"}
        and _integer(backoff.get("factor", 1), 1)
        and all(_DURATION.fullmatch(str(backoff.get(name, "1s"))) for name in ("duration", "maxDuration"))
    )
    if not good:
        raise _wrong_retry(strategy)
    return {**strategy, **({"backoff": dict(backoff)} if backoff else {})}


def refused(error: PipeOpsError) -> PipeOpsError:
    """Return what a refusal of Argo CD means for whoever asked; any other error as it is.

    :param error: what the client raised for it.
    """
    text = error.message
    if isinstance(error, AccessDenied) and ", override" in text:
        return AccessDenied(
            text,
            remedy="The server counts a sync to an explicit revision as an override: grant 'applications, override'.",
        )
    if not isinstance(error, (SyncFailed, InvalidInput)):
        return error
    if "application is deleting" in text:
        return ReleaseFailed(text, remedy="Wait until it is gone, or create it anew.")
    for part, field, remedy in _REFUSALS:
        if part in text:
            return InvalidInput(text, field=field, remedy=remedy)
    return error


def _name(option: str) -> str:
    return option.partition("=")[0].strip()


def _integer(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _wrong_retry(strategy: Any) -> InvalidInput:
    return InvalidInput(
        f"the retry strategy is {strategy!r}",
        field="retry_strategy",
        value=strategy,
        remedy='Give for example {"limit": 5, "backoff": {"duration": "5s", "factor": 2, "maxDuration": "3m"}}.',
    )
