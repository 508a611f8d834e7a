"""Rules about the application itself: is it there, is it the one that is meant, can the expectation ever be met?"""

from __future__ import annotations

from airflow_pipeops.argocd.situation import ApplicationLook
from airflow_pipeops.waits.expectation import Verdict
from airflow_pipeops.waits.language import fail
from airflow_pipeops.waits.status import is_sha, short


def skip_reconcile(look: ApplicationLook) -> Verdict | None:
    if not look.observed.ignored:
        return None
    return fail("skip_reconcile", f"the controller ignores this application: {look.observed.ignored}")


def wrong_project(look: ApplicationLook) -> Verdict | None:
    found, expected = look.observed.project, look.expectation.project
    if not expected or not found or expected == found:
        return None
    return fail(
        "wrong_project",
        f"the application is in project {found!r}, and {expected!r} is expected; name the right project or leave it out",
    )


def unmeetable(look: ApplicationLook) -> Verdict | None:
    return fail(*look.problem) if look.problem else None


def pinned_elsewhere(look: ApplicationLook) -> Verdict | None:
    if look.expectation.basis != "desired":
        return None
    for index, wanted in look.asked.items():
        source = look.observed.sources[index]
        if not source.pinned or look.as_good(wanted, source.target) or not look.known(wanted, source.target):
            continue
        if not is_sha(source.target) and source.target.removeprefix("v") == wanted.removeprefix("v"):
            continue
        return fail(
            "pinned_elsewhere",
            f"targetRevision of {source.repo} is pinned to {short(source.target)}, so {short(wanted)} will never be "
            "compared; change targetRevision or expect another revision",
        )
    return None
