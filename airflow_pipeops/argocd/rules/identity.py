"""Rules about the application itself: is it there, is it the one that is meant, can the expectation ever be met?"""

from __future__ import annotations

from airflow_pipeops.argocd.situation import ApplicationLook
from airflow_pipeops.waits.expectation import Verdict
from airflow_pipeops.waits.language import fail
from airflow_pipeops.waits.status import is_sha, short


def skip_reconcile(k: ApplicationLook) -> Verdict | None:
    if not k.o.ignored:
        return None
    return fail("skip_reconcile", f"the controller ignores this application: {k.o.ignored}")


def wrong_project(k: ApplicationLook) -> Verdict | None:
    if not k.e.project or not k.o.project or k.e.project == k.o.project:
        return None
    return fail(
        "wrong_project",
        f"the application is in project {k.o.project!r}, and {k.e.project!r} is expected; name the right project or "
        "leave it out",
    )


def unmeetable(k: ApplicationLook) -> Verdict | None:
    return fail(*k.problem) if k.problem else None


def pinned_elsewhere(k: ApplicationLook) -> Verdict | None:
    if k.e.basis != "desired":
        return None
    for index, wanted in k.asked.items():
        source = k.o.sources[index]
        if not source.pinned or k.as_good(wanted, source.target) or not k.known(wanted, source.target):
            continue
        if not is_sha(source.target) and source.target.removeprefix("v") == wanted.removeprefix("v"):
            continue
        return fail(
            "pinned_elsewhere",
            f"targetRevision of {source.repo} is pinned to {short(source.target)}, so {short(wanted)} will never be "
            "compared; change targetRevision or expect another revision",
        )
    return None
