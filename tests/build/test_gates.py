"""What opens the gate of a test run, and what does not."""

from __future__ import annotations

import json
import sys
from datetime import date, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.build import coverage, gates, junit
from airflow_pipeops.build.gates import Tolerance
from airflow_pipeops.build.operators import CoverageGateOperator, RunTestsOperator
from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.delivery.records import Record
from airflow_pipeops.exceptions import BuildFailed, InvalidInput
from tests.ledgers import event as as_read

service = Deliverable("svc", environments=("production",))
TODAY = date(2030, 5, 5)
COBERTURA = (
    '<?xml version="1.0" ?>\n<!DOCTYPE coverage SYSTEM "http://cobertura.sourceforge.net/xml/coverage-04.dtd">\n'
    '<coverage line-rate="1" version="7"><packages><package name="."><classes>'
    '<class name="a.py" filename="a.py">'
    '<methods><method name="f"><lines><line number="9" hits="0"/></lines></method></methods>'
    '<lines><line number="1" hits="1"/><line number="2" hits="0"/><line number="3" hits="12"/></lines></class>'
    '<class name="A" filename="a.py"><lines><line number="2" hits="1"/><line number="4" hits="00"/></lines></class>'
    "</classes></package></packages></coverage>"
)


def report(**outcomes: str) -> junit.Summary:
    inner = {"passed": "", "failed": "<failure message='no'/>", "skipped": "<skipped/>"}
    cases = "".join(
        f'<testcase name="{name}">{inner[verdict]}</testcase>' for name, verdict in outcomes.items()
    )
    return junit.parse(f"<testsuite>{cases}</testsuite>".encode())


def judge(
    *attempts: junit.Summary, status: int = 0, covered: float | None = None, **tolerance: Any
) -> gates.TestVerdict:
    return gates.judge(attempts, Tolerance(**tolerance), status=status, coverage=covered, today=TODAY)


def test_a_test_that_fails_and_then_passes_is_flaky_and_one_that_does_not_run_again_has_failed() -> None:
    first = report(a="failed", b="failed", c="failed", d="passed")
    verdict = judge(first, report(a="passed", b="skipped", c="failed", d="passed"), status=1)
    assert (verdict.flaky, verdict.new) == (("a",), ("b", "c"))
    assert verdict.reason == "2 of 4 tests failed, first c: no"
    gone = judge(first, report(a="passed", c="passed", d="passed"))
    assert (gone.new, gone.reason) == (("b",), "1 of 3 tests failed, first b, which did not run again")
    fine = judge(first, report(a="passed", b="passed", c="passed", d="passed"))
    assert (fine.reason, fine.flaky) == ("", ("a", "b", "c"))
    assert fine.result() == {"result": "WARNED", "flakyTests": ["a", "b", "c"]}


def test_a_quarantine_holds_to_its_last_day() -> None:
    run = report(**{"m.test_a": "failed", "m.test_b": "passed"})
    held = judge(run, status=1, quarantine={"m.test_a": TODAY})
    assert (held.reason, held.quarantined) == ("", ("m.test_a",))
    assert held.result() == {"result": "WARNED", "failedTests": ["m.test_a"]}
    over = judge(run, status=1, quarantine={"m.test_*": TODAY - timedelta(days=1)})
    assert over.reason == "1 of 2 tests failed, first m.test_a: no (its quarantine ended on 2030-05-04)"
    assert judge(run, status=1, quarantine={"other": TODAY}).reason
    with pytest.raises(InvalidInput, match=r"quarantine of 'x' ends on 'never', which is no day.*2030-01-31"):
        gates.read_quarantine({"x": "never"})


def test_a_failure_that_the_last_release_had_does_not_count_and_another_does() -> None:
    run = report(a="failed", b="failed", c="passed")
    assert judge(run, status=1, known={"a", "b"}).reason == ""
    verdict = judge(run, status=1, known={"a"})
    assert verdict.reason == "1 of 3 tests failed that count, first b: no"
    assert verdict.known == ("a",)
    assert judge(run, status=1, known=set()).reason == "2 of 3 tests failed, first a: no"


