"""Test a commit, build its image, and ask the running service a few questions."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, BaseOperatorLink

from airflow_pipeops.base.arguments import (
    given,
    mapping,
    matching,
    not_empty,
    one_given,
    positive,
    still_given,
)
from airflow_pipeops.base.connections import known_to_airflow, read
from airflow_pipeops.base.documents import map_
from airflow_pipeops.base.http import base_url, trusting
from airflow_pipeops.delivery.links import CommitLink, LogLink
from airflow_pipeops.delivery.operators import (
    DeliveryOperator,
    idempotency_key,
    no_retry,
    order_key,
    source_of,
)
from airflow_pipeops.exceptions import (
    BuildFailed,
    GateFailed,
    InvalidInput,
    PipeOpsError,
    TestsFailed,
    Unreachable,
)
from airflow_pipeops.redaction import redacted, remember

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.build.backends import (
        BuildBackend,
        BuildRequest,
        BuiltImage,
        TestBackend,
        TestRequest,
        TestResult,
        Worker,
    )
    from airflow_pipeops.build.hook import RegistrySettings
    from airflow_pipeops.build.process import Command, Finished
    from airflow_pipeops.build.signatures import Identity
    from airflow_pipeops.build.testrun import ReadAttempt
    from airflow_pipeops.delivery.records import RecordKind
    from airflow_pipeops.git.repository import GitRepository

_SHA = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_FOLDER = re.compile(r"(?![/-])(?!(?:.*/)?\.\.(?:/|$))[^\x00-\x1f]+")
_CONTEXT = "Name a folder relative to the repository's root."
_PLATFORM = re.compile(r"[a-z0-9]+/[a-z0-9_]+(/v[0-9]+)?")
_ARGUMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_IMAGE = re.compile(r"[a-z0-9]+([._-][a-z0-9]+)*(/[a-z0-9]+([._-][a-z0-9]+)*)*")


class _SourceOperator(DeliveryOperator):
    """What works on the source tree of one commit, through a child process.

    :param git_conn_id: connection of type ``git_repository`` with the application's code.
    :param commit: full SHA; templated.
    :param backend: where it is done: ``local`` (on the worker), ``kubernetes``, ``argo_workflows``, or the import path of a
        class of your own.
    :param backend_options: arguments of the backend's class; templated.
    :param timeout: for the whole command.
    """

    template_fields: Sequence[str] = (
        "git_conn_id",
        "commit",
        "backend_options",
        *DeliveryOperator.template_fields,
    )
    operator_extra_links: Sequence[BaseOperatorLink] = (CommitLink(),)

    def __init__(
        self,
        *,
        git_conn_id: str,
        commit: str,
        timeout: timedelta,
        backend: str = "local",
        backend_options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.backend = backend
        self.backend_options = backend_options
        self._backend: Any = None
        self.git_conn_id = git_conn_id
        self.commit = commit
        self.timeout = positive("timeout", timeout)
        self._command: Command | None = None
        self._token = ""

    def on_kill(self) -> None:
        """End what runs, with everything that it started, here and at the backend."""
        if self._command is not None:
            self._command.kill()
        if self._backend is not None:
            self._backend.kill()

    def resume(
        self, context: Context, event: Mapping[str, Any], request: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Go on after the backend's trigger has fired."""
        with no_retry(), self._scratch(context) as folder:
            asked = self._asked(request)
            worker = self._worker(context, self._sources(folder))
            return self._go_on(context, asked, self._made().resume(asked, worker, event))

    def _go_on(self, context: Context, request: Any, outcome: Any) -> dict[str, Any]:
        """Wait elsewhere, or finish."""
        from airflow_pipeops.build.backends import Waiting

        if isinstance(outcome, Waiting):
            self.defer(
                trigger=outcome.trigger,
                timeout=outcome.timeout,
                method_name="resume",
                kwargs={"request": request.to_json()},
            )
        return self._finish(context, request, outcome)

    def _asked(self, request: Mapping[str, Any]) -> Any:
        raise NotImplementedError

    def _made(self) -> Any:
        raise NotImplementedError

    def _finish(self, context: Context, request: Any, outcome: Any) -> dict[str, Any]:
        raise NotImplementedError

    def _sources(self, folder: Path) -> Callable[[], Path]:
        """Return what checks out the commit into a folder of its own, each time."""

        def source() -> Path:
            place = Path(tempfile.mkdtemp(prefix="source-", dir=folder))
            self._checkout(place)
            return place

        return source

    def _source_client(self) -> GitRepository:
        remedy = 'Pass the "commit" that ResolveCommitOperator returned (40 hex digits).'
        matching("commit", self.commit, _SHA, "a full SHA", remedy)
        from airflow_pipeops.git.forges import commit_url
        from airflow_pipeops.git.hook import GitHook

        client = GitHook(self.git_conn_id).get_conn()
        self.commit_url = commit_url(client.display_url, self.commit)
        return client

    def _checkout(self, dest: Path) -> None:
        self._source_client().checkout(self.commit, dest)

    @staticmethod
    def _scratch(context: Context) -> AbstractContextManager[Path]:
        from airflow_pipeops.build.process import scratch

        return scratch(f"source {idempotency_key(context)}")

    def _worker(self, context: Context, source: Callable[[], Path]) -> Worker:
        from airflow_pipeops.build.backends import Worker

        # Two installations on one machine may have runs of one name.
        who = f"{os.environ.get('AIRFLOW_HOME', '')} {idempotency_key(context)}"
        self._token = hashlib.sha256(who.encode()).hexdigest()
        return Worker(context, order_key(context), source, self._run, self._tell)

    def _tell(self, line: str) -> None:
        self.log.info("%s", line)

    def _run(self, command: Command) -> Finished:
        command.token = self._token or command.token
        self._command = command
        try:
            return command.run()
        finally:
            self._command = None


