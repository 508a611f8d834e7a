"""Read a JUnit XML report: how many tests ran, and the first that failed.

Pure. The file was written by the code under test, so it is not trusted: no document type, no entities, a size cap.
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Mapping
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
#: How runners say, in ``status`` or ``result``, that a test did not run, or did not pass.
_NOT_RUN = frozenset(
    {"notrun", "disabled", "suppressed", "skipped", "ignored", "pending", "inconclusive", "excluded"}
)
_NOT_PASSED = frozenset({"failed", "failure", "fail", "error", "broken"})
#: What XML cannot hold, as it is or by its number; programs under test print it all the same.
_ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_NUMBERED = re.compile(r"&#(?:x([0-9a-fA-F]{1,8})|([0-9]{1,9}));")
_DECLARED = re.compile(rb"<\?xml[^>]{0,100}?\bencoding\s*=\s*[\"']([A-Za-z0-9._:-]{1,40})[\"']")
#: Encodings of Python that are none of texts in files.
_NO_ENCODINGS = frozenset({"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "utf_7"})


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
    :param failed: failures and errors together; an error of a whole suite counts as one.
    :param skipped: number of tests that were skipped, disabled, or not run for another reason.
    :param seconds: sum of the tests' own times.
    :param failures: the first :data:`MAX_FAILURES`.
    :param outcomes: test -> ``passed``, ``failed`` or ``skipped``; of several tests of one name, the worst.
    """

    tests: int
    passed: int
    failed: int
    skipped: int
    seconds: float
    failures: tuple[Failure, ...] = ()
    outcomes: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass
class _Case:
    """A test case that is being read.

    :param name: its class and name.
    :param verdict: ``passed``, ``skipped``, ``failure`` or ``error``.
    :param message: what its failure, error or skip says of itself.
    :param detail: pieces of the traceback.
    :param of_suite: whether it is no test, but an error of the suite.
    """

    name: str
    verdict: str = "passed"
    message: str = ""
    detail: list[str] = field(default_factory=list)
    of_suite: bool = False


class _Reader:
    """Counts the test cases themselves: the totals that a file states about itself may lie."""

    def __init__(self) -> None:
        self.counts = {"passed": 0, "failed": 0, "skipped": 0}
        self.seconds = 0.0
        self.failures: list[Failure] = []
        self.outcomes: dict[str, str] = {}
        self.root = ""
        self._case: _Case | None = None
        self._open = ""
        # The suites that are being read: name, stated failures and errors, failures found before it began.
        self._suites: list[tuple[str, int, int]] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.root = self.root or name
        if name == "testcase":
            label = ".".join(part for part in (attributes.get("classname"), attributes.get("name")) if part)
            self._case = _Case(label or "(unnamed)", _verdict(attributes))
            self.seconds += _seconds(attributes.get("time"))
        elif name == "testsuite":
            stated = _whole(attributes.get("failures")) + _whole(attributes.get("errors"))
            self._suites.append((attributes.get("name") or "(unnamed suite)", stated, self.counts["failed"]))
        elif self._case is None and name in ("failure", "error"):
            # What went wrong before, between or after the tests, such as an import or a fixture of the suite.
            suite = self._suites[-1][0] if self._suites else "(no suite)"
            self._case, self._open = _Case(suite, name, attributes.get("message", "")), name
            self._case.of_suite = True
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
        if name == "testsuite" and self._suites:
            suite, stated, before = self._suites.pop()
            found = self.counts["failed"] - before
            if stated > found:
                said = f"the suite states {stated} failures and errors, and holds {found}"
                self._failed(_Case(suite, "error", said))
        if self._case is None or name != (self._case.verdict if self._case.of_suite else "testcase"):
            return
        case, self._case = self._case, None
        if case.verdict not in ("failure", "error"):
            self.counts[case.verdict] += 1
            if case.verdict == "passed":
                self.outcomes.setdefault(case.name, "passed")
            elif self.outcomes.get(case.name) != "failed":
                self.outcomes[case.name] = "skipped"
            return
        self._failed(case)

    def _failed(self, case: _Case) -> None:
        self.counts["failed"] += 1
        self.outcomes[case.name] = "failed"
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
    parser = expat.ParserCreate("utf-8")  # whatever the file declares
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.EntityDeclHandler = _refuse_doctype
    try:
        parser.Parse(_text(content).encode("utf-8", "replace"), True)
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
        outcomes=reader.outcomes,
    )


def _refuse_doctype(*_: object) -> None:
    raise BuildFailed(
        "the JUnit report declares a document type or an entity, which is refused",
        remedy="Let the test command write plain JUnit XML.",
    )


def _text(content: bytes) -> str:
    """Return the report as text that XML may hold: in any encoding, and whatever the tests printed.

    The names of the tests that failed are worth more than a character that cannot be read.
    """
    text = content.decode(_encoding(content), "replace").removeprefix("\ufeff")
    text = _NUMBERED.sub(_legal, text)
    return _ILLEGAL.sub("\ufffd", text)


def _encoding(content: bytes) -> str:
    for mark, name in ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"), (b"<\0", "utf-16-le"),
                       (b"\0<", "utf-16-be")):  # fmt: skip
        if content.startswith(mark):
            return name
    declared = _DECLARED.match(content.removeprefix(codecs.BOM_UTF8))
    if declared is None:
        return "utf-8"
    try:
        found = codecs.lookup(declared[1].decode())
        b"<".decode(found.name, "replace")  # not every codec is one of texts
    except (LookupError, UnicodeError):
        found = None
    if found is None or found.name.replace("-", "_") in _NO_ENCODINGS:
        raise BuildFailed(
            f"the JUnit report declares the encoding {declared[1].decode()!r}, which is not read",
            remedy="Let the test command write UTF-8.",
        )
    return "utf-8" if found.name.startswith(("utf-16", "utf-32")) else found.name


def _legal(reference: re.Match[str]) -> str:
    code = int(reference[1], 16) if reference[1] else int(reference[2])
    legal = (
        code in (9, 10, 13) or 32 <= code < 0xD800 or 0xE000 <= code < 0xFFFE or 0x10000 <= code < 0x110000
    )
    return reference[0] if legal else "\ufffd"


def _verdict(attributes: dict[str, str]) -> str:
    """Return what a test case's attributes say of it; elements inside may say worse."""
    said = {
        attributes.get(name, "").lower().replace(" ", "").replace("_", "") for name in ("status", "result")
    }
    if said & _NOT_PASSED:
        return "failure"
    return "skipped" if said & _NOT_RUN else "passed"


def _whole(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else 0


def _seconds(text: str | None) -> float:
    try:
        value = float(text or 0)
    except ValueError:
        return 0.0
    return value if math.isfinite(value) and value >= 0 else 0.0
