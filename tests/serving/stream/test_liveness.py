"""Whether a release is live: each rule by itself, then a group in which everything happens, and never a false green."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from airflow_pipeops.serving.stream.health import Sample, judge
from airflow_pipeops.serving.stream.liveness import Expectation, Group, Memory, Seen, decide
from airflow_pipeops.serving.stream.progress import Progress
from airflow_pipeops.waits.status import Trouble

NEW, OLD = "b" * 64, "a" * 64
EXPECTED = Expectation("r2", NEW, {"0": 100, "1": 100}, settle=10)
SAID = Progress(
    revision="r2",
    sha256=NEW,
    last="r2",
    at=119,
    time=1_000_000,
    ready=("r1", "r2"),
    known="r2",
    member="a",
    beat=1,
)


def group(*changes, state="STABLE", now=1000.0, outputs=None, **same) -> Group:
    """Two partitions, both live, with what differs."""
    parts = []
    for number in (0, 1):
        change = {**same, **(changes[number] if number < len(changes) else {})}
        said = {
            name: value
            for name, value in change.items()
            if name in Progress.__dataclass_fields__ and name != "committed"
        }
        rest = {name: value for name, value in change.items() if name not in said}
        parts.append(Seen(**{"partition": number, "committed": 120, "progress": replace(SAID, **said), "stable": 120,
                             "high": 120, "owner": "a", **rest}))  # fmt: skip
    return Group(state, ("a",), tuple(parts), outputs or {}, now)


def judged(*looks, expected=EXPECTED, step=20.0):
    """Judge looks one after the other; each member speaks again before each."""
    memory, verdict = Memory(), None
    for number, look in enumerate(looks):
        if isinstance(look, Group):
            spoken = [replace(one, progress=replace(one.progress, beat=one.progress.beat + number))
                      if one.progress else one for one in look.partitions]  # fmt: skip
            look = replace(look, partitions=tuple(spoken))
        memory = Memory.from_json(json.loads(json.dumps(memory.to_json())))
        verdict, memory = decide(look, expected, memory, number * step)
    return verdict


def test_a_release_that_scores_everywhere_is_live_after_it_has_held():
    assert judged(group()).rule == "settling"
    found = judged(group(), group())
    assert (found.state, found.rule) == ("done", "live")
    assert found.details["partitions"]["1"] == {
        "committed": 120, "waiting": 0, "last": "r2", "at": 119, "member": "a", "proof": "scored record"}  # fmt: skip


@pytest.mark.parametrize(
    ("look", "rule"),
    [
        (group(state="EMPTY"), "no_members"),
        (group(state="DEAD"), "no_members"),
        (group(state="PREPARING_REBALANCING"), "rebalancing"),
        (group(state="UNKNOWN"), "rebalancing"),
        (group({"owner": ""}), "unassigned"),
        (group({"owner": "b"}), "owner_silent"),
        (group({"committed": None}), "nothing_said"),
        (group({"progress": None}), "nothing_said"),
        (group({"revision": "r1", "ready": ("r1",), "known": "r1", "last": "r1", "at": 90}), "not_known"),
        (
            group({"revision": "r1", "ready": ("r1",), "known": "r" + "9" * 5000, "last": "r1", "at": 90}),
            "not_known",
        ),
        (group({"revision": "r1", "ready": ("r1",), "last": "r1", "at": 90}), "loading"),
        (group({"committed": 99, "stable": 99, "last": "r1", "at": 98, "revision": "r1"}), "start_ahead"),
        (group({"committed": 100, "stable": 100, "last": "r1", "at": 99, "revision": "r1"}), "not_switched"),
        (group({"stable": 130, "high": 130, "time": 900_000}), "lagging"),
        (group({"stable": 130, "high": 130, "time": None, "last": "", "at": None}), "lagging"),
        (group({"paused": "loading"}), "paused_loading"),
        # A member that does not know the release yet complains about an older table.
        (group({"paused": "start_passed", "known": "r1"}), "paused_start_passed"),
    ],
)
def test_what_is_not_so_yet_is_waited_for(look, rule):
    found = judged(look, look)
    assert (found.state, found.rule) == ("wait", rule)
    late = judged(look, look, expected=replace(EXPECTED, timeout=15))
    assert (late.state, late.rule, late.details["last_rule"]) == ("failed", "deadline", rule)


@pytest.mark.parametrize(
    ("look", "rule"),
    [
        (group({"last": "r1", "at": 101}), "wrong_model"),
        (group({"last": "r3", "at": 119, "revision": "r3"}), "wrong_model"),
        (group({"sha256": OLD}), "wrong_model"),
        (group({"paused": "poison", "reason": "9 of 10"}), "paused_poison"),
        (group({"paused": "start_passed", "known": "r2"}), "paused_start_passed"),
        (group({"paused": "model_refused"}), "paused_model_refused"),
        (group(outputs={"0": (50, 60)}), "hung_transaction"),
        (group({"stable": 100, "high": 120}), "hung_transaction"),
        (group({"low": 121, "high": 130, "stable": 130}), "offsets_lost"),
        (group({"stable": 40, "high": 40}), "offsets_lost"),
    ],
)
def test_what_a_person_must_mend_fails(look, rule):
    found = judged(*[look] * 7)
    assert (found.state, found.rule) == ("failed", rule)


def test_offsets_that_are_out_of_reach_are_said_and_never_waited_for_or_taken_for_an_idle_topic():
    """Without lag, and with every owner of good cheer: what a client would mend in silence, by another place to begin."""
    gone = judged(
        group({"low": 150, "high": 200, "stable": 200}), group({"low": 150, "high": 200, "stable": 200})
    )
    once = judged(group(), group({"committed": 130, "low": 150, "high": 200, "stable": 200}))
    assert (once.state, once.rule) == ("wait", "offsets_lost"), "a member may have read them a moment before"
    assert "at offset 120 of partition 0, and the broker has deleted what came before 150" in gone.reason
    anew = judged(*[group({"stable": 40, "high": 40})] * 2)
    assert "has nothing beyond 40: the topic was made anew, or has lost records" in anew.reason
    # What is scored already may be deleted.
    assert judged(*[group(low=120)] * 2).rule == "live"
    replay = replace(EXPECTED, rescore=True)
    before = group(last="r1", revision="r1", low=110)
    found = judged(before, expected=replay)
    assert (found.state, found.rule) == ("failed", "offsets_lost")
    assert "once more from offset 100, and the broker keeps nothing before 110" in found.reason
    assert judged(before, expected=replace(replay, start={"0": 110, "1": 110})).rule == "not_switched"


IDLE = {"last": "r1", "at": 99, "committed": 100, "stable": 100, "high": 100}


@pytest.mark.parametrize(
    ("looks", "on_idle", "state", "rule", "said"),
    [
        # No record since the start: by default that is a proof of its own, and called so.
        ([group(IDLE, IDLE)] * 2, "accept", "done", "live", "no record has come since the start to partition 0, 1"),
        ([group(IDLE)] * 2, "accept", "done", "live", "no record has come since the start to partition 0:"),
        ([group(IDLE)] * 2, "wait", "wait", "idle", "no record has come to partition 0 since offset 100, where r2 begins"),
        ([group(IDLE), group(), group()], "wait", "done", "live", "proven by their committed offsets"),
        # A burst: those who do not know the start yet score it by the release before ...
        ([group(IDLE), group({"at": 130, "last": "r1", "committed": 131, "stable": 400, "high": 400})], "accept",
         "failed", "wrong_model", "offset 130 was scored by r1, beyond the start 100"),
        # ... or it waits, and nothing of it is scored yet, however late the record before it was.
        ([group(IDLE), group({**IDLE, "stable": 400, "high": 400})], "accept", "wait", "lagging", "r2 has scored none yet"),
        ([group(IDLE), group({**IDLE, "stable": 400, "high": 400, "time": 1})], "wait", "wait", "lagging",
         "300 records wait in partition 0"),
        # The start was set further ahead than anything came.
        ([group({**IDLE, "committed": 90, "at": 89, "stable": 90, "high": 90, "revision": "r1"})] * 2, "accept", "wait",
         "start_ahead", "no record waits: nothing can be told until more come"),
    ],
)  # fmt: skip
def test_an_idle_topic_is_told_from_one_that_is_scored(looks, on_idle, state, rule, said):
    found = judged(*looks, expected=replace(EXPECTED, on_idle=on_idle))
    assert (found.state, found.rule) == (state, rule), found.reason
    assert said in found.reason
    if state == "wait":  # and not for ever
        late = judged(*looks, expected=replace(EXPECTED, on_idle=on_idle, timeout=15))
        assert (late.rule, late.details["last_rule"]) == ("deadline", rule)
        assert said in late.reason


def test_the_proof_says_whether_a_record_was_scored():
    both, one = judged(*[group(IDLE, IDLE)] * 2).details, judged(*[group(IDLE)] * 2).details
    assert (both["proven_by"], one["proven_by"]) == ("empty range", "committed offsets")
    assert [one["partitions"][name]["proof"] for name in "01"] == ["empty range", "scored record"]


def test_what_the_partitions_of_the_topic_cannot_be_fails():
    found = judged(group(), expected=replace(EXPECTED, start={"7": 0}))
    assert (found.state, found.rule) == ("failed", "partition_missing")


def test_a_canary_is_judged_by_its_own_partitions():
    old = {"revision": "r1", "sha256": OLD, "last": "r1", "ready": ("r1", "r2")}
    look = group({}, old)
    assert judged(look, look, expected=replace(EXPECTED, start={"0": 100})).rule == "live"
    assert judged(look, look).state == "failed"


def test_ready_means_that_every_owner_has_the_model():
    expected = replace(EXPECTED, start=None, stage="ready")
    assert judged(group(revision="r1", last="r1"), expected=expected).rule == "ready"
    assert judged(group({"ready": ("r1",), "revision": "r1"}), expected=expected).rule == "loading"
    assert judged(group(), group(), expected=replace(EXPECTED, start=None)).rule == "announced"


def test_who_has_the_model_is_ready_whatever_another_model_has_met():
    """The way out of a model that chokes is the next one."""
    expected = replace(EXPECTED, start=None, stage="ready")
    look = group(revision="r1", last="r1", paused="poison", reason="9 of 10")
    assert judged(look, expected=expected).rule == "ready"


def test_where_no_release_has_begun_an_owner_is_all_that_can_be_asked_for():
    expected = replace(EXPECTED, start=None, stage="ready", begun=(1,))
    new = {"committed": None, "progress": None}
    found = judged(group(new), expected=expected)
    assert found.rule == "ready"
    assert "in partition 0 no release has begun yet" in found.reason
    assert judged(group({**new, "owner": ""}), expected=expected).rule == "unassigned"
    assert judged(group(new, new), expected=expected).rule == "nothing_said"
    assert judged(group(new), expected=replace(expected, begun=None)).rule == "nothing_said"


def test_an_owner_that_says_nothing_new_is_not_taken_for_alive():
    memory = Memory()
    for now in (0, 20, 600):
        verdict, memory = decide(group(), EXPECTED, memory, now)
    assert verdict.rule == "owner_mute"
    verdict, _ = decide(group(beat=2), EXPECTED, memory, 601)
    assert verdict.rule == "live"


def test_offsets_that_go_back_begin_the_wait_anew():
    assert judged(group(), group(committed=110, stable=110)).rule == "went_back"
    assert (
        judged(group(), group(committed=110, stable=110), group(committed=110, stable=110)).rule == "settling"
    )
    assert judged(group(), group({"committed": None}), group()).rule == "settling"


@pytest.mark.parametrize(
    ("troubles", "state", "rule"),
    [
        ([Trouble("denied", "no")], "wait", "access_denied"),
        ([Trouble("denied", "no")] * 2, "failed", "access_denied"),
        ([Trouble("missing", "no")] * 2, "failed", "not_found"),
        ([Trouble("unreachable", "away")] * 5, "wait", "unreachable"),
        ([Trouble("unreachable", "away")] * 40, "failed", "unreachable"),
        ([group(), Trouble("unreachable", "away"), group()], "wait", "settling"),
    ],
)
def test_what_cannot_be_seen_opens_no_gate(troubles, state, rule):
    found = judged(*troubles)
    assert (found.state, found.rule) == (state, rule)


def samples(*lags: int, behind: float) -> list[Sample]:
    return [Sample(float(n), lag, behind, 0) for n, lag in enumerate(lags)]


@pytest.mark.parametrize(
    ("looks", "state"),
    [
        ([], "unknown"),
        ([Sample(0, None, 0, 0)], "unknown"),
        (samples(1000, 1010, behind=math.nan), "unknown"),
        (samples(1000, 0, behind=math.nan), "healthy"),
        (samples(5, 0, behind=900), "healthy"),
        (samples(500, 900, behind=5), "healthy"),
        (samples(1000, 990, behind=90), "healthy"),
        (samples(1000, 1000, behind=90), "behind"),
        (samples(1000, 1010, behind=90), "behind"),
        (samples(100_000, 99_990, behind=90), "behind"),
    ],
)
def test_health_is_by_time_and_by_whether_it_is_caught_up(looks, state):
    assert judge(looks, most_behind=60, most_catch_up=600).state == state


# ---- a group in which everything happens ------------------------------------------------------------------------------


@dataclass
class _Member:
    """A member as it really is."""

    build: str
    knows: bool = False
    loaded: bool = False
    stuck: bool = False
    wrong: bool = False
    beat: int = 0


@dataclass
class _Partition:
    """A partition as it really is."""

    owner: str = ""
    committed: int = 90
    end: int = 95
    low: int = 0
    said: Progress | None = None
    #: offset -> who has scored it last, and with which digest
    scored: dict[int, str] = field(default_factory=dict)


class NeverFalselyGreen(RuleBasedStateMachine):
    """Members come, go, stall, lie and fall behind; whoever waits may say "live" only while it is true."""

    START = 100

    def __init__(self) -> None:
        super().__init__()
        self.members: dict[str, _Member] = {}
        self.parts = {0: _Partition(), 1: _Partition()}
        self.stable = False
        self.now = 0.0
        self.memory = Memory()
        self.expected = Expectation(
            "r2", NEW, {"0": 100, "1": 100}, most_waiting=20, most_behind=None, settle=5
        )
        self.born = 0
        self.green_at: float | None = None
        self.tampered = False

    @rule(knows=st.booleans(), wrong=st.booleans())
    def a_member_comes(self, knows: bool, wrong: bool) -> None:
        self.born += 1
        self.members[f"m{self.born}"] = _Member("b", knows, False, wrong=wrong and self.born % 3 == 0)
        self._rebalance()

    @precondition(lambda self: self.members)
    @rule(which=st.integers(0, 9))
    def a_member_goes(self, which: int) -> None:
        del self.members[sorted(self.members)[which % len(self.members)]]
        self._rebalance()

    @rule()
    def the_group_settles(self) -> None:
        self.stable = bool(self.members)

    @precondition(lambda self: self.members)
    @rule(which=st.integers(0, 9), stuck=st.booleans())
    def a_member_gets_stuck_or_comes_back(self, which: int, stuck: bool) -> None:
        self.members[sorted(self.members)[which % len(self.members)]].stuck = stuck

    @precondition(lambda self: self.members)
    @rule(which=st.integers(0, 9))
    def a_member_learns_of_the_release(self, which: int) -> None:
        one = self.members[sorted(self.members)[which % len(self.members)]]
        one.knows, one.loaded = True, one.knows

    @rule(p=st.integers(0, 1), count=st.integers(1, 40))
    def records_come(self, p: int, count: int) -> None:
        self.parts[p].end += count

    @rule(p=st.integers(0, 1), back=st.integers(1, 60))
    def offsets_are_reset_by_hand(self, p: int, back: int) -> None:
        part = self.parts[p]
        part.committed, part.said = max(0, part.committed - back), None

    @rule(p=st.integers(0, 1), beyond=st.integers(-30, 10))
    def old_records_are_deleted(self, p: int, beyond: int) -> None:
        part = self.parts[p]
        part.low = max(part.low, min(part.end, part.committed + beyond))

    @rule(count=st.integers(1, 50))
    def all_work(self, count: int) -> None:
        """Each member that is not stuck scores records of what it owns, and commits."""
        for number, part in self.parts.items():
            self._work(number, part, count)

    @rule(seconds=st.integers(1, 30))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def all_is_well_for_a_while(self) -> None:
        """The way to green, which chance alone would seldom find."""
        if not self.members:
            self.a_member_comes(True, False)
        for one in self.members.values():
            one.knows = one.loaded = True
            one.stuck = one.wrong = False
        for part in self.parts.values():  # a person sets what is lost
            part.committed = max(part.committed, part.low)
        self.stable = True
        for _ in range(4):
            self.all_work(60)
            self._look()
            self.time_passes(6)

    def _rebalance(self) -> None:
        self.stable = False
        names = sorted(self.members)
        for number, part in self.parts.items():
            part.owner = names[number % len(names)] if names else ""

    def _work(self, number: int, part: _Partition, count: int) -> None:
        one = self.members.get(part.owner)
        if one is None or one.stuck or not self.stable or part.committed < part.low:
            return
        for _ in range(count):
            if part.committed >= part.end:
                break
            after = part.committed >= self.START
            if after and one.knows and not one.loaded:
                break
            digest = NEW if after and one.knows else OLD
            if one.wrong:
                digest = OLD
            part.scored[part.committed] = f"{'r2' if after and one.knows else 'r1'}/{digest}"
            part.committed += 1
        one.beat += 1
        last = part.scored.get(part.committed - 1, "r1/").partition("/")[0]
        following = "r2" if part.committed >= self.START and one.knows and one.loaded else "r1"
        part.said = Progress(
            revision=following,
            sha256=OLD if one.wrong or following == "r1" else NEW,
            last=last,
            at=part.committed - 1,
            ready=("r1", "r2") if one.loaded else ("r1",),
            known="r2" if one.knows else "r1",
            member=part.owner,
            beat=one.beat,
        )

    def _look(self) -> None:
        parts = tuple(
            Seen(number, one.committed, one.said, one.end, one.end, one.owner, one.low)
            for number, one in self.parts.items()
        )
        seen = Group("STABLE" if self.stable else "PREPARING_REBALANCING", tuple(self.members), parts)
        verdict, self.memory = decide(seen, self.expected, self.memory, self.now)
        assert verdict.reason
        if verdict.state == "done":
            self._is_true()
            NeverFalselyGreen.greens += 1

    greens = 0

    def _is_true(self) -> None:
        assert self.stable
        for part in self.parts.values():
            owner = self.members[part.owner]
            assert owner.knows
            assert owner.loaded
            assert not owner.wrong
            assert part.committed >= max(self.START, part.low)
            assert part.end - part.committed <= 20
            assert part.said is not None
            assert (
                part.scored.get(part.committed - 1, f"r2/{NEW}") == f"r2/{NEW}"
                or part.committed == self.START
            )

    @invariant()
    def a_look_is_never_a_false_green(self) -> None:
        self._look()


TestNeverFalselyGreen = NeverFalselyGreen.TestCase
TestNeverFalselyGreen.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_the_state_machine_has_seen_green():
    """A rule that never says "live" would never be wrong."""
    assert NeverFalselyGreen.greens > 50
