"""Whether pods run the images that were applied, by digest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_pipeops.base.documents import map_, maps, text
from airflow_pipeops.deploy.seen import Readiness, failed, unknown, waiting

_DEFAULT = "docker.io/"


def images_that_run(images: Sequence[str], pods: Sequence[Mapping[str, Any]]) -> Readiness | None:
    """Compare the images that run with those that were applied; ``None`` where they are the same.

    :param images: by digest; several of one repository: any of them.
    :param pods: of the object; those that have failed or are being deleted run nothing.
    :return: why it is not ready.
    """
    wanted = _digests(images)
    running = _running(pods)
    met: set[str] = set()
    hidden: list[str] = []
    for status in running:
        name, told = text(status.get("name")), text(status.get("imageID"))
        repository, _, digest = told.rpartition("://")[2].partition("@")
        of = _repository(repository) if digest else _repository(text(status.get("image")))
        if of not in wanted:
            continue
        if not told:
            return waiting("image_not_told", f"container {name} does not say yet which image it runs")
        if not digest:
            hidden.append(name)
        elif digest not in wanted[of]:
            expected = ", ".join(sorted(wanted[of]))
            return failed("other_image", f"container {name} runs {of}@{digest}, and {expected} was applied")
        else:
            met.add(of)
    missing = sorted(set(wanted) - met)
    if missing and hidden:
        return unknown("image_hidden", f"container {', '.join(hidden)} tells no digest of what it runs")
    if missing and running:
        return failed("image_missing", f"no pod runs {', '.join(missing)}")
    if missing:
        return waiting("no_pod", f"no pod that runs {', '.join(missing)} is seen")
    return None


def _digests(images: Sequence[str]) -> dict[str, set[str]]:
    """Return the digests of each repository that may run."""
    found: dict[str, set[str]] = {}
    for image in images:
        repository, _, digest = image.partition("@")
        if digest:
            found.setdefault(_repository(repository), set()).add(digest)
    return found


def _running(pods: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the states of all containers of the pods that run."""
    here = [map_(pod.get("status")) for pod in pods if not map_(pod.get("metadata")).get("deletionTimestamp")]
    return [
        one
        for status in here
        if status.get("phase") != "Failed"
        for one in maps(status.get("containerStatuses"))
    ]


def _repository(image: str) -> str:
    """Return an image's repository as all write it in the end: with its registry, without tag or digest."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    name = f"{head}{slash}{last.partition(':')[0]}"
    first = name.partition("/")[0]
    if "/" in name and ("." in first or ":" in first or first == "localhost"):
        return name.replace("index.docker.io/", _DEFAULT, 1)
    return f"{_DEFAULT}{name if '/' in name else f'library/{name}'}"
