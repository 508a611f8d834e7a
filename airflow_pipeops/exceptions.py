"""Every error that airflow-pipeops raises.

The tree (``*`` is worth retrying; all others say the same thing on every attempt)::

    PipeOpsError
      x InvalidInput            a value given by a person or a file is wrong
        + NotConfigured         an Airflow connection is not there
        + MissingExtra          an optional library is not installed
        + Unsupported           the configured way to a system cannot do that at all
      x SystemFailure           an outside system did not do its part
        + Unreachable *         no answer, a 5xx, a time-out
        + AccessDenied          401, or 403: the credential or its permissions
        + NotFound              the named object is not there
        + BadResponse *         an answer that makes no sense
        + Conflict *            somebody else changed the same thing first
        + PodFailed             a pod could not begin or ran out of memory: nobody learned what it was for
        + PodLost *             a pod was taken away, or found no place: a node, a quota, an eviction
      x GateFailed              the judgement is "no", and was reached properly
        + TestsFailed
        + DataRejected
        + ModelRejected
        + DriftFound
        + PerformanceDropped
      x ReleaseFailed           the desired state did not come to life
        + SyncFailed
        + WaitTimeout
        + NotJudged               nor did anybody find out whether it is good
      x BuildFailed
      x WorkflowFailed

Airflow retry policies match on these types. An operator turns an error that is not worth retrying into
``AirflowFailException`` (see :func:`airflow_pipeops.delivery.operators.no_retry`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_pipeops.redaction import redacted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Where the pages of this project are read.
DOCS = "https://github.com/airflow-pipeops/airflow-pipeops/blob/main/docs"

#: Connection type -> its title in Airflow's form, and its heading in ``docs/connections.md``.
_CONNECTION_TYPES = {
    "argo_workflows": ("Argo Workflows", "argo-workflows"),
    "argocd": ("Argo CD", "argo-cd"),
    "container_registry": ("Container registry", "container-registry"),
    "git_repository": ("Git repository", "git-repository"),
    "http": ("HTTP", "http"),
    "kafka": ("Apache Kafka", "kafka"),
    "kubernetes": ("Kubernetes Cluster Connection", "kubernetes"),
    "mlflow": ("MLflow", "mlflow"),
    "pipeops_signing_key": ("Signing key", "signing-key"),
    "pipeops_storage": ("Folder or object storage", "folder-or-object-storage"),
}


class PipeOpsError(Exception):
    """Root of all errors here.

    What it says is free of secrets, also where it quotes what a server sent.

    :param message: what happened, in one sentence.
    :param remedy: what the reader can do about it.
    """

    #: Whether a later attempt may succeed without anybody changing anything.
    retryable = False

    def __init__(self, message: str, *, remedy: str = "") -> None:
        self.message = message = redacted(message)
        self.remedy = remedy
        super().__init__(f"{message.rstrip('.')}. {remedy}" if remedy else message)

    @staticmethod
    def together(errors: Sequence[PipeOpsError]) -> PipeOpsError:
        """Let one error tell what all of them say: the first that no retry mends, else the first.

        :param errors: at least one.
        :return: that error.
        """
        first = next((one for one in errors if not one.retryable), errors[0])
        said = list(dict.fromkeys(one.message.rstrip(".") for one in (first, *errors)))
        if len(said) > 1:
            first.message = "; ".join(said)
            first.args = (f"{first.message}. {first.remedy}" if first.remedy else first.message,)
        return first


class InvalidInput(PipeOpsError):
    """A value from a person, a connection or a file is wrong; nothing was touched.

    :param message: what is wrong, in one sentence, without secrets.
    :param field: the name under which the reader knows the value.
    :param value: the offending value (never a secret), or ``None`` where it is missing.
    :param remedy: what the reader can do about it.
    """

    def __init__(self, message: str, *, field: str = "", value: object = None, remedy: str = "") -> None:
        self.field = field
        self.value = value
        super().__init__(message, remedy=remedy)


class NotConfigured(InvalidInput):
    """Airflow connections that are needed are not there.

    :param connections: connection id -> the type that it should have.
    """

    def __init__(self, connections: Mapping[str, str]) -> None:
        self.connections = dict(connections)
        named = [f"{name!r}{_of_type(kind)}" for name, kind in self.connections.items()]
        anchors = {_CONNECTION_TYPES.get(kind, ("", ""))[1] for kind in self.connections.values()}
        anchor = f"#{anchors.pop()}" if len(anchors) == 1 and "" not in anchors else ""
        super().__init__(
            f"{'a connection is' if len(named) == 1 else 'connections are'} missing: {', '.join(named)}",
            field=", ".join(self.connections),
            remedy="Make it under Admin - Connections, with 'airflow connections add', or by an environment variable: "
            f"{DOCS}/connections.md{anchor}",
        )


def _of_type(kind: str) -> str:
    title = _CONNECTION_TYPES.get(kind, ("", ""))[0]
    return f" of type {title} ({kind})" if title else f" of type {kind!r}" * bool(kind)


class MissingExtra(InvalidInput):
    """An optional library is needed and not installed.

    :param library: its name.
    :param extra: of this package, which installs it.
    """

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(
            f"the library {library!r} is not installed",
            field=library,
            remedy=f"Install it with: pip install 'airflow-pipeops[{extra}]'",
        )


class Unsupported(InvalidInput):
    """The way to a system that the connection configures cannot do what was asked; another one can."""


class SystemFailure(PipeOpsError):
    """An outside system (Git, Argo CD, a registry, a store) did not do its part."""


class Unreachable(SystemFailure):
    """No usable answer: connection refused, time-out, 429 or 5xx."""

    retryable = True
    #: Seconds for which the server asked to be left alone; 0 where it asked for nothing.
    retry_after = 0.0


class AccessDenied(SystemFailure):
    """The credential is wrong, expired, or lacks a permission."""


class NotFound(SystemFailure):
    """The named object does not exist, or the credential may not see it."""


class BadResponse(SystemFailure):
    """The other side answered with something that makes no sense (truncated, of another schema)."""

    retryable = True


class Conflict(SystemFailure):
    """Somebody else changed the same thing first, more often than we are willing to try again."""

    retryable = True


class PodFailed(SystemFailure):
    """A pod could not do its work for reasons that are not the work's: its image, its memory, what is mounted in it."""


class PodLost(SystemFailure):
    """A pod was taken from its node, or found none in time; another may fare better."""

    retryable = True


class GateFailed(PipeOpsError):
    """A gate judged, and said no."""


class TestsFailed(GateFailed):
    """Tests of a source tree failed."""

    __test__ = False  # pytest would otherwise try to collect it


class DataRejected(GateFailed):
    """A data-quality gate refused a batch."""


class ModelRejected(GateFailed):
    """A challenger was not better than the champion."""


class DriftFound(GateFailed):
    """A batch has drifted, live state differs from Git, or nobody can tell; and that was to fail the task."""


class PerformanceDropped(GateFailed):
    """A model is worse than its reference, beyond what chance explains, or nobody can tell."""


class ReleaseFailed(PipeOpsError):
    """The desired state did not come to life."""


class SyncFailed(ReleaseFailed):
    """The GitOps controller tried and failed, or says it will not try."""


class WaitTimeout(ReleaseFailed):
    """The deadline passed first; the message names the rule the wait last stood at."""


class NotJudged(ReleaseFailed):
    """It was superseded, somebody else holds the release, or nobody can tell: that says nothing against a change."""


class BuildFailed(PipeOpsError):
    """An image or artifact could not be built."""


class WorkflowFailed(PipeOpsError):
    """A workflow ended, and not well; or it is gone, and nobody saw its end."""
