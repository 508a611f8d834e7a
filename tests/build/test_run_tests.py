from __future__ import annotations

import ast
import contextlib
import multiprocessing
import os
import re
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.build.operators import RunTestsOperator
from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.delivery.records import Record

service = Deliverable("svc")


def run(context, sha: str, **kwargs):
    kwargs["env"] = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **kwargs.get("env", {})}  # quicker
    return RunTestsOperator(task_id="test", git_conn_id="app", commit=sha, **kwargs).execute(context)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_passing_tests_become_a_record_with_evidence(context, commit) -> None:
    sha = commit(
        {
            "lib.py": "X = 1\n",
            "test_a.py": "import lib\ndef test_x(): assert lib.X == 1\ndef test_y(): pass\n",
        }
    )
    result = run(context, sha, deliverable=service)
    assert (result["commit"], result["tests"], result["passed"], result["failed"]) == (sha, 2, 2, 0)
    record = Record.from_extra(context["outlet_events"][service.asset("validation")].extra)
    assert record.id == result["record_id"]
    assert record.body["subject"] == "tests"
    assert {item.name for item in record.evidence} == {"tests.log", "junit.xml"}
    report = next(item for item in record.evidence if item.name == "junit.xml")
    assert b"<testsuites" in Path(report.uri.removeprefix("file://")).read_bytes()


def test_green_or_not_the_whole_output_is_linked(context, commit) -> None:
    for source in ("def test_a(): print('seen')\n", "def test_a(): assert False, 'seen'\n"):
        sha = commit({"test_a.py": source})
        task = RunTestsOperator(task_id="test", git_conn_id="app", commit=sha, command=None)
        links = {link.name: link for link in task.operator_extra_links}
        assert links["Full output"].get_link(task, ti_key=None) == ""
        with contextlib.suppress(AirflowFailException):
            task.execute(context)
        address = links["Full output"].get_link(task, ti_key=None)
        assert re.search(r"/pipeops/evidence/dag/[0-9a-f]{64}/tests\.log$", address)
        assert links["Commit"].get_link(task, ti_key=None) == "", "a folder has no forge"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (
            "def test_a(): assert 1 == 2, 'one is not two'\ndef test_b(): pass\n",
            "1 of 2 tests failed.*one is not two",
        ),
        ("import nothing_of_that_name\n", "1 of 1 tests failed.*nothing_of_that_name|collection failure"),
        ("", "no tests were collected"),
        ("import pytest\n@pytest.mark.skip\ndef test_a(): pass\n", "all 1 tests were skipped"),
        ("import os\ndef test_a(): os._exit(0)\n", "status 0, but it left no JUnit report"),
        (
            "import os, signal\ndef test_a(): os.kill(os.getpid(), signal.SIGSEGV)\n",
            "status -11, but it left no",
        ),
    ],
    ids=["fails", "import-error", "none", "all-skipped", "exits-0", "crashes"],
)
def test_what_is_not_green(context, commit, source: str, says: str) -> None:
    sha = commit({"test_a.py": source})
    with pytest.raises(AirflowFailException, match=f"(?s){says}"):
        run(context, sha, deliverable=service)
    assert context["outlet_events"][service.asset("validation")].extra == {}


def test_a_hanging_run_is_stopped_with_its_children(context, commit, tmp_path) -> None:
    pids = tmp_path / "pids"
    sha = commit(
        {
            "hang.py": "import os, signal, subprocess, time\n"
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "a = subprocess.Popen(['sleep', '300'])\n"
            "b = subprocess.Popen(['sleep', '300'], start_new_session=True)\n"
            f"open({str(pids)!r}, 'w').write(' '.join(map(str, (os.getpid(), a.pid, b.pid))))\n"
            "print('now I hang', flush=True)\n"
            "time.sleep(300)\n"
        }
    )
    started = time.monotonic()
    with pytest.raises(AirflowFailException, match=r"(?s)did not end within 4 s.*now I hang"):
        run(context, sha, command=[sys.executable, "hang.py"], timeout=timedelta(seconds=4))
    assert time.monotonic() - started < 20
    assert [pid for pid in map(int, pids.read_text().split()) if alive(pid)] == []


