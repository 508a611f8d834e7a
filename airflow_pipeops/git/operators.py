"""Take up a commit; change the desired state by a commit; revert one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_pipeops.base.arguments import mapping, not_empty, positive
from airflow_pipeops.delivery.events import started_by
from airflow_pipeops.delivery.holds import HOLDS, demand_promotable
from airflow_pipeops.delivery.ledger.checkpoints import to_commit
from airflow_pipeops.delivery.links import CommitLink
from airflow_pipeops.delivery.operators import (
    DeliveryOperator,
    idempotency_key,
    no_retry,
    order_of,
    source_of,
)
from airflow_pipeops.git.forges import commit_url
from airflow_pipeops.git.hook import GitHook

#: Characters of a value above which a record names its digest.
_LONG = 500

if TYPE_CHECKING:
    from datetime import timedelta

    from airflow.sdk import Context

    from airflow_pipeops.git.repository import GitRepository


class _GitOperator(DeliveryOperator):
    """What the operators share that ask a repository."""

    git_conn_id: str

    def __init__(self, *, git_timeout: timedelta | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.git_timeout = None if git_timeout is None else positive("git_timeout", git_timeout)

    def client(self) -> GitRepository:
        """Open the repository."""
        return GitHook(self.git_conn_id, patience=self.git_timeout).get_conn()


class ResolveCommitOperator(_GitOperator):
    """Say which commit this run is about, and record it.

    :param git_conn_id: connection of the repository.
    :param git_timeout: time without progress after which Git is ended, instead of the connection's ``timeout``.
    :param revision: a commit id, branch or tag. Empty: the newest commit among the pushes that started this run, else
        the tip of the branch. Several pushes may start one run; then the older ones are contained in the newest. A run
        that only a repeated or a posted push started is skipped.
    :return: ``commit``, ``subject``, ``author``, ``branch``, ``record_id``.
    """

    template_fields: Sequence[str] = ("git_conn_id", "revision", *DeliveryOperator.template_fields)
    emits = ("commit",)
    operator_extra_links = (CommitLink(),)
    ui_color = "#e8f1ff"

    def __init__(self, *, git_conn_id: str = "pipeops_app_repo", revision: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.git_conn_id = git_conn_id
        self.revision = revision

    def execute(self, context: Context) -> dict[str, Any]:
        """Resolve and record the commit."""
        with no_retry():
            client = self.client()
            branch, revision = client.branch, self.revision
            if not revision:
                pushed = self._pushed(context)
                revision, branch = pushed.get("commit", ""), pushed.get("branch") or branch
            found = client.describe(revision)
            self.commit_url = commit_url(client.display_url, found.sha)
            facts = {
                "commit": found.sha,
                "subject": found.subject,
                "author": found.author,
                "branch": branch,
            }
            body = {**facts, "time": found.time, "repository": client.display_url}
            record_id = self.emit(context, "commit", body, commit=found.sha)
            self.log.info("%s is %s, %r by %s", revision or branch, found.sha, found.subject, found.author)
        return {**facts, "record_id": record_id}

    def _pushed(self, context: Context) -> dict[str, Any]:
        """Return the payload of the newest push to this repository that started the run."""
        started = started_by(context)
        if started.by_nothing:
            from airflow.sdk.exceptions import AirflowSkipException

            raise AirflowSkipException(f"Nothing that counts started this run: {'; '.join(started.left_out)}")
        pushes = [
            payload
            for payload in started.signals
            if payload.get("commit") and payload.get("git_conn_id", self.git_conn_id) == self.git_conn_id
        ]
        for older in pushes[:-1]:
            self.log.info("The push of %s also started this run", older["commit"])
        return pushes[-1] if pushes else {}


class DesiredStateOperator(_GitOperator):
    """What the operators that write to the desired state share."""

    emits: ClassVar[tuple[str, ...]] = ("change",)
    operator_extra_links = (CommitLink(),)
    ui_color = "#fff3d6"

    def _trailers(self, context: Context) -> dict[str, str]:
        source = source_of(context)
        task = str(source["task"]) + (
            f"[{source['map_index']}]" if source["map_index"] not in (None, -1) else ""
        )
        trailers = {
            "Airflow-Dag": str(source["dag"]),
            "Airflow-Run": str(source["run"]),
            "Airflow-Task": task,
        }
        if self.deliverable is not None:
            trailers["PipeOps-Deliverable"] = self.deliverable.name
            trailers["PipeOps-Environment"] = str(self.environment)
            trailers |= to_commit()
        return trailers

    def _where(self, client: GitRepository) -> dict[str, Any]:
        return {"repository": client.display_url, "branch": client.branch}


class PromotingOperator(DesiredStateOperator):
    """What the operators share that bring something new to an environment: none acts while the remediator holds it.

    :param holds_conn_id: connection of the remediator's history; empty: nothing is asked.
    """

    def __init__(self, *, holds_conn_id: str = HOLDS, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.holds_conn_id = holds_conn_id

    def demand_promotable(self) -> None:
        """Refuse to act while promotions of the deliverable to the environment are held.

        :raises GateFailed: if they are.
        """
        if self.holds_conn_id and self.deliverable is not None and self.environment:
            demand_promotable(self.deliverable.name, self.environment, self.holds_conn_id)


class GitOpsCommitOperator(PromotingOperator):
    """Set values of a YAML or JSON file in the desired state, by one commit and push.

    Only the bytes of the values change. What stands at several places by anchor and alias is refused, with their lines; an
    alias itself, and a key that a merge key (``<<``) brings, are written out at the one place. A tag beside a digest that
    stays is refused: the digest is what is deployed.

    However often the task is tried, and whatever dies on the way, the same values make one commit. If the file has the
    values already, nothing is committed. If somebody has changed what an earlier attempt set, a retry fails and names the
    later commit; a task that a person has cleared sets the values anew.

    :param git_conn_id: connection of the repository.
    :param git_timeout: time without progress after which Git is ended, instead of the connection's ``timeout``.
    :param file: path of the file in the repository.
    :param set: new value by path, such as ``{"images[name=web].digest": "sha256:..."}``. A string is written as a string,
        also where it looks like a number; give a number for a number.
    :param message: of the commit.
    :param expect: values that must be there before, by path, or nothing is written.
    :param holds_conn_id: connection of the remediator's history: while that holds promotions of the deliverable to the
        environment, nothing is committed. Empty: nothing is asked. Where the default is not configured, nothing is held.
    :return: ``commit`` (the tip, where nothing had to change), ``changed``, ``file``, ``set``, ``previous``, ``record_id``.
    """

    template_fields: Sequence[str] = (
        "git_conn_id", "file", "set", "message", "expect", *DeliveryOperator.template_fields,
    )  # fmt: skip
    template_fields_renderers = {"set": "json", "expect": "json"}

    def __init__(
        self,
        *,
        file: str,
        set: Mapping[str, Any],
        message: str,
        expect: Mapping[str, Any] | None = None,
        git_conn_id: str = "pipeops_gitops_repo",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.git_conn_id = git_conn_id
        self.file = file
        self.set = set
        self.message = message
        self.expect = expect

    def execute(self, context: Context) -> dict[str, Any]:
        """Commit the values and record the change."""
        with no_retry():
            mapping("set", self.set, "Give {path: value}.")
            self.demand_promotable()
            client = self.client()
            change = client.commit_edit(
                self.file, self.set, self.message,
                key=idempotency_key(context), order=order_of(context),
                expect=self.expect, trailers=self._trailers(context),
            )  # fmt: skip
            self.commit_url = commit_url(client.display_url, change.commit)
            facts = {
                "commit": change.commit,
                "changed": change.changed,
                "file": self.file,
                "set": dict(self.set),
                "previous": change.previous,
            }
            said = "Changed by" if change.changed else "Nothing to change; the tip is"
            self.log.info("%s: %s %s", self.file, said, change.commit)
            shown = {"set": _shown(self.set), "previous": _shown(change.previous)}
            record_id = self.emit(context, "change", {**facts, **shown, **self._where(client)})
        return {**facts, "record_id": record_id}


def _shown(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as a record has them: of a long text, such as a whole prompt, its digest. Git has the text."""
    return {
        path: f"sha256:{hashlib.sha256(value.encode()).hexdigest()} ({len(value):,} characters)"
        if isinstance(value, str) and len(value) > _LONG
        else value
        for path, value in values.items()
    }


