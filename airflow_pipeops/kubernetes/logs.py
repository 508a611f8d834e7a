"""The log of a container, read on from where it was read to: all of it, however large, and no line twice."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.kubernetes.client import KubernetesClient

_MOMENT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) ?(.*)", re.S)


@dataclass(frozen=True)
class Position(JsonForm):
    """How far a log was read.

    :param since: moment of the last line, as the log writes it; empty: nothing was read yet.
    :param lines: how many lines of that very moment were read.
    """

    since: str = ""
    lines: int = 0


async def read_on(
    client: KubernetesClient, namespace: str, pod: str, container: str, position: Position
) -> tuple[list[str], Position]:
    """Read what a container has written since, up to now: one that writes all the time is left at that.

    :param position: how far it was read.
    :return: its new lines without the moments, and how far it is read now.
    :raises NotFound: if the pod is gone, and its log with it.
    """
    lines: list[str] = []
    while True:
        try:
            part, more = await client.log_from(namespace, pod, container, position.since)
        except InvalidInput:
            return lines, position  # it has not begun yet
        fresh, position = after(part, position)
        lines += fresh
        if not (fresh and more):
            return lines, position


def after(lines: Sequence[str], position: Position) -> tuple[list[str], Position]:
    """Leave out of a log what was read before: the server goes back to the whole second. Pure.

    :param lines: each with its moment.
    :return: the new ones without it, and how far the log is read.
    """
    found: list[str] = []
    since, last, again = _moment(position.since)[0], position.since, 0
    count = position.lines
    for line in lines:
        moment, stamp, said = _moment(line)
        if since and moment < since:
            continue
        if since and moment == since and again < position.lines:
            again += 1
            continue
        count = count + 1 if stamp == last else 1
        last = stamp
        found.append(said)
    return found, Position(last, count)


def _moment(line: str) -> tuple[int, str, str]:
    """Return when a line was written, in nanoseconds; that as it stands there; and the line without it."""
    match = _MOMENT.match(line)
    if match is None:
        return 0, "", line
    zone = match[3].replace("Z", "+00:00")
    seconds = int(datetime.fromisoformat(match[1] + zone).astimezone(timezone.utc).timestamp())
    stamp = line[: match.start(4)].rstrip(" ")
    return seconds * 10**9 + int((match[2] or "").ljust(9, "0") or 0), stamp, match[4]