def test_nothing_tested_and_a_command_that_failed_open_no_gate() -> None:
    assert "no tests were collected" in judge(report()).reason
    assert "all 1 tests were skipped" in judge(report(a="skipped")).reason
    assert "ended with status 3" in judge(report(a="passed"), status=3).reason
    assert "all 1 tests" in judge(report(a="failed"), status=1, known={"a"}).reason


@pytest.mark.parametrize("status", [-9, 137, 139])
@pytest.mark.parametrize("tolerance", [{"quarantine": {"a": TODAY}}, {"known": {"a"}}])
def test_a_failure_that_is_tolerated_explains_no_command_that_was_killed(
    status: int, tolerance: dict[str, Any]
) -> None:
    run = report(a="failed", b="passed")
    assert judge(run, status=1, **tolerance).reason == ""
    assert f"ended with status {status}" in judge(run, status=status, **tolerance).reason


def test_coverage_has_a_floor() -> None:
    run = report(a="passed")
    assert judge(run, covered=80.0, floor=80.0).reason == ""
    assert (
        judge(run, covered=79.996, floor=80.0).reason
        == "79.99 % of the lines are covered, less than the 80 % asked for"
    )
    assert judge(run, floor=80.0).reason == "there is no coverage report, and at least 80 % is asked for"


def test_a_record_holds_as_many_names_as_it_can() -> None:
    names = {f"tests.module_{number:04}." + "x" * 90: "failed" for number in range(400)}
    result = judge(report(**names), status=1).result()
    assert len(json.dumps(result)) < 8000
    assert len(result["failedTests"]) + result["failedTestsLeftOut"] == 400


def test_the_lines_are_counted_and_not_what_the_file_says_of_them() -> None:
    assert coverage.read(COBERTURA.encode()).percent == 75.0


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (COBERTURA[:-20], "truncated"), ("<testsuite/>", "root element is <testsuite>"), ("<coverage/>", "names no line"),
        ('<!DOCTYPE c [<!ENTITY a "b">]><coverage>&a;</coverage>', "declares an entity"), ("", "truncated"),
    ],
)  # fmt: skip
def test_what_is_no_coverage_report_is_refused(content: str, says: str) -> None:
    with pytest.raises(BuildFailed, match=says):
        coverage.read(content.encode())


# The operator, with real runs


def run(context: Any, sha: str, **kwargs: Any) -> dict[str, Any]:
    kwargs["env"] = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **kwargs.get("env", {})}  # quicker
    return RunTestsOperator(task_id="task", git_conn_id="app", commit=sha, **kwargs).execute(context)


def test_a_rerun_finds_the_flaky_test_and_names_it(context, commit, tmp_path) -> None:
    seen = tmp_path / "seen"
    source = f"import pathlib\nSEEN = pathlib.Path({str(seen)!r})\n" + (
        "def test_flaky():\n    first = not SEEN.exists()\n    SEEN.touch()\n    assert not first\ndef test_fine(): pass\n"
        "def test_tree():\n    assert not pathlib.Path('left').exists()\n    pathlib.Path('left').touch()\n"
    )
    sha = commit({"test_a.py": source})
    with pytest.raises(AirflowFailException, match=r"1 of 3 tests failed, first test_a.test_flaky"):
        run(context, sha)
    seen.unlink()
    result = run(context, sha, reruns=2, deliverable=service)
    assert (result["flaky"], result["passed"], result["failed"]) == (["test_a.test_flaky"], 3, 0)
    record = Record.from_extra(context["outlet_events"][service.asset("validation")].extra)
    assert record.body["test-result"] == {"result": "WARNED", "flakyTests": ["test_a.test_flaky"]}
    assert {item.name for item in record.evidence} == {"tests.log", "junit.xml", "junit-attempt-1.xml"}


def test_every_shard_runs_its_part(context, commit) -> None:
    conftest = (
        "import os\ndef pytest_collection_modifyitems(items):\n"
        "    shard, shards = int(os.environ['PIPEOPS_SHARD']), int(os.environ['PIPEOPS_SHARDS'])\n"
        "    items[:] = [item for number, item in enumerate(items) if number % shards == shard]\n"
    )
    sha = commit({"conftest.py": conftest, "test_a.py": "".join(f"def test_{n}(): pass\n" for n in range(7))})
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-v",
        "--junitxml",
        "{junit}",
        "-o",
        "junit_suite_name=part-{shard}-of-{shards}",
    ]
    parts = [run(context, sha, shard=shard, shards=3, command=command)["passed"] for shard in range(3)]
    assert parts == [3, 2, 2]
    mapped = RunTestsOperator.partial(task_id="t", git_conn_id="app", commit=sha, shards=3, command=command)
    assert mapped.expand(shard=[0, 1, 2]).operator_class is RunTestsOperator