class GitOpsRevertOperator(DesiredStateOperator):
    """Give the files that a commit touched the content they had before it, by one commit and push.

    A file that was changed again since gets back the values that the commit set, if they still stand, without the keys and
    list items that it added, and with those that it removed: in a file that several services share, the others stay as they
    are. Where one of these was changed again, it refuses: what came later is not thrown away.

    :param git_conn_id: connection of the repository.
    :param git_timeout: time without progress after which Git is ended, instead of the connection's ``timeout``.
    :param commit: the commit to revert.
    :param reason: why; it goes into the commit message.
    :return: ``commit`` (the tip, where all was restored already), ``changed``, ``restored`` (files), ``reverts``
        (the commit), ``record_id``.
    """

    emits = ("rollback", "change")
    template_fields: Sequence[str] = ("git_conn_id", "commit", "reason", *DeliveryOperator.template_fields)

    def __init__(
        self, *, commit: str, reason: str, git_conn_id: str = "pipeops_gitops_repo", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.git_conn_id = git_conn_id
        self.commit = commit
        self.reason = reason

    def execute(self, context: Context) -> dict[str, Any]:
        """Revert the commit and record the change."""
        with no_retry():
            not_empty("commit", self.commit, "there is no commit to revert", "Name the commit.")
            client = self.client()
            done = client.revert(
                self.commit, self.reason,
                key=idempotency_key(context), order=order_of(context), trailers=self._trailers(context),
            )  # fmt: skip
            self.commit_url = commit_url(client.display_url, done.commit)
            facts = {
                "commit": done.commit,
                "changed": done.changed,
                "restored": list(done.restored),
                "reverts": self.commit,
            }
            said = "was reverted by" if done.changed else "is reverted already; the tip is"
            self.log.info("%s %s %s", self.commit, said, done.commit)
            body = {**facts, "reason": self.reason, **self._where(client)}
            undone = {"reverts": self.commit, "revision": done.commit, "reason": self.reason, "how": "revert"}
            rollback = self.emit(context, "rollback", undone)
            record_id = self.emit(context, "change", body, parents=[rollback] if rollback else [])
        return {**facts, "record_id": record_id}
