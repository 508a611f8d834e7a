"""Jobs that run before all else is applied, or after all of it is ready, as annotations say. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from airflow_pipeops.base.arguments import one_of
from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.deploy.apply.objects import Manifest
from airflow_pipeops.exceptions import InvalidInput

#: ``before`` or ``after``.
HOOK = "pipeops/hook"
#: A whole number; those with a smaller one run first.
ORDER = "pipeops/hook-order"
#: ``next``: it stays until the next release runs it anew; ``succeeded``: it goes as soon as it has ended well.
CLEANUP = "pipeops/hook-cleanup"
#: Which release has begun it, on the Job itself.
RUN = "pipeops/run"
When = Literal["before", "after"]
Cleanup = Literal["next", "succeeded"]
_WHEN: tuple[When, ...] = ("before", "after")
_CLEANUP: tuple[Cleanup, ...] = ("next", "succeeded")


@dataclass(frozen=True)
class Hook:
    """A Job that runs once in each release.

    :param manifest: the Job.
    :param when: before all else is applied, or after all of it is ready.
    :param order: its place among those.
    :param cleanup: when it goes.
    """

    manifest: Manifest
    when: When
    order: int = 0
    cleanup: Cleanup = "next"

    def __str__(self) -> str:
        return str(self.manifest)


def hooks_of(manifests: Iterable[Manifest]) -> tuple[list[Manifest], list[Hook]]:
    """Part the hooks from what is applied.

    :return: what is applied, and the hooks in their order.
    :raises InvalidInput: for an annotation that cannot be meant.
    """
    plain, found = [], []
    for one in manifests:
        told = map_(map_(one.body.get("metadata")).get("annotations"))
        if HOOK in told:
            found.append(_hook(one, told))
        elif {ORDER, CLEANUP} & set(told):
            raise InvalidInput(
                f"{one} has an annotation of a hook, and no {HOOK}",
                field=HOOK,
                value=str(one),
                remedy=f"Annotate it with {HOOK}: before, or after.",
            )
        else:
            plain.append(one)
    return plain, sorted(found, key=lambda hook: (hook.order, hook.manifest.name))


def _hook(one: Manifest, told: Mapping[str, Any]) -> Hook:
    if one.served.group_kind != "Job.batch":
        raise InvalidInput(
            f"{one} is annotated with {HOOK}, and is no Job",
            field=HOOK,
            value=str(one),
            remedy="Only Jobs run before or after a release.",
        )
    try:
        order = int(text(told.get(ORDER)) or "0")
    except ValueError:
        raise InvalidInput(
            f"{one}: {ORDER} is no whole number", field=ORDER, value=told.get(ORDER), remedy='Write "10".'
        ) from None
    when = one_of(HOOK, text(told.get(HOOK)), _WHEN)
    cleanup = one_of(CLEANUP, text(told.get(CLEANUP)) or "next", _CLEANUP)
    return Hook(one, when, order, cleanup)


def begun_by(item: Mapping[str, Any], key: str) -> bool:
    """Whether a Job was begun by a release."""
    return text(map_(map_(item.get("metadata")).get("annotations")).get(RUN)) == run_of(key)


def run_of(key: str) -> str:
    """Return what a Job says of the release that has begun it."""
    return hashlib.sha256(key.encode()).hexdigest()[:40]


def marked(body: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return a Job that says which release has begun it."""
    metadata = map_(body.get("metadata"))
    annotations = {**map_(metadata.get("annotations")), RUN: run_of(key)}
    return {**body, "metadata": {**metadata, "annotations": annotations}}


def as_another(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a Job under a name that is free: to try one whose predecessor, which cannot be changed, is still there."""
    metadata = map_(body.get("metadata"))
    name = text(metadata.get("name"))
    return {**body, "metadata": {**metadata, "name": f"{name[:50]}-{run_of(name)[:10]}"}}
