"""Say how live state differs from the desired state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow_pipeops.argocd.application import observe, with_managed
from airflow_pipeops.argocd.differences import differences, unified
from airflow_pipeops.argocd.operators.base import ArgoCDOperator
from airflow_pipeops.base.arguments import one_of
from airflow_pipeops.delivery.differences import LIMIT, fingerprint
from airflow_pipeops.delivery.healed import DifferencesOperator
from airflow_pipeops.delivery.operators import no_retry
from airflow_pipeops.exceptions import Conflict, DriftFound, SyncFailed
from airflow_pipeops.git.forges import first_commit_url
from airflow_pipeops.redaction import redacted
from airflow_pipeops.waits.status import Observed

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.argocd.clients.rest import ArgoCDClient

#: Conditions after which a clean comparison proves nothing.
_DOUBTS = ("ComparisonError", "InvalidSpecError", "UnknownError")


class ArgoCDDiffOperator(ArgoCDOperator, DifferencesOperator):
    """Compare live with desired state, object by object, as Argo CD does: what it is told to ignore is ignored.

    Nothing is changed, and no dry run is made: that would replace the state of the last operation. A clean comparison is
    taken for one only if the application says nothing against it: with a ``ComparisonError`` the answer is ``unknown``, and
    so it is where the application changed each time while its objects were read.

    Returns ``{app, revision, sync, verdict, reason, differences, more, conditions, refreshed, fingerprint, diff_uri, url,
    record_id}``; ``verdict`` is ``clean``, ``different`` or ``unknown``. Each difference names its fields and never their
    values. The whole text, with secrets masked, is stored as evidence at ``diff_uri``. With a ``deliverable``, what is not
    clean is recorded as *differences*, and once that it is clean again.

    :param refresh: have Argo CD compare anew first.
    :param on_difference: what is not clean is a result (``record``), fails the task (``fail``), or skips what comes
        directly after it (``skip``).
    :param on_clean: go on (``continue``), or ``skip`` what comes directly after it: for a branch that heals.
    """

    def __init__(
        self,
        *,
        refresh: bool = True,
        on_difference: Literal["record", "fail", "skip"] = "record",
        on_clean: Literal["continue", "skip"] = "continue",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.refresh = refresh
        self.on_difference = one_of("on_difference", on_difference, ("record", "fail", "skip"))
        self.on_clean = one_of("on_clean", on_clean, ("continue", "skip"))

    def execute(self, context: Context) -> dict[str, Any]:
        """Compare."""
        with no_retry():
            observed, refreshed, managed, why = self._look()
            if self.refresh and not refreshed:
                self.log.warning("%s did not acknowledge the refresh: the comparison may be old", self.app)
            result = self._result(observed, refreshed, managed, why)
            if self.worth_telling(context, self.app, result["verdict"]):
                result = {**result, **self._kept(context, result, unified(managed))}
            return self._ended(context, result)

    def _look(self) -> tuple[Observed, bool, list[dict[str, Any]], str]:
        """Return the application, whether it was refreshed, its objects, and why nobody can tell how they differ."""
        hook = self.hook()

        async def work(client: ArgoCDClient) -> tuple[Observed, bool, list[dict[str, Any]], str]:
            ref = hook.ref(self.app)
            fresh = await client.refresh(ref) if self.refresh else None
            application = fresh if fresh is not None else await client.get(ref)
            why: str = ""
            managed: list[dict[str, Any]] = []
            try:
                application, managed = await with_managed(client, ref, application)
            except Conflict as error:
                why = error.message
            except SyncFailed:
                # The server will not compare what the controller could not.
                if not _doubtful(observe(application)):
                    raise
            return observe(application), fresh is not None, managed, why

        observed, refreshed, managed, why = hook.run(work)
        repositories = [source.repo for source in observed.sources]
        self.commit_url = first_commit_url(repositories, observed.desired)
        return observed, refreshed, managed, why

    def _result(
        self, observed: Observed, refreshed: bool, managed: Sequence[Mapping[str, Any]], why: str
    ) -> dict[str, Any]:
        found = differences(managed)
        verdict = "different" if found else "unknown" if why or _doubtful(observed) else "clean"
        names = ", ".join(f"{item.kind}/{item.name} {item.change}" for item in found[:5])
        said = "; ".join(redacted(item.message)[:500] for item in observed.conditions[:2])
        return {
            "app": self.app,
            "revision": observed.desired[0] if len(observed.desired) == 1 else list(observed.desired),
            "sync": observed.sync,
            "verdict": verdict,
            "reason": "" if verdict == "clean" else why or names or said or f"sync {observed.sync}",
            "differences": [item.to_json() for item in found[:LIMIT]],
            "more": max(0, len(found) - LIMIT),
            "conditions": [
                {"type": item.type, "message": redacted(item.message)[:500]}
                for item in observed.conditions[:LIMIT]
            ],
            "refreshed": refreshed,
            "fingerprint": fingerprint(found),
            "diff_uri": "",
            "url": self.argocd_url,
            "record_id": None,
        }

    def _kept(self, context: Context, result: Mapping[str, Any], text: str) -> dict[str, Any]:
        """Store the text, and record what was found."""
        evidence = []
        if text:
            from airflow_pipeops.delivery.evidence import store

            evidence = [store(text.encode(), f"{self.app}.diff", media_type="text/x-diff")]
        body = {
            **{
                key: result[key]
                for key in ("app", "revision", "sync", "verdict", "reason", "more", "fingerprint")
            },
            "resources": [{**item, "fields": item["fields"][:5]} for item in result["differences"]],
            "conditions": [item["type"] for item in result["conditions"]],
        }
        return {
            "diff_uri": evidence[0].uri if evidence else "",
            "record_id": self.emit(context, "differences", body, evidence=evidence),
        }

    def _ended(self, context: Context, result: dict[str, Any]) -> dict[str, Any]:
        clean = result["verdict"] == "clean"
        why = result["reason"]
        self.log.info("%s: %s%s", self.app, result["verdict"], "" if clean else f": {why}")
        if clean and self.on_clean == "skip":
            self.skip_rest(context, result)
        if not clean and self.on_difference == "skip":
            self.skip_rest(context, result)
        if not clean and self.on_difference == "fail":
            more = f" and {result['more']} more" if result["more"] else ""
            what = "differs from Git" if result["verdict"] == "different" else "cannot be compared with Git"
            raise DriftFound(
                f"Argo CD app {self.app} {what}: {why}{more}",
                remedy=f"See {result['diff_uri'] or self.argocd_url}.",
            )
        return result


def _doubtful(observed: Observed) -> bool:
    """Whether a comparison without differences would prove nothing."""
    return observed.sync not in ("Synced", "OutOfSync") or observed.condition(*_DOUBTS) is not None
