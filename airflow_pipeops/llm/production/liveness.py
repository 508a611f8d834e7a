"""Whether a prompt is live: what the calls of the last minutes were made with. Pure.

A prompt is released when a registry's label or a mounted file names it; who reads it may hold the one before for as long as
a cache lives (60 s in MLflow's client). So it is live when all sampled calls of a window carry its digest, the window began
after the caches have run out, and there were enough of them. What was not sampled yet says nothing: a window ends where
the samples end, not now.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from airflow_pipeops.base.arguments import at_least, not_empty, positive
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.base.typed import demand_types
from airflow_pipeops.waits.expectation import Verdict


@dataclass(frozen=True)
class Expected(JsonForm):
    """What must come true.

    :param digest: of the prompt that was released.
    :param released: when whatever names it did so, in UTC seconds since 1970.
    :param cache: for how long who reads it may hold the one before.
    :param window: in which all calls must carry the digest.
    :param least: calls that the window needs.
    :param before: digests that were live before: seen, they are waited for.
    :param timeout: for the whole wait, in seconds from the first look.
    """

    digest: str
    released: float
    cache: timedelta = timedelta(seconds=60)
    window: timedelta = timedelta(minutes=2)
    least: int = 20
    before: tuple[str, ...] = ()
    timeout: float = 1800.0

    def __post_init__(self) -> None:
        demand_types(self)
        not_empty(
            "digest", self.digest, "digest is empty", "Name the digest of the prompt that was released."
        )
        positive("cache", self.cache, zero=True)
        positive("window", self.window)
        at_least("least", self.least, 1, f"least is {self.least}", "Give at least 1.")

    @property
    def begin(self) -> float:
        """Seconds since 1970 from which on nobody may use the prompt before."""
        return self.released + self.cache.total_seconds()


@dataclass(frozen=True)
class Seen(JsonForm):
    """What is known of the calls.

    :param until: seconds since 1970 up to which calls were sampled, of all sources; ``None`` where none ever were.
    :param since: from when on they were, without a gap.
    :param calls: (seconds since 1970, digest) of those since the caches ran out; an empty digest where none was said.
    """

    until: float | None
    calls: Sequence[tuple[float, str]] = field(default_factory=tuple)
    since: float = 0.0


def decide(seen: Seen, expected: Expected, waited: float = 0.0) -> Verdict:
    """Judge one look. First match wins.

    1. Nothing was sampled since the caches ran out, or too short a time: wait (``not_sampled``, ``cache``).
    2. All calls of the window carry a digest that is neither this one nor one that was live before, and there are enough:
       another prompt was released since (``superseded``), failed.
    3. A call of the window carries another digest: wait (``mixed``).
    4. A call carries none: nobody can tell (``untagged``), wait.
    5. Too few calls: wait (``few``).
    6. ``live``, done.

    A wait that has lasted for the timeout has failed (``deadline``), for the reason that it had last; never is it taken for
    done.

    :param seen: what is known.
    :param expected: what must come true.
    :param waited: seconds since the first look.
    :return: the verdict.
    """
    verdict = _judged(seen, expected)
    if verdict.state == "wait" and waited >= expected.timeout:
        details = {**verdict.details, "last_rule": verdict.rule}
        return Verdict("failed", "deadline", f"waited {waited:.0f} s, and {verdict.reason}", details)
    return verdict


def _judged(seen: Seen, expected: Expected) -> Verdict:
    length = expected.window.total_seconds()
    if seen.until is None or seen.until <= expected.released:
        return Verdict("wait", "not_sampled", "no calls have been sampled since the release")
    first = max(expected.begin, seen.since) + length
    if seen.until < first:
        lacking = first - seen.until
        return Verdict(
            "wait",
            "cache",
            f"samples reach to {lacking:.0f} s before the end of the first window in which no cache holds the prompt before",
        )
    found = Counter(
        digest for at, digest in seen.calls if seen.until - length <= at < seen.until and at >= expected.begin
    )
    total, right, bare = sum(found.values()), found[expected.digest], found[""]
    others = {digest: count for digest, count in sorted(found.items()) if digest not in ("", expected.digest)}
    details = {"calls": total, "live": right, "untagged": bare, "others": dict(list(others.items())[:10])}
    strange = sum(count for digest, count in others.items() if digest not in expected.before)
    if expected.before and len(others) == 1 and strange == total >= expected.least:
        named = next(iter(others))
        return Verdict(
            "failed", "superseded", f"all {total} calls were made with another prompt, {named[:12]}", details
        )
    if others:
        share = sum(others.values())
        return Verdict("wait", "mixed", f"{share} of {total} calls were made with another prompt", details)
    if bare:
        why = f"{bare} of {total} calls do not say by which prompt they were made, so nobody can tell"
        return Verdict("wait", "untagged", why, details)
    if total < expected.least:
        return Verdict(
            "wait", "few", f"{total} calls in {length:.0f} s, and {expected.least} are needed", details
        )
    most = 3 / total  # rule of three
    return Verdict(
        "done",
        "live",
        f"all {total} calls of {length:.0f} s were made with it; with 95 % certainty fewer than {most:.1%} are not",
        details,
    )
