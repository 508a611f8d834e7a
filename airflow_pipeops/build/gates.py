"""Whether a test run opens the gate: its failures, what is tolerated of them, and its coverage. Pure.

What cannot be told opens no gate: a test that failed and then did not run again has failed, and a release whose
failures are not known excuses none.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from fnmatch import fnmatchcase
from typing import Any

from airflow_pipeops.build.junit import Summary
from airflow_pipeops.exceptions import InvalidInput

#: Above this, and below 0, an exit status says that a signal has ended the command.
_SIGNALLED = 128
#: Of the names in a record, in characters: a record is small.
_NAMED = 6000


@dataclass(frozen=True)
class Tolerance:
    """Which failures do not shut the gate.

    :param quarantine: pattern of a test's name -> the last day on which its failures do not count.
    :param known: tests that failed in the last release, too; ``None`` where that is not asked.
    :param floor: percent of the lines that must be covered; ``None`` for no floor.
    """

    quarantine: Mapping[str, date] = field(default_factory=dict)
    known: Collection[str] | None = None
    floor: float | None = None


@dataclass(frozen=True)
class TestVerdict:
    """What the gate says.

    :param reason: why it is shut; empty if it is open.
    :param flaky: tests that failed, and passed when they were run again.
    :param quarantined: tests that failed, and are quarantined.
    :param known: tests that failed, as they did in the last release.
    :param new: tests that failed, and count.
    """

    __test__ = False

    reason: str
    flaky: tuple[str, ...] = ()
    quarantined: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    new: tuple[str, ...] = ()

    def result(self) -> dict[str, Any]:
        """Return the facts in the form of an in-toto *test result*, names up to a length."""
        tolerated = [*self.flaky, *self.quarantined, *self.known]
        verdict = "FAILED" if self.reason else "WARNED" if tolerated else "PASSED"
        failing = sorted({*self.quarantined, *self.known, *self.new})
        found: dict[str, Any] = {"result": verdict}
        left = _NAMED
        for name, values in (("failedTests", failing), ("flakyTests", list(self.flaky))):
            kept = _within(values, left)
            left -= sum(map(len, kept))
            if values:
                found[name] = kept
            if len(kept) < len(values):
                found[f"{name}LeftOut"] = len(values) - len(kept)
        return found


def judge(
    attempts: Sequence[Summary], tolerance: Tolerance, *, status: int, coverage: float | None, today: date
) -> TestVerdict:
    """Judge the reports of a run and its reruns.

    :param attempts: what each report says, in order; at least one.
    :param tolerance: which failures do not count.
    :param status: exit status of the last attempt.
    :param coverage: percent of the lines that were covered, if that was measured.
    :param today: the day of the judgement.
    :return: the verdict.
    """
    last = attempts[-1]
    before = {name for one in attempts[:-1] for name, verdict in one.outcomes.items() if verdict == "failed"}
    flaky = {name for name in before if last.outcomes.get(name) == "passed"}
    failed = {name for name, verdict in last.outcomes.items() if verdict == "failed"} | (before - flaky)
    quarantined = {name for name in failed if _quarantined(name, tolerance.quarantine, today)}
    known = failed & set(tolerance.known or ()) - quarantined
    new = failed - quarantined - known
    verdict = TestVerdict("", *(tuple(sorted(names)) for names in (flaky, quarantined, known, new)))
    reason = _reason(last, verdict, tolerance, status, coverage, today)
    return TestVerdict(reason, verdict.flaky, verdict.quarantined, verdict.known, verdict.new)


def _reason(
    last: Summary,
    verdict: TestVerdict,
    tolerance: Tolerance,
    status: int,
    coverage: float | None,
    today: date,
) -> str:
    tolerated = len(verdict.quarantined) + len(verdict.known)
    if verdict.new:
        said = next((item for item in last.failures if item.test in verdict.new), None)
        first = f"{said.test}: {said.message}" if said else f"{verdict.new[0]}, which did not run again"
        new = " that count" if tolerated else ""
        over = _expired(verdict.new[0] if said is None else said.test, tolerance.quarantine, today)
        return f"{len(verdict.new)} of {last.tests} tests failed{new}, first {first}{over}"
    if last.tests == 0:
        return "no tests were collected, and nothing tested is not a pass"
    if last.passed == 0:
        return f"all {last.tests} tests were skipped or not run, and nothing tested is not a pass"
    # What is tolerated explains failed tests, and not what ended the command: who knows what it had yet to run.
    if status != 0 and (not tolerated or status < 0 or status > _SIGNALLED):
        return f"{last.passed} tests passed, but the test command ended with status {status}"
    if tolerance.floor is not None:
        if coverage is None:
            return f"there is no coverage report, and at least {tolerance.floor:g} % is asked for"
        if coverage < tolerance.floor:
            # Cut and not rounded: nobody is told that 80 is less than 80.
            share = f"{int(coverage * 100) / 100:.2f} %"
            return f"{share} of the lines are covered, less than the {tolerance.floor:g} % asked for"
    return ""


def read_quarantine(value: Mapping[str, Any] | None) -> dict[str, date]:
    """Read the list of quarantined tests.

    :param value: pattern -> last day, as ``YYYY-MM-DD`` or a date.
    :return: the list.
    :raises InvalidInput: for what is no day: a quarantine without an end is forgotten.
    """
    found = {}
    for pattern, day in (value or {}).items():
        try:
            found[str(pattern)] = day if isinstance(day, date) else date.fromisoformat(str(day))
        except ValueError as error:
            raise InvalidInput(
                f"the quarantine of {pattern!r} ends on {day!r}, which is no day",
                field="quarantine",
                value=day,
                remedy='Write {"tests.test_a.test_x": "2030-01-31"}.',
            ) from error
    return found


def _quarantined(name: str, quarantine: Mapping[str, date], today: date) -> bool:
    return any(today <= day and fnmatchcase(name, pattern) for pattern, day in quarantine.items())


def _expired(name: str, quarantine: Mapping[str, date], today: date) -> str:
    days = [day for pattern, day in quarantine.items() if day < today and fnmatchcase(name, pattern)]
    return f" (its quarantine ended on {max(days)})" if days else ""


def _within(values: Sequence[str], length: int) -> list[str]:
    kept = []
    for value in values:
        length -= len(value)
        if length < 0:
            break
        kept.append(value)
    return kept
