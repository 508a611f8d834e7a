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
    """

    sha256: str
    revision: str


def before(lived: Sequence[Lived], current: str, blocked: Collection[str] = ()) -> Lived | None:
    """Find the model to go back to: the last one that was live before the current one, and was not taken back.

    That is not "the version before": the newest version that was archived may never have been live.

    :param lived: releases in the order of time.
    :param current: digest of the model that Git wants. Where it is not that of the last release, its own is under way, or
        somebody brought it around the pipeline: all releases were before it.
    :param blocked: digests of models that were taken back.
    :return: the model; ``None`` where none is known.
    """
    for one in reversed(lived):
        if one.sha256 and one.sha256 != current and one.sha256 not in blocked:
            return one
    return None