class RunTestsOperator(_SourceOperator):
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
    :return: ``{commit, tests, passed, failed, skipped, seconds, coverage, flaky, tolerated, record_id}``
    :raises TestsFailed: if a test failed that counts, none ran, time was up, or too little is covered.
    :raises BuildFailed: if there is no readable report.
    """

    template_fields: Sequence[str] = (
        "command",
        "env",
        "image",
        "quarantine",
        *_SourceOperator.template_fields,
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
                remedy="Set it where one task runs all tests, with a command that writes a report to {coverage}.",
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
            coverage.percent(last.attempt.coverage) if request.coverage and last.attempt.coverage else None
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
        return {**facts, "record_id": record_id}

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


class BuildImageOperator(_SourceOperator):
    """Build a commit's image, once, and put it into a registry or a folder, named by its digest.

    What decides the image (the tree, the Containerfile, the build arguments, the digests of the base images, the
    platforms) makes a key. An image that is there under that key is taken, and not built again.

    :param image: its name below the registry's, or below the storage's; without tag and digest; templated.
    :param context: folder of the repository that is built; templated.
    :param file: Containerfile, as a path below the context; by default ``Containerfile`` or ``Dockerfile``. Templated.
    :param builder: ``buildah``, ``podman``, ``docker``, or ``auto``: the first of these that is installed, works,
        and can get
        the base image; or the import path of a builder of your own. By default what ``[pipeops] builder`` says.
    :param registry_conn_id: connection of type ``container_registry`` or ``docker`` that the image is pushed to. By
        default what
        ``[pipeops] registry_conn_id`` says; without one, the image is kept in ``storage_conn_id``. Templated.
    :param base_conn_ids: connections of further registries that base images come from.
    :param storage_conn_id: connection of type ``pipeops_storage`` with a ``file://`` URI, for OCI layouts; templated.
    :param tags: tags that are to mean the image in the registry, too; templated.
    :param build_args: build arguments; no secrets, since an image tells them to everybody. Templated.
    :param target: stage of the Containerfile to build; by default the last.
    :param platforms: for example ``["linux/amd64", "linux/arm64"]``; by default the builder's own.
    :param allow_lfs_pointers: whether files may be built in whose content Git LFS keeps elsewhere.
    :param timeout: for each step of the engine.
    :return: ``{image, digest, reference, builder, commit, key, found, record_id}``
    :raises BuildFailed: if the engine fails, or the one asked for cannot be used.
    :raises InvalidInput: if there is no Containerfile, or it cannot be read.
    """

    template_fields: Sequence[str] = (
        "image",
        "context_folder",
        "file",
        "registry_conn_id",
        "storage_conn_id",
        "tags",
        "build_args",
        *_SourceOperator.template_fields,
    )
    emits = ("image",)
    ui_color = "#e8eaf6"

    def __init__(
        self,
        *,
        image: str,
        context: str = ".",
        file: str | None = None,
        builder: str | None = None,
        registry_conn_id: str | None = None,
        base_conn_ids: Sequence[str] = (),
        storage_conn_id: str = "pipeops_artifacts",
        tags: Sequence[str] = (),
        build_args: Mapping[str, str] | None = None,
        target: str = "",
        platforms: Sequence[str] = (),
        allow_lfs_pointers: bool = False,
        timeout: timedelta = timedelta(minutes=30),
        **kwargs: Any,
    ) -> None:
        super().__init__(timeout=timeout, **kwargs)
        self.image = image
        self.context_folder = context
        self.file = file
        self.builder = builder
        self.registry_conn_id = registry_conn_id
        self.base_conn_ids = base_conn_ids
        self.storage_conn_id = storage_conn_id
        self.tags = tags
        self.build_args = build_args
        self.target = target
        self.platforms = platforms
        self.allow_lfs_pointers = allow_lfs_pointers

    def execute(self, context: Context) -> dict[str, Any]:
        """Look whether the image is there; else check out, build, and put it where it is wanted. Record it."""
        from airflow_pipeops.build import planning
        from airflow_pipeops.build.backends import BuiltImage

        with no_retry(), self._scratch(context) as folder:
            backend = self._made()
            request = self._request()
            source = folder / "source"
            self._checkout(source)
            plan = planning.plan(self._source_client(), source, request, file=self.file)
            self._refuse_pointers(plan.pointers)
            if found := planning.find(plan.request):
                self.log.info("%s is there already, as %s", plan.request.tag, found)
                return self._finish(context, plan.request, BuiltImage(found, "", {"found": True}))
            worker = self._worker(context, lambda: source)
            return self._go_on(context, plan.request, backend.start(plan.request, worker))

    def _asked(self, request: Mapping[str, Any]) -> BuildRequest:
        from airflow_pipeops.build.backends import BuildRequest

        return BuildRequest.from_json(request)

    def _made(self) -> BuildBackend:
        from airflow_pipeops.build import backends

        made: BuildBackend = backends.make(backends.BUILDS, self.backend, self.backend_options or {})
        self._backend = made
        return made

    def _finish(self, context: Context, request: BuildRequest, built: BuiltImage) -> dict[str, Any]:
        """Read back what the registry has, set the tags, record."""
        from airflow_pipeops.build import planning

        planning.confirm(request, built.digest, self.tags)
        facts: dict[str, Any] = {
            "image": self.image,
            "digest": built.digest,
            "reference": f"{request.repository or self.image}@{built.digest}",
            "builder": built.builder,
            "commit": self.commit,
            "key": request.tag.removeprefix("pipeops-"),
            "found": bool(built.facts.get("found")),
        }
        body = {**built.facts, **facts, **planning.described(request)}
        record_id = self.emit(context, "image", body, commit=self.commit)
        return {**facts, "record_id": record_id}

    def _request(self) -> BuildRequest:
        """Read the arguments, and check everything that can be checked without touching anything."""
        from airflow_pipeops.base import configuration as settings
        from airflow_pipeops.build import builders, references
        from airflow_pipeops.build.backends import BuildRequest
        from airflow_pipeops.build.hook import RegistryHook
        from airflow_pipeops.build.local import folder_of

        if not isinstance(self.image, str) or not _IMAGE.fullmatch(self.image) or len(self.image) > 200:
            raise InvalidInput(
                f"image {self.image!r} is not a valid name",
                field="image",
                value=self.image,
                remedy="Use lower-case letters, digits, dashes, dots and slashes; no tag and no digest.",
            )
        local = self.backend == "local"
        builder = self.builder or (settings.builder() if local else "auto")
        if local:  # another backend has builders of its own
            builders.check(builder)
        for tag in self.tags:
            references.tag(tag, "tags")
        matching("context", self.context_folder, _FOLDER, "a folder of the repository", _CONTEXT)
        for platform in self.platforms:
            matching(
                "platforms", platform, _PLATFORM, "a platform", "Write it as linux/amd64 or linux/arm/v7."
            )
        arguments = mapping("build_args", self.build_args or {}, 'Write {"NAME": "value"}.')
        for name in arguments:
            matching(
                "build_args", name, _ARGUMENT, "the name of a build argument", "Use letters, digits and _."
            )
        registry = self.registry_conn_id or settings.registry()
        repository = ""
        if registry:
            repository = str(RegistryHook(registry).settings().reference(self.image))
        else:
            folder_of(self.storage_conn_id, self.image)
        return BuildRequest(
            git_conn_id=self.git_conn_id,
            commit=self.commit,
            context=self.context_folder,
            image=self.image,
            repository=repository,
            registry_conn_id=registry,
            base_conn_ids=tuple(self.base_conn_ids),
            storage_conn_id="" if registry else self.storage_conn_id,
            arguments={name: str(value) for name, value in arguments.items()},
            target=self.target,
            platforms=tuple(self.platforms),
            builder=builder,
            timeout=self.timeout,
        )

    def _refuse_pointers(self, pointers: Sequence[str]) -> None:
        if pointers and not self.allow_lfs_pointers:
            raise InvalidInput(
                f"{len(pointers)} files of the build context are pointers of Git LFS, first {pointers[0]!r}: "
                "their content is not in the repository",
                field="context",
                value=pointers[0],
                remedy="Name them in .dockerignore and fetch them where they are used, or set allow_lfs_pointers=True.",
            )


class _SignatureOperator(DeliveryOperator):
    """What looks at an image in its registry, and calls cosign.

    :param image: name of the image with its digest, such as the ``reference`` that :class:`BuildImageOperator` returned;
        templated.
    :param registry_conn_id: connection of its registry; by default what ``[pipeops] registry_conn_id`` says. Templated.
    :param transparency_log: whether Sigstore's public log takes part.
    :param cosign: name or path of the program.
    :param timeout: for each call of cosign.
    """

    template_fields: Sequence[str] = ("image", "registry_conn_id", *DeliveryOperator.template_fields)

    def __init__(
        self,
        *,
        image: str,
        registry_conn_id: str | None = None,
        transparency_log: bool = True,
        cosign: str = "cosign",
        timeout: timedelta = timedelta(minutes=5),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.image = image
        self.registry_conn_id = registry_conn_id
        self.transparency_log = transparency_log
        self.cosign = cosign
        self.timeout = positive("timeout", timeout)
        self._command: Command | None = None

    def on_kill(self) -> None:
        """End what runs."""
        if self._command is not None:
            self._command.kill()

    def _run(self, command: Command) -> Finished:
        self._command = command
        try:
            return command.run()
        finally:
            self._command = None

    def _settings(self, host: str) -> RegistrySettings:
        from airflow_pipeops.base import configuration as settings
        from airflow_pipeops.build.hook import RegistryHook, RegistrySettings

        conn_id = self.registry_conn_id or settings.registry()
        if not conn_id:
            return RegistrySettings(host)
        found = RegistryHook(conn_id).settings()
        if found.host != host:
            raise InvalidInput(
                f"the image is in {host}, and connection {conn_id!r} is of {found.host}",
                field="registry_conn_id",
                value=conn_id,
                remedy="Name the connection of the image's registry.",
            )
        return found


class VerifyImageOperator(_SignatureOperator):
    """Demand that an image is what its digest says, and that somebody has signed it; else the gate is shut.

    The digest is always checked: the registry's answer is hashed. With ``key``, or ``certificate_identity`` and
    ``certificate_issuer``, a signature by that identity is demanded, too; or, with ``attestations``, statements about the
    image that it has signed, such as its provenance.

    :param tag: a tag of the image's repository that must mean this digest; templated.
    :param key: public key of who must have signed: a path, or a URI of a key service that cosign knows; templated.
    :param certificate_identity: the identity in a certificate of Sigstore, exactly, such as the address of a
        workflow; templated.
    :param certificate_issuer: who vouched for it, the URL of an OpenID provider; templated.
    :param attestations: types of statements that must be there, signed by the same, such as ``slsaprovenance1`` or
        ``spdxjson``.
    :return: ``{image, digest, verified, by, record_id}``; ``verified`` names what was: ``digest``, ``tag``,
    ``signature``, or the
        type of an attestation.
    :raises GateFailed: if the digest, the tag, a signature or a statement is not as demanded.
    :raises InvalidInput: for a tag where a digest is needed, and where cosign is needed and not installed.
    """

    template_fields: Sequence[str] = (
        "tag",
        "key",
        "certificate_identity",
        "certificate_issuer",
        *_SignatureOperator.template_fields,
    )
    emits = ("validation",)
    ui_color = "#ede7f6"

    def __init__(
        self,
        *,
        tag: str = "",
        key: str = "",
        certificate_identity: str = "",
        certificate_issuer: str = "",
        attestations: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.tag = tag
        self.key = key
        self.certificate_identity = certificate_identity
        self.certificate_issuer = certificate_issuer
        self.attestations = attestations
        self._demanded = given(
            tag=tag, key=key, certificate_identity=certificate_identity, certificate_issuer=certificate_issuer
        )

    def execute(self, context: Context) -> dict[str, Any]:
        """Read the image's manifest, compare, have the signatures verified, record."""
        from airflow_pipeops.build.process import scratch
        from airflow_pipeops.build.references import by_digest
        from airflow_pipeops.build.signatures import Cosign

        with no_retry():
            still_given(self, self._demanded)
            image = by_digest(self.image)
            identity = self._identity()
            settings = self._settings(image.host)
            verified = ["digest"]
            with settings.client() as registry:
                registry.manifest(image.repository, image.digest)
                if self.tag:
                    there = registry.resolve(image.repository, self.tag)
                    if there != image.digest:
                        raise GateFailed(
                            f"{image.name}:{self.tag} is {there}, and not {image.digest}",
                            remedy="Promote what the tag means now, or set the tag anew.",
                        )
                    verified.append("tag")
            if identity is not None:
                with scratch(f"verify {idempotency_key(context)}") as folder:
                    cosign = Cosign(self.cosign, self._run, settings, folder, self.timeout)
                    for wanted in self.attestations or ("",):
                        cosign.verify(image, identity, wanted)
                        verified.append(wanted or "signature")
            by = identity.words if identity else ""
            facts: dict[str, Any] = {
                "image": image.name,
                "digest": image.digest,
                "verified": verified,
                "by": by,
            }
            record_id = self.emit(context, "validation", {"subject": "image", **facts})
        return {**facts, "record_id": record_id}

    def _identity(self) -> Identity | None:
        from airflow_pipeops.build.signatures import Identity

        if bool(self.certificate_identity) != bool(self.certificate_issuer):
            raise InvalidInput(
                "certificate_identity and certificate_issuer belong together",
                field="certificate_issuer" if self.certificate_identity else "certificate_identity",
                remedy="Give both: an identity is worth as much as who vouches for it.",
            )
        if self.key and self.certificate_identity:
            raise InvalidInput(
                "key and certificate_identity are both given",
                field="key",
                remedy="Give one: who must have signed.",
            )
        if self.key or self.certificate_identity:
            return Identity(
                self.key, self.certificate_identity, self.certificate_issuer, self.transparency_log
            )
        if self.attestations:
            raise InvalidInput(
                "attestations are demanded of nobody",
                field="attestations",
                value=list(self.attestations),
                remedy="Say in key, or certificate_identity and certificate_issuer, who must have signed them.",
            )
        return None