def test_what_a_killed_worker_left_running_ends_with_the_next_attempt(context, commit, tmp_path) -> None:
    pids = tmp_path / "pids"
    script = (
        "import os, pathlib, subprocess, sys, time\nseen = pathlib.Path(sys.argv[2])\nif not seen.exists():\n"
        "    child = subprocess.Popen(['sleep', '300'], start_new_session=True)\n"
        "    (seen.parent / 'writing').write_text(f'{os.getpid()} {child.pid}')\n"
        "    os.replace(seen.parent / 'writing', seen)\n    time.sleep(300)\n"
        "open(sys.argv[1], 'w').write('<testsuite><testcase name=\"a\"/></testsuite>')\n"
    )
    sha = commit({"t.py": script})
    command = [sys.executable, "t.py", "{junit}", str(pids)]
    worker = multiprocessing.get_context("fork").Process(
        target=run, args=(context, sha), kwargs={"command": command}
    )
    worker.start()
    until = time.monotonic() + 240
    while not pids.exists():
        assert time.monotonic() < until, "the tests never began"
        time.sleep(0.02)
    worker.kill()
    worker.join(30)
    left = [int(pid) for pid in pids.read_text().split()]
    assert [pid for pid in left if alive(pid)] == left
    assert run(context, sha, command=command)["passed"] == 1
    assert [pid for pid in left if alive(pid)] == []


def test_nothing_that_a_passing_test_starts_survives(context, commit, tmp_path) -> None:
    pids = tmp_path / "pids"
    sha = commit(
        {
            "test_a.py": "import subprocess, sys\n"
            "def test_a():\n"
            "    p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'])\n"
            f"    open({str(pids)!r}, 'w').write(str(p.pid))\n"
        }
    )
    assert run(context, sha)["passed"] == 1
    assert not alive(int(pids.read_text()))


def test_the_environment_carries_no_credentials(context, commit, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    seen = tmp_path / "env"
    sha = commit(
        {"test_a.py": f"import os\ndef test_a(): open({str(seen)!r}, 'w').write(repr(dict(os.environ)))\n"}
    )
    run(context, sha, env={"WANTED": "yes"})
    text = seen.read_text()
    assert "AIRFLOW" not in text
    assert "hush" not in text
    assert "'WANTED': 'yes'" in text
    assert os.environ["HOME"] != ast.literal_eval(text)["HOME"]


def test_a_truncated_report_is_an_error(context, commit) -> None:
    sha = commit({"t.py": "import sys; open(sys.argv[1], 'w').write('<testsuites><testsuite><testcase')"})
    with pytest.raises(AirflowFailException, match=r"BuildFailed.*truncated or not XML"):
        run(context, sha, command=[sys.executable, "t.py", "{junit}"])


def test_a_green_report_of_a_failed_command_is_not_believed(context, commit) -> None:
    xml = '<testsuites tests="1"><testsuite><testcase name="a"/></testsuite></testsuites>'
    sha = commit({"t.py": f"import sys; open(sys.argv[1], 'w').write({xml!r}); sys.exit(3)"})
    with pytest.raises(
        AirflowFailException, match="1 tests passed, but the test command ended with status 3"
    ):
        run(context, sha, command=[sys.executable, "t.py", "{junit}"])


@pytest.mark.parametrize("sha", ["main", "", None, "--upload-pack=x", "a" * 39])
def test_a_commit_is_a_full_sha(context, repo, sha) -> None:
    with pytest.raises(AirflowFailException, match="is not a full SHA"):
        run(context, sha)


def test_a_missing_program_says_so(context, commit) -> None:
    with pytest.raises(AirflowFailException, match="cannot start 'no-such-program'"):
        run(context, commit({"a": "b"}), command=["no-such-program"])


def test_a_command_in_one_text_is_refused_with_the_list(context, commit) -> None:
    sha = commit({"test_a.py": "def test_a(): pass\n"})
    with pytest.raises(AirflowFailException, match=r"not a list of non-empty words.*Write it as a list"):
        run(context, sha, command="pytest -q")
