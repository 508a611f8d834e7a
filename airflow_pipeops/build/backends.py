"""Where images are built and tests run: one protocol for the worker itself, a cluster, and a workflow engine.

The operator decides what is wanted and judges what comes back, the same for every backend; a backend only does the work. The
key of a build, the digests of its base images, the look whether the image is already there, and reading the digest back from
the registry are the operator's, and so are the gates of a test run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from airflow_pipeops.base.arguments import imported, one_of
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

    from airflow.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from airflow_pipeops.build.process import Command, Finished

#: Backend -> its class; imported when a task asks for it, so that no DAG file pays for what it does not use.
BUILDS = {
    "local": "airflow_pipeops.build.local:LocalBuild",
    "kubernetes": "airflow_pipeops.build.cluster:KubernetesBuild",
    "argo_workflows": "airflow_pipeops.build.workflows:WorkflowsBuild",
}
TESTS = {
    "local": "airflow_pipeops.build.local:LocalTests",
    "kubernetes": "airflow_pipeops.build.cluster:KubernetesTests",
    "argo_workflows": "airflow_pipeops.build.workflows:WorkflowsTests",
}

Request = TypeVar("Request", contravariant=True)
Result = TypeVar("Result", covariant=True)


@dataclass(frozen=True)
class BuildRequest(JsonForm):
    """An image that is wanted.

    :param git_conn_id: connection of type ``git_repository`` with the source.
    :param commit: full SHA.
    :param context: folder of the repository that is built.
    :param file: path of the Containerfile in the repository.
    :param containerfile: its text, with every base image named by digest; what is built.
    :param image: repository of the image without registry, tag and digest, for example ``team/shop``.
    :param repository: the same with its registry, for example ``registry.example.com/team/shop``; empty for a folder.
    :param registry_conn_id: connection of the registry; empty for a folder.
    :param base_conn_ids: connections of further registries that base images come from.
    :param storage_conn_id: connection of the folder that holds OCI layouts, where there is no registry.
    :param tag: under which the image is pushed, and found again by whoever wants the same.
    :param arguments: build arguments; no secrets, since an image tells them to everybody.
    :param target: stage of the Containerfile to build; empty for the last.
    :param platforms: for example ``linux/amd64``; none for the builder's own.
    :param annotations: what the manifest says of its origin: revision, source, created.
    :param epoch: what every time stamp within the image is set to, in seconds (``SOURCE_DATE_EPOCH``). It is not the
        commit's time, which the annotations say: files that did not change are to be the same layers.
    :param builder: engine to use; ``auto`` for the backend's choice.
    :param timeout: for each step.
    """

    git_conn_id: str
    commit: str
    context: str = "."
    file: str = "Containerfile"
    containerfile: str = ""
    image: str = ""
    repository: str = ""
    registry_conn_id: str = ""
    base_conn_ids: tuple[str, ...] = ()
    storage_conn_id: str = ""
    tag: str = ""
    arguments: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    platforms: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    epoch: int = 0
    builder: str = "auto"
    timeout: timedelta = timedelta(minutes=30)


@dataclass(frozen=True)
class BuiltImage:
    """An image that was built, and is where it was wanted.

    :param digest: of its manifest, or of the index of several platforms.
    :param builder: what built it, for example ``buildah``.
    :param facts: what else is worth recording, as JSON, for example the digests of attestations.
    """

    digest: str
    builder: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TestRequest(JsonForm):
    """A test run that is wanted.

    :param git_conn_id: connection of type ``git_repository`` with the source.
    :param commit: full SHA.
    :param command: program and arguments; ``{junit}`` and ``{coverage}`` become the paths of the reports, and ``{shard}``
        and ``{shards}`` numbers; empty for pytest.
    :param env: environment variables; no secrets.
    :param image: in which the command runs, by digest; empty on the worker.
    :param shard: number of this part of the tests, from 0.
    :param shards: into how many parts the tests are divided.
    :param reruns: how often the command is run again while tests fail.
    :param coverage: whether a coverage report (Cobertura) is wanted.
    :param timeout: for each run of the command.
    """

    __test__ = False

    git_conn_id: str
    commit: str
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    image: str = ""
    shard: int = 0
    shards: int = 1
    reruns: int = 0
    coverage: bool = False
    timeout: timedelta = timedelta(minutes=15)


@dataclass(frozen=True)
class Attempt:
    """One run of the test command.

    :param status: exit status; negative for a signal.
    :param timed_out: whether the deadline ended it.
    :param seconds: how long it ran.
    :param output: the end of what it said.
    :param report: bytes of the JUnit file; ``None`` if it left none.
    :param coverage: bytes of the coverage file; ``None`` if it left none.
    """

    status: int
    timed_out: bool
    seconds: float
    output: str
    report: bytes | None = None
    coverage: bytes | None = None


@dataclass(frozen=True)
class TestResult:
    """What a test run left, unjudged.

    :param attempts: at least one; all but the last failed.
    :param facts: what else is worth recording, as JSON, for example the pod.
    """

    __test__ = False

    attempts: tuple[Attempt, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Waiting:
    """The work goes on elsewhere; the task leaves its slot until the trigger fires.

    :param trigger: whose event :meth:`Backend.resume` is given.
    :param timeout: after which the task fails; ``None`` where the trigger itself knows.
    """

    trigger: BaseTrigger
    timeout: timedelta | None = None


@dataclass(frozen=True)
class Worker:
    """What the running task lends to a backend.

    :param context: Airflow's, of the running task.
    :param key: the same for each retry of the task, another after it was cleared; names what is made on the other side.
    :param source: returns a folder with the source tree; of a build, without what its ignore file names.
    :param run: runs a child process, which the task's end ends.
    :param say: writes a line into the task's log.
    """

    context: Context
    key: str
    source: Callable[[], Path]
    run: Callable[[Command], Finished]
    say: Callable[[str], None]


class Backend(Protocol[Request, Result]):
    """Where the work is done. It is made anew for each call, from the operator's ``backend_options``.

    Doing the same request again is the same act: it finds what an earlier attempt began, by the worker's key.
    """

    def start(self, request: Request, worker: Worker) -> Result | Waiting:
        """Begin the work, or find it begun.

        :param request: what is wanted.
        :param worker: what the task lends.
        :return: the result, or what to wait for.
        """
        ...

    def resume(self, request: Request, worker: Worker, event: Mapping[str, Any]) -> Result | Waiting:
        """Go on after the trigger of a :class:`Waiting` fired, in another process.

        :param request: as :meth:`start` was given it.
        :param worker: what the task lends.
        :param event: the trigger's payload.
        :return: the result, or what to wait for next.
        """
        ...

    def kill(self) -> None:
        """End what runs: somebody killed the task. In the process in which :meth:`start` or :meth:`resume` runs."""
        ...


class BuildBackend(Backend[BuildRequest, BuiltImage], Protocol):
    """Where images are built: what it makes of a request is a part of the key, too."""

    #: Whether the content of files that Git LFS keeps is fetched before the build.
    lfs: bool

    def platform(self) -> str:
        """Tell for which platform images are where a request names none.

        :return: for example ``linux/amd64``; where only the build tells, such as on a cluster's nodes, what names the
            place, so that what was built in another place is not taken for it.
        """
        ...


TestBackend = Backend[TestRequest, TestResult]


def make(kinds: Mapping[str, str], name: str, options: Mapping[str, Any]) -> Any:
    """Make a backend.

    :param kinds: :data:`BUILDS` or :data:`TESTS`.
    :param name: one of them, or the import path of a class of one's own, ``package.module:Class``.
    :param options: arguments of its class.
    :return: the backend.
    :raises InvalidInput: for an unknown name, and for options that it does not take.
    """
    path = (
        name
        if isinstance(name, str) and ":" in name
        else kinds[one_of("backend", name, tuple(kinds), called="backend")]
    )
    made = imported(path, "backend")
    try:
        return made(**options)
    except TypeError as error:
        raise InvalidInput(
            f"backend {name!r} does not take these backend_options: {error}",
            field="backend_options",
            value=sorted(options),
            remedy=f"See the arguments of {made.__name__}.",
        ) from error
