"""Do the desired state in Git, the registry's alias and what runs name the same model; and if not, which of them lies? Pure.

Git says what should run. The alias follows it, and nobody who reads a model by its alias sees that it is behind; MLflow
keeps no history of an alias, and lets the last writer win. While a promotion or a rollback is under way the three differ,
first Git, then what runs, then the alias: so a difference counts once it has lasted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from airflow_pipeops.base.serialisation import JsonForm


@dataclass(frozen=True)
class Sides(JsonForm):
    """Which model each side names, by digest; empty where it names none, ``None`` where it could not be asked.

    :param git: that the desired state wants.
    :param alias: that the registry's alias names.
    :param live: that runs, as its endpoint says.
    :param registered: whether the registry has a version of the digest that Git wants.
    :param asked: whether anybody asked what runs.
    :param why: of a side that could not be asked, the reason.
    """

    git: str | None
    alias: str | None
    live: str | None = None
    registered: bool = True
    asked: bool = False
    why: str = ""


@dataclass(frozen=True)
class Agreement(JsonForm):
    """What was found.

    :param verdict: ``agree``; ``settling`` while a difference is young; ``disagree``; ``cannot tell``.
    :param liar: ``alias``, ``live``, ``alias and live``, or ``git`` where it wants what nobody has registered; else empty.
    :param reason: one sentence.
    """

    verdict: Literal["agree", "settling", "disagree", "cannot tell"]
    liar: Literal["", "alias", "live", "alias and live", "git"]
    reason: str


def judge(sides: Sides, lasted: float, grace: float, called: str = "model") -> Agreement:
    """Say whether the sides agree. First match wins.

    1. Git or the alias could not be asked: ``cannot tell``.
    2. All that could be asked name the same: ``agree``; or ``cannot tell`` where what runs was asked and has not answered.
    3. The difference is younger than ``grace``: ``settling``.
    4. Git wants a model that the registry does not have: ``git`` lies, since nobody can follow it.
    5. Who names another model than Git lies.

    :param sides: what each names.
    :param lasted: seconds for which they have named these.
    :param grace: seconds that a promotion may take.
    :param called: what they name, in words.
    :return: what was found.
    """
    if sides.git is None or sides.alias is None:
        side = "Git" if sides.git is None else "the registry"
        return Agreement("cannot tell", "", f"{side} could not be asked: {sides.why}.")
    others = {"alias": sides.alias, **({} if sides.live is None else {"live": sides.live})}
    behind = [side for side, digest in others.items() if digest != sides.git]
    unknown = sides.git != "" and not sides.registered
    if not behind and not unknown:
        if sides.asked and sides.live is None:
            return Agreement(
                "cannot tell",
                "",
                f"Git and the alias name {_short(sides.git, called)}; what runs does not say: {sides.why}.",
            )
        return Agreement("agree", "", f"All name {_short(sides.git, called)}.")
    told = ", ".join(f"{_CALLED[side]} {_short(digest, called)}" for side, digest in others.items())
    said = f"Git wants {_short(sides.git, called)}, {told}"
    if lasted < grace:
        return Agreement("settling", "", f"{said}; for {lasted:.0f} s, and {grace:.0f} s are allowed.")
    if unknown:
        return Agreement("disagree", "git", f"{said}; the registry has no version of what Git wants.")
    if len(behind) == 2:
        return Agreement("disagree", "alias and live", f"{said}: Git was changed, and nothing has followed.")
    if behind == ["alias"]:
        return Agreement(
            "disagree", "alias", f"{said}: who reads the {called} by its alias gets another one."
        )
    return Agreement("disagree", "live", f"{said}: what runs is not what is wanted.")


_CALLED = {"alias": "the alias names", "live": "what runs is"}


def _short(digest: str, called: str) -> str:
    return digest[:12] or f"no {called}"
