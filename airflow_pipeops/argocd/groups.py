"""A wait for many applications at once: who is meant, where they stand, and what is said if one fails. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_pipeops.argocd.messages import LIMIT
from airflow_pipeops.exceptions import InvalidInput, NotFound
from airflow_pipeops.waits.wait import Decided

#: How many applications a line names.
_NAMED = 12


def meant(apps: Any, revision: Any) -> dict[str, Any]:
    """Return the revision that is expected of each application.

    :param apps: names; or a mapping from name to revision.
    :param revision: for those that have none of their own.
    :return: the revision by name of the application.
    :raises InvalidInput: for anything that is not that.
    """
    given = apps if isinstance(apps, Mapping) else None
    if given is None and isinstance(apps, (list, tuple, set, frozenset)):
        given = dict.fromkeys(apps)
    if not given or not all(isinstance(name, str) and name.strip() for name in given):
        raise InvalidInput(
            f"apps is {apps!r}",
            field="apps",
            value=apps,
            remedy="Give a list of names, or a mapping from name to revision.",
        )
    return {name.strip(): own or revision for name, own in given.items()}


def selected(items: list[dict[str, Any]], selector: str, namespace: str) -> tuple[list[str], str]:
    """Return which applications a selector matches, and the namespace that they are in.

    :param items: the applications that the server lists.
    :param namespace: only those of this one; by default wherever they are, if that is one namespace.
    :return: the names in order, and the namespace.
    :raises NotFound: if there are none.
    :raises InvalidInput: if they are in several namespaces.
    """
    places: dict[str, list[str]] = {}
    for item in items:
        metadata = item.get("metadata") or {}
        place, name = str(metadata.get("namespace") or ""), str(metadata.get("name") or "")
        if name and (not namespace or place in ("", namespace)):
            places.setdefault(place, []).append(name)
    if not places:
        raise NotFound(
            f"no application matches the selector {selector!r}",
            remedy="Check the labels, the project, and the token's 'applications, get'.",
        )
    if len(places) > 1:
        raise InvalidInput(
            f"the selector {selector!r} matches applications in the namespaces {', '.join(sorted(places))}",
            field="app_namespace",
            remedy="Name one of them, and use a task for each.",
        )
    ((place, names),) = places.items()
    return sorted(names), namespace or place


def failures(decided: Mapping[str, Decided]) -> list[str]:
    """Return the names of those that failed."""
    return [app for app, one in decided.items() if one.verdict.state == "failed"]


def standing(decided: Mapping[str, Decided]) -> str:
    """Return where all of them stand, in one line: those that failed, those that are live, those still waited for."""
    words = {"failed": "failed", "done": "live", "wait": "waiting"}
    parts = []
    for state, word in words.items():
        found = [
            app if state == "done" else f"{app} ({one.verdict.rule})"
            for app, one in decided.items()
            if one.verdict.state == state
        ]
        if found:
            more = f", and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
            parts.append(f"{len(found)} {word}: {', '.join(found[:_NAMED])}{more}")
    return f"of {len(decided)} applications, {'; '.join(parts)}"


def joined(first: str, decided: Mapping[str, Decided]) -> str:
    """Return the message of the first that failed, with where the others stand after its first line.

    :param first: the whole message of the first that failed.
    :return: the message.
    """
    head, *rest = first.split("\n")
    others = [
        f"  {app}: {decided[app].verdict.reason[:300]} (rule {decided[app].verdict.rule})"
        for app in failures(decided)[1 : 1 + _NAMED]
    ]
    lines = [head, f"  {standing(decided)}", *others, *rest]
    text, kept = "", 0
    for line in lines:
        if kept and len((text + "\n" + line).encode()) > LIMIT:
            break
        text, kept = (f"{text}\n{line}" if kept else line), kept + 1
    return text
