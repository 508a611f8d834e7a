"""Run the tests of a commit, as a gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import not_empty
from airflow_pipeops.base.connections import known_to_airflow
from airflow_pipeops.base.documents import map_
from airflow_pipeops.build.operators.source import SourceOperator
from airflow_pipeops.delivery.links import CommitLink, LogLink
from airflow_pipeops.delivery.operators import no_retry, source_of
from airflow_pipeops.exceptions import BuildFailed, InvalidInput, PipeOpsError, TestsFailed
from airflow_pipeops.redaction import redacted

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.build.backends import TestBackend, TestRequest, TestResult
    from airflow_pipeops.build.testrun import ReadAttempt
    from airflow_pipeops.delivery.records import RecordKind


class RunTestsOperator(SourceOperator):
    """Run the tests of a commit; the task succeeds only if at least one ran and none failed that counts.

    The tests run in a fresh checkout, with a minimal environment (none of Airflow's settings or credentials), and nothing
    that they start survives. That is hygiene and not a security boundary: see :mod:`airflow_pipeops.build.testrun`.

    :param command: program and arguments, run in the root of the tree; ``{junit}`` becomes the path at which the JUnit
        report is expected (also in ``PIPEOPS_JUNIT_XML``), ``{coverage}`` that of the coverage report (also in
        ``PIPEOPS_COVERAGE_XML``), ``{shard}`` and ``{shards}`` numbers (also in ``PIPEOPS_SHARD`` and ``PIPEOPS_SHARDS``).
        By default pytest of this Python. Templated.
    :param env: environment variables that the tests need beside the minimal ones; no secrets. Templated.
    :param image: the image in which a cluster runs the command, by digest; templated.
    :param shard: number of this part of the tests, from 0; map the task over ``range(shards)``.
    :param shards: into how many parts the command divides the tests.
    :param reruns: how often the command is run again while tests fail. A test that then passes is called flaky, and does not
        shut the gate.
    :param coverage_floor: percent of the lines that a coverage report (Cobertura) must say were run.
    :param tolerate_known_in: environment whose last release may have had the same failures: those do not count.
    :param quarantine: name of a test, or a pattern -> the last day (``YYYY-MM-DD``) on which its failures do not count;
        templated.
    :param timeout: for each run of the command.
    :return: ``{commit, tests, passed, failed, skipped, seconds, coverage, coverage_report, flaky, tolerated, record_id}``;
        ``coverage_report`` is the digest of the kept report, for
        :class:`~airflow_pipeops.build.operators.coverage.CoverageGateOperator`; ``None`` where there is none.
    :raises TestsFailed: if a test failed that counts, none ran, time was up, or too little is covered.
    :raises BuildFailed: if there is no readable report.
    """

    template_fields: Sequence[str] = (
        "command",
        "env",
        "image",
        "quarantine",
        *SourceOperator.template_fields,
    )
    emits = ("validation",)
    operator_extra_links = (CommitLink(), LogLink())
    ui_color = "#e6f4ea"

    def __init__(
        self,
        *,
        command: Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
        image: str = "",
        shard: int = 0,
        shards: int = 1,
        reruns: int = 0,
        coverage_floor: float | None = None,
        tolerate_known_in: str | None = None,
        quarantine: Mapping[str, Any] | None = None,
        timeout: timedelta = timedelta(minutes=15),
        **kwargs: Any,
    ) -> None:
        super().__init__(timeout=timeout, **kwargs)
        self.command = command
        self.env = env
        self.image = image
        self.shard = shard
        self.shards = shards
        self.reruns = reruns
        self.coverage_floor = coverage_floor
        self.tolerate_known_in = tolerate_known_in
        self.quarantine = quarantine
        if tolerate_known_in is not None:
            remedy = "Pass deliverable=Deliverable(...), whose releases are looked at."
            about = not_empty(
                "deliverable", self.deliverable, "tolerate_known_in needs a deliverable", remedy
            )
            kinds: tuple[RecordKind, ...] = ("release", "change")
            self._past = [about.asset(kind, tolerate_known_in) for kind in kinds]
            self._past += [about.asset("image"), about.asset("validation")]
            self.inlets = [*self.inlets, *(asset for asset in self._past if asset not in self.inlets)]

    def execute(self, context: Context) -> dict[str, Any]:
        """Check out, run, judge, keep the reports and the end of the log, record."""
        with no_retry(), self._scratch(context) as folder:
            request = self._request()
            worker = self._worker(context, self._sources(folder))
            return self._go_on(context, request, self._made().start(request, worker))

    def _asked(self, request: Mapping[str, Any]) -> TestRequest:
        from airflow_pipeops.build.backends import TestRequest

        return TestRequest.from_json(request)

    def _made(self) -> TestBackend:
        from airflow_pipeops.build import backends

        made: TestBackend = backends.make(backends.TESTS, self.backend, self.backend_options or {})
        self._backend = made
        return made

    def _request(self) -> TestRequest:
        from airflow_pipeops.build import gates, references, testrun
        from airflow_pipeops.build.backends import TestRequest

        self._source_client()
        command = testrun.words(self.command)
        gates.read_quarantine(self.quarantine)
        if self.image:
            references.by_digest(self.image)
        counted = all(isinstance(one, int) for one in (self.shard, self.shards, self.reruns))
        if not counted or not 0 <= self.shard < self.shards or not 0 <= self.reruns <= 10:
            raise InvalidInput(
                f"shard {self.shard!r} of {self.shards!r} with {self.reruns!r} reruns cannot be run",
                field="shard",
                value=self.shard,
                remedy="Number the shards from 0 to shards - 1; at most 10 reruns.",
            )
        if self.shards > 1 and not command:
            raise InvalidInput(
                "pytest alone does not divide tests into shards",
                field="command",
                remedy="Use a plugin that does, for example "
                '["python", "-m", "pytest", "--junitxml", "{junit}", "--shard-id={shard}", "--num-shards={shards}"].',
            )
        if self.coverage_floor is not None and (self.shards > 1 or not command):
            raise InvalidInput(
                "one shard does not cover what all of them do"
                if command
                else "pytest alone measures no coverage",
                field="coverage_floor",
                value=self.coverage_floor,
                remedy="Have CoverageGateOperator join the reports of the shards."
                if command
                else "Give a command that writes a report to {coverage}.",
            )
        return TestRequest(
            git_conn_id=self.git_conn_id,
            commit=self.commit,
            command=command,
            env={"PIPEOPS_SHARD": str(self.shard), "PIPEOPS_SHARDS": str(self.shards), **(self.env or {})},
            image=self.image,
            shard=self.shard,
            shards=self.shards,
            reruns=self.reruns,
            coverage=self.coverage_floor is not None,
            timeout=self.timeout,
        )

    def _finish(self, context: Context, request: TestRequest, outcome: TestResult) -> dict[str, Any]:
        """Judge, keep what backs the judgement, record."""
        from airflow_pipeops.build import coverage, gates, testrun

        attempts = [testrun.read(attempt) for attempt in outcome.attempts]
        last = attempts[-1]
        evidence = self._keep(context, outcome)
        if last.attempt.timed_out:
            seconds = self.timeout.total_seconds()
            raise self._shut(
                TestsFailed, f"the tests did not end within {seconds:g} s and were stopped", last, evidence
            )
        if last.summary is None:
            said = f"the test command ended with status {last.attempt.status}, but {last.problem}"
            raise self._shut(BuildFailed, said, last, evidence)
        tolerance = gates.Tolerance(
            gates.read_quarantine(self.quarantine), self._known(context), self.coverage_floor
        )
        covered = (
            coverage.read(last.attempt.coverage).percent
            if request.coverage and last.attempt.coverage
            else None
        )
        summaries = [one.summary for one in attempts if one.summary is not None]
        today = datetime.now(timezone.utc).date()
        verdict = gates.judge(summaries, tolerance, status=last.attempt.status, coverage=covered, today=today)
        if verdict.reason:
            raise self._shut(TestsFailed, verdict.reason, last, evidence)
        facts: dict[str, Any] = {
            "commit": self.commit,
            **{
                name: getattr(last.summary, name)
                for name in ("tests", "passed", "failed", "skipped", "seconds")
            },
            "coverage": None if covered is None else round(covered, 2),
            "flaky": list(verdict.flaky),
            "tolerated": [*verdict.quarantined, *verdict.known],
        }
        for name in verdict.flaky:
            self.log.warning("%s is flaky: it failed, and passed when it was run again", name)
        counts = {name: facts[name] for name in facts if name not in ("flaky", "tolerated")}
        body = {"subject": "tests", **outcome.facts, **counts, "test-result": verdict.result()}
        if self.shards > 1:
            body["shard"] = f"{self.shard + 1} of {self.shards}"
        record_id = self.emit(context, "validation", body, commit=self.commit, evidence=evidence)
        report = next((one.sha256 for one in evidence if one.name == "coverage.xml"), None)
        return {**facts, "coverage_report": report, "record_id": record_id}

    def _known(self, context: Context) -> frozenset[str] | None:
        """Return which tests failed in the last release, too: of the records that it was made from, those of this task."""
        if self.tolerate_known_in is None:
            return None
        from airflow_pipeops.delivery.events import records_on
        from airflow_pipeops.delivery.trace import trace

        records = records_on(context, *self._past)
        releases = [record for record in records if record.kind == "release"]
        me = source_of(context)
        if not releases:
            self.log.info("Nothing was released to %s yet: every failure counts", self.tolerate_known_in)
            return frozenset()
        for record in trace(releases[-1].id, records).of_kind("validation"):
            same = all(record.source.get(name) == me[name] for name in ("dag", "task", "map_index"))
            if record.body.get("subject") == "tests" and same:
                return frozenset(map_(record.body.get("test-result")).get("failedTests") or ())
        self.log.warning(
            "The last release to %s names no run of these tests: every failure counts", self.tolerate_known_in
        )
        return frozenset()

    def _shut(
        self, kind: type[PipeOpsError], reason: str, last: ReadAttempt, evidence: Sequence[Any]
    ) -> PipeOpsError:
        from airflow_pipeops.build import testrun

        kept = ", ".join(item.uri for item in evidence)
        output = redacted(last.attempt.output, known_to_airflow)
        return kind(f"{reason}\n{testrun.last_lines(output)}\n", remedy=f"Full output: {kept}")

    def _keep(self, context: Context, outcome: TestResult) -> list[Any]:
        attempts = outcome.attempts
        output = "\n".join(
            (f"Attempt {number} of {len(attempts)}\n" if len(attempts) > 1 else "") + attempt.output
            for number, attempt in enumerate(attempts, start=1)
        )
        text = "text/plain; charset=utf-8"
        kept = [self.keep(context, redacted(output, known_to_airflow), "tests.log", text)]
        for number, attempt in enumerate(attempts, start=1):
            name = "junit.xml" if number == len(attempts) else f"junit-attempt-{number}.xml"
            for content, called in ((attempt.report, name), (attempt.coverage, "coverage.xml")):
                if content and not (called == "coverage.xml" and number < len(attempts)):
                    clean = redacted(content.decode(errors="surrogateescape"), known_to_airflow)
                    kept.append(
                        self.keep(context, clean.encode(errors="surrogateescape"), called, "application/xml")
                    )
        return kept
