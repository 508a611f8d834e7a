"""Which action may answer which finding, in which environment, and how often: the numbers that people agree on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from airflow_pipeops.base.arguments import mapping, not_empty, one_of, positive, texts
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.base.typed import demand_types
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.operations.remediation.actions import ACTIONS
from airflow_pipeops.operations.remediation.findings import KINDS, FindingKind, moment
from airflow_pipeops.operations.remediation.history import MEMORY

#: What a rule leads to: nothing; a record of what would be done; a question to a person; an act.
Mode = Literal["off", "observe", "propose", "act"]
MODES: tuple[Mode, ...] = ("off", "observe", "propose", "act")
_HOUR: Final = timedelta(hours=1)
Strict = TypeVar("Strict", bound=JsonForm)


@dataclass(frozen=True)
class Rule(JsonForm):
    """One action that may answer one kind of finding.

    :param name: of the rule.
    :param finding: kind of the finding.
    :param action: of the catalogue.
    :param modes: environment -> ``off``, ``observe``, ``propose`` or ``act``; the others have that of the policy.
    :param deliverables: that it is allowed for; empty: for all.
    :param approval: environments in which a person must agree, in mode ``act`` too.
    :param parameters: of the action.
    :param max_age: evidence that is older is stale.
    :param affected: limit of the deliverables that an act touches, the one that it is about included.
    :param per_hour: limit of acts on one deliverable.
    :param per_day: see ``per_hour``.
    :param budget: limit of acts on one deliverable in 30 days; at it, a person has it.
    :param dwell: time in which the action, or its inverse, does not follow on itself on one deliverable.
    :param patience: time that an act has to show.
    :param window: time for which the fault must stay away, within or after the patience.
    """

    name: str
    finding: FindingKind
    action: str
    modes: Mapping[str, Mode] = field(default_factory=dict)
    deliverables: tuple[str, ...] = ()
    approval: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    max_age: timedelta = timedelta(hours=1)
    affected: int = 1
    per_hour: int = 1
    per_day: int = 3
    budget: int = 10
    dwell: timedelta = timedelta(hours=2)
    patience: timedelta = timedelta(minutes=30)
    window: timedelta = timedelta(minutes=15)

    def __post_init__(self) -> None:
        not_empty("name", self.name, "a rule has no name", "Give it one.")
        one_of("finding", self.finding, KINDS, called=f"the finding of rule {self.name!r},")
        usable = [name for name, action in ACTIONS.items() if not action.only_undoes]
        action = ACTIONS[one_of("action", self.action, usable, called=f"the action of rule {self.name!r},")]
        for place, mode in mapping("modes", self.modes, "Give {environment: mode}.").items():
            one_of(f"modes.{place}", mode, MODES, of=f"rule {self.name!r}")
        for name in ("deliverables", "approval"):
            texts(name, getattr(self, name), of=f"rule {self.name!r}")
        for name in ("max_age", "dwell", "patience", "window"):
            positive(name, getattr(self, name))
        _counted(f"rule {self.name!r}", self, "affected", "per_hour", "per_day", "budget")
        demand_types(self)
        absent = [
            name for name in action.parameters if name not in mapping("parameters", self.parameters, "")
        ]
        self._refuse("parameters", f"does not give {', '.join(absent)}, which {self.action} needs", absent)
        if self.action.startswith("scale_"):
            least, most, step = (self.parameters[name] for name in ("least", "most", "step"))
            whole = all(isinstance(one, int) and not isinstance(one, bool) for one in (least, most, step))
            self._refuse(
                "parameters", "scales by no whole numbers with 0 <= least < most and step >= 1",
                not (whole and 0 <= least < most and step >= 1),
            )  # fmt: skip
        self._refuse("per_hour", "allows more in an hour than in a day", self.per_hour > self.per_day)
        self._refuse("per_day", "allows more in a day than its budget of 30 days", self.per_day > self.budget)
        self._refuse("window", "is proven for longer than its dwell time", self.window > self.dwell)
        self._refuse(
            "dwell", f"is longer than the {MEMORY.days} days that are remembered", self.dwell > MEMORY
        )
        idle = [place for place in self.approval if self.modes.get(place) in ("off", "observe")]
        self._refuse("approval", f"asks for approval in {', '.join(idle)}, where it does nothing", idle)

    def _refuse(self, name: str, what: str, wrong: Any) -> None:
        if wrong:
            raise InvalidInput(
                f"rule {self.name!r} {what}", field=f"{self.name}.{name}", remedy="See docs/remediation.md."
            )

    def allows(self, deliverable: str) -> bool:
        """Whether it is allowed for a deliverable.

        :param deliverable: its name.
        :return: whether it is.
        """
        return not self.deliverables or deliverable in self.deliverables


@dataclass(frozen=True)
class Limits(JsonForm):
    """What all rules together may do.

    :param per_environment: acts in an hour in one environment.
    :param total: acts in an hour, everywhere.
    :param share: of an environment's deliverables that are acted on within an hour; at least one may be.
    :param environments: that are acted in within an hour.
    :param failures: acts of a rule in a row that did not help; at it, the rule only proposes until a person resets it.
    :param lease: time after which an act that nobody has ended goes to a person.
    :param quiet: time between two calls of a person; all findings in it are one call.
    """

    per_environment: int = 5
    total: int = 10
    share: float = 0.1
    environments: int = 1
    failures: int = 2
    lease: timedelta = timedelta(hours=6)
    quiet: timedelta = timedelta(hours=1)

    def __post_init__(self) -> None:
        _counted("the limits", self, "per_environment", "total", "environments", "failures")
        for name in ("lease", "quiet"):
            positive(name, getattr(self, name))
        if not (isinstance(self.share, (int, float)) and 0 < self.share <= 1):
            raise InvalidInput(
                f"share is {self.share!r}", field="share", value=str(self.share), remedy="Above 0, up to 1."
            )
        demand_types(self)
        if self.per_environment > self.total:
            raise InvalidInput(
                f"the limits allow {self.per_environment} acts an hour in one environment, and {self.total} in all",
                field="per_environment",
                value=self.per_environment,
                remedy="Let the limit of one be at most that of all.",
            )


@dataclass(frozen=True)
class Freeze(JsonForm):
    """A time in which nothing is done.

    :param start: as ISO-8601 with a zone.
    :param end: as ISO-8601 with a zone.
    :param reason: why.
    :param environments: that it is for; empty: all.
    :param every: repeated so often, from the first one on; ``None``: once.
    """

    start: str
    end: str
    reason: str
    environments: tuple[str, ...] = ()
    every: timedelta | None = None

    def __post_init__(self) -> None:
        texts("environments", self.environments, of=f"the freeze for {self.reason!r}")
        demand_types(self)
        length = moment("end", self.end) - moment("start", self.start)
        if length <= timedelta(0) or (self.every is not None and self.every <= length):
            raise InvalidInput(
                f"the freeze for {self.reason!r} ends before it begins, or is repeated before it ends",
                field="freezes",
                value=self.start,
                remedy="Let start be before end, and every longer than from one to the other.",
            )

    def covers(self, environment: str, now: datetime) -> bool:
        """Whether nothing is done in an environment now.

        :param environment: its name.
        :param now: with a zone.
        :return: whether it is frozen.
        """
        if self.environments and environment not in self.environments:
            return False
        start = datetime.fromisoformat(self.start)
        length, since = datetime.fromisoformat(self.end) - start, now - start
        if self.every is not None and since >= timedelta(0):
            since %= self.every
        return timedelta(0) <= since < length


@dataclass(frozen=True)
class RemediationPolicy(JsonForm):
    """Which action may answer which finding, and within which limits.

    :param rules: the first one that answers a finding does.
    :param limits: of all rules together.
    :param freezes: times in which nothing is done.
    :param mode: of a rule in an environment that it does not name; ``observe`` by default: only told.
    :raises InvalidInput: for what is unknown, or contradicts itself.
    """

    rules: tuple[Rule, ...] = ()
    limits: Limits = field(default_factory=Limits)
    freezes: tuple[Freeze, ...] = ()
    mode: Mode = "observe"

    def __post_init__(self) -> None:
        demand_types(self)
        one_of("mode", self.mode, MODES, of="the policy")
        for what, said in self._contradictions():
            raise InvalidInput(
                said, field=what, remedy="See docs/remediation.md: a policy is refused as a whole."
            )

    def mode_of(self, rule: Rule, environment: str) -> Mode:
        """Say what a rule leads to in an environment.

        :param rule: of the policy.
        :param environment: its name.
        :return: the mode.
        """
        return rule.modes.get(environment, self.mode)

    def at_most(self, mode: str) -> RemediationPolicy:
        """Return it with no rule going further than a mode: a dry run of the whole policy by ``observe``.

        :param mode: of :data:`Mode`.
        :return: the narrower policy; the rules, their order and their limits stay.
        :raises InvalidInput: for a mode that there is none of.
        """
        most = MODES.index(one_of("mode", mode, MODES))

        def narrower(one: Mode) -> Mode:
            return MODES[min(MODES.index(one), most)]

        idle = most < MODES.index("propose")  # who does nothing asks nobody
        rules = (
            replace(
                rule,
                modes={place: narrower(one) for place, one in rule.modes.items()},
                approval=() if idle else rule.approval,
            )
            for rule in self.rules
        )
        return replace(self, rules=tuple(rules), mode=narrower(self.mode))

    def _contradictions(self) -> Iterator[tuple[str, str]]:
        for number, rule in enumerate(self.rules):
            if rule.per_hour > self.limits.per_environment:
                yield (
                    f"{rule.name}.per_hour",
                    f"rule {rule.name!r} allows {rule.per_hour} acts an hour on one deliverable, and the limits "
                    f"{self.limits.per_environment} in one environment",
                )
            if rule.patience + rule.window > self.limits.lease:
                yield "lease", f"rule {rule.name!r} takes longer to prove than the lease of an act"
            for earlier in self.rules[:number]:
                if earlier.name == rule.name:
                    yield "rules", f"two rules are called {rule.name!r}"
                if place := self._hidden(earlier, rule):
                    yield (
                        f"{rule.name}.finding",
                        f"rule {rule.name!r} never answers in {place}: {earlier.name!r} answers the same finding first",
                    )

    def _hidden(self, earlier: Rule, rule: Rule) -> str:
        """Return an environment in which a rule stands wholly behind an earlier one; empty if none."""
        wider = not earlier.deliverables or (
            rule.deliverables and set(rule.deliverables) <= set(earlier.deliverables)
        )
        if earlier.finding != rule.finding or not wider:
            return ""
        for place in (*rule.modes, *earlier.modes, "any other environment"):
            if "off" not in (self.mode_of(earlier, place), self.mode_of(rule, place)):
                return place
        return ""

    @classmethod
    def of(cls, given: Any) -> RemediationPolicy:
        """Read a policy.

        :param given: a policy, the mapping of its fields, or the path of a YAML or JSON file.
        :return: the policy.
        :raises InvalidInput: for a field that is unknown, since a misspelt limit would be no limit, or a wrong value.
        """
        if isinstance(given, cls):
            return given
        if isinstance(given, (str, Path)):
            given = _read(Path(given))
        known = dict(
            mapping(
                "policy", given, "Give rules, limits, freezes and mode.", message="a policy is no mapping"
            )
        )
        for name, kind in (("rules", Rule), ("freezes", Freeze)):
            items = known.get(name, ())
            if not isinstance(items, (list, tuple)):
                raise InvalidInput(f"{name} of the policy is no list", field=name, remedy="Give a list.")
            known[name] = tuple(_strict(kind, item, f"{name}[{place}]") for place, item in enumerate(items))
        if "limits" in known:
            known["limits"] = _strict(Limits, known["limits"], "limits")
        return _strict(cls, known, "policy")


def _strict(kind: type[Strict], given: Any, where: str) -> Strict:
    if isinstance(given, kind):
        return given
    fields = kind.__dataclass_fields__  # type: ignore[attr-defined]  # all of them are dataclasses
    known = mapping(where, given, f"Give {', '.join(fields)}.")
    for name in known:
        one_of(f"{where}.{name}", str(name), tuple(fields), called=f"in {where},")
    try:
        return kind.from_json(known)
    except (TypeError, AttributeError) as error:
        raise InvalidInput(
            f"{where} has a missing or wrong value: {error}",
            field=where,
            remedy="Give numbers without quotes, and durations in seconds.",
        ) from error


def _counted(of: str, holder: Any, *names: str) -> None:
    for name in names:
        value = getattr(holder, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InvalidInput(
                f"{name} of {of} is {value!r}",
                field=name,
                value=str(value),
                remedy="Give a whole number from 1 on.",
            )


def _read(path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))  # JSON is YAML
    except OSError as error:
        raise InvalidInput(
            f"the policy {path} cannot be read: {error}", field="policy", value=str(path)
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"{path} is neither JSON nor YAML: {' '.join(str(error).split())}",
            field="policy",
            value=str(path),
        ) from error
