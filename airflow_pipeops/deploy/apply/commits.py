"""Whether a commit may be applied over the one that is there. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: How the wanted commit stands to the recorded one; ``unknown``: nobody can tell.
Relation = Literal["same", "newer", "older", "diverged", "unknown"]


@dataclass(frozen=True)
class Allowed:
    """Whether it may be.

    :param ok: it may.
    :param reason: why, or why not.
    """

    ok: bool
    reason: str


def may_apply(recorded: str, wanted: str, relation: Relation, *, rollback: bool = False) -> Allowed:
    """Decide whether a commit may be applied.

    :param recorded: the commit that the set has, or begins to have; empty for none.
    :param wanted: the commit to apply; empty for none.
    :param relation: of the wanted one to the recorded one.
    :param rollback: somebody says that it is to be older.
    :return: whether, and why.
    """
    if not recorded:
        return Allowed(True, "nothing was applied of a commit before")
    if rollback:
        return Allowed(True, f"it is a rollback from {recorded[:12]}")
    if not wanted:
        return Allowed(False, f"the set is of commit {recorded[:12]}, and what is to be applied names none")
    if relation in ("same", "newer"):
        return Allowed(
            True, f"{wanted[:12]} is {'the same as' if relation == 'same' else 'newer than'} {recorded[:12]}"
        )
    if relation == "older":
        return Allowed(False, f"{wanted[:12]} is older than {recorded[:12]}, which was applied")
    if relation == "diverged":
        return Allowed(False, f"{wanted[:12]} is not built on {recorded[:12]}, which was applied")
    return Allowed(
        False, f"nobody can tell whether {wanted[:12]} is newer than {recorded[:12]}, which was applied"
    )
