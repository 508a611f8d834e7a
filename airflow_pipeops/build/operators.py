"""Test a commit, build its image, and ask the running service a few questions."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, BaseOperatorLink

from airflow_pipeops.base.arguments import mapping, matching, positive
from airflow_pipeops.base.connections import known_to_airflow, read
from airflow_pipeops.base.http import base_url, trusting
from airflow_pipeops.delivery.links import CommitLink, LogLink
from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry, order_key
from airflow_pipeops.exceptions import BuildFailed, GateFailed, InvalidInput, TestsFailed, Unreachable
from airflow_pipeops.redaction import redacted

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.build.backends import BuildBackend, BuildRequest, BuiltImage, Waiting, Worker
    from airflow_pipeops.build.process import Command, Finished
    from airflow_pipeops.build.testrun import TestRun
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
    :param timeout: for the whole command.
    """

    template_fields: Sequence[str] = ("git_conn_id", "commit", *DeliveryOperator.template_fields)
    operator_extra_links: Sequence[BaseOperatorLink] = (CommitLink(),)

    def __init__(self, *, git_conn_id: str, commit: str, timeout: timedelta, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.git_conn_id = git_conn_id
        self.commit = commit
        self.timeout = positive("timeout", timeout)
        self._command: Command | None = None

    def on_kill(self) -> None:
        """End what runs, with everything that it started."""
        if self._command is not None:
            self._command.kill()

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

    def _worker(self, context: Context, source: Callable[[], Path]) -> Worker:
        from airflow_pipeops.build.backends import Worker

        return Worker(context, order_key(context), source, self._run, self._tell)

    def _tell(self, line: str) -> None:
        self.log.info("%s", line)

    def _run(self, command: Command) -> Finished:
        self._command = command
        try:
            return command.run()
        finally:
            self._command = None


class RunTestsOperator(_SourceOperator):
    """Run the tests of a commit; the task succeeds only if at least one ran and all passed.

    The tests run in a fresh checkout, with a minimal environment (none of Airflow's settings or credentials), and nothing
    that they start survives. That is hygiene and not a security boundary: see :mod:`airflow_pipeops.build.testrun`.

    :param command: program and arguments, run in the root of the tree; ``{junit}`` becomes the path at which the JUnit
        report is expected (also in ``PIPEOPS_JUNIT_XML``). By default pytest of this Python. Templated.
    :param env: environment variables that the tests need beside the minimal ones; no secrets. Templated.
    :param timeout: for the whole run.
    :return: ``{commit, tests, passed, failed, skipped, seconds, record_id}``
    :raises TestsFailed: if a test failed, none ran, or time was up.
    :raises BuildFailed: if there is no readable report.
    """

    template_fields: Sequence[str] = ("command", "env", *_SourceOperator.template_fields)
    emits = ("validation",)
    operator_extra_links = (CommitLink(), LogLink())
    ui_color = "#e6f4ea"

    def __init__(
        self,
        *,
        command: Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
        timeout: timedelta = timedelta(minutes=15),
        **kwargs: Any,
    ) -> None:
        super().__init__(timeout=timeout, **kwargs)
        self.command = command
        self.env = env

    def execute(self, context: Context) -> dict[str, Any]:
        """Check out, run, judge, keep the report and the end of the log, record."""
        from airflow_pipeops.build import testrun

        with no_retry(), tempfile.TemporaryDirectory(prefix="pipeops-test-") as folder:
            source, scratch = Path(folder, "source"), Path(folder, "scratch")
            scratch.mkdir()
            self._checkout(source)
            command, report = testrun.prepare(
                source, scratch, self.command, timeout=self.timeout, env=self.env, on_line=self._tell
            )
            run = testrun.judge(self._run(command), report, self.timeout)
            evidence = self._keep(context, run)
            if run.reason:
                kept = ", ".join(item.uri for item in evidence)
                failure = BuildFailed if run.summary is None and not run.finished.timed_out else TestsFailed
                raise failure(
                    f"{run.reason}\n{testrun.last_lines(redacted(run.finished.output, known_to_airflow))}\n",
                    remedy=f"Full output: {kept}",
                )
            assert run.summary is not None
            facts: dict[str, Any] = {
                key: value for key, value in asdict(run.summary).items() if key != "failures"
            }
            facts = {"commit": self.commit, **facts}
            record_id = self.emit(
                context, "validation", {"subject": "tests", **facts}, commit=self.commit, evidence=evidence
            )
        return {**facts, "record_id": record_id}

    def _keep(self, context: Context, run: TestRun) -> list[Any]:
        kept = [
            self.keep(
                context,
                redacted(run.finished.output, known_to_airflow),
                "tests.log",
                "text/plain; charset=utf-8",
            )
        ]
        if run.report:
            text = redacted(run.report.decode(errors="surrogateescape"), known_to_airflow)
            content = text.encode(errors="surrogateescape")
            kept.append(self.keep(context, content, "junit.xml", "application/xml"))
        return kept


class BuildImageOperator(_SourceOperator):
    """Build a commit's image, once, and put it into a registry or a folder, named by its digest.

    What decides the image (the tree, the Containerfile, the build arguments, the digests of the base images, the
    platforms) makes a key. An image that is there under that key is taken, and not built again.

    :param image: its name below the registry's, or below the storage's; without tag and digest; templated.
    :param context: folder of the repository that is built; templated.
    :param file: Containerfile, as a path below the context; by default ``Containerfile`` or ``Dockerfile``. Templated.
    :param backend: where it is built: ``local`` (on the worker), ``kubernetes``, ``argo_workflows``, or the import path of a
        class of your own.
    :param backend_options: arguments of the backend's class; templated.
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
        "backend_options",
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
        backend: str = "local",
        backend_options: Mapping[str, Any] | None = None,
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
        self.backend = backend
        self.backend_options = backend_options
        self.builder = builder
        self.registry_conn_id = registry_conn_id
        self.base_conn_ids = base_conn_ids
        self.storage_conn_id = storage_conn_id
        self.tags = tags
        self.build_args = build_args
        self.target = target
        self.platforms = platforms
        self.allow_lfs_pointers = allow_lfs_pointers
        self._backend: BuildBackend | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Look whether the image is there; else check out, build, and put it where it is wanted. Record it."""
        from airflow_pipeops.build import planning
        from airflow_pipeops.build.backends import BuiltImage

        with no_retry(), tempfile.TemporaryDirectory(prefix="pipeops-build-") as folder:
            backend = self._make_backend()
            request = self._request()
            source = Path(folder, "source")
            self._checkout(source)
            plan = planning.plan(self._source_client(), source, request, file=self.file)
            self._refuse_pointers(plan.pointers)
            if found := planning.find(plan.request):
                self.log.info("%s is there already, as %s", plan.request.tag, found)
                return self._finish(context, plan.request, BuiltImage(found, "", {"found": True}))
            worker = self._worker(context, lambda: source)
            return self._go_on(context, plan.request, backend.start(plan.request, worker))

    def resume(
        self, context: Context, event: Mapping[str, Any], request: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Go on after the backend's trigger has fired."""
        from airflow_pipeops.build.backends import BuildRequest

        with no_retry(), tempfile.TemporaryDirectory(prefix="pipeops-build-") as folder:
            asked = BuildRequest.from_json(request)

            def source() -> Path:
                self._checkout(Path(folder, "source"))
                return Path(folder, "source")

            outcome = self._make_backend().resume(asked, self._worker(context, source), event)
            return self._go_on(context, asked, outcome)

    def on_kill(self) -> None:
        """End what runs, here and at the backend."""
        super().on_kill()
        if self._backend is not None:
            self._backend.kill()

    def _make_backend(self) -> BuildBackend:
        from airflow_pipeops.build import backends

        self._backend = backends.make(backends.BUILDS, self.backend, self.backend_options or {})
        assert self._backend is not None
        return self._backend

    def _go_on(
        self, context: Context, request: BuildRequest, outcome: BuiltImage | Waiting
    ) -> dict[str, Any]:
        from airflow_pipeops.build.backends import Waiting

        if isinstance(outcome, Waiting):
            self.defer(
                trigger=outcome.trigger,
                timeout=outcome.timeout,
                method_name="resume",
                kwargs={"request": request.to_json()},
            )
        return self._finish(context, request, outcome)

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
        builder = self.builder or settings.builder()
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
