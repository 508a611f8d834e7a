"""Read a JUnit XML report: how many tests ran, and the first that failed.

Pure. The file was written by the code under test, so it is not trusted: no document type, no entities, a size cap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal
from xml.parsers import expat

from airflow_pipeops.exceptions import BuildFailed

#: A larger report is refused, in bytes.
MAX_BYTES = 32 * 1024 * 1024
#: How many failures are told in full.
MAX_FAILURES = 10
_MESSAGE = 500
_DETAIL = 2000


#: An assertion that does not hold, or a test that could not run.
FailureKind = Literal["failure", "error"]


@dataclass(frozen=True)
class Failure:
    """One test that did not pass.

    :param test: its class and name.
    :param kind: ``failure`` (an assertion) or ``error`` (it could not run, e.g. an import error).
    :param message: the first 500 characters of what it said.
    :param detail: the last 2,000 characters of the traceback.
    """

    test: str
    kind: FailureKind
    message: str
    detail: str = ""


@dataclass(frozen=True)
class Summary:
    """What a report says.

    :param tests: number of tests reported; ``passed + failed + skipped``.
    :param passed: number of tests that passed.
    :param failed: failures and errors together.
    :param skipped: number of tests that were skipped.
    :param seconds: sum of the tests' own times.
    :param failures: the first :data:`MAX_FAILURES`.
    """

    tests: int
    passed: int
    failed: int
    skipped: int
    seconds: float
    failures: tuple[Failure, ...] = ()


@dataclass
class _Case:
    """A test case that is being read.

    :param name: its class and name.
    :param verdict: ``passed``, ``skipped``, ``failure`` or ``error``.
    :param message: what its failure, error or skip says of itself.
    :param detail: pieces of the traceback.
    """

    name: str
    verdict: str = "passed"
    message: str = ""
    detail: list[str] = field(default_factory=list)


class _Reader:
    """Counts the test cases themselves: the totals that a file states about itself may lie."""

    def __init__(self) -> None:
        self.counts = {"passed": 0, "failed": 0, "skipped": 0}
        self.seconds = 0.0
        self.failures: list[Failure] = []
        self.root = ""
        self._case: _Case | None = None
        self._open = ""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.root = self.root or name
        if name == "testcase":
            label = ".".join(part for part in (attributes.get("classname"), attributes.get("name")) if part)
            self._case = _Case(label or "(unnamed)")
            self.seconds += _seconds(attributes.get("time"))
        elif self._case and name in ("failure", "error", "skipped"):
            if self._case.verdict in ("passed", "skipped"):
                self._case.verdict = name
                self._case.message = attributes.get("message", "")
            self._open = name

    def text(self, data: str) -> None:
        if self._case and self._open in ("failure", "error"):
            self._case.detail.append(data)

    def end(self, name: str) -> None:
        if name == self._open:
            self._open = ""
        if name != "testcase" or self._case is None:
            return
        case, self._case = self._case, None
        if case.verdict not in ("failure", "error"):
            self.counts[case.verdict] += 1
            return
        self.counts["failed"] += 1
        if len(self.failures) < MAX_FAILURES:
            detail = "".join(case.detail).strip()
            message = case.message or (detail.splitlines() or [""])[-1]
            kind: FailureKind = "error" if case.verdict == "error" else "failure"
            self.failures.append(Failure(case.name[:_MESSAGE], kind, message[:_MESSAGE], detail[-_DETAIL:]))


def parse(content: bytes) -> Summary:
    """Read a report.

    :param content: bytes of the XML file.
    :return: its counts and first failures.
    :raises BuildFailed: if it is too large, truncated, not XML, not JUnit, or declares a document type.
    """
    if len(content) > MAX_BYTES:
        raise BuildFailed(
            f"the JUnit report has {len(content):,} bytes, more than {MAX_BYTES:,}",
            remedy="Report less output per test (pytest: -o junit_logging=no).",
        )
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.EntityDeclHandler = _refuse_doctype
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise BuildFailed(
            f"the JUnit report is truncated or not XML: {error}",
            remedy="The test process probably died while it wrote it; see the end of its output.",
        ) from error
    if reader.root not in ("testsuites", "testsuite"):
        raise BuildFailed(
            f"the report's root element is <{reader.root}>, not <testsuites>",
            remedy="Let the test command write JUnit XML.",
        )
    return Summary(
        tests=sum(reader.counts.values()),
        passed=reader.counts["passed"],
        failed=reader.counts["failed"],
        skipped=reader.counts["skipped"],
        seconds=round(reader.seconds, 3),
        failures=tuple(reader.failures),
    )


def _refuse_doctype(*_: object) -> None:
    raise BuildFailed(
        "the JUnit report declares a document type or an entity, which is refused",
        remedy="Let the test command write plain JUnit XML.",
    )


def _seconds(text: str | None) -> float:
    try:
        value = float(text or 0)
    except ValueError:
        return 0.0
    return value if math.isfinite(value) and value >= 0 else 0.0