class SignImageOperator(_SignatureOperator):
    """Sign an image in its registry by cosign.

    :param signing_conn_id: a connection whose password is that of the key, and whose extra has ``private_key`` (the key as
        ``cosign generate-key-pair`` writes it) or ``key`` (a path of it, or a URI of a key service).
    :return: ``{image, digest}``
    """

    ui_color = "#ede7f6"

    def __init__(self, *, signing_conn_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.signing_conn_id = signing_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Sign; a second signature by the same key changes nothing."""
        from airflow_pipeops.build.process import scratch
        from airflow_pipeops.build.references import by_digest
        from airflow_pipeops.build.signatures import Cosign

        with no_retry(), scratch(f"sign {idempotency_key(context)}") as folder:
            image = by_digest(self.image)
            settings = self._settings(image.host)
            connection = read(self.signing_conn_id)
            key, content = (str(connection.extra_dejson.get(name) or "") for name in ("key", "private_key"))
            one_given(
                f"connection {self.signing_conn_id!r} does not name one signing key",
                "Set private_key or key in its extra.",
                private_key=content,
                key=key,
            )
            cosign = Cosign(self.cosign, self._run, settings, folder, self.timeout)
            if content:
                remember(content)
                key = str(folder / "signing.key")
                with open(os.open(key, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8") as file:
                    file.write(content)
            password = connection.password or ""
            remember(password)
            with settings.client() as registry:
                registry.manifest(image.repository, image.digest)
            cosign.sign(image, key, password, transparency_log=self.transparency_log)
        return {"image": image.name, "digest": image.digest}


class SmokeTestOperator(BaseOperator):
    """Ask a running service a few questions; the task succeeds only if every answer is as expected.

    :param http_conn_id: connection of type ``http``: host is the base URL, password an optional bearer token; extra
        ``verify_tls`` (true) and ``ca_file``.
    :param checks: ``{"path": "/healthz", "status": 200, "contains": "ok", "json": {...}}`` each; templated.
    :param request_timeout: for one question.
    :param attempts: how often one question is asked where the answer is late, absent, 429, 502, 503 or 504.
    :return: ``{checks: [{path, status, milliseconds}], url}``
    :raises Unreachable: if only such transient answers are wrong.
    :raises GateFailed: if an answer is wrong.
    """

    template_fields: Sequence[str] = ("http_conn_id", "checks")
    ui_color = "#fff8e1"

    def __init__(
        self,
        *,
        http_conn_id: str,
        checks: Sequence[Mapping[str, Any]],
        request_timeout: timedelta = timedelta(seconds=10),
        attempts: int = 3,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.http_conn_id = http_conn_id
        self.checks = checks
        self.request_timeout = request_timeout
        self.attempts = attempts

    def execute(self, context: Context) -> dict[str, Any]:
        """Ask, compare, and name every answer that is wrong."""
        from airflow_pipeops.build import smoke

        with no_retry():
            checks = smoke.read_checks(self.checks)
            url, token, verify = self._endpoint()
            answers = smoke.ask(
                url,
                checks,
                token=token,
                timeout=self.request_timeout,
                attempts=max(1, self.attempts),
                verify=verify,
                tell=lambda line: self.log.warning("%s", line),
            )
            wrong = [answer for answer in answers if answer.problem]
            if wrong:
                kind = Unreachable if all(answer.transient for answer in wrong) else GateFailed
                said = "; ".join(f"{answer.path}: {answer.problem}" for answer in wrong)
                raise kind(
                    f"{len(wrong)} of {len(answers)} smoke tests failed against {url}: {redacted(said, known_to_airflow)}",
                    remedy="Look at the service's own log.",
                )
        found = [{"path": a.path, "status": a.status, "milliseconds": a.milliseconds} for a in answers]
        return {"checks": found, "url": url}

    def _endpoint(self) -> tuple[str, str | None, Any]:
        connection = read(self.http_conn_id, "http")
        host = (connection.host or "").rstrip("/")
        if host and "://" not in host:
            host = f"{connection.schema or 'http'}://{host}"
        if connection.port and not re.search(r":\d+$", host):
            host = f"{host}:{connection.port}"
        host = base_url(host, field=f"{self.http_conn_id}.host", of=f"connection {self.http_conn_id!r}")
        return host, connection.password or None, trusting(connection.extra_dejson)
