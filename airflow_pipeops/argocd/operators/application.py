"""Declare an Application: create it, change it, or delete it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow_pipeops.argocd.acts import Act
from airflow_pipeops.argocd.clients.requests import refused
from airflow_pipeops.argocd.hook import ArgoCDHook
from airflow_pipeops.argocd.manifest import merge_patch, paths, read
from airflow_pipeops.argocd.operators.acts import ArgoCDActOperator
from airflow_pipeops.argocd.operators.base import ArgoCDOperator
from airflow_pipeops.argocd.waits import Decided
from airflow_pipeops.base.arguments import one_of
from airflow_pipeops.delivery.operators import no_retry
from airflow_pipeops.exceptions import (
    Conflict,
    InvalidInput,
    NotFound,
    PipeOpsError,
    ReleaseFailed,
    Unreachable,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.argocd.clients.protocol import AppRef

#: How often a change that met another one is computed anew.
_ROUNDS = 5


class ArgoCDApplicationOperator(ArgoCDActOperator):
    """Have an Application as a manifest declares it, or have it gone. However often it is tried, it is done once.

    The manifest is validated first; then what is there is compared with it, and only what differs is sent. What the
    manifest does not name stays as others have set it. Where it names a field with ``null``, the field is removed: so
    ``syncPolicy: {automated: null}`` switches auto-sync off.

    It does not wait for the application to be in sync: that is what ``ArgoCDAppSensor`` is for. A deletion is waited for.
    An Application that an ApplicationSet owns is refused, since that would put everything back.

    Returns ``{app, action, changed, uid, url, record_id}``; ``action`` is ``created``, ``updated``, ``unchanged``,
    ``deleted`` or ``absent``, and ``changed`` names the paths of the fields. With a ``deliverable``, a change is recorded.

    :param manifest: a mapping, YAML, or the name of a ``.yaml`` file beside the DAG. Templated.
    :param app: name of the application; needed where there is no manifest, to delete it.
    :param state: ``present`` or ``absent``.
    :param cascade: on deletion, delete what it manages too.
    :param timeout: for a deletion.
    """

    template_fields: Sequence[str] = ("manifest", "state", *ArgoCDOperator.template_fields)
    template_ext: Sequence[str] = (".yaml", ".yml")
    template_fields_renderers = {"manifest": "yaml"}
    emits = ("change",)

    def __init__(
        self,
        *,
        manifest: Mapping[str, Any] | str | None = None,
        app: str = "",
        state: Literal["present", "absent"] = "present",
        cascade: bool = True,
        timeout: timedelta = timedelta(minutes=10),
        **kwargs: Any,
    ) -> None:
        super().__init__(app=app, timeout=timeout, **kwargs)
        self.manifest = manifest
        self.state = state
        self.cascade = cascade

    def execute(self, context: Context) -> dict[str, Any]:
        """Validate, compare, and do what is needed."""
        with no_retry():
            desired = self._declared()
            hook = self.hook()
            hook.settings()
            ref = self._ref(hook, desired)
            return (
                self._delete(context, hook, ref)
                if self.state == "absent"
                else self._apply(context, hook, ref, desired)
            )

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on after the deferral of a deletion."""
        with no_retry():
            self._declared()
            return self._gone(context, self.reached(event))

    def _declared(self) -> dict[str, Any]:
        """Return the manifest, validated; an empty one where there is none and none is needed."""
        one_of("state", self.state, ("present", "absent"))
        if self.manifest is None:
            if self.state == "present" or not self.app:
                raise InvalidInput("there is no manifest", field="manifest", remedy="Give a mapping or YAML.")
            return {}
        desired = read(self.manifest)
        name, namespace = desired["metadata"]["name"], desired["metadata"].get("namespace") or ""
        for field, own, declared in (
            ("app", self.app, name),
            ("app_namespace", self.app_namespace, namespace),
        ):
            if own and declared and own != declared:
                raise InvalidInput(
                    f"{field} is {own!r}, and the manifest says {declared!r}",
                    field=field,
                    value=own,
                    remedy="Name it in one place.",
                )
        self.app, self.app_namespace = name, self.app_namespace or namespace
        return desired

    def _ref(self, hook: ArgoCDHook, desired: Mapping[str, Any]) -> AppRef:
        ref = hook.ref(self.app)
        project = str((desired.get("spec") or {}).get("project") or "")
        if ref.project and project and ref.project != project:
            raise InvalidInput(
                f"the manifest's project is {project!r}, and that of the task or its connection {ref.project!r}",
                field="spec.project",
                value=project,
                remedy="Use a connection for that project, or correct the manifest.",
            )
        self.project = self.project or project
        return replace(ref, project=ref.project or project)

    def _apply(
        self, context: Context, hook: ArgoCDHook, ref: AppRef, desired: Mapping[str, Any]
    ) -> dict[str, Any]:
        for _ in range(_ROUNDS):
            current = self._current(hook, ref)
            if current is None:
                action, changed = "created", ["metadata", "spec"]
            else:
                self._refuse_what_is_not_ours(current)
                patch = merge_patch(current, desired)
                action, changed = ("updated", sorted(paths(patch))) if patch else ("unchanged", [])
            try:
                after = self._act(hook, ref, current, desired)
                return self._result(context, action, changed, after, desired)
            except Conflict:
                continue  # somebody was first: what is there now is compared anew
            except Unreachable:
                # The server may have acted before the answer was lost.
                again = self._current(hook, ref)
                if again is None or merge_patch(again, desired):
                    raise
                return self._result(context, action, changed, again, desired)
            except PipeOpsError as error:
                if current is None and "existing application spec is different" in error.message:
                    continue
                raise refused(error) from error
        raise Conflict(f"{self.app} was changed by somebody else {_ROUNDS} times while it was to be changed")

    @staticmethod
    def _act(
        hook: ArgoCDHook, ref: AppRef, current: dict[str, Any] | None, desired: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Send what differs, and return the Application as it is then."""
        if current is None:
            return hook.run(lambda client: client.create(desired))
        patch = merge_patch(current, desired)
        return hook.run(lambda client: client.patch(ref, patch)) if patch else current

    @staticmethod
    def _current(hook: ArgoCDHook, ref: AppRef) -> dict[str, Any] | None:
        try:
            return hook.run(lambda client: client.get(ref))
        except NotFound:
            return None

    def _refuse_what_is_not_ours(self, current: Mapping[str, Any]) -> None:
        metadata = current.get("metadata") or {}
        owner: Mapping[str, Any] = next(iter(metadata.get("ownerReferences") or ()), {})
        if owner.get("kind") == "ApplicationSet":
            raise InvalidInput(
                f"{self.app} is generated by the ApplicationSet {owner.get('name')}, which would put everything back",
                field="app",
                value=self.app,
                remedy="Change the ApplicationSet.",
            )
        if metadata.get("deletionTimestamp") and self.state == "present":
            raise ReleaseFailed(
                f"{self.app} is being deleted", remedy="Wait until it is gone, and try again."
            )

    def _result(
        self,
        context: Context,
        action: str,
        changed: Sequence[str],
        after: Mapping[str, Any],
        desired: Mapping[str, Any],
    ) -> dict[str, Any]:
        left = sorted(paths(merge_patch(after, desired))) if desired and after else []
        if left and left != [""]:
            self.log.warning("The server keeps %s otherwise than declared", ", ".join(left[:10]))
        self.log.info("%s: %s %s", self.app, action, ", ".join(changed[:20]))
        result = {
            "app": self.app,
            "action": action,
            "changed": list(changed),
            "uid": str((after.get("metadata") or {}).get("uid") or ""),
            "url": self.argocd_url,
        }
        done = action in ("created", "updated", "deleted")
        return {**result, "record_id": self.emit(context, "change", result) if done else None}

    def _delete(self, context: Context, hook: ArgoCDHook, ref: AppRef) -> dict[str, Any]:
        current = self._current(hook, ref)
        if current is None:
            return self._result(context, "absent", [], {}, {})
        self._refuse_what_is_not_ours(current)
        metadata = current.get("metadata") or {}
        if not metadata.get("deletionTimestamp"):
            try:
                hook.run(lambda client: client.delete(ref, cascade=self.cascade))
            except NotFound:
                pass
            except Unreachable:
                again = self._current(hook, ref)
                if again is not None and not (again.get("metadata") or {}).get("deletionTimestamp"):
                    raise
        act = Act(kind="gone", timeout=self.timeout.total_seconds(), uid=str(metadata.get("uid") or ""))
        return self._gone(context, self.reach(act, "execute_complete"))

    def _gone(self, context: Context, decided: Decided) -> dict[str, Any]:
        self.demand_effect(decided)
        return self._result(context, "deleted", [], {}, {})
