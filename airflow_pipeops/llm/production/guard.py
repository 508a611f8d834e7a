"""Is a new prompt worse than the one before it, beyond doubt? Pure.

Conversations are what is counted. Each with the new prompt is held against some with the one before: the same requests,
answered by both (``shadow``); conversations of the same hour, where a hash sends a share to the new prompt (``split``); or
those of the same hour of an earlier week (``before``), which differ by more than the prompt, so that nothing is ever taken
back for them without a person. Thumbs down and hard failures are judged, and the rate of hard failures against a limit, each
with its part of ``alpha``, by evidence that holds at all looks together (:mod:`.evidence`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from airflow_pipeops.base.arguments import at_least as at_least_
from airflow_pipeops.base.arguments import one_of, positive
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.base.typed import demand_types
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.llm.production import evidence
from airflow_pipeops.llm.production.evidence import Block

Design = Literal["shadow", "split", "before"]
Mode = Literal["observe", "propose", "act"]
Verdict = Literal["worse", "no worse", "wait", "labels missing", "cannot tell"]
DESIGNS: tuple[Design, ...] = ("shadow", "split", "before")
MODES: tuple[Mode, ...] = ("observe", "propose", "act")


@dataclass(frozen=True)
class PromptPolicy(JsonForm):
    """When a prompt goes back.

    :param design: how both are held against each other: ``shadow``, ``split`` or ``before``.
    :param share: of the conversations that the new prompt gets, by a hash of their id; for ``split``.
    :param margin: odds ratio of being bad that is allowed: 1 where none may be lost, 1.5 for half as much again.
    :param most_failures: rate of conversations with a hard failure above which a prompt goes back, whatever the one before
        does; ``None`` for no limit.
    :param alpha: chance that a prompt that is no worse goes back, over all looks and tests together.
    :param enough: conversations after which the prompt is cleared.
    :param delay: after which the thumbs of a conversation should be there; no conversation counts before.
    :param min_rated: share of conversations that should have a thumb, up or down; with fewer, thumbs are missing.
    :param near: how far apart the begins of conversations may be that are held against each other.
    :param mode: ``observe``, ``propose`` (a person is asked) or ``act``.
    :param thumbs: whether thumbs are judged. Under a shadow they never are: nobody sees the other answer and rates it.
    """

    design: Design = "split"
    share: float = 0.5
    margin: float = 1.0
    most_failures: float | None = None
    alpha: float = 0.05
    enough: int = 1000
    delay: timedelta = timedelta(days=1)
    min_rated: float = 0.0
    near: timedelta = timedelta(hours=1)
    mode: Mode = "propose"
    thumbs: bool = True

    def __post_init__(self) -> None:
        demand_types(self)
        one_of("design", self.design, DESIGNS)
        one_of("mode", self.mode, MODES)
        positive("delay", self.delay, zero=True)
        positive("near", self.near)
        at_least_("enough", self.enough, 20, f"enough is {self.enough}", "Fewer than 20 tell nothing.")
        limit = 0.5 if self.most_failures is None else self.most_failures
        for name, value, sound, remedy in (
            ("share", self.share, 0.01 <= self.share <= 0.99, "Use 0.01 to 0.99."),
            ("margin", self.margin, 1 <= self.margin < 100, "Use 1 or more."),
            ("most_failures", limit, 0 < limit < 1, "Use a rate such as 0.01."),
            ("alpha", self.alpha, 0 < self.alpha < 0.5, "For example 0.05."),
            ("min_rated", self.min_rated, 0 <= self.min_rated < 1, "Use a share below 1."),
        ):
            if not sound:
                raise InvalidInput(f"{name} is {value}", field=name, value=value, remedy=remedy)

    @property
    def controls(self) -> int:
        """Conversations with the prompt before that one with the new prompt is held against."""
        if self.design == "shadow":
            return 1
        return 3 if self.design == "before" else min(9, max(1, round((1 - self.share) / self.share)))

    @property
    def tests(self) -> int:
        """How many tests share ``alpha``."""
        return 1 + self.rated + (self.most_failures is not None)

    @property
    def rated(self) -> bool:
        """Whether thumbs are judged."""
        return self.thumbs and self.design != "shadow"


@dataclass(frozen=True)
class Seen(JsonForm):
    """What is known of both prompts.

    :param new: conversations with the new prompt that may be counted.
    :param before: with the one before.
    :param thumbs: blocks in which bad is a thumb down.
    :param failures: blocks in which bad is a hard failure.
    :param hard: conversations with the new prompt that had a hard failure.
    :param down: share of conversations with a thumb down, of the new prompt and of the one before.
    :param rated: share of conversations with a thumb, of both.
    :param missing: why thumbs that ought to be there are not; empty if they are.
    :param unfit: why the two cannot be compared at all; empty if they can.
    """

    new: int = 0
    before: int = 0
    thumbs: tuple[Block, ...] = ()
    failures: tuple[Block, ...] = ()
    hard: int = 0
    down: tuple[float, ...] = ()
    rated: tuple[float, ...] = ()
    missing: str = ""
    unfit: str = ""


@dataclass(frozen=True)
class PromptDecision(JsonForm):
    """What was decided about a prompt.

    :param verdict: ``worse``, ``no worse`` (cleared), ``wait``, ``labels missing`` or ``cannot tell``.
    :param act: whether it shall go back now.
    :param propose: whether a person shall be asked.
    :param reason: one sentence.
    :param test: that decided: ``thumbs``, ``failures`` or ``limit``.
    :param conversations: with the new prompt, that were looked at.
    :param compared: of these, those that were held against others.
    :param odds: estimated odds ratio of that test; ``None`` where nothing tells.
    :param at_least: the odds ratio that it has at least, at all looks together.
    :param evidence: test -> how much the evidence is, against the ``1/alpha`` of that test that is needed.
    :param needed: that much.
    :param down: share of conversations with a thumb down, of both.
    """

    verdict: Verdict
    act: bool
    propose: bool
    reason: str
    test: str = ""
    conversations: int = 0
    compared: int = 0
    odds: float | None = None
    at_least: float | None = None
    evidence: Mapping[str, float] = field(default_factory=dict)
    needed: float = 0.0
    down: tuple[float, ...] = ()


def judge(seen: Seen, policy: PromptPolicy) -> PromptDecision:
    """Decide about a prompt. First match wins.

    1. Hard failures are above their limit beyond doubt: ``worse``; for this, no other prompt is needed.
    2. The two cannot be compared: ``cannot tell``.
    3. Hard failures, or thumbs, are worse beyond doubt: ``worse``.
    4. Thumbs that ought to be there are not: ``labels missing``.
    5. Enough conversations were compared: ``no worse``.
    6. ``wait``.

    :param seen: what is known.
    :param policy: when a prompt goes back.
    :return: the decision.
    """
    needed = policy.tests / policy.alpha
    logs: dict[str, float] = {}
    if policy.most_failures is not None:
        logs["limit"] = evidence.above(seen.hard, seen.new, policy.most_failures)
    if not seen.unfit:
        logs["failures"] = evidence.against(seen.failures, policy.margin)
        if policy.rated and not seen.missing:
            logs["thumbs"] = evidence.against(seen.thumbs, policy.margin)
    sure = [test for test in ("limit", "failures", "thumbs") if logs.get(test, 0.0) >= math.log(needed)]
    test = sure[0] if sure else max(logs, key=lambda name: logs[name], default="")
    blocks = seen.thumbs if test == "thumbs" else seen.failures
    compared = len(seen.failures)

    def found(verdict: Verdict, reason: str) -> PromptDecision:
        worse = verdict == "worse"
        certain = policy.design != "before" or test == "limit"
        odds = None if test == "limit" else evidence.odds(blocks)
        return PromptDecision(
            verdict,
            worse and policy.mode == "act" and certain,
            worse and (policy.mode == "propose" or (policy.mode == "act" and not certain)),
            reason,
            test,
            seen.new,
            compared,
            None if odds is None else min(odds, 1e6),
            evidence.at_least(blocks, policy.alpha / policy.tests) if blocks and test != "limit" else None,
            {name: math.exp(min(50.0, value)) for name, value in logs.items()},
            needed,
            seen.down,
        )

    if sure:
        return found("worse", _worse(test, seen, policy, blocks))
    if seen.unfit:
        return found("cannot tell", f"{seen.unfit}.")
    if seen.missing and policy.rated:
        return found("labels missing", f"Thumbs are missing: {seen.missing}.")
    if compared >= policy.enough:
        return found(
            "no worse", f"{compared:,} conversations were compared, and it is not worse beyond doubt."
        )
    return found("wait", f"{compared:,} conversations were compared, and {policy.enough:,} clear it.")


def _worse(test: str, seen: Seen, policy: PromptPolicy, blocks: tuple[Block, ...]) -> str:
    if test == "limit":
        assert policy.most_failures is not None
        return (
            f"{seen.hard:,} of {seen.new:,} conversations had a hard failure, which is above the limit of "
            f"{policy.most_failures:.2%} beyond doubt."
        )
    what = "a thumb down" if test == "thumbs" else "a hard failure"
    least = evidence.at_least(blocks, policy.alpha / policy.tests)
    told = f"its conversations have at least {least:.2f} times the odds of {what}"
    against = {
        "shadow": "on the same requests",
        "split": "against those of the same hour",
        "before": "against those of the same hour of a week before, which differ by more than the prompt",
    }
    return f"{told.capitalize()}, {against[policy.design]}: worse."
