"""A release that was pushed, as its record tells of it: how it was delivered, and how well its objects are. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from airflow_pipeops.base.documents import map_
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.deploy.judgement import AFTER_END, Found, judged
from airflow_pipeops.deploy.targets import AppliedSet
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.waits.status import Observed, Resource, Trouble, TroubleKind

#: Under this name the objects of a release are kept.
KEPT = "applied.json"
_HEALTH = {"failed": "Degraded", "waiting": "Progressing", "ready": "Healthy"}


@dataclass(frozen=True)
class Pushed(JsonForm):
    """How a release was delivered: enough to find it again, and to take it back.

    :param by: ``manifests`` (an apply set) or ``helm``.
    :param namespace: of the set's parent, or of the Helm release.
    :param name: of the set, or of the Helm release.
    :param release: which one of it: the key of the task that applied it, or the number of Helm's revision.
    :param applied: SHA-256 of the kept list of its objects.
    """

    by: Literal["manifests", "helm"]
    namespace: str
    name: str
    release: str
    applied: str = ""

    @classmethod
    def told(cls, body: Any) -> Pushed:
        """Read it out of what a release's record says under ``pushed``.

        :return: what was pushed.
        :raises InvalidInput: where that says nothing of the kind.
        """
        told = map_(body)
        if told.get("by") not in ("manifests", "helm") or not told.get("name") or not told.get("release"):
            raise InvalidInput(
                f"the record of the release does not say how it was pushed: {body!r}"[:300],
                field="pushed",
                remedy="Give what the record of a release says under 'pushed'; one of GitOps has none.",
            )
        return cls.from_json({**told, "release": str(told["release"])})


@dataclass(frozen=True)
class Watched(JsonForm):
    """A release that is watched.

    :param pushed: how it was delivered.
    :param applied: its objects.
    """

    pushed: Pushed
    applied: AppliedSet

    @property
    def namespace(self) -> str:
        """The namespace it is in."""
        return self.pushed.namespace


def wellness(watched: Watched, standing: str, found: Sequence[Found]) -> Observed | Trouble:
    """Return one look at a release.

    :param watched: the release.
    :param standing: which release stands now.
    :param found: what was seen of its objects.
    :return: how well it is; trouble where nobody can tell, which is neither well nor unwell.
    """
    pushed = watched.pushed
    states = [(one.target, judged(one, settled=True)) for one in found]
    dark = [one for _, one in states if one.state == "unknown" and one.rule != AFTER_END]
    resources = tuple(
        Resource(target.kind, target.name, target.namespace, health=_HEALTH[one.state], message=one.reason)
        for target, one in states
        if one.state in _HEALTH
    )
    health = _worst(one.health for one in resources)
    superseded = standing != pushed.release
    if dark and health == "Healthy" and not superseded:
        kind: TroubleKind = "denied" if dark[0].rule == "hidden" else "nonsense"
        return Trouble(kind, f"nobody can tell of {len(dark)} objects: {dark[0].reason}")
    return Observed(
        pushed.name,
        pushed.namespace,
        health=health,
        resources=resources,
        desired=(pushed.release,),
        deployed=(standing,),
        replaced=(pushed.release,) if superseded else (),
        called=f"{pushed.namespace}/{pushed.name}",
    )


def _worst(health: Iterable[str]) -> str:
    found = set(health)
    return next((one for one in ("Degraded", "Progressing") if one in found), "Healthy")
