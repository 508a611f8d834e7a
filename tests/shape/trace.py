"""Print which files of the package are entered on three ways, with the number of calls into each.

The ways are tests that stand: a commit to its release record, an Application from the stream to its verdict, a table
from the operator to its report. Each runs twice, and the second time counts, so that an import is no visit.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = f"{ROOT / 'airflow_pipeops'}{os.sep}"
WAYS = {
    "a commit to its release record": (
        "tests/git/test_operators.py::TestResolve::test_a_given_revision",
        "tests/git/test_operators.py::TestCommit::test_the_change_is_committed_and_recorded",
        "tests/argocd/test_operators_scripted.py::test_release_is_recorded_with_its_facts",
    ),
    "an Application from the stream to its verdict": (
        "tests/argocd/test_stream_waits.py::test_one_event_tells_of_all_waits",
    ),
    "a table from the operator to its report": (
        "tests/drift/test_operators.py::test_a_drifted_batch_is_recorded_with_its_report",
    ),
}


class Visits:
    """A plugin of pytest that counts the calls into each file of the package while a test runs."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def _count(self, frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            self.calls[frame.f_code.co_filename.removeprefix(PACKAGE)] += 1

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Iterator[None]:
        """Count in this thread and in those that the test starts."""
        threading.setprofile(self._count)
        sys.setprofile(self._count)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)


def visits(tests: tuple[str, ...]) -> Counter[str]:
    """Run tests, and return the files that they enter.

    :param tests: their ids.
    :return: calls by file.
    """
    for _ in range(2):
        found = Visits()
        with contextlib.redirect_stdout(sys.stderr):
            code = pytest.main(["-q", "-p", "no:cacheprovider", f"--rootdir={ROOT}", *tests], plugins=[found])
        if code:
            raise SystemExit(f"the tests failed: {', '.join(tests)}")
    return found.calls


def main() -> None:
    """Print the three ways."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    os.chdir(ROOT)
    for way, tests in WAYS.items():
        calls = visits(tests)
        print(f"{way}: {len(calls)} files")
        for name, number in calls.most_common():
            print(f"  {number:7d}  {name}")


if __name__ == "__main__":
    main()