def test_too_little_coverage_shuts_the_gate(context, commit) -> None:
    script = (
        "import sys, pathlib\npathlib.Path(sys.argv[1]).write_text('<testsuite><testcase name=\"a\"/></testsuite>')\n"
        "pathlib.Path(sys.argv[2]).write_bytes(pathlib.Path('coverage.xml').read_bytes())\n"
    )
    sha = commit({"t.py": script, "coverage.xml": COBERTURA})
    command = [sys.executable, "t.py", "{junit}", "{coverage}"]
    assert run(context, sha, command=command, coverage_floor=75)["coverage"] == 75.0
    with pytest.raises(
        AirflowFailException, match=r"TestsFailed: 75.00 % of the lines .* the 75.5 % asked for"
    ):
        run(context, sha, command=command, coverage_floor=75.5)
    without = commit({"t.py": script.splitlines()[0] + "\n" + script.splitlines()[1] + "\n"})
    with pytest.raises(AirflowFailException, match="there is no coverage report"):
        run(context, without, command=command, coverage_floor=1)


def test_shards_cover_together_what_none_of_them_does(context, commit) -> None:
    """Each shard's lines are counted while its tests run."""
    app = "def first():\n    return 1\n\n\ndef second():\n    return 2\n\n\ndef never():\n    return 3\n"
    tests = (
        "import os\n\n\ndef test_it():\n    import app\n\n"
        "    assert app.first() == 1 if os.environ['PIPEOPS_SHARD'] == '0' else app.second() == 2\n"
    )
    script = (
        "import pathlib, sys, trace, test_app\n"
        "tracer = trace.Trace(count=1, trace=0)\n"
        "tracer.runfunc(test_app.test_it)\n"
        "run = {line for file, line in tracer.results().counts if file.endswith('/app.py')}\n"
        "lines = ''.join(f'<line number=\"{n}\" hits=\"{int(n in run)}\"/>' for n in (1, 2, 5, 6, 9, 10))\n"
        "pathlib.Path(sys.argv[1]).write_text('<testsuite><testcase name=\"test_it\"/></testsuite>')\n"
        "pathlib.Path(sys.argv[2]).write_text(\n"
        "    f'<coverage><class filename=\"app.py\"><lines>{lines}</lines></class></coverage>')\n"
    )
    sha = commit({"app.py": app, "test_app.py": tests, "t.py": script})
    command = [sys.executable, "t.py", "{junit}", "{coverage}"]
    parts = [run(context, sha, shard=shard, shards=2, command=command) for shard in range(2)]
    reports = [part["coverage_report"] for part in parts]
    assert len(set(reports)) == 2

    def gate(floor: float, given: Any = reports, **more: Any) -> dict[str, Any]:
        made = CoverageGateOperator(
            task_id="covered", reports=given, floor=floor, deliverable=service, **more
        )
        return made.execute(context)

    found = gate(83, shards=2)
    assert (found["lines"], found["covered"], found["coverage"], found["files"]) == (6, 5, 83.33, 1)
    record = Record.from_extra(context["outlet_events"][service.asset("validation")].extra)
    assert (record.body["subject"], record.body["coverage"]) == ("coverage", 83.33)
    with pytest.raises(AirflowFailException, match=r"83.33 % of the lines are covered by 2 tasks together"):
        gate(84)
    with pytest.raises(AirflowFailException, match=r"66.66 % of the lines"):
        gate(83, reports[:1])
    with pytest.raises(AirflowFailException, match="test task 1 of 2 left no coverage report"):
        gate(0, [reports[0], None])
    with pytest.raises(AirflowFailException, match="2 coverage reports are there, and there must be 3"):
        gate(0, shards=3)
    with pytest.raises(AirflowFailException, match="not where evidence is kept"):
        gate(0, ["0" * 64])
    with pytest.raises(AirflowFailException, match="is not the digest of a report"):
        gate(0, ["x"])


