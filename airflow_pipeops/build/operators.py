"""Test a commit, build its image, and ask the running service a few questions."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, BaseOperatorLink

from airflow_pipeops.base.arguments import matching, positive
from airflow_pipeops.base.connections import known_to_airflow, read
from airflow_pipeops.base.http import base_url, trusting
from airflow_pipeops.delivery.links import CommitLink, LogLink
from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry
from airflow_pipeops.exceptions import BuildFailed, GateFailed, InvalidInput, TestsFailed, Unreachable
from airflow_pipeops.redaction import redacted

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.build.process import Command, Finished
    from airflow_pipeops.build.testrun import TestRun

_SHA = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
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

    def _checkout(self, dest: Path) -> None:
        remedy = 'Pass the "commit" that ResolveCommitOperator returned (40 hex digits).'
        matching("commit", self.commit, _SHA, "a full SHA", remedy)
        from airflow_pipeops.git.forges import commit_url
        from airflow_pipeops.git.hook import GitHook

        client = GitHook(self.git_conn_id).get_conn()
        self.commit_url = commit_url(client.display_url, self.commit)
        client.checkout(self.commit, dest)

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

    def _tell(self, line: str) -> None:
        self.log.info("%s", line)

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
    """Build a commit's image and keep it in an OCI image layout, named by its digest.

    :param image: its name, which is also the layout's folder below the storage; templated.
    :param context: folder of the repository that holds the ``Containerfile`` or ``Dockerfile``; templated.
    :param builder: ``buildah``, ``podman``, ``docker``, ``oci-layout`` (packs the source tree without any engine), or
        ``auto``: the first of these that is installed, works, and can get the base image. By default what
        ``[pipeops] builder`` says.
    :param storage_conn_id: connection of type ``pipeops_storage`` with a ``file://`` URI.
    :param timeout: for each step of the engine.
    :return: ``{image, digest, reference, builder, commit, record_id}``
    :raises BuildFailed: if the engine fails, or the one asked for cannot be used.
    :raises InvalidInput: if there is no Containerfile, or the packager does not understand it.
    """

    template_fields: Sequence[str] = (
        "image",
        "context_folder",
        "storage_conn_id",
        *_SourceOperator.template_fields,
    )
    emits = ("image",)
    ui_color = "#e8eaf6"

    def __init__(
        self,
        *,
        image: str,
        context: str = ".",
        builder: str | None = None,
        storage_conn_id: str = "pipeops_artifacts",
        timeout: timedelta = timedelta(minutes=30),
        **kwargs: Any,
    ) -> None:
        super().__init__(timeout=timeout, **kwargs)
        self.image = image
        self.context_folder = context
        self.builder = builder
        self.storage_conn_id = storage_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Check out, build, add to the layout, record. Doing it again changes nothing."""
        from airflow_pipeops.base import configuration as settings
        from airflow_pipeops.build import builders, containerfile, oci

        def make(name: str) -> builders.Builder:
            return builders.make(name, self._run, self.timeout, lambda line: self.log.info("%s", line))

        with no_retry(), tempfile.TemporaryDirectory(prefix="pipeops-build-") as folder:
            wanted = self.builder or settings.builder()
            if wanted != "auto":
                make(wanted)  # an unknown name is refused before anything is touched
            destination = self._destination()
            source, scratch = Path(folder, "source"), Path(folder, "scratch")
            scratch.mkdir()
            self._checkout(source)
            tree, file = self._locate(source)
            text = file.read_text(errors="replace")
            bases = containerfile.bases(text)
            builder = builders.choose(wanted, bases, make, lambda line: self.log.warning("%s", line))
            self.log.info("Building %s from %s with %s", self.image, self.commit[:12], builder.name)
            blobs, digest = builder.build(tree, file, scratch).read()
            new = oci.Layout(destination).add(blobs, digest)
            self.log.info("%s@%s %s", self.image, digest, "added" if new else "was already there")
            facts: dict[str, Any] = {
                "image": self.image,
                "digest": digest,
                "reference": f"{self.image}@{digest}",
                "builder": builder.name,
                "commit": self.commit,
            }
            body = {**facts, "bases": bases, "layout": destination.as_uri()}
            record_id = self.emit(context, "image", body, commit=self.commit)
        return {**facts, "record_id": record_id}

    def _destination(self) -> Path:
        """Return the layout's folder, after checking everything that can be checked without touching anything."""
        if not isinstance(self.image, str) or not _IMAGE.fullmatch(self.image) or len(self.image) > 200:
            raise InvalidInput(
                f"image {self.image!r} is not a valid name",
                field="image",
                value=self.image,
                remedy="Use lower-case letters, digits, dashes, dots and slashes; no tag and no digest.",
            )
        from airflow_pipeops.base.storage import StorageHook

        root = StorageHook(self.storage_conn_id).get_conn()
        if root.protocol not in ("file", "local", ""):
            raise InvalidInput(
                f"connection {self.storage_conn_id!r} names {root.protocol}:// storage; images are kept on file:// storage",
                field=f"{self.storage_conn_id}.host",
                value=str(root),
                remedy="Set its host to a folder that all workers share, such as file:///srv/artifacts.",
            )
        return Path(root.path) / self.image

    def _locate(self, source: Path) -> tuple[Path, Path]:
        tree = source / self.context_folder
        resolved = tree.resolve()
        if not resolved.is_relative_to(source.resolve()) or not resolved.is_dir():
            raise InvalidInput(
                f"context {self.context_folder!r} is not a folder of the repository",
                field="context",
                value=self.context_folder,
                remedy="Name a folder relative to the repository's root.",
            )
        for name in ("Containerfile", "Dockerfile"):
            file = resolved / name
            if file.is_file() and file.resolve().is_relative_to(source.resolve()):
                return resolved, file
        raise InvalidInput(
            f"there is no Containerfile or Dockerfile in {self.context_folder!r} of commit {self.commit[:12]}",
            field="context",
            value=self.context_folder,
            remedy="Add one, or name the folder that holds it in context=.",
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
