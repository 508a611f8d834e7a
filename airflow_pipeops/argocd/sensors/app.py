"""Wait until a revision is live and healthy: in one application, in many, or in all that a selector matches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow_pipeops.argocd.groups import failures, joined, meant, selected, standing
from airflow_pipeops.argocd.hook import ArgoCDHook
from airflow_pipeops.argocd.links import app_url
from airflow_pipeops.argocd.operators.base import ArgoCDOperator, ArgoCDWaitOperator
from airflow_pipeops.argocd.waits import Decided
from airflow_pipeops.base.arguments import mapping, one_of
from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.delivery.operators import checked, no_retry
from airflow_pipeops.exceptions import InvalidInput, PipeOpsError
from airflow_pipeops.git.ancestry import demand_set
from airflow_pipeops.waits.expectation import Match, Policy
from airflow_pipeops.waits.sources import revisions_of
from airflow_pipeops.waits.verdict import Expectation

if TYPE_CHECKING:
    from airflow.sdk import Asset, Context

_CHOICES = {
    "match": ("exact", "contains", "any"),
    "on_suspended": ("wait", "accept", "fail"),
    "on_out_of_sync": ("wait", "accept", "fail"),
    "on_manual": ("wait", "fail"),
    "on_window": ("wait", "fail"),
}
#: Of how many applications a record names each; all of them are in its evidence.
_NAMED = 50


class ArgoCDAppSensor(ArgoCDWaitOperator):
    """Wait until applications run a revision, synced and healthy, and record the release.

    "Green right now" is not enough: Argo CD must have compared *this* revision (or, with ``match="contains"``, one that
    includes it), applied it, and been healthy since. What will not heal by itself fails at once, and says why.

    For one application, returns ``{app, revision, compared, health, sync, rule, reason, url, images, record_id}``, where
    ``revision`` is the expected one and ``compared`` the one that is live, which may be newer. With ``change``,
    ``changed`` says whether that task had anything to change. For many, returns
    ``{apps, live, summary, record_id}``, where ``apps`` is that by name. All wait in one deferral.

    :param app: name of the application; or
    :param apps: names, or a mapping from name to revision; or
    :param selector: a label selector, evaluated when the task starts. All three are templated.
    :param revision: full commit id in the repository of the desired state; for an application with several sources
        a dict from source (its index from 0, or its URL) to revision. Templated.
    :param match: ``exact``, ``contains`` (needs ``git_conn_id``) or ``any`` (green at the next comparison will do).
        By default ``contains`` where ``git_conn_id`` is given, else ``exact``.
    :param change: what the operator returned that committed the change; templated. No release is recorded of a commit whose
        values are not set any more at the revision that is live, which ``git_conn_id`` tells: by default those that
        ``revision`` changed, with this those of the task, also where it found nothing to change.
    :param require_applied: a commit that changes nothing in this application does not do.
    :param on_suspended: ``wait``, ``accept`` or ``fail`` where something in the application is suspended.
    :param on_out_of_sync: ``wait``, ``accept`` or ``fail`` where something still differs after a sync.
    :param on_manual: ``fail`` or ``wait`` where auto-sync is off.
    :param on_window: ``wait`` or ``fail`` where a sync window is closed.
    :param fail_fast: of many: fail as soon as one does. Else wait for all of them, and fail then.
    :param deliverables: of many: the deliverable of each application, to be recorded one by one. With ``deliverable``, all
        of them together are recorded as one release.
    """

    template_fields: Sequence[str] = (
        "apps",
        "selector",
        "revision",
        "change",
        *ArgoCDOperator.template_fields,
    )
    emits = ("release",)

    def __init__(
        self,
        *,
        app: str = "",
        apps: Sequence[str] | Mapping[str, Any] = (),
        selector: str = "",
        revision: str | Mapping[str, str] = "",
        change: Any = None,
        match: Match | None = None,
        require_applied: bool = False,
        on_suspended: Policy = "wait",
        on_out_of_sync: Policy = "wait",
        on_manual: Literal["fail", "wait"] = "fail",
        on_window: Literal["fail", "wait"] = "wait",
        fail_fast: bool = True,
        deliverables: Mapping[str, Deliverable] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(app=app, **kwargs)
        self.apps, self.selector = apps, selector
        self.revision, self.change = revision, change
        self.match: Match = match or ("contains" if self.git_conn_id else "exact")
        self.require_applied = require_applied
        self.on_suspended, self.on_out_of_sync = on_suspended, on_out_of_sync
        self.on_manual, self.on_window = on_manual, on_window
        self.fail_fast = fail_fast
        self.deliverables = _each(deliverables)
        self._check()
        for one in self.deliverables.values():
            self.name_outlets(one)

    @classmethod
    def outlets_of(cls, arguments: Mapping[str, Any]) -> list[Asset]:
        """Name the assets of the deliverables of many applications, too."""
        found = super().outlets_of(arguments)
        for one in _each(arguments.get("deliverables")).values():
            found += super().outlets_of({**arguments, "deliverable": one})
        return list(dict.fromkeys(found))

    def _check(self) -> None:
        given = [name for name in ("app", "apps", "selector") if getattr(self, name)]
        if len(given) != 1:
            raise InvalidInput(
                f"{' and '.join(given) or 'no application'} given",
                field="app",
                remedy="Give one of app, apps and selector.",
            )
        for field, allowed in _CHOICES.items():
            one_of(field, getattr(self, field), allowed)
        for name, one in self.deliverables.items():
            if not isinstance(one, Deliverable):
                raise InvalidInput(
                    f"the deliverable of {name} is {one!r}",
                    field="deliverables",
                    value=one,
                    remedy="Give a mapping from the application's name to a Deliverable.",
                )

    def hook(self) -> ArgoCDHook:
        """Return the hook, and set the link to the application; of many, to the list of them."""
        if self.app:
            return super().hook()
        hook = ArgoCDHook(
            self.argocd_conn_id, project=self.project or "", app_namespace=self.app_namespace or ""
        )
        url = hook.settings()["url"].rstrip("/")
        self.argocd_url = f"{url}/applications" if url else ""
        return hook

    def expectation(self, revision: Any = None) -> Expectation:
        """Return what must come true.

        :param revision: another one than the operator's own.
        :return: the expectation, with the operator's durations.
        :raises InvalidInput: without a revision, unless any will do.
        """
        wanted = self.revision if revision is None else revision
        return self.within(
            Expectation(
                revisions={} if self.match == "any" else revisions_of(wanted),
                match=self.match,
                oracle=bool(self.git_conn_id),
                require_applied=self.require_applied,
                on_suspended=self.on_suspended,
                on_out_of_sync=self.on_out_of_sync,
                on_manual=self.on_manual,
                on_window=self.on_window,
                project=self.project or "",
            )
        )

    def execute(self, context: Context) -> dict[str, Any]:
        """Wait."""
        with no_retry():
            if self.app:
                return self._finish(context, self.wait(self.expectation(), "execute_complete"))
            wanted = self._wanted()
            expectations = {name: self.expectation(revision) for name, revision in wanted.items()}
            self.log.info("Waiting for %d applications: %s", len(wanted), ", ".join(list(wanted)[:_NAMED]))
            decided = self.wait_all(expectations, "execute_many", fail_fast=self.fail_fast)
            return self._finish_many(context, decided)

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on after the deferral; records are emitted here, since a trigger cannot."""
        with no_retry():
            return self._finish(context, self.resumed(event))

    def execute_many(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on after the deferral of many."""
        with no_retry():
            return self._finish_many(context, self.resumed_all(event))

    def _wanted(self) -> dict[str, Any]:
        """Return the expected revision by name of the application."""
        if not self.selector:
            wanted = meant(self.apps, self.revision)
        else:
            hook = self.hook()
            project = hook.ref("any").project
            items = hook.run(lambda client: client.applications(project=project, selector=self.selector))
            names, self.app_namespace = selected(items, self.selector, self.app_namespace or "")
            wanted = dict.fromkeys(names, self.revision)
        stray = [name for name in self.deliverables if name not in wanted]
        if stray:
            raise InvalidInput(
                f"{', '.join(stray)} has a deliverable and is not waited for",
                field="deliverables",
                value=stray,
                remedy="Name the applications as in apps.",
            )
        return wanted

    def _finish(self, context: Context, decided: Decided) -> dict[str, Any]:
        self.demand(decided)
        result = self._result(self.app, decided, self.argocd_url)
        if self.deliverable:
            demand_set(self.git_conn_id, decided, result["compared"], self.change)
        return {**result, "record_id": self.emit(context, "release", result)}

    def _finish_many(self, context: Context, decided: Mapping[str, Decided]) -> dict[str, Any]:
        failed = failures(decided)
        if failed:
            self._fail(decided, failed[0])
        found, server = {}, self.hook().settings()["url"]
        for app, one in decided.items():
            for note in one.verdict.details.get("warnings") or ():
                self.log.warning("%s: %s", app, note)
            result = self._result(app, one, app_url(server, str(one.summary.get("namespace") or ""), app))
            about = self.deliverables.get(app)
            if about or self.deliverable:
                demand_set(self.git_conn_id, one, result["compared"], self.change)
            record = self.emit(context, "release", result, deliverable=about) if about else None
            found[app] = {**result, "record_id": record}
        return {
            "apps": found,
            "live": len(found),
            "summary": standing(decided),
            "record_id": self._emit_all(context, found) if self.deliverable else None,
        }

    def _fail(self, decided: Mapping[str, Decided], app: str) -> None:
        """Raise the error of one, with where the others stand."""
        # A selector's namespace was found out by the worker that asked; this may be another one.
        self.app_namespace = self.app_namespace or self._namespace(decided[app])
        try:
            self.demand(decided[app], app)
        except PipeOpsError as error:
            raise decided[app].error(joined(str(error), decided)) from error

    def _namespace(self, decided: Decided) -> str:
        return str(decided.summary.get("namespace") or "") if self.selector else ""

    def _result(self, app: str, decided: Decided, url: str) -> dict[str, Any]:
        seen, verdict = decided.summary, decided.verdict
        return {
            "app": app,
            "revision": self._expected(decided) or seen["revision"],
            "compared": seen["revision"],
            **({"changed": bool(self.change.get("changed"))} if isinstance(self.change, Mapping) else {}),
            "health": seen["health"],
            "sync": seen["sync"],
            "rule": verdict.rule,
            "reason": verdict.reason,
            "url": url,
            "images": seen["images"],
        }

    @staticmethod
    def _expected(decided: Decided) -> Any:
        """Return the revision as it was given: alone, or by source."""
        given = dict(decided.expectation.revisions)
        return given["*"] if list(given) == ["*"] else given

    def _emit_all(self, context: Context, found: Mapping[str, Mapping[str, Any]]) -> str | None:
        """Record all of them as one release."""
        import json

        from airflow_pipeops.delivery.evidence import store

        short = ("revision", "compared", "health")
        body: dict[str, Any] = {
            "app": ", ".join(list(found)[:_NAMED]),
            "apps": {app: {key: one[key] for key in short} for app, one in list(found.items())[:_NAMED]},
            "live": len(found),
            **{name: _agreed(one[name] for one in found.values()) for name in ("revision", "health", "sync")},
            "url": self.argocd_url,
            "images": sorted({image for one in found.values() for image in one["images"]})[:_NAMED],
        }
        if len(found) <= _NAMED:
            return self.emit(context, "release", body)
        text = json.dumps(found, indent=1, sort_keys=True).encode()
        evidence = [store(text, "applications.json", media_type="application/json")]
        return self.emit(context, "release", body, evidence=evidence)


def _agreed(values: Iterable[Any]) -> Any:
    """Return what all say; none if they differ."""
    first, *others = values
    return first if all(one == first for one in others) else None


def _each(deliverables: Any) -> dict[str, Deliverable]:
    """Read the deliverable of each application."""
    given = mapping("deliverables", deliverables or {}, "Give {application: Deliverable(...)}.")
    return {name: found for name, one in given.items() if (found := checked(one))}
