"""Which model was live before the one that is live? Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from airflow_pipeops.base.serialisation import JsonForm


@dataclass(frozen=True)
class Lived(JsonForm):
    """A model that was live and healthy in an environment, as its release was recorded.

    :param sha256: its digest.
    :param revision: commit of the desired state that brought it.
    :param record: id of the record of that release, which leads to what the model was made from.
    """

    sha256: str
    revision: str
    record: str = ""


def before(lived: Sequence[Lived], current: str, blocked: Collection[str] = ()) -> Lived | None:
    """Find the model to go back to: the last one that was live before the current one, and was not taken back.

    That is not "the version before": the newest version that was archived may never have been live.

    :param lived: releases in the order of time.
    :param current: digest of the model that is live. Where it is in no release, somebody brought it around the pipeline, and
        all releases were before it.
    :param blocked: digests of models that were taken back.
    :return: the model; ``None`` where none is known.
    """
    last = max((number for number, one in enumerate(lived) if one.sha256 == current), default=len(lived))
    for one in reversed(lived[: last + 1]):
        if one.sha256 and one.sha256 != current and one.sha256 not in blocked:
            return one
    return None
