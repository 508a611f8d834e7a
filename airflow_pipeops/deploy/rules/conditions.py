"""Custom resources of which nothing is known but the conventions of Kubernetes: generations, and conditions."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_pipeops.deploy.seen import Condition, Readiness, Seen, failed, ready, unknown, waiting

#: Conditions that sum up whether an object works, of kinds that have no ``Ready``.
_WELL = frozenset({"Accepted", "Available", "Healthy", "Programmed", "Reconciled", "Synced"})
#: Conditions that say, until they are false, that a controller is at work: some are there from the first moment.
_AT_WORK = frozenset({"Pending", "Progressing", "Reconciling", "RollingOut", "Updating", "Upgrading"})
#: Conditions whose falsehood is good news.
_BAD_NEWS = _AT_WORK | {"Degraded", "Deleting", "Failed", "Paused", "Stalled", "Suspended"}


def any_custom(seen: Seen) -> Readiness:
    """Its controller has looked at this spec, and says that it is ready, where it has a word for that."""
    found = seen.conditions.get("Ready")
    if found is not None:
        return _by_ready(seen, found)
    told = [one for one in seen.conditions.values() if one.type and not seen.behind(one)]
    if complaint := _complaint(seen, told):
        return complaint
    if seen.observed is not None:
        return ready("observed", f"the controller of {seen} has looked at it, and has no complaint")
    if told:
        return _looked_at(seen, told)
    if not seen.settled:
        return waiting("not_observed", f"no controller of {seen} has said anything yet")
    if seen.declares is False:
        return ready("no_status", f"{seen} is there; its definition declares no status to wait for")
    if seen.declares:
        return waiting("not_observed", f"no controller of {seen} has said anything: does one run?")
    return unknown("no_status", f"{seen} has no status, and whether a controller looks after it is not known")


def _by_ready(seen: Seen, found: Condition) -> Readiness:
    if seen.behind(found):
        return waiting(
            "not_observed",
            f"what {seen} says of itself is about generation {found.generation} of {seen.generation}",
        )
    if found.status != "True":
        return waiting("not_ready", found.words)
    if seen.observed is None and found.generation is None and seen.generation > 1 and not seen.settled:
        return waiting("settling", f"{seen} is ready, and does not say of which generation")
    return ready("condition", f"{seen} is ready")


def _complaint(seen: Seen, told: Sequence[Condition]) -> Readiness | None:
    """What speaks against it, in the words that many kinds share."""
    for one in told:
        if (one.type, one.status) in (("Failed", "True"), ("Succeeded", "False")):
            return failed("condition_failed", one.words)
        if (one.type, one.status) == ("Degraded", "True"):
            return failed("degraded", one.words)
    for one in seen.conditions.values():
        if one.type in _WELL and seen.behind(one):
            said = f"{one.type} of {seen} is about generation {one.generation} of {seen.generation}"
            return waiting("not_observed", said)
        if one.type in _WELL and one.status != "True":
            return waiting("not_ready", one.words)
    for one in told:
        # Of a Deployment, and of kinds that copy it, it stays true when all is done.
        if one.type in _AT_WORK and one.status != "False" and one.reason != "NewReplicaSetAvailable":
            return waiting("progressing", one.words)
    return None


def _looked_at(seen: Seen, told: Sequence[Condition]) -> Readiness:
    """Its controller has said something, with no complaint that is known, and does not say which generation it has seen."""
    well = [one for one in told if one.type in _WELL]
    doubt = next((one for one in told if one.status != "True" and one.type not in _BAD_NEWS), None)
    if not well and doubt is not None:
        said = f"{seen} says {doubt.type}={doubt.status or 'nothing'}"
        if not seen.settled:
            return waiting("not_ready", said)
        return unknown("condition_unclear", f"{said}, and whether that is a complaint is not known")
    dated = any(one.generation is not None for one in well)
    if not seen.settled and not dated and (seen.generation > 1 or not well):
        return waiting(
            "settling", f"the controller of {seen} does not say whether it is done with this generation"
        )
    return ready("condition", f"the controller of {seen} has looked at it, and has no complaint")
