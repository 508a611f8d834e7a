"""Run the tests of a source tree, and believe only what a complete report and the exit status say together.

What the isolation is: a fresh folder with the committed files only, a private home, an environment without Airflow's
settings or credentials, a process group of its own, a deadline; nothing that the tests start survives them.
What it is not: a security boundary. The tests run as the same user, on the same file system and network, with the
same Python packages as the worker. For code that you do not trust run the task in a container of its own, for
example with the Kubernetes executor.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from airflow_pipeops.build import junit
from airflow_pipeops.build.process import Command, Finished, environment
from airflow_pipeops.exceptions import BuildFailed, InvalidInput

#: ``{junit}`` is replaced by the path at which the report is expected.
DEFAULT_COMMAND = (sys.executable, "-m", "pytest", "-q", "--junitxml", "{junit}")
_SHOWN = 1500


@dataclass(frozen=True)
class TestRun:
    """A finished run.

    :param finished: how the command ended.
    :param summary: counts and first failures; ``None`` if there was no complete report.
    :param reason: why it is not green; empty if it is.
    :param report: bytes of the JUnit file, empty if there was none.
    """

    __test__ = False

    finished: Finished
    summary: junit.Summary | None
    reason: str
    report: bytes = b""


def prepare(
    source: Path,
    scratch: Path,
    command: Sequence[str] | None = None,
    *,
    timeout: timedelta,
    env: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] = lambda line: None,
) -> tuple[Command, Path]:
    """Make the command, without starting it.

    :param source: checked-out tree; the command's working folder.
    :param scratch: empty folder for the report, the home and temporary files.
    :param command: program and arguments; by default pytest of this Python.
    :param env: what the tests need beside the minimal environment.
    :return: the command, and where it will leave its report.
    """
    words = DEFAULT_COMMAND if command is None else command
    argv = [] if isinstance(words, str) else list(words)
    if not argv or not all(isinstance(word, str) and word and "\0" not in word for word in argv):
        raise InvalidInput(
            "the test command is not a list of non-empty words",
            field="command",
            value=command,
            remedy='Write it as a list, for example ["python", "-m", "pytest", "--junitxml", "{junit}"].',
        )
    report = scratch / "junit.xml"
    home, temporary = scratch / "home", scratch / "tmp"
    home.mkdir()
    temporary.mkdir()
    full = environment(
        home, {"TMPDIR": str(temporary), "PIPEOPS_JUNIT_XML": str(report), "CI": "true", **(env or {})}
    )
    argv = [word.replace("{junit}", str(report)) for word in argv]
    return Command(argv, cwd=source, env=full, timeout=timeout, on_line=on_line), report


def judge(finished: Finished, report: Path, timeout: timedelta) -> TestRun:
    """Say whether a run is green, and if not, why.

    :param report: where the report was expected; a link there is not followed.
    :return: the run, judged.
    """
    content = b""
    summary, problem = None, ""
    if report.is_file() and not report.is_symlink():
        with report.open("rb") as file:
            content = file.read(junit.MAX_BYTES + 1)
        try:
            summary = junit.parse(content)
        except BuildFailed as error:
            problem = str(error)
    else:
        problem = "it left no JUnit report"
    return TestRun(finished, summary, _reason(finished, summary, problem, timeout), content)


def _reason(finished: Finished, summary: junit.Summary | None, problem: str, timeout: timedelta) -> str:
    if finished.timed_out:
        return f"the tests did not end within {timeout.total_seconds():g} s and were stopped"
    if summary is None:
        return f"the test command ended with status {finished.status}, but {problem}"
    if summary.failed:
        first = summary.failures[0]
        return f"{summary.failed} of {summary.tests} tests failed, first {first.test}: {first.message}"
    if summary.tests == 0:
        return "no tests were collected, and nothing tested is not a pass"
    if summary.passed == 0:
        return f"all {summary.tests} tests were skipped or not run, and nothing tested is not a pass"
    if finished.status != 0:
        return f"{summary.passed} tests passed, but the test command ended with status {finished.status}"
    return ""


def last_lines(output: str) -> str:
    """Return the end of an output, for an error message."""
    return output.strip()[-_SHOWN:]
