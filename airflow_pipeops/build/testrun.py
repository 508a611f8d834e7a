"""Run the tests of a source tree, and believe only what a complete report and the exit status say together.

What the isolation is: a fresh folder with the committed files only, a private home, an environment without Airflow's
settings or credentials, a process group of its own, a deadline; nothing that the tests start survives them.
What it is not: a security boundary. The tests run as the same user, on the same file system and network, with the
same Python packages as the worker. For code that you do not trust run the task in a container of its own, for
example with the Kubernetes executor.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from airflow_pipeops.build import junit
from airflow_pipeops.build.backends import Attempt, TestRequest, Worker
from airflow_pipeops.build.coverage import MAX_BYTES as MOST_COVERAGE
from airflow_pipeops.build.process import Command, environment
from airflow_pipeops.exceptions import BuildFailed, InvalidInput

#: ``{junit}`` is replaced by the path at which the report is expected.
DEFAULT_COMMAND = (sys.executable, "-m", "pytest", "-q", "--junitxml", "{junit}")
_SHOWN = 1500


@dataclass(frozen=True)
class ReadAttempt:
    """An attempt, and what its report says.

    :param attempt: as the backend returned it.
    :param summary: counts, outcomes and first failures; ``None`` if there was no complete report.
    :param problem: why there is none; empty if there is one.
    """

    attempt: Attempt
    summary: junit.Summary | None
    problem: str = ""


def words(command: Sequence[str] | None) -> tuple[str, ...]:
    """Read the test command.

    :param command: program and arguments; ``None`` for the backend's default.
    :return: the words; empty for the default.
    :raises InvalidInput: for what is no list of words.
    """
    if command is None:
        return ()
    argv = [] if isinstance(command, str) else list(command)
    if not argv or not all(isinstance(word, str) and word and "\0" not in word for word in argv):
        raise InvalidInput(
            "the test command is not a list of non-empty words",
            field="command",
            value=command,
            remedy='Write it as a list, for example ["python", "-m", "pytest", "--junitxml", "{junit}"].',
        )
    return tuple(argv)


def attempt(request: TestRequest, worker: Worker, scratch: Path) -> Attempt:
    """Run the command once, in a fresh checkout.

    :param scratch: empty folder for the reports, the home and temporary files.
    :return: how it ended, and what it left; a link in place of a report is not followed.
    """
    report, coverage = scratch / "junit.xml", scratch / "coverage.xml"
    home, temporary = scratch / "home", scratch / "tmp"
    home.mkdir()
    temporary.mkdir()
    extra = {
        "TMPDIR": str(temporary),
        "PIPEOPS_JUNIT_XML": str(report),
        "PIPEOPS_COVERAGE_XML": str(coverage),
        "CI": "true",
        **request.env,
    }
    known = {
        "{junit}": str(report),
        "{coverage}": str(coverage),
        "{shard}": str(request.shard),
        "{shards}": str(request.shards),
    }
    argv = list(request.command or DEFAULT_COMMAND)
    for name, value in known.items():
        argv = [word.replace(name, value) for word in argv]
    command = Command(
        argv,
        cwd=worker.source(),
        env=environment(home, extra),
        timeout=request.timeout,
        on_line=worker.say,
    )
    finished = worker.run(command)
    return Attempt(
        finished.status,
        finished.timed_out,
        finished.seconds,
        finished.output,
        _content(report, junit.MAX_BYTES),
        _content(coverage, MOST_COVERAGE),
    )


def worth_a_rerun(attempt: Attempt) -> bool:
    """Tell whether running the tests again may show that some are flaky: it names some that failed, and nothing else did."""
    found = read(attempt).summary
    return attempt.status != 0 and not attempt.timed_out and found is not None and found.failed > 0


def read(attempt: Attempt) -> ReadAttempt:
    """Read an attempt's report."""
    if attempt.report is None:
        return ReadAttempt(attempt, None, "it left no JUnit report")
    try:
        return ReadAttempt(attempt, junit.parse(attempt.report))
    except BuildFailed as error:
        return ReadAttempt(attempt, None, str(error))


def _content(path: Path, most: int) -> bytes | None:
    if not path.is_file() or path.is_symlink():
        return None
    with path.open("rb") as file:
        return file.read(most + 1)


def last_lines(output: str) -> str:
    """Return the end of an output, for an error message."""
    return output.strip()[-_SHOWN:]