@pytest.mark.parametrize("floor", [-1, 101, True, "80"])
def test_a_floor_is_a_share(floor: Any) -> None:
    with pytest.raises(InvalidInput, match="no share in percent"):
        CoverageGateOperator(task_id="covered", reports=[], floor=floor)


def event(record: Record, minute: int) -> SimpleNamespace:
    at = datetime(2030, 1, 1, 0, minute, tzinfo=timezone.utc)
    return as_read(record.to_extra(), at)


def released(failed: list[str], task: str = "task") -> dict[Any, list[SimpleNamespace]]:
    """What the assets hold after a release whose tests failed in this way."""
    source = {"dag": "dag", "run": "earlier", "task": task, "map_index": -1}
    body = {"subject": "tests", "test-result": {"result": "WARNED", "failedTests": failed}}
    tests = Record("validation", "svc", body, source=source)
    other = Record(
        "validation", "svc", {"subject": "tests", "test-result": {"failedTests": ["test_a.test_new"]}}
    )
    image = Record("image", "svc", {"digest": "sha256:1"}, parents=(tests.id, other.id))
    change = Record("change", "svc", {}, parents=(image.id,), environment="production")
    release = Record("release", "svc", {}, parents=(change.id,), environment="production")
    newer = Record("validation", "svc", {**body, "never": "released"}, source=source)
    return {
        service.asset("validation"): [event(tests, 1), event(other, 2), event(newer, 9)],
        service.image: [event(image, 3)],
        service.asset("change", "production"): [event(change, 4)],
        service.asset("release", "production"): [event(release, 5)],
    }


def test_only_what_failed_in_the_last_release_too_is_tolerated(context, commit) -> None:
    old = "def test_old(): assert False\ndef test_fine(): pass\n"
    sha = commit({"test_a.py": old})
    context["inlet_events"] = released(["test_a.test_old"])
    result = run(context, sha, deliverable=service, tolerate_known_in="production")
    assert (result["tolerated"], result["failed"]) == (["test_a.test_old"], 1)
    record = Record.from_extra(context["outlet_events"][service.asset("validation")].extra)
    assert record.body["test-result"] == {"result": "WARNED", "failedTests": ["test_a.test_old"]}
    newer = commit({"test_a.py": old + "def test_new(): assert False\n"})
    with pytest.raises(AirflowFailException, match=r"1 of 3 tests failed that count, first test_a\.test_new"):
        run(context, newer, deliverable=service, tolerate_known_in="production")
    for past in (
        released(["test_a.test_old"], task="another"),
        {asset: [] for asset in context["inlet_events"]},
    ):
        context["inlet_events"] = past
        with pytest.raises(AirflowFailException, match=r"1 of 2 tests failed, first test_a\.test_old"):
            run(context, sha, deliverable=service, tolerate_known_in="production")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"shard": 3, "shards": 3, "command": ["x"]}, "shard 3 of 3 .*from 0 to shards - 1"),
        ({"shards": 2}, "pytest alone does not divide tests.*shard-id"),
        ({"reruns": 99}, "with 99 reruns"),
        ({"coverage_floor": 80}, "pytest alone measures no coverage"),
        ({"coverage_floor": 80, "command": ["x"], "shards": 2}, "one shard does not cover"),
        ({"image": "team/app:1"}, "names a tag.*a digest is needed"),
        ({"image": "team/app@sha256:" + "0" * 64}, "the worker does not run tests in an image"),
        ({"quarantine": {"a": "soon"}}, "which is no day"),
        ({"backend": "moon"}, "backend 'moon' is unknown"),
    ],
)
def test_bad_input_is_one_clear_error(context, commit, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(AirflowFailException, match=says):
        run(context, commit({"a": "b"}), **arguments)


def test_known_failures_are_those_of_a_deliverable(commit) -> None:
    with pytest.raises(InvalidInput, match="tolerate_known_in needs a deliverable"):
        RunTestsOperator(task_id="t", git_conn_id="app", commit="x", tolerate_known_in="production")
