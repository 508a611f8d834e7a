"""What to do about a finding: a pure decision over a policy and what was done before.

These are asked in this order; the first that applies decides, and says why:

1. ``kill_switch``: it is on. It is read again right before an act.
2. ``allow_list``, ``mode``: no rule answers such a finding of this deliverable, or it is off here.
3. ``freeze``: nothing is done at this time.
4. ``lock``: an operation on this deliverable is open (the one who does it goes on with it), somebody else is releasing it,
   or a person has it since an operation was handed over.
5. ``answered``, ``itself``, ``stale``, ``precondition``: the finding was answered; what is at fault is what the remediator
   has changed; the evidence is too old, or from the future; the finding does not name what the action needs,
   or its order does not say that the release was found worse than the model before.
6. ``blast_radius``: too many deliverables, too large a share of the environment, or a second environment.
7. ``rate``: of the rule on this deliverable, of the environment, of all.
8. ``budget``: the rule has acted on this deliverable as often as it may without a person.
9. ``flapping``: the action, or its inverse, was done within its dwell time; or the inverse at all since a person has looked.

What is left is done, unless the mode says ``observe`` or ``propose``, a person must agree first, or the rule has failed too
often (``failures``), which makes it a proposal. Nothing is counted that was only observed or proposed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import Final, Literal

from airflow_pipeops.base.documents import map_
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.operations.remediation.actions import ACTIONS, NOTIFY
from airflow_pipeops.operations.remediation.findings import Finding
from airflow_pipeops.operations.remediation.history import LATEST, MEMORY, History, Operation
from airflow_pipeops.operations.remediation.policy import Mode, RemediationPolicy, Rule

#: ``act``: do it. ``go on``: with the operation that this task has begun. ``refuse``: nothing is done. ``hand over``: a
#: person is called. ``observe``, ``propose``: it would be done.
Outcome = Literal["act", "go on", "observe", "propose", "refuse", "hand over"]
#: Evidence may be seen so much later than now: clocks differ.
_SKEW: Final = timedelta(minutes=5)
_HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True)
class Surroundings(JsonForm):
    """What a decision takes into account beside the history.

    :param killed: which kill switch is on; empty if none is.
    :param releasing: who is releasing the deliverable; empty if nobody is.
    :param approved_by: who has agreed to an act; empty if nobody has.
    :param population: deliverables in the environment; ``None`` if nobody knows, and then one an hour is acted on.
    :param owner: the task that asks.
    """

    killed: str = ""
    releasing: str = ""
    approved_by: str = ""
    population: int | None = None
    owner: str = ""


@dataclass(frozen=True)
class Order(JsonForm):
    """What was decided.

    :param outcome: see :data:`Outcome`.
    :param stage: that decided: see the module.
    :param reason: one sentence.
    :param rule: of the policy; empty if none applies.
    :param action: that was chosen; empty if none was.
    :param operation: to go on with.
    """

    outcome: Outcome
    stage: str
    reason: str
    rule: str = ""
    action: str = ""
    operation: str = ""


@dataclass(frozen=True)
class _Look:
    """A finding, with all that is known when it is decided.

    :param finding: to decide about.
    :param policy: that people agreed on.
    :param rule: that answers it.
    :param mode: of the rule, here.
    :param history: of operations.
    :param now: in UTC.
    :param around: everything else.
    """

    finding: Finding
    policy: RemediationPolicy
    rule: Rule
    mode: Mode
    history: History
    now: datetime
    around: Surroundings

    @cached_property
    def here(self) -> list[Operation]:
        """The operations on this deliverable in this environment."""
        where = (self.finding.deliverable, self.finding.environment)
        return [one for one in self.history.operations if (one.deliverable, one.environment) == where]

    @cached_property
    def hour(self) -> list[Operation]:
        """What was done in the last hour, and what may be done any moment."""
        return list(self.done_within(self.history.operations, _HOUR))

    @property
    def reset(self) -> str:
        """When a person has last looked at this deliverable."""
        return self.history.reset(f"{self.finding.deliverable}@{self.finding.environment}")

    def done_within(
        self, operations: list[Operation] | tuple[Operation, ...], time: timedelta
    ) -> Iterator[Operation]:
        """Yield what was done in a time, and what was said and may be done any moment."""
        since = (self.now - time).isoformat()
        return (one for one in operations if one.state == "intended" or one.acted > since)


_Found = tuple[Outcome, str, str] | tuple[Outcome, str, str, str] | None


def _freeze(look: _Look) -> _Found:
    for freeze in look.policy.freezes:
        if freeze.covers(look.finding.environment, look.now):
            return "refuse", "freeze", f"Nothing is done now: {freeze.reason}."
    return None


def _lock(look: _Look) -> _Found:
    for one in reversed(look.here):
        if not one.open:
            continue
        if look.now - datetime.fromisoformat(one.changed) > look.policy.limits.lease:
            return (
                "hand over", "lock",
                f"{one.action} is {one.state} since {one.changed}, and nobody has ended it.", one.id,
            )  # fmt: skip
        if one.id == look.finding.key and one.owner == look.around.owner:
            return "go on", "lock", f"It is {one.state} since {one.changed}.", one.id
        return "refuse", "lock", f"{one.action} of {one.owner or one.id} is at it since {one.at}."
    if look.around.releasing:
        return "refuse", "lock", f"Somebody else is releasing it: {look.around.releasing}."
    if held := look.history.with_person(look.finding.deliverable, look.finding.environment):
        return "refuse", "lock", f"A person has it since {held.changed}, until it is reset: {held.reason}"
    return None


def _precondition(look: _Look) -> _Found:
    finding = look.finding
    if answered := look.history.get(finding.key):
        return (
            "refuse",
            "answered",
            f"It was answered by {answered.action}: {answered.state.replace('_', ' ')}.",
        )
    if _by_itself(look):
        return "hand over", "itself", "What is at fault is what the remediator has changed."
    age = look.now - datetime.fromisoformat(finding.at)
    if age > look.rule.max_age or age < -_SKEW:
        said = f"from {-age} ahead" if age < timedelta(0) else f"{age} old"
        return "refuse", "stale", f"The evidence is {said}, and {look.rule.max_age} is the limit."
    absent = [name for name in ACTIONS[look.rule.action].needs if not finding.target.get(name)]
    if absent:
        return (
            "refuse",
            "precondition",
            f"{look.rule.action} needs {', '.join(absent)}, which the finding does not name.",
        )
    # That something has moved is no evidence that the model before is better, and nothing takes a rollback back.
    if look.rule.action == "roll_back_model" and map_(finding.target["order"]).get("verdict") != "worse":
        return (
            "refuse",
            "precondition",
            "The order does not say that the release was found worse than the model before on the same rows; the model guard"
            " does.",
        )
    return None


def _by_itself(look: _Look) -> bool:
    if look.finding.changed_by:
        return True
    commit = look.finding.target.get("commit")
    return bool(commit) and any(one.result.get("commit") == commit for one in look.history.operations)


def _blast_radius(look: _Look) -> _Found:
    finding, limits = look.finding, look.policy.limits
    touched = {finding.deliverable, *finding.affected}
    if len(touched) > look.rule.affected:
        return (
            "hand over", "blast_radius",
            f"It would touch {len(touched)} deliverables, and {look.rule.affected} is the limit.",
        )  # fmt: skip
    places = {one.environment for one in look.hour} | {finding.environment}
    if len(places) > limits.environments:
        return (
            "refuse", "blast_radius",
            f"It would be environment number {len(places)} within an hour: {', '.join(sorted(places))}.",
        )  # fmt: skip
    there = [one for one in look.hour if one.environment == finding.environment]
    acted_on = touched.union(*({one.deliverable, *one.affected} for one in there))
    allowed = max(len(touched), int(limits.share * (look.around.population or 0)), 1)
    if there and len(acted_on) > allowed:
        known = (
            f"{look.around.population} deliverables" if look.around.population else "nobody knows how many"
        )
        return (
            "refuse", "blast_radius",
            f"{len(acted_on)} deliverables of {finding.environment} ({known}) within an hour are more than {allowed}.",
        )  # fmt: skip
    return None


def _rate(look: _Look) -> _Found:
    finding, rule, limits = look.finding, look.rule, look.policy.limits
    mine = [one for one in look.here if one.rule == rule.name]
    there = sum(one.environment == finding.environment for one in look.hour)
    for count, limit, what in (
        (
            sum(1 for _ in look.done_within(mine, _HOUR)),
            rule.per_hour,
            "this rule on this deliverable in an hour",
        ),
        (
            sum(1 for _ in look.done_within(mine, 24 * _HOUR)),
            rule.per_day,
            "this rule on this deliverable in a day",
        ),
        (there, limits.per_environment, f"all rules in {finding.environment} in an hour"),
        (len(look.hour), limits.total, "all rules in an hour"),
    ):
        if count >= limit:
            return "refuse", "rate", f"{count} of {limit} acts of {what} are used."
    return None


def _budget(look: _Look) -> _Found:
    mine = [one for one in look.here if one.rule == look.rule.name and one.changed > look.reset]
    used = sum(1 for _ in look.done_within(mine, MEMORY))
    if used >= look.rule.budget:
        return "hand over", "budget", f"{look.rule.name} has acted {used} times in {MEMORY.days} days."
    return None


def _flapping(look: _Look) -> _Found:
    action = ACTIONS[look.rule.action]
    pair = {action.name, action.inverse} - {""}
    done = [
        one for one in look.done_within(look.here, MEMORY) if one.action in pair and one.changed > look.reset
    ]
    if recent := list(look.done_within(done, look.rule.dwell)):
        return (
            "hand over", "flapping",
            f"{recent[-1].action} was done at {recent[-1].acted}, and {look.rule.dwell} is the dwell time.",
        )  # fmt: skip
    # It may have to be taken back: with what was done before, that would be to and fro.
    if against := [one for one in done if one.action == action.inverse or one.undone]:
        return (
            "hand over",
            "flapping",
            f"{against[-1].action} was done before, and no person has looked since.",
        )
    return None


_CHECKS: Final[tuple[Callable[[_Look], _Found], ...]] = (
    _freeze, _lock, _precondition, _blast_radius, _rate, _budget, _flapping,
)  # fmt: skip


def decide(
    finding: Finding,
    policy: RemediationPolicy,
    history: History,
    now: datetime,
    around: Surroundings | None = None,
) -> Order:
    """Decide about a finding.

    :param finding: what is wrong.
    :param policy: that people agreed on.
    :param history: what was done before.
    :param now: with a zone.
    :param around: what else is known.
    :return: what to do, and why.
    :raises InvalidInput: if ``now`` has no zone.
    """
    if now.tzinfo is None:
        raise InvalidInput("now has no time zone", field="now", value=str(now))
    around = around or Surroundings()
    if around.killed:
        return Order("refuse", "kill_switch", f"Nothing is done while {around.killed} is on.")
    rule, order = _rule(finding, policy)
    if rule is None:
        return order
    mode = policy.mode_of(rule, finding.environment)
    look = _Look(finding, policy, rule, mode, history, now.astimezone(timezone.utc), around)
    for check in _CHECKS:
        if found := check(look):
            outcome, stage, reason, *operation = found
            if mode == "observe" and outcome in ("hand over", "go on"):
                outcome, reason = "observe", f"It is only observed; else: {outcome}. {reason}"
            return Order(outcome, stage, reason, rule.name, rule.action, *operation)
    return _done(look)


def _done(look: _Look) -> Order:
    rule, around = look.rule, look.around
    named = rule.name, rule.action
    if look.mode == "observe":
        return Order("observe", "mode", f"{rule.action} would be done; the rule only observes.", *named)
    if rule.action == NOTIFY:
        return Order("hand over", "mode", look.finding.reason or f"{look.finding.kind} was found.", *named)
    if not around.approved_by:
        if look.mode == "propose":
            return Order("propose", "mode", f"{rule.action} is proposed: a person must agree.", *named)
        if look.finding.environment in rule.approval:
            return Order("propose", "approval", f"{rule.action} needs a person's yes here.", *named)
        if why := tripped(rule, look.policy, look.history):
            return Order(
                "propose", "failures", f"{why} A person must agree, or reset rule:{rule.name}.", *named
            )
    return Order("act", "mode", f"{rule.action}: {look.finding.reason or look.finding.kind}", *named)


def _rule(finding: Finding, policy: RemediationPolicy) -> tuple[Rule | None, Order]:
    answering = [rule for rule in policy.rules if rule.finding == finding.kind]
    allowed = [rule for rule in answering if rule.allows(finding.deliverable)]
    on = [rule for rule in allowed if policy.mode_of(rule, finding.environment) != "off"]
    if on:
        return on[0], Order("refuse", "", "")
    if allowed:
        names = ", ".join(rule.name for rule in allowed)
        return None, Order("refuse", "mode", f"{names} is off in {finding.environment}.", allowed[0].name)
    said = "of this deliverable" if answering else "at all"
    return None, Order("refuse", "allow_list", f"No rule answers {finding.kind} {said}.")


def tripped(rule: Rule, policy: RemediationPolicy, history: History) -> str:
    """Say why a rule has failed too often to act by itself.

    :param rule: of the policy.
    :param policy: with the limit.
    :param history: what was done.
    :return: the reason; empty if it has not.
    """
    since = history.reset(f"rule:{rule.name}")
    known = [
        one.helped
        for one in history.operations
        if one.rule == rule.name and one.helped is not None and one.changed > since
    ]
    limit = policy.limits.failures
    if len(known) >= limit and not any(known[-limit:]):
        return f"The last {limit} acts of {rule.name} did not help."
    latest = known[-LATEST:]
    if len(latest) == LATEST and _wilson_low(sum(latest), LATEST) < 0.5:
        return f"{sum(latest)} of the last {LATEST} acts of {rule.name} helped, which is no proof that half of them do."
    return ""


def _wilson_low(good: int, of: int) -> float:
    """Return the lower end of Wilson's interval of a share, of 95 %."""
    z = 1.959963984540054
    share = good / of
    middle = share + z * z / (2 * of)
    wide = z * ((share * (1 - share) + z * z / (4 * of)) / of) ** 0.5
    return float((middle - wide) / (1 + z * z / of))


def to_call(history: History, quiet: timedelta, now: datetime) -> tuple[Operation, ...]:
    """Return what a person is to be told of now, by one call.

    :param history: of operations.
    :param quiet: time between two calls.
    :param now: in UTC.
    :return: what was handed over and not told; nothing within the quiet time.
    """
    untold = tuple(one for one in history.operations if one.state == "handed_over" and not one.told)
    if history.calls and datetime.fromisoformat(history.calls[-1].at) > now - quiet:
        return ()
    return untold
